"""Ctrl-C and SIGTERM: one way to stop, and no way to interrupt the clean-up that follows."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopper:
    """SIGTERM and Ctrl-C as KeyboardInterrupt, once: a second signal must not interrupt the way to the safe state."""

    def __init__(self) -> None:
        self.asked = False
        self._held = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if not self.asked:
            self.asked = True
            if not self._held:
                raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """What happens inside is finished first, and only then interrupted."""
        before = self.asked
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self.asked and not before and not self._held:
            raise KeyboardInterrupt


@contextmanager
def stoppable() -> Iterator[Stopper]:
    """Inside, the first SIGTERM or Ctrl-C raises KeyboardInterrupt. Outside the main thread signals stay as they are."""
    stopper = Stopper()
    if threading.current_thread() is not threading.main_thread():
        yield stopper
        return
    kept = {number: signal.signal(number, stopper) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopper
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
