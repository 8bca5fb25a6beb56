"""Play a train of voltage pulses on one terminal, keep voltage and current, and read the resistance before and after.

The pulses are played by the instrument itself, in one transfer or, where that would take longer than it may, in several that
begin and end at rest. What happens between two transfers is up to the device: without voltage a non-volatile one stays.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from hil.core.errors import CapabilityError
from hil.core.events import Progress, TableRow
from hil.core.lab import Lab
from hil.core.outcome import Outcome, Summary
from hil.core.types import FloatArray, Quantity, Stimulus, Waveform, WaveformLimits
from hil.experiment.fields import FieldError, Name, Volts, quantity, refuse
from hil.experiment.protocol import Protocol

__all__ = ["REPEATABLE", "Settings", "plan", "run"]

REPEATABLE = True
"""The same samples lead to the same questions."""
_FINAL = (
    "a device may remember the pulses it has had, so that a train cannot be continued in the middle on a bench; bring the device "
    "back to where it was, and begin again with `hil run`"
)

Duration = Annotated[float, quantity("s", above=0.0)]


class Settings(Protocol):
    """``count`` pulses of ``amplitude`` and ``width``, one every ``period``; samples at the end of every pulse and every pause.

    ``read_voltage`` for ``read_width`` reads the resistance before and after; it should be too small to change the device.
    """

    control: Name = "V"
    output: Name = "I"
    amplitude: Volts = 0.8
    width: Duration = 10e-3
    period: Duration = 20e-3
    count: Annotated[int, Field(ge=1, le=100_000)] = 20
    read_voltage: Volts = 0.1
    read_width: Duration = 5e-3

    @model_validator(mode="after")
    def _possible(self) -> "Settings":
        if not self.width < self.period:
            refuse(f"a pulse of {self.width:g} s does not fit into a period of {self.period:g} s", "width")
        for name in ("amplitude", "read_voltage"):
            if getattr(self, name) == 0.0:
                refuse("a pulse of 0 V does nothing; give it a voltage", name)
        return self


def plan(settings: Settings, lab: Lab) -> list[Stimulus]:
    """The levels of the pulses, all other controls at rest."""
    controls, outputs = lab.backend.capabilities.controls, lab.backend.capabilities.outputs
    for field, layout, name, wanted in (
        ("control", controls, settings.control, Quantity.VOLTAGE),
        ("output", outputs, settings.output, Quantity.CURRENT),
    ):
        if layout[name].quantity is not wanted:
            raise FieldError(f"pulses need a {wanted.name.lower()} here, and {name!r} is none", field)
    levels = np.tile([channel.safe.value for channel in controls], (3, 1))
    levels[:, controls.index(settings.control)] = [0.0, settings.read_voltage, settings.amplitude]
    return [Stimulus.of(row) for row in levels]


def run(settings: Settings, lab: Lab) -> Summary:
    """Read, pulse, read. Raises CapabilityError where the backend cannot play, and what it raises otherwise."""
    rest, _, _ = plan(settings, lab)
    limits = lab.backend.capabilities.waveforms
    if limits is None:
        raise CapabilityError(
            "this bench cannot play pulses: one instrument that runs waveforms must drive the voltage and read every output"
        )
    with lab.continuity.unbroken(_FINAL):
        return _train(settings, lab, rest, limits)


def _train(settings: Settings, lab: Lab, rest: Stimulus, limits: WaveformLimits) -> Summary:
    each = max(1, int(min(limits.max_duration / settings.period, limits.max_segments // 2, limits.max_samples // 2)))
    begun = lab.clock.now()
    before = _read(settings, lab, rest)
    table: list[FloatArray] = []
    for first in range(0, settings.count, each):
        count = min(each, settings.count - first)
        begins = settings.period * np.arange(count)
        edges = np.column_stack([begins, begins + settings.width]).ravel()
        ends = np.append(edges[1:], settings.period * count)
        played = _play(settings, lab, rest, edges, np.tile([settings.amplitude, 0.0], count), ends, ends)
        offset = lab.clock.now() - begun - settings.period * count
        for time, voltage, current, lost in zip(ends + offset, played.levels, played.current, played.lost, strict=True):
            row = {"time": float(time), "voltage": float(voltage), "current": float(current), "limited": int(lost)}
            lab.events.emit(TableRow("pulses", row))
        table.append(np.where(played.lost > 0.0, np.nan, played.current)[::2])
        lab.events.emit(Progress(first + count, settings.count, "pulses"))
    after = _read(settings, lab, rest)
    currents = np.concatenate(table)
    limited = int(np.sum(np.isnan(currents)))
    if limited:
        lab.events.warn(f"{limited} pulses were read in compliance or out of range; they are kept, marked, and used for nothing")
    results: dict[str, object] = {
        "pulses": settings.count,
        "resistance_before_ohm": before,
        "resistance_after_ohm": after,
        "change": None if before is None or after is None else after / before - 1.0,
        "first_current_A": _finite(currents[0]),
        "last_current_A": _finite(currents[-1]),
        "pulses_in_compliance": limited,
    }
    return Summary(Outcome.DONE, f"{settings.count} pulses of {settings.amplitude:g} V", results=results)


@dataclass(frozen=True)
class _Played:
    levels: FloatArray
    current: FloatArray
    lost: FloatArray


def _play(
    settings: Settings, lab: Lab, rest: Stimulus, edges: FloatArray, levels: FloatArray, ends: FloatArray, samples: FloatArray
) -> _Played:
    """One waveform of ``levels`` from ``edges`` on; the current at ``samples``, one for every level."""
    capabilities = lab.backend.capabilities
    rows = np.tile(rest.values, (len(edges), 1))
    rows[:, capabilities.controls.index(settings.control)] = levels
    waveform = Waveform(edges, rows, np.tile(rest.connected, (len(edges), 1)), float(ends[-1]))
    trace = lab.backend.play(waveform, samples)
    output = capabilities.outputs.index(settings.output)
    return _Played(levels, trace.values[:, output], trace.overload[:, output].astype(np.float64))


def _read(settings: Settings, lab: Lab, rest: Stimulus) -> float | None:
    """Resistance (ohm) at the end of a reading pulse; None where the current was not measured, or none flowed."""
    edges = np.array([0.0, settings.read_width])
    ends = np.array([settings.read_width, 2.0 * settings.read_width])
    played = _play(settings, lab, rest, edges, np.array([settings.read_voltage, 0.0]), ends, ends)
    current = float(played.current[0])
    if played.lost[0] or not np.isfinite(current) or current == 0.0:
        return None
    return settings.read_voltage / current


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
