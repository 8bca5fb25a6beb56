"""What a mixer does with its pumps and its valve, in which order, and what it refuses."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from hil.core.clock import SteppedClock
from hil.core.errors import ConfigError, InstrumentError, LimitExceededError, RecordError
from hil.core.types import Channel, Kind, Quantity, SafeAction, SafeState
from instruments.fluid_roles import PumpState, Syringe
from instruments.mixer import Mixer
from instruments.mixer_controls import guarded, without_mixed
from instruments.mixer_spec import MixerSpec, Stock
from instruments.roles import SourcePlan
from instruments.wiring import ControlWire
from tests.unit.instruments.mixer_kit import SPEC, STOCKS, SYRINGE, FakePump, FakeValve, scripted_mixer


@pytest.fixture
def log() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def mixer(log: list[tuple[Any, ...]]) -> Mixer:
    return scripted_mixer(log)


def plan(low: float, high: float) -> SourcePlan:
    return SourcePlan(Quantity.CONCENTRATION, low, high, None, float("inf"))


def test_an_exchange_joins_delivers_in_the_ratio_and_isolates(mixer: Mixer, log: list[tuple[Any, ...]]) -> None:
    mixer.port("n2").configure_source(plan(0.1, 0.5))
    log.clear()
    mixer.level_writer(["n2"])([0.2])
    places = [entry for entry in log if entry[0] == "valve"]
    starts = {entry[0]: entry[2:] for entry in log if entry[1] == "start"}
    assert places == [("valve", 2), ("valve", 4)]
    assert starts["weak"] == pytest.approx((0.75 * SPEC.flow, 0.75e-6))
    assert starts["strong"] == pytest.approx((0.25 * SPEC.flow, 0.25e-6))
    first_start = next(k for k, entry in enumerate(log) if entry[1] == "start")
    last_stop = max(k for k, entry in enumerate(log) if entry[1] == "stop")
    assert log.index(("valve", 2)) < first_start < last_stop < log.index(("valve", 4))
    assert mixer.usage()["exchanges"] == 1
    assert mixer.usage()["stock_used"] == pytest.approx({"weak": 0.75e-6, "strong": 0.25e-6})
    assert 60.0 <= 3600.0 * mixer.usage()["hours"] < 75.0


def test_watchdogs_run_with_the_pumps_and_are_never_kept_waiting(mixer: Mixer, log: list[tuple[Any, ...]]) -> None:
    mixer.level_writer(["n1"])([0.3])
    for name, pump in mixer.pumps.items():
        assert isinstance(pump, FakePump)
        assert pump.longest_silence < 6.0 / 2.0
        assert pump.watchdog == 0.0
        assert log.index((name, "watchdog", 6.0)) < next(k for k, e in enumerate(log) if e[:2] == (name, "start"))


def test_what_else_has_to_be_so_is_asked_while_liquid_flows(mixer: Mixer) -> None:
    mixer.port("n1").configure_source(plan(0.1, 0.5))
    opened = mixer.clock.now() + 20.0

    def door() -> None:
        if mixer.clock.now() > opened:
            raise LimitExceededError("the door is open")

    mixer.also = door
    with pytest.raises(LimitExceededError, match="the door is open"):
        mixer.level_writer(["n1"])([0.2])
    assert mixer.clock.now() <= opened + 5.0  # of an exchange of a minute
    assert mixer.port("n1").source_state().level != 0.2


def test_a_reservoir_that_has_its_concentration_is_left_alone(mixer: Mixer) -> None:
    write = mixer.level_writer(["n1", "n2"])
    write([0.2, 0.3])
    write([0.2, 0.3])
    assert mixer.usage()["exchanges"] == 2
    write([0.2, 0.31])
    assert mixer.usage()["exchanges"] == 3


def test_a_pure_stock_needs_one_pump(mixer: Mixer, log: list[tuple[Any, ...]]) -> None:
    mixer.level_writer(["n1"])([0.1])
    assert [entry[0] for entry in log if entry[1] == "start"] == ["weak"]


def test_an_exchange_without_enough_stock_begins_nothing(mixer: Mixer, log: list[tuple[Any, ...]]) -> None:
    write = mixer.level_writer(["n1"])
    for level in (0.5, 0.49, 0.5):
        write([level])
    log.clear()
    with pytest.raises(InstrumentError, match=r"pump 'strong' has 0\.025 mL .* fill it up and go on with `hil resume ID"):
        write([0.4])
    assert log == []


def test_a_pump_that_counts_too_little_is_an_error_and_nobody_knows_the_concentration(mixer: Mixer) -> None:
    pump = mixer.pumps["weak"]
    assert isinstance(pump, FakePump)
    pump.loss = 0.015
    with pytest.raises(InstrumentError, match="pump 'weak' counts"):
        mixer.level_writer(["n1"])([0.2])
    mixer.rest()
    (condition,) = mixer.condition_reader(["n1"])()
    assert not condition.in_limits
    pump.loss = 0.0
    mixer.level_writer(["n1"])([0.2])
    assert mixer.condition_reader(["n1"])()[0].level == 0.2


def test_the_safe_state_stops_before_it_isolates(mixer: Mixer, log: list[tuple[Any, ...]]) -> None:
    mixer.port("n1").disable(SafeAction.STOP)
    assert [entry[:2] for entry in log if entry[1] == "stop" or entry[0] == "valve"] == [
        ("weak", "stop"), ("strong", "stop"), ("valve", 4),
    ]  # fmt: skip


def test_what_the_stocks_cannot_mix_is_refused(mixer: Mixer) -> None:
    with pytest.raises(ConfigError, match=r"stocks of 0\.1 and 0\.5"):
        mixer.port("n1").configure_source(plan(0.05, 0.4))
    with pytest.raises(ConfigError, match="no outlet 'n3'; outlets: n1, n2"):
        mixer.port("n3")
    with pytest.raises(ConfigError, match="'valve' is a FakeValve, which is no pump"):
        Mixer.of(MixerSpec("m", (Stock("valve", 0.1, 1e-6, SYRINGE), STOCKS[1]), "valve", 4, {}, 1e-8, 1e-6, 2e-7),
                 {"valve": FakeValve([]), "strong": mixer.pumps["strong"]}, mixer.clock, [])  # fmt: skip


def test_limits_at_which_a_pump_would_be_too_slow_or_too_fast_are_refused_before_anything_flows(
    mixer: Mixer, log: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixer.pumps["strong"], "rate_span", lambda: (0.01 * SPEC.flow, 0.9 * SPEC.flow))
    mixer.port("n1").configure_source(plan(0.11, 0.45))
    mixer.port("n1").configure_source(plan(0.1, 0.45))  # of the weak stock alone
    for limits, sentence in (((0.101, 0.45), "for 0.101 mol"), ((0.11, 0.5), "for 0.5 mol")):
        with pytest.raises(ConfigError, match=f"{sentence}.* pump 'strong' would deliver .* narrow the limits"):
            mixer.port("n1").configure_source(plan(*limits))
    assert not [entry for entry in log if entry[1] == "start"]


def test_a_mixture_between_the_limits_that_a_pump_cannot_do_begins_nothing(
    mixer: Mixer, log: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a limit of one stock alone the other rests; a little beside it, it would have to be slower than it can."""
    monkeypatch.setattr(mixer.pumps["strong"], "rate_span", lambda: (0.02 * SPEC.flow, SPEC.flow))
    mixer.port("n1").configure_source(plan(0.1, 0.5))
    log.clear()
    with pytest.raises(ConfigError, match=r"for 0\.104 mol.* pump 'strong' would deliver"):
        mixer.level_writer(["n1"])([0.104])
    assert log == []
    assert mixer.usage()["stock_used"] == {"weak": 0.0, "strong": 0.0}


def test_the_guard_stops_pumps_and_the_station_checks_the_rest() -> None:
    channel = Channel("C1", Quantity.CONCENTRATION, Kind.DRIVE, 0.1, 0.5)
    other = ControlWire(Channel("V1", Quantity.VOLTAGE, Kind.DRIVE), "smu.smua.volt")
    wires = [ControlWire(channel, "mix.n1.concentration"), other]
    assert without_mixed(wires, [SPEC]) == [other]
    found = guarded(wires, [SPEC])
    assert [wire.parameter for wire in found] == ["smu.smua.volt", "weak.rate", "strong.rate"]
    assert found[1].channel.safe.action is SafeAction.STOP
    valve = guarded(wires, [replace(SPEC, waste=5)])[-1]
    assert (valve.parameter, valve.channel.safe) == ("valve.position", SafeState(SafeAction.LEVEL, 5.0))


def test_a_count_that_was_lost_leaves_the_order_booked(mixer: Mixer) -> None:
    pump = mixer.pumps["weak"]
    assert isinstance(pump, FakePump)
    pump.loss = 1.0
    with pytest.raises(InstrumentError, match="pump 'weak' did not keep to its rate"):
        mixer.level_writer(["n1"])([0.2])
    assert mixer.usage()["stock_left"]["weak"] == pytest.approx(2.25e-6)


def test_a_valve_that_somebody_turned_makes_readings_meaningless(mixer: Mixer) -> None:
    mixer.level_writer(["n1"])([0.2])
    look = mixer.condition_reader(["n1"])
    look()
    assert isinstance(mixer.valve, FakeValve)
    mixer.valve.place = 2
    with pytest.raises(InstrumentError, match="'valve' stands at 2 instead of 4"):
        look()


def test_a_valve_that_did_not_hear_is_told_again_and_one_that_is_stuck_is_an_error(
    mixer: Mixer, log: list[tuple[Any, ...]]
) -> None:
    assert isinstance(mixer.valve, FakeValve)
    mixer.valve.deaf = 1
    mixer.level_writer(["n1"])([0.2])
    assert [entry[1] for entry in log if entry[0] == "valve"] == [4]  # it stood at 1 already
    assert mixer.valve.place == 4
    mixer.valve.deaf = 1000
    log.clear()
    with pytest.raises(InstrumentError, match="'valve' stands at 4 and does not reach position 1; look whether it is stuck"):
        mixer.level_writer(["n1"])([0.3])
    assert log == []


def test_an_exchange_that_fails_is_booked_as_it_was_ordered(mixer: Mixer, monkeypatch: pytest.MonkeyPatch) -> None:
    def stalls() -> PumpState:
        raise InstrumentError("stalled")

    monkeypatch.setattr(mixer.pumps["weak"], "pump_state", stalls)
    with pytest.raises(InstrumentError, match="stalled"):
        mixer.level_writer(["n1"])([0.2])
    assert mixer.usage()["stock_left"] == pytest.approx({"weak": 2.25e-6, "strong": 2.75e-6})
    assert mixer.usage()["exchanges"] == 0


def test_what_is_ordered_is_booked_before_it_flows_and_what_was_counted_after(mixer: Mixer, log: list[tuple[Any, ...]]) -> None:
    def book(left: Mapping[str, float]) -> None:
        log.append(("book", dict(left)))

    mixer.spec = replace(SPEC, book=book)
    mixer.pumps["weak"].loss = 0.005  # type: ignore[attr-defined] # a fake
    mixer.level_writer(["n1"])([0.2])
    (before, after) = [entry[1] for entry in log if entry[0] == "book"]
    assert before == pytest.approx({"weak": 2.25e-6, "strong": 2.75e-6})
    assert after == pytest.approx({"weak": 2.25e-6 + 0.005 * 0.75e-6, "strong": 2.75e-6})
    assert log.index(("book", before)) < next(k for k, entry in enumerate(log) if entry[1] == "start")


def test_nothing_flows_that_could_not_be_booked(mixer: Mixer, log: list[tuple[Any, ...]]) -> None:
    def full(_left: Mapping[str, float]) -> None:
        raise RecordError("the disk is full")

    mixer.spec = replace(SPEC, book=full)
    with pytest.raises(RecordError):
        mixer.level_writer(["n1"])([0.2])
    assert not [entry for entry in log if entry[1] == "start"]
    assert mixer.port("n1").level is None


def test_what_a_pump_delivered_too_much_is_booked_although_the_exchange_failed(mixer: Mixer) -> None:
    told: list[dict[str, float]] = []
    mixer.spec = replace(SPEC, book=lambda left: told.append(dict(left)))
    mixer.pumps["weak"].loss = -0.015  # type: ignore[attr-defined] # a fake
    with pytest.raises(InstrumentError, match=r"'weak' counts 0\.761. mL where 0\.75 mL"):
        mixer.level_writer(["n1"])([0.2])
    assert told[-1] == pytest.approx({"weak": 3e-6 - 0.76125e-6, "strong": 2.75e-6})


def test_only_a_flow_controller_needs_no_diameter(log: list[tuple[Any, ...]]) -> None:
    vessel = Stock("weak", 0.1, 1e-6, Syringe(0.0, 1e-4))
    spec = MixerSpec("m", (vessel, STOCKS[1]), "valve", 4, {}, 1e-8, 1e-6, 2e-7)
    clock = SteppedClock()
    pumps = {name: FakePump(name, log, clock) for name in ("weak", "strong")}
    with pytest.raises(ConfigError, match="say the diameter of the syringe in pump 'weak'"):
        Mixer.of(spec, {**pumps, "valve": FakeValve(log)}, clock, [])
