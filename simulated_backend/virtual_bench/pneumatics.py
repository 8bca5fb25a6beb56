"""Pressure outlets: a commanded ramp, followed with the lag of the tubing, with the unrest of a real controller."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import exp, inf

import numpy as np

from simulated_backend.virtual_bench.faults import OutputStage

AT_REST = 1e-4
"""Pa: closer than this to its target (a millionth of a millibar) a pressure counts as arrived."""
TICKS_PER_CORRELATION = 4
"""How often per correlation time the controller's unrest takes a new value."""
MEMORY = 12
"""Correlation times after which the unrest has forgotten its past: nothing before them is simulated in a long wait."""


@dataclass(slots=True)
class _Unrest:
    """A first-order Markov sequence: standard deviation Pa, seconds between values, correlation of neighbours."""

    deviation: float
    tick: float
    keep: float
    value: float = 0.0
    until: float = 0.0


class Outlet:
    """One outlet, implementing ``ports.PressurePort``.

    The controller's internal set-point moves to the target at the commanded slew; the pressure at the node follows it with
    one time constant: dP/dt = (r + unrest - P) / lag, integrated exactly for a set-point that moves linearly.
    """

    def __init__(
        self, pressure: float, atmosphere: float, lag: float, arrive: Callable[[], float], rng: np.random.Generator
    ) -> None:
        self.true = pressure
        self.head = 0.0
        """Pa that the column of liquid between the outlet and its node adds."""
        self.target: float | None = None
        self.slew = inf
        self.since = time.monotonic()
        """s of the machine's clock: when the message that told it something new last was taken up."""
        self.stage = OutputStage()
        self._ramp = pressure
        self._shut = True
        self._atmosphere = atmosphere
        self._lag = lag
        self._arrive = arrive
        self._rng = rng
        self._unrest: _Unrest | None = None

    # What an emulator does -----------------------------------------------------------------------------------------

    def set_target(self, pascal: float | None, slew: float) -> None:
        """Control towards ``pascal`` (absolute) at ``slew`` Pa/s; None: vent."""
        if not slew > 0.0:
            raise ValueError(f"a slew must be above 0 Pa/s, not {slew}")
        taken_up = self._arrive()
        if self._shut or self.target is None:
            self._ramp = self.true
        told = (pascal if pascal is None else self.stage.delivered(pascal), slew, False)
        if told != (self.target, self.slew, self._shut):
            self.since = taken_up
        self.target, self.slew, self._shut = told

    def hold(self) -> None:
        """Shut the valves: the pressure stays where it is."""
        taken_up = self._arrive()
        if not self._shut:
            self.since = taken_up
        self._shut = True

    def set_stability(self, deviation: float, correlation_time: float) -> None:
        """Standard deviation (Pa) of the controlled pressure about its target, and its correlation time (s)."""
        self._arrive()
        if deviation <= 0.0:
            self._unrest = None
            return
        self._unrest = _Unrest(deviation, correlation_time / TICKS_PER_CORRELATION, exp(-1.0 / TICKS_PER_CORRELATION))

    def pressure(self) -> float:
        """True pressure now, Pa."""
        self._arrive()
        return self.true

    def divert(self, pascal: float) -> None:
        """The controller of a broken stage goes elsewhere, while it controls."""
        if not self._shut and self.target is not None:
            self._arrive()
            self.target = pascal

    def renew(self) -> None:
        """Atmospheric pressure, valves shut, in order."""
        self._arrive()
        self.stage = OutputStage()
        self.true = self._ramp = self._atmosphere
        self.target, self.slew, self._shut = None, inf, True

    @property
    def state(self) -> str:
        """``control``, ``vent`` or ``shut``."""
        if self._shut:
            return "shut"
        return "vent" if self.target is None else "control"

    # What the plant does -------------------------------------------------------------------------------------------

    @property
    def _goal(self) -> float:
        return self._atmosphere if self.target is None else self.target

    @property
    def _unrest_acts(self) -> bool:
        return self._unrest is not None and not self._shut and self.target is not None

    def moving(self) -> bool:
        """Whether the pressure changes at present."""
        if self._shut:
            return False
        return self._unrest_acts or self.true != self._goal

    def next_kink(self) -> float:
        """Seconds until the set-point reaches its target or the unrest takes a new value (inf: nothing to come)."""
        if self._shut:
            return inf
        kink = inf
        distance = abs(self._goal - self._ramp)
        if self.target is not None and distance > 0.0 and self.slew < inf:
            kink = distance / self.slew
        if self._unrest_acts and self._unrest is not None:
            kink = min(kink, max(self._unrest.until, 1e-9))
        return kink

    def after(self, seconds: float) -> float:
        """The pressure ``seconds`` from now (not beyond the next kink), without going there."""
        return self._peek(seconds)[0]

    def doze(self, seconds: float) -> None:
        """Nobody looks for ``seconds``: the unrest keeps its value until shortly before the end, for speed."""
        unrest = self._unrest
        if unrest is not None and self._unrest_acts:
            unrest.until = max(unrest.until, seconds - MEMORY * TICKS_PER_CORRELATION * unrest.tick)

    def _peek(self, seconds: float) -> tuple[float, float]:
        if self._shut:
            return self.true, self._ramp
        goal = self._goal
        distance = goal - self._ramp
        rate = 0.0
        if self.target is None or self.slew == inf:
            ramp_start = ramp_end = goal
        else:
            travel = min(abs(distance), self.slew * seconds)
            ramp_start = self._ramp
            ramp_end = goal if travel == abs(distance) else ramp_start + (travel if distance > 0 else -travel)
            rate = (ramp_end - ramp_start) / seconds if seconds > 0.0 else 0.0
        unrest = self._unrest.value if self._unrest is not None and self._unrest_acts else 0.0
        lagging = rate * self._lag
        pressure = ramp_end + unrest - lagging + (self.true - ramp_start - unrest + lagging) * exp(-seconds / self._lag)
        if rate == 0.0 and unrest == 0.0 and abs(pressure - goal) < AT_REST:
            pressure = goal
        return pressure, ramp_end

    def step(self, seconds: float) -> None:
        """Let ``seconds`` pass, not beyond the next kink."""
        self.true, self._ramp = self._peek(seconds)
        unrest = self._unrest
        if unrest is not None and self._unrest_acts:
            unrest.until -= seconds
            if unrest.until <= 1e-9:
                fresh = unrest.deviation * (1.0 - unrest.keep**2) ** 0.5
                unrest.value = unrest.keep * unrest.value + fresh * float(self._rng.standard_normal())
                unrest.until = unrest.tick
