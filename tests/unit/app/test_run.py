"""One run from the files to the summary, on the simulator: outcomes, exit codes, record, signals."""

import json
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.bench import Target
from hil.core.errors import (
    BackendClosedError,
    CapabilityError,
    ConfigError,
    HilError,
    InstrumentError,
    InterlockError,
    LimitExceededError,
    NotConvergedError,
    NotSettledError,
    RecordError,
)
from hil.core.events import Event, Measured, StepDone
from hil.core.exit_codes import exit_code_of
from hil.record.reader import list_runs, load
from hil.run import Request, run

FIELDS = [
    "run_id", "protocol", "target", "outcome", "steps", "relaxations", "loss", "loss_floor", "loss_history", "outputs", "weights",
    "warnings", "results",
]  # fmt: skip


def request(data: Path, *sets: str, protocol: str = "voltage_divider", **more: Any) -> Request:
    return Request(protocol, sets=sets, data=data, **more)


@pytest.mark.parametrize(
    ("weights", "most_steps"), [("pressure", 13), ("length", 13), ("radius_ratio", 10), ("concentration", 6)]
)
def test_the_divider_trains_by_every_weight_in_the_steps_of_the_reference(tmp_path: Path, weights: str, most_steps: int) -> None:
    result = run(request(tmp_path, f"weights={weights}"))
    summary = result.summary
    assert result.exit_code == 0
    assert list(summary) == FIELDS
    assert summary["outcome"] == "converged"
    assert summary["loss"] < 1e-6
    assert summary["steps"] <= most_steps
    assert len(summary["loss_history"]) == summary["steps"] + 1
    assert summary["loss_history"][0] == pytest.approx(2.25, abs=1e-9)
    assert not [message for message in summary["warnings"] if message.startswith("clamped")]
    assert abs(summary["outputs"]["V2"] - 4.0) < 1e-3


def test_the_published_run_is_met(tmp_path: Path) -> None:
    summary = run(request(tmp_path, protocol="voltage_divider_published")).summary
    history = np.array(summary["loss_history"]) / summary["loss_history"][0]
    np.testing.assert_allclose(history[:5], [1, 0.604471657, 0.363197285, 0.215699107, 0.126378939], rtol=1e-7)


def test_the_published_run_of_concentrations_is_met(tmp_path: Path) -> None:
    summary = run(request(tmp_path, "weights=concentration", protocol="voltage_divider_published")).summary
    history = np.array(summary["loss_history"]) / summary["loss_history"][0]
    np.testing.assert_allclose(history[:3], [1, 0.509590528, 0.258259909], rtol=1e-7)


def test_one_volt_divider_converges(tmp_path: Path) -> None:
    result = run(request(tmp_path, protocol="voltage_divider_1v"))
    assert result.exit_code == 0
    assert abs(result.summary["outputs"]["V2"] - 0.53) < 1e-3


def test_an_unreachable_target_is_not_success(tmp_path: Path) -> None:
    result = run(request(tmp_path, "targets.V2=4.99 V", "weights=concentration", "stop.max_steps=8"))
    assert result.exit_code == 1
    assert result.summary["outcome"] == "not_converged"
    assert result.summary["loss"] <= min(result.summary["loss_history"]) * (1 + 1e-12)


def test_the_record_holds_the_run(tmp_path: Path) -> None:
    seen: list[Event] = []
    result = run(request(tmp_path, "stop.max_steps=2", "bench.notebook.operator=me", seed=9), [seen.append])
    kept = load(result.summary["run_id"], tmp_path)
    measured = sum(len(event.readings) for event in seen if isinstance(event, Measured))
    assert len(kept.readings) == measured == result.summary["relaxations"]
    np.testing.assert_array_equal(kept.history["loss"], [event.loss for event in seen if isinstance(event, StepDone)])
    assert kept.summary == result.summary
    assert kept.metadata["seed"] == 9
    assert kept.metadata["notebook"]["operator"] == "me"
    assert kept.metadata["overrides"] == ["stop.max_steps=2", "bench.notebook.operator=me"]
    assert "procedure: train_network" in kept.metadata["protocol_text"]
    assert "20,000" in kept.metadata["bench_text"]
    assert kept.metadata["versions"]["qcodes"]
    assert json.dumps(kept.snapshot)


def test_runs_are_reproducible(tmp_path: Path) -> None:
    one, two = (run(request(tmp_path, "stop.max_steps=3")).summary for _ in range(2))
    assert one.pop("run_id") != two.pop("run_id")
    assert one == two


def _stop_at(step: int, how: int) -> Any:
    def listener(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == step:
            os.kill(os.getpid(), how)

    return listener


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_safely_and_on_record(tmp_path: Path, how: int) -> None:
    before = signal.getsignal(how)
    result = run(request(tmp_path), [_stop_at(3, how)])
    assert result.exit_code == 5
    assert result.summary["outcome"] == "stopped"
    assert result.summary["steps"] == 3
    assert len(result.summary["loss_history"]) == 4
    assert set(result.summary["weights"]) == {"P1", "P2", "P3"}
    assert list_runs(tmp_path)[0]["outcome"] == "stopped"
    assert signal.getsignal(how) is before


def test_a_failure_in_the_middle_is_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from simulated_backend.backend import SimulatedBackend

    made_safe: list[bool] = []
    measure, safe = SimulatedBackend._measure, SimulatedBackend._make_safe

    def failing(self: SimulatedBackend, *arguments: Any) -> Any:
        if self.relaxations > 10:
            raise InstrumentError("the cable fell out")
        return measure(self, *arguments)

    def noted(self: SimulatedBackend) -> None:
        made_safe.append(True)
        safe(self)

    monkeypatch.setattr(SimulatedBackend, "_measure", failing)
    monkeypatch.setattr(SimulatedBackend, "_make_safe", noted)
    result = run(request(tmp_path))
    assert (result.exit_code, result.error) == (3, "the cable fell out")
    assert result.summary["outcome"] == "stopped"
    assert result.summary["loss_history"]
    assert load(result.summary["run_id"], tmp_path).outcome == "stopped"
    assert made_safe


def test_a_record_that_breaks_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hil.record.recorder.BUSY_TIMEOUT", 0.05)

    def lock(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 1:
            blocker = sqlite3.connect(tmp_path / "runs.db", timeout=0)
            blocker.execute("BEGIN IMMEDIATE")
            blockers.append(blocker)

    blockers: list[sqlite3.Connection] = []
    try:
        result = run(request(tmp_path), [lock])
    finally:
        for blocker in blockers:
            blocker.close()
    assert result.exit_code == 3
    assert "locked" in result.error
    assert result.summary["outcome"] == "stopped"


def test_a_stimulus_outside_the_limits_is_a_safety_refusal(tmp_path: Path) -> None:
    result = run(request(tmp_path, "apply.V1=7 V"))
    assert result.exit_code == 4
    assert "channel 'V1': 7 V is outside its limits 0 … 5 V" in result.error
    assert result.summary["run_id"] is None
    assert list(result.summary) == FIELDS
    assert list_runs(tmp_path) == []


def test_the_bench_can_only_be_chosen_by_name() -> None:
    assert Request("x").target is Target.SIMULATED


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (CapabilityError("x"), 2),
        (InstrumentError("x"), 3),
        (NotSettledError("x"), 3),
        (NotConvergedError("x"), 3),
        (BackendClosedError("x"), 3),
        (RecordError("x"), 3),
        (LimitExceededError("x"), 4),
        (InterlockError("x"), 4),
    ],
)
def test_exit_codes(error: HilError, code: int) -> None:
    assert exit_code_of(error) == code
