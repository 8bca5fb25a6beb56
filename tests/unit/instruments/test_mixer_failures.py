"""Pumps that stray, stall or fall silent in the middle of an exchange: how soon it ends, and where what they deliver goes."""

from dataclasses import replace
from typing import Any

import pytest

from hil.core.errors import ConfigError, InstrumentError
from hil.core.types import SafeAction
from hil.experiment.fields import FieldError
from instruments.mixer import Mixer
from tests.unit.instruments.mixer_kit import SPEC, FakePump, FakeValve, scripted_mixer


@pytest.fixture
def log() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def mixer(log: list[tuple[Any, ...]]) -> Mixer:
    return scripted_mixer(log)


@pytest.mark.parametrize("pace", [0.93, 1.07])
@pytest.mark.parametrize("pump", ["weak", "strong"])
def test_a_pump_that_delivers_all_but_not_at_its_rate_has_mixed_something_else(mixer: Mixer, pump: str, pace: float) -> None:
    mixer.pumps[pump].pace = pace  # type: ignore[attr-defined] # a fake
    with pytest.raises(InstrumentError, match=rf"pump '{pump}' did not keep to its rate, so that the mixture is not"):
        mixer.level_writer(["n1"])([0.2])
    assert mixer.port("n1").level is None, "the next use gives it a new exchange"


@pytest.mark.parametrize("pace", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("pump", ["weak", "strong"])
def test_an_exchange_ends_as_soon_as_a_pump_is_seen_to_stray(
    mixer: Mixer, log: list[tuple[Any, ...]], pump: str, pace: float
) -> None:
    """Every further second the other one washes the node with its stock alone; nobody waits for the way home."""
    begun = mixer.clock.now()
    mixer.pumps[pump].pace = pace  # type: ignore[attr-defined] # a fake
    with pytest.raises(InstrumentError, match=r"'n2' leads to now is unknown, between 0\.1 and 0\.5 mol/m\^3: its next use"):
        mixer.level_writer(["n2"])([0.2])
    assert mixer.clock.now() - begun < 6.0, "of an exchange of a minute"
    assert {entry[0] for entry in log[-6:] if entry[1] == "stop"} == {"weak", "strong"}
    assert log[-1] == ("valve", 4)
    assert mixer.usage()["stock_left"] == pytest.approx({"weak": 2.25e-6, "strong": 2.75e-6})


@pytest.mark.parametrize("starting", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("replying", [0.0, 0.3, 1.4])
@pytest.mark.parametrize("watchdogs", [{}, {"weak": 6.0, "strong": 6.0}])
def test_pumps_that_start_one_after_the_other_and_answer_slowly_are_not_taken_for_strays(
    mixer: Mixer, starting: float, replying: float, watchdogs: dict[str, float]
) -> None:
    mixer.watchdogs = watchdogs
    for pump in mixer.pumps.values():
        assert isinstance(pump, FakePump)
        pump.starting, pump.replying, pump.pace, pump.loss = starting, replying, 0.999, 0.002
    for level in (0.2, 0.104, 0.35):
        mixer.level_writer(["n1"])([level])
    assert mixer.usage()["exchanges"] == 3


def test_how_long_pumps_take_to_answer_does_not_make_an_exchange_longer(mixer: Mixer) -> None:
    for pump in mixer.pumps.values():
        pump.replying = 0.2  # type: ignore[attr-defined] # a fake
    mixer.level_writer(["n1"])([0.2])
    assert 3600.0 * mixer.usage()["hours"] == pytest.approx(SPEC.seconds, rel=0.02)


def test_a_pump_that_does_not_answer_leaves_the_valve_where_it_is_without_a_way_to_waste(
    mixer: Mixer, log: list[tuple[Any, ...]]
) -> None:
    mixer.pumps["weak"].dies = 20.0  # type: ignore[attr-defined] # a fake
    with pytest.raises(InstrumentError, match="weak does not answer; what outlet 'n2'"):
        mixer.level_writer(["n2"])([0.2])
    with pytest.raises(InstrumentError, match="weak does not answer"):
        mixer.rest(anyway=True)
    assert [entry[1] for entry in log if entry[0] == "valve"] == [2]
    assert ("strong", "stop") in log


@pytest.mark.parametrize("waste", [4, 5])
def test_what_a_pump_that_does_not_answer_still_delivers_goes_to_waste_before_anything_else(
    mixer: Mixer, log: list[tuple[Any, ...]], waste: int
) -> None:
    mixer.spec = replace(SPEC, waste=waste)
    mixer.pumps["weak"].dies = 20.0  # type: ignore[attr-defined] # a fake
    with pytest.raises(InstrumentError, match="weak does not answer; what outlet 'n2'"):
        mixer.level_writer(["n2"])([0.2])
    after = log[log.index(("weak", "silent")) :]
    assert after.index(("valve", waste)) < after.index(("weak", "silent"), 1), "nobody waits for it a second time before that"
    assert ("strong", "stop") in after
    with pytest.raises(InstrumentError, match="weak does not answer"):
        mixer.rest(anyway=True)
    assert isinstance(mixer.valve, FakeValve)
    assert mixer.valve.place == waste


def test_the_way_home_does_not_wait_for_a_silent_pump_once_more_for_every_outlet(
    mixer: Mixer, log: list[tuple[Any, ...]]
) -> None:
    pump = mixer.pumps["weak"]
    assert isinstance(pump, FakePump)
    pump.dies = -1.0
    for outlet in mixer.outlets.values():
        for _ in range(3):
            with pytest.raises(InstrumentError, match="weak does not answer"):
                outlet.disable(SafeAction.STOP)
    assert log.count(("weak", "silent")) == 3
    mixer.clock.sleep(30.0)
    pump.dies = float("inf")
    mixer.port("n1").disable(SafeAction.STOP)
    assert ("weak", "stop") in log


def test_a_valve_that_is_turned_while_liquid_flows_is_seen_and_nobody_knows_what_is_in_any_node(mixer: Mixer) -> None:
    mixer.level_writer(["n1", "n2"])([0.3, 0.3])
    assert isinstance(mixer.valve, FakeValve)
    valve, turned = mixer.valve, mixer.clock.now() + 20.0

    def by_hand() -> None:
        if mixer.clock.now() > turned:
            valve.place = 1

    mixer.also = by_hand
    with pytest.raises(InstrumentError, match="'valve' stands at 1 instead of 2 while its liquid flows; look who turned it"):
        mixer.level_writer(["n2"])([0.2])
    assert mixer.clock.now() < turned + 10.0
    assert valve.place == 4
    assert [one.level for one in mixer.outlets.values()] == [None, None]


def test_a_valve_with_too_few_positions_is_refused_before_anything_turns(mixer: Mixer, log: list[tuple[Any, ...]]) -> None:
    mixer.spec = replace(SPEC, waste=7)
    with pytest.raises(FieldError, match="valve 'valve' has positions 1 to 6, not 7") as refused:
        mixer.prepare()
    assert refused.value.field == "mixers.mix.waste"
    assert log == []


def test_the_way_home_does_not_fail_on_a_position_that_the_valve_does_not_have(mixer: Mixer, log: list[tuple[Any, ...]]) -> None:
    def go(position: int) -> None:
        raise ConfigError(f"valve has positions 1 to 6, not {position}")

    mixer.valve.go = go  # type: ignore[method-assign]
    mixer.port("n1").disable(SafeAction.STOP)
    assert [entry for entry in log if entry[1] == "stop"] == [("weak", "stop"), ("strong", "stop")]


def test_a_valve_that_cannot_save_a_node_is_told_with_the_pump(mixer: Mixer) -> None:
    mixer.spec = replace(SPEC, waste=4)
    mixer.pumps["weak"].dies = -1.0  # type: ignore[attr-defined] # a fake
    assert isinstance(mixer.valve, FakeValve)
    mixer.valve.deaf = 1000
    with pytest.raises(InstrumentError, match=r"weak does not answer.*'valve' stands at 1 and does not reach position 4"):
        mixer.rest(anyway=True)


def test_a_jammed_valve_keeps_no_pump_from_being_stopped_and_is_only_a_notice_once_they_rest(
    mixer: Mixer, log: list[tuple[Any, ...]]
) -> None:
    mixer.spec = replace(SPEC, waste=4)
    assert isinstance(mixer.valve, FakeValve)
    mixer.pumps["weak"].session.failed = True  # type: ignore[attr-defined] # it has just failed, and obeys again
    mixer.valve.deaf = 1000
    begun, stopped = mixer.clock.now(), list[float]()
    pump = mixer.pumps["weak"]
    pump.stop = lambda: stopped.append(mixer.clock.now())  # type: ignore[method-assign]
    mixer.rest(anyway=True)
    assert stopped == [begun]
    assert "does not reach position 4" in mixer.valve.session.notices[0]
    assert ("strong", "stop") in log


def test_a_jammed_valve_does_not_make_the_way_home_try_a_silent_pump_more_often(mixer: Mixer, log: list[tuple[Any, ...]]) -> None:
    mixer.spec = replace(SPEC, waste=4)
    mixer.pumps["weak"].dies = -1.0  # type: ignore[attr-defined] # a fake
    assert isinstance(mixer.valve, FakeValve)
    mixer.valve.deaf = 1000
    for outlet in mixer.outlets.values():
        for _ in range(3):
            with pytest.raises(InstrumentError, match="weak does not answer"):
                outlet.disable(SafeAction.STOP)
    assert log.count(("weak", "silent")) == 3, "every time costs 15 s for the valve and the time-outs of the pump"


def test_a_watchdog_that_stays_set_keeps_nobody_from_stopping_the_other_pump(mixer: Mixer, log: list[tuple[Any, ...]]) -> None:
    def refuse(_seconds: float) -> None:
        raise InstrumentError("its watchdog stays set")

    mixer.pumps["weak"].set_watchdog = refuse  # type: ignore[attr-defined] # a fake
    with pytest.raises(InstrumentError, match="its watchdog stays set"):
        mixer.rest()
    assert ("strong", "stop") in log
    assert log[-1] == ("valve", 4)
