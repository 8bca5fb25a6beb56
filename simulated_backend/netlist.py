"""A network as a SPICE deck for ngspice, the memristive state included.

Every device is a behavioural current source between its base and its tip; every state is the voltage of a node with a
capacitor of 1 F, charged by a source that delivers its rate of change. A device that relaxes is settled in an operating
point; a state that only has a rate is held there. With ``state`` given, all devices are held.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hil.core.errors import ConfigError
from hil.core.types import BoolArray, FloatArray
from simulated_backend import netlist_laws
from simulated_backend.devices.base import EdgeDrive, StateKind
from simulated_backend.network import Group, Network
from simulated_backend.spice_form import SpiceDrive, number

_OPTIONS = "abstol=1e-30 vntol=1e-13 chgtol=1e-30 pivtol=1e-40 gmin=1e-30 itl1=2000 itl4=200"
"""Networks of nanochannels carry picoamperes: SPICE's default tolerances are meant for transistors."""


@dataclass(frozen=True, slots=True)
class Transient:
    """A run in time: ``duration`` s, results at least every ``step`` s, relative tolerance of ngspice.

    Clamped nodes follow ``voltage`` (n_segments, n_nodes), piecewise constant from ``times`` (n_segments,) on, with edges
    of ``edge`` s that end at these times; None: they stay where the deck's ``voltage`` puts them.
    """

    duration: float
    step: float
    tolerance: float = 1e-6
    times: FloatArray | None = None
    voltage: FloatArray | None = None
    edge: float | None = None


@dataclass(frozen=True, slots=True)
class Deck:
    """``text`` for ngspice; ``nodes``: network node -> SPICE node; ``states``: edge -> (SPICE node, state per volt) of each
    state that is not held."""

    text: str
    nodes: Mapping[str, str]
    states: Mapping[str, tuple[tuple[str, float], ...]]


def netlist(
    network: Network,
    voltage: ArrayLike,
    clamped: ArrayLike,
    *,
    pressure: ArrayLike | None = None,
    concentration: ArrayLike | None = None,
    injected: ArrayLike | None = None,
    shunt: ArrayLike | None = None,
    state: Sequence[FloatArray] | None = None,
    transient: Transient | None = None,
    title: str = "memristor network",
) -> Deck:
    """The deck of an operating point, or of a run in time where ``transient`` is given.

    voltage (n_nodes,) V, read where clamped (n_nodes,); pressure Pa, concentration mol/m^3 (default: the nodes' own),
    injected A into the node, shunt S to ground: (n_nodes,). ``state``: one (n_states, k) array per group; in an
    operating point it holds every device, in a run in time it is where they start (default: their initial state).
    Raises ConfigError for arrays that do not fit, for parameters with a batch axis and for a law that cannot be written.
    """
    n = network.n_nodes
    fixed = np.asarray(clamped, dtype=np.bool_)
    volts = _per_node(voltage, n, "voltage")
    if fixed.shape != (n,):
        raise ConfigError(f"`clamped` needs one flag for each of the {n} nodes, not shape {fixed.shape}")
    press = network.node_array("pressure") if pressure is None else _per_node(pressure, n, "pressure")
    salt = network.node_array("concentration") if concentration is None else _per_node(concentration, n, "concentration")
    names = {node.name: f"n{position}" for position, node in enumerate(network.nodes)}
    lines = [f"* {_comment(title)}", *(f"* {spice} = node {_comment(name)}" for name, spice in names.items())]
    lines += _sources(volts, fixed, transient)
    for position in range(n):
        lines += _terminal(position, network.nodes[position].capacitance, injected, shunt, n)
    states: dict[str, tuple[tuple[str, float], ...]] = {}
    for number_of_group, group in enumerate(network.groups):
        start = None if state is None else np.asarray(state[number_of_group], dtype=np.float64)
        lines += _devices(network, group, press, salt, start, transient is not None, states)
    lines += _analysis(transient)
    return Deck("\n".join([*lines, ".end", ""]), names, states)


def _sources(voltage: FloatArray, fixed: BoolArray, transient: Transient | None) -> list[str]:
    lines = []
    for position in np.flatnonzero(fixed):
        if transient is None or transient.times is None or transient.voltage is None:
            if not np.isfinite(voltage[position]):
                raise ConfigError(f"`voltage` of clamped node {position} is not a finite number")
            lines.append(f"V{position} n{position} 0 {number(voltage[position])}")
        else:
            lines.append(f"V{position} n{position} 0 PWL({_steps(transient, int(position))})")
    return lines


def _steps(transient: Transient, position: int) -> str:
    times = np.asarray(transient.times, dtype=np.float64)
    levels = np.asarray(transient.voltage, dtype=np.float64)[:, position]
    if times[0] != 0.0 or np.any(np.diff(times) <= 0.0) or levels.shape != times.shape:
        raise ConfigError("the times of a waveform must begin at 0 and ascend, with one row of voltages each")
    shortest = float(np.diff(np.append(times, transient.duration)).min())
    edge = 1e-6 * shortest if transient.edge is None else transient.edge
    points = [(0.0, float(levels[0]))]
    for time, before, after in zip(times[1:], levels[:-1], levels[1:], strict=True):
        points += [(float(time) - edge, float(before)), (float(time), float(after))]
    return " ".join(f"{time!r} {level!r}" for time, level in points)


def _terminal(position: int, capacitance: float, injected: ArrayLike | None, shunt: ArrayLike | None, n: int) -> list[str]:
    lines = []
    if capacitance > 0.0:
        lines.append(f"C{position} n{position} 0 {number(capacitance)}")
    current = 0.0 if injected is None else _per_node(injected, n, "injected")[position]
    conductance = 0.0 if shunt is None else _per_node(shunt, n, "shunt")[position]
    if current:
        lines.append(f"I{position} 0 n{position} {number(current)}")
    if conductance > 0.0:
        lines.append(f"R{position} n{position} 0 {number(1.0 / conductance)}")
    return lines


def _devices(
    network: Network,
    group: Group,
    pressure: FloatArray,
    salt: FloatArray,
    start: FloatArray | None,
    in_time: bool,
    states: dict[str, tuple[tuple[str, float], ...]],
) -> list[str]:
    base, tip = network.base[group.edges], network.tip[group.edges]
    if any(np.ndim(values) != 1 for values in group.parameters.values()):
        raise ConfigError("the network's parameters have a batch axis; a netlist describes one network")
    rest = EdgeDrive(np.zeros(len(group.edges)), pressure[base] - pressure[tip], salt[base], salt[tip])
    initial = group.law.initial_state(group.parameters, rest) if start is None else start
    held = not in_time and (start is not None or group.law.kind is StateKind.RATE)
    lines = []
    for column, edge in enumerate(group.edges):
        name = network.edge_names[edge]
        own = [f"x{edge}_{k}" for k in range(len(group.law.states))]
        drive = SpiceDrive(
            f"V(n{base[column]},n{tip[column]})",
            float(rest.pressure_difference[column]),
            float(salt[base[column]]),
            float(salt[tip[column]]),
        )
        values = {key: float(numbers[column]) for key, numbers in group.parameters.items()}
        levels = [float(numbers[column]) for numbers in initial]
        # a held state stands in the expressions as a number: with a node of its own the first iteration would see 0
        nodes = [f"V({node})" for node in own] if not held else ["0"] * len(own)
        form = netlist_laws.model(group.law, values, drive, nodes)
        if held and own:
            numbers_of_states = [number(level / one.scale) for level, one in zip(levels, form.states, strict=True)]
            form = netlist_laws.model(group.law, values, drive, numbers_of_states)
        lines.append(f"* edge {_comment(name)}: {group.law.name}")
        lines.append(f"B{edge} n{base[column]} n{tip[column]} I={number(float(network.parallel[edge]))}*({form.current})")
        if held or not own:
            continue
        for node, level, one in zip(own, levels, form.states, strict=True):
            lines += [f"C{node} {node} 0 1", f"B{node} 0 {node} I={one.rate}"]
            lines.append(f".{'ic' if in_time else 'nodeset'} V({node})={number(level / one.scale)}")
        states[name] = tuple((node, one.scale) for node, one in zip(own, form.states, strict=True))
    return lines


def _analysis(transient: Transient | None) -> list[str]:
    if transient is None:
        return [f".options reltol=1e-11 {_OPTIONS}", ".op"]
    if not (0.0 < transient.step <= transient.duration < np.inf):
        raise ConfigError(f"a run in time needs 0 < step ≤ duration, not {transient.step:g} s and {transient.duration:g} s")
    step, duration = number(transient.step), number(transient.duration)
    return [f".options reltol={transient.tolerance!r} {_OPTIONS}", f".tran {step} {duration} 0 {step}"]


def _per_node(values: ArrayLike, n: int, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (n,):
        raise ConfigError(f"`{name}` needs one value for each of the {n} nodes, not shape {array.shape}")
    return array


def _comment(text: str) -> str:
    """One line of plain text, whatever a name holds: nothing in it may become a SPICE card."""
    return "".join(character if character.isprintable() else " " for character in text)
