"""The way to the safe state: voltages first, then pressures, every channel tried whatever the others do.

A pressure never moves alone while it has an edge in common with another: all linked pressures go to one value (or each to
the level that is its safe state) together, then vent, so that the difference across an edge stays within its limit on the way
down, too. Replicas are networks of their own, which have no edge in common. Terminals that are disconnected leave before the
others move, because nothing can differ from them afterwards. Voltages whose difference is limited come down in steps together:
an instrument that fails on the way is tried again before the others take the next step, but it does not keep them on.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import inf, isfinite
from typing import TypeVar

import numpy as np

from hil.core.clock import Clock
from hil.core.errors import InstrumentError, LimitExceededError
from hil.core.hydrostatics import ATMOSPHERE
from hil.core.safety import SafetyEnvelope
from hil.core.types import FloatArray, Quantity, SafeAction
from instruments.coupled import emergency_slew, linked, meeting
from instruments.roles import OVERFLOW, PressurePort
from instruments.terminals import Drive, Movers, Output

T = TypeVar("T")
ATTEMPTS = 3
"""How often an output is told to leave before the others go on without it."""
_MOVING = (SafeAction.VENT, SafeAction.LEVEL)
HALF = 0.5 * ATMOSPHERE  # Pa; a bench whose pressures rest below it counts gauge pressures, and vents to 0


class WayHome:
    """Brings drives to their safe states. ``period``: time between the points of a ramp, s.

    ``order``: positions of controls in groups as they ramp up; the way home takes them in reverse. Without one, everything but
    pressures comes first. ``reached``: whether the last way home ended where it should.
    """

    def __init__(
        self,
        envelope: SafetyEnvelope,
        clock: Clock,
        movers: Movers,
        period: float,
        order: Sequence[Sequence[int]] = (),
    ) -> None:
        self._envelope = envelope
        self._clock = clock
        self._movers = movers
        self._period = period
        self._order = [{envelope.layout.names[position] for position in group} for group in reversed(order)]
        self.reached = True

    def go(self, drives: Sequence[Drive]) -> None:
        """Reach the safe state of every drive that was touched; raises one InstrumentError with all problems at the end."""
        self.reached = False
        problems: list[str] = []
        touched = [drive for drive in drives if drive.touched]
        # An instrument that has just failed costs its whole time-out: the others go first.
        touched.sort(key=lambda drive: bool(drive.instrument.session.failed))
        for group in self._order or [set(self._envelope.layout.names)]:
            members = [drive for drive in touched if drive.channel.name in group]
            pressures = [drive for drive in members if drive.plan.quantity is Quantity.PRESSURE]
            others = [drive for drive in members if drive.plan.quantity is not Quantity.PRESSURE]
            first = [drive for drive in others if self._disconnects(drive, others)]
            last = [drive for drive in others if drive not in first]
            for drive in first:
                self._leave(drive, problems)
            on_the_way: list[str] = []
            self._ramp_down([drive for drive in last if drive.output is Output.ON], on_the_way)
            for drive in last:
                self._leave(drive, problems)
            if any(drive.output is Output.ON for drive in others):
                # Trouble on the way down does not matter where the output has been seen to be off in the end.
                problems += [problem for problem in on_the_way if problem not in problems]
            self._release(pressures, problems)
        if problems:
            raise InstrumentError("the safe state was not reached everywhere: " + "; ".join(problems))
        self.reached = True

    def nearest_to_zero(self, drive: Drive, beside: Sequence[Drive]) -> float:
        """Where ``drive`` may begin: the level nearest to 0 whose difference from those ``beside`` it that are on is allowed."""
        low, high = -inf, inf
        others = [other for other in beside if other.replica == drive.replica and other is not drive]
        levels = {other.channel.name: other.level for other in others if other.output is Output.ON}
        for limit in self._envelope.edges:
            ends = {limit.plus, limit.minus} - {drive.channel.name}
            partner = next(iter(ends)) if len(ends) == 1 else None
            if partner in levels and isfinite(limit.maximum):
                low, high = max(low, levels[partner] - limit.maximum), min(high, levels[partner] + limit.maximum)
        begin = min(max(0.0, low), high)
        if low > high or (begin != 0.0 and not drive.channel.minimum <= begin <= drive.channel.maximum):
            raise LimitExceededError(
                f"control {drive.channel.name!r} cannot be switched on: its neighbours stand so high that every value would "
                "exceed an edge limit or its own; bring them nearer to it first"
            )
        return begin

    # -- voltages -----------------------------------------------------------------------------------------------

    def _ramp_down(self, drives: Sequence[Drive], problems: list[str]) -> None:
        level = [drive for drive in drives if drive.channel.safe.action is SafeAction.LEVEL and isfinite(drive.level)]
        if not level:
            return
        # Who has the longest way takes every step first: on the way to one level that narrows a difference, never widens it.
        level.sort(key=lambda drive: (bool(drive.instrument.session.failed), -abs(drive.channel.safe.value - drive.level)))
        change = np.array([drive.channel.safe.value - drive.level for drive in level])
        slews = np.array([_emergency_slew(drive) for drive in level])
        with np.errstate(invalid="ignore", divide="ignore"):
            count = int(np.ceil(np.max(np.abs(change) / (slews * self._period))))
        start = np.array([drive.level for drive in level])
        count = max(count, self._fewest_steps(level, start, start + change))
        alive = dict(self._per_instrument(level))
        attempts = [ATTEMPTS if self._tied(drive, level) else 1 for drive in level]
        for step in range(1, count + 1):
            if count > 1 and alive:
                self._clock.sleep(self._period)  # first, because the last write may have been a moment ago
            points = start + change * (step / count)
            for key, (write, positions) in tuple(alive.items()):
                told = partial(write, [float(points[k]) for k in positions])
                if insist(told, problems, max(attempts[k] for k in positions)) is None:
                    del alive[key]

    def _tied(self, drive: Drive, others: Sequence[Drive]) -> bool:
        """Whether the difference between ``drive`` and one of ``others`` that is on is limited."""
        beside = {
            other.channel.name
            for other in others
            if other is not drive and other.replica == drive.replica and other.output is Output.ON
        }
        ends = [{limit.plus, limit.minus} for limit in self._envelope.edges if isfinite(limit.maximum)]
        return any(drive.channel.name in pair and pair & beside for pair in ends)

    def _disconnects(self, drive: Drive, others: Sequence[Drive]) -> bool:
        """Whether its safe state leaves the terminal to itself before ``others`` move.

        An instrument that has just failed would hold them up: they wait for it only where their difference is limited.
        """
        if drive.channel.safe.action is not SafeAction.HIGH_IMPEDANCE:
            return False
        return not drive.instrument.session.failed or self._tied(drive, others)

    def _fewest_steps(self, drives: Sequence[Drive], start: FloatArray, stop: FloatArray) -> int:
        places = {name: place for place, name in enumerate(self._envelope.layout.names)}
        fewest = 1
        for replica in {drive.replica for drive in drives}:
            members = [k for k, drive in enumerate(drives) if drive.replica == replica]
            ends = np.full((2, len(places)), np.nan)
            where = [places[drives[k].channel.name] for k in members]
            ends[0, where], ends[1, where] = start[members], stop[members]
            fewest = max(fewest, self._envelope.fewest_steps(ends[0], ends[1]))
        return fewest

    def _per_instrument(self, drives: Sequence[Drive]) -> list[tuple[int, tuple[Callable[[Sequence[float]], None], list[int]]]]:
        return list(enumerate(self._movers.writers(drives)))

    def _leave(self, drive: Drive, problems: list[str]) -> None:
        safe = drive.channel.safe
        if safe.action is SafeAction.NONE or (safe.action is SafeAction.LEVEL and safe.value != 0.0):
            drive.level = safe.value if safe.action is SafeAction.LEVEL else drive.level
            return
        if insist(lambda: drive.port.disable(safe.action), problems) is not None:
            drive.output = Output.OFF
            drive.level = 0.0

    # -- pressures ----------------------------------------------------------------------------------------------

    def _release(self, drives: Sequence[Drive], problems: list[str]) -> None:
        silent: list[Drive] = []
        for drive in drives:
            now = insist(partial(_pressure_now, drive), problems)
            if now is None:
                silent.append(drive)
            else:
                drive.level = now
        answering = [drive for drive in drives if drive not in silent]
        leaving = [drive for drive in answering if drive.channel.safe.action in _MOVING and drive.output is Output.ON]
        on_the_way: list[str] = []
        pairs = [(edge.plus, edge.minus) for edge in self._envelope.edges if edge.minus is not None]
        there = {(drive.replica, drive.channel.name): drive for drive in leaving}
        replicas = dict.fromkeys(drive.replica for drive in leaving)
        for group in linked(list(there), [((one, plus), (one, minus)) for one in replicas for plus, minus in pairs]):
            members = [there[key] for key in group]
            if len(members) > 1:
                silent += self._meet(members, on_the_way)
        for drive in sorted(answering, key=lambda one: one in silent):
            if not self._settle_pressure(drive, silent, problems):
                silent.append(drive)  # whoever comes after it finds it where it is
        if any(drive.output is Output.ON for drive in leaving if drive.channel.safe.action is SafeAction.VENT):
            problems += [problem for problem in on_the_way if problem not in problems]

    def _meet(self, drives: Sequence[Drive], problems: list[str]) -> list[Drive]:
        """Linked pressures go together, on their own slews, to one value inside everybody's limits. Returns who did not."""
        courses, duration = meeting(
            [drive.level for drive in drives],
            [_span(drive) for drive in drives],
            [drive.channel.safe.value for drive in drives],
            [emergency_slew(drive.channel.emergency_slew, drive.channel.max_slew) for drive in drives],
        )
        failed = {
            drive
            for drive, course in zip(drives, courses, strict=True)
            if attempt(partial(_pressure(drive).set_slew, course.slew), problems) is None
        }
        # One set-point is enough for controllers that slew by themselves; others are led, and everybody in step with them.
        led = any(not getattr(drive.port, "holds_slew", True) for drive in drives)
        steps = max(1, int(np.ceil(duration / self._period))) if led else 1
        # Who did not take its slew is sent nowhere: it would go at another one, perhaps in another unit. Nobody leaves it behind.
        for _ in drives:
            failed |= {
                drive
                for drive, course in zip(drives, courses, strict=True)
                if any(self._apart(drive, course.goal, other) for other in failed if other is not drive)
            }
        slewing = [k for k, drive in enumerate(drives) if drive not in failed]
        writers = self._movers.writers([drives[k] for k in slewing])
        for step in range(1, steps + 1):
            if led and duration > 0.0:
                self._clock.sleep(duration / steps)
            points = [course.start + (course.goal - course.start) * step / steps for course in courses]
            for write, positions in writers:
                places = [slewing[position] for position in positions]
                if attempt(partial(write, [points[k] for k in places]), problems) is None:
                    failed |= {drives[k] for k in places}
        for drive, course in zip(drives, courses, strict=True):
            if drive not in failed:
                drive.level = course.goal
        going = [drive for drive in drives if drive not in failed]
        if going and duration > 0.0:
            self._clock.sleep(0.0 if led else duration)
            self._wait_for(going, self._clock.now() + 5.0)
        return [drive for drive in drives if drive in failed]

    def _wait_for(self, drives: Sequence[Drive], deadline: float) -> None:
        def reached() -> bool:
            return all(c.in_limits for look, _ in self._movers.lookers(drives) for c in look())

        while self._clock.now() < deadline:
            if attempt(reached, []) is not False:
                return
            self._clock.sleep(max(self._period, 0.05))

    def _settle_pressure(self, drive: Drive, silent: Sequence[Drive], problems: list[str]) -> bool:
        """Into the safe state, by itself; False if it had to stay where it is beside one of ``silent``."""
        safe = drive.channel.safe
        if safe.action is SafeAction.NONE:
            return True
        for other in silent:
            if other is not drive and self._would_break(drive, other):
                problems.append(
                    f"{drive.channel.name!r} was not vented and holds its pressure: {other.channel.name!r} on the other side "
                    "does not answer, and the difference between them would exceed its limit"
                )
                return False
        if safe.action is SafeAction.LEVEL:
            if drive.output is Output.ON:
                self._ramp_down([drive], problems)
                # Its output stays on, so nobody configures it again before its next use.
                attempt(partial(_pressure(drive).set_slew, drive.plan.slew), problems)
        elif insist(lambda: drive.port.disable(safe.action), problems) is not None:
            drive.output = Output.OFF
        return True

    def _would_break(self, drive: Drive, silent: Drive) -> bool:
        if drive.replica != silent.replica:
            return False
        goal = drive.channel.safe.value
        if drive.channel.safe.action is not SafeAction.LEVEL:
            goal = (ATMOSPHERE if goal >= HALF else 0.0) + getattr(drive.port, "head", 0.0)
        return self._apart(drive, goal, silent)

    def _apart(self, drive: Drive, goal: float, other: Drive) -> bool:
        """Whether ``drive`` at ``goal`` would be further from where ``other`` is than an edge between them allows."""
        pair = {drive.channel.name, other.channel.name}
        return any(
            {limit.plus, limit.minus} == pair and abs(other.level - goal) > limit.maximum for limit in self._envelope.edges
        )


def insist(action: Callable[[], T], problems: list[str], attempts: int = ATTEMPTS) -> T | bool | None:
    """Like ``attempt``, several times: every time makes the link new, and what is done here may be done twice."""
    trouble: list[str] = []
    for _ in range(attempts):
        found = attempt(action, trouble)
        if found is not None:
            return found
    problems += [problem for problem in trouble if problem not in problems]
    return None


def attempt(action: Callable[[], T], problems: list[str]) -> T | bool | None:
    """Do ``action``; its result (True where it has none), or None after noting what went wrong."""
    try:
        result = action()
    except Exception as error:  # noqa: BLE001 - a driver of another package raises whatever it likes; the others go home
        text = str(error) or type(error).__name__
        if text not in problems:
            problems.append(text)
        return None
    return True if result is None else result


def _span(drive: Drive) -> tuple[float, float]:
    """Where a pressure may go on its way to the safe state: to its level, or anywhere inside its limits before it vents."""
    if drive.channel.safe.action is SafeAction.LEVEL:
        return drive.channel.safe.value, drive.channel.safe.value
    return drive.channel.minimum, drive.channel.maximum


def _pressure(drive: Drive) -> PressurePort:
    port = drive.port
    if not isinstance(port, PressurePort):
        raise InstrumentError(f"{drive.path} is no pressure controller")
    return port


def _pressure_now(drive: Drive) -> float:
    pressure = _pressure(drive).pressure_now()
    if not abs(pressure) < OVERFLOW:  # a way home from there would take for ever
        raise InstrumentError(f"{drive.path} does not say where it stands: its reading is in overflow")
    return pressure


def _emergency_slew(drive: Drive) -> float:
    return drive.channel.emergency_slew if drive.channel.emergency_slew < inf else max(drive.channel.max_slew, 0.0)
