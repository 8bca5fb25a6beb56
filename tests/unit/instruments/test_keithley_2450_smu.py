"""Keithley 2450: exact words of the driver, and the driver on the emulated unit at a plant of resistors."""

from collections.abc import Iterator
from math import isnan

import numpy as np
import pytest

from hil.core.errors import InstrumentError
from hil.core.types import SafeAction
from instruments.keithley_2450 import Keithley2450
from instruments.roles import Condition
from simulated_backend.virtual_bench.process import VirtualBench
from tests.smu_rig import plan, resistors
from tests.unit.instruments.conftest import Build

FINE = '0,"No error;0;0 0"'


def configuring(limit: str = "1.000000E-05", mode: str = "NORM") -> list[tuple[str, str]]:
    return [
        ("*LANG?", "SCPI"),
        (":ABOR;:OUTP OFF;:SOUR:FUNC VOLT;:SOUR:VOLT 0;*ESE 60;:SYST:ERR?", FINE),
        (":SENS:CURR:RANG:AUTO ON;:SOUR:VOLT:ILIM 1e-05;:SYST:ERR?", FINE),
        (":SOUR:VOLT:RANG 20;:SOUR:VOLT:RANG?;:SYST:ERR?", f"20;{FINE}"),
        (":SOUR:VOLT:PROT PROT10;:SOUR:VOLT:PROT?;:SYST:ERR?", f"PROT10;{FINE}"),
        (":SOUR:VOLT:ILIM 1e-05;:SOUR:VOLT:ILIM?;:SYST:ERR?", f"{limit};{FINE}"),
        (f":OUTP:VOLT:SMOD {mode};:OUTP:VOLT:SMOD?;:SYST:ERR?", f"{mode};{FINE}"),
        (':FORM ASC;:FORM:ASC:PREC 10;:SENS:FUNC "CURR";:SOUR:VOLT:READ:BACK ON;:SYST:ERR?', FINE),
        (":SENS:CURR:AVER OFF;:SENS:CURR:REL:STAT OFF;:CALC:CURR:MATH:STAT OFF;:SYST:ERR?", FINE),
    ]


def test_the_source_is_set_up_with_its_output_off_and_everything_read_back(build: Build) -> None:
    smu, _ = build(
        Keithley2450,
        *configuring(mode="HIMP"),
        (":SENS:CURR:NPLC 2;:SENS:CURR:NPLC?;:SYST:ERR?", f"2;{FINE}"),
        (":SENS:CURR:RSEN ON;:SENS:CURR:RSEN?;:SYST:ERR?", f"1;{FINE}"),
        (":SENS:CURR:AZER OFF;:SENS:CURR:AZER?;:SYST:ERR?", f"0;{FINE}"),
        (":SENS:CURR:RANG 1e-05;:SENS:CURR:RANG?;:SYST:ERR?", f"1E-05;{FINE}"),
        (":SOUR:VOLT:ILIM?;:SYST:ERR?", f"1.000000E-05;{FINE}"),
    )
    asked = {"nplc": 2.0, "current_range": 5e-6, "off_mode": "high_impedance", "four_wire": True, "auto_zero": False}
    smu.configure_source(plan(settings=asked))
    known = smu.settings()
    assert known["compliance_A"] == 1e-5
    assert known["source_range_V"] == 20.0
    assert known["curr_range"] == 1e-5
    assert known["off_mode"] == "high_impedance"


def test_a_limit_that_was_not_kept_is_an_error(build: Build) -> None:
    smu, _ = build(Keithley2450, *configuring(limit="1.050000E-04")[:6])
    with pytest.raises(InstrumentError, match=r"0\.000105.*ILIM"):
        smu.configure_source(plan())


def test_another_command_set_is_told_by_its_name(build: Build) -> None:
    smu, _ = build(Keithley2450, ("*LANG?", "TSP"))
    with pytest.raises(InstrumentError, match=r"understands TSP now; choose the command set SCPI"):
        smu.configure_source(plan())


def test_a_protection_that_was_not_kept_is_an_error_and_above_its_steps_there_is_none(build: Build) -> None:
    begin = *configuring()[:3], (":SOUR:VOLT:RANG 200;:SOUR:VOLT:RANG?;:SYST:ERR?", f"200;{FINE}")
    smu, _ = build(Keithley2450, *begin, (":SOUR:VOLT:PROT NONE;:SOUR:VOLT:PROT?;:SYST:ERR?", f"PROT20;{FINE}"))
    with pytest.raises(InstrumentError, match="keeps the voltage protection PROT20, although NONE was sent"):
        smu.configure_source(plan(maximum=80.0))


def test_readings_carry_volts_amperes_and_the_limit(build: Build) -> None:
    many = ':SENS:COUN 2;:TRAC:CLE "defbuffer1";:TRAC:TRIG "defbuffer1";*WAI;:TRAC:DATA? 1, 2, "defbuffer1", SOUR, READ, SOURSTAT'
    smu, _ = build(
        Keithley2450,
        (':SENS:COUN 1;:READ? "defbuffer1", SOUR, READ, SOURSTAT', "1.5E+00,2.5E-06,128"),
        (many, "1.5E+00,2.5E-06,160,1.5E+00,9.9E+37,128"),
        (":SOUR:VOLT?;:OUTP?;:SOUR:VOLT:ILIM:TRIP?;:SYST:ERR?", f"1.5E+00;1;1;{FINE}"),
    )
    read = smu.acquisition([("", "curr"), ("", "volt")])
    assert read(1).values.tolist() == [[2.5e-6, 1.5]]
    two = read(2)
    assert two.overload.tolist() == [[True, True], [True, False]]
    assert isnan(two.values[1, 0])
    assert smu.condition_reader([""])() == [Condition(1.5, True, False)]


# On the emulated unit -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    with VirtualBench.start(resistors("Keithley2450", {"1": ""})) as running:
        yield running


@pytest.fixture
def smu(bench: VirtualBench) -> Iterator[Keithley2450]:
    unit = Keithley2450("smu", bench.addresses["it"])
    yield unit
    unit.disable(SafeAction.HIGH_IMPEDANCE)
    unit.close()


def test_a_range_that_would_loosen_the_limit_is_refused(bench: VirtualBench, smu: Keithley2450) -> None:
    """The unit changes a limit that is below a thousandth of a fixed range, and puts no error into its queue."""
    with pytest.raises(InstrumentError, match=r"changed the compliance of smu from 1e-05 A to 0\.0001 A"):
        smu.configure_source(plan(settings={"current_range": 0.1}))


def test_an_outputs_range_outlives_the_set_up_of_its_source(bench: VirtualBench, smu: Keithley2450) -> None:
    smu.configure_meter("curr", {"range": 1e-5})
    smu.configure_source(plan())
    assert smu.settings()["curr_range"] == 1e-5
    assert smu.ask(":SENS:CURR:RANG:AUTO?;:SENS:CURR:RANG?") == "0;1E-05"


def test_it_sources_reads_and_is_limited(bench: VirtualBench, smu: Keithley2450) -> None:
    smu.configure_source(plan(settings={"nplc": 1.0}))
    smu.enable(2.0)
    (volts, amperes) = smu.acquisition([("", "volt"), ("", "curr")])(1).values[0]
    assert volts == pytest.approx(bench.side_door.voltages()["1"], abs=4e-3)
    assert volts == pytest.approx(2.0, abs=4e-3)
    assert amperes == pytest.approx(2.0e-6, abs=5e-9)
    assert smu.condition_reader([""])()[0].in_limits
    smu.compliance(1e-6)
    assert not smu.condition_reader([""])()[0].in_limits
    limited = smu.acquisition([("", "volt")])(2)
    assert limited.overload.all()
    assert limited.values[0, 0] == pytest.approx(1.0, abs=3e-3)
    assert smu.interlock() == 1
    assert smu.source_state().on


def test_a_list_needs_nothing_that_older_firmware_does_not_know(bench: VirtualBench, smu: Keithley2450) -> None:
    """A measuring block takes one reading: several samples of a level are a loop of their own."""
    smu.configure_source(plan(settings={"nplc": 0.1}))
    smu.enable(0.0)
    smu.write(':TRIG:LOAD "Empty";:TRIG:BLOC:MEAS 1, "defbuffer1", 3')
    assert "-108" in smu.errors()[0]
    run, _ = smu.list_acquisition([""], [("", "volt")], 0.0)
    values = run(np.array([[1.0], [-2.0], [3.0]]), 3, True).values[:, 0]
    np.testing.assert_allclose(values, np.repeat([1.0, -2.0, 3.0], 3), atol=5e-3)
    assert bench.side_door.voltages()["1"] == pytest.approx(0.0, abs=3e-3)
