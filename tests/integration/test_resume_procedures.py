"""Procedures without a state of their own go on as well: bit for bit in a simulation, with a second look on instruments."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from hil.bench import Target
from hil.core.errors import InstrumentError
from hil.core.events import Event, Measured
from hil.core.types import Stimulus
from hil.keeping import Keeper
from hil.record.reader import list_runs, load
from hil.resume import resume
from hil.run import Request, Result, run
from tests.marks import needs_sigkill
from tests.resumed import Interrupt, hasten, on, opens_with_plain_qcodes, same

CASES = {
    "iv_curve": Request("iv_curve", sets=("sweep.points=9",)),
    # A device that remembers is measured point by point, so that the interruption falls inside the sweep.
    "iv_memory": Request(
        "iv_curve", sets=("bench.twin.law={name: flux_volatile}", "sweep.points=5", "sweep.cycles=1", "rates=[0.5 V/s]")
    ),
    "analog_gradient": Request("analog_gradient", sets=("pairs=2", "drift=0.005", "common_noise=0.01")),
    "best_delta": Request("analog_gradient", sets=("pairs=2", "delta=best")),
    "iris": Request("iris", sets=("seeds=2", "folds=2", "recipe.epochs=2")),
    "iris_curve": Request("iris", sets=("seeds=2", "folds=2", "recipe.epochs=2", "slope=curve")),
    "pulses": Request("pulses", sets=("count=6",)),
}
POINTS = {"iv_curve": 2, "best_delta": 2, "iris_curve": 2}
"""Random interruptions; five where nothing else is said: two of these procedures have a second case."""
BRIEF = ("seeds=1", "folds=2", "recipe.epochs=2")

Whole = dict[str, tuple[Result, Path, int]]


@pytest.fixture(scope="module", autouse=True)
def _no_pictures() -> Iterator[None]:
    """They cost more than the runs."""
    with (
        mock.patch("hil.figures.iv_curve.save_curve_figure", lambda raw, corrected, picture: picture),
        mock.patch("hil.figures.analog_gradient.save_comparison", lambda folder, *rest: folder),
    ):
        yield


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Every case without an interruption."""
    made = {}
    for name, request in CASES.items():
        data, count = tmp_path_factory.mktemp(name), Interrupt()
        made[name] = (run(on(data, request), [count]), data, count.seen)
        assert made[name][0].exit_code == 0, made[name][0].error
    return made


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(("name", "number"), [(name, number) for name in CASES for number in range(POINTS.get(name, 5))])
def test_interrupted_anywhere_and_resumed_is_the_uninterrupted_run(tmp_path: Path, whole: Whole, name: str, number: int) -> None:
    chance = random.Random(f"{name} {number}")
    expected, expected_data, events = whole[name]
    stopped = run(on(tmp_path, CASES[name]), [Interrupt(chance.randrange(1, events))])
    assert (stopped.exit_code, stopped.summary["outcome"]) == (5, "stopped")
    assert stopped.summary["results"]["resumable"] is True
    opens_with_plain_qcodes(tmp_path)
    again = resume(1, tmp_path, [Interrupt(chance.randrange(1, 8))] if number % 2 else [])
    if again.exit_code == 5:
        again = resume(2, tmp_path)
    same(expected, expected_data, again, tmp_path)
    opens_with_plain_qcodes(tmp_path)


def test_nothing_that_is_on_record_is_measured_again(tmp_path: Path, whole: Whole) -> None:
    """Half of the readings, and the second part makes only the other half."""
    expected, _, events = whole["analog_gradient"]
    run(on(tmp_path, CASES["analog_gradient"]), [Interrupt(events // 2)])
    seen: list[Event] = []
    resume(1, tmp_path, [seen.append])
    state = json.loads((tmp_path / "checkpoints" / "1.json").read_text(encoding="utf-8"))
    assert state == {"format": "hil-checkpoint/1", "continued_as": 2}
    measured = sum(len(event.stimuli) for event in seen if isinstance(event, Measured))
    before = load(2, tmp_path).metadata["continues"]["rows"]["reading"]
    assert before > 100
    assert before + measured == len(load(2, tmp_path).readings)
    assert expected.summary["relaxations"] == load(2, tmp_path).summary["relaxations"]


def test_trainings_that_were_computed_are_not_computed_again(
    tmp_path: Path, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hil.procedures import train_neurons

    trained: list[int] = []
    actual = train_neurons._trained

    def counted(*arguments: Any) -> Any:
        trained.append(1)
        return actual(*arguments)

    monkeypatch.setattr(train_neurons, "_trained", counted)
    run(on(tmp_path, CASES["iris_curve"]), [Interrupt(whole["iris_curve"][2] - 5)])
    first = len(trained)
    same(*whole["iris_curve"][:2], resume(1, tmp_path), tmp_path)
    assert first > 6
    assert len(trained) - first < 12 - first + 2  # 12: two seeds, two folds; devices, tanh and ReLU


KILLED = """
import os, signal, sys
from pathlib import Path
from hil.run import Request, run
count = 0
def kill(event):
    global count
    count += 1
    if count == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
run(Request(sys.argv[3], sets=tuple(sys.argv[4:]), data=Path(sys.argv[1])), [kill])
"""


@needs_sigkill
@pytest.mark.parametrize("name", ["iv_memory", "iris"])
def test_killed_and_resumed_is_the_uninterrupted_run(tmp_path: Path, whole: Whole, name: str) -> None:
    expected, expected_data, events = whole[name]
    at = random.Random(f"kill {name}").randrange(2, events)
    request = CASES[name]
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(at), request.protocol, *request.sets], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert list_runs(tmp_path)[0]["outcome"] == "unfinished"
    opens_with_plain_qcodes(tmp_path)
    same(expected, expected_data, resume(1, tmp_path), tmp_path)
    opens_with_plain_qcodes(tmp_path)


def test_killed_between_the_record_and_the_state(tmp_path: Path, whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block is on record, but the state is not: it is measured again, and counts once."""
    save, calls = Keeper.save, []

    def lost(self: Keeper, state: Any) -> None:
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        save(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "save", lost)
        assert run(on(tmp_path, CASES["analog_gradient"])).exit_code == 5
    rows = json.loads((tmp_path / "checkpoints" / "1.json").read_text(encoding="utf-8"))["rows"]["reading"]
    assert len(load(1, tmp_path).readings) > rows
    same(*whole["analog_gradient"][:2], resume(1, tmp_path), tmp_path)


def test_another_question_than_before_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(on(tmp_path, CASES["analog_gradient"]), [Interrupt(20)])
    monkeypatch.setattr("hil.procedures.analog_gradient.ANCHOR_ROWS", 3)
    refused = resume(1, tmp_path)
    assert refused.exit_code == 2
    assert "asks for something else than it did before the interruption" in refused.error


def test_only_measuring_verbs_are_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A procedure that would drive by hand while it is told what it was told is stopped before it does."""
    from hil.procedures import iv_curve

    run(on(tmp_path, CASES["iv_memory"]), [Interrupt(5)])
    actual = iv_curve.run

    def by_hand(settings: Any, lab: Any) -> Any:
        lab.backend.apply(Stimulus.of([0.5]))
        return actual(settings, lab)

    monkeypatch.setattr(iv_curve, "run", by_hand)
    refused = resume(1, tmp_path)
    assert "can only be asked for in the same order again" in refused.error


# -- on instruments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "sets", "at", "names"),
    [
        ("iv_curve", ("sweep.points=5", "rates=[]"), 10, {"I"}),
        ("analog_gradient", ("pairs=1",), 30, {"I of A", "I of B"}),
        ("iris_bench", BRIEF, 55, {"I of A", "I of B"}),
    ],
)
def test_on_instruments_the_last_point_is_measured_first(
    tmp_path: Path, protocol: str, sets: tuple[str, ...], at: int, names: set[str]
) -> None:
    request = Request(protocol, target=Target.VIRTUAL, sets=sets, data=tmp_path)
    stopped = run(request, [Interrupt(at)])
    assert stopped.summary["results"]["resumable"] is True
    saved = json.loads((tmp_path / "checkpoints" / "1.json").read_text(encoding="utf-8"))
    kept = load(1, tmp_path).readings.iloc[: saved["rows"]["reading"]]
    seen: list[Measured] = []
    again = resume(1, tmp_path, [lambda event: seen.append(event) if isinstance(event, Measured) else None])
    assert again.exit_code == 0, again.error
    first = seen[0]
    assert np.array_equal([stimulus.values[0] for stimulus in first.stimuli], kept["V"].tail(len(names)))
    (revisit,) = again.summary["results"]["revisits"]
    assert revisit["moved"].keys() == names
    for number, name in enumerate(sorted(names)):
        moved = first.readings.values[number, 0] - kept["I"].iloc[number - len(names)]
        assert revisit["moved"][name] == pytest.approx(moved)
        # The devices of the rehearsal do not drift; two noisy readings differ.
        assert 0 < abs(revisit["moved"][name]) < 1e-6
    assert any(text.startswith("resumed: since the interruption the last point moved I") for text in again.summary["warnings"])
    opens_with_plain_qcodes(tmp_path)


def test_a_second_look_is_no_answer_of_the_next_continuation(tmp_path: Path) -> None:
    """Resumed twice on instruments: the looks are on record between the points, and not taken for points."""
    request = Request("iv_curve", target=Target.VIRTUAL, sets=("sweep.points=9", "rates=[]"), data=tmp_path)
    assert run(request, [Interrupt(6)]).exit_code == 5
    assert resume(1, tmp_path, [Interrupt(8)]).exit_code == 5
    again = resume(2, tmp_path)
    assert again.exit_code == 0, again.error
    assert len(again.summary["results"]["revisits"]) == 2
    table = load(3, tmp_path).rows["iv_curve"]
    straight = run(Request("iv_curve", target=Target.VIRTUAL, sets=request.sets, data=tmp_path / "whole"))
    expected = load(straight.summary["run_id"], tmp_path / "whole").rows["iv_curve"]
    assert list(table["voltage"]) == list(expected["voltage"])
    assert np.allclose(table["current"], expected["current"], atol=1e-6)
    assert len(load(3, tmp_path).readings) == len(table) + 2


def test_a_sweep_in_time_is_measured_again_from_its_beginning_on_instruments(tmp_path: Path) -> None:
    sets = ("sweep.points=9", "sweep.cycles=3", "rates=[0.2 V/s, 0.5 V/s]")
    request = Request("iv_curve", target=Target.VIRTUAL, sets=sets, data=tmp_path)

    def after_first(event: Event) -> None:
        if isinstance(event, Measured):
            blocks.append(event)
            if len(blocks) == 3:
                raise KeyboardInterrupt

    blocks: list[Measured] = []
    assert run(request, [after_first]).exit_code == 5
    assert len(load(1, tmp_path).readings) > 0
    again = resume(1, tmp_path)
    assert again.exit_code == 0, again.error
    table = load(2, tmp_path).rows["iv_curve"]
    assert all(np.all(np.diff(part["time"]) > 0) for _, part in table.groupby("sweep"))


def test_pulses_are_not_continued_on_instruments_and_why_is_said(tmp_path: Path) -> None:
    request = Request("pulses", target=Target.VIRTUAL, sets=("count=6",), data=tmp_path)
    stopped = run(request, [Interrupt(4)])
    assert stopped.exit_code == 5
    assert stopped.summary["results"]["resumable"] is False
    assert "cannot be continued in the middle on a bench" in stopped.summary["results"]["not_resumable"]
    refused = resume(1, tmp_path)
    assert refused.exit_code == 2
    assert "run 1 cannot be resumed: a device may remember the pulses it has had" in refused.error
    assert "`hil run`" in refused.error


def test_a_hold_that_failed_is_held_after_nothing_was_left_to_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*rest: object) -> None:
        raise InstrumentError("the cable fell out")

    request = Request("iv_curve", target=Target.VIRTUAL, sets=("sweep.points=3", "rates=[]"), data=tmp_path, hold=35.0)
    with monkeypatch.context() as patch:
        patch.setattr("hil.run.keep_set_points", failing)
        failed = run(request)
    assert (failed.exit_code, failed.summary["results"]["resumable"]) == (3, True)
    seen: list[Measured] = []
    again = resume(1, tmp_path, [lambda event: seen.append(event) if isinstance(event, Measured) else None])
    assert (again.exit_code, again.error) == (0, "")
    assert len(seen) == 4  # every ten seconds
    assert all(event.stimuli[0].values[0] == 0.0 for event in seen)


def test_a_changed_device_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody takes the pair out over night and puts another in."""
    request = Request("iris_bench", target=Target.VIRTUAL, sets=(*BRIEF, "mismatch=0.05"), data=tmp_path)
    run(request, [Interrupt(55)])
    monkeypatch.setattr("hil.run.remount", lambda exchange, saved: exchange(3))
    again = resume(1, tmp_path)
    (revisit,) = again.summary["results"]["revisits"]
    assert revisit["significant"] is True
    assert any("more than its noise explains" in text for text in again.summary["warnings"])
