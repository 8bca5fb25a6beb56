"""A run that is interrupted anywhere and resumed is the run that was not: its summary, weights, readings, to the last bit."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import yaml

from hil.bench import Target
from hil.core.events import Event, Measured, StepDone
from hil.keeping import Keeper
from hil.record.checkpoint import Spill
from hil.record.reader import list_runs, load
from hil.resume import resume
from hil.run import Request, Result, run
from tests.marks import needs_sigkill
from tests.resumed import Interrupt, hasten, on, opens_with_plain_qcodes, same

SETS = ("stop.max_steps=6", "optimiser=momentum", "stop.loss_below=1e-12 V^2", "gradient.base_every=2")
DIVIDER = Request("voltage_divider", sets=SETS)
"""Momentum and drift, because what they remember is state too."""
BATCH = Request("linear_regression", sets=("stop.max_steps=2",), seed=3)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Result, Path, int]]:
    made = {}
    for request in (DIVIDER, BATCH):
        data, count = tmp_path_factory.mktemp(request.protocol), Interrupt()
        made[request.protocol] = (run(on(data, request), [count]), data, count.seen)
    return made


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("number", range(20))
def test_interrupted_anywhere_and_resumed_is_the_uninterrupted_run(
    tmp_path: Path, whole: dict[str, tuple[Result, Path, int]], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(number)
    request = (DIVIDER, BATCH)[number % 6 == 5]
    if number % 2:
        # One set of weights at a time, as on a bench: the interruption then falls inside a gradient plan.
        monkeypatch.setattr("hil.procedures.train_problem.block_of", lambda backend, dwell: 1)
    expected, expected_data, events = whole[request.protocol]
    stopped = run(on(tmp_path, request), [Interrupt(chance.randrange(1, events))])
    assert (stopped.exit_code, stopped.summary["outcome"]) == (5, "stopped")
    assert stopped.summary["results"]["resumable"] is True
    opens_with_plain_qcodes(tmp_path)
    again = resume(stopped.summary["run_id"], tmp_path, [Interrupt(chance.randrange(1, 40))] if number % 4 == 3 else [])
    if again.exit_code == 5:
        again = resume(again.summary["run_id"], tmp_path)
    same(expected, expected_data, again, tmp_path)
    opens_with_plain_qcodes(tmp_path)
    assert not list((tmp_path / "checkpoints").glob("*.tmp"))


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("at", [4, 11, 17, 26])
def test_noise_goes_on_where_it_was(tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from simulated_backend.backend import SimulatedBackend
    from simulated_backend.imperfections import Imperfections

    made = SimulatedBackend.__init__
    flaws = Imperfections(read_noise=1e-3, offset_drift=1e-4, cycle_variation=1e-3, aperture=0.02)
    monkeypatch.setattr(SimulatedBackend, "__init__", partialmethod(made, imperfections=flaws))
    monkeypatch.setattr("hil.procedures.train_problem.block_of", lambda backend, dwell: 1)
    expected = run(on(tmp_path / "whole", DIVIDER))
    stopped_run(tmp_path, DIVIDER, at)
    again = resume(1, tmp_path)
    assert len(set(load(2, tmp_path).readings["V2"])) > 20, "this is no noise"
    same(expected, tmp_path / "whole", again, tmp_path)


@pytest.mark.parametrize("after", [3, 7])
def test_stopped_right_after_the_state_was_saved(
    tmp_path: Path, whole: dict[str, tuple[Result, Path, int]], after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, calls = Keeper.save, []

    def saved(self: Keeper, state: Any) -> None:
        save(self, state)
        calls.append(state["step"])
        if len(calls) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(Keeper, "save", saved)
    stopped = run(on(tmp_path, DIVIDER))
    assert stopped.exit_code == 5
    again = resume(stopped.summary["run_id"], tmp_path)
    same(*whole["voltage_divider"][:2], again, tmp_path)


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
run(Request("voltage_divider", sets=tuple(sys.argv[3:]), data=Path(sys.argv[1])), [kill])
"""


@needs_sigkill
@pytest.mark.parametrize("number", range(3))
def test_killed_and_resumed_is_the_uninterrupted_run(
    tmp_path: Path, whole: dict[str, tuple[Result, Path, int]], number: int
) -> None:
    expected, expected_data, events = whole["voltage_divider"]
    at = random.Random(100 + number).randrange(2, events)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(at), *SETS], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert list_runs(tmp_path)[0]["outcome"] == "unfinished"
    opens_with_plain_qcodes(tmp_path)
    same(expected, expected_data, resume(1, tmp_path), tmp_path)
    opens_with_plain_qcodes(tmp_path)


def stopped_run(data: Path, request: Request = DIVIDER, at: int = 20) -> int:
    stopped = run(on(data, request), [Interrupt(at)])
    assert stopped.exit_code == 5
    run_id: int = stopped.summary["run_id"]
    return run_id


def copied(folder: Path) -> Request:
    """The divider's files, where a test may change them."""
    shipped = Path(__file__).parents[2] / "protocols"
    (folder / "benches").mkdir(parents=True)
    for name in ("voltage_divider.yaml", "benches/divider.yaml"):
        (folder / name).write_text((shipped / name).read_text(encoding="utf-8"), encoding="utf-8")
    return Request(str(folder / "voltage_divider.yaml"))


@pytest.mark.parametrize("name", ["voltage_divider.yaml", "benches/divider.yaml"])
def test_a_changed_file_is_refused(tmp_path: Path, name: str) -> None:
    request = copied(tmp_path / "files")
    run_id = stopped_run(tmp_path / "data", request)
    path = tmp_path / "files" / name
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "\n# a remark\n", encoding="utf-8")
    refused = resume(run_id, tmp_path / "data")
    assert refused.exit_code == 2
    assert str(path) in refused.error
    assert "has changed since run 1 began" in refused.error
    path.write_text(text, encoding="utf-8")
    assert resume(run_id, tmp_path / "data").exit_code == 0


def test_what_cannot_be_resumed_says_why(tmp_path: Path) -> None:
    assert "no runs" in resume(1, tmp_path).error
    run_id = stopped_run(tmp_path)
    assert "there is no run 7" in resume(7, tmp_path).error
    second = resume(run_id, tmp_path)
    assert second.summary["run_id"] == 2
    assert "was continued as run 2" in resume(run_id, tmp_path).error
    assert "is complete (not_converged)" in resume(2, tmp_path).error
    assert list_runs(tmp_path)[1]["continues"] == 1


def test_a_run_that_is_going_on_is_not_resumed(tmp_path: Path) -> None:
    answers: list[Result] = []

    def ask(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 1:
            answers.append(resume(1, tmp_path))

    run(on(tmp_path, DIVIDER), [ask])
    assert "run 1 is in use" in answers[0].error
    assert f"process {os.getpid()}" in answers[0].error


def test_an_instrument_fault_can_be_resumed_from(
    tmp_path: Path, whole: dict[str, tuple[Result, Path, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hil.core.errors import InstrumentError
    from simulated_backend.backend import SimulatedBackend

    measure = SimulatedBackend._measure

    def failing(self: SimulatedBackend, *arguments: Any) -> Any:
        if self.relaxations > 10:
            raise InstrumentError("the cable fell out")
        return measure(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(SimulatedBackend, "_measure", failing)
        failed = run(on(tmp_path, DIVIDER))
    assert (failed.exit_code, failed.summary["outcome"]) == (3, "stopped")
    assert failed.summary["results"]["resumable"] is True
    assert failed.summary["results"]["resume"] == f"hil resume 1 --data {tmp_path}"
    assert "the cable fell out" in failed.summary["results"]["reason"]
    same(*whole["voltage_divider"][:2], resume(1, tmp_path), tmp_path)


def test_on_instruments_the_base_point_is_measured_first(tmp_path: Path) -> None:
    request = Request("voltage_divider", target=Target.VIRTUAL, sets=("stop.max_steps=3",))
    seen: list[Event] = []
    run_id = stopped_run(tmp_path, request, at=9)
    state = json.loads((tmp_path / "checkpoints" / "1.json").read_text(encoding="utf-8"))["state"]
    assert state["base"] is not None
    result = resume(run_id, tmp_path, [seen.append])
    first = next(event for event in seen if isinstance(event, Measured))
    applied = dict(zip(("V1", "V3", "P1", "P2", "P3"), first.stimuli[0].values, strict=True))
    assert applied["V1"] == 5.0
    (revisit,) = result.summary["results"]["revisits"]
    assert abs(revisit["moved"]["V2"]) < 0.05
    assert any(
        message.startswith("resumed: since the interruption the base point moved V2 by") for message in result.summary["warnings"]
    )
    assert result.summary["steps"] == 3
    assert len(result.summary["loss_history"]) == 4


def test_a_full_disk_and_a_locked_database_lose_nothing(
    tmp_path: Path, whole: dict[str, tuple[Result, Path, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hil.record.recorder.BUSY_TIMEOUT", 0.05)
    blockers: list[sqlite3.Connection] = []

    def lock(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            blocker = sqlite3.connect(tmp_path / "runs.db", timeout=0)
            blocker.execute("BEGIN IMMEDIATE")
            blockers.append(blocker)

    failed = run(on(tmp_path, DIVIDER), [lock])
    for blocker in blockers:
        blocker.close()
    assert failed.exit_code == 3
    assert "locked" in failed.error
    spilled = tmp_path / "checkpoints" / "1.spill.jsonl"
    assert str(spilled) in failed.error
    assert "reading" in Spill(tmp_path, 1).rows()[0]
    again = resume(1, tmp_path)
    expected = whole["voltage_divider"]
    kept = load(again.summary["run_id"], tmp_path).rows["spilled"]
    assert kept["reading"].notna().any()
    assert not spilled.exists()
    same(*expected[:2], again, tmp_path)


def test_the_yaml_of_a_checkpoint_is_plain_data(tmp_path: Path) -> None:
    stopped_run(tmp_path)
    text = (tmp_path / "checkpoints" / "1.json").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["format"] == "hil-checkpoint/1"


def test_a_procedure_that_keeps_no_state_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hil.procedures.iv_curve.REPEATABLE", False)
    stopped = run(Request("iv_curve", data=tmp_path), [Interrupt(5)])
    assert (stopped.exit_code, stopped.summary["outcome"]) == (5, "stopped")
    assert stopped.summary["results"]["resumable"] is False
    assert "keeps no state" in stopped.summary["results"]["not_resumable"]
    refused = resume(1, tmp_path)
    assert refused.exit_code == 2
    assert "run 1 cannot be resumed: its procedure keeps no state" in refused.error
