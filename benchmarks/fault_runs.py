"""One training run under faults: on a virtual bench that is kept, watched through its side door, resumed until it is complete."""

import contextlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.fault_draws import PASSING, Bench, Fault, draw
from hil.bench import Target, shipped_protocols
from hil.core.events import Event, Measured
from hil.prepared import Request
from hil.resume import resume
from hil.run import Result, run

TIMEOUT = 0.25
"""s that a driver waits for a reply: short, because a silent instrument costs real time."""
LIMITS = {
    "voltage": (0.0, 5.0),
    "pressure": (9e4, 1.1e5),
    "voltage_difference": (-5.1, 5.1),
    "pressure_difference": (-15e3, 15e3),
}
TOLERANCE = {"voltage": 0.02, "pressure": 100.0, "voltage_difference": 0.02, "pressure_difference": 150.0}
"""Accuracy of sources and controllers by their data sheets, rounded up: limits are kept by instruments, not by the program."""
READING_ERROR = {"divider": 1.5e-3, "divider_single_channel": 12e-3}
"""V by which a reading may differ from the plant: DAQ6510 on its 10 V range; 6517B on its 20 V range, plus settling."""
OFF = {"V": 0.02, "Pa": 500.0}
"""A source within this of 0 V counts as off; a pressure within this of the atmosphere counts as vented."""
MOST_PIECES, MOST_REFUSALS = 12, 5
"""Pieces of a run that get faults, and how often it may fail to begin again although no fault acted."""
DEVICE_FAULTS = ("open", "short", "leak")
BENCHES = (
    Bench(
        "divider",
        "divider.yaml",
        ("smu", "meter", "pace1", "pace2"),
        ("meter",),
        (("smu", "smua", "V"), ("smu", "smub", "V"), ("pace1", "a", "Pa"), ("pace1", "b", "Pa"), ("pace2", "a", "Pa")),
        ("a", "b"),
        {"smu": "2602B", "meter": "DAQ6510", "pace1": "PACE6000", "pace2": "PACE6000"},
    ),
    Bench(
        "divider_single_channel",
        "divider_single_channel.yaml",
        ("smu", "meter", "pace1", "pace2"),
        ("meter",),
        (("smu", "smua", "V"), ("smu", "smub", "V"), ("pace1", "a", "Pa"), ("pace1", "b", "Pa"), ("pace2", "a", "Pa")),
        ("a", "b"),
        {"smu": "2636B", "meter": "6517B", "pace1": "PACE6000", "pace2": "PACE6000"},
    ),
)
PROTOCOL = """format: hil-protocol/1
procedure: train_network
title: a short training run under faults
bench: {bench}
apply: {{V1: 5 V, V3: 0 V}}
targets: {{V2: 4 V}}
weights: pressure
weight_sets: {{pressure: {{start: 1 bar, step: 5 mbar, learning_rate: 1.5e-4 bar^2/V^2}}}}
gradient: {{method: forward_difference, scaling: si}}
settle: {{tolerance: 0.5 mV, window: 200 ms, timeout: 20 s}}
stop: {{loss_below: 1e-12 V^2, max_steps: 6}}
final_samples: 3
"""


@dataclass
class Led:
    """What one fault that acted led to."""

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


class Kept:
    """A running virtual bench that outlives the runs on it."""

    def __init__(self, virtual: Any) -> None:
        self._virtual = virtual

    def __getattr__(self, name: str) -> Any:
        return getattr(self._virtual, name)

    def stop(self) -> None:
        """Not yet."""


class Judge:
    """A listener that compares every reading with the plant the moment it is accepted; truth by the side door."""

    def __init__(self, bench: Bench, door: Any, tally: Tally, blockade: "Blockade") -> None:
        self._bench, self._door, self._tally, self._blockade = bench, door, tally, blockade
        self.rows = 0

    def __call__(self, event: Event) -> None:
        """Judge a block of readings that has just been put on record."""
        if not isinstance(event, Measured):
            return
        voltages, pressures = self._door.voltages(), self._door.pressures()
        for row, stimulus in enumerate(event.stimuli):
            self.rows += 1
            self._tally.readings += 1
            if event.readings.overload[row].any() or not np.isfinite(event.readings.values[row]).all():
                continue  # marked as no data
            pairs = [
                ("V2", float(event.readings.values[row, 0]), voltages["2"], READING_ERROR[self._bench.name]),
                *((f"V{n}", float(stimulus.values[k]), voltages[n], TOLERANCE["voltage"]) for k, n in enumerate(("1", "3"))),
                *(
                    (f"P{n}", float(stimulus.values[2 + k]), pressures[n], TOLERANCE["pressure"])
                    for k, n in enumerate(("1", "2", "3"))
                ),
            ]
            wrong = [f"{name} {taken:.6g} (truth {truth:.6g})" for name, taken, truth, most in pairs if abs(taken - truth) > most]
            if wrong:
                self._tally.wrong_values_accepted += 1
                self._tally.note(f"{self._bench.name}: accepted {', '.join(wrong)} with {self._door.happened()}")
        self._blockade.count()


class Blockade:
    """Faults of the record: after so many readings the disk is full, or another program locks the database."""

    def __init__(self, folder: Path, fault: Fault | None) -> None:
        self._folder = folder
        self._left = -1 if fault is None else fault.after
        self._kind = "" if fault is None else fault.kind
        self._stack = contextlib.ExitStack()
        self.acted = False

    def count(self) -> None:
        """One more reading is on record."""
        self._left -= 1
        if self._left == 0:
            self.acted = True
            self._stack.enter_context(_full_disk() if self._kind == "disk full" else _locked(self._folder))

    def lift(self) -> None:
        """There is space, and nobody holds the file."""
        self._stack.close()


@contextlib.contextmanager
def _full_disk() -> Iterator[None]:
    """No file of this process can grow, as on a disk without space."""
    import resource

    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, kept[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(folder / "runs.db", timeout=5.0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def bench_text(bench: Bench, timeout: float = TIMEOUT) -> str:
    """The shipped bench file with short time-outs (s), fast ramps and limits across edges."""
    text = (shipped_protocols() / "benches" / bench.file).read_text(encoding="utf-8")
    lines = []
    for line in text.splitlines():
        timed = line.replace('"}', f'", options: {{timeout: {timeout}}}}}') if "type: instruments." in line else line
        lines.append(timed.replace("slew: 10 V/s", "slew: 250 V/s").replace("slew: 50 mbar/s", "slew: 500 mbar/s"))
    return "\n".join(lines) + "\nedge_limits: {a: {pressure: 150 mbar}, b: {pressure: 150 mbar}}\n"


def _cause(acted: list[tuple[str, str]], error: str) -> int:
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


class Campaign:
    """Runs on one bench, one after the other, with faults on them."""

    def __init__(self, bench: Bench, seed: int, tally: Tally) -> None:
        self.bench, self.tally = bench, tally
        self._rng = np.random.default_rng(seed)
        self._seed = seed
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Campaign":
        from hil.bench_station import start_virtual
        from hil.prepared import prepare

        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        (self.folder / "bench.yaml").write_text(bench_text(self.bench), encoding="utf-8")
        (self.folder / "faults.yaml").write_text(PROTOCOL.format(bench="bench.yaml"), encoding="utf-8")
        prepared = prepare(self._request())
        virtual = start_virtual(prepared.bench, self._seed % 1000)
        self._stack.callback(virtual.stop)
        self.door = virtual.side_door
        self._stack.enter_context(mock.patch("hil.bench.start_virtual", return_value=Kept(virtual)))
        self._stack.enter_context(mock.patch("hil.record.recorder.BUSY_TIMEOUT", 0.1))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _request(self) -> Request:
        return Request(str(self.folder / "faults.yaml"), target=Target.VIRTUAL, data=self.folder / "data")

    def one_run(self, passing: int, wanted: int) -> None:
        """Train, stopped by fault after fault and resumed each time, until it is complete; the last piece has no faults."""
        self.tally.runs += 1
        run_id: int | None = None
        pieces: dict[int, int] = {}
        refused = 0
        for piece in range(MOST_PIECES + MOST_REFUSALS):
            quiet = piece >= MOST_PIECES or self.tally.injections >= wanted
            result, seen, acted = self._piece(run_id, [] if quiet else draw(self.bench, self._rng, passing))
            new_id = result.summary["run_id"]
            if new_id is not None:
                if run_id is not None:
                    self.tally.resumed += 1
                run_id = new_id
                pieces[new_id] = seen
            elif not acted:
                # The time-outs are short: a busy machine can be taken for a silent instrument, but not again and again.
                refused += 1
                if refused == MOST_REFUSALS:
                    self.tally.note(f"{self.bench.name}: run {run_id} does not go on without faults: {result.error}")
                    break
            outcome = result.summary["outcome"]
            if outcome in ("converged", "not_converged", "done"):
                self.tally.complete += 1
                break
            if run_id is not None and new_id is not None:
                self.tally.stops += 1
                if outcome != "stopped" or result.summary["results"].get("resumable") is not True:
                    self.tally.note(f"{self.bench.name}: ended as {outcome} after {acted}: {result.error}")
        else:
            self.tally.note(
                f"{self.bench.name}: run {run_id} was not complete after {MOST_PIECES} pieces with faults and the rest without"
            )
        for number, seen in pieces.items():
            stored = self._stored(number)
            if stored < seen:
                self.tally.measurements_lost += seen - stored
                self.tally.note(f"{self.bench.name}: run {number} holds {stored} of {seen} readings")

    def _piece(self, run_id: int | None, faults: list[Fault]) -> tuple[Result, int, list[tuple[str, str]]]:
        """One piece of a run; the result, the readings accepted, and the faults that acted, in order."""
        self.door.renew()
        blockade = Blockade(self.folder / "data", next((fault for fault in faults if fault.of_record), None))
        for fault in faults:
            if not fault.of_record:
                self.door.inject(fault.instrument, fault.kind, fault.amount, where=fault.where, after=fault.after)
        judge = Judge(self.bench, self.door, self.tally, blockade)
        try:
            result = run(self._request(), [judge]) if run_id is None else resume(run_id, self.folder / "data", [judge])
        finally:
            blockade.lift()
        acted = self.door.happened()
        if blockade.acted:
            kind = next(fault.kind for fault in faults if fault.of_record)
            acted.append(("record", kind))
        self.tally.injections += len(acted)
        if acted and self.tally.progress is not None:
            self.tally.progress(self.tally.injections)
        self._judge_plant(acted)
        self._attribute(acted, result)
        return result, judge.rows, acted

    def _attribute(self, acted: list[tuple[str, str]], result: Result) -> None:
        """Which fault ended the piece, by what the error says; those of links before it were overcome."""
        ended = result.summary["outcome"] not in ("converged", "not_converged", "done")
        cause = _cause(acted, result.error) if ended and acted else -1
        for place, (instrument, kind) in enumerate(acted):
            model = "device" if kind in DEVICE_FAULTS else self.bench.models.get(instrument, "record")
            if place == cause:
                to = "paused" if result.summary["run_id"] is not None else "not begun"
                self.tally.led.append(Led(kind, model, to, result.error))
            else:
                overcome = kind in PASSING or kind in ("overflow", "nan")
                self.tally.led.append(Led(kind, model, "overcome" if overcome else "no effect"))

    def _judge_plant(self, acted: list[tuple[str, str]]) -> None:
        left = []
        for instrument, ports in self.door.sources().items():
            for port, facts in ports.items():
                level = facts["level"]
                if facts["source"] != "Open" and abs(facts["voltage"]) > OFF["V"]:
                    left.append(f"{instrument}.{port} at {level:g}")
        for instrument, ports in self.door.outlets().items():
            for port, facts in ports.items():
                if facts["state"] != "vent" and abs(facts["pressure"] - 101_325.0) > OFF["Pa"]:
                    left.append(f"{instrument}.{port} {facts['state']} at {facts['pressure']:.0f} Pa")
        self.tally.outputs_left_on += len(left)
        beyond = []
        for quantity, by_name in self.door.extremes().items():
            low, high = LIMITS[quantity]
            for name, (least, most) in by_name.items():
                if least < low - TOLERANCE[quantity] or most > high + TOLERANCE[quantity]:
                    beyond.append(f"{quantity} of {name}: {least:.6g} … {most:.6g}")
        self.tally.limits_exceeded += len(beyond)
        for sentence in (*left, *beyond):
            self.tally.note(f"{self.bench.name}: {sentence} after {acted}")

    def _stored(self, run_id: int) -> int:
        with contextlib.closing(sqlite3.connect(self.folder / "data" / "runs.db")) as database:
            (table,) = database.execute("SELECT result_table_name FROM runs WHERE run_id = ?", (run_id,)).fetchone()
            (count,) = database.execute(f'SELECT COUNT(reading) FROM "{table}"').fetchone()
        return int(count)
