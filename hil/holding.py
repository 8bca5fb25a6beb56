"""Hold apart from safe: keep the set-points of a finished run for a while, watched, before they are left."""

import numpy as np

from hil.core.backend import Backend
from hil.core.clock import Clock
from hil.core.errors import LimitExceededError
from hil.core.events import EventStream, Progress
from hil.core.safety import SafetyEnvelope

LOOK_EVERY = 10.0
"""Seconds between two readings while the set-points are kept."""


def check_hold(envelope: SafetyEnvelope, seconds: float) -> None:
    """LimitExceededError when a dwell limit forbids keeping set-points for ``seconds``; before anything is applied."""
    if seconds <= 0.0 or envelope.max_dwell is None:
        return
    for channel, limit in zip(envelope.layout, envelope.max_dwell, strict=True):
        if np.isfinite(limit) and seconds > limit:
            raise LimitExceededError(
                f"channel {channel.name!r}: holding for {seconds:g} s is more than its dwell limit of {limit:g} s; hold for a "
                "shorter time, or let the run end in the safe state"
            )


def keep_set_points(backend: Backend, clock: Clock, seconds: float, events: EventStream) -> None:
    """Leave what is applied for ``seconds``; the outputs are read, and go on record, every ten seconds.

    The program stays, and with it everything that watches over it: when it is killed, stopped, or an instrument fails, the
    bench goes to its safe state as at any other time. Raises what ``Backend.read`` raises, dwell limits included.
    """
    end = clock.now() + seconds
    while (left := end - clock.now()) > 0.0:
        events.emit(Progress(round(seconds - left), round(seconds), "holding the set-points"))
        backend.wait(min(LOOK_EVERY, left))
        backend.read()
