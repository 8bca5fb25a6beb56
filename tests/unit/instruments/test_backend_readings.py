"""Settling, noise, limits and replicas as the backend judges them, on instruments made of Python."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from hil.core.errors import CapabilityError, ConfigError, NotSettledError
from hil.core.types import Channel, Kind, Quantity, SettlePolicy, Stimulus, Waveform
from instruments import backend as backend_module
from instruments.backend import InstrumentBackend
from instruments.wiring import ControlWire, Interface, OutputWire
from tests.unit.instruments import fake_instruments
from tests.unit.instruments.fake_instruments import POLICY, Bench, make, pascal, two_volts, volt

PATHS = {"A": {"V": "smu.a.volt", "U": "smu.a.volt"}, "B": {"V": "smu.b.volt", "U": "smu.b.volt"}}

bench = fake_instruments.bench


def test_a_source_that_stays_at_its_compliance_marks_everything_that_is_read(bench: Bench) -> None:
    said: list[str] = []
    port = bench.instruments["smu"].ports["a"]
    with two_volts(bench, warn=said.append) as backend:
        backend.apply(Stimulus.of([1.0, 0.0]))
        port.compliant = False
        assert backend.settle(POLICY).settled
        assert backend.read().overload.all()
        assert "at compliance, so that the value is not reached: 'V1' (1e-05 A)" in said[0]
        port.compliant = True
        backend.apply(Stimulus.of([0.9, 0.0]))
        backend.settle(POLICY)
        assert not backend.read().overload.any()


def test_a_pressure_that_is_not_reached_is_not_settled_and_says_why(bench: Bench) -> None:
    said: list[str] = []
    wires = [ControlWire(volt("V1"), "smu.a.volt", 1e-5), ControlWire(pascal("P1"), "pace.a.pressure")]
    with make(bench, wires, warn=said.append) as backend:
        backend.apply(Stimulus.of([0.1, 1e5]))
        bench.instruments["pace"].ports["a"].compliant = False
        report = backend.settle(POLICY)
        assert not report.settled
        assert report.elapsed >= POLICY.timeout
        assert "not in limits after" in said[0]
        assert "'P1'" in said[0]
        with pytest.raises(NotSettledError, match=r"stimulus 1 of 1: a source was not in its limits"):
            backend.measure([Stimulus.of([0.1, 1.01e5])], POLICY)


def test_the_dead_time_of_a_channel_is_waited_for(bench: Bench) -> None:
    with make(bench, [ControlWire(volt("V1", dead_time=0.5), "smu.a.volt", 1e-5)]) as backend:
        backend.apply(Stimulus.of([0.1]))
        assert backend.settle(POLICY).elapsed >= 0.5


def test_a_single_reading_states_the_noise_seen_while_settling(bench: Bench) -> None:
    rng = np.random.default_rng(1)
    bench.instruments["smu"].noise = lambda: float(rng.normal(0.0, 1e-4))
    with two_volts(bench) as backend:
        for number in range(60):
            backend.apply(Stimulus.of([1.0 + 0.001 * (number % 2), 0.0]))
            backend.settle(POLICY)
            reading = backend.read()
        assert reading.std[0] == pytest.approx(1e-4, rel=0.5)
        assert backend.read(400).std[0] == pytest.approx(1e-4 / 20, rel=0.2)


def test_a_fixed_dwell_judges_first_and_last_only(bench: Bench) -> None:
    policy = SettlePolicy(tolerance=1e-3, window=0.01, timeout=1.0, dwell=0.05)
    with two_volts(bench) as backend:
        readings = backend.measure([Stimulus.of([0.01 * k, 0.0]) for k in range(5)], policy)
    assert readings.values[:, 0] == pytest.approx([0.0, 0.01, 0.02, 0.03, 0.04])
    assert len(bench.done("read")) == 5 + 2 * 3


def pair(bench: Bench, paths: Mapping[str, Mapping[str, str]] = PATHS, **options: Any) -> InstrumentBackend:
    output = OutputWire(Channel("U", Quantity.VOLTAGE, Kind.SENSE, node="x"), "smu.a.volt")
    return make(bench, [ControlWire(volt("V"), "smu.a.volt", 1e-5)], outputs=[output], replicas=paths, **options)


def test_replicas_are_driven_apart_and_read_in_one_transfer(bench: Bench) -> None:
    with pair(bench, simultaneous=[("A", "B")]) as backend:
        rows = [[Stimulus.of([0.1]), Stimulus.of([0.2])], [Stimulus.of([-0.1]), Stimulus.of([0.3])]]
        measured = backend.measure_replicas(rows, POLICY, samples=3)
        bench.log.clear()
        backend.measure_replicas(rows, SettlePolicy(1e-3, 0.01, 1.0, dwell=0.01))
        assert len(bench.done("read")) == 2 * (3 + 1)
    assert measured.ravel() == pytest.approx([0.1, 0.2, -0.1, 0.3])


@pytest.mark.parametrize(
    ("paths", "options", "sentence"),
    [
        ({"A": {"V": "smu.a.volt"}}, {}, "'A' does not say which parameter 'U'"),
        ({"A": {**PATHS["A"], "W": "smu.a.volt"}}, {}, "names 'W'"),
        ({"A": PATHS["A"], "B": PATHS["A"]}, {}, "both drive smu.a.volt"),
        ({"A": PATHS["A"], "B": {"V": "laser.b.volt", "U": "smu.b.volt"}}, {}, "no instrument 'laser'"),
        (PATHS, {"simultaneous": [("A", "C")]}, "'C', which is no replica"),
        (
            {"A": PATHS["A"], "B": {"V": "other.a.volt", "U": "other.a.volt"}},
            {"simultaneous": [("A", "B")]},
            "cannot be measured at one moment",
        ),
    ],
)
def test_replicas_that_cannot_be_are_refused_before_anything_is_opened(
    bench: Bench, paths: Mapping[str, Mapping[str, str]], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        pair(bench, paths, **options)


def test_where_charge_is_followed_no_instrument_sweeps_or_plays_by_itself(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(backend_module, "list_sweep", lambda *given, **_: asked.append(given))
    dwelling = SettlePolicy(tolerance=1e-3, window=0.01, timeout=1.0, dwell=0.01)
    for interface, times in ((None, 1), (Interface(1e9), 0)):
        with make(bench, [ControlWire(volt("V1"), "smu.a.volt", 1e-5, interface=interface)]) as backend:
            backend.measure([Stimulus.of([level]) for level in (0.1, 0.2, 0.3)], dwelling, 1)
            assert len(asked) == times
            asked.clear()
            if interface is not None:
                assert isinstance(backend, InstrumentBackend)
                with pytest.raises(CapabilityError, match=r"the electrode of 'V1' is followed, and nobody measures it while"):
                    backend._play(Waveform(np.array([0.0]), np.array([[1.0]]), np.array([[True]]), 1.0), np.array([0.5]))
