"""A network under its controls as time passes: piecewise-constant stimuli, device states carried from one to the next."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hil.core.errors import ConfigError, NotConvergedError
from hil.core.types import BoolArray, FloatArray, Stimulus
from simulated_backend.controls import Applied, ControlMap
from simulated_backend.devices.base import StateKind
from simulated_backend.network import Network
from simulated_backend.solve.kirchhoff import State
from simulated_backend.solve.operating_point import make_problem
from simulated_backend.solve.transient import simulate

_RATE_TOLERANCE = 1e-5
"""Relative error allowed per step where a law integrates a rate."""
_VOLTAGE_TOLERANCE = 1e-5
"""V per step where devices only relax."""
_RAMP_STEPS = 16
"""Steps that stand for the ramp of a slow source; its mean is kept exactly."""


def remembers(network: Network) -> bool:
    """Whether a law of the network integrates a rate: no stimulus leads to a state of its own, whatever came before."""
    return any(group.law.kind is StateKind.RATE for group in network.groups)


@dataclass(frozen=True, slots=True)
class Passage:
    """Outputs at the samples (k, n_outputs), states there and at the end, and all node voltages at the end (n_nodes,).

    States are as the backend keeps them: one (n_states, 1, n_edges of the group) array per group.
    """

    outputs: FloatArray
    states: tuple[State, ...]
    state: State
    voltage: FloatArray


def ramped(start: Stimulus, target: Stimulus, duration: float, dead_time: float) -> tuple[list[Stimulus], FloatArray]:
    """A source on its way: the stimuli that stand for its ramp and the dead time, and when each begins (s)."""
    if duration <= 0.0:
        return [target], np.zeros(1)
    middle = (np.arange(_RAMP_STEPS) + 0.5) / _RAMP_STEPS
    moving = target.connected & start.connected
    rows = [
        Stimulus(np.where(moving, start.values + share * (target.values - start.values), target.values), target.connected)
        for share in middle
    ]
    edges = duration * np.arange(_RAMP_STEPS) / _RAMP_STEPS
    return ([*rows, target], np.append(edges, duration)) if dead_time > 0.0 else (rows, edges)


def one_by_one(parts: Sequence[Applied]) -> list[Applied]:
    """What every stimulus does, in the order of the stimuli, one row each."""
    found: dict[int, Applied] = {}
    for applied in parts:
        for position, row in enumerate(applied.rows):
            pick = slice(position, position + 1)
            parameters = [
                {name: values[position] if np.ndim(values) > 1 else values for name, values in group.parameters.items()}
                for group in applied.network.groups
            ]
            found[int(row)] = replace(
                applied,
                rows=applied.rows[pick],
                values=applied.values[pick],
                connected=applied.connected[pick],
                network=applied.network.with_parameters(parameters),
                voltage=applied.voltage[pick],
                pressure=applied.pressure[pick],
                concentration=applied.concentration[pick],
            )
    return [found[row] for row in sorted(found)]


def pass_time(
    control_map: ControlMap,
    acting: Sequence[Applied],
    edges: FloatArray,
    end: float,
    samples: FloatArray,
    state: State,
    voltage: FloatArray | None,
    *,
    slow_factor: float = 1.0,
) -> Passage:
    """Let ``acting[k]`` (one row each) hold from ``edges[k]`` (s, the first 0) on until ``end``; read at ``samples`` (s).

    A sample at an edge belongs to the segment that ends there. ``state`` and ``voltage`` (n_nodes,): devices and charged
    nodes at the beginning. Node capacitances are left out where a law integrates a rate: their time is far below that of
    the devices. Raises NotConvergedError with the solver's own words.
    """
    outputs: list[FloatArray] = []
    kept: list[State] = []
    held = tuple(one[:, 0] for one in state)
    for members, begin, until in _stretches(control_map, acting, edges, end):
        first = acting[members.start]
        inside = samples[(samples > begin) | ((members.start == 0) & (samples == begin))]
        inside = inside[inside <= until] if until < end else inside
        course = simulate(
            first.network,
            (edges[members] - begin) / slow_factor,
            np.concatenate([one.voltage for one in acting[members]]),
            first.clamped,
            np.append((inside - begin) / slow_factor, (until - begin) / slow_factor),
            pressure=first.pressure[0],
            concentration=first.concentration[0],
            injected=control_map.injected,
            shunt=control_map.shunt,
            state=held,
            tolerance=_RATE_TOLERANCE if remembers(first.network) else _VOLTAGE_TOLERANCE,
            start=voltage,
        )
        if not course.converged or not np.all(np.isfinite(course.voltage)):
            raise NotConvergedError(course.message or "the network has no finite solution in time")
        states = [tuple(one[k][:, np.newaxis] for one in course.states) for k in range(len(inside))]
        outputs += [_read(control_map, first, v, s) for v, s in zip(course.voltage, states, strict=False)]
        kept += states
        held, voltage = course.final, course.voltage[-1]
    if len(outputs) != len(samples) or voltage is None:
        raise ConfigError(f"samples must rise inside 0 … {end:g} s")
    table = np.array(outputs).reshape(len(samples), len(control_map.outputs))
    return Passage(table, tuple(kept), tuple(one[:, np.newaxis] for one in held), voltage)


def _read(control_map: ControlMap, applied: Applied, voltage: FloatArray, state: State) -> FloatArray:
    """Outputs (n_outputs,) at node voltages (n_nodes,) in balance with ``state``."""
    problem, _ = make_problem(
        applied.network,
        voltage,
        applied.clamped,
        pressure=applied.pressure,
        concentration=applied.concentration,
        injected=control_map.injected,
        shunt=control_map.shunt,
        state=state,
    )
    rows = voltage[np.newaxis]
    current = np.where(applied.clamped, problem.leaving(problem.edges(rows)[0], rows), 0.0)
    return np.asarray(control_map.read(rows, current)[0])


def _stretches(
    control_map: ControlMap, acting: Sequence[Applied], edges: FloatArray, end: float
) -> list[tuple[slice, float, float]]:
    """Runs of segments that differ in clamped voltages alone: which, when they begin and when they end (s)."""
    tuned = np.zeros(len(control_map.controls), dtype=np.bool_)
    for tuning in control_map.tunings:
        tuned[tuning.positions] = True

    def same(one: Applied, other: Applied) -> bool:
        return bool(
            np.array_equal(one.clamped, other.clamped)
            and np.array_equal(one.pressure, other.pressure)
            and np.array_equal(one.concentration, other.concentration)
            and _alike(one, other, tuned)
        )

    starts = [0, *(k for k in range(1, len(acting)) if not same(acting[k - 1], acting[k]))]
    ends = [*starts[1:], len(acting)]
    return [
        (slice(first, last), float(edges[first]), float(edges[last]) if last < len(acting) else end)
        for first, last in zip(starts, ends, strict=True)
    ]


def _alike(one: Applied, other: Applied, tuned: BoolArray) -> bool:
    return np.array_equal(one.values[:, tuned], other.values[:, tuned]) and np.array_equal(
        one.connected[:, tuned], other.connected[:, tuned]
    )
