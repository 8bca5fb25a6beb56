"""Corrections of a bench: what was found about its sources and meters, undone on the way out and on the way in.

One model for both, y = offset + gain * x: of a source x is the programmed level and y what it delivers, of a meter x is the
true value and y what it shows. So a level is sent as (wanted - offset) / gain, and a reading x is (shown - offset) / gain.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hil.core.errors import ConfigError, LimitExceededError
from hil.core.safety import SafetyEnvelope
from hil.core.types import BoolArray, FloatArray, Stimulus
from instruments.roles import Acquired
from instruments.wiring import EXACT, ControlWire, Correction, OutputWire

if TYPE_CHECKING:
    from instruments.terminals import Drive, Sense


@dataclass(frozen=True)
class Corrections:
    """What is corrected on a bench. ``controls`` and ``outputs``: channel -> parameter path -> correction (SI).

    ``serials``: instrument -> serial number (or whole identity) it had when that was measured; ``origin``: JSON for the
    record, which names the calibration. ``spans``: control -> largest magnitude of its limits then: it chooses the range.
    ``meters``: parameter path -> correction of whatever was calibrated there, output of this bench or not: it meters charge and
    power.
    """

    controls: Mapping[str, Mapping[str, Correction]] = field(default_factory=dict)
    outputs: Mapping[str, Mapping[str, Correction]] = field(default_factory=dict)
    serials: Mapping[str, str] = field(default_factory=dict)
    spans: Mapping[str, float] = field(default_factory=dict)
    origin: Mapping[str, object] = field(default_factory=dict)
    meters: Mapping[str, Correction] = field(default_factory=dict)

    def check(self, controls: Sequence[ControlWire], outputs: Sequence[OutputWire]) -> None:
        """ConfigError for a channel that is not there, or whose limits ask for another range than the one calibrated."""
        names = {wire.channel.name for wire in controls} | {wire.channel.name for wire in outputs}
        for name in (*self.controls, *self.outputs):
            if name not in names:
                raise ConfigError(f"{self._title} corrects channel {name!r}, which this bench does not have; calibrate it anew")
        for wire in controls:
            then = self.spans.get(wire.channel.name)
            now = max(abs(wire.channel.minimum), abs(wire.channel.maximum))
            if then is not None and abs(now - then) > 1e-9 * max(now, then):
                unit = wire.channel.quantity.value
                raise ConfigError(
                    f"{self._title} was measured with {wire.channel.name!r} limited to {then:g} {unit}; now its limits reach "
                    f"{now:g} {unit}, for which the source may choose another range: calibrate anew, or keep the limits"
                )

    def _require_same(self, components: Mapping[str, Any]) -> None:
        for name, then in self.serials.items():
            now = serial_of(components[name]) if name in components else "missing"
            if now != then:
                raise ConfigError(
                    f"{self._title} does not belong to instrument {name!r}: it was {then!r} then and is {now!r} now; "
                    "calibrate the bench anew, or take `calibration.use` out of the bench file"
                )

    def tied(
        self, drives: "Sequence[Sequence[Drive]]", senses: "Sequence[Sequence[Sense]]", components: Mapping[str, Any]
    ) -> "list[list[Sense]]":
        """Give every drive its correction; senses with theirs. ConfigError where an open instrument is not the one calibrated."""
        self._require_same(components)
        for row in drives:
            for drive in row:
                drive.correction = self.controls.get(drive.channel.name, {}).get(drive.path, EXACT)
        return [
            [replace(one, correction=self.outputs.get(one.channel.name, {}).get(one.path, EXACT)) for one in row]
            for row in senses
        ]

    def record(self) -> Mapping[str, object]:
        """JSON for the record of a run: empty where nothing is corrected."""
        if not self.origin:
            return {}

        def shown(of: Mapping[str, Mapping[str, Correction]]) -> dict[str, object]:
            return {
                name: {path: {"offset": one.offset, "gain": one.gain} for path, one in paths.items()}
                for name, paths in of.items()
            }

        meters = {path: {"offset": one.offset, "gain": one.gain} for path, one in self.meters.items()}
        return {
            "calibration": {
                **self.origin,
                "controls": shown(self.controls),
                "outputs": shown(self.outputs),
                **({"meters": meters} if meters else {}),
            }
        }

    def ammeter(self, drive: "Drive") -> Correction:
        """Of the current that a source measures at itself."""
        return self._beside(drive, "curr")

    def voltmeter(self, drive: "Drive") -> Correction:
        """Of the voltage that a source measures at itself."""
        return self._beside(drive, "volt")

    def _beside(self, drive: "Drive", parameter: str) -> Correction:
        return self.meters.get(f"{drive.path.rpartition('.')[0]}.{parameter}", EXACT)

    @property
    def _title(self) -> str:
        return f"the calibration {self.origin.get('file', '')}".rstrip()


def serial_of(instrument: Any) -> str:
    """Model and serial number of an open instrument, or the whole of what it says of itself where there is no number."""
    said: Mapping[str, str | None] = instrument.get_idn()
    if said.get("serial"):
        return f"{said.get('model') or ''} {said['serial']}".strip()
    return ", ".join(part for part in said.values() if part)


class Aim:
    """From what is asked for to what is programmed. No correction leaves the envelope: at a limit it ends there.

    ``warn`` is told once per channel whose correction had no room.
    """

    def __init__(self, envelope: SafetyEnvelope, warn: Callable[[str], None]) -> None:
        self._envelope = envelope
        self._warn = warn
        self._told: set[str] = set()

    def stimulus(self, drives: "Sequence[Drive]", stimulus: Stimulus) -> Stimulus:
        """One stimulus of one replica."""
        if all(drive.correction is EXACT for drive in drives):
            return stimulus
        return Stimulus(self.levels(drives, stimulus.values, stimulus.connected), stimulus.connected)

    def levels(self, drives: "Sequence[Drive]", values: FloatArray, connected: BoolArray | None = None) -> FloatArray:
        """``values`` (n_drives,) or (n, n_drives) of one replica or several, one after the other, as they are programmed."""
        if all(drive.correction is EXACT for drive in drives):
            return values
        offset = np.array([drive.correction.offset for drive in drives])
        gain = np.array([drive.correction.gain for drive in drives])
        count = len(self._envelope.layout)
        blocks = np.atleast_2d(values).reshape(-1, count)
        masks = None if connected is None else np.atleast_2d(connected).reshape(-1, count)
        wanted = ((np.atleast_2d(values) - offset) / gain).reshape(-1, count)
        inside = np.clip(wanted, self._envelope.minimum, self._envelope.maximum)
        moved = np.tile((offset != 0.0) | (gain != 1.0), len(np.atleast_2d(values))).reshape(-1, count)
        inside = np.where(moved, inside, blocks)
        for row, asked in enumerate(blocks):
            try:
                self._envelope.check(inside[row], None if masks is None else masks[row])
            except LimitExceededError:
                inside[row] = asked  # the limit of a difference leaves no room
        short = (inside != wanted) & moved
        for column in np.flatnonzero(short.any(axis=0)):
            row = int(np.argmax(short[:, column]))
            self._tell(int(column), float(blocks[row, column]), float(wanted[row, column]), float(inside[row, column]))
        return inside.reshape(np.shape(values))

    def _tell(self, column: int, asked: float, wanted: float, given: float) -> None:
        channel = self._envelope.layout.channels[column]
        if channel.name not in self._told:
            self._told.add(channel.name)
            unit = channel.quantity.value
            self._warn(
                f"channel {channel.name!r}: for {asked:g} {unit} its calibration asks for {wanted:.9g} {unit}, which its limits "
                f"do not allow; {given:.9g} {unit} is programmed. Limits that are a little wider leave room for the correction"
            )


def undone(senses: "Sequence[Sense]") -> Callable[[FloatArray], FloatArray] | None:
    """A function that turns what the meters show, (…, n_senses), into corrected readings; None where nothing is corrected."""
    if all(sense.correction is EXACT for sense in senses):
        return None
    offset = np.array([sense.correction.offset for sense in senses])
    gain = np.array([sense.correction.gain for sense in senses])

    def undo(shown: FloatArray) -> FloatArray:
        values: FloatArray = (shown - offset) / gain
        return values

    return undo


def corrected(acquired: Acquired, undo: Callable[[FloatArray], FloatArray] | None) -> Acquired:
    """What an instrument sent, corrected."""
    return acquired if undo is None else Acquired(undo(acquired.values), acquired.overload)
