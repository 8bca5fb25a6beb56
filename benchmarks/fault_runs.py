"""One training run under faults: on a virtual bench that is kept, watched through its side door, resumed until it is complete."""

import contextlib
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.fault_benches import FaultBench, Places
from benchmarks.fault_draws import PASSING, Cell, Fault, cell, cells, draw
from benchmarks.fault_judge import Judge, Led, Tally, beyond, cause, left_on, reservoirs_beyond, unaccounted
from hil.bench import Target
from hil.core.types import Quantity
from hil.prepared import Request
from hil.resume import resume
from hil.run import Result, run

MOST_PIECES, MOST_REFUSALS = 12, 5
"""Pieces of a run that get faults, and how often it may fail to begin again although no fault acted."""

DISCHARGE = 1.0
"""s of the plant's time in which a cable discharges through outputs that hold 0 V with a few nA only, as a 2400 does when off."""


class Kept:
    """A running virtual bench that outlives the runs on it."""

    def __init__(self, virtual: Any) -> None:
        self._virtual = virtual

    def __getattr__(self, name: str) -> Any:
        return getattr(self._virtual, name)

    def stop(self) -> None:
        """Not yet."""


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
def _full_disk() -> Generator[None]:
    """No file of this process can grow, as on a disk without space."""
    import resource

    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, kept[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)


@contextlib.contextmanager
def _locked(folder: Path) -> Generator[None]:
    with contextlib.closing(sqlite3.connect(folder / "runs.db", timeout=5.0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def drifting(places: Places, faults: Sequence[Fault]) -> dict[str, float]:
    """Node -> V by which ``faults`` let its source drift; nodes that nobody drives are drawn along, as far as there are devices
    between them and the source."""
    driven = {(one.instrument, one.port): one.node for one in places.sources if one.quantity is Quantity.VOLTAGE}
    held = {*driven.values(), *(name for name, node in places.file.twin.nodes.items() if node.ground)}
    found: dict[str, float] = {}
    for one in faults:
        if one.kind == "drift" and (one.instrument, one.where) in driven:
            drawn, new = set[str](), {driven[one.instrument, one.where]}
            while new:
                drawn |= new
                ends = [{edge.base, edge.tip} for edge in places.file.twin.edges.values()]
                new = {node for pair in ends if pair & new for node in pair} - drawn - held
            found.update(dict.fromkeys(drawn, one.amount))
    return found


def unreached(result: Result, acted: Sequence[tuple[str, str]]) -> set[str]:
    """Instruments that died for good, where the end of the run says so: that it is not safe, and that it is because of them."""
    dead = {instrument for instrument, kind in acted if kind == "dead"}
    if result.summary["outcome"] != "failed" or result.summary["run_id"] is None:
        return set()
    return {one for one in dead if f"instrument '{one}'" in result.error and "the safe state was not reached" in result.error}


class Campaign:
    """Runs on one bench, one after the other, with faults on them."""

    def __init__(self, bench: FaultBench, seed: int, tally: Tally) -> None:
        self.bench, self.tally = bench, tally
        self.places = bench.places()
        self._limits = self.places.limits()
        # A new day begins with every piece, and with it syringes are full.
        self._refills = tuple(f"{pump}={1e6 * stock.volume:.6g} mL" for pump, stock in self.places.stocks.items())
        self._due: set[Cell] = set()
        self._messages = Counter(dict.fromkeys(self.places.instruments, 1))
        self._rng = np.random.default_rng(seed)
        self._seed = seed
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Campaign":
        from hil.bench_station import start_virtual
        from hil.prepared import prepare

        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        self.bench.write(self.folder)
        prepared = prepare(self._request())
        virtual = start_virtual(prepared.bench, self._seed % 1000)
        self._stack.callback(virtual.stop)
        self.door, self._clock = virtual.side_door, virtual.clock
        self._stack.enter_context(mock.patch("hil.bench.start_virtual", return_value=Kept(virtual)))
        self._stack.enter_context(mock.patch("hil.record.recorder.BUSY_TIMEOUT", 0.1))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _request(self) -> Request:
        return Request(str(self.folder / "faults.yaml"), target=Target.VIRTUAL, data=self.folder / "data")

    def one_run(self, passing: Sequence[int], wanted: int) -> None:
        """Train, stopped by fault after fault and resumed each time, until it is complete; the last piece has no faults."""
        self.tally.runs += 1
        run_id: int | None = None
        pieces: dict[int, int] = {}
        refused = 0
        for piece in range(MOST_PIECES + MOST_REFUSALS):
            quiet = piece >= MOST_PIECES or self.tally.injections >= wanted
            result, seen, acted = self._piece(run_id, [] if quiet else self._drawn(passing[piece % len(passing)]))
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
                expected = "failed" if any(kind == "dead" for _, kind in acted) else "stopped"
                if outcome not in ("stopped", expected) or result.summary["results"].get("resumable") is not True:
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

    def _drawn(self, passing: int) -> list[Fault]:
        """Faults for the next piece; what has not come to this bench yet first."""
        self._due = self._due or cells(self.places)
        return draw(self.places, self._rng, passing, self._pace(), self._due)

    def _pace(self) -> dict[str, float]:
        """Instrument -> its messages so far for one of the busiest instrument."""
        most = max(self._messages.values())
        return {name: count / most for name, count in self._messages.items()}

    def _piece(self, run_id: int | None, faults: list[Fault]) -> tuple[Result, int, list[tuple[str, str]]]:
        """One piece of a run; the result, the readings accepted, and the faults that acted, in order."""
        self.door.renew()
        self._found, self._stood = self.door.flows(), self.door.concentrations()
        blockade = Blockade(self.folder / "data", next((fault for fault in faults if fault.of_record), None))
        for fault in faults:
            if not fault.of_record:
                self.door.inject(fault.instrument, fault.kind, fault.amount, where=fault.where, after=fault.after)
        judge = Judge(self.bench, self.places, self.door, self.tally, blockade.count)
        try:
            if run_id is None:
                result = run(self._request(), [judge])
            else:
                result = resume(run_id, self.folder / "data", [judge], refills=self._refills)
        finally:
            blockade.lift()
        acted = self.door.happened()
        self._messages.update(self.door.messages())
        if blockade.acted:
            kind = next(fault.kind for fault in faults if fault.of_record)
            acted.append(("record", kind))
        self.tally.injections += len(acted)
        self._due -= {cell(self.places, *one) for one in acted}
        self._judge_plant(faults, acted, result, judge)
        self._attribute(acted, result)
        return result, judge.rows, acted

    def _attribute(self, acted: list[tuple[str, str]], result: Result) -> None:
        """Which fault ended the piece, by what the error says; those of links before it were overcome."""
        ended = result.summary["outcome"] not in ("converged", "not_converged", "done")
        blamed = cause(acted, result.error) if ended and acted else -1
        for place, (instrument, kind) in enumerate(acted):
            model = cell(self.places, instrument, kind).model
            if place == blamed:
                to = "paused" if result.summary["run_id"] is not None else "not begun"
                if result.summary["outcome"] == "failed" and instrument in unreached(result, acted):
                    to = "ended, saying what keeps its output"
                self.tally.led.append(Led(kind, model, to, result.error))
            else:
                overcome = kind in PASSING or kind in ("overflow", "nan")
                self.tally.led.append(Led(kind, model, "overcome" if overcome else "no effect"))

    def _judge_plant(self, faults: Sequence[Fault], acted: list[tuple[str, str]], result: Result, judge: Judge) -> None:
        gone = unreached(result, acted)
        # Who can be reached by nobody stops when its watchdog or its dose is over.
        self._clock.sleep(max([DISCHARGE, *(DISCHARGE + self.places.runs_on.get(one, 0.0) for one in gone)]))
        unmoved = {instrument for instrument, kind in acted if kind in ("stuck", "dead")}
        # Without a way to waste a valve rests where it is while a pump may still run, and a piece that ends before it touches one
        # leaves it as it was.
        unmoved |= self.places.stays if gone & set(self.places.stocks) else set()
        fine = {
            valve: (place, self._found[valve][""]["position"])
            for valve, place in self.places.closed.items()
            if valve not in unmoved
        }
        left = left_on(self.door, fine, gone)
        drifted = [one for one in faults if (one.instrument, one.kind) in acted]
        # Readings end before a drifting source is switched off, and until then nothing is forgiven.
        outside = {
            **judge.outside,
            **beyond(self.door, self._limits, drifting(self.places, drifted)),
            **reservoirs_beyond(self.door, self.places, gone, self._stood),
            **unaccounted(self.door, self._found, self.places, result.summary["results"].get("liquids", {})),
        }
        self.tally.outputs_left_on += len(left)
        self.tally.limits_exceeded += len(outside)
        for sentence in (*left, *(f"{what}: {far}" for what, far in outside.items())):
            self.tally.note(f"{self.bench.name}: {sentence} after {acted}")

    def _stored(self, run_id: int) -> int:
        with contextlib.closing(sqlite3.connect(self.folder / "data" / "runs.db")) as database:
            (table,) = database.execute("SELECT result_table_name FROM runs WHERE run_id = ?", (run_id,)).fetchone()
            (count,) = database.execute(f'SELECT COUNT(reading) FROM "{table}"').fetchone()
        return int(count)
