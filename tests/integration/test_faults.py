"""Every fault that the virtual bench knows, once, while a bench of instruments measures; judged by the plant."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from benchmarks.fault_benches import BENCHES as ALL
from benchmarks.fault_benches import FaultBench
from benchmarks.fault_runs import Kept
from hil.bench import Target
from hil.bench_station import start_virtual
from hil.core.errors import BackendError, ImplausibleError, InstrumentError, NotSettledError
from hil.core.events import Event, Measured
from hil.core.types import Readings, SettlePolicy, Stimulus
from hil.fault_rehearsal import Case, _rehearse
from hil.plausibility import PlausibilityWatch
from hil.prepared import Request, prepare
from hil.resume import resume
from hil.run import run
from tests.marks import needs_file_limits

BENCHES = [bench for bench in ALL if bench.name in ("divider", "divider_single_channel")]
FIRST = Stimulus.of([5.0, 0.0, 1.00e5, 0.99e5, 1.01e5])
SECOND = Stimulus.of([4.5, 0.2, 1.01e5, 0.98e5, 1.02e5])
TIMEOUT = 2.0  # s; a busy machine must not be taken for a silent instrument
POLICY = SettlePolicy(tolerance=5e-4, window=0.2, timeout=10.0)


@dataclass
class Stage:
    """A bench that stands and measures, and the truth about it."""

    bench: FaultBench
    backend: Any
    door: Any
    twin: Any
    warnings: list[str]

    def inject(self, instrument: str, fault: str, amount: float = 1.0, **where: Any) -> None:
        """Arm a fault for a word in the middle of what comes next."""
        self.door.inject(instrument, fault, amount, **{"after": 2, **where})

    def measure(self) -> Readings:
        """A second stimulus, after the first one stands."""
        readings: Readings = self.backend.measure([SECOND], POLICY)
        return readings

    def off(self) -> bool:
        """Whether no source drives a node and every pressure is vented, in the plant."""
        sources = [facts for ports in self.door.sources().values() for facts in ports.values()]
        outlets = [facts for ports in self.door.outlets().values() for facts in ports.values()]
        at_rest = [facts["state"] == "vent" or abs(facts["pressure"] - 101_325.0) < 500.0 for facts in outlets]
        return all(facts["source"] == "Open" or abs(facts["voltage"]) < 0.02 for facts in sources) and all(at_rest)


on_both = pytest.mark.parametrize("kept", BENCHES, indirect=True, ids=[bench.name for bench in BENCHES], scope="module")


@pytest.fixture(scope="module")
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FaultBench, Any, Request]]:
    bench: FaultBench = getattr(request, "param", BENCHES[0])
    folder = tmp_path_factory.mktemp(bench.name)
    asked = Request(str(bench.write(folder, TIMEOUT)), target=Target.VIRTUAL, data=folder / "data")
    virtual = start_virtual(prepare(asked).bench, 1)
    yield bench, virtual, asked
    virtual.stop()


@pytest.fixture
def stage(kept: tuple[FaultBench, Any, Request]) -> Iterator[Stage]:
    bench, virtual, asked = kept
    with standing(bench, virtual, asked) as stage:
        yield stage
    assert stage.off()


@contextmanager
def standing(bench: FaultBench, virtual: Any, asked: Request) -> Iterator[Stage]:
    virtual.side_door.renew()
    with mock.patch("hil.bench.start_virtual", return_value=Kept(virtual)):
        assembled = prepare(asked).assembled()
    stage = Stage(bench, assembled.backend, virtual.side_door, assembled.twin, [])
    assembled.warnings.listen(stage.warnings.append)
    with assembled, assembled.backend:
        assembled.backend.measure([FIRST], POLICY)
        yield stage


@pytest.mark.parametrize("instrument", ["smu", "meter", "pace1"])
@pytest.mark.parametrize("fault", ["silence", "garbage", "delay", "drop", "half_open"])
def test_trouble_of_a_link_is_overcome_and_told(stage: Stage, instrument: str, fault: str) -> None:
    overcome(stage, instrument, fault)


@pytest.mark.parametrize("kept", BENCHES[1:], indirect=True, ids=["serial"], scope="module")
@pytest.mark.parametrize("fault", ["silence", "garbage", "delay"])
def test_trouble_of_a_serial_line_is_overcome_and_told(stage: Stage, fault: str) -> None:
    overcome(stage, "meter", fault)


def overcome(stage: Stage, instrument: str, fault: str) -> None:
    stage.inject(instrument, fault, TIMEOUT + 0.3 if fault == "delay" else 1.0)
    readings = stage.measure()
    assert stage.door.happened() == [(instrument, fault)]
    assert readings.values[0, 0] == pytest.approx(stage.door.voltages()["2"], abs=stage.bench.reading_error["V2"])
    assert stage.door.voltages()["1"] == pytest.approx(4.5, abs=0.02)
    assert any(f"'{instrument}'" in sentence and "was repeated" in sentence for sentence in stage.warnings)


@on_both
@pytest.mark.parametrize(
    ("instrument", "sentence"),
    [("smu", r"output|switched off and on"), ("pace1", r"output|off"), ("meter", r"switched off and on|overloaded|was not")],
)
def test_an_instrument_that_restarts_with_default_settings_is_noticed(stage: Stage, instrument: str, sentence: str) -> None:
    stage.inject(instrument, "restart")
    with pytest.raises(InstrumentError, match=sentence):
        stage.measure()
    assert stage.off()


def test_an_entry_in_the_error_queue_is_told_in_its_own_words(stage: Stage) -> None:
    stage.inject("pace1", "error", after=1)
    with pytest.raises(InstrumentError, match=r"pace1.*-221.*Settings conflict"):
        stage.measure()
    assert stage.off()


@on_both
@pytest.mark.parametrize("fault", ["overflow", "nan"])
def test_overflow_and_not_a_number_are_never_data(stage: Stage, fault: str) -> None:
    stage.inject("meter", fault, 100)
    readings = stage.measure()
    assert readings.overload.all()


@pytest.mark.parametrize("fault", ["overflow", "nan"])
def test_a_pressure_without_a_value_is_asked_for_again(stage: Stage, fault: str) -> None:
    stage.inject("pace1", fault, 2)  # one that it judges its limits by, one that it sends
    readings = stage.measure()
    assert not readings.overload.any()
    assert any("'pace1'" in sentence and "is no value" in sentence for sentence in stage.warnings)


@on_both
def test_a_voltage_that_drifts_away_is_noticed(stage: Stage) -> None:
    stage.inject("smu", "drift", -0.1, where="smua", after=1)
    with pytest.raises(InstrumentError, match=r"'V1'.*although 4\.5 V was asked for.*stuck or drifts"):
        stage.measure()


def test_a_voltage_that_does_not_move_any_more_is_noticed(stage: Stage) -> None:
    stage.inject("smu", "stuck", where="smub", after=0)
    with pytest.raises(InstrumentError, match=r"'V3'.*although 0\.2 V was asked for"):
        stage.measure()


@pytest.mark.parametrize(("fault", "amount"), [("stuck", 1.0), ("drift", 800.0)])
def test_a_pressure_that_does_not_follow_is_not_settled(stage: Stage, fault: str, amount: float) -> None:
    stage.inject("pace2", fault, amount, where="a", after=0)
    with pytest.raises(NotSettledError, match=r"source was not in its limits"):
        stage.measure()


def test_a_short_drives_the_source_into_its_compliance_and_marks_the_reading(stage: Stage) -> None:
    stage.inject("smu", "leak", 1e3, where="1", after=1)
    readings = stage.measure()
    assert readings.overload.all()
    assert any("at compliance" in sentence and "'V1'" in sentence for sentence in stage.warnings)


@pytest.mark.parametrize(("fault", "edge", "end"), [("open", "a", "lowest"), ("short", "a", "highest"), ("open", "b", "highest")])
def test_a_device_that_opened_or_shorted_is_noticed_by_its_output(stage: Stage, fault: str, edge: str, end: str) -> None:
    capabilities = stage.backend.capabilities
    stage.backend.observers.append(PlausibilityWatch(stage.twin, capabilities.controls, capabilities.outputs))
    stage.inject("smu", fault, 1e3, where=edge, after=1)
    with pytest.raises(ImplausibleError, match=rf"'V2' reads .* the {end} voltage applied.*opened or shorted"):
        stage.measure()
    assert stage.off()


def test_dead_for_good_is_an_error_and_everything_else_is_safe(stage: Stage) -> None:
    stage.inject("meter", "half_open", 50)
    with pytest.raises(BackendError, match=r"'meter'.*does not answer any more"):
        stage.measure()
    assert stage.off()


@needs_file_limits
def test_a_full_disk_stops_the_run_which_goes_on_when_there_is_space(
    kept: tuple[FaultBench, Any, Request], tmp_path: Path
) -> None:
    import resource

    _, virtual, asked = kept
    virtual.side_door.renew()
    asked = Request(asked.protocol, target=Target.VIRTUAL, data=tmp_path, sets=("stop.max_steps=1",))
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    seen: list[Event] = []

    def fill(event: Event) -> None:
        seen.extend([event] if isinstance(event, Measured) else [])
        if len(seen) == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, usual[1]))

    with mock.patch("hil.bench.start_virtual", return_value=Kept(virtual)):
        try:
            stopped = run(asked, [fill])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        assert (stopped.exit_code, stopped.summary["outcome"]) == (3, "stopped")
        assert "could not be written" in stopped.error
        virtual.side_door.renew()
        again = resume(stopped.summary["run_id"], tmp_path)
    assert again.summary["outcome"] == "not_converged"
    assert again.summary["steps"] == 1


def test_a_rehearsal_tells_of_a_pump_that_nobody_reaches_only_what_goes_on_for_ever(tmp_path: Path) -> None:
    bench = next(bench for bench in ALL if bench.name == "divider_flow_controllers")
    prepared = prepare(Request(str(bench.write(tmp_path)), target=Target.VIRTUAL, data=tmp_path / "data"))
    with prepared.assembled(Target.VIRTUAL) as assembled:
        led = _rehearse(prepared, assembled, Case("dead", "switching on", "flow_strong", 1.0, "", 0, 50))
    assert led.end == "not safe"
    assert "'flow_strong'" in led.reason
    assert (led.left_on, led.beyond) == ([], [])
