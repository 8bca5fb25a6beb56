"""Liquid lines and valve rotors as their instruments drive them: how much has passed, computed from the clock when asked.

Nothing moves between two looks but what was ordered, so a line keeps its order (rate, begin, greatest volume) and works out
the rest; a stepped bench may let hours pass at once.
"""

from collections.abc import Callable
from math import inf


class FlowLine:
    """Implements ``ports.FlowPort``. ``now`` tells the time on the plant's clock, s. A blocked line lets nothing pass.

    ``before`` is called before every order, so that what the old one did can be worked out first.
    """

    def __init__(self, now: Callable[[], float], before: Callable[[], object] = lambda: None) -> None:
        self._now = now
        self._arrive = before
        self._rate = 0.0
        self._most = inf
        self._begun = 0.0
        self._before = 0.0
        self._blocked = False

    def set_flow(self, rate: float, most: float = inf) -> None:
        """See ``ports.FlowPort``. ValueError for a negative ``most``."""
        if not most >= 0.0:
            raise ValueError(f"the greatest volume must be 0 m^3 or more, not {most}")
        self._arrive()
        self._before = self.delivered()
        self._begun = self._now()
        self._rate, self._most = rate, most

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
    """Implements ``ports.ValvePort``; it begins at position 1."""

    def __init__(self, now: Callable[[], float], before: Callable[[], object] = lambda: None) -> None:
        self._now = now
        self._arrive = before
        self._position = 1
        self._arrives = 0.0

    def set_position(self, position: int, travel: float) -> None:
        """See ``ports.ValvePort``."""
        self._arrive()
        self._position, self._arrives = position, self._now() + travel

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

    def __init__(self, now: Callable[[], float], before: Callable[[], object] = lambda: None) -> None:
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
