"""From the bench file to instruments: specifications, wires, the virtual bench, who answers, what terminals take away."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from hil.bench_layout import control_channels
from hil.bench_mixers import liquids, mixer_specs, syringe
from hil.bench_network import node_rest, plant_network, replica_node, twin_network
from hil.bench_world import imperfections
from hil.core.errors import ConfigError, InstrumentError
from hil.core.hydrostatics import head
from hil.core.types import Layout, Quantity, Stimulus
from hil.electrodes import check_electrodes, inert
from hil.experiment.bench_file import BenchFile, Terminal
from hil.experiment.fields import FieldError, unknown
from hil.experiment.units import parse
from hil.heights import check_pressures

if TYPE_CHECKING:
    from pathlib import Path

    from instruments.wiring import ControlWire, InstrumentSpec, Interface, InterlockWire, OutputWire
    from simulated_backend.network import Network
    from simulated_backend.virtual_bench.plan import BenchPlan


def check_packages() -> None:
    """ConfigError when the ``instruments`` package that Python finds is another project's."""
    import instruments

    if getattr(instruments, "MEMRISTOR_HIL", False) is not True:
        where = getattr(instruments, "__file__", None) or next(iter(getattr(instruments, "__path__", ["?"])), "?")
        raise ConfigError(
            f"the Python package 'instruments' found at {where} belongs to another project (InstrumentKit uses the same name); "
            "uninstall that one, or install memristor-hil in a virtual environment of its own"
        )


def check_wiring(bench: BenchFile, controls: Layout, outputs: Layout) -> None:
    """Drivers against the allow-list, options, addresses, settings: all that can be judged without opening anything.

    Raises ConfigError. It is done for every target, because the same bench file has to serve all of them.
    """
    from instruments.station import check_station

    check_pressures(bench)
    check_electrodes(bench)
    wires = control_wires(bench, controls)
    if bench.mixers:
        from instruments.mixer_controls import without_mixed

        wires = tuple(without_mixed(wires, mixer_specs(bench)))
    check_station(instrument_specs(bench), wires, output_wires(bench, outputs), interlock_wires(bench))


def instrument_specs(bench: BenchFile, addresses: Mapping[str, str] | None = None) -> "tuple[InstrumentSpec, ...]":
    """The instruments of the station; ``addresses`` replaces those of the file."""
    from instruments.wiring import InstrumentSpec

    return tuple(
        InstrumentSpec(name, spec.type, (addresses or {}).get(name, spec.address), spec.options, spec.watchdog)
        for name, spec in bench.station.instruments.items()
    )


def control_wires(bench: BenchFile, controls: Layout) -> "tuple[ControlWire, ...]":
    """Every wired control with its instrument parameter."""
    from instruments.wiring import ControlWire

    found = []
    charged = electrodes_that_charge(bench)
    for name, wire in bench.controls.items():
        settings = setup(wire, f"controls.{name}.setup")
        if wire.quantity is Quantity.PRESSURE:
            settings["reference"] = bench.pressure_reference
        found.append(ControlWire(controls[name], wire.parameter, wire.compliance, settings, wire.height, charged.get(name)))
    return tuple(found)


def electrodes_that_charge(bench: BenchFile) -> "dict[str, Interface]":
    """Control -> what its electrode bears, where the bench file tells."""
    from instruments.charge import FARADAY, SHARE
    from instruments.wiring import Interface

    found: dict[str, Interface] = {}
    for name, control in bench.controls.items():
        one = control.electrode
        if one is None:
            continue
        if one.capacitance is not None and one.limit is not None:
            found[name] = Interface(one.capacitance * one.limit, one.charge, one.capacitance, one.unsure)
        elif one.reservoir is not None:
            salt = node_rest(twin_network(bench))[control.node][Quantity.CONCENTRATION]
            found[name] = Interface(SHARE * salt * one.reservoir * FARADAY, one.charge, unsure=one.unsure)
    return found


def output_wires(bench: BenchFile, outputs: Layout) -> "tuple[OutputWire, ...]":
    """Every output with its instrument parameter."""
    from instruments.wiring import OutputWire

    return tuple(
        OutputWire(outputs[name], wire.parameter, setup(wire, f"outputs.{name}.setup"), wire.through)
        for name, wire in bench.outputs.items()
    )


def interlock_wires(bench: BenchFile) -> "tuple[InterlockWire, ...]":
    """Every input that permits sourcing."""
    from instruments.wiring import InterlockWire

    return tuple(InterlockWire(name, one.parameter, one.expected) for name, one in bench.interlocks.items())


def setup(wire: Terminal, where: str) -> dict[str, float | int | bool | str]:
    """Settings of one terminal in SI; FieldError naming an unknown setting or a wrong unit."""
    from instruments.wiring import AUTOMATIC, SETUP_UNITS, SWITCHES

    settings: dict[str, float | int | bool | str] = {}
    for key, value in wire.setup.items():
        if key not in SETUP_UNITS:
            raise FieldError(unknown("setting", key, list(SETUP_UNITS)), f"{where}.{key}")
        unit = SETUP_UNITS[key]
        if key in SWITCHES and not isinstance(value, bool):
            raise FieldError(f"write true or false, not {value!r}", f"{where}.{key}")
        if unit is None:
            settings[key] = value
            continue
        if key in AUTOMATIC and value == "auto":
            settings[key] = "auto"
            continue
        try:
            settings[key] = number = parse(value, unit or wire.quantity.value)
        except ConfigError as error:
            raise FieldError(str(error), f"{where}.{key}") from None
        if not number > 0.0:
            raise FieldError(f"{value!r} must be above 0", f"{where}.{key}")
    return settings


def virtual_plan(bench: BenchFile, seed: int, *, real_time: bool = False) -> "BenchPlan":
    """What the child process needs: emulators named after the driver classes, wires, and the network of the world."""
    from simulated_backend.description import describe
    from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire

    models = {name: spec.type.rsplit(".", 1)[-1] for name, spec in bench.station.instruments.items()}
    emulators = tuple(
        InstrumentPlan(name, model, {**syringe(bench, name, model), **bench.virtual.instruments.get(name, {})})
        for name, model in models.items()
    )
    wires = dict.fromkeys(Wire(*parts) for parts in _wires(bench))
    return BenchPlan(
        emulators,
        tuple(wires),
        describe(plant_network(bench, seed)),
        ideal=bench.virtual.plant.ideal,
        seed=seed,
        real_time=real_time,
        imperfections=imperfections(bench),
        liquids=liquids(bench),
        heads=_heads(bench),
        interfaces=tuple(
            {
                "instrument": one.instrument,
                "port": one.port,
                "capacitance": one.electrode.capacitance,
                "charge": one.electrode.charge,
            }
            for one in inert(bench).values()
            if one.electrode is not None and one.electrode.capacitance is not None
        ),
    )


def _heads(bench: BenchFile) -> dict[str, float]:
    """Node of the plant -> Pa that it has more than the controller it is connected to, as the heights really are."""
    true = bench.virtual.plant.heights
    heads = {
        one.node: head(true.get(name, one.height)) for name, one in bench.controls.items() if one.quantity is Quantity.PRESSURE
    }
    names = list(bench.replicas) or [""]
    return {replica_node(bench, node, replica): pascal for node, pascal in heads.items() for replica in names if pascal}


def _wires(bench: BenchFile) -> Iterator[tuple[str, ...]]:
    """Instrument, port, node (and crosspoint) of every wire; with replicas those of each, to nodes of its own."""
    terminals: Mapping[str, Terminal] = {**bench.controls, **bench.outputs}
    if not bench.replicas:
        wired = (terminal for terminal in terminals.values() if terminal.instrument not in bench.mixers)
        yield from ((one.instrument, one.port, one.node, getattr(one, "through", "")) for one in wired)
    for replica, paths in bench.replicas.items():
        for name, terminal in terminals.items():
            if name not in paths:
                raise FieldError(f"it does not say which parameter {name!r} is", f"replicas.{replica}")
            instrument, *port, _ = paths[name].split(".")
            yield instrument, ".".join(port), replica_node(bench, terminal.node, replica)


def start_virtual(bench: BenchFile, seed: int | None = None, *, real_time: bool = False) -> Any:
    """Start the virtual bench of ``bench`` in a child process; stop it with ``.stop()``. FieldError where one is to blame."""
    from simulated_backend.virtual_bench.plan import PlanError
    from simulated_backend.virtual_bench.process import VirtualBench

    try:
        return VirtualBench.start(virtual_plan(bench, bench.virtual.seed if seed is None else seed, real_time=real_time))
    except PlanError as error:
        wires = {f"controls.{name}.parameter": wire.parameter for name, wire in bench.controls.items()}
        wires |= {f"outputs.{name}.parameter": wire.parameter for name, wire in bench.outputs.items()}
        wires |= {f"replicas.{one}.{name}": path for one, paths in bench.replicas.items() for name, path in paths.items()}
        for field, path in wires.items():
            instrument, *port, _ = path.split(".")
            if (instrument, ".".join(port)) == (error.instrument, error.port):
                raise FieldError(str(error), field) from None
        section = "virtual" if error.port is None and error.instrument in bench.virtual.instruments else "station"
        raise FieldError(str(error), f"{section}.instruments.{error.instrument}") from None


def virtual_benches_in_a_row() -> AbstractContextManager[None]:
    """Inside, virtual benches that are started one after the other start quickly."""
    from simulated_backend.virtual_bench.process import in_a_row

    return in_a_row()


def visa_resources() -> tuple[str, ...]:
    """Addresses that VISA can list (serial ports, USB, GPIB; sockets cannot be listed)."""
    import warnings

    import pyvisa

    try:
        with warnings.catch_warnings():
            # pyvisa-py warns about every bus library that is not installed; that is not what was asked.
            warnings.simplefilter("ignore")
            return tuple(pyvisa.ResourceManager().list_resources("?*"))
    except (pyvisa.errors.Error, OSError, ValueError) as error:
        raise InstrumentError(f"VISA cannot list its resources: {error}") from error


def inspect_station(bench: BenchFile, data: "Path | None" = None) -> Iterator[dict[str, str]]:
    """Open every instrument in turn, look at it, close it: where, what, found, and verdict (ok, note or wrong).

    ``data``: the data folder with what this lab has tried on hardware.
    """
    from dataclasses import asdict

    from instruments.inspection import inspect
    from instruments.station import check_station

    controls = control_wires(bench, Layout(control_channels(bench, node_rest(twin_network(bench)))))
    locks = interlock_wires(bench)
    specs = instrument_specs(bench)
    classes = check_station(specs, (), ())
    for spec in specs:
        for finding in inspect(spec, classes[spec.name], controls, locks, data, bench.housekeeping):
            yield asdict(finding)


Load = tuple[float, float]
"""Input resistance (ohm) and bias current into the node (A)."""


def terminal_loads(virtual: Any) -> dict[str, Load]:
    """Node -> load of all terminals on it, as they are set now.

    A terminal that holds its node at a voltage takes nothing away from it and is left out.
    """
    return _together(now for now, _ in _terminals(virtual).values())


def _terminals(virtual: Any) -> dict[tuple[str, str], tuple[dict[str, Load], dict[str, Load]]]:
    """Instrument and port -> loads by node: as the terminal is set now, and as it was at its last reading of each node."""
    state = virtual.side_door.sources()
    found: dict[tuple[str, str], tuple[dict[str, Load], dict[str, Load]]] = {}
    for wire in virtual.plan.wires:
        terminal = state.get(wire.instrument, {}).get(wire.port)
        if terminal is None or (terminal["source"] == "VoltageSource" and not terminal["limited"]):
            continue
        behind_a_matrix = (wire.instrument, wire.port) in found  # one terminal, several nodes: on each for its reading only
        now = {} if behind_a_matrix else {wire.node: (terminal["input_resistance"], terminal["bias_current"])}
        read = {node: (seen[-2], seen[-1]) for node, seen in terminal["seen"].items()}
        found[wire.instrument, wire.port] = now, read
    return found


def _together(parts: Iterable[Mapping[str, Load]]) -> dict[str, Load]:
    """Loads in parallel, node by node."""
    whole: dict[str, Load] = {}
    for node, (resistance, bias) in (item for part in parts for item in part.items()):
        before, current = whole.get(node, (inf, 0.0))
        conductance = 1.0 / before + 1.0 / resistance
        whole[node] = (1.0 / conductance if conductance > 0.0 else inf, bias + current)
    return whole


def _moments(virtual: Any) -> list[dict[str, Load]]:
    """Loads of all terminals now, and at the reading of every node by a terminal that was on it for the reading only."""
    terminals = _terminals(virtual)
    moments = [_together(now for now, _ in terminals.values())]
    for one, (now, read) in terminals.items():
        others = [loads for name, (loads, _) in terminals.items() if name != one]
        moments += [_together([*others, {node: load}]) for node, load in read.items() if now.get(node) != load]
    return moments


def loading(network: "Network", controls: Layout, virtual: Any, stimulus: Stimulus) -> dict[str, dict[str, float]]:
    """What the terminals take away at ``stimulus``: the network we believe in, solved with and without their loads.

    Node -> unloaded and loaded voltage (V), relative difference (by all, and by the resistance alone), resistance (ohm) and
    bias current (A) of its terminals.
    Raises NotConvergedError when one of the two has no operating point.
    """
    from simulated_backend.loading import loading as compare

    given = {
        Quantity.VOLTAGE: np.zeros(network.n_nodes),
        Quantity.PRESSURE: network.node_array("pressure"),
        Quantity.CONCENTRATION: network.node_array("concentration"),
    }
    clamped = np.array([node.ground for node in network.nodes])
    for channel, value, connected in zip(controls, stimulus.values, stimulus.connected, strict=True):
        if connected and channel.node is not None and channel.quantity in given:
            node = network.node_index[channel.node]
            given[channel.quantity][node] = value
            clamped[node] |= channel.quantity is Quantity.VOLTAGE

    def compared(terminals: Mapping[str, tuple[float, float]]) -> Any:
        return compare(
            network,
            given[Quantity.VOLTAGE],
            clamped,
            terminals,
            pressure=given[Quantity.PRESSURE],
            concentration=given[Quantity.CONCENTRATION],
        )

    worst: dict[str, dict[str, float]] = {}
    for loads in _moments(virtual):
        found = compared(loads)
        without_bias = compared({name: (resistance, 0.0) for name, (resistance, _) in loads.items()})
        for name, (resistance, bias) in loads.items():
            here = network.node_index[name]
            if name not in worst or found.relative[here] > worst[name]["relative"]:
                worst[name] = {
                    "unloaded": float(found.without[here]),
                    "loaded": float(found.loaded[here]),
                    "relative": float(found.relative[here]),
                    "relative_by_resistance": float(without_bias.relative[here]),
                    "resistance": resistance,
                    "bias_current": bias,
                }
    return worst
