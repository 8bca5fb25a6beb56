"""A calibration on its way to the wires: levels and readings corrected, and no correction beyond any limit."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.core.errors import ConfigError, LimitExceededError
from hil.core.safety import EdgeLimit, SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, SettlePolicy, Stimulus
from instruments.calibration import Aim, Corrections, corrected, undone
from instruments.list_sweep import list_sweep
from instruments.roles import Acquired
from instruments.wiring import EXACT, ControlWire, Correction, Interface, OutputWire
from tests.unit.instruments import fake_instruments
from tests.unit.instruments.fake_instruments import POLICY, Bench, make, two_volts, volt

bench = fake_instruments.bench

ORIGIN = {"file": "c.json", "when": "then"}
SOURCE = Correction(offset=2e-3, gain=1.001)
METER = Correction(offset=-5e-3, gain=0.999)


def calibration(**changes: Any) -> Corrections:
    made: dict[str, Any] = {
        "controls": {"V1": {"smu.a.volt": SOURCE}},
        "outputs": {"out": {"smu.a.volt": METER}},
        "origin": ORIGIN,
        **changes,
    }
    return Corrections(**made)


def test_a_level_and_a_reading_are_corrected_and_the_record_says_how(bench: Bench) -> None:
    with two_volts(bench, corrections=calibration()) as backend:
        backend.apply(Stimulus.of([1.0, 1.0]))
        backend.settle(POLICY)
        programmed = bench.instruments["smu"].ports["a"].level
        assert programmed == pytest.approx((1.0 - SOURCE.offset) / SOURCE.gain, abs=1e-15)
        assert SOURCE.offset + SOURCE.gain * programmed == pytest.approx(1.0, abs=1e-15)
        # The other control has no correction.
        assert bench.instruments["other"].ports["a"].level == 1.0
        # This meter shows the programmed level; what it shows is corrected.
        assert backend.read().values[0] == pytest.approx((programmed - METER.offset) / METER.gain, abs=1e-15)
        record = backend.snapshot()["calibration"]
    assert record == {
        **ORIGIN,
        "controls": {"V1": {"smu.a.volt": {"offset": SOURCE.offset, "gain": SOURCE.gain}}},
        "outputs": {"out": {"smu.a.volt": {"offset": METER.offset, "gain": METER.gain}}},
    }


def test_without_a_calibration_nothing_is_said_of_one(bench: Bench) -> None:
    with two_volts(bench) as backend:
        assert "calibration" not in backend.snapshot()


def test_a_correction_ends_at_the_limit_and_says_so_once(bench: Bench) -> None:
    said: list[str] = []
    with two_volts(
        bench, corrections=calibration(controls={"V1": {"smu.a.volt": Correction(-0.1, 1.0)}}), warn=said.append
    ) as one:
        for value in (4.95, 5.0):
            one.apply(Stimulus.of([value, 0.0]))
            assert bench.instruments["smu"].ports["a"].level == 5.0
        assert len(said) == 1
        assert "'V1': for 4.95 V its calibration asks for 5.05 V" in said[0]
        with pytest.raises(LimitExceededError):
            one.apply(Stimulus.of([5.01, 0.0]))
        assert max(level for _, _, level in bench.done("level")) <= 5.0


def test_the_safe_state_is_never_corrected(bench: Bench) -> None:
    with two_volts(bench, corrections=calibration(controls={"V1": {"smu.a.volt": Correction(0.5, 1.0)}})) as backend:
        backend.apply(Stimulus.of([2.0, 0.0]))
        bench.log.clear()
        backend.make_safe()
        assert bench.instruments["smu"].ports["a"].level == 0.0


def test_a_limit_across_an_edge_leaves_the_level_as_it_was_asked_for(bench: Bench) -> None:
    edges = [EdgeLimit("e", "V1", "V2", 1.0)]
    corrections = calibration(controls={"V1": {"smu.a.volt": Correction(-0.01, 1.0)}})
    with two_volts(bench, edges=edges, corrections=corrections) as backend:
        backend.apply(Stimulus.of([0.5, 0.0]))
        assert bench.instruments["smu"].ports["a"].level == pytest.approx(0.51)
        backend.apply(Stimulus.of([1.0, 0.0]))
        assert bench.instruments["smu"].ports["a"].level == 1.0


OFFSETS = st.floats(-0.5, 0.5)
GAINS = st.floats(0.98, 1.02)


@settings(max_examples=200, deadline=None)
@given(OFFSETS, GAINS, OFFSETS, GAINS, st.floats(-5.0, 5.0), st.floats(-5.0, 5.0), st.floats(0.1, 10.0))
def test_what_is_programmed_stays_inside_whatever_was_found(
    one_offset: float, one_gain: float, other_offset: float, other_gain: float, one: float, other: float, limit: float
) -> None:
    envelope = SafetyEnvelope.of(Layout((volt("V1"), volt("V2", minimum=-1.0))), [EdgeLimit("e", "V1", "V2", limit)])
    drives: Any = [
        SimpleNamespace(correction=Correction(one_offset, one_gain)),
        SimpleNamespace(correction=Correction(other_offset, other_gain)),
    ]
    asked = np.array([one, other])
    try:
        envelope.check(asked)
    except LimitExceededError:
        return  # such a stimulus never gets here
    programmed = Aim(envelope, lambda _: None).levels(drives, asked)
    envelope.check(programmed)


def test_each_replica_has_corrections_of_its_own(bench: Bench) -> None:
    paths = {"A": {"V": "smu.a.volt", "U": "smu.a.volt"}, "B": {"V": "smu.b.volt", "U": "smu.b.volt"}}
    corrections = Corrections(
        {"V": {"smu.a.volt": Correction(0.01, 1.0), "smu.b.volt": Correction(-0.02, 1.0)}},
        {"U": {"smu.b.volt": Correction(0.0, 0.5)}},
        origin=ORIGIN,
    )
    output = OutputWire(Channel("U", Quantity.VOLTAGE, Kind.SENSE, node="x"), "smu.a.volt")
    backend = make(
        bench, [ControlWire(volt("V"), "", 1e-5)], outputs=[output], replicas=paths, simultaneous=[("A", "B")],
        corrections=corrections,
    )  # fmt: skip
    with backend:
        found = backend.measure_replicas([[Stimulus.of([1.0]), Stimulus.of([1.0])]], SettlePolicy(1e-3, 0.01, 1.0))
        ports = bench.instruments["smu"].ports
        assert (ports["a"].level, ports["b"].level) == pytest.approx((0.99, 1.02))
    assert found[0, :, 0] == pytest.approx([0.99, 2.04])


def test_a_list_that_the_instrument_runs_is_corrected_both_ways() -> None:
    ran: list[Any] = []

    class Unit:
        def list_acquisition(self, ports: Any, terminals: Any, dwell: float) -> Any:
            def run(levels: Any, samples: int, home: bool) -> Acquired:
                ran.append(levels)
                return Acquired(levels.copy(), np.zeros(levels.shape, dtype=np.bool_))

            return run, lambda samples: 0.01

    unit = Unit()
    drive: Any = SimpleNamespace(instrument=unit, channel=volt("V"), port_name="a", correction=SOURCE)
    sense: Any = SimpleNamespace(instrument=unit, port=unit, port_name="a", parameter="volt", matrix=None, correction=METER)
    envelope = SafetyEnvelope.of(Layout((volt("V"),)))
    values = np.array([[0.0], [0.5], [5.0]])
    sweep = list_sweep(
        [drive], [sense], values, np.ones(values.shape, dtype=np.bool_), 0.1, np.array([np.inf]), Aim(envelope, lambda _: None)
    )
    assert sweep is not None
    ((_, run),) = sweep.chunks(values, 1, home=True)
    acquired = run()
    programmed = (values - SOURCE.offset) / SOURCE.gain
    assert ran[0] == pytest.approx(programmed)
    assert acquired.values == pytest.approx((programmed - METER.offset) / METER.gain)


@pytest.mark.parametrize(("gain", "by_list"), [(1.0, True), (0.99, False)])
def test_a_list_whose_corrected_steps_are_longer_than_the_slew_allows_goes_point_by_point(gain: float, by_list: bool) -> None:
    unit = SimpleNamespace(list_acquisition=lambda *_: (lambda *_: None, lambda _: 0.01))
    drive: Any = SimpleNamespace(instrument=unit, channel=volt("V"), port_name="a", correction=Correction(0.0, gain))
    sense: Any = SimpleNamespace(instrument=unit, port=unit, port_name="a", parameter="volt", matrix=None, correction=EXACT)
    aim = Aim(SafetyEnvelope.of(Layout((volt("V"),))), lambda _: None)
    values = np.array([[0.0], [0.5], [1.0]])
    sweep = list_sweep([drive], [sense], values, np.ones(values.shape, dtype=np.bool_), 0.1, np.array([0.502]), aim)
    assert (sweep is not None) is by_list


def test_nothing_is_computed_where_nothing_is_corrected() -> None:
    senses: Any = [SimpleNamespace(correction=EXACT)] * 2
    assert undone(senses) is None
    acquired = Acquired(np.ones((1, 2)), np.zeros((1, 2), dtype=np.bool_))
    assert corrected(acquired, None) is acquired
    drives: Any = [SimpleNamespace(correction=EXACT)]
    stimulus = Stimulus.of([1.0])
    assert Aim(SafetyEnvelope.of(Layout((volt("V"),))), lambda _: None).stimulus(drives, stimulus) is stimulus


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"outputs": {"elsewhere": {"smu.a.volt": METER}}}, "corrects channel 'elsewhere', which this bench does not have"),
        ({"spans": {"V1": 40.0}}, "'V1' limited to 40 V; now its limits reach 5 V"),
    ],
)
def test_channels_that_do_not_match_are_refused_before_anything_is_opened(
    bench: Bench, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        two_volts(bench, corrections=calibration(**changes))
    assert bench.log == []


def test_another_instrument_is_refused_before_anything_is_applied(bench: Bench) -> None:
    backend = two_volts(bench, corrections=calibration(serials={"smu": "2602B 4123456"}))
    with pytest.raises(ConfigError, match=r"does not belong to instrument 'smu': it was '2602B 4123456' then and is 'fake' now"):
        backend.open()
    assert bench.done("level", "on") == []


@pytest.mark.parametrize(("offset", "limit", "refused"), [(0.25, 10.0, False), (0.25, 1.0, True), (-1.0, 3.5, True)])
def test_charge_is_told_corrected_and_judged_by_what_is_worse(bench: Bench, offset: float, limit: float, refused: bool) -> None:
    """The meter of a fake source shows its level, 1 A at 1 V: over 2 s 2 C, of which the calibration believes 1 - offset."""
    wire = ControlWire(volt("V1"), "smu.a.volt", 10.0, interface=Interface(limit))
    with make(bench, [wire], corrections=Corrections(meters={"smu.a.curr": Correction(offset)}, origin=ORIGIN)) as backend:
        backend.apply(Stimulus.of([1.0]))
        backend.read()
        begun, before = bench.clock.now(), float(backend.usage()["electrodes"]["V1"])
        bench.clock.sleep(2.0)
        if refused:
            with pytest.raises(LimitExceededError, match=r"'V1': .* C have passed its electrode"):
                backend.read()
            return
        backend.read()
        assert float(backend.usage()["electrodes"]["V1"]) - before == pytest.approx((1.0 - offset) * (bench.clock.now() - begun))
        assert backend.snapshot()["calibration"]["meters"] == {"smu.a.curr": {"offset": offset, "gain": 1.0}}


@pytest.mark.parametrize(
    ("current", "limit", "refused"), [(-0.5, 1.2, True), (-0.5, 1.6, False), (0.5, 0.9, True), (0.5, 1.1, False)]
)
def test_power_is_judged_by_what_is_worse(bench: Bench, current: float, limit: float, refused: bool) -> None:
    """1 V and 1 A as shown; 1.5 A and 0.5 A once the offset of the ammeter is taken off."""
    wire = ControlWire(volt("V1", max_power=limit), "smu.a.volt", 10.0)
    with make(bench, [wire], corrections=Corrections(meters={"smu.a.curr": Correction(current)}, origin=ORIGIN)) as backend:
        backend.apply(Stimulus.of([1.0]))
        if refused:
            with pytest.raises(LimitExceededError, match=r"'V1': .* W flow into the network"):
                backend.read()
        else:
            backend.read()
