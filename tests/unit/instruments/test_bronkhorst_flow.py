"""Bronkhorst: the manual's own messages, the driver on the emulated controller, bronkhorst-propar on the same."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hil.core.errors import ConfigError, InstrumentError
from hil.core.types import Quantity, SafeAction, SafeState
from instruments.bronkhorst_flow import BronkhorstFlow
from instruments.fluid_roles import FlowController, Pump, Syringe
from simulated_backend.virtual_bench.emulators.bronkhorst_flow import BronkhorstFlow as Emulated
from simulated_backend.virtual_bench.plan import InstrumentPlan
from simulated_backend.virtual_bench.plant import Plant
from simulated_backend.virtual_bench.process import VirtualBench
from tests.fluid_bench import fluid_plan, hasty, rescue
from tests.unit.instruments.conftest import Build

ML_PER_H = 1e-6 / 3600.0
FOLLOWS = ((":06800401040104", ":058002010400"), (":06800401220122", ":06800201220000"))
"""The words that ask for the control mode (0: bus or RS-232) and for the slope of the set-point, and what follows at once."""


def controller_on(plant: Plant) -> Emulated:
    return Emulated("flow", plant, {**Emulated.models["BronkhorstFlow"], "identity": None}, np.random.default_rng(1))


def test_the_manual_s_messages() -> None:
    plant = Plant(fluid_plan(ideal=True))
    flow = controller_on(plant)
    assert flow.receive(b":06800401210120\r\n") == b":06800201210000\r\n"
    assert flow.receive(b":06800101213E80\r\n") == b":0480000005\r\n"
    assert flow.receive(b":06800401210120\r\n") == b":06800201213E80\r\n"
    plant.clock.advance(36.0)
    assert plant.flow("flow", "").delivered() == pytest.approx(0.5e-6)
    assert flow.receive(b":068001012180E8\r\n") == b":0480000605\r\n", "above 100 % the value is refused"
    assert flow.receive(b":06800101203E80\r\n") == b":0480000D05\r\n", "the measurement is read only"
    assert flow.receive(b":0780047163716300\r\n") == b":10800271630" + b"0" + b"M24200123A".hex().upper().encode() + b"00\r\n"


def test_binary_messages_and_escapes() -> None:
    plant = Plant(fluid_plan(ideal=True))
    flow = controller_on(plant)
    # sequence number 0x10 is escaped, and so is the count 0x1010
    write = bytes.fromhex("1002 1010 80 06 01 01 21 1010 1010 1003")
    buffer = bytearray(write[:9])
    assert flow.frames(buffer) == []
    buffer += write[9:]
    (message,) = flow.frames(buffer)
    assert flow.receive(message) == bytes.fromhex("1002 1010 80 03 00 00 05 1003")
    assert flow.receive(b":06800401210121\r\n") == b":06800201211010\r\n"


def test_words_of_the_driver(build: Build) -> None:
    flow, _ = build(
        BronkhorstFlow,
        (":078004017F017F07", ":0C8002017F07" + b"ml/h   ".hex().upper()),
        *FOLLOWS,
        (":068004014D014D", ":088002014D42C80000"),
        (":06800101213E80", ":0480000005"),
        (":06800401220121", ":06800201223E80"),
        (":06800401210120", ":0680020121FFFE"),
        (":06800101210000", ":0480000605"),
    )
    flow.set_flow(50.0 * ML_PER_H)
    assert flow.flow() == pytest.approx(-2 / 32000 * 100.0 * ML_PER_H)
    with pytest.raises(InstrumentError, match="value out of range"):
        flow.set_flow(0.0)
    with pytest.raises(ConfigError, match="is not within 0 to"):
        flow.set_flow(101.0 * ML_PER_H)


def test_a_mass_unit_is_refused(build: Build) -> None:
    flow, _ = build(BronkhorstFlow, (":078004017F017F07", ":0C8002017F07" + b"g/h    ".hex().upper()))
    with pytest.raises(InstrumentError, match=r"counts in 'g/h'; set its capacity unit"):
        flow.full_scale()


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ((":058002010401",), "is in control mode 1, in which it does not follow"),
        ((":058002010412", ":0680020122012C"), "takes 30 s for a change of its set-point"),
    ],
)
def test_one_that_does_not_follow_at_once_is_refused(build: Build, found: tuple[str, ...], sentence: str) -> None:
    unit = (":078004017F017F07", ":0C8002017F07" + b"ml/h   ".hex().upper())
    asked = [(question, reply) for (question, _), reply in zip(FOLLOWS, found, strict=False)]
    flow, _ = build(BronkhorstFlow, unit, *asked)
    with pytest.raises(InstrumentError, match=sentence):
        flow.set_flow(50.0 * ML_PER_H)


def test_it_may_answer_with_its_own_node(build: Build) -> None:
    flow, _ = build(
        BronkhorstFlow,
        (":078004017F017F07", ":0C0302017F07" + b"ml/h   ".hex().upper()),
        *((question, reply.replace("80", "03", 1)) for question, reply in FOLLOWS),
        (":068004014D014D", ":080302014D42C80000"),
        (":06800101213E80", ":0403000005"),
        (":06800401220121", ":06030201223E80"),
        (":06800401210120", ":06030201213E80"),
    )
    flow.set_flow(50.0 * ML_PER_H)
    assert flow.flow() == pytest.approx(50.0 * ML_PER_H)
    commands = BronkhorstFlow.safe_commands("", SafeAction.STOP, 0.0, {})
    assert commands is not None
    assert all(re.search(commands.expected, f":06{node}0201220000") for node in ("80", "03"))


def test_in_another_control_mode_a_set_point_is_taken_and_nothing_flows() -> None:
    plant = Plant(fluid_plan(ideal=True))
    flow = Emulated(
        "flow", plant, {**Emulated.models["BronkhorstFlow"], "identity": None, "control_mode": 1}, np.random.default_rng(1)
    )
    assert flow.receive(b":06800401040104\r\n") == b":058002010401\r\n"
    assert flow.receive(b":06800101213E80\r\n") == b":0480000005\r\n"
    assert flow.receive(b":06800401210120\r\n") == b":06800201210000\r\n"
    assert flow.receive(b":058001010400\r\n") == b":0480000004\r\n"
    assert flow.receive(b":06800401210120\r\n") == b":06800201213E80\r\n"


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    others = [InstrumentPlan(name, "BronkhorstFlow") for name in ("other", "third")]
    plan = fluid_plan(InstrumentPlan("flow", "BronkhorstFlow", {"unit": "ml/min"}), *others)
    with VirtualBench.start(plan) as running:
        yield running


@pytest.fixture
def flow(bench: VirtualBench) -> Iterator[Any]:
    bench.side_door.renew()
    made = hasty(BronkhorstFlow("bronkhorst", bench.addresses["flow"], visalib="@py"), bench)
    yield made
    made.close()


def test_the_driver_holds_a_flow(flow: Any) -> None:
    assert isinstance(flow, FlowController)
    assert flow.get_idn()["serial"] == "M24200123A"
    assert flow.full_scale() == pytest.approx(100.0 * ML_PER_H)
    flow.flow(25.0 * ML_PER_H)
    assert flow.flow() == pytest.approx(25.0 * ML_PER_H, rel=2e-4)


def test_a_restart_is_noticed_and_lost_replies_are_overcome(flow: Any, bench: VirtualBench) -> None:
    flow.set_flow(25.0 * ML_PER_H)
    for fault in ("silence", "garbage"):
        for after in (1, 2):
            bench.side_door.inject("flow", fault, after=after)
            flow.set_flow(30.0 * ML_PER_H)
            assert flow.flow_now() == pytest.approx(30.0 * ML_PER_H, rel=2e-4)
    bench.side_door.inject("flow", "restart")
    bench.side_door.inject("flow", "silence")
    with pytest.raises(InstrumentError, match="switched off and on"):
        flow.flow_now()


def test_the_guard_stops_the_flow(flow: Any, bench: VirtualBench) -> None:
    flow.set_flow(25.0 * ML_PER_H)
    safe = SafeState(SafeAction.STOP)
    assert rescue("flow", BronkhorstFlow, bench.addresses["flow"], "flow.flow", Quantity.CONCENTRATION, safe) == []
    flow.session.resynchronise()
    assert flow.flow_now() == 0.0


def test_bronkhorst_s_own_client_drives_it(bench: VirtualBench) -> None:
    import propar

    path = bench.addresses["other"].removeprefix("ASRL").removesuffix("::INSTR")
    controller = propar.instrument(path)
    controller.master.response_timeout = 60.0
    try:
        for mode in (propar.PP_MODE_BINARY, propar.PP_MODE_ASCII):
            controller.master.propar.mode = mode
            assert controller.readParameter(92) == "M24200123A"
            assert controller.readParameter(21) == pytest.approx(100.0)
            assert controller.readParameter(129).strip() == "ml/h"
            assert controller.writeParameter(9, 8000) is True
            assert controller.setpoint == 8000
            assert controller.measure == 8000
            assert controller.readParameter(205) == pytest.approx(25.0, rel=1e-3)
            assert controller.writeParameter(206, 12.5) is True
            assert controller.setpoint == 4000
            many = [{**controller.db.get_parameter(number)} for number in (8, 9, 21)]
            assert [round(found["data"]) for found in controller.read_parameters(many)] == [4000, 4000, 100]
    finally:
        controller.master.stop()


@pytest.mark.parametrize(
    ("fault", "amount"),
    [
        ("silence", 1.0),
        ("garbage", 2.0),
        ("delay", 1.0),
        ("drop", 0.0),
        ("drop", 1.0),
        ("half_open", 2.0),
        ("restart", 1.0),
        ("stuck", 1.0),
        ("drift", 3.0 * ML_PER_H),
        ("clog", 1.0),
        ("nan", 2.0),
    ],
)
def test_whatever_happens_what_is_read_flows_and_in_the_end_nothing_does(
    flow: Any, bench: VirtualBench, fault: str, amount: float
) -> None:
    door, refusals = bench.side_door, 0
    for after in range(1, 8):
        door.renew()
        flow.stop()
        flow.set_flow(20.0 * ML_PER_H)
        door.inject("flow", fault, amount, after=after)
        try:
            for wanted in (25.0 * ML_PER_H, 30.0 * ML_PER_H):
                flow.set_flow(wanted)
                assert flow.held() == pytest.approx(door.flows()["flow"][""]["flow"], rel=5e-3)
                assert door.flows()["flow"][""]["flow"] == pytest.approx(wanted, rel=0.03)
        except InstrumentError:
            refusals += 1
        flow.stop()
        assert door.flows()["flow"][""]["flow"] == 0.0
    # A restart before the first word of a set-point is made good by saying it again.
    assert (refusals >= 4) == (fault in ("restart", "stuck", "drift", "clog"))


# Doses ------------------------------------------------------------------------------------------------------------------


def test_words_of_a_dose(build: Build) -> None:
    status = ":0480000004"
    flow, _ = build(
        BronkhorstFlow,
        (":078004017F017F07", ":0C8002017F07" + b"ml/h   ".hex().upper()),
        *FOLLOWS,
        (":068004014D014D", ":088002014D42C80000"),
        (":06800101210000", ":0480000005"),
        (":06800401220121", ":06800201220000"),
        (":0780046867686704", ":098002686704" + b"ml  ".hex().upper()),
        (":058001680800", status),
        (":06800468086808", ":058002680800"),
        (":088001684100000000", ":0480000007"),
        (":06800468416841", ":088002684100000000"),
        (":08800168433F000000", ":0480000007"),
        (":06800468436843", ":08800268433F000000"),
        (":06800168260000", ":0480000005"),
        (":06800468266826", ":06800268260000"),
        (":058001680501", status),
        (":06800468056805", ":058002680501"),
        (":058001680802", status),
        (":06800468086808", ":058002680802"),
        (":06800101213E80", ":0480000005"),
        (":06800401220121", ":06800201223E80"),
        (":06800468436843", ":08800268433F000000"),
        (":06800468056805", ":058002680501"),
        (":06800468086808", ":058002680802"),
    )
    flow.start(50.0 * ML_PER_H, 0.5e-6)


def test_bronkhorst_s_own_client_sees_the_counter(bench: VirtualBench) -> None:
    import propar

    controller = propar.instrument(bench.addresses["third"].removeprefix("ASRL").removesuffix("::INSTR"))
    controller.master.response_timeout = 60.0
    try:
        assert controller.readParameter(128).strip() == "ml"
        for number, value in ((124, 0.25), (127, 0), (126, 1), (130, 2), (122, 0.0)):
            assert controller.writeParameter(number, value) is True
            assert controller.readParameter(number) == value
        assert controller.writeParameter(9, 32000) is True
        bench.clock.sleep(4.5)
        assert controller.readParameter(122) == pytest.approx(0.125, rel=1e-3)
        bench.clock.sleep(9.0)
        assert controller.readParameter(122) == pytest.approx(0.25, rel=1e-5)
        assert controller.setpoint == 0
    finally:
        controller.master.stop()


def test_a_dose_ends_by_itself_and_is_counted(flow: Any, bench: VirtualBench) -> None:
    assert isinstance(flow, Pump)
    assert flow.configure_pump(Syringe(0.0, 1e-4)) == []
    assert flow.rate_span() == pytest.approx((2.0 * ML_PER_H, 100.0 * ML_PER_H))
    begun = bench.side_door.flows()["flow"][""]["delivered"]
    flow.start(50.0 * ML_PER_H, 0.5e-6)
    bench.clock.sleep(18.0)
    state = flow.pump_state()
    assert state.running
    assert state.delivered == pytest.approx(0.25e-6, rel=1e-3)
    bench.clock.sleep(3600.0)  # and nobody says a word
    assert bench.side_door.flows()["flow"][""]["flow"] == 0.0
    assert bench.side_door.flows()["flow"][""]["delivered"] - begun == pytest.approx(0.5e-6, rel=3e-3)
    assert flow.pump_state() == (False, pytest.approx(0.5e-6, rel=1e-5))
    flow.stop()
    assert flow.pump_state().delivered == pytest.approx(0.5e-6, rel=1e-5), "it is counted until the next dose"
    with pytest.raises(ConfigError, match="cannot do"):
        flow.start(-50.0 * ML_PER_H, 0.5e-6)
    with pytest.raises(ConfigError, match="cannot do"):
        flow.start(1.0 * ML_PER_H, 0.5e-6)


def test_lost_replies_do_not_change_a_dose(flow: Any, bench: VirtualBench) -> None:
    for fault in ("silence", "garbage", "half_open"):
        for after in range(1, 25):
            bench.side_door.renew()
            begun = bench.side_door.flows()["flow"][""]["delivered"]
            bench.side_door.inject("flow", fault, after=after)
            flow.start(50.0 * ML_PER_H, 0.1e-6)
            bench.clock.sleep(7.3)
            assert flow.pump_state() == (False, pytest.approx(0.1e-6, rel=1e-4))
            assert bench.side_door.flows()["flow"][""]["delivered"] - begun == pytest.approx(0.1e-6, rel=3e-3)


@pytest.mark.parametrize("fault", ["restart", "stuck", "drift", "clog"])
def test_a_dose_that_goes_wrong_is_noticed(flow: Any, bench: VirtualBench, fault: str) -> None:
    flow.stop()
    if fault == "stuck":
        bench.side_door.inject("flow", fault)
    flow.start(50.0 * ML_PER_H, 0.5e-6)
    bench.clock.sleep(5.0)
    if fault != "stuck":
        bench.side_door.inject("flow", fault, 3.0 * ML_PER_H)
    with pytest.raises(InstrumentError, match=r"switched off and on|stuck or clogged, or drifts"):
        flow.pump_state()
    flow.stop()
    assert bench.side_door.flows()["flow"][""]["flow"] == 0.0


def test_a_restart_before_the_flow_begins_never_makes_it_endless(flow: Any, bench: VirtualBench) -> None:
    for after in range(1, 25):
        bench.side_door.renew()
        bench.side_door.inject("flow", "restart", after=after)
        begun = bench.side_door.flows()["flow"][""]["delivered"]
        try:
            flow.start(50.0 * ML_PER_H, 0.1e-6)
        except InstrumentError:
            flow.stop()
        bench.clock.sleep(100.0)
        assert bench.side_door.flows()["flow"][""]["delivered"] - begun <= 0.1003e-6


@pytest.mark.parametrize("fault", ["overflow", "nan"])
def test_a_count_that_is_no_value_is_asked_for_again(flow: Any, bench: VirtualBench, fault: str) -> None:
    flow.start(50.0 * ML_PER_H, 0.5e-6)
    bench.clock.sleep(3600.0)
    bench.side_door.inject("flow", fault, 1.0)
    assert flow._counted("reading the counter") == pytest.approx(0.5e-6, rel=1e-5)


def test_a_controller_that_was_left_flowing_is_stopped_first(flow: Any) -> None:
    flow.set_flow(50.0 * ML_PER_H)
    assert flow.configure_pump(Syringe(0.0, 1e-4)) == ["bronkhorst was found with a set-point; it was stopped first"]
    assert flow.flow_now() == 0.0


def test_a_counter_of_mass_is_refused(build: Build) -> None:
    flow, _ = build(BronkhorstFlow, (":0780046867686704", ":098002686704" + b"g   ".hex().upper()))
    with pytest.raises(InstrumentError, match=r"has a counter in 'g'; set its counter unit"):
        flow._unit_of_counter()
