"""What a protocol does to the devices: how long how much of everything stood at them, and how near it comes to the limits."""

from collections.abc import Sequence
from math import inf

import numpy as np

from hil.core.safety import SafetyEnvelope
from hil.core.types import Channel, FloatArray, Layout, Quantity, Readings, SafeAction, Stimulus

NEAR = 0.1
"""Of the span a limit leaves: nearer than this is worth a sentence."""
BAR = 1e5
_UNITS = {Quantity.PRESSURE: (1.0 / BAR, "bar s"), Quantity.VOLTAGE: (1.0, "V s")}


class Dose:
    """Integral of |value - rest| over time for every control; an observer of readings. ``begun``: s of the backend's clock.

    A stimulus is taken to stand from the reading before it to its own, so that settling counts in full.
    """

    def __init__(self, controls: Layout, begun: float) -> None:
        self._controls, self._then = controls, begun
        rest = [channel.safe.value if _rests(channel) else 0.0 for channel in controls]
        self._rest: FloatArray = np.array(rest, dtype=np.float64)
        self._total: FloatArray = np.zeros(len(controls))

    def __call__(self, stimuli: Sequence[Stimulus], readings: Readings) -> None:
        """Count a block of readings."""
        for stimulus, time in zip(stimuli, readings.time, strict=True):
            away = np.where(stimulus.connected, np.abs(stimulus.values - self._rest), 0.0)
            self._total += away * max(float(time) - self._then, 0.0)
            self._then = max(float(time), self._then)

    def of(self, name: str) -> dict[str, float | str]:
        """``dose`` and ``dose_unit`` of a control: V s, bar s, otherwise its SI unit times s."""
        position = self._controls.index(name)
        quantity = self._controls.channels[position].quantity
        factor, unit = _UNITS.get(quantity, (1.0, f"{quantity.value} s"))
        return {"dose": factor * float(self._total[position]), "dose_unit": unit}


class Nearest:
    """The smallest distance that was left to every limit of value and of difference; an observer of readings."""

    def __init__(self, envelope: SafetyEnvelope) -> None:
        self._envelope = envelope
        self._left: dict[str, tuple[float, str]] = {}

    def __call__(self, stimuli: Sequence[Stimulus], readings: Readings) -> None:
        """Look at a block of stimuli."""
        for stimulus in stimuli:
            values = dict(zip(self._envelope.layout.names, stimulus.values.tolist(), strict=True))
            used = dict(zip(self._envelope.layout.names, stimulus.connected.tolist(), strict=True))
            for position, channel in enumerate(self._envelope.layout):
                if used[channel.name]:
                    self._channel(channel, values[channel.name], self._limits(position))
            for limit in self._envelope.edges:
                if used[limit.plus] and (limit.minus is None or used[limit.minus]) and limit.maximum < inf:
                    difference = abs(values[limit.plus] - (0.0 if limit.minus is None else values[limit.minus]))
                    unit = self._envelope.layout[limit.plus].quantity.value
                    text = f"edge {limit.edge}: {difference:.6g} {unit} across it, {limit.maximum:.6g} {unit} allowed"
                    self._note(f"edge {limit.edge} {unit}", 1.0 - difference / limit.maximum, text)

    def sentences(self) -> list[str]:
        """What came within ``NEAR`` of a limit, the nearest first."""
        near = sorted(one for one in self._left.values() if one[0] <= NEAR * (1 + 1e-9))
        return [f"{text} ({100 * left:.3g} % left)" for left, text in near]

    def _limits(self, position: int) -> tuple[float, float]:
        return float(self._envelope.minimum[position]), float(self._envelope.maximum[position])

    def _channel(self, channel: Channel, value: float, limits: tuple[float, float]) -> None:
        unit = channel.quantity.value
        rest = channel.safe.value if _rests(channel) else 0.0
        for limit in limits:
            # Standing at rest is no risk, even where the rest is a limit.
            span = abs(limit - rest)
            if np.isfinite(limit) and span > 0.0 and (value - rest) * (limit - rest) > 0.0:
                text = f"{channel.name} at {value:.6g} {unit}, limit {limit:.6g} {unit}"
                self._note(f"{channel.name} {limit}", 1.0 - abs(value - rest) / span, text)

    def _note(self, key: str, left: float, text: str) -> None:
        if key not in self._left or left < self._left[key][0]:
            self._left[key] = (max(left, 0.0), text)


def _rests(channel: Channel) -> bool:
    """Whether the channel has a value at which nobody drives it."""
    return channel.safe.action in (SafeAction.LEVEL, SafeAction.VENT)
