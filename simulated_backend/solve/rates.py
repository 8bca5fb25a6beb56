"""Networks with devices that integrate a rate (flux, drift): all states together by an error-controlled integrator.

The states are the unknowns of an ordinary differential equation; Kirchhoff is solved inside its right side, to rounding.
Up to ``STIFF_STATES`` states it is integrated by Radau IIA of order 5 (Hairer & Wanner, Solving ODEs II, sec. IV.8, as
in scipy), whose Jacobian columns are one batched solve; above it, where that matrix would not fit the time, by the
explicit Dormand-Prince pair. Stretches without any drive are not integrated: laws that know their exact decay take it.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from hil.core.errors import NotConvergedError
from hil.core.types import FloatArray
from simulated_backend.devices.base import EdgeDrive, StateKind
from simulated_backend.solve import newton_dense
from simulated_backend.solve.dispatch import is_large, solve_large
from simulated_backend.solve.kirchhoff import Problem
from simulated_backend.solve.transient import Course, Segment, State

STIFF_STATES = 400


class RateSystem:
    """Right side of the equation for all states of a network, flattened to one vector of (n,)."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.groups = problem.network.groups
        self.shapes = [(len(group.law.states), group.edges.size) for group in self.groups]
        self.sizes = [states * edges for states, edges in self.shapes]
        self.guess = problem.voltage.copy()
        self._span = self._bounded()

    def _bounded(self) -> FloatArray:
        """Width of what each state may be, (n,); 0 where the law sets no bounds."""
        with np.errstate(all="ignore"):  # a law may count something in a state that infinity makes no sense for
            ends = [self.flat(tuple(one[:, 0] for one in self.split(np.full(sum(self.sizes), end)))) for end in (-np.inf, np.inf)]
            width = ends[1] - ends[0]
        return np.where(np.isfinite(width), width, 0.0)

    def flat(self, state: State) -> FloatArray:
        """The states of all groups as one vector."""
        return np.concatenate([np.asarray(one, dtype=np.float64).ravel() for one in state])

    def split(self, y: FloatArray) -> State:
        """(n,) or (n, k) back to one (n_states, k, n_edges) array per group, put inside the laws' bounds."""
        columns = y.reshape(y.shape[0], -1)
        parts = np.split(columns, np.cumsum(self.sizes)[:-1])
        out = []
        for part, shape, group in zip(parts, self.shapes, self.groups, strict=True):
            whole = np.ascontiguousarray(part.reshape(*shape, columns.shape[1]).swapaxes(1, 2))
            out.append(group.law.clip(group.parameters, whole))
        return tuple(out)

    def voltages(self, state: State) -> FloatArray:
        """Node voltages in balance at these states, (k, n_nodes). Raises NotConvergedError."""
        k = max((one.shape[1] for one in state if one.size), default=1)
        held = replace(self.problem, voltage=np.repeat(self.problem.voltage, k, axis=0), state=state)
        guess = np.repeat(self.guess, k, axis=0)
        found = solve_large(held, guess) if is_large(held) else newton_dense.newton(held, guess)
        if not found.converged.all():
            found = newton_dense.newton(held, newton_dense.cold_start(held))
        if not found.converged.all():
            raise NotConvergedError("Kirchhoff has no solution at the present states of the devices")
        self.guess = found.voltage[:1].copy()
        return found.voltage

    def rate(self, t: float, y: FloatArray) -> FloatArray:
        """d(states)/dt, of the shape of ``y``: (n,) or (n, k)."""
        state = self.split(y)
        drives = self.problem.drives(self.voltages(state))
        parts = []
        for group, drive, one in zip(self.groups, drives, state, strict=True):
            p = group.parameters
            if group.law.kind is StateKind.RATE:
                value = group.law.state_rate(p, drive, one)
            elif group.law.kind is StateKind.RELAXATION:
                value = (group.law.steady_state(p, drive) - one) / group.law.time_constant(p, drive)
            else:
                value = np.empty((0, one.shape[1], group.edges.size))
            parts.append(np.asarray(value).swapaxes(1, 2).reshape(one.shape[0] * one.shape[2], one.shape[1]))
        return np.concatenate(parts).reshape(y.shape)

    def jacobian(self, t: float, y: FloatArray, size: FloatArray) -> FloatArray:
        """d(rate)/d(states), (n, n), by central differences of 1e-6 of the size of each state, all columns in one solve.

        The steps are fixed: an adaptive one grows without bound where a rate does not depend on a state (below a
        threshold, at a bound), until it overflows.
        """
        step = 1e-6 * np.maximum(np.abs(y), size)
        moved = np.concatenate([y[:, np.newaxis] + np.diag(step), y[:, np.newaxis] - np.diag(step)], axis=1)
        rates = self.rate(t, moved)
        result: FloatArray = (rates[:, : y.size] - rates[:, y.size :]) / (2.0 * step)
        return result

    def scales(self, y: FloatArray, span: float) -> FloatArray:
        """A size for every state, the same over the edges of one group: what it has or will have gained in ``span``."""
        size = np.maximum(np.abs(y), np.abs(self.rate(0.0, y)) * span)
        parts = np.split(size, np.cumsum(self.sizes)[:-1])
        wide = [
            np.broadcast_to(part.reshape(shape).max(axis=1, keepdims=True), shape).ravel() if part.size else part
            for part, shape in zip(parts, self.shapes, strict=True)
        ]
        return np.asarray(np.maximum(np.concatenate(wide), np.maximum(1e-6 * self._span, 1e-300)))

    def decayed(self, state: State, duration: float) -> State | None:
        """The exact states after ``duration`` seconds without any drive, or None where a law has no closed form."""
        rest = self.problem.drives(np.zeros_like(self.problem.voltage))
        out = []
        for group, drive, one in zip(self.groups, rest, state, strict=True):
            single = EdgeDrive(
                drive.voltage[0], drive.pressure_difference[0], drive.concentration_base[0], drive.concentration_tip[0]
            )
            after: FloatArray | None = one
            if group.law.kind is StateKind.RATE:
                after = group.law.decay(group.parameters, one, duration)
            elif group.law.kind is StateKind.RELAXATION:
                aim = group.law.steady_state(group.parameters, single)
                after = aim + (one - aim) * np.exp(-duration / group.law.time_constant(group.parameters, single))
            if after is None:
                return None
            out.append(after)
        return tuple(out)

    def undriven(self, state: State) -> bool:
        """Whether nothing drives: all clamped nodes at 0 V, nothing injected, and no current without voltage."""
        if np.any(self.problem.voltage[:, self.problem.clamped]) or np.any(self.problem.injected):
            return False
        held = replace(self.problem, state=tuple(one[:, np.newaxis] for one in state))
        return not np.any(held.edges(np.zeros_like(held.voltage))[0])


def run_rates(
    problem: Problem, cut: Sequence[Segment], wanted: FloatArray, state: State, tolerance: float, max_step: float | None
) -> Course:
    """Integrate over the segments of a waveform; ``tolerance`` is the relative error allowed per step."""
    from scipy.integrate import solve_ivp

    voltages = np.full((wanted.size, problem.network.n_nodes), np.nan)
    kept: list[State] = []
    steps, done, message = 0, 0, ""
    shapes = RateSystem(problem).shapes
    for segment in cut:
        system = RateSystem(replace(problem, voltage=np.where(problem.clamped, segment.voltage, 0.0)[np.newaxis]))
        try:
            if system.undriven(state) and system.decayed(state, 0.0) is not None:
                at = [system.decayed(state, float(t) - segment.begin) for t in (*segment.samples, segment.end)]
                reached = [one for one in at if one is not None]
            elif segment.end <= segment.begin:
                reached = [state] * (segment.samples.size + 1)
            else:
                y = system.flat(state)
                stops = np.unique(np.append(segment.samples, segment.end))
                size = system.scales(y, segment.end - segment.begin)
                stiff = y.size <= STIFF_STATES
                jacobian: dict[str, Any] = {"jac": partial(system.jacobian, size=size)} if stiff else {}
                found = solve_ivp(
                    system.rate,
                    (segment.begin, segment.end),
                    y,
                    method="Radau" if stiff else "RK45",
                    t_eval=stops,
                    rtol=tolerance,
                    atol=0.1 * tolerance * size,
                    max_step=np.inf if max_step is None else max_step,
                    vectorized=True,
                    **jacobian,
                )
                steps += int(found.nfev)
                if not found.success:
                    message = f"the run stopped between {segment.begin:g} s and {segment.end:g} s: {found.message}"
                    break
                each = [tuple(one[:, 0] for one in system.split(column)) for column in found.y.T]
                reached = [each[i] for i in np.searchsorted(stops, np.append(segment.samples, segment.end))]
            for sample, one in zip(range(done, done + segment.samples.size), reached, strict=False):
                voltages[sample] = system.voltages(tuple(part[:, np.newaxis] for part in one))[0]
                kept.append(one)
        except NotConvergedError as error:
            message = f"the run stopped between {segment.begin:g} s and {segment.end:g} s: {error}"
            break
        done += segment.samples.size
        state = reached[-1]
    empty = tuple(np.full(shape, np.nan) for shape in shapes)
    kept += [empty] * (wanted.size - len(kept))
    states = tuple(np.stack([one[k] for one in kept]) for k in range(len(shapes)))
    return Course(wanted, voltages, states, not message, message, steps)
