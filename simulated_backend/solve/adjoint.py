"""Gradient of any function of node voltages and terminal currents by every parameter of every edge, from one linear solve.

With F(V, θ) = 0 Kirchhoff at the free nodes and J = ∂F/∂V symmetric (two-terminal devices), the weights w obey
J w = −∂C/∂V at free nodes and w = ∂C/∂I at clamped ones; then dC/dθ_e = (w_base − w_tip) ∂I_e/∂θ_e. The derivative of
one edge's current by its own parameter is a fourth-order difference of the law alone, good to about eleven digits.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from simulated_backend.devices.base import EdgeDrive
from simulated_backend.network import Group, Network
from simulated_backend.solve import exponential
from simulated_backend.solve.compiled import PreparedNetwork
from simulated_backend.solve.rows import edge_drive_of

_ACCURATE = 1e-11
_RELATIVE_STEP = 1e-3


def weights(
    prepared: PreparedNetwork, voltage: FloatArray, by_voltage: ArrayLike, by_current: ArrayLike | None = None
) -> FloatArray:
    """w (n_nodes,) at the operating point ``voltage``: ``by_voltage`` ∂C/∂V of nodes, ``by_current`` ∂C/∂I of terminals.

    Entries of ``by_voltage`` at clamped nodes and of ``by_current`` at free nodes are ignored.
    """
    pull = -np.asarray(by_voltage, dtype=np.float64)[prepared.free]
    w = np.zeros(prepared.network.n_nodes)
    if by_current is not None:
        w[prepared.clamped] = np.asarray(by_current, dtype=np.float64)[prepared.clamped]
    _, slope = prepared.edge_steady(voltage)
    packed = prepared.packed
    if packed is not None:
        integers, work = packed
        code = exponential.balance(integers, prepared.shunt[prepared.free], pull, slope, w, work, _ACCURATE, prepared.inner_limit)
        if code >= 0:
            return w
        w[prepared.free] = 0.0
    prepared.core.refresh(slope, prepared.shunt[prepared.free])
    drop = w[prepared.network.base] - w[prepared.network.tip]
    w[prepared.free] = prepared.core.solve(prepared.imbalance(slope * drop, w, pull), _ACCURATE)
    return w


def current_by_parameter(network: Network, group: int, name: str, drive: EdgeDrive) -> FloatArray:
    """∂I/∂θ at fixed voltage for tunable ``name`` of one group, (n_edges of the group,); all parallel devices together."""
    part = network.groups[group]
    law, p = part.law, part.parameters
    if name not in law.tunables():
        raise ConfigError(f"law {law.name!r} has no tunable {name!r}; it has {', '.join(law.tunables())}")
    here = tunable_value(part, name)
    h = _RELATIVE_STEP * np.where(here != 0.0, np.abs(here), 1.0)
    on = edge_drive_of(drive, part)
    at = [law.steady(law.tuned(p, name, here + factor * h), on)[0] for factor in (-2.0, -1.0, 1.0, 2.0)]
    return np.asarray((at[0] - 8.0 * at[1] + 8.0 * at[2] - at[3]) / (12.0 * h) * network.parallel[part.edges])


def tunable_value(group: Group, name: str) -> FloatArray:
    """Present value of a tunable of every edge of a group: a parameter, or the radius ratio of a channel."""
    if name in group.parameters:
        return np.asarray(group.parameters[name], dtype=np.float64)
    if name.startswith("radius_ratio"):
        return np.asarray(group.parameters["base_radius"] / group.parameters["tip_radius"], dtype=np.float64)
    raise ConfigError(f"law {group.law.name!r}: the present value of {name!r} is not known to the gradient")


def gradient(
    prepared: PreparedNetwork,
    voltage: FloatArray,
    parameters: Sequence[str],
    by_voltage: ArrayLike,
    by_current: ArrayLike | None = None,
) -> tuple[FloatArray, ...]:
    """dC/dθ per group, for the tunable named in ``parameters`` (one name per group): (n_edges of the group,) each."""
    w = weights(prepared, voltage, by_voltage, by_current)
    network = prepared.network
    v = voltage[network.base] - voltage[network.tip]
    rest = prepared.drive
    drive = EdgeDrive(v, rest.pressure_difference, rest.concentration_base, rest.concentration_tip)
    drop = w[network.base] - w[network.tip]
    return tuple(
        np.asarray(drop[group.edges] * current_by_parameter(network, number, name, drive))
        for number, (group, name) in enumerate(zip(network.groups, parameters, strict=True))
    )


def gradient_by_sources(
    prepared: PreparedNetwork, voltage: FloatArray, by_voltage: ArrayLike, by_current: ArrayLike | None = None
) -> FloatArray:
    """dC/dV of the clamped nodes, (n_nodes,), 0 at free ones."""
    w = weights(prepared, voltage, by_voltage, by_current)
    network = prepared.network
    _, slope = prepared.edge_steady(voltage)
    through = slope * (w[network.base] - w[network.tip])
    out = prepared.shunt * w
    np.add.at(out, network.base, through)
    np.subtract.at(out, network.tip, through)
    out += np.asarray(by_voltage, dtype=np.float64)
    out[~prepared.clamped] = 0.0
    return out
