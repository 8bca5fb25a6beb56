"""A network of relaxing devices in time: exact exponential steps of the states, Kirchhoff in balance all along.

Order 2: the state is carried to the middle of the step with the voltages at its beginning, and over the whole step with the
voltages found there (the exponential midpoint rule). Nodes with a capacitance follow by TR-BDF2 (Bank et al., IEEE Trans.
Electron Devices 32, 1992 (1985)), whose two stages share one matrix and which is L-stable: a small RC does not ring.
Every stage is the operating point of a companion network: a capacitance is a conductance and a current.
"""

from dataclasses import dataclass, replace
from math import ceil, sqrt

import numpy as np
from numpy.typing import ArrayLike

from hil.core.errors import CapabilityError, ConfigError, NotConvergedError
from hil.core.types import BoolArray, FloatArray
from simulated_backend.devices.base import StateKind
from simulated_backend.network import Network
from simulated_backend.solve import newton_dense
from simulated_backend.solve.kirchhoff import Problem, State
from simulated_backend.solve.operating_point import make_problem

_FRACTION = 0.05
"""Default step as a fraction of the shortest time constant: errors of about 1e-4."""


@dataclass(frozen=True, slots=True)
class Transient:
    """Samples at ``times`` (m,): voltage and terminal_current (m, batch, n_nodes); the states at the last of them."""

    times: FloatArray
    voltage: FloatArray
    terminal_current: FloatArray
    state: State


def relax(
    network: Network,
    voltage: ArrayLike,
    clamped: ArrayLike,
    times: ArrayLike,
    *,
    pressure: ArrayLike | None = None,
    concentration: ArrayLike | None = None,
    injected: ArrayLike | None = None,
    shunt: ArrayLike | None = None,
    state: State | None = None,
    start: ArrayLike | None = None,
    max_step: float | None = None,
    order: int = 2,
) -> Transient:
    """Let the network run under constant drives from time 0 and sample it at ``times`` (s, rising, 0 allowed).

    Drives as in ``solve_operating_point`` with one batch axis at the most. ``state``: device states at time 0 (default: at
    rest); ``start``: node voltages at time 0 of nodes with a capacitance (default 0 V), (n_nodes,) or (batch, n_nodes). A
    source with resistance R is a shunt 1/R and an injected current V/R. ``order`` 1 leaves the midpoint out (for checks).
    Raises CapabilityError for laws that integrate a rate, NotConvergedError where Kirchhoff finds no balance.
    """
    for group in network.groups:
        if group.law.kind is StateKind.RATE:
            raise CapabilityError(f"law {group.law.name!r} integrates a rate; this solver only lets devices relax")
    samples = np.atleast_1d(np.asarray(times, dtype=np.float64))
    if samples.ndim != 1 or not np.all(np.isfinite(samples)) or samples[0] < 0.0 or np.any(np.diff(samples) < 0.0):
        raise ConfigError("the times of a relaxation must be finite, not negative, and rise")
    if order not in (1, 2):
        raise ConfigError(f"the order of a relaxation is 1 or 2, not {order}")
    problem, _ = make_problem(
        network, voltage, clamped, pressure=pressure, concentration=concentration, injected=injected, shunt=shunt, state=state
    )
    run = _Run(problem, order)
    run.begin(start)
    largest = run.shortest_time() * _FRACTION if max_step is None else max_step
    if not largest > 0.0:
        raise ConfigError(f"the largest step of a relaxation must be above 0 s, not {largest}")
    voltages, currents, now = [], [], 0.0
    for sample in samples:
        count = max(1, ceil((sample - now) / largest * (1.0 - 1e-12))) if sample > now else 0
        step = (sample - now) / count if count else 0.0
        for _ in range(count):
            run.step(step)
        now = float(sample)
        voltages.append(run.voltage)
        currents.append(run.terminal_current())
    return Transient(samples, np.stack(voltages), np.stack(currents), run.problem.state or ())


class _Run:
    """State and voltages of one relaxation."""

    def __init__(self, problem: Problem, order: int) -> None:
        self.order = order
        self.capacitance = problem.network.node_array("capacitance") * ~problem.clamped
        self.dynamic: BoolArray = self.capacitance > 0.0
        if problem.state is None:
            drives = problem.drives(np.zeros_like(problem.voltage))
            rest = tuple(
                group.law.initial_state(group.parameters, drive)
                for group, drive in zip(problem.network.groups, drives, strict=True)
            )
            problem = replace(problem, state=rest)
        self.problem = problem
        self.voltage: FloatArray = problem.voltage

    def begin(self, start: ArrayLike | None) -> None:
        known = np.zeros_like(self.voltage) if start is None else np.asarray(start, dtype=np.float64)
        self.voltage = self._balanced(self.problem, np.where(self.problem.clamped, self.problem.voltage, known))

    def shortest_time(self) -> float:
        shortest = [
            float(np.min(group.law.time_constant(group.parameters, drive)))
            for group, drive in zip(self.problem.network.groups, self.problem.drives(self.voltage), strict=True)
            if group.law.kind is StateKind.RELAXATION
        ]
        if self.dynamic.any():
            _, slope = self.problem.edges(self.voltage)
            total = np.max(self.problem.node_conductance(slope), axis=0)
            slowest = float(np.max(self.capacitance[self.dynamic] / total[self.dynamic]))
            shortest.append(slowest)
        return min(shortest, default=np.inf)

    def terminal_current(self) -> FloatArray:
        current, _ = self.problem.edges(self.voltage)
        return np.where(self.problem.clamped, self.problem.leaving(current, self.voltage), 0.0)

    def step(self, h: float) -> None:
        if self.order == 1:
            self.problem = replace(self.problem, state=self._carried(self.voltage, h))
            self.voltage = self._charged(self.problem, h)
            return
        middle = replace(self.problem, state=self._carried(self.voltage, 0.5 * h))
        new = self._charged(middle, h)
        between = self._balanced(middle, 0.5 * (self.voltage + new))
        self.problem = replace(self.problem, state=self._carried(between, h))
        self.voltage = self._balanced(self.problem, new)

    def _carried(self, voltage: FloatArray, h: float) -> State:
        """States after ``h`` under the voltages given: exact where these are constant."""
        out = []
        groups, drives = self.problem.network.groups, self.problem.drives(voltage)
        for group, drive, old in zip(groups, drives, self.problem.state or (), strict=True):
            if group.law.kind is not StateKind.RELAXATION:
                out.append(old)
                continue
            goal = group.law.steady_state(group.parameters, drive)
            out.append(goal + (old - goal) * np.exp(-h / group.law.time_constant(group.parameters, drive)))
        return tuple(out)

    def _balanced(self, problem: Problem, voltage: FloatArray) -> FloatArray:
        """Voltages with the capacitive nodes held where they are."""
        fixed = problem.clamped | self.dynamic
        return self._solved(replace(problem, clamped=fixed, voltage=np.where(fixed, voltage, 0.0)), voltage)

    def _charged(self, problem: Problem, h: float) -> FloatArray:
        """Voltages after ``h`` with the states of ``problem``: TR-BDF2, γ = 2 − √2."""
        if not self.dynamic.any():
            return self._solved(problem, self.voltage)
        gamma = 2.0 - sqrt(2.0)
        companion = 2.0 * self.capacitance / (gamma * h)
        loaded = replace(problem, shunt=problem.shunt + companion)
        before = self._balanced(problem, self.voltage)
        current, _ = problem.edges(before)
        # at nodes without a capacitance the balance is kept at every stage, not integrated
        push = np.where(self.dynamic, problem.leaving(current, before), 0.0)
        stage = self._solved(replace(loaded, injected=problem.injected + companion * before - push), before)
        past = (stage - (1.0 - gamma) ** 2 * before) / (gamma * (2.0 - gamma))
        return self._solved(replace(loaded, injected=problem.injected + companion * past), stage)

    @staticmethod
    def _solved(problem: Problem, guess: FloatArray) -> FloatArray:
        solution = newton_dense.newton(problem, guess)
        if not solution.converged.all():
            raise NotConvergedError(
                "the relaxation found no balance of the currents at a node; a conductance is negative or zero there: reduce the "
                "drive, or switch the floor of the law on"
            )
        return solution.voltage
