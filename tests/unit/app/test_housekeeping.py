"""Housekeeping is taken in the pauses, once a second, never on the way to the safe state; what does not answer is given up."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.core.clock import SteppedClock
from hil.core.errors import InstrumentError
from hil.core.events import Event, EventStream, TableRow, Warned
from hil.core.types import Readings
from hil.housekeeping import Housekeeper, PausingClock
from hil.notify import notifiers, send
from instruments.housekeeping import Watched


class Bench:
    """A clock, what was told of it, and a housekeeper whose every look takes ``takes`` seconds."""

    def __init__(self, takes: float = 0.0) -> None:
        self.inner = SteppedClock()
        self.clock = PausingClock(self.inner)
        self.told: list[Event] = []
        self.takes = takes
        self.problems: dict[str, str] = {}
        self.housekeeper = Housekeeper(self._read, self.clock, EventStream(None, [self.told.append]))

    def _read(self) -> tuple[dict[str, float], dict[str, str]]:
        self.inner.sleep(self.takes)
        problems, self.problems = self.problems, {}
        return {"gas": 1e5}, problems

    def times(self) -> list[float]:
        return [float(event.row["time"]) for event in self.told if isinstance(event, TableRow)]


def test_a_long_wait_is_looked_into_once_a_second_and_not_prolonged() -> None:
    bench = Bench(takes=0.05)
    with bench.housekeeper:
        bench.clock.sleep(10.0)
    assert bench.clock.now() == pytest.approx(10.0)
    assert bench.times() == pytest.approx(np.arange(10.0), abs=0.06)


def test_short_waits_and_waits_outside_a_run_are_left_alone() -> None:
    bench = Bench()
    bench.clock.sleep(5.0)
    with bench.housekeeper:
        for _ in range(100):
            bench.clock.sleep(0.02)
    assert bench.times() == []
    assert bench.clock.now() == pytest.approx(7.0)
    bench.clock.sleep(5.0)
    assert bench.times() == []


def test_readings_give_an_occasion_too() -> None:
    bench = Bench()
    nothing = Readings(np.empty((0, 1)), np.empty((0, 1)), np.empty((0, 1), dtype=np.bool_), np.empty(0))
    with bench.housekeeper:
        for _ in range(300):
            bench.clock.sleep(0.02)
            bench.housekeeper([], nothing)
    assert len(bench.times()) == 6


def test_nothing_is_asked_while_an_error_is_handled() -> None:
    bench = Bench(takes=2.0)
    with bench.housekeeper:
        try:
            raise InstrumentError("the cable fell out")
        except InstrumentError:
            bench.clock.sleep(3.0)
    assert bench.times() == []
    assert bench.clock.now() == 3.0


def test_a_look_that_takes_longer_than_a_second_does_not_follow_upon_itself() -> None:
    bench = Bench(takes=3.0)
    with bench.housekeeper:
        bench.clock.sleep(9.0)
    assert min(np.diff(bench.times())) >= 3.0 + 0.1 - 1e-9


def test_what_does_not_answer_is_given_up_with_a_warning() -> None:
    bench = Bench()
    bench.problems = {"leak": "no answer within 2 s"}
    with bench.housekeeper:
        bench.clock.sleep(3.0)
    (warned,) = [event for event in bench.told if isinstance(event, Warned)]
    assert warned.message == "housekeeping 'leak' cannot be read and is given up for this run: no answer within 2 s"


def test_a_parameter_that_fails_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Parameter:
        gettable, unit = True, "Pa"

        def __init__(self, name: str, fails: bool) -> None:
            self.name, self.fails = name, fails

        def get(self) -> float:
            asked.append(self.name)
            if self.fails:
                raise InstrumentError("no answer")
            return 2.0

    class Port:
        def __init__(self) -> None:
            self.parameters = {"good": Parameter("good", False), "bad": Parameter("bad", True)}
            self.submodules = {"a": self}

    monkeypatch.setattr("qcodes.instrument.Instrument.find_instrument", lambda name: Port())
    watched = Watched([("one", "box.a.good"), ("other", "box.bad")])
    assert watched.units == {"one": "Pa", "other": "Pa"}
    assert watched.read() == ({"one": 2.0}, {"other": "no answer"})
    assert watched.read() == ({"one": 2.0}, {})
    assert asked == ["good", "bad", "good"]


def test_a_way_to_tell_may_come_with_a_package_and_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    def shout(options: Any, notice: Any, data: Path) -> None:
        told.append((dict(options), notice))
        if notice:
            raise ZeroDivisionError("no breath")

    class Entry:
        name = "shout"

        def load(self) -> Any:
            return shout

    monkeypatch.setattr("hil.notify.entry_points", lambda group: [Entry()])
    ways = notifiers({"shout": {"loud": True}, "file": {}}, tmp_path)
    assert told == [({"loud": True}, {})]
    summary = {
        "run_id": 1,
        "protocol": "p",
        "target": "bench",
        "outcome": "done",
        "steps": 0,
        "loss": None,
        "results": {"reason": "r"},
    }
    assert send(ways, summary, tmp_path) == ["notify: shout did not work: no breath"]
    assert json.loads((tmp_path / "notices.jsonl").read_text(encoding="utf-8"))["reason"] == "r"
