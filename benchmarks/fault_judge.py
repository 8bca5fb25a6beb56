"""The judge of the fault campaign: readings, outputs and limits, compared with the truth by the side door of the plant."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.fault_benches import ATMOSPHERE, FaultBench, Places
from hil.core.events import Event, Measured
from hil.core.types import Quantity

TOLERANCE = {"voltage": 0.02, "pressure": 100.0, "voltage_difference": 0.02, "pressure_difference": 150.0}
"""Accuracy of sources and controllers by their data sheets, rounded up: limits are kept by instruments, not by the program."""
OFF = {"V": 0.02, "Pa": 500.0}
"""A source within this of 0 V counts as off; a pressure within this of the atmosphere counts as vented."""
DEVICE_FAULTS = ("open", "short", "leak")


@dataclass
class Led:
    """What one fault that acted led to. ``model``: driver class of its instrument, or device, or record."""

    fault: str
    model: str
    to: str
    reason: str = ""


@dataclass
class Tally:
    """Everything that was counted."""

    injections: int = 0
    outputs_left_on: int = 0
    limits_exceeded: int = 0
    measurements_lost: int = 0
    wrong_values_accepted: int = 0
    readings: int = 0
    stops: int = 0
    resumed: int = 0
    complete: int = 0
    runs: int = 0
    led: list[Led] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    progress: Callable[[int], None] | None = None

    def note(self, sentence: str) -> None:
        """Remember what was found wrong."""
        self.notes.append(sentence)


class Judge:
    """A listener that compares every reading with the plant the moment it is accepted. ``count``: called once per block."""

    def __init__(self, bench: FaultBench, places: Places, door: Any, tally: Tally, count: Callable[[], None]) -> None:
        self._bench, self._door, self._tally, self._count = bench, door, tally, count
        self._controls, self._outputs = places.file.controls, places.file.outputs
        self.rows = 0

    def __call__(self, event: Event) -> None:
        """Judge a block of readings that has just been put on record."""
        if not isinstance(event, Measured):
            return
        truth = Truth(self._door)
        for row, stimulus in enumerate(event.stimuli):
            self.rows += 1
            self._tally.readings += 1
            values = event.readings.values[row]
            if event.readings.overload[row].any() or not np.isfinite(values).all():
                continue  # marked as no data
            wrong = [
                *self._wrong(truth, self._outputs, values, self._bench.reading_error),
                *self._wrong(truth, self._controls, stimulus.values, self._bench.tolerance),
            ]
            if wrong:
                self._tally.wrong_values_accepted += 1
                self._tally.note(f"{self._bench.name}: accepted {', '.join(wrong)} with {self._door.happened()}")
        self._count()

    @staticmethod
    def _wrong(truth: "Truth", terminals: Mapping[str, Any], values: Iterable[float], allowed: Mapping[str, float]) -> list[str]:
        found = []
        for (name, terminal), taken in zip(terminals.items(), values, strict=True):
            real = truth.at(terminal)
            most = allowed[name] if name in allowed else TOLERANCE[terminal.quantity.name.lower()]
            if not abs(float(taken) - real) <= most:
                found.append(f"{name} {float(taken):.6g} (truth {real:.6g})")
        return found


class Truth:
    """The plant now; every kind of value is asked for once, when it is first needed."""

    def __init__(self, door: Any) -> None:
        self._door = door
        self._known: dict[str, Any] = {}

    def at(self, terminal: Any) -> float:
        """True value (SI) of what ``terminal``, a control or an output of a bench file, drives or reads."""
        if terminal.quantity is Quantity.CURRENT:
            return float(self._asked("sources")[terminal.instrument][terminal.port]["current"])
        return float(self._asked(f"{terminal.quantity.name.lower()}s")[terminal.node])

    def _asked(self, what: str) -> Any:
        if what not in self._known:
            self._known[what] = getattr(self._door, what)()
        return self._known[what]


def left_on(door: Any) -> list[str]:
    """Outputs that drive something although the run has ended."""
    left = []
    for instrument, ports in door.sources().items():
        for port, facts in ports.items():
            if facts["source"] != "Open" and abs(facts["voltage"]) > OFF["V"]:
                left.append(f"{instrument}.{port} at {facts['level']:g}")
    for instrument, ports in door.outlets().items():
        for port, facts in ports.items():
            if facts["state"] != "vent" and abs(facts["pressure"] - ATMOSPHERE) > OFF["Pa"]:
                left.append(f"{instrument}.{port} {facts['state']} at {facts['pressure']:.0f} Pa")
    return left


def beyond(door: Any, limits: Mapping[str, Mapping[str, tuple[float, float]]]) -> list[str]:
    """Nodes and edges that went outside ``limits`` since the bench was renewed."""
    found = []
    for quantity, by_name in door.extremes().items():
        for name, (least, most) in by_name.items():
            low, high = limits[quantity][name]
            if least < low - TOLERANCE[quantity] or most > high + TOLERANCE[quantity]:
                found.append(f"{quantity} of {name}: {least:.6g} … {most:.6g}")
    return found


def cause(acted: Sequence[tuple[str, str]], error: str) -> int:
    """Position of the fault that the error speaks of: of the record, of a device, of the instrument it names; else the last."""
    of_record = "could not be written" in error
    of_device = "opened or shorted" in error or "overloaded" in error
    of_source = "not in its limits" in error or "stuck or drifts" in error
    for place in reversed(range(len(acted))):
        instrument, kind = acted[place]
        if of_record:
            fits = instrument == "record"
        elif of_device:
            fits = kind in (*DEVICE_FAULTS, "overflow", "nan")
        elif of_source:
            fits = kind in ("stuck", "drift")
        else:
            fits = f"'{instrument}'" in error or f" {instrument}." in error
        if fits:
            return place
    return len(acted) - 1
