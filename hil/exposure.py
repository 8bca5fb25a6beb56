"""What a protocol does to the devices: how long how much of everything stood at them, and how near it comes to the limits."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf

import numpy as np

from hil.core.dwell import is_away
from hil.core.safety import SafetyEnvelope
from hil.core.types import Channel, FloatArray, Layout, Quantity, Readings, SafeAction, Stimulus

NEAR = 0.1
"""Of the span a limit leaves: nearer than this is worth a sentence."""
BAR = 1e5
_UNITS = {Quantity.PRESSURE: (1.0 / BAR, "bar s"), Quantity.VOLTAGE: (1.0, "V s")}


class Dose:
    """Integral of |value - rest| over time for every control; an observer of readings. ``begun``: s of the backend's clock.

    A stimulus is taken to stand from the reading before it to its own, so that settling counts in full. Of several replicas the
    one that got most counts.
    """

    def __init__(self, controls: Layout, begun: float) -> None:
        self._controls, self._then, self._spent = controls, begun, 0.0
        rest = [channel.safe.value if _rests(channel) else 0.0 for channel in controls]
        self._rest: FloatArray = np.array(rest, dtype=np.float64)
        self._total: dict[str, FloatArray] = {}

    def __call__(self, stimuli: Sequence[Stimulus], readings: Readings) -> None:
        """Count a block of readings."""
        names = readings.replica or ("",) * len(readings)
        for stimulus, time, replica in zip(stimuli, readings.time, names, strict=True):
            away = np.where(stimulus.connected, np.abs(stimulus.values - self._rest), 0.0)
            if not replica or float(time) > self._then:
                self._spent = max(float(time) - self._then, 0.0)
                self._then = max(float(time), self._then)
            # Replicas that were read at the same moment have all stood as long.
            self._total[replica] = self._total.get(replica, 0.0) + away * self._spent

    def of(self, name: str) -> dict[str, float | str]:
        """``dose`` and ``dose_unit`` of a control: V s, bar s, otherwise its SI unit times s."""
        position = self._controls.index(name)
        quantity = self._controls.channels[position].quantity
        factor, unit = _UNITS.get(quantity, (1.0, f"{quantity.value} s"))
        alone = float(self._total[""][position]) if "" in self._total else 0.0
        most = max((float(total[position]) for replica, total in self._total.items() if replica), default=0.0)
        return {"dose": factor * (alone + most), "dose_unit": unit}


class Nearest:
    """The smallest distance that was left to every limit; an observer of readings.

    Values, differences and time away from the safe state come with the readings (``begun``: s of the backend's clock).
    ``flows``: asked after every block of them, for what really flows at voltage sources, (control, V, A) each, which is held
    against their power limit and their ``compliances`` (A, by control).
    """

    def __init__(
        self,
        envelope: SafetyEnvelope,
        begun: float = 0.0,
        flows: Callable[[], Iterable[tuple[str, float, float]]] | None = None,
        compliances: Mapping[str, float] | None = None,
    ) -> None:
        self._envelope = envelope
        self._flows, self._compliances = flows, dict(compliances or {})
        self._before, self._then, self._away_since = begun, begun, dict[tuple[str, str], float]()
        self._left: dict[str, tuple[float, str]] = {}

    def __call__(self, stimuli: Sequence[Stimulus], readings: Readings) -> None:
        """Look at a block of stimuli."""
        names = readings.replica or ("",) * len(readings)
        for stimulus, time, replica in zip(stimuli, readings.time, names, strict=True):
            self._dwell(stimulus, float(time), replica)
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
        for name, volts, amperes in self._flows() if self._flows is not None else ():
            self._flow(self._envelope.layout[name], volts, amperes)

    def _dwell(self, stimulus: Stimulus, time: float, replica: str) -> None:
        """A channel (of a replica) is away at the latest since the reading before the first one away."""
        if not replica or time > self._then:
            # Replicas that were read at the same moment have the same reading before it.
            self._before, self._then = self._then, time
        for channel, value, connected in zip(self._envelope.layout, stimulus.values, stimulus.connected, strict=True):
            if not channel.max_dwell < inf or not is_away(channel, float(value), bool(connected)):
                self._away_since.pop((replica, channel.name), None)
                continue
            spent = time - self._away_since.setdefault((replica, channel.name), self._before)
            text = f"{channel.name}: {spent:.6g} s away from its safe state, {channel.max_dwell:.6g} s allowed"
            self._note(f"dwell {channel.name}", 1.0 - spent / channel.max_dwell, text)

    def _flow(self, channel: Channel, volts: float, amperes: float) -> None:
        compliance = self._compliances.get(channel.name, inf)
        text = f"{channel.name}: {abs(amperes):.3g} A flow, compliance {compliance:.3g} A"
        self._note(f"compliance {channel.name}", 1.0 - abs(amperes) / compliance, text)
        text = f"{channel.name}: {abs(volts * amperes):.3g} W flow, {channel.max_power:.3g} W allowed"
        self._note(f"power {channel.name}", 1.0 - abs(volts * amperes) / channel.max_power, text)

    def sentences(self) -> list[str]:
        """What came within ``NEAR`` of a limit, the nearest first."""
        near = sorted(one for one in self._left.values() if one[0] <= NEAR * (1 + 1e-9))
        return [f"{text} ({100 * left:.3g} % left)" for left, text in near]

    def _limits(self, position: int) -> tuple[float, float]:
        return float(self._envelope.minimum[position]), float(self._envelope.maximum[position])

    def _channel(self, channel: Channel, value: float, limits: tuple[float, float]) -> None:
        unit = channel.quantity.value
        rest = channel.safe.value if _rests(channel) else 0.0
        if not limits[0] <= rest <= limits[1]:
            rest = sum(limits) / 2.0  # a concentration is never 0 by itself: there is no way from there to a limit
        for limit in limits:
            # Standing at rest is no risk, even where the rest is a limit.
            span = abs(limit - rest)
            if np.isfinite(limit) and 0.0 < span < inf and (value - rest) * (limit - rest) > 0.0:
                text = f"{channel.name} at {value:.6g} {unit}, limit {limit:.6g} {unit}"
                self._note(f"{channel.name} {limit}", 1.0 - abs(value - rest) / span, text)

    def _note(self, key: str, left: float, text: str) -> None:
        if key not in self._left or left < self._left[key][0]:
            self._left[key] = (max(left, 0.0), text)


def _rests(channel: Channel) -> bool:
    """Whether the channel has a value at which nobody drives it."""
    return channel.safe.action in (SafeAction.LEVEL, SafeAction.VENT)
