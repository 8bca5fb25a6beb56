"""The emulated electrometer: its command language, and what it does to the plant."""

from typing import Any

import pytest

from tests.unit.virtual_bench.scpi_rig import Ask, Rig, bench_of, floats, talk


def electrometer(**options: Any) -> tuple[Rig, Ask]:
    bench = bench_of("Keithley6517B", {"1": "vsource", "2": ""}, **options)
    return bench, talk(bench)


def test_6517b_begins_with_zero_check_on() -> None:
    bench, ask = electrometer()
    assert ask("SYST:ZCH?;:SENS:FUNC?;:FORM:ELEM?") == '1;"VOLT:DC";READ,STAT,RNUM,UNIT,TST,CHAN'
    assert ask("FORM:ELEM READ;:READ?") == "+9.910000E+37"
    assert bench.plant.sources()["it"][""]["input_resistance"] == pytest.approx(1e6)


def test_6517b_reads_volts_with_the_default_string() -> None:
    _, ask = electrometer()
    ask(":SOUR:VOLT 6;:OUTP ON;:SYST:ZCH OFF;:SENS:VOLT:RANG 20")
    assert ask("READ?") == "+3.000000E+00NVDC,+0000000.020000secs,+00000RDNG#,000INTCHAN"
    assert ask("FORM:ELEM READ,TST;:READ?") == "+3.000000E+00,+0000000.040000"
    assert ask("FETC?") == "+3.000000E+00,+0000000.040000"
    assert ask(":SENS:VOLT:RANG?") == "+2.000000E+01"


def test_6517b_autoranges_and_overflows() -> None:
    _, ask = electrometer()
    ask("FORM:ELEM READ,STAT;:SOUR:VOLT 6;:OUTP ON;:SYST:ZCH OFF")
    assert ask("READ?;:SENS:VOLT:RANG?") == "+3.000000E+00N;+2.000000E+01"
    assert ask("SENS:VOLT:RANG 2;RANG:AUTO?;:READ?") == "0;+9.900000E+37O"
    ask("SOUR:VOLT -6")
    assert ask("READ?") == "-9.900000E+37O"


def test_6517b_measures_current_into_its_input() -> None:
    bench, ask = electrometer()
    ask("FORM:ELEM READ;:SENS:FUNC 'CURR';:SOUR:VOLT 2;:OUTP ON;:SYST:ZCH OFF")
    assert floats(ask("READ?")) == pytest.approx([2e-6])  # the input is a virtual ground behind 1 Mohm
    assert bench.plant.node_voltages()["2"] == pytest.approx(0.0, abs=1e-12)
    assert ask("SENS:CURR:RANG 2e-9;:READ?") == "+9.900000E+37"


def test_6517b_integration_time_passes() -> None:
    bench, ask = electrometer()
    before = bench.plant.clock.now()
    ask("SENS:VOLT:NPLC 10;AVER:COUN 5;STAT ON;:READ?")
    assert bench.plant.clock.now() - before == pytest.approx(50 / 50.0)


def test_6517b_buffer_and_counts() -> None:
    _, ask = electrometer()
    ask("FORM:ELEM READ;:SYST:ZCH OFF;:TRAC:POIN 3;FEED:CONT NEXT;:TRIG:COUN 3;:SOUR:VOLT 2;:OUTP ON;:INIT")
    assert floats(ask("TRAC:DATA?")) == pytest.approx([1.0, 1.0, 1.0])
    assert len(floats(ask("READ?"))) == 3


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("FETC?", '-230,"Data corrupt or stale"'),
        ("SENS:FUNC 'OHMS'", '-224,"Illegal parameter value"'),
        ("SENS:VOLT:NPLC 99", '-222,"Data out of range"'),
        ("SOUR:VOLT 200", '-222,"Data out of range"'),
        ("TRAC:DATA?", '-230,"Data corrupt or stale"'),
        ("SENS:TEMP:RANG 1", '-113,"Undefined header"'),
    ],
)
def test_6517b_errors(message: str, error: str) -> None:
    _, ask = electrometer()
    assert ask(message) is None
    assert ask("SYST:ERR?") == error


def test_6517b_is_honest_unless_ideal() -> None:
    bench, ask = electrometer(ideal=False, seed=2)
    ask("SYST:ZCH OFF")
    facts = bench.plant.sources()["it"][""]
    assert facts["input_resistance"] == pytest.approx(200e12)
    assert 0.0 < abs(float(facts["bias_current"])) < 4e-15
    ask("FORM:ELEM READ;:SOUR:VOLT 2;:OUTP ON;:SENS:VOLT:RANG 2;:TRIG:COUN 200")
    readings = floats(ask("READ?"))
    mean = sum(readings) / 200
    spread = (sum((r - mean) ** 2 for r in readings) / 200) ** 0.5
    assert spread == pytest.approx(1.5e-6, rel=0.3)
    assert 1e-7 < abs(mean - 1.0) < 2.9e-4
