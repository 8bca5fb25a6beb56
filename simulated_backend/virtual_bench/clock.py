"""Time on the virtual bench: stepped by the durations of commands, or the wall clock."""

import threading
import time
from collections.abc import Callable


class SteppedTime:
    """Time passes only when an instrument or the program lets it pass; the plant is taken along at once."""

    def __init__(self, step: Callable[[float], None]) -> None:
        self._step = step
        self._now = 0.0

    def now(self) -> float:
        """Seconds stepped so far."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Step the plant by ``seconds``; ValueError if negative."""
        if not seconds >= 0.0:
            raise ValueError(f"time cannot pass backwards: {seconds} s")
        if seconds > 0.0:
            self._step(seconds)
            self._now += seconds

    def catch_up(self) -> None:
        """Nothing passes by itself."""

    def begin(self, taken_up: float) -> None:
        """An instrument begins to obey a message."""

    def end(self) -> None:
        """It has obeyed."""

    def arrive(self) -> float:
        """Nothing passes by itself; the machine's clock."""
        return time.monotonic()


class RealTime:
    """The wall clock. Waiting lets go of ``lock``, so that other instruments are served meanwhile."""

    def __init__(self, step: Callable[[float], None], lock: threading.Lock) -> None:
        self._step = step
        self._lock = lock
        self._start = time.monotonic()
        self._plant = 0.0
        self._arrived = False
        self._taken_up: float | None = None

    def now(self) -> float:
        """Seconds since the bench was switched on."""
        return time.monotonic() - self._start

    def advance(self, seconds: float) -> None:
        """Wait until ``seconds`` from now have passed, then bring the plant there; ValueError if negative."""
        if not seconds >= 0.0:
            raise ValueError(f"time cannot pass backwards: {seconds} s")
        moment = self.now() + seconds
        remaining = seconds
        while remaining > 0.0:
            self._lock.release()
            try:
                time.sleep(remaining)
            finally:
                self._lock.acquire()
            remaining = moment - self.now()
        self._arrived = False
        self.catch_up()

    def catch_up(self) -> None:
        """Bring the plant to this moment."""
        behind = self.now() - self._plant
        if behind > 0.0:
            self._plant += behind
            self._step(behind)

    def begin(self, taken_up: float) -> None:
        """An instrument begins to obey a message (taken up at ``taken_up``, s of the machine's clock).

        What it does until it waits or ends happens at one moment.
        """
        self._arrived, self._taken_up = False, taken_up

    def end(self) -> None:
        """It has obeyed."""
        self._arrived, self._taken_up = False, None

    def arrive(self) -> float:
        """Bring the plant to the moment of the message that is being obeyed; computing it takes no time of the bench.

        Returns when the message was taken up, s of the machine's clock.
        """
        if not self._arrived:
            self.catch_up()
            self._arrived = True
        return time.monotonic() if self._taken_up is None else self._taken_up


class Turn:
    """The lock of the plant, held while an instrument obeys one message."""

    def __init__(self, lock: threading.Lock, clock: SteppedTime | RealTime) -> None:
        self._lock = lock
        self._clock = clock

    def __enter__(self) -> None:
        # The message is here; that other instruments are obeyed first, one after the other, is not its fault.
        taken_up = time.monotonic()
        self._lock.acquire()
        self._clock.begin(taken_up)

    def __exit__(self, *_: object) -> None:
        self._clock.end()
        self._lock.release()
