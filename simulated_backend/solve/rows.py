"""From the groups of a network to the rows of numbers that the compiled kernels read."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from hil.core.types import FloatArray
from simulated_backend.devices.base import Device, EdgeDrive
from simulated_backend.network import Group, Network
from simulated_backend.solve import kernels

Index = NDArray[np.int32]
Packer = Callable[[Device, Group, EdgeDrive], "tuple[int, Sequence[FloatArray]] | None"]

_packers: dict[str, Packer] = {}


def offers_kernel(name: str) -> Callable[[Packer], Packer]:
    """Register how edges of law ``name`` become kernel rows: kernel number and its columns, or None to stay with arrays."""

    def register(packer: Packer) -> Packer:
        _packers[name] = packer
        return packer

    return register


@offers_kernel("ohmic")
def _ohmic(law: Device, group: Group, drive: EdgeDrive) -> tuple[int, Sequence[FloatArray]] | None:
    return kernels.OHMIC, (group.parameters["conductance"],)


@offers_kernel("saturating")
def _saturating(law: Device, group: Group, drive: EdgeDrive) -> tuple[int, Sequence[FloatArray]] | None:
    p = group.parameters
    return kernels.SATURATING, (p["conductance"], p["amplitude"], 1.0 / p["voltage_scale"])


@offers_kernel("conical_channel")
def _conical(law: Device, group: Group, drive: EdgeDrive) -> tuple[int, Sequence[FloatArray]] | None:
    from simulated_backend.devices.conical_channel import ConicalChannel

    if type(law) is not ConicalChannel or law.form != "analytic":
        return None
    r = law.reduced(group.parameters, drive)
    return kernels.CONICAL, (r.g0, r.p_per_volt, r.p_pressure, r.kappa_per_volt, r.ratio, r.salt_drop, r.floor)


def kernel_rows(network: Network, drive: EdgeDrive) -> tuple[Index, FloatArray] | None:
    """Kernel number (n_edges,) and row (..., n_edges, 8) of every edge, or None when some law has no kernel.

    Leading axes are those of the parameters and of the drive.

    ``drive``: pressures and concentrations over all edges; its voltage is not used. ``parallel`` is already in the rows.
    """
    codes = np.zeros(network.n_edges, dtype=np.int32)
    parameters = [np.shape(values)[:-1] for group in network.groups for values in group.parameters.values()]
    batch = np.broadcast_shapes(*parameters, drive.voltage.shape[:-1])
    rows = np.zeros((*batch, network.n_edges, kernels.ROW))
    for group in network.groups:
        packer = _packers.get(group.law.name)
        if packer is None:
            return None
        packed = packer(group.law, group, edge_drive_of(drive, group))
        if packed is None:
            return None
        codes[group.edges] = packed[0]
        for column, values in enumerate(packed[1]):
            rows[..., group.edges, column] = values
    rows[..., 0] *= network.parallel
    return codes, rows


def edge_drive_of(drive: EdgeDrive, group: Group) -> EdgeDrive:
    """The part of a drive over all edges that concerns one group."""
    return EdgeDrive(
        drive.voltage[..., group.edges],
        drive.pressure_difference[..., group.edges],
        drive.concentration_base[..., group.edges],
        drive.concentration_tip[..., group.edges],
    )


def drive_without_voltage(
    network: Network, pressure: FloatArray | None = None, concentration: FloatArray | None = None
) -> EdgeDrive:
    """Pressures (Pa) and concentrations (mol/m³) over edges from node arrays, which default to the nodes' own values."""
    p = network.node_array("pressure") if pressure is None else np.asarray(pressure, dtype=np.float64)
    c = network.node_array("concentration") if concentration is None else np.asarray(concentration, dtype=np.float64)
    difference, base, tip = (p[..., network.base] - p[..., network.tip], c[..., network.base], c[..., network.tip])
    zero = np.zeros(np.broadcast_shapes(difference.shape, base.shape))
    return EdgeDrive(zero, difference + zero, base + zero, tip + zero)
