"""The only two ways time passes: a wall clock, and one that is stepped."""

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds since some fixed moment, and waiting. Nothing else in the program waits."""

    def now(self) -> float:
        """Seconds; never decreases."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` (not negative) pass."""
        ...


class WallClock:
    """Real time."""

    def now(self) -> float:
        """Seconds of the system's finest monotonic clock: the other one counts ticks of 16 ms on Windows."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        """Block for ``seconds``."""
        time.sleep(seconds)


class SteppedClock:
    """Time that passes only when somebody says so: a night is rehearsed in seconds."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        """Seconds stepped so far."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Step by ``seconds``; ValueError if negative."""
        if not seconds >= 0.0:
            raise ValueError(f"time cannot pass backwards: {seconds} s")
        self._now += seconds
