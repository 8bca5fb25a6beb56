"""A network under a piecewise-constant waveform: steps end at every edge of the waveform and at every sample.

Relaxing devices go by exponential steps (``exponential``; compiled where every law has a kernel and no node a
capacitance, else ``relaxation``); as soon as a law integrates a rate, all states go by ``rates``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hil.core.errors import ConfigError
from hil.core.types import BoolArray, FloatArray
from simulated_backend.devices.base import StateKind
from simulated_backend.network import Network

State = tuple[FloatArray, ...]


@dataclass(frozen=True, slots=True)
class Course:
    """Samples of one run: times (k,) s, voltage (k, n_nodes) V, and per group the states (k, n_states, n_edges of it).

    ``message`` is empty when the run reached its last sample; samples beyond a failure are NaN. ``steps`` taken.
    """

    times: FloatArray
    voltage: FloatArray
    states: tuple[FloatArray, ...]
    converged: bool
    message: str
    steps: int

    @property
    def final(self) -> State:
        """The states at the last sample, one (n_states, n_edges) array per group."""
        return tuple(one[-1] for one in self.states)


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of constant drives: from ``begin`` to ``end`` (s), clamped voltages (n_nodes,), samples inside it."""

    begin: float
    end: float
    voltage: FloatArray
    samples: FloatArray


def segments(edges: ArrayLike, voltages: ArrayLike, samples: ArrayLike, clamped: BoolArray) -> tuple[list[Segment], FloatArray]:
    """Cut at the edges of the waveform: ``voltages[k]`` (k, n_nodes) holds from ``edges[k]`` on; samples rise.

    A sample on an edge belongs to the segment that ends there. Raises ConfigError for times that are not finite or do
    not rise, samples before the first edge, and clamped voltages that are not finite.
    """
    at = np.atleast_1d(np.asarray(edges, dtype=np.float64))
    level = np.atleast_2d(np.asarray(voltages, dtype=np.float64))
    wanted = np.atleast_1d(np.asarray(samples, dtype=np.float64))
    if level.shape != (at.size, clamped.size):
        raise ConfigError(f"the waveform needs {at.size} rows of {clamped.size} node voltages, not shape {level.shape}")
    if not np.all(np.isfinite(at)) or np.any(np.diff(at) <= 0.0):
        raise ConfigError("the times of a waveform must be finite and rise")
    if wanted.size == 0 or not np.all(np.isfinite(wanted)) or np.any(np.diff(wanted) < 0.0) or wanted[0] < at[0]:
        raise ConfigError(f"sample times must be finite, rise, and not lie before the waveform begins at {at[0]:g} s")
    if not np.all(np.isfinite(level[:, clamped])):
        raise ConfigError("a clamped voltage of the waveform is not a finite number")
    ends = np.append(at[1:], np.inf)
    cut = []
    for k in range(at.size):
        if k > 0 and at[k] >= wanted[-1]:
            break
        above = wanted >= at[k] if k == 0 else wanted > at[k]
        inside = wanted[above & (wanted <= ends[k])]
        cut.append(Segment(float(at[k]), float(min(ends[k], max(wanted[-1], at[k]))), level[k], inside))
    return cut, wanted


def simulate(
    network: Network,
    edges: ArrayLike,
    voltages: ArrayLike,
    clamped: ArrayLike,
    samples: ArrayLike,
    *,
    pressure: FloatArray | None = None,
    concentration: FloatArray | None = None,
    injected: FloatArray | None = None,
    shunt: FloatArray | None = None,
    state: Sequence[ArrayLike] | None = None,
    tolerance: float = 1e-3,
    max_step: float | None = None,
    start: ArrayLike | None = None,
) -> Course:
    """Run the network through a piecewise-constant waveform and sample it.

    ``edges`` (k,) s, ``voltages`` (k, n_nodes) V from each edge on, ``clamped`` (n_nodes,) bool, ``samples`` (s,) s.
    pressure Pa, concentration mol/m³, injected A, shunt S: (n_nodes,), constant. ``state``: one (n_states, n_edges)
    array per group at the first edge (default: at rest). ``tolerance``: error control, V for relaxing networks (the
    bound is that of the lower order, the result some ten times better), relative for rates. ``max_step`` in s. ``start``:
    voltages (n_nodes,) of nodes with a capacitance at the first edge (default 0 V).
    Raises ConfigError for malformed input and for floating nodes.
    """
    from simulated_backend.solve.operating_point import make_problem

    fixed = np.asarray(clamped, dtype=np.bool_)
    if not tolerance > 0.0 or (max_step is not None and not max_step > 0.0):
        raise ConfigError("`tolerance` and `max_step` must be above 0")
    cut, wanted = segments(edges, voltages, samples, fixed)
    problem, batch = make_problem(
        network, cut[0].voltage, fixed, pressure=pressure, concentration=concentration, injected=injected, shunt=shunt
    )
    if batch:
        raise ConfigError(f"a run in time takes one set of drives and parameters, not a batch of shape {batch}")
    begin: State
    if state is None:
        drives = problem.drives(np.zeros((1, network.n_nodes)))
        begin = tuple(
            np.asarray(group.law.initial_state(group.parameters, drive))[:, 0, :]
            for group, drive in zip(network.groups, drives, strict=True)
        )
    else:
        begin = tuple(np.array(one, dtype=np.float64) for one in state)
    if any(group.law.kind is StateKind.RATE for group in network.groups):
        from simulated_backend.solve.rates import run_rates

        return run_rates(problem, cut, wanted, begin, tolerance, max_step)
    compiled = None
    if not np.any(network.node_array("capacitance")[~fixed] > 0.0):
        from simulated_backend.solve.relaxing import RelaxingNetwork

        compiled = RelaxingNetwork.of(
            network, fixed, pressure=problem.pressure[0], concentration=problem.concentration[0], shunt=problem.shunt[0]
        )
    if compiled is not None:
        return compiled.run(cut, wanted, begin, problem.injected[0], tolerance, max_step)
    return _by_relaxation(
        network,
        fixed,
        cut,
        wanted,
        begin,
        problem.pressure,
        problem.concentration,
        problem.injected,
        problem.shunt,
        max_step,
        start,
    )


def _by_relaxation(
    network: Network,
    fixed: BoolArray,
    cut: Sequence[Segment],
    wanted: FloatArray,
    state: State,
    pressure: FloatArray,
    concentration: FloatArray,
    injected: FloatArray,
    shunt: FloatArray,
    max_step: float | None,
    start: ArrayLike | None,
) -> Course:
    """The general array path, segment by segment, node voltages of capacitances carried over."""
    from simulated_backend.solve.relaxation import relax

    found: list[FloatArray] = []
    kept: list[State] = []
    for segment in cut:
        now = segment.begin
        stops = np.unique(np.append(segment.samples, segment.end))
        for stop in stops:
            part = relax(
                network,
                segment.voltage,
                fixed,
                [stop - now],
                pressure=pressure[0],
                concentration=concentration[0],
                injected=injected[0],
                shunt=shunt[0],
                state=state,
                start=start,
                max_step=max_step,
            )
            start = part.voltage[-1].reshape(-1)
            state = tuple(np.asarray(one).reshape(len(one), np.shape(one)[-1]) for one in part.state)
            now = float(stop)
            repeat = int(np.count_nonzero(segment.samples == stop))
            found += [part.voltage[-1].reshape(-1)] * repeat
            kept += [state] * repeat
    states = tuple(np.stack([one[k] for one in kept]) for k in range(len(network.groups)))
    return Course(wanted, np.stack(found), states, True, "", len(found))
