"""Liquid lines and valve rotors as their instruments drive them: how much has passed, computed from the clock when asked.

Nothing moves between two looks but what was ordered, so a line keeps its order (rate, begin, greatest volume) and works out
the rest; a stepped bench may let hours pass at once.
"""

import time
from collections.abc import Callable
from math import inf

from simulated_backend.virtual_bench.faults import OutputStage


class FlowLine:
    """Implements ``ports.FlowPort``. ``now`` tells the time on the plant's clock, s. A blocked line lets nothing pass.

    ``before`` is called before every order, so that what the old one did can be worked out first. ``stage``: what drives the
    liquid, in order or not; ``since``: s of the machine's clock at the last order that changed the flow.
    """

    def __init__(self, now: Callable[[], float], before: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._arrive = before
        self.stage = OutputStage()
        self.since = time.monotonic()
        self._asked = 0.0
        self._rate = 0.0
        self._most = inf
        self._begun = 0.0
        self._before = 0.0
        self._blocked = False

    def set_flow(self, rate: float, most: float = inf) -> None:
        """See ``ports.FlowPort``. ValueError for a negative ``most``."""
        if not most >= 0.0:
            raise ValueError(f"the greatest volume must be 0 m^3 or more, not {most}")
        taken_up = self._arrive()
        self._before = self.delivered()
        self._begun = self._now()
        delivered = self.stage.delivered(rate) if rate != 0.0 else 0.0
        if delivered != self._rate:
            self.since = taken_up
        self._asked, self._rate, self._most = rate, delivered, most

    def break_stage(self, stage: OutputStage) -> None:
        """What drives the liquid breaks, or is mended, in the middle of an order."""
        self.stage = stage
        self.set_flow(self._asked, self._most - abs(self._passed()))

    def flow(self) -> float:
        """True flow now, m^3/s."""
        return 0.0 if self._blocked or abs(self._passed()) >= self._most else self._rate

    def delivered(self) -> float:
        """Net volume since the bench was switched on, m^3."""
        return self._before + self._passed()

    def block(self, blocked: bool) -> None:
        """Clog the line (a fault), or clear it again."""
        if blocked == self._blocked:
            return
        self._arrive()
        passed = self._passed()
        self._before, self._begun = self._before + passed, self._now()
        self._most -= abs(passed)
        self._blocked = blocked

    def volume_at(self, time: float) -> float:
        """Net volume by ``time`` s, if nobody gives another order until then; not before the last order, m^3."""
        return self._before + self._passed(time)

    def ends_at(self) -> float:
        """When the flow that is under way ends by itself, s; inf where none does."""
        if self._blocked or self._rate == 0.0 or abs(self._passed()) >= self._most:
            return inf
        return self._begun + self._most / abs(self._rate)

    def _passed(self, time: float | None = None) -> float:
        if self._blocked:
            return 0.0
        passed = self._rate * max((self._now() if time is None else time) - self._begun, 0.0)
        return passed if abs(passed) < self._most else (self._most if passed > 0.0 else -self._most)


class Rotor:
    """Implements ``ports.ValvePort``; it begins at position 1. One that is ``stuck`` stays where it is, whatever is ordered."""

    def __init__(self, now: Callable[[], float], before: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._arrive = before
        self._position = self._ordered = 1
        self._arrives = 0.0
        self.stuck = False

    def set_position(self, position: int, travel: float) -> None:
        """See ``ports.ValvePort``."""
        self._arrive()
        self._ordered = position
        if not self.stuck:
            self._position, self._arrives = position, self._now() + travel

    def turn(self, position: int) -> None:
        """By hand."""
        self._arrive()
        self._position, self._arrives = position, self._now()

    def free(self) -> None:
        """It turns again, and stands where it was told to."""
        self.stuck = False
        self.turn(self._ordered)

    def position(self) -> int | None:
        """Where it is; None while it turns."""
        return self.position_at(self._now())

    def position_at(self, time: float) -> int | None:
        """Where it is at ``time`` s, if nobody turns it until then."""
        return self._position if time >= self._arrives else None

    def arrives_at(self) -> float:
        """When the last turn ends or ended, s."""
        return self._arrives


class FlowLines:
    """All lines and rotors of a plant, by instrument and port."""

    def __init__(self, now: Callable[[], float], before: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._arrive = before
        self.lines: dict[tuple[str, str], FlowLine] = {}
        self.rotors: dict[tuple[str, str], Rotor] = {}

    def flow(self, instrument: str, port: str) -> FlowLine:
        """The line ``port`` of ``instrument``; the same object every time."""
        return self.lines.setdefault((instrument, port), FlowLine(self._now, self._arrive))

    def valve(self, instrument: str, port: str) -> Rotor:
        """The rotor ``port`` of ``instrument``; the same object every time."""
        return self.rotors.setdefault((instrument, port), Rotor(self._now, self._arrive))

    def facts(self) -> dict[str, dict[str, dict[str, object]]]:
        """Everything now, by instrument and port: true flow (m^3/s), net volume (m^3), since; or position (None: it turns)."""
        found: dict[str, dict[str, dict[str, object]]] = {}
        for (instrument, port), line in self.lines.items():
            facts: dict[str, object] = {"flow": line.flow(), "delivered": line.delivered(), "since": line.since}
            found.setdefault(instrument, {})[port] = facts
        for (instrument, port), rotor in self.rotors.items():
            found.setdefault(instrument, {})[port] = {"position": rotor.position()}
        return found

    def harm(self, fault: str, instrument: str, where: str, amount: float) -> None:
        """Clog, freeze or shift a line; jam a rotor, or turn it to position ``amount``. ValueError where there is none."""
        line, rotor = self.lines.get((instrument, where)), self.rotors.get((instrument, where))
        if fault == "turned" and rotor is not None:
            rotor.turn(round(amount))
        elif fault == "stuck" and rotor is not None:
            rotor.stuck = True
        elif fault == "clog" and line is not None:
            line.block(True)
        elif fault == "stuck" and line is not None:
            line.break_stage(OutputStage(frozen=line.flow()))
        elif fault == "drift" and line is not None:
            line.break_stage(OutputStage(drift=amount))
        else:
            raise ValueError(f"{instrument!r} has no liquid line or rotor {where!r} that {fault!r} could befall")

    def mend(self) -> None:
        """Every line open and driven as it is told, every rotor free and where it was told to be."""
        for line in self.lines.values():
            line.block(False)
            line.break_stage(OutputStage())
        for rotor in self.rotors.values():
            rotor.free()
