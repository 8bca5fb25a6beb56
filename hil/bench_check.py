"""What a check-out needs beyond an assembled bench: currents of all its sources, and twins whose edges conduct otherwise."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from hil.bench import Assembled
from hil.bench_layout import control_channels
from hil.bench_network import node_rest, twin_network
from hil.bench_station import instrument_specs
from hil.core.twin import Twin
from hil.core.types import BoolArray, Channel, FloatArray, Kind, Layout, Quantity, Stimulus
from hil.experiment.bench_file import BenchFile, Output

if TYPE_CHECKING:
    from simulated_backend.twin import SimulatedTwin

HEADROOM = 20.0
"""Range of a current measurement over the current that the twin expects: a short circuit overloads it, nothing else does."""

STRONG_HEADROOM = 1.5
ELECTRICAL = (Quantity.VOLTAGE, Quantity.CURRENT)


def with_currents(bench: BenchFile, stimuli: list[Stimulus], strong: Sequence[Stimulus] = ()) -> BenchFile:
    """The bench with one more output, ``CONTROL.current``, for each source of voltage whose instrument measures its current.

    ``stimuli``: what is going to be applied; the ranges are chosen for them, and wide enough for what is ``strong``.
    """
    from instruments.station import driver_class
    from simulated_backend.twin import SimulatedTwin

    classes = {spec.name: driver_class(spec) for spec in instrument_specs(bench)}
    read = {output.parameter for output in bench.outputs.values()}
    added: dict[str, Output] = {}
    for name, control in bench.controls.items():
        if control.quantity is not Quantity.VOLTAGE or control.instrument not in classes:
            continue
        driver = classes[control.instrument]
        parameter = f"{control.parameter.rsplit('.', 1)[0]}.curr"
        if parameter not in read and hasattr(driver, "acquisition") and hasattr(driver, "level_writer"):
            given = {"parameter": parameter, "node": control.node, "quantity": Quantity.CURRENT}
            added[f"{name}.current"] = Output.model_validate(given)
    if not added:
        return bench
    network = twin_network(bench)
    controls = control_layout(bench)
    outputs = Layout(tuple(_sense(name, output) for name, output in added.items()))
    twin = SimulatedTwin(network, controls, outputs)
    largest = HEADROOM * np.abs(twin.predict(stimuli)).max(axis=0)
    if strong:
        largest = np.maximum(largest, STRONG_HEADROOM * np.abs(twin.predict(strong)).max(axis=0))
    for (name, output), current in zip(tuple(added.items()), largest, strict=True):
        control = bench.controls[name.removesuffix(".current")]
        limits = getattr(classes[control.instrument], "range_is_limit", False)
        smallest = (control.compliance or 0.0) if limits else 0.0
        setup = {"range": f"{max(float(current), smallest, 1e-12):.6g} A", "nplc": 1}
        added[name] = output.model_copy(update={"setup": setup})
    replicas = {
        replica: {**paths, **{name: f"{paths[name.removesuffix('.current')].rsplit('.', 1)[0]}.curr" for name in added}}
        for replica, paths in bench.replicas.items()
    }
    return bench.model_copy(update={"outputs": {**bench.outputs, **added}, "replicas": replicas})


def with_readbacks(bench: BenchFile) -> BenchFile:
    """The bench with one more output, ``CONTROL.readback``, for each source whose instrument measures its own voltage."""
    from instruments.station import driver_class

    classes = {spec.name: driver_class(spec) for spec in instrument_specs(bench)}
    read = {output.parameter for output in bench.outputs.values()}
    added: dict[str, Output] = {}
    for name, control in bench.controls.items():
        driver = classes.get(control.instrument)
        measures = hasattr(driver, "acquisition") and hasattr(driver, "level_writer")
        if control.quantity is Quantity.VOLTAGE and measures and control.parameter not in read:
            given = {"parameter": control.parameter, "node": control.node, "quantity": Quantity.VOLTAGE}
            added[f"{name}.readback"] = Output.model_validate(given)
    replicas = {
        replica: {**paths, **{name: paths[name.removesuffix(".readback")] for name in added}}
        for replica, paths in bench.replicas.items()
    }
    return bench.model_copy(update={"outputs": {**bench.outputs, **added}, "replicas": replicas})


def control_layout(bench: BenchFile) -> Layout:
    """The wired controls."""
    return Layout(control_channels(bench, node_rest(twin_network(bench))))


def _sense(name: str, output: Output) -> Channel:
    return Channel(name, output.quantity, Kind.SENSE, node=output.node)


def conducting(assembled: Assembled, factors: FloatArray) -> "SimulatedTwin":
    """The twin with the conductance of every edge multiplied by ``factors`` (n_edges,), in the order of the network."""
    from simulated_backend.twin import SimulatedTwin

    capabilities = assembled.backend.capabilities
    network = replace(assembled.network, parallel=assembled.network.parallel * factors)
    return SimulatedTwin(network, capabilities.controls, capabilities.outputs)


def leaking(assembled: Assembled) -> dict[str, Callable[[float], Twin]]:
    """By node that is not ground: the twin with a conductance (S) from there to elsewhere."""
    from simulated_backend.twin import SimulatedTwin

    capabilities, network = assembled.backend.capabilities, assembled.network

    def at(node: str) -> Callable[[float], Twin]:
        def with_leak(conductance: float) -> Twin:
            return SimulatedTwin(network, capabilities.controls, capabilities.outputs, {node: (conductance, 0.0)})

        return with_leak

    return {node.name: at(node.name) for node in network.nodes if not node.ground}


def exchanged(assembled: Assembled) -> dict[tuple[str, str], Twin]:
    """By pair of nodes with electrical leads: the twin in which these leads are exchanged."""
    from simulated_backend.twin import SimulatedTwin

    capabilities = assembled.backend.capabilities
    layouts = capabilities.controls, capabilities.outputs
    leads = dict.fromkeys(one.node for layout in layouts for one in layout if one.quantity in ELECTRICAL and one.node)

    def twin(pair: tuple[str, str]) -> Twin:
        other = {pair[0]: pair[1], pair[1]: pair[0]}
        controls, outputs = (
            Layout(
                tuple(
                    replace(one, node=other.get(one.node or "", one.node)) if one.quantity in ELECTRICAL else one
                    for one in layout
                )
            )
            for layout in layouts
        )
        return SimulatedTwin(assembled.network, controls, outputs)

    return {pair: twin(pair) for pair in combinations(leads, 2)}


def remembering(assembled: Assembled) -> BoolArray:
    """Edges whose device keeps what was done to it, (n_edges,): nobody knows the state it is in."""
    from simulated_backend.devices.base import StateKind

    found = np.zeros(assembled.network.n_edges, dtype=np.bool_)
    for group in assembled.network.groups:
        found[group.edges] = group.law.kind is StateKind.RATE
    return found


def identities(bench: BenchFile) -> dict[str, dict[str, Any]]:
    """Type, serial number and all that it tells of itself, of every instrument; they must be open."""
    from qcodes.instrument import Instrument

    from instruments.calibration import serial_of

    found: dict[str, dict[str, Any]] = {}
    for name, spec in bench.station.instruments.items():
        driver: Any = Instrument.find_instrument(name)
        found[name] = {"type": spec.type, "serial": serial_of(driver), "identity": driver.get_idn()}
    return found


def fault_kinds(liquids: bool = False) -> tuple[str, ...]:
    """Every fault that the virtual bench knows; those of pumps and valves only with ``liquids``."""
    from simulated_backend.virtual_bench import faults

    return (*faults.FAULTS, *faults.LIQUID_FAULTS) if liquids else faults.FAULTS


def with_error_queue(bench: BenchFile) -> list[str]:
    """Instruments that keep a queue of errors, or have an alarm."""
    from simulated_backend.virtual_bench.emulator import has_error_queue

    return [name for name, spec in sorted(bench.station.instruments.items()) if has_error_queue(spec.type.rsplit(".", 1)[-1])]
