"""Housekeeping: what is watched beside the measurement, once a second, in the pauses of the measurement itself.

It is taken by the thread that measures, after a block of readings and while that waits, never in between: no link carries two
conversations. On the way to the safe state nothing is asked.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Self

from hil.core.clock import Clock
from hil.core.events import EventStream, TableRow
from hil.core.types import Readings, Stimulus

EVERY = 1.0
"""Seconds of the lab's clock between two looks."""
PAUSE = 0.1
"""The shortest wait, s, that is long enough to look meanwhile: ramps and the windows of fast outputs are left alone."""
TABLE = "housekeeping"

Reader = Callable[[], tuple[dict[str, float], dict[str, str]]]


class PausingClock:
    """The clock of a lab, whose waits are pauses in which ``look`` is called where one is set."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.look: Callable[[], float] | None = None
        """Looks if it is time to; seconds until the next time."""

    def now(self) -> float:
        """Seconds of the clock inside."""
        return self._clock.now()

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass; what is done meanwhile counts."""
        # While an error is being handled the bench goes to its safe state, and nothing may hold that up.
        if self.look is None or seconds < PAUSE or sys.exc_info()[0] is not None:
            self._clock.sleep(seconds)
            return
        end = self.now() + seconds
        while (left := end - self.now()) > 0.0:
            pause = self.look() if left >= PAUSE else PAUSE
            self._clock.sleep(min(max(end - self.now(), 0.0), max(pause, PAUSE)))


class Housekeeper:
    """Looks at the watched parameters when it is time to. Also an observer of readings."""

    def __init__(self, read: Reader, clock: PausingClock, events: EventStream) -> None:
        self._read, self._clock, self._events = read, clock, events
        self._next = -float("inf")

    def __call__(self, stimuli: Sequence[Stimulus], readings: Readings) -> None:
        """After a block of readings."""
        self.look()

    def look(self) -> float:
        """Look if a second has passed; seconds until the next time."""
        now = self._clock.now()
        if now >= self._next:
            # Before the look, so that one that takes long does not follow upon itself.
            self._next = now + EVERY
            values, problems = self._read()
            if values:
                self._events.emit(TableRow(TABLE, {"time": now, **values}))
            for name, why in problems.items():
                self._events.warn(f"housekeeping {name!r} cannot be read and is given up for this run: {why}")
        return self._next - self._clock.now()

    def __enter__(self) -> Self:
        """Look in every pause from now on."""
        self._clock.look = self.look
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is asked any more."""
        self._clock.look = None
