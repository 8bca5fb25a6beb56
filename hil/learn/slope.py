"""Slopes of a device's I-V curve, measured: on a matched pair at one moment, on one device at two moments, or from a curve.

The two-device slope is that of Acharya et al.: two identical devices biased at slightly different voltages give
dI/dV ≈ [I_B(V + δ) - I_A(V)]/δ. What a pair that is not quite identical costs, and how centring, nulling and swapping help,
stands in ``hil.learn.error_budget``.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hil.core.backend import Backend
from hil.core.errors import CapabilityError, ConfigError
from hil.core.types import FloatArray, SettlePolicy, Stimulus
from hil.learn.activation import Activation


@dataclass(frozen=True, slots=True)
class SlopeReadings:
    """Current (A), slope (S) and the standard error of the slope from reading noise (nan: not known), (n,) each."""

    current: FloatArray
    slope: FloatArray
    std: FloatArray


class SlopeMeter(Protocol):
    """Measures current and slope at many voltages in one go."""

    readings_per_point: int

    def measure(self, voltages: FloatArray) -> SlopeReadings:
        """Current and slope at ``voltages`` (n,), V."""
        ...


@dataclass(frozen=True, slots=True)
class Probe:
    """Which control is driven and which output is read, and how: the part all measured slopes share.

    ``delta`` is the difference of the two voltages in V, ``noise`` the standard deviation of one reading in A (nan: not known).
    """

    backend: Backend
    policy: SettlePolicy
    delta: float
    control: str = "V"
    output: str = "I"
    samples: int = 1
    noise: float = np.nan

    def __post_init__(self) -> None:
        channel = self.backend.capabilities.controls[self.control]
        self.backend.capabilities.outputs.index(self.output)
        if not 0 < self.delta < channel.maximum - channel.minimum:
            raise ConfigError(
                f"delta = {self.delta:g} V must lie between 0 and the range of {self.control!r}, "
                f"{channel.minimum:g} … {channel.maximum:g} V"
            )

    def pair(self, voltages: FloatArray, *, centred: bool) -> tuple[FloatArray, FloatArray]:
        """Lower and upper voltage of each pair, moved inwards where it would leave the channel's range, (n,) each."""
        channel = self.backend.capabilities.controls[self.control]
        lower = np.asarray(voltages, dtype=np.float64) - (self.delta / 2 if centred else 0.0)
        lower = np.clip(lower, channel.minimum, channel.maximum - self.delta)
        return lower, np.minimum(lower + self.delta, channel.maximum)

    def stimuli(self, voltages: FloatArray) -> list[Stimulus]:
        """One stimulus a voltage; every other control at 0 (its safe level)."""
        controls = self.backend.capabilities.controls
        base = np.array([channel.safe.value for channel in controls])
        position = controls.index(self.control)
        rows = np.tile(base, (len(voltages), 1))
        rows[:, position] = voltages
        return [Stimulus.of(row) for row in rows]


class TwoDeviceSlope:
    """Both devices of a matched pair, read at the same moment.

    ``centred`` puts the pair at V ± δ/2 (truncation of second order instead of first), ``null`` also reads it at equal bias and
    subtracts the difference found there, ``swap`` repeats the reading with the two roles exchanged, which cancels a mismatch of
    gain and of offset. Two readings a point, four with ``null`` or ``swap``; both together are refused, because after a swap
    nothing is left to null and the extra reading would only add noise.
    """

    def __init__(self, probe: Probe, *, centred: bool = True, null: bool = False, swap: bool = False) -> None:
        if len(probe.backend.capabilities.replicas) != 2:
            raise CapabilityError(
                f"a two-device slope needs a pair of replicas; backend {probe.backend.name!r} declares "
                f"{probe.backend.capabilities.replicas or 'none'}: add `replicas` to the bench file or use the sequential slope"
            )
        if null and swap:
            raise ConfigError("choose `null` or `swap`: after a swap the mismatch has cancelled and nulling only adds noise")
        if probe.backend.capabilities.replicas not in [*probe.backend.capabilities.simultaneous]:
            raise CapabilityError(
                f"replicas {probe.backend.capabilities.replicas} of backend {probe.backend.name!r} cannot be read at the same "
                "moment; wire them to the two channels of one source-measure unit or use the sequential slope"
            )
        self._probe, self._centred, self._null, self._swap = probe, centred, null, swap
        self.readings_per_point = 2 * (1 + (null or swap)) * probe.samples

    def measure(self, voltages: FloatArray) -> SlopeReadings:
        """Current and slope at ``voltages`` (n,), V; the current is the mean of both devices (of A alone when not centred)."""
        lower, upper = self._probe.pair(voltages, centred=self._centred)
        n = len(lower)
        blocks = [(lower, upper)]
        if self._swap:
            blocks.append((upper, lower))
        if self._null:
            middle: FloatArray = (lower + upper) / 2 if self._centred else lower
            blocks.append((middle, middle))
        # The blocks of one point follow each other, so that slow drift has the least time to act between them.
        a = self._probe.stimuli(np.stack([first for first, _ in blocks], axis=1).ravel())
        b = self._probe.stimuli(np.stack([second for _, second in blocks], axis=1).ravel())
        raw = self._probe.backend.measure_replicas(
            [list(row) for row in zip(a, b, strict=True)], self._probe.policy, self._probe.samples
        )
        position = self._probe.backend.capabilities.outputs.index(self._probe.output)
        currents = raw[:, :, position].reshape(n, len(blocks), 2)
        difference = currents[:, 0, 1] - currents[:, 0, 0]
        used = currents[:, 0]
        if self._swap:
            difference = (difference + currents[:, 1, 0] - currents[:, 1, 1]) / 2
            used = (currents[:, 0] + currents[:, 1]) / 2
        if self._null:
            difference = difference - (currents[:, 1, 1] - currents[:, 1, 0])
        current = used.mean(axis=1) if self._centred else used[:, 0]
        gain = np.sqrt(2.0 * (2.0 if self._null else 1.0) / (2.0 if self._swap else 1.0))
        error = np.full(n, gain * self._probe.noise / np.sqrt(self._probe.samples) / self._probe.delta)
        return SlopeReadings(current, difference / self._probe.delta, error)


class SequentialSlope:
    """One device at two times: V - δ/2, then V + δ/2, each ``repeats`` times in alternation.

    The honest rival of the pair at equal numbers of readings: it knows no mismatch, but whatever drifts between its two
    readings, or is common noise at one moment, enters divided by δ.
    """

    def __init__(self, probe: Probe, *, centred: bool = True, repeats: int = 1) -> None:
        if repeats < 1:
            raise ConfigError(f"repeats must be 1 or more, not {repeats}")
        self._probe, self._centred, self._repeats = probe, centred, repeats
        self.readings_per_point = 2 * repeats * probe.samples

    def measure(self, voltages: FloatArray) -> SlopeReadings:
        """Current and slope at ``voltages`` (n,), V."""
        lower, upper = self._probe.pair(voltages, centred=self._centred)
        order = np.stack([lower, upper] * self._repeats, axis=1)
        readings = self._probe.backend.measure(self._probe.stimuli(order.ravel()), self._probe.policy, self._probe.samples)
        position = self._probe.backend.capabilities.outputs.index(self._probe.output)
        values = readings.values[:, position].reshape(len(lower), self._repeats, 2).mean(axis=1)
        current = values.mean(axis=1) if self._centred else values[:, 0]
        error = np.sqrt(2 / (self._repeats * self._probe.samples)) * self._probe.noise / self._probe.delta
        return SlopeReadings(current, (values[:, 1] - values[:, 0]) / self._probe.delta, np.full(len(lower), error))


class CurveSlope:
    """Current and slope from a curve extracted earlier: nothing is measured."""

    readings_per_point = 0

    def __init__(self, activation: Activation) -> None:
        self._activation = activation

    def measure(self, voltages: FloatArray) -> SlopeReadings:
        """Current and slope of the interpolated curve at ``voltages`` (n,), V."""
        v = np.asarray(voltages, dtype=np.float64)
        return SlopeReadings(self._activation(v), self._activation.slope(v), np.full(v.shape, np.nan))
