"""Faults of liquids: a line that clogs or sticks, a syringe that is empty, a valve that is jammed or turned by hand."""

import pytest

from hil.core.errors import InstrumentError
from instruments.fluid_roles import Syringe
from instruments.harvard_pump import HarvardPump11Elite
from simulated_backend.virtual_bench.flow_lines import FlowLines
from simulated_backend.virtual_bench.plan import InstrumentPlan
from simulated_backend.virtual_bench.process import VirtualBench
from tests.fluid_bench import fluid_plan


class Moment:
    """A clock that stands where the test puts it."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def now() -> Moment:
    return Moment()


@pytest.fixture
def lines(now: Moment) -> FlowLines:
    made = FlowLines(now)
    made.flow("pump", "").set_flow(2.0, 100.0)
    made.valve("valve", "").set_position(3, 0.0)
    return made


def test_a_stuck_flow_goes_on_as_it_was_until_it_is_stopped(lines: FlowLines, now: Moment) -> None:
    line = lines.flow("pump", "")
    now.time = 5.0
    lines.harm("stuck", "pump", "", 1.0)
    line.set_flow(7.0, 30.0)
    now.time = 10.0
    assert (line.flow(), line.delivered()) == (2.0, 20.0)
    line.set_flow(0.0)
    assert line.flow() == 0.0
    lines.mend()
    line.set_flow(7.0)
    assert line.flow() == 7.0


def test_a_flow_that_drifts_ends_where_its_volume_ends(lines: FlowLines, now: Moment) -> None:
    line = lines.flow("pump", "")
    now.time = 10.0
    lines.harm("drift", "pump", "", 0.5)
    now.time = 20.0
    assert (line.flow(), line.delivered()) == (2.5, 45.0)
    assert line.ends_at() == pytest.approx(10.0 + 80.0 / 2.5)
    now.time = 100.0
    assert (line.flow(), line.delivered()) == (0.0, 100.0)


def test_a_clogged_line_lets_nothing_pass_and_a_mended_one_the_rest(lines: FlowLines, now: Moment) -> None:
    line = lines.flow("pump", "")
    now.time = 10.0
    lines.harm("clog", "pump", "", 1.0)
    now.time = 20.0
    assert (line.flow(), line.delivered()) == (0.0, 20.0)
    lines.mend()
    now.time = 1000.0
    assert line.delivered() == 100.0


def test_a_jammed_rotor_stays_and_one_that_was_turned_is_elsewhere(lines: FlowLines) -> None:
    rotor = lines.valve("valve", "")
    lines.harm("turned", "valve", "", 5.0)
    assert rotor.position() == 5
    lines.harm("stuck", "valve", "", 1.0)
    rotor.set_position(1, 0.0)
    assert rotor.position() == 5
    lines.mend()
    assert lines.facts()["valve"][""] == {"position": 1}


@pytest.mark.parametrize(("fault", "instrument"), [("clog", "valve"), ("turned", "pump"), ("clog", "nothing")])
def test_what_cannot_befall_an_instrument_is_refused(lines: FlowLines, fault: str, instrument: str) -> None:
    with pytest.raises(ValueError, match=f"{instrument!r} has no liquid line or rotor"):
        lines.harm(fault, instrument, "", 1.0)


def test_since_tells_when_a_flow_last_changed() -> None:
    times = iter((1.0, 2.0, 3.0))
    line = FlowLines(lambda: 0.0, lambda: next(times)).flow("pump", "")
    for rate in (4.0, 4.0, 0.0):
        line.set_flow(rate)
    assert line.since == 3.0


def test_the_side_door_knows_what_flows_and_a_new_day_fills_the_syringes() -> None:
    plan = fluid_plan(InstrumentPlan("pump", "HarvardPump11Elite", {"content": 2e-6}), InstrumentPlan("valve", "ViciValve"))
    with VirtualBench.start(plan) as bench:
        door = bench.side_door
        pump = HarvardPump11Elite("harvard", bench.addresses["pump"], visalib="@py")
        try:
            pump.configure_pump(Syringe(14.57e-3, 12e-6))
            pump.start(1e-6 / 60.0)
            assert door.flows()["pump"][""]["flow"] == pytest.approx(1e-6 / 60.0, rel=6e-3)
            door.inject("pump", "empty", 0.1e-6)
            assert pump.pump_state().running
            bench.clock.sleep(60.0)
            with pytest.raises(InstrumentError, match="stalled"):
                pump.pump_state()
            assert door.flows()["pump"][""]["flow"] == 0.0
            assert door.flows()["pump"][""]["delivered"] == pytest.approx(0.1e-6)
            door.renew()
            pump.start(1e-6 / 60.0)
            bench.clock.sleep(90.0)
            assert pump.pump_state().running
            door.inject("pump", "error")
            assert pump.errors() != []
            assert door.flows()["pump"][""]["flow"] == 0.0
        finally:
            pump.close()
        door.renew()
        assert door.happened() == []
        with pytest.raises(ValueError, match="no output"):
            door.inject("valve", "stuck", where="a")
        door.inject("valve", "turned", 4.0)
        assert door.flows()["valve"][""]["position"] == 4
