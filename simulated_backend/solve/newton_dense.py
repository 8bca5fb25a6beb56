"""Damped Newton, continuation and pseudo-time on Kirchhoff's law, vectorised over a batch of problems."""

from dataclasses import dataclass, replace

import numpy as np

from hil.core.types import BoolArray, FloatArray
from simulated_backend.devices.base import StateKind
from simulated_backend.solve.kirchhoff import Problem

TOLERANCE = 1e-12
"""Residual at any node as a fraction of the largest current; rounding of the voltages may be larger and is allowed for."""
_STEPS = 60
_HALVINGS = 16
_SWEEPS = 400


@dataclass(frozen=True, slots=True)
class Solution:
    """voltage (size, n_nodes), converged, iterations, residual relative to the largest current: (size,)."""

    voltage: FloatArray
    converged: BoolArray
    iterations: FloatArray
    residual: FloatArray


def cold_start(problem: Problem) -> FloatArray:
    """Voltages of the linear network whose edges have their slope at zero voltage, (size, n_nodes).

    Free nodes are counted from a clamped node of their part of the network, so that parts without current have none at all,
    not the rounding of one.
    """
    at_rest = np.zeros_like(problem.voltage)
    _, slope = problem.edges(at_rest)
    free = problem.structure.free
    voltage = problem.voltage[:, problem.structure.reference]
    voltage[:, ~problem.structure.referred] = 0.0
    if free.size:
        current = slope * problem.drop(voltage)
        step = problem.solve_linear(slope, -problem.leaving(current, voltage)[:, free])
        voltage[:, free] += np.where(np.isfinite(step), step, 0.0)
    return voltage


def newton(problem: Problem, guess: FloatArray) -> Solution:
    """Newton with a halving line search from ``guess`` (size, n_nodes); rows that are done take no further part."""
    free = problem.structure.free
    voltage = np.where(problem.clamped, problem.voltage, guess)
    iterations = np.zeros(problem.size)
    error, current, slope = _balance(problem, voltage)
    relative, allowed = _relative(problem, voltage, error, current, slope)
    converged = relative <= allowed
    stuck = ~np.isfinite(relative)
    for _ in range(_STEPS):
        rows = np.flatnonzero(~converged & ~stuck)
        if not rows.size or not free.size:
            break
        part = problem if rows.size == problem.size else problem.take(rows)
        step = part.solve_linear(slope[rows], -error[rows][:, free])
        before = np.max(np.abs(error[rows][:, free]), axis=-1)
        iterations[rows] += 1
        accepted = np.zeros(rows.size, dtype=np.bool_)
        factor = 1.0
        for _ in range(_HALVINGS):
            trying = np.flatnonzero(~accepted & np.isfinite(step).all(axis=-1))
            if not trying.size:
                break
            sub = part if trying.size == part.size else part.take(trying)
            at = voltage[rows[trying]]
            at[:, free] += factor * step[trying]
            new_error, new_current, new_slope = _balance(sub, at)
            new_relative, new_allowed = _relative(sub, at, new_error, new_current, new_slope)
            size = np.max(np.abs(new_error[:, free]), axis=-1)
            good = (size < (1.0 - 1e-4 * factor) * before[trying]) | (new_relative <= new_allowed)
            good &= np.isfinite(new_relative)
            chosen = rows[trying[good]]
            voltage[chosen], error[chosen], slope[chosen] = at[good], new_error[good], new_slope[good]
            relative[chosen], converged[chosen] = new_relative[good], (new_relative <= new_allowed)[good]
            accepted[trying[good]] = True
            factor *= 0.5
        stuck[rows[~accepted]] = True
    return Solution(voltage, converged, iterations, relative)


def continued(problem: Problem) -> Solution:
    """Ramp all sources of a single-row problem from nothing, each solution being the guess of the next."""
    reached, step, count = 0.0, 0.25, 0.0
    voltage = np.zeros_like(problem.voltage)
    solution = newton(problem.scaled(0.0), voltage)
    while reached < 1.0 and step > 1e-3:
        target = min(1.0, reached + step)
        solution = newton(problem.scaled(target), voltage * (target / reached if reached else 1.0))
        count += float(solution.iterations[0])
        if solution.converged[0]:
            voltage, reached, step = solution.voltage, target, step * 2.0
        else:
            step *= 0.5
    done = np.array([reached >= 1.0 and bool(solution.converged[0])])
    return Solution(solution.voltage, done, np.array([count]), solution.residual)


def relaxed(problem: Problem) -> Solution:
    """Let the states of relaxing devices of a single-row problem creep to their steady values, each at its own pace.

    Half the way per sweep, with the voltages in balance all along: it finds stable steady states, from the state at rest.
    """
    groups = problem.network.groups
    rest = problem.drives(np.zeros_like(problem.voltage))
    state = tuple(
        np.empty((0, 1, 0)) if group.law.kind is StateKind.NONE else group.law.initial_state(group.parameters, drive)
        for group, drive in zip(groups, rest, strict=True)
    )
    held = replace(problem, state=state)
    balance = newton(held, cold_start(held))
    best = balance
    for sweep in range(_SWEEPS):
        if not balance.converged[0]:
            break
        drives = problem.drives(balance.voltage)
        state = tuple(
            old + 0.5 * (group.law.steady_state(group.parameters, drive) - old) if group.law.kind is StateKind.RELAXATION else old
            for group, drive, old in zip(groups, drives, state, strict=True)
        )
        balance = newton(replace(problem, state=state), balance.voltage)
        if sweep % 20 == 19 or sweep == _SWEEPS - 1:
            best = newton(problem, balance.voltage)
            if best.converged[0]:
                return best
    return replace(best, converged=np.zeros(1, dtype=np.bool_))


def _balance(problem: Problem, voltage: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    current, slope = problem.edges(voltage)
    return problem.leaving(current, voltage), current, slope


def _relative(
    problem: Problem, voltage: FloatArray, error: FloatArray, current: FloatArray, slope: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Largest imbalance at a free node over the largest current, and what is allowed of it; (size,)."""
    free = problem.structure.free
    if not free.size:
        return np.zeros(len(voltage)), np.ones(len(voltage))
    applied = np.abs(np.broadcast_to(problem.injected, voltage.shape)) + np.abs(problem.shunt * voltage)
    largest = np.maximum(np.max(np.abs(current), axis=-1), np.max(applied, axis=-1))
    # A voltage is known to one rounding of the highest one: that much current no iteration can remove.
    rounding = 4e-16 * np.max(np.abs(slope), axis=-1) * np.max(np.abs(voltage), axis=-1)
    imbalance = np.max(np.abs(error[:, free]), axis=-1)
    scale = np.where(largest > 0.0, largest, 1.0)
    return imbalance / scale, np.maximum(TOLERANCE, rounding / scale)
