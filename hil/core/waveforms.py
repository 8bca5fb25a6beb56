"""What every waveform has in common: which channels it moves, from where and back to where, and how far they may jump."""

import numpy as np

from hil.core.errors import CapabilityError, ConfigError, LimitExceededError
from hil.core.safety import SafetyEnvelope
from hil.core.types import BoolArray, FloatArray, Layout, Readings, Stimulus, Trace, Waveform, WaveformLimits

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


def levels_at(waveform: Waveform, sample_times: FloatArray) -> list[Stimulus]:
    """What stands at each sample (s from the start); one at the border of two segments belongs to the first."""
    places = np.maximum(np.searchsorted(waveform.times, sample_times, side="left") - 1, 0)
    return [Stimulus(waveform.values[place], waveform.connected[place]) for place in places]


def as_readings(trace: Trace, begun: float) -> Readings:
    """The samples of a waveform that began at ``begun`` (s of the backend's clock); nothing tells their standard error."""
    return Readings(trace.values, np.full(trace.values.shape, np.nan), trace.overload, begun + trace.times)


def check_shape(name: str, limits: WaveformLimits, waveform: Waveform, sample_times: FloatArray, controls: int) -> None:
    """ConfigError for a waveform that is none for so many controls, CapabilityError for one that backend ``name`` cannot play."""
    times = np.append(waveform.times, waveform.end)
    lengths = np.diff(times)
    if not len(waveform.times) or waveform.times[0] != 0 or not np.all(np.isfinite(times)) or not np.all(lengths > 0):
        raise ConfigError("a waveform starts at 0 s and its segment times rise strictly up to its end")
    if len(waveform.times) > limits.max_segments or len(sample_times) > limits.max_samples:
        raise CapabilityError(
            f"a waveform of {len(waveform.times)} segments and {len(sample_times)} samples exceeds the "
            f"{limits.max_segments} segments and {limits.max_samples} samples backend {name!r} accepts"
        )
    if lengths.min() < limits.min_segment or waveform.end > limits.max_duration:
        raise CapabilityError(
            f"segments of {lengths.min():g} s in {waveform.end:g} s: backend {name!r} plays segments of at least "
            f"{limits.min_segment:g} s and at most {limits.max_duration:g} s in all"
        )
    if len(sample_times) and not (
        np.all(np.diff(sample_times) >= 0) and sample_times[0] >= 0 and sample_times[-1] <= waveform.end
    ):
        raise ConfigError("sample times must rise and lie inside the waveform")
    shape = (len(waveform.times), controls)
    if np.shape(waveform.values) != shape or np.shape(waveform.connected) != shape:
        raise ConfigError(f"a waveform of {shape[0]} segments needs {shape[0]} rows of {shape[1]} values and connected flags")


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
