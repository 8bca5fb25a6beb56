"""Exact words to and from the PACE, the 6517B and the DAQ6510."""

from typing import Any

import numpy as np
import pytest

from hil.core.errors import ConfigError, InstrumentError
from hil.core.types import Quantity, SafeAction
from instruments.base import error_code, split_replies, value_of
from instruments.druck_pace import DruckPACE5000, DruckPACE6000
from instruments.keithley_6517b import Keithley6517B
from instruments.keithley_daq6510 import KeithleyDAQ6510
from instruments.roles import SourcePlan
from tests.unit.instruments.conftest import Build

FINE = ":SYST:ERR 0, No error"


def pressure_plan(**changes: Any) -> SourcePlan:
    settings: dict[str, Any] = {
        "quantity": Quantity.PRESSURE,
        "minimum": 9e4,
        "maximum": 1.1e5,
        "compliance": None,
        "slew": 5e3,
        **changes,
    }
    return SourcePlan(**settings)


def configuring(
    number: int, *, selected: str = "3.00bara", supply: str = "400000.0000000", kept: str = "5000.0000000"
) -> list[tuple[str, str]]:
    n, tail = number, f";{FINE}"
    return [
        (f":UNIT{n}:PRES PA;:UNIT{n}:PRES?;:SYST:ERR?", f":UNIT:PRES PA{tail}"),
        (f":SOUR{n}:PRES:RANG?;:SYST:ERR?", f':SOUR:PRES:RANG "{selected}"{tail}'),
        (f':SENS{n}:PRES:RANG "{selected}";:SENS{n}:PRES:RANG?;:SYST:ERR?', f':SENS:PRES:RANG "{selected}"{tail}'),
        (
            f":SOUR{n}:PRES:COMP1?;:SOUR{n}:PRES:COMP2?;:SYST:ERR?",
            f":SOUR:PRES:COMP {supply};:SOUR:PRES:COMP2 2000.0000000{tail}",
        ),
        (f":SOUR{n}:PRES:SLEW:OVER 0;:SYST:ERR?", FINE),
        (f":UNIT{n}:PRES PA;:SOUR{n}:PRES:SLEW 5000.0000000;:SOUR{n}:PRES:SLEW?;:SYST:ERR?", f":SOUR:PRES:SLEW {kept}{tail}"),
    ]


LINEAR = (":SOUR{n}:PRES:SLEW:MODE LIN;:SOUR{n}:PRES:SLEW:MODE?;:SYST:ERR?", f":SOUR:PRES:SLEW:MODE LIN;{FINE}")
BAND = (":SOUR{n}:PRES:INL?;:SYST:ERR?", f":SOUR:PRES:INL 0.0100000;{FINE}")


def numbered(number: int, pair: tuple[str, str]) -> tuple[str, str]:
    return pair[0].format(n=number), pair[1]


# -- PACE -------------------------------------------------------------------------------------------------------


def test_every_header_of_module_b_carries_its_number_and_slew_is_read_back(build: Build) -> None:
    pace, _ = build(DruckPACE6000, *configuring(2), numbered(2, LINEAR), numbered(2, BAND))
    assert pace.b.configure_source(pressure_plan()) == []
    assert pace.settings()["b.in_limits_Pa"] == pytest.approx(30.0)


def test_a_slew_rate_that_was_not_kept_is_an_error(build: Build) -> None:
    pace, _ = build(DruckPACE6000, *configuring(1, kept="99999999.0000000"))
    with pytest.raises(InstrumentError, match=r"'unit'.*1e\+08.*SLEW"):
        pace.a.configure_source(pressure_plan())


def test_the_in_limits_band_is_sent_in_percent_of_full_scale(build: Build) -> None:
    pace, _ = build(
        DruckPACE6000,
        *configuring(1),
        numbered(1, LINEAR),
        (":SOUR1:PRES:INL 0.0050000;:SOUR1:PRES:INL?;:SYST:ERR?", f":SOUR:PRES:INL 0.0050000;{FINE}"),
        (":SOUR1:PRES:INL?;:SYST:ERR?", f":SOUR:PRES:INL 0.0050000;{FINE}"),
    )
    pace.a.configure_source(pressure_plan(settings={"in_limits": 15.0, "reference": "absolute"}))


def test_a_weak_supply_is_a_warning(build: Build) -> None:
    pace, _ = build(DruckPACE6000, *configuring(1, supply="105000.0"), numbered(1, LINEAR), numbered(1, BAND))
    (sentence,) = pace.a.configure_source(pressure_plan())
    assert "supply 105000 Pa is not above the upper limit 110000 Pa" in sentence


def test_gauge_pressures_are_never_mistaken_for_absolute_ones(build: Build) -> None:
    pace, _ = build(DruckPACE6000, *configuring(1, selected="2.00barg")[:3])
    with pytest.raises(InstrumentError, match=r"2\.00barg.*wants absolute"):
        pace.a.configure_source(pressure_plan(settings={"reference": "absolute"}))


def test_both_set_points_and_their_check_are_one_message_of_at_most_128_characters(build: Build) -> None:
    message = ":UNIT1:PRES PA;:SOUR1:PRES 100100.0000;:UNIT2:PRES PA;:SOUR2:PRES 99900.5000;:SOUR1:PRES?;:SOUR2:PRES?;:SYST:ERR?"
    assert len(message) <= 128
    reply = f":SOUR:PRES:LEV:IMM:AMPL 100100.0000000;:SOUR2:PRES:LEV:IMM:AMPL 99900.5000000;{FINE}"
    pace, _ = build(DruckPACE6000, (message, reply), (message, reply.replace("99900.5", "0.0")))
    pace.level_writer(["a", "b"])([100100.0, 99900.5])
    with pytest.raises(InstrumentError, match=r"module 2 has the set-point 0 Pa"):
        pace.level_writer(["a", "b"])([100100.0, 99900.5])


def test_an_error_in_the_queue_is_told_with_all_that_follows_it(build: Build) -> None:
    pace, _ = build(
        DruckPACE6000,
        (
            ":UNIT2:PRES PA;:SOUR2:PRES 100000.0000;:SOUR2:PRES?;:SYST:ERR?",
            ':SOUR2:PRES:LEV:IMM:AMPL 0.0;:SYST:ERR -200,"Execution error;Query or command violation"',
        ),
        (":SYST:ERR?", ':SYST:ERR -113,"Undefined header"'),
        (":SYST:ERR?", FINE),
    )
    with pytest.raises(InstrumentError, match=r"-200,Execution error;Query or command violation; -113,Undefined header"):
        pace.level_writer(["b"])([1e5])


@pytest.mark.parametrize("off", [True, False])
def test_an_old_entry_in_the_queue_neither_hides_nor_replaces_what_the_output_says(build: Build, off: bool) -> None:
    pace, _ = build(
        DruckPACE6000,
        (":OUTP2:STAT 0;:OUTP2:STAT?;:SYST:ERR?", f':OUTP2:STAT {int(not off)};:SYST:ERR -221,"Settings conflict"'),
        (":SYST:ERR?", FINE),
    )
    heard: list[str] = []
    pace.session.notice = heard.append
    if off:
        pace.b.disable(SafeAction.HIGH_IMPEDANCE)
    else:
        with pytest.raises(InstrumentError, match=r"did not switch its controller off"):
            pace.b.disable(SafeAction.HIGH_IMPEDANCE)
    assert heard == ["instrument 'unit' reported -221,Settings conflict after switching the controller off"]


def test_condition_of_both_modules_in_one_query(build: Build) -> None:
    message = ":SENS1:PRES:INL?;:OUTP1:STAT?;:SENS2:PRES:INL?;:OUTP2:STAT?"
    reply = ":SENS:PRES:INL 100001.5, 1;:OUTP:STAT 1;:SENS2:PRES:INL 98000.0, 0;:OUTP2:STAT 0"
    pace, _ = build(DruckPACE6000, (message, reply))
    assert pace.condition_reader(["a", "b"])() == [(100001.5, True, True), (98000.0, False, False)]


def test_venting_is_confirmed_and_a_vent_is_ended_before_control_begins(build: Build) -> None:
    vent = ":SOUR1:PRES:LEV:IMM:AMPL:VENT"
    pace, _ = build(
        DruckPACE5000,
        (f"{vent} 1;{vent}?;:SYST:ERR?", f"{vent} 1;{FINE}"),
        (f"{vent}?", f"{vent} 1"),
        (f"{vent} 0;:SYST:ERR?", FINE),
        (":UNIT1:PRES PA;:SOUR1:PRES 101000.00;:OUTP1:STAT 1;:OUTP1:STAT?;:SYST:ERR?", f":OUTP:STAT 1;{FINE}"),
        (f"{vent} 1;{vent}?;:SYST:ERR?", f"{vent} 0;{FINE}"),
    )
    pace.a.disable(SafeAction.VENT)
    pace.a.enable(101000.0)
    with pytest.raises(InstrumentError, match=r"does not vent"):
        pace.a.disable(SafeAction.VENT)


def test_state_of_a_module(build: Build) -> None:
    pace, _ = build(
        DruckPACE6000,
        (
            ":SOUR2:PRES?;:SENS2:PRES?;:OUTP2:STAT?;:SYST:ERR?",
            f":SOUR2:PRES:LEV:IMM:AMPL 1.0;:SENS2:PRES 2.0;:OUTP2:STAT 1;{FINE}",
        ),
        (":SENS2:PRES?;:UNIT2:PRES?", ":SENS2:PRES 1013.2500000;:UNIT2:PRES MBAR"),
    )
    assert pace.b.source_state() == (1.0, 2.0, True)
    assert pace.b.pressure() == 101325.0


# -- 6517B ------------------------------------------------------------------------------------------------------

OK = '0,"No error"'
ELECTROMETER = [
    (":INIT:CONT OFF;:ABOR;:SENS:FUNC 'VOLT';:SYST:ERR?", OK),
    (
        ":ARM:SOUR IMM;:ARM:COUN 1;:ARM:LAY2:SOUR IMM;:ARM:LAY2:COUN 1;:ARM:LAY2:DEL 0;:TRIG:SOUR IMM;:TRIG:DEL 0;:SYST:ERR?",
        OK,
    ),
    (":SENS:VOLT:AVER OFF;:SENS:VOLT:MED OFF;:SENS:VOLT:REF:STAT OFF;:SYST:ERR?", OK),
    (":FORM:ELEM READ;:TRAC:ELEM NONE;:SYST:ERR?", OK),
    (":SENS:VOLT:NPLC 1;:SENS:VOLT:NPLC?;:SYST:ERR?", f"1.00;{OK}"),
    (":SENS:VOLT:RANG:AUTO OFF;:SYST:ERR?", OK),
    (":SENS:VOLT:RANG 20;:SENS:VOLT:RANG?;:SYST:ERR?", f"+2.100000E+01;{OK}"),
    (":SYST:ZCH OFF;:SYST:ERR?", OK),
]


def test_zero_check_goes_off_last(build: Build) -> None:
    meter, _ = build(Keithley6517B, *ELECTROMETER)
    meter.configure_meter("volt", {"range": 10.0, "nplc": 1})
    assert meter.settings() == {"function": "volt", "range": 20.0, "nplc": 1.0, "zero_check": False}


def test_the_guard_of_the_cable_is_driven_before_zero_check_goes_off(build: Build) -> None:
    guard = (":SENS:VOLT:GUAR 1;:SENS:VOLT:GUAR?;:SYST:ERR?", f"1;{OK}")
    meter, _ = build(Keithley6517B, *ELECTROMETER[:-1], guard, ELECTROMETER[-1])
    meter.configure_meter("volt", {"range": 10.0, "nplc": 1, "guard": True})
    assert meter.settings()["guard"] is True
    with pytest.raises(ConfigError, match="no setting 'guard'"):  # for amperes the inner shield is low
        meter.configure_meter("curr", {"guard": True})


def test_one_reading_and_many_are_one_round_trip_each(build: Build) -> None:
    meter, _ = build(
        Keithley6517B,
        *ELECTROMETER,
        (":TRIG:COUN 1;:READ?", "+4.001200E+00"),
        (":READ?", "+9.900000E+37"),
        (
            ":TRAC:CLE;:TRAC:POIN 3;:TRIG:COUN 3;:TRAC:FEED SENS;:TRAC:FEED:CONT NEXT;:INIT;*WAI;:TRAC:DATA?",
            "+4.0E+00,+4.1E+00,+9.91E+37",
        ),
        (":TRIG:COUN 1;:READ?", "+4.0E+00"),
    )
    meter.configure_meter("volt", {"range": 10.0, "nplc": 1})
    read = meter.acquisition([("", "volt")])
    assert read(1).values.tolist() == [[4.0012]]
    lost = read(1)
    assert np.isnan(lost.values).all()
    assert lost.overload.all()
    many = read(3)
    assert many.overload.ravel().tolist() == [False, False, True]
    assert many.values[:2].ravel().tolist() == [4.0, 4.1]
    assert read(1).values.tolist() == [[4.0]]


def test_fewer_readings_than_asked_for_is_an_error(build: Build) -> None:
    meter, _ = build(
        Keithley6517B,
        (":TRIG:COUN 1;:READ?", "+4.0E+00,+4.1E+00"),
        ("*IDN?", "KEITHLEY INSTRUMENTS INC.,MODEL 6517B,1234567,A13/700x"),
        (":SYST:ERR?", OK),
        (":TRIG:COUN 1;:READ?", "+4.0E+00,+4.1E+00"),
    )
    with pytest.raises(InstrumentError, match=r"failed twice while reading: its reply means nothing.*size 2"):
        meter.acquisition([("", "volt")])(1)


def test_what_an_electrometer_cannot_do_is_refused(build: Build) -> None:
    meter, _ = build(Keithley6517B, *ELECTROMETER[:5])
    with pytest.raises(ConfigError, match=r"one quantity at a time"):
        meter.acquisition([("", "volt"), ("", "curr")])
    with pytest.raises(ConfigError, match=r"above the largest, 200"):
        meter.configure_meter("volt", {"range": 500.0})
    with pytest.raises(ConfigError, match=r"no setting 'input_impedance'"):
        meter.configure_meter("volt", {"input_impedance": "auto"})


# -- DAQ6510 ----------------------------------------------------------------------------------------------------

DAQ_OK = '0,"No error;0;0 0"'
FRONT = [
    ("*LANG?", "SCPI"),
    (":ROUT:TERM?", "FRON"),
    (':FORM ASC;:FORM:ASC:PREC 10;*ESE 60;:SENS:FUNC "VOLT";:SYST:ERR?', DAQ_OK),
    (":SENS:VOLT:AVER OFF;:SENS:VOLT:REL:STAT OFF;:CALC:VOLT:MATH:STAT OFF;:SYST:ERR?", DAQ_OK),
    (":SENS:VOLT:RANG 10;:SENS:VOLT:RANG?;:SYST:ERR?", f"10;{DAQ_OK}"),
    (":SENS:VOLT:NPLC 1;:SENS:VOLT:NPLC?;:SYST:ERR?", f"1;{DAQ_OK}"),
    (":SENS:VOLT:INP AUTO;:SYST:ERR?", DAQ_OK),
]


def test_front_terminals_choose_high_impedance_unless_told_otherwise(build: Build) -> None:
    daq, _ = build(KeithleyDAQ6510, *FRONT, *FRONT[1:6], (":SENS:VOLT:INP MOHM10;:SYST:ERR?", DAQ_OK))
    daq.configure_meter("volt", {"range": 5.0, "nplc": 1.0})
    daq.configure_meter("volt", {"range": 10.0, "nplc": 1.0, "input_impedance": "10M"})
    assert daq.settings()["input_impedance"] == "10M"


def test_another_command_set_of_the_daq_is_told_by_its_name(build: Build) -> None:
    daq, _ = build(KeithleyDAQ6510, ("*LANG?", "SCPI2700"))
    with pytest.raises(InstrumentError, match=r"understands SCPI2700 now; choose the command set SCPI"):
        daq.configure_meter("volt", {})


def test_the_terminals_switch_is_looked_at(build: Build) -> None:
    daq, _ = build(KeithleyDAQ6510, FRONT[0], (":ROUT:TERM?", "REAR"), FRONT[0], (":ROUT:TERM?", "FRON"))
    with pytest.raises(InstrumentError, match=r"switch at rear.*front terminals; press TERMINALS"):
        daq.configure_meter("volt", {})
    with pytest.raises(InstrumentError, match=r"switch at front.*ch101"):
        daq.port("ch101").configure_meter("volt", {})


def test_one_front_reading_and_a_buffer_of_them(build: Build) -> None:
    many = ':COUN 2;:TRAC:CLE "defbuffer1";:TRAC:TRIG "defbuffer1";*WAI;:TRAC:DATA? 1, 2, "defbuffer1", READ;*ESE?'
    daq, _ = build(
        KeithleyDAQ6510,
        *FRONT,
        (":COUN 1;:READ?;*ESE?", "4.000012345E+00;60"),
        (":READ?;*ESE?", "4.000012346E+00;60"),
        (many, "4.1E+00,9.9E+37;60"),
        (many.removeprefix(":COUN 2;"), "4.1E+00,4.2E+00;60"),
    )
    daq.configure_meter("volt", {"range": 10.0, "nplc": 1.0})
    read = daq.acquisition([("", "volt")])
    assert [read(1).values[0, 0] for _ in range(2)] == [4.000012345, 4.000012346]
    first = read(2)
    assert first.overload.ravel().tolist() == [False, True]
    assert read(2).values.ravel().tolist() == [4.1, 4.2]


def test_channels_are_read_in_one_scan_in_the_order_asked_for(build: Build) -> None:
    configure = [
        exchange
        for number in (103, 101)
        for exchange in (
            (":ROUT:TERM?", "REAR"),
            (f':FORM ASC;:FORM:ASC:PREC 10;*ESE 60;:SENS:FUNC "VOLT", (@{number});:SYST:ERR?', DAQ_OK),
            (
                f":SENS:VOLT:AVER OFF, (@{number});:SENS:VOLT:REL:STAT OFF, (@{number});:CALC:VOLT:MATH:STAT OFF, (@{number});"
                ":SYST:ERR?",
                DAQ_OK,
            ),
            (f":SENS:VOLT:RANG 10, (@{number});:SENS:VOLT:RANG? (@{number});:SYST:ERR?", f"10;{DAQ_OK}"),
            (f":SENS:VOLT:NPLC 1, (@{number});:SENS:VOLT:NPLC? (@{number});:SYST:ERR?", f"1;{DAQ_OK}"),
            (f":SENS:VOLT:INP AUTO, (@{number});:SYST:ERR?", DAQ_OK),
        )
    ]
    scan = ':TRAC:CLE "defbuffer1";:INIT;*WAI;:TRAC:DATA? 1, 4, "defbuffer1", READ;*ESE?'
    daq, _ = build(
        KeithleyDAQ6510,
        FRONT[0],
        *configure,
        (f":COUN 1;:ROUT:SCAN:CRE (@103,101);:ROUT:SCAN:COUN:SCAN 2;{scan}", "3.0,1.0,3.1,1.1;60"),
        (scan, "3.2,1.2,3.3,1.3;60"),
    )
    for name in ("ch103", "ch101"):
        daq.port(name).configure_meter("volt", {})
    read = daq.acquisition([("ch103", "volt"), ("ch101", "volt")])
    assert read(2).values.tolist() == [[3.0, 1.0], [3.1, 1.1]]
    assert read(2).values.tolist() == [[3.2, 1.2], [3.3, 1.3]]


def test_ports_that_cannot_be_read_together_are_refused(build: Build) -> None:
    daq, _ = build(KeithleyDAQ6510)
    with pytest.raises(ConfigError, match=r"never read together"):
        daq.acquisition([("", "volt"), ("ch101", "volt")])
    with pytest.raises(ConfigError, match=r"one quantity at a time"):
        daq.acquisition([("ch101", "volt"), ("ch101", "curr")])
    with pytest.raises(ConfigError, match=r"has no port 'ch999'"):
        daq.port("ch999")


# -- replies ----------------------------------------------------------------------------------------------------


def test_replies_are_split_outside_quotes_only() -> None:
    assert split_replies('1;-113,"a;b"; +2') == ["1", '-113,"a;b"', "+2"]
    assert value_of(":SENS2:PRES 1.5") == "1.5"
    assert value_of("+1.5E+00") == "+1.5E+00"
    assert error_code(':SYST:ERR -113,"Undefined header"') == -113
    assert error_code(":SYST:ERR 0, No error") == 0
