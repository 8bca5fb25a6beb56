"""The VICI valve: words against the manual, the driver on the emulated valve, and plain pyserial on the same."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hil.core.clock import SteppedClock
from hil.core.errors import ConfigError, InstrumentError
from hil.core.types import Quantity, SafeAction, SafeState
from instruments.fluid_roles import SelectorValve, turn
from instruments.vici_valve import ViciValve
from simulated_backend.virtual_bench.emulators.vici_valve import ViciValve as Emulated
from simulated_backend.virtual_bench.plan import InstrumentPlan
from simulated_backend.virtual_bench.plant import Plant
from simulated_backend.virtual_bench.process import VirtualBench
from tests.fluid_bench import fluid_plan, hasty, rescue
from tests.unit.instruments.conftest import Build


@pytest.fixture
def plant() -> Plant:
    return Plant(fluid_plan(ideal=True))


def valve_on(plant: Plant, **options: object) -> Emulated:
    given = {**Emulated.models["ViciValve"], "positions": 10, "step_time": 0.2, "identity": None, **options}
    return Emulated("valve", plant, given, np.random.default_rng(1))


def test_a_turn_takes_the_short_way_and_its_time(plant: Plant) -> None:
    valve = valve_on(plant)
    assert valve.receive(b"CP") == b"CP01\r"
    assert valve.receive(b"go09") is None, "an action is answered with nothing, as delivered"
    assert valve.receive(b"CP") == b"CP??\r"
    plant.clock.advance(0.39)
    assert plant.valve("valve", "").position() is None
    plant.clock.advance(0.02)
    assert valve.receive(b"CP") == b"CP09\r"
    assert plant.valve("valve", "").position() == 9
    valve.receive(b"CC02")
    plant.clock.advance(1.39)
    assert valve.receive(b"STAT") == b"STATUS: M\r"
    plant.clock.advance(0.02)
    assert valve.receive(b"CP") == b"CP02\r"
    valve.receive(b"CW")
    plant.clock.advance(0.21)
    assert valve.receive(b"CP") == b"CP03\r"
    valve.receive(b"HM")
    plant.clock.advance(0.41)
    assert valve.receive(b"CP") == b"CP01\r"


def test_what_is_not_understood_comes_back(plant: Plant) -> None:
    valve = valve_on(plant)
    for word in (b"GO11", b"GO00", b"GO", b"XY3", b"NP1"):
        assert valve.receive(word) == word + b" = Bad command\r"
    assert valve.receive(b"NP") == b"NP10\r"
    assert valve.receive(b"IFM1") is None
    assert valve.receive(b"GO2") == b"GO02\r"


def test_an_actuator_for_two_positions_turns_to_none_of_many(plant: Plant) -> None:
    valve = valve_on(plant, mode=1)
    assert valve.receive(b"AM") == b"AM1\r"
    assert valve.receive(b"GO03") == b"GO03 = Bad command\r"
    assert valve.receive(b"AM3") is None
    assert valve.receive(b"GO03") is None


def test_the_way_it_turns_is_set_up(plant: Plant) -> None:
    valve = valve_on(plant)
    assert valve.receive(b"SM") == b"SMA\r"
    assert valve.receive(b"SMF") is None
    valve.receive(b"GO10")
    plant.clock.advance(1.7)
    assert plant.valve("valve", "").position() is None, "forwards it is nine steps to the tenth position"
    plant.clock.advance(0.2)
    assert valve.receive(b"CP") == b"CP10\r"


def test_words_of_the_driver(build: Build) -> None:
    valve, _ = build(
        ViciValve,
        ("IFM0", None),
        ("AM", "AM3"),
        ("NP", "NP10"),
        ("CP", "Position is = 3"),
        ("GO07", None),
        ("CP", "\nCP??"),
        ("CP", "CP07"),
        ("GO10", None),
    )
    assert valve.positions() == 10
    assert valve.position() == 3
    valve.go(7)
    assert valve.position_now() is None
    assert valve.position_now() == 7
    for wrong in (0, 11):
        with pytest.raises(ConfigError, match="positions 1 to 10"):
            valve.go(wrong)
    valve.position(10)


def test_a_stuck_valve_is_an_error_after_its_time() -> None:
    class Stuck:
        def positions(self) -> int:
            return 4

        def go(self, position: int) -> None:
            pass

        def position_now(self) -> int | None:
            return 1

    clock = SteppedClock()
    with pytest.raises(InstrumentError, match="did not reach position 3 within 5 s"):
        turn(Stuck(), 3, clock, timeout=5.0)
    assert clock.now() == pytest.approx(5.0, abs=0.06)


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    plan = fluid_plan(
        InstrumentPlan("valve", "ViciValve", {"positions": 6}),
        InstrumentPlan("other", "ViciValve"),
        InstrumentPlan("two", "ViciValve", {"mode": 1}),
        InstrumentPlan("telling", "ViciValve", {"interface": 1}),
    )
    with VirtualBench.start(plan) as running:
        yield running


def test_the_driver_turns_the_emulated_valve(bench: VirtualBench) -> None:
    valve: Any = hasty(ViciValve("vici", bench.addresses["valve"], visalib="@py"), bench)
    try:
        assert isinstance(valve, SelectorValve)
        assert valve.positions() == 6
        begun = bench.clock.now()
        turn(valve, 4, bench.clock)
        assert bench.clock.now() - begun == pytest.approx(0.6, abs=0.06)
        for fault in ("silence", "garbage"):
            bench.side_door.inject("valve", fault)
            assert valve.position_now() == 4
        with pytest.raises(InstrumentError, match=r"did not reach position 1 within 0\.3 s"):
            turn(valve, 1, bench.clock, timeout=0.3)
    finally:
        valve.close()


def test_the_guard_turns_it_to_waste_and_leaves_it_alone_without_one() -> None:
    assert ViciValve.safe_commands("", SafeAction.STOP, 0.0, {}) is None
    plan = fluid_plan(InstrumentPlan("valve", "ViciValve", {"positions": 6}), real_time=True)
    with VirtualBench.start(plan) as running:
        safe = SafeState(SafeAction.LEVEL, 3.0)
        assert rescue("valve", ViciValve, running.addresses["valve"], "valve.position", Quantity.CONCENTRATION, safe) == []
        assert running.side_door.flows()["valve"][""]["position"] == 3


@pytest.mark.parametrize(("reply", "there"), [("CP03", True), ("Position is = 3", True), ("CP30", False), ("CP??", False)])
def test_the_guard_believes_where_the_valve_says_it_is(reply: str, there: bool) -> None:
    commands = ViciValve.safe_commands("", SafeAction.LEVEL, 3.0, {})
    assert commands is not None
    assert (commands.leave, commands.query) == (("GO03",), "CP")
    assert bool(re.search(commands.expected, reply)) is there


def test_an_actuator_that_confirms_its_actions_is_told_not_to(bench: VirtualBench) -> None:
    valve: Any = hasty(ViciValve("telling", bench.addresses["telling"], visalib="@py"), bench)
    told: list[str] = []
    valve.session.notice = told.append
    try:
        turn(valve, 3, bench.clock)
        assert told == []
    finally:
        valve.close()


def test_an_actuator_for_two_positions_is_refused_in_words(bench: VirtualBench) -> None:
    valve: Any = hasty(ViciValve("two", bench.addresses["two"], visalib="@py"), bench)
    try:
        with pytest.raises(InstrumentError, match=r"is in mode 1, for two positions; set it up for many \(AM3"):
            valve.positions()
    finally:
        valve.close()


def test_plain_pyserial_can_use_it(bench: VirtualBench) -> None:
    import serial

    with serial.Serial(bench.addresses["other"].removeprefix("ASRL").removesuffix("::INSTR"), 9600, timeout=2.0) as line:
        line.write(b"GO3\r")
        line.write(b"VR\r")
        assert line.read_until(b"\r") == b"UA_MAIN_CL\r"
        assert line.read_until(b"\r") == b"Jul 13 2016\r", "the firmware is told in several lines"
        bench.clock.sleep(0.5)
        line.write(b"CP\r")
        assert line.read_until(b"\r") == b"CP03\r"


@pytest.mark.parametrize("reply", ["CP04", "\nCP04", "Position is = 4", "cp4"])
def test_the_guard_understands_where_it_stands_in_every_form(reply: str) -> None:
    commands = ViciValve.safe_commands("", SafeAction.LEVEL, 4.0, {})
    assert commands is not None
    assert commands.leave == ("GO04",)
    assert re.search(commands.expected, reply)
    assert re.search(commands.expected, reply.replace("4", "14")) is None
