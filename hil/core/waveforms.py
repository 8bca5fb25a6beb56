"""What every waveform has in common: which channels it moves, from where and back to where, and how far they may jump."""

import numpy as np

from hil.core.errors import LimitExceededError
from hil.core.safety import SafetyEnvelope
from hil.core.types import BoolArray, Layout, Stimulus, Waveform

RAMP_PERIOD = 0.02
"""s between the points of a ramp: a channel with a limited slew may jump by what it ramps in this time."""


def moved(waveform: Waveform) -> BoolArray:
    """Channels whose value or connection changes within the waveform, (n_controls,)."""
    changes = (waveform.values != waveform.values[0]) | (waveform.connected != waveform.connected[0])
    return np.asarray(np.any(changes, axis=0))


def rest_of(controls: Layout, waveform: Waveform) -> Stimulus:
    """What stands before and after the waveform: moved channels connected at their safe value, all others as in it."""
    moving = moved(waveform)
    rest = np.array([channel.safe.value for channel in controls], dtype=np.float64)
    return Stimulus(np.where(moving, rest, waveform.values[0]), moving | waveform.connected[0])


def check_jumps(envelope: SafetyEnvelope, waveform: Waveform) -> None:
    """LimitExceededError for a step, those from and to rest included, longer than the slew of its channel allows."""
    moving = moved(waveform)
    rest = rest_of(envelope.layout, waveform).values
    jumps = np.max(np.abs(np.diff(np.vstack([rest, waveform.values, rest]), axis=0)), axis=0)
    largest = envelope.max_slew * RAMP_PERIOD
    for position, channel in enumerate(envelope.layout):
        if moving[position] and jumps[position] > largest[position] * (1.0 + 1e-9):
            raise LimitExceededError(
                f"channel {channel.name!r}: the waveform steps by {jumps[position]:g} {channel.quantity.value}, but its slew of "
                f"{envelope.max_slew[position]:g}/s allows {largest[position]:g}; use smaller steps, or give it no slew limit; "
                "nothing was applied"
            )
