"""The memory of the network's devices on the virtual bench: states that relax or that integrate a rate, group by group.

Relaxing states go by the formula of ``circuit``. Rates, ds/dt = f(v, s), are taken at the mean of what drives the device at
the two ends of a step, with the own derivative J = df/ds of every state in the exponent: s1 = s0 + h phi(hJ) f, phi(z) =
(e^z - 1)/z (exponential Rosenbrock-Euler method: Hochbruck and Ostermann, Acta Numerica 19, 209 (2010), eq. (3.5)). That is
exact for a flux that decays under a constant voltage, of second order otherwise, and bounded for steps of any length.
Undriven devices take the exact decay that their law knows.
"""

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.devices.base import EdgeDrive, StateKind
from simulated_backend.network import Group, Network

STATE_CHANGE = 0.05
"""Largest relative move within one step: of a goal that states follow, of a current through the device's own state."""
_RATE_ERROR = 1e-5
"""Largest relative error of a state in one step."""
_MOST_GROWTH = 50.0


class Memory:
    """States of one group of edges, their goals and time constants, (n_states, k); ``new_*`` belong to the step being tried."""

    def __init__(self, group: Group, network: Network) -> None:
        self.law = group.law
        self.parameters = group.parameters
        self.edges = group.edges
        self.base = network.base[group.edges]
        self.tip = network.tip[group.edges]
        self.parallel = network.parallel[group.edges]
        self.relaxes = group.law.kind is StateKind.RELAXATION
        self.integrates = group.law.kind is StateKind.RATE
        self.state: FloatArray = np.empty((0, len(group.edges)))
        self.goal = self.state
        self.tau = self.state
        self.new_state = self.state
        self.new_goal = self.state
        self.following: FloatArray = np.zeros(len(group.edges))
        """How much the current's slope grows (S) once the states follow the voltage; kept until Newton needs it fresh."""
        self._error = 0.0
        self._peak: FloatArray = self.state

    def drive(self, voltage: FloatArray, pressure: FloatArray, concentration: FloatArray) -> EdgeDrive:
        """What drives the group's edges at these node values."""
        base, tip = self.base, self.tip
        return EdgeDrive(voltage[base] - voltage[tip], pressure[base] - pressure[tip], concentration[base], concentration[tip])

    def begin(self, drive: EdgeDrive) -> None:
        """The states before anything was applied."""
        self.state = self.law.initial_state(self.parameters, drive)
        self._peak = np.abs(self.state)

    def aim(self, drive: EdgeDrive) -> None:
        """Where relaxing states go."""
        if self.relaxes:
            self.goal = self.law.steady_state(self.parameters, drive)
            slope = self.law.steady(self.parameters, drive)[1]
            self.following = slope - self.law.conductance(self.parameters, drive, self.goal)

    def pace(self, drive: EdgeDrive) -> FloatArray:
        """Time constants of relaxing states, s, (n_states, k); the goals are known."""
        if self.relaxes:
            self.tau = np.broadcast_to(self.law.time_constant(self.parameters, drive), self.goal.shape)
        return self.tau

    def through(self, drive: EdgeDrive, before: EdgeDrive, h: float, fresh: bool) -> tuple[FloatArray, FloatArray]:
        """Current and slope of every edge at the end of a step of ``h`` that begins at ``before`` and ends at ``drive``.

        0: states held; inf: relaxing states relaxed, all others held.
        """
        law, p = self.law, self.parameters
        if h == 0.0 or not (self.relaxes or self.integrates) or (self.integrates and h == np.inf):
            return law.current(p, drive, self.state), law.conductance(p, drive, self.state)
        if self.integrates:
            self._carry(drive, before, h)
            return law.current(p, drive, self.new_state), law.conductance(p, drive, self.new_state)
        if h == np.inf:
            return law.steady(p, drive)
        z = h / self.tau
        decay = np.exp(-z)
        share = -np.expm1(-z) / z
        self.new_goal = law.steady_state(p, drive)
        self.new_state = decay * self.state + (share - decay) * self.goal + (1.0 - share) * self.new_goal
        if fresh:
            self.following = law.steady(p, drive)[1] - law.conductance(p, drive, self.new_goal)
        slope = law.conductance(p, drive, self.new_state) + np.mean(1.0 - share, axis=0) * self.following
        return law.current(p, drive, self.new_state), slope

    def too_fast(self, drive: EdgeDrive, h: float) -> bool:
        """Whether a step of ``h`` under constant ``drive`` would certainly be refused: no need to solve the network."""
        if not self.integrates:
            return False
        self._carry(drive, drive, h)
        return self.moved(drive) > 8.0 * STATE_CHANGE

    def moved(self, drive: EdgeDrive) -> float:
        """How far the step being tried went, to be compared with ``STATE_CHANGE``; ``drive`` at its end."""
        if self.relaxes:
            scale = np.maximum(np.abs(self.new_goal), np.abs(self.state))
            moved = np.abs(self.new_goal - self.goal) / np.where(scale > 0.0, scale, 1.0)
            return float(np.max(moved, initial=0.0))
        if not self.integrates:
            return 0.0
        before = self.law.current(self.parameters, drive, self.state)
        after = self.law.current(self.parameters, drive, self.new_state)
        scale = np.maximum(np.abs(before), np.abs(after))
        changed = np.abs(after - before) / np.where(scale > 0.0, scale, 1.0)
        return max(float(np.max(changed, initial=0.0)), STATE_CHANGE * self._error / _RATE_ERROR)

    def accept(self) -> None:
        """The step being tried is taken."""
        if self.relaxes or self.integrates:
            self.state, self.goal = self.new_state, self.new_goal
        if self.integrates:
            self._peak = np.maximum(self._peak, np.abs(self.state))

    def left(self, drive: EdgeDrive) -> float:
        """Relative change still to come at constant ``drive`` after the step just tried; infinite where no end is in sight."""
        if self.relaxes:
            scale = np.maximum(np.abs(self.new_goal), 1e-12)
            return float(np.max(np.abs(self.new_state - self.new_goal) / scale, initial=0.0))
        if not self.integrates:
            return 0.0
        rate = self.law.state_rate(self.parameters, drive, self.new_state)
        own = self._derivative(drive, self.new_state, rate, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            change = np.where(own < 0.0, np.abs(rate / own), np.inf) / np.maximum(self._peak, np.abs(self.new_state))
        return float(np.max(np.where(rate == 0.0, 0.0, change), initial=0.0))

    def drifts(self, drive: EdgeDrive) -> bool:
        """Whether states change under ``drive`` although nothing relaxes any more."""
        return self.integrates and bool(np.any(self.law.state_rate(self.parameters, drive, self.state)))

    def _carry(self, drive: EdgeDrive, before: EdgeDrive, h: float) -> None:
        law, p, state = self.law, self.parameters, self.state
        mean = EdgeDrive(
            0.5 * (before.voltage + drive.voltage),
            0.5 * (before.pressure_difference + drive.pressure_difference),
            0.5 * (before.concentration_base + drive.concentration_base),
            0.5 * (before.concentration_tip + drive.concentration_tip),
        )
        rate = law.state_rate(p, mean, state)
        own = self._derivative(mean, state, rate, h)
        z = np.minimum(h * own, _MOST_GROWTH)
        small = np.abs(z) < 1e-8
        share = np.where(small, 1.0 + 0.5 * z, np.expm1(z) / np.where(small, 1.0, z))
        reached = state + h * share * rate
        new = law.clip(p, reached)
        nonlinear = law.state_rate(p, mean, new) - rate - own * (new - state)
        error = 0.5 * h * np.abs(nonlinear) / np.maximum(np.maximum(np.abs(state), np.abs(new)), 1e-300)
        # A state stopped by its bound is where it belongs, however wrong the way there.
        error = np.where(new == reached, error, 0.0)
        idle = (drive.voltage == 0.0) & (before.voltage == 0.0)
        decayed = law.decay(p, state, h) if idle.any() else None
        if decayed is not None:
            new, error = np.where(idle, decayed, new), np.where(idle, 0.0, error)
        self.new_state, self._error = new, float(np.max(error, initial=0.0))

    def _derivative(self, drive: EdgeDrive, state: FloatArray, rate: FloatArray, h: float) -> FloatArray:
        """d(rate of a state)/d(the same state), 1/s, by central differences."""
        step = np.maximum(1e-6 * np.abs(state) + 1e-9 * h * np.abs(rate), 1e-30)
        own = np.empty_like(state)
        for number in range(len(state)):
            up, down = state.copy(), state.copy()
            up[number] += step[number]
            down[number] -= step[number]
            rates = [self.law.state_rate(self.parameters, drive, one)[number] for one in (up, down)]
            own[number] = (rates[0] - rates[1]) / (2.0 * step[number])
        return own
