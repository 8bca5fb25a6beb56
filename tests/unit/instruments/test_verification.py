"""A reading counts only while the sources deliver what was asked of them; a message is repeated only where that is safe."""

from types import SimpleNamespace
from typing import Any

import pytest

from hil.core.errors import InstrumentError
from hil.core.types import Channel, Kind, Quantity
from instruments.druck_pace import DruckPACE6000
from instruments.keithley_2600 import Keithley2602B
from instruments.keithley_6517b import Keithley6517B
from instruments.keithley_daq6510 import KeithleyDAQ6510
from instruments.roles import Condition, Delivery, SourcePlan
from instruments.terminals import Drive, Movers, Output, look_at
from instruments.verification import Notices, Verification
from tests.unit.instruments.conftest import Build

FORMAT = ("format.asciiprecision=10 format.byteorder=format.LITTLEENDIAN hil_alive=1", None)
SMU = "Keithley Instruments Inc., Model 2602B, 1234567, 3.3.5"
DELIVERED = "print(hil_alive,smua.source.output,smua.source.compliance,smua.measure.v())"


class Sourcing:
    """An instrument with one source that delivers what it is told to."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.settings_kept = True
        self.session = SimpleNamespace(notice=None)

    def delivery_reader(self, ports: list[str]) -> Any:
        return lambda: [self.delivery for _ in ports]

    def require_settings_kept(self) -> None:
        if not self.settings_kept:
            raise InstrumentError("its settings are lost")

    def forget(self) -> None:
        self.settings_kept = True


def driving(instrument: Any, output: Output = Output.ON) -> Drive:
    channel = Channel("V1", Quantity.VOLTAGE, Kind.DRIVE, node="1")
    plan = SourcePlan(Quantity.VOLTAGE, 0.0, 5.0, 1e-5, 10.0)
    return Drive(channel, "smu.smua.volt", instrument, "smua", SimpleNamespace(), plan, output, 4.0, 4.0)


def test_a_source_inside_its_accuracy_counts() -> None:
    assert Verification()([driving(Sourcing(Delivery(4.004, 0.005, on=True, limited=False)))]) is False


@pytest.mark.parametrize(
    ("delivery", "sentence"),
    [
        (
            Delivery(4.006, 0.005, on=True, limited=False),
            r"'V1'.*delivers 4\.006 V although 4 V was asked for.*0\.005 V is allowed",
        ),
        (Delivery(float("nan"), 0.005, on=True, limited=False), r"'V1'.*reads no value at its own output"),
        (Delivery(9.91e37, 0.005, on=True, limited=False), r"'V1'.*reads no value at its own output"),
        (Delivery(0.0, 0.005, on=False, limited=False), r"'V1'.*went off by itself"),
    ],
)
def test_a_source_that_does_something_else_is_named(delivery: Delivery, sentence: str) -> None:
    with pytest.raises(InstrumentError, match=sentence):
        Verification()([driving(Sourcing(delivery))])


def test_a_source_at_its_compliance_is_told_apart_from_one_that_drifts() -> None:
    assert Verification()([driving(Sourcing(Delivery(0.01, 0.005, on=True, limited=True)))]) is True


class Looking:
    """An instrument that cannot measure what it delivers; it only says whether it is on and in limits."""

    def __init__(self, condition: Condition) -> None:
        self.condition = condition

    def condition_reader(self, ports: list[str]) -> Any:
        return lambda: [self.condition for _ in ports]


def test_an_instrument_that_does_not_measure_its_output_is_asked_whether_it_is_on() -> None:
    assert Verification()([driving(Looking(Condition(4.0, on=True, in_limits=True)))]) is False
    assert Verification()([driving(Looking(Condition(4.0, on=True, in_limits=False)))]) is True
    with pytest.raises(InstrumentError, match=r"'V1'.*went off by itself"):
        Verification()([driving(Looking(Condition(4.0, on=False, in_limits=True)))])


def test_an_instrument_whose_outputs_float_is_asked_whether_it_kept_its_settings() -> None:
    instrument = Sourcing(Delivery(0.0, 0.0, on=False, limited=False))
    verify = Verification()
    verify([driving(instrument, Output.FLOATING)])
    instrument.settings_kept = False
    with pytest.raises(InstrumentError, match="settings are lost"):
        verify([driving(instrument, Output.FLOATING)])
    verify([driving(instrument, Output.UNTOUCHED)])


def test_notices_wait_until_they_are_asked_for() -> None:
    instrument = Sourcing(Delivery(0.0, 0.0, on=False, limited=False))
    notices, heard = Notices(), list[str]()
    notices.listen([instrument, object()])
    instrument.session.notice("a word was lost")
    assert heard == []
    notices.tell(heard.append)
    notices.tell(heard.append)
    assert heard == ["a word was lost"]


def test_a_lost_reply_is_asked_for_again_when_nothing_else_was_lost(build: Build) -> None:
    smu, _ = build(
        Keithley2602B,
        FORMAT,
        (DELIVERED, None),
        ("*IDN?", SMU),
        ("print(errorqueue.count)", "0"),
        ("print(hil_alive)", "1.000000000e+00"),
        (DELIVERED, "1.000000000e+00\t1.000000000e+00\tfalse\t4.001000000e+00"),
    )
    heard: list[str] = []
    smu.session.notice = heard.append
    (delivery,) = smu.delivery_reader(["smua"])()
    assert (delivery.actual, delivery.on, delivery.limited) == (4.001, True, False)
    assert "was repeated, because" in heard[0]


def test_an_instrument_that_restarted_meanwhile_is_not_asked_again(build: Build) -> None:
    smu, _ = build(
        Keithley2602B, FORMAT, (DELIVERED, None), ("*IDN?", SMU), ("print(errorqueue.count)", "0"), ("print(hil_alive)", "nil")
    )
    with pytest.raises(InstrumentError, match=r"switched off and on: its settings are lost"):
        smu.delivery_reader(["smua"])()


def test_a_mark_that_is_gone_is_noticed_without_any_trouble_of_the_link(build: Build) -> None:
    smu, _ = build(Keithley2602B, FORMAT, (DELIVERED, "nil\t0.000000000e+00\tfalse\t0.000000000e+00"))
    with pytest.raises(InstrumentError, match=r"switched off and on"):
        smu.delivery_reader(["smua"])()


def test_what_would_act_twice_is_never_repeated(build: Build) -> None:
    smu, resource = build(Keithley2602B, FORMAT)
    body = (
        "loadandrunscript\nfunction hil_routine_1(level, width, period, count)\nfor index = 1, count do\n"
        "smua.source.levelv = level delay(width)\nsmua.source.levelv = 0 delay(period - width)\nend\n"
        "smua.source.levelv = 0\nprint(smua.source.levelv, errorqueue.count)\nend\nendscript"
    )
    resource.expect(
        (body, None),
        ("print(errorqueue.count)", "0"),
        ("hil_routine_1(1,0.001,0.01,1)", None),
        ("*IDN?", SMU),
        ("print(errorqueue.count)", "0"),
    )
    with pytest.raises(InstrumentError, match=r"failed while a pulse"):
        smu.pulse("smua", 1.0, 1e-3, period=1e-2)


def test_a_scanner_that_lost_its_settings_is_noticed_by_its_mark(build: Build) -> None:
    daq, _ = build(KeithleyDAQ6510, (":COUN 1;:READ?;*ESE?", "4.0E+00;0"))
    with pytest.raises(InstrumentError, match=r"switched off and on"):
        daq.acquisition([("", "volt")])(1)


def test_an_electrometer_that_lost_its_settings_is_noticed_by_what_it_adds_to_its_readings(build: Build) -> None:
    ok = '0,"No error"'
    meter, _ = build(
        Keithley6517B,
        (":TRIG:COUN 1;:READ?", "+9.910000E+37ZVDC,+0000000.012000secs,+00000RDNG#"),
        ("*IDN?", "KEITHLEY INSTRUMENTS INC.,MODEL 6517B,1234567,A13/700x"),
        (":SYST:ERR?", ok),
        (":SYST:ZCH?", "1"),
    )
    meter.note(zero_check=False)
    with pytest.raises(InstrumentError, match=r"switched off and on"):
        meter.acquisition([("", "volt")])(1)


def test_pressures_in_another_unit_are_no_readings(build: Build) -> None:
    pace, _ = build(DruckPACE6000, (":SENS1:PRES?;:UNIT1:PRES?", ":SENS:PRES 1013.2500000;:UNIT:PRES MBAR"))
    with pytest.raises(InstrumentError, match=r"switched off and on"):
        pace.acquisition([("a", "pressure")])(1)


def test_a_pressure_that_left_its_limits_again_is_judged_and_one_that_is_on_its_way_is_not() -> None:
    drive = driving(Sourcing(Delivery(4.1, 0.005, on=True, limited=False)))
    drive.is_pressure = True
    assert Verification()([drive]) is False, "nobody has waited for it yet"
    drive.arrived = True
    with pytest.raises(InstrumentError, match=r"delivers 4\.1 V although 4 V was asked for"):
        Verification()([drive])


def test_a_pressure_has_arrived_until_it_is_told_to_move() -> None:
    drive = driving(Looking(Condition(4.0, on=True, in_limits=True)))
    look_at([drive], Movers())
    drive.instrument.condition = Condition(5.0, on=True, in_limits=False)
    look_at([drive], Movers())
    assert (drive.in_limits, drive.arrived) == (False, True)


@pytest.mark.parametrize(("told", "kept"), [(3.99998, True), (4.002, False)])
def test_a_level_that_the_unit_rounded_has_not_been_moved(told: float, kept: bool) -> None:
    drive = driving(Looking(Condition(told, on=True, in_limits=True)))
    look_at([drive], Movers())
    assert drive.on_course is kept
