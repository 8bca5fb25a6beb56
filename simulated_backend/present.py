"""What stands at the terminals now, and the devices as everything before has made them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hil.core.clock import Clock
from hil.core.errors import ConfigError
from hil.core.types import Channel, FloatArray, SettlePolicy, SettleReport, Stimulus
from simulated_backend import captured, states
from simulated_backend.physics import Physics, settling
from simulated_backend.solve.kirchhoff import State
from simulated_backend.timeline import Passage, one_by_one, pass_time

_TRACE_POINTS = 64
_MOST_WINDOWS = 64
"""Windows of settling that are simulated in one go."""


class Present:
    """Device states of one network, carried from stimulus to stimulus, and the moment ``at`` (s) they belong to.

    ``voltage`` (n_nodes,): charged nodes; ``values``: outputs, where they are known; ``is_steady``: nothing will move.
    """

    def __init__(self, physics: Physics, clock: Clock) -> None:
        self.physics = physics
        self._clock = clock
        self.at = clock.now()
        self.forget()

    def forget(self) -> None:
        """Devices that nothing has been applied to."""
        self.stimulus: Stimulus | None = None
        self.state: State | None = None
        self.voltage: FloatArray | None = None
        self.values: FloatArray | None = None
        self.is_steady = False

    def become(self, stimulus: Stimulus) -> None:
        """``stimulus`` stands from now on."""
        self.stimulus, self.values, self.is_steady, self.at = stimulus, None, False, self._clock.now()

    def arrive(self, state: State, voltage: FloatArray | None, values: FloatArray) -> None:
        """The devices are steady."""
        self.state, self.voltage, self.values, self.is_steady = state, voltage, values, True

    def current(self) -> Stimulus:
        """What stands; ConfigError if nothing does."""
        if self.stimulus is None:
            raise ConfigError("nothing has been applied")
        return self.stimulus

    def now(self, *, validity: bool = False) -> FloatArray:
        """Outputs with the devices as they are, (n_outputs,)."""
        if self.values is None or validity:
            (applied,) = self.physics.acting([self.current()])
            self.values = np.asarray(self.physics.instant(applied, self.state, validity=validity)[0])
        return self.values

    def advance(self, rows: Sequence[Stimulus], edges: FloatArray, duration: float, samples: FloatArray | None = None) -> Passage:
        """Let the devices feel ``rows`` from ``edges`` (s) on for ``duration`` s; the clock is the caller's business.

        Where nobody reads, parts of the network may float. Raises ConfigError for others that do, NotConvergedError.
        """
        acting = one_by_one(self.physics.acting(rows))
        if samples is None:
            acting = [self.physics.left_alone(one) for one in acting]
        state = self.state if self.state is not None else states.at_rest(self.physics.map.problem(acting[0]))
        wanted = np.empty(0) if samples is None else samples
        slow = self.physics.slow_factor
        passage = pass_time(self.physics.map, acting, edges, duration, wanted, state, self.voltage, slow_factor=slow)
        self.state, self.voltage, self.values = passage.state, passage.voltage, None
        return passage

    def catch_up(self) -> None:
        """Devices that are not steady have moved on while the clock ran."""
        now = self._clock.now()
        if self.stimulus is not None and self.state is not None and not self.is_steady:
            passed = now - self.at
            if passed > 1e-12 * abs(now):
                self.advance([self.stimulus], np.zeros(1), passed)
        self.at = now

    def flatten(self, policy: SettlePolicy) -> SettleReport:
        """Let devices that integrate rates go on until the outputs are flat, or for the dwell time."""
        stimulus, window = self.current(), policy.window
        last, elapsed, residual = self.now(validity=True), 0.0, np.inf
        changes = np.empty(0)
        if policy.dwell is not None:
            duration = min(policy.dwell, policy.timeout)
            if duration > 0.0:
                grid: FloatArray = np.linspace(max(0.0, duration - window), duration, _TRACE_POINTS)
                outputs = self.advance([stimulus], np.zeros(1), duration, grid).outputs
                last, changes = outputs[-1], policy.changes(self.physics.map.outputs, np.ptp(outputs, axis=0))
                residual = float(np.max(changes, initial=0.0))
            self.values = last
            settled = residual <= policy.tolerance and policy.dwell <= policy.timeout
            return SettleReport(settled, duration, residual, self._most(changes))
        count = 1
        while elapsed < policy.timeout * (1.0 - 1e-9):
            left = policy.timeout - elapsed
            step = min(window, left)
            count = max(1, min(count, int(left / step * (1.0 + 1e-9))))
            ends = np.asarray(step * np.arange(1, count + 1), dtype=np.float64)
            state, voltage = self.state, self.voltage
            passage = self.advance([stimulus], np.zeros(1), float(ends[-1]), ends)
            steps = policy.changes(self.physics.map.outputs, np.diff(np.vstack([last, passage.outputs]), axis=0))
            change = np.max(steps, axis=1, initial=0.0)
            flat = np.flatnonzero((change <= policy.tolerance) & (ends >= window))
            place = int(flat[0]) if flat.size else count - 1
            if place < count - 1:  # only so far: what comes later is for the next verb
                self.state, self.voltage = state, voltage
                passage = self.advance([stimulus], np.zeros(1), float(ends[place]), ends[: place + 1])
            last, residual, elapsed = passage.outputs[-1], float(change[place]), elapsed + float(ends[place])
            changes = steps[place]
            if flat.size:
                break
            count = min(2 * count, _MOST_WINDOWS)
        self.values = last
        return SettleReport(residual <= policy.tolerance, elapsed, residual, self._most(changes))

    def _most(self, changes: FloatArray) -> Channel | None:
        """The output whose change, of (n_outputs,), is the largest."""
        return self.physics.map.outputs.channels[int(np.argmax(changes))] if changes.size else None

    def relax(self, policy: SettlePolicy) -> SettleReport:
        """Go to the steady state at once, and compute how long that takes."""
        (applied,) = self.physics.acting([self.current()])
        before = self.now()
        point = self.physics.steady(applied)
        after = self.physics.map.read(point.voltage, point.terminal_current)[0]
        changes = policy.changes(self.physics.map.outputs, after - before)
        change = float(np.max(changes, initial=0.0))
        tau = float(states.slowest(self.physics.map.problem(applied), point.voltage)[0]) * self.physics.slow_factor
        elapsed, residual = settling(change, tau, policy)
        settled = elapsed <= policy.timeout and residual <= policy.tolerance
        elapsed = min(elapsed, policy.timeout)
        if settled:
            relaxed = states.relaxed(self.physics.map.problem(applied), point.voltage)
            self.arrive(relaxed, point.voltage[0].copy(), after)
        else:
            times = np.linspace(0.0, elapsed, _TRACE_POINTS + 1)
            samples = np.sort(np.append(times, max(0.0, elapsed - policy.window)))
            outputs = self.advance([self.current()], np.zeros(1), elapsed, samples).outputs
            self.values = outputs[-1]
            recent = outputs[samples >= (elapsed - policy.window) * (1.0 - 1e-12)]
            changes = policy.changes(self.physics.map.outputs, np.ptp(recent, axis=0))
            residual = float(np.max(changes, initial=0.0))
        return SettleReport(settled, elapsed, residual, self._most(changes))

    def capture(self) -> dict[str, object]:
        """JSON of everything."""
        return {
            "stimulus": captured.stimulus_out(self.stimulus),
            "state": captured.state_out(self.state),
            "voltage": captured.array_out(self.voltage),
            "values": captured.array_out(self.values),
            "steady": self.is_steady,
            "at": self.at,
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Back to what ``capture`` kept. KeyError, TypeError, ValueError for anything else."""
        self.stimulus = captured.stimulus_in(kept["stimulus"])
        self.state = captured.state_in(kept["state"])
        self.voltage = captured.array_in(kept["voltage"])
        self.values = captured.array_in(kept["values"])
        self.is_steady = bool(kept["steady"])
        self.at = float(kept["at"])
