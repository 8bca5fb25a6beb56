"""All steady states of a small network: whether there is one, several or none, and which of them last."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from hil.core.types import BoolArray, FloatArray
from simulated_backend.devices.base import EdgeDrive, StateKind
from simulated_backend.network import IndexArray, Network
from simulated_backend.solve import newton_dense
from simulated_backend.solve.kirchhoff import Problem
from simulated_backend.solve.operating_point import make_problem, negative_conductance

_GRID = 201
_SAME = 1e-6
_SHOWN_STATES = 6
_SHOWN_NODES = 4


@dataclass(frozen=True, slots=True)
class SteadyStates:
    """voltage (n_found, n_nodes) in rising order, stable (n_found,), and one sentence for the user.

    Several starting points were tried; for one free node a scan makes the list complete, for more it need not be.
    """

    voltage: FloatArray
    stable: BoolArray
    message: str

    @property
    def ambiguous(self) -> bool:
        """True unless there is exactly one steady state and it is stable."""
        return len(self.voltage) != 1 or not bool(self.stable[0])


def steady_states(
    network: Network,
    voltage: ArrayLike,
    clamped: ArrayLike,
    *,
    pressure: ArrayLike | None = None,
    concentration: ArrayLike | None = None,
    injected: ArrayLike | None = None,
    shunt: ArrayLike | None = None,
    starts: int = 24,
    seed: int = 0,
) -> SteadyStates:
    """Steady states found by Newton from ``starts`` random and some systematic starting points; drives as (n_nodes,).

    A state is stable when every small disturbance of the device states dies out (voltages in balance). Errors as
    ``solve_operating_point``.
    """
    single, _ = make_problem(
        network,
        np.asarray(voltage, dtype=np.float64)[np.newaxis],
        clamped,
        pressure=pressure,
        concentration=concentration,
        injected=injected,
        shunt=shunt,
    )
    free = single.structure.free
    guesses = _guesses(single, starts, seed)
    problem = single.take(np.zeros(len(guesses), dtype=np.intp))
    solution = newton_dense.newton(problem, guesses)
    good = solution.converged & ~negative_conductance(problem, solution.voltage).any(axis=-1)
    found = _distinct(solution.voltage[good], free)
    stable = np.array([_stable(single, one) for one in found], dtype=np.bool_)
    return SteadyStates(found, stable, _sentence(network, found, stable, free))


def _guesses(problem: Problem, starts: int, seed: int) -> FloatArray:
    free, fixed = problem.structure.free, problem.voltage[0, problem.clamped]
    low, high = (float(fixed.min()), float(fixed.max())) if fixed.size else (-1.0, 1.0)
    low, high = (low, high) if high > low else (low - 1.0, high + 1.0)
    cold = newton_dense.cold_start(problem)
    low, high = min(low, float(cold.min())), max(high, float(cold.max()))
    if not free.size:
        return cold
    rng = np.random.default_rng(seed)
    levels = [np.full(free.size, low), np.full(free.size, high), *rng.uniform(low, high, (starts, free.size))]
    if free.size == 1:
        levels += [np.array([middle]) for middle in _sign_changes(problem, low, high)]
    guesses = np.repeat(cold, 1 + len(levels), axis=0)
    guesses[1:, free] = np.array(levels)
    return guesses


def _sign_changes(problem: Problem, low: float, high: float) -> FloatArray:
    """Middles of the intervals in which the imbalance of the one free node changes its sign."""
    grid = np.linspace(low, high, _GRID)
    many = problem.take(np.zeros(_GRID, dtype=np.intp))
    voltage = many.voltage.copy()
    voltage[:, problem.structure.free[0]] = grid
    current, _ = many.edges(voltage)
    error = many.leaving(current, voltage)[:, problem.structure.free[0]]
    crossing = np.flatnonzero(np.signbit(error[1:]) != np.signbit(error[:-1]))
    return np.asarray(0.5 * (grid[crossing] + grid[crossing + 1]))


def _distinct(voltage: FloatArray, free: IndexArray) -> FloatArray:
    kept: list[FloatArray] = []
    scale = max(1e-12, float(np.max(np.abs(voltage), initial=0.0)))
    for one in voltage:
        if all(np.max(np.abs(one - other)) > _SAME * scale for other in kept):
            kept.append(one)
    kept.sort(key=lambda one: tuple(one[free]))
    return np.array(kept).reshape(len(kept), voltage.shape[-1])


def _stable(problem: Problem, voltage: FloatArray) -> bool:
    """All eigenvalues of d(ds/dt)/ds have a negative real part; ds/dt = (s∞(ΔV(s)) − s)/τ."""
    network, at = problem.network, voltage[np.newaxis]
    drives = problem.drives(at)
    states = tuple(
        group.law.steady_state(group.parameters, drive)
        if group.law.kind is StateKind.RELAXATION
        else np.empty((0, 1, drive.voltage.shape[-1]))
        for group, drive in zip(network.groups, drives, strict=True)
    )
    held = replace(problem, state=states)
    _, slope = held.edges(at)
    free = problem.structure.free
    by_state, goal_by_drop, tau, edge = [], [], [], []
    for group, drive, state in zip(network.groups, drives, states, strict=True):
        for k in range(len(state)):
            h = 1e-6 * np.maximum(np.abs(state[k]), 1e-300)
            up, down = state.copy(), state.copy()
            up[k] += h
            down[k] -= h
            change = group.law.current(group.parameters, drive, up) - group.law.current(group.parameters, drive, down)
            by_state.append((change / (2 * h) * network.parallel[group.edges])[0])
            dv = 1e-5 * np.maximum(1e-3, np.abs(drive.voltage))
            rise = group.law.steady_state(group.parameters, _moved(drive, dv))[k]
            fall = group.law.steady_state(group.parameters, _moved(drive, -dv))[k]
            goal_by_drop.append(((rise - fall) / (2 * dv))[0])
            tau.append(np.broadcast_to(group.law.time_constant(group.parameters, drive)[k], drive.voltage.shape)[0])
            edge.append(group.edges)
    if not edge or not free.size:
        return True
    edges = np.concatenate(edge)
    incidence = np.zeros((edges.size, network.n_nodes))
    incidence[np.arange(edges.size), network.base[edges]] = 1.0
    incidence[np.arange(edges.size), network.tip[edges]] = -1.0
    A = incidence[:, free]
    moved = -A @ np.linalg.pinv(held.jacobian(slope)[0]) @ (A.T * np.concatenate(by_state))
    rate = (np.concatenate(goal_by_drop)[:, np.newaxis] * moved - np.eye(edges.size)) / np.concatenate(tau)[:, np.newaxis]
    return bool(np.max(np.linalg.eigvals(rate).real) < 0.0)


def _moved(drive: EdgeDrive, change: FloatArray) -> EdgeDrive:
    return EdgeDrive(drive.voltage + change, drive.pressure_difference, drive.concentration_base, drive.concentration_tip)


def _sentence(network: Network, found: FloatArray, stable: BoolArray, free: IndexArray) -> str:
    if not len(found):
        return (
            "the network has no steady state under these drives: no node voltages balance the currents with positive "
            "conductances; reduce the voltage or the pressure differences, or switch the floor of the law on"
        )
    names = [network.nodes[node].name for node in free[:_SHOWN_NODES]]

    def shown(rows: FloatArray) -> str:
        states = [
            "(" + ", ".join(f"{name}: {row[node]:.4g} V" for name, node in zip(names, free, strict=False)) + ")"
            for row in rows[:_SHOWN_STATES]
        ]
        return ", ".join(states)

    if len(found) == 1:
        return "the network has one steady state" + ("" if stable[0] else f", which is unstable: {shown(found)}")
    unstable = f"; unstable: {shown(found[~stable])}" if (~stable).any() else ""
    return (
        f"the network has {len(found)} steady states under these drives, stable: {shown(found[stable]) or 'none'}{unstable}; "
        "which one a device reaches depends on its history, and a simulated reading may be any of them"
    )
