"""Ctrl-C, SIGTERM, a closed terminal: one way to stop, and no way to interrupt the clean-up that follows."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from hil.core.child import STOPS


class Stopper:
    """Whatever asks for an end as KeyboardInterrupt, once: a second signal must not interrupt the way to the safe state."""

    def __init__(self) -> None:
        self.asked = False
        self._held = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. Somebody at a terminal is told at once, because the way to the safe state takes its time."""
        # Not by print: the signal may have come in the middle of one. A terminal that was closed hears nothing.
        with suppress(OSError, ValueError):
            if sys.stderr is not None and sys.stderr.isatty():
                os.write(sys.stderr.fileno(), b"\nhil: stopping; every output goes to its safe state first\n")
        if not self.asked:
            self.asked = True
            if not self._held:
                raise KeyboardInterrupt

    def done(self) -> None:
        """Nothing is left to stop: whoever asks from now on gets what is under way, the way to the safe state and the record."""
        self.asked = True

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
    """Inside, the first of ``STOPS`` raises KeyboardInterrupt. Outside the main thread signals stay as they are.

    A closed terminal that is ignored stays ignored: who starts a program with ``nohup`` means it. Ctrl-C is not: shells ignore
    it for what they start in the background, and ``hil stop`` comes this way.
    """
    stopper = Stopper()
    if threading.current_thread() is not threading.main_thread():
        yield stopper
        return
    there = [getattr(signal, name) for name in STOPS if hasattr(signal, name)]
    kept = {number: signal.signal(number, stopper) for number in there if not _meant_to_survive(number)}
    try:
        yield stopper
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _meant_to_survive(number: signal.Signals) -> bool:
    return number.name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN
