"""The judge of the fault campaign is no friend of the program: for each of its figures a program is broken on purpose, and found.

For the program as it is every figure is 0, and the share of stops from which it went on 1.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.fault_benches import BENCHES, FaultBench
from benchmarks.fault_draws import Fault
from benchmarks.fault_judge import Tally
from benchmarks.fault_runs import Campaign
from benchmarks.faults import summary
from hil.core.events import Event, Measured
from hil.core.outcome import Outcome
from hil.core.safety import SafetyEnvelope
from hil.record.recorder import RunRecorder
from hil.run import Result, refusal
from instruments.bronkhorst_flow import BronkhorstFlow
from instruments.keithley_daq6510 import KeithleyDAQ6510
from instruments.roles import Acquired
from instruments.safe_state import WayHome
from instruments.verification import Verification

FIGURES = ("outputs_left_on", "limits_exceeded", "measurements_lost", "wrong_values_accepted", "resumable")
GOOD = {"outputs_left_on": 0, "limits_exceeded": 0, "measurements_lost": 0, "wrong_values_accepted": 0, "resumable": 1.0}


def brief(name: str, **changes: Any) -> FaultBench:
    bench = next(bench for bench in BENCHES if bench.name == name)
    return replace(bench, protocol=re.sub(r"max_steps: \d+", "max_steps: 1", bench.protocol), **changes)


@pytest.fixture(scope="module")
def campaign() -> Iterator[Campaign]:
    with Campaign(brief("divider"), 1, Tally()) as runs:
        yield runs


Train = Callable[..., dict[str, Any]]


@pytest.fixture
def train(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> Train:
    """A run as far as it comes with ``faults``, or a ``whole`` one, which is resumed after them; and the figures of the judge."""

    def trained(*faults: Fault, runs: Campaign = campaign, whole: bool = False) -> dict[str, Any]:
        runs.tally = Tally()
        if whole:
            pieces = [list(faults)]
            monkeypatch.setattr(runs, "_drawn", lambda _: pieces.pop() if pieces else [])
            runs.one_run((0,), 10 if faults else 0)
        else:
            runs._piece(None, list(faults))
        found = summary(runs.tally, 1.0, [runs.bench])
        assert runs.tally.injections == len(faults), "each of them acted"
        return {name: found[name] for name in FIGURES}

    return trained


def test_nothing_is_wrong_with_the_program_as_it_is(train: Train) -> None:
    assert train(whole=True) == GOOD


def test_a_driver_that_returns_what_it_read_before_is_found(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Acquired] = []
    original = KeithleyDAQ6510.acquisition

    def acquisition(self: KeithleyDAQ6510, terminals: Sequence[tuple[str, str]]) -> Callable[[int], Acquired]:
        acquire = original(self, terminals)

        def cached(samples: int) -> Acquired:
            if not kept:
                kept.append(acquire(samples))
            return Acquired.of(np.repeat(kept[0].values[:1], samples, axis=0))

        return cached

    monkeypatch.setattr(KeithleyDAQ6510, "acquisition", acquisition)
    found = train()
    assert found["wrong_values_accepted"] > 0
    assert found == {**GOOD, "wrong_values_accepted": found["wrong_values_accepted"]}


def test_a_source_that_nobody_verifies_is_found(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Verification, "__call__", lambda _self, _drives: False)
    found = train(Fault("drift", "smu", -0.2, "smua", 12))
    assert found["wrong_values_accepted"] > 0


def test_outputs_that_nobody_switches_off_are_found(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def go(self: WayHome, _drives: object) -> None:
        self.reached = True

    monkeypatch.setattr(WayHome, "go", go)
    found = train()
    assert found["outputs_left_on"] > 0
    assert found == {**GOOD, "outputs_left_on": found["outputs_left_on"]}


def test_a_value_that_no_envelope_stopped_is_found(monkeypatch: pytest.MonkeyPatch, train: Train) -> None:
    monkeypatch.setattr(SafetyEnvelope, "check", lambda *_, **__: None)
    monkeypatch.setattr(SafetyEnvelope, "check_stimuli", lambda *_: None)
    with Campaign(brief("divider", apply={"V1": "5.4 V", "V3": "0 V"}), 1, Tally()) as wild:
        found = train(runs=wild)
    # The node that is driven, the edge behind it, and what stands between.
    assert found["limits_exceeded"] > 0
    assert found == {**GOOD, "limits_exceeded": found["limits_exceeded"]}


def test_a_recorder_that_drops_a_row_is_found(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    original, seen = RunRecorder.emit, list[Event]()

    def emit(self: RunRecorder, event: Event) -> None:
        if isinstance(event, Measured):
            seen.append(event)
        if not (isinstance(event, Measured) and len(seen) == 2):
            original(self, event)

    monkeypatch.setattr(RunRecorder, "emit", emit)
    assert train(whole=True) == {**GOOD, "measurements_lost": len(seen[1].stimuli)}  # type: ignore[union-attr] # a Measured


def test_a_resume_that_refuses_is_found(train: Train, monkeypatch: pytest.MonkeyPatch, campaign: Campaign) -> None:
    refused = Result(refusal(campaign._request(), "no", Outcome.FAILED), 2, "no")
    monkeypatch.setattr("benchmarks.fault_runs.resume", lambda *_, **__: refused)
    assert train(Fault("restart", "pace1", after=60), whole=True) == {**GOOD, "resumable": 0.0}


def test_a_source_that_is_dead_for_good_is_all_that_stays_on(train: Train, campaign: Campaign) -> None:
    assert train(Fault("dead", "smu", after=22)) == GOOD
    assert [one.to for one in campaign.tally.led] == ["ended, saying what keeps its output"]


def test_a_way_home_that_gives_up_at_the_first_that_is_silent_is_found(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    original = WayHome.go
    monkeypatch.setattr(WayHome, "go", lambda self, drives: original(self, drives[:2]))
    assert train(Fault("dead", "smu", after=22))["outputs_left_on"] > 0


def test_a_way_home_that_keeps_the_silent_one_secret_is_found(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    original = WayHome.go

    def go(self: WayHome, drives: Sequence[Any]) -> None:
        original(self, [drive for drive in drives if not drive.instrument.session.failed])

    monkeypatch.setattr(WayHome, "go", go)
    assert train(Fault("dead", "smu", after=22))["outputs_left_on"] > 0


def test_a_dose_without_an_end_is_found_once_nobody_can_stop_it(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: BronkhorstFlow, rate: float, volume: float | None = None) -> None:
        self.set_flow(rate)
        self._dose = volume

    monkeypatch.setattr(BronkhorstFlow, "start", start)
    with Campaign(brief("divider_flow_controllers"), 1, Tally()) as fluid:
        found = train(Fault("dead", "flow_strong", after=14), runs=fluid)
    assert found["outputs_left_on"] == 1
