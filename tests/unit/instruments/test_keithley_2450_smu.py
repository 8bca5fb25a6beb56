"""Keithley 2450: exact words of the driver, and the driver on the emulated unit at a plant of resistors."""

from collections.abc import Iterator
from math import isnan

import numpy as np
import pytest

from hil.core.errors import ConfigError, InstrumentError
from hil.core.types import Quantity, SafeAction
from instruments.keithley_2450 import Keithley2450
from instruments.roles import Condition, SourcePlan
from simulated_backend.virtual_bench.process import VirtualBench
from tests.smu_rig import resistors
from tests.unit.instruments.conftest import Build

FINE = '0,"No error;0;0 0"'


def plan(**changes: object) -> SourcePlan:
    given = {"quantity": Quantity.VOLTAGE, "minimum": -5.0, "maximum": 5.0, "compliance": 1e-5, "slew": 10.0, **changes}
    return SourcePlan(**given)  # type: ignore[arg-type]


def configuring(limit: str = "1.000000E-05", mode: str = "NORM") -> list[tuple[str, str]]:
    return [
        (":ABOR;:OUTP OFF;:SOUR:FUNC VOLT;:SOUR:VOLT 0;*ESE 60;:SYST:ERR?", FINE),
        (":SOUR:VOLT:RANG 20;:SOUR:VOLT:RANG?;:SYST:ERR?", f"20;{FINE}"),
        (":SENS:CURR:RANG:AUTO ON;:SYST:ERR?", FINE),
        (":SOUR:VOLT:ILIM 1e-05;:SOUR:VOLT:ILIM?;:SYST:ERR?", f"{limit};{FINE}"),
        (f":OUTP:VOLT:SMOD {mode};:OUTP:VOLT:SMOD?;:SYST:ERR?", f"{mode};{FINE}"),
        (':FORM:ASC:PREC 10;:SENS:FUNC "CURR";:SOUR:VOLT:READ:BACK ON;:SYST:ERR?', FINE),
    ]


def test_the_source_is_set_up_with_its_output_off_and_everything_read_back(build: Build) -> None:
    smu, _ = build(
        Keithley2450,
        *configuring(mode="HIMP"),
        (":SENS:CURR:NPLC 2;:SENS:CURR:NPLC?;:SYST:ERR?", f"2;{FINE}"),
        (":SENS:CURR:RANG 1e-05;:SENS:CURR:RANG?;:SYST:ERR?", f"1E-05;{FINE}"),
    )
    smu.configure_source(plan(settings={"nplc": 2.0, "current_range": 5e-6, "off_mode": "high_impedance"}))
    known = smu.settings()
    assert known["compliance_A"] == 1e-5
    assert known["source_range_V"] == 20.0
    assert known["curr_range"] == 1e-5
    assert known["off_mode"] == "high_impedance"


def test_a_limit_that_was_not_kept_is_an_error(build: Build) -> None:
    smu, _ = build(Keithley2450, *configuring(limit="1.050000E-04")[:4])
    with pytest.raises(InstrumentError, match=r"0\.000105.*ILIM"):
        smu.configure_source(plan())


def test_levels_are_one_message_and_an_output_that_went_off_is_an_error(build: Build) -> None:
    message = ":SOUR:VOLT 2.5;:SOUR:VOLT?;:OUTP?;:SYST:ERR?"
    smu, _ = build(Keithley2450, (message, f"2.5E+00;1;{FINE}"), (message, f"2.5E+00;0;{FINE}"))
    write = smu.level_writer([""])
    write([2.5])
    with pytest.raises(InstrumentError, match=r"output off, although it was on"):
        write([2.5])


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


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"compliance": None}, "needs a compliance"),
        ({"compliance": 2.0}, "outside 1e-09 … 1.05 A"),
        ({"maximum": 300.0}, "range 300 is above the largest, 200"),
        ({"settings": {"colour": 1}}, "no setting 'colour'"),
        ({"settings": {"off_mode": "open"}}, "off_mode must be zero or high_impedance"),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_is_sent(build: Build, changes: dict[str, object], sentence: str) -> None:
    smu, _ = build(Keithley2450)
    with pytest.raises(ConfigError, match=sentence):
        smu.configure_source(plan(**changes))


def test_safe_commands_say_how_to_tell_that_it_worked() -> None:
    off = Keithley2450.safe_commands("", SafeAction.LEVEL, 0.0, {})
    assert off is not None
    assert off.leave == (":OUTP:VOLT:SMOD NORM", ":OUTP OFF", ":SOUR:VOLT 0")
    floating = Keithley2450.safe_commands("", SafeAction.HIGH_IMPEDANCE, 0.0, {})
    assert floating is not None
    assert floating.leave[0] == ":OUTP:VOLT:SMOD HIMP"
    held = Keithley2450.safe_commands("", SafeAction.LEVEL, 0.5, {})
    assert held is not None
    assert held.leave == (":SOUR:VOLT 0.5",)


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


def test_a_list_is_run_by_the_unit_and_ends_where_it_should(bench: VirtualBench, smu: Keithley2450) -> None:
    smu.configure_source(plan(settings={"nplc": 0.1}))
    smu.enable(0.0)
    levels = np.concatenate([np.linspace(0.0, 3.0, 130), np.linspace(3.0, -1.0, 40)])[:, None]
    run, seconds = smu.list_acquisition([""], [("", "curr"), ("", "volt")], 0.01)
    before = bench.clock.now()
    acquired = run(levels, 2, False)
    assert bench.clock.now() - before == pytest.approx(len(levels) * seconds(2), rel=0.01)
    assert acquired.values.shape == (340, 2)
    np.testing.assert_allclose(acquired.values[::2, 1], levels[:, 0], atol=4e-3)
    np.testing.assert_allclose(acquired.values[1::2, 0], levels[:, 0] * 1e-6, atol=5e-9)
    state = smu.source_state()
    assert state.on
    assert state.level == -1.0
    assert bench.side_door.voltages()["1"] == pytest.approx(-1.0, abs=4e-3)
    run(levels, 1, True)
    assert smu.source_state().level == 0.0


def test_off_states_hold_zero_or_let_go(bench: VirtualBench, smu: Keithley2450) -> None:
    smu.configure_source(plan())
    smu.enable(1.0)
    smu.disable(SafeAction.LEVEL)
    assert bench.side_door.sources()["it"][""]["source"] == "VoltageSource"
    smu.enable(1.0)
    smu.disable(SafeAction.HIGH_IMPEDANCE)
    assert bench.side_door.sources()["it"][""]["source"] == "Open"
