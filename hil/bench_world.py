"""What the devices of a rehearsed bench are really like: their noise and drift, and other specimens of them."""

from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from hil.bench_layout import control_channels, output_channels
from hil.bench_network import node_rest, plant_network, replica_networks, twin_network
from hil.core.backend import Backend
from hil.core.errors import ConfigError
from hil.core.types import Layout, Quantity, Stimulus
from hil.experiment.bench_file import BenchFile
from hil.experiment.fields import FieldError, unknown

if TYPE_CHECKING:
    from simulated_backend.backend import SimulatedBackend
    from simulated_backend.virtual_bench.process import VirtualBench

LINE_FREQUENCY = 50.0
"""Hz; what an integration time in power-line cycles is counted in."""


def imperfections(bench: BenchFile) -> dict[str, float]:
    """Noise and drift of the devices in ``virtual.plant``, by the names of the simulator; ``read_noise`` in A.

    The noise is a fraction of the largest current that the twin carries at a corner of the controls' limits.
    """
    plant = bench.virtual.plant
    found = {"common_noise": plant.common_noise, "drift": plant.drift}
    if plant.read_noise:
        found["read_noise"] = plant.read_noise * full_scale(bench)
    return {name: value for name, value in found.items() if value}


def full_scale(bench: BenchFile) -> float:
    """Largest current (A) of any output with every voltage at one of its limits; ConfigError if there is none."""
    from simulated_backend.twin import SimulatedTwin

    network = twin_network(bench)
    controls = Layout(control_channels(bench, node_rest(network)))
    outputs = Layout(output_channels(bench))
    currents = [position for position, channel in enumerate(outputs) if channel.quantity is Quantity.CURRENT]
    ends = [
        (channel.minimum, channel.maximum) if channel.quantity is Quantity.VOLTAGE else (channel.safe.value,)
        for channel in controls
    ]
    if not currents:
        raise ConfigError("virtual.plant.read_noise is a fraction of the largest current, but no output reads a current")
    corners = [Stimulus.of(corner) for corner in product(*ends)]
    return float(np.max(np.abs(SimulatedTwin(network, controls, outputs).predict(corners)[:, currents])))


def simulated_world(bench: BenchFile, seed: int) -> dict[str, Any]:
    """Arguments that give a simulated backend the devices of ``virtual.plant``; empty for a bench without replicas.

    A simulated network is what we believe, without noise, unless ``simulated.imperfections`` says otherwise. Replicas are the
    exception: only their differences, their noise and the time that a reading takes make a pair worth measuring.
    """
    from simulated_backend.imperfections import Imperfections

    declared = declared_imperfections(bench)
    if not bench.replicas:
        return {"imperfections": Imperfections(**declared)} if declared else {}
    cycles = [float(output.setup.get("nplc", 1.0)) for output in bench.outputs.values()]
    flaws: dict[str, Any] = {"aperture": max(cycles) / LINE_FREQUENCY, **imperfections(bench), **declared}
    return {
        "replicas": replica_networks(bench, seed),
        "simultaneous": bench.simultaneous,
        "imperfections": Imperfections(**flaws),
    }


def declared_imperfections(bench: BenchFile) -> dict[str, Any]:
    """What ``simulated.imperfections`` says, in SI and by the names of the simulator; FieldError naming what is wrong."""
    given = bench.simulated.imperfections
    found: dict[str, Any] = {name: getattr(given, name) for name in given.model_fields_set}
    here = "simulated.imperfections"
    units = {output.quantity.value for output in bench.outputs.values()}
    for name in ("read_noise", "offset", "offset_drift"):
        if found.get(name) is None:
            found.pop(name, None)
            continue
        if len(units) > 1:
            raise FieldError(
                f"outputs in {' and '.join(sorted(units))} cannot share one number; use `read_noise_relative`", f"{here}.{name}"
            )
        unit = next(iter(units))
        found[name] = found[name].si(f"{unit}/s" if name == "offset_drift" else unit, f"{here}.{name}")
        if found[name] < 0.0:
            raise FieldError(f"{found[name]:g} {unit} must be 0 or above", f"{here}.{name}")
    edges = list(bench.twin.edges)
    named = {"open_edges": given.open_edges, "shorted_edges": given.shorted_edges, "stuck_edges": tuple(given.stuck_edges)}
    named["pairs"] = tuple(name for pair in given.pairs for name in pair)
    for section, names in named.items():
        for name in names:
            if name not in edges:
                raise FieldError(unknown("edge", name, edges), f"{here}.{section}")
    for name, value in given.stuck_edges.items():
        if value == 0.0:
            raise FieldError("a stuck device conducts; list it in `open_edges` to open it", f"{here}.stuck_edges.{name}")
    return found


def mounting(bench: BenchFile, backend: "SimulatedBackend", seed: int) -> Callable[[int], None]:
    """A function that mounts specimen ``k`` of the devices in the simulation, after everything has been made safe."""

    def mount(specimen: int) -> None:
        backend.make_safe()
        backend.mount(replica_networks(bench, seed, specimen))

    return mount


def mounting_on(virtual: "VirtualBench", bench: BenchFile, backend: Backend, seed: int) -> Callable[[int], None]:
    """The same on a virtual bench of instruments."""
    from simulated_backend.description import describe

    def mount(specimen: int) -> None:
        backend.make_safe()
        virtual.side_door.mount(describe(plant_network(bench, seed, specimen)))

    return mount
