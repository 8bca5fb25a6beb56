"""Keysight B2901A and B2912A: exact words of the driver, and the driver on the emulated unit at a plant of resistors."""

from collections.abc import Iterator

import numpy as np
import pytest

from hil.core.errors import CapabilityError, ConfigError, InstrumentError
from hil.core.types import SafeAction
from instruments.keysight_b2900 import KeysightB2901A, KeysightB2912A
from simulated_backend.virtual_bench.process import VirtualBench
from tests.smu_rig import plan, resistors
from tests.unit.instruments.conftest import Build

FINE = '+0,"No error"'


def test_every_header_of_channel_2_carries_its_number(build: Build) -> None:
    smu, _ = build(
        KeysightB2912A,
        (":ABOR;:OUTP2 OFF;:SOUR2:FUNC:MODE VOLT;:SOUR2:VOLT 0;*ESE 60;:SYST:ERR?", FINE),
        (":SENS2:CURR:RANG:AUTO ON;:SENS2:CURR:PROT 1e-05;:SYST:ERR?", FINE),
        (":SOUR2:VOLT:RANG 20;:SOUR2:VOLT:RANG?;:SYST:ERR?", f"+2.000000E+01;{FINE}"),
        (":SENS2:CURR:PROT 1e-05;:SENS2:CURR:PROT?;:SYST:ERR?", f"+1.000000E-05;{FINE}"),
        (":OUTP2:OFF:MODE HIZ;:OUTP2:OFF:MODE?;:SYST:ERR?", f"HIZ;{FINE}"),
        (":OUTP2:ON:AUTO OFF;:OUTP2:ON:AUTO?;:SYST:ERR?", f"0;{FINE}"),
        (':FORM ASC;:FORM:ELEM:SENS VOLT,CURR,STAT;:SENS2:FUNC "VOLT","CURR";:SYST:ERR?', FINE),
        (
            ":ARM2:SOUR AINT;:ARM2:COUN 1;:ARM2:DEL 0;:TRIG2:SOUR AINT;:TRIG2:DEL 0;:SOUR2:VOLT:MODE FIX;:SYST:ERR?",
            FINE,
        ),
        (":SENS2:CURR:NPLC 1;:SENS2:CURR:NPLC?;:SYST:ERR?", f"+1.000000E+00;{FINE}"),
        (":SENS2:REM OFF;:SENS2:REM?;:SYST:ERR?", f"0;{FINE}"),
        (":SENS2:CURR:RANG:AUTO ON;:SENS2:CURR:RANG:AUTO?;:SYST:ERR?", f"1;{FINE}"),
        (":SENS2:CURR:RANG:AUTO:LLIM MIN;:SYST:ERR?", FINE),
    )
    smu.ch2.configure_source(plan(settings={"off_mode": "high_impedance"}))
    assert smu.settings()["ch2.compliance_A"] == 1e-5


def test_levels_of_both_channels_are_one_message(build: Build) -> None:
    message = ":SOUR1:VOLT 1;:SOUR2:VOLT -2;:SOUR1:VOLT?;:SOUR2:VOLT?;:OUTP1?;:OUTP2?;:SYST:ERR?"
    smu, _ = build(KeysightB2912A, (message, f"+1.0E+00;-2.0E+00;1;1;{FINE}"), (message, f"+1.0E+00;-2.1E+00;1;1;{FINE}"))
    write = smu.level_writer(["ch1", "ch2"])
    write([1.0, -2.0])
    with pytest.raises(InstrumentError, match=r"ch2 is at -2\.1 V"):
        write([1.0, -2.0])


def test_readings_are_put_back_into_the_order_asked_for(build: Build) -> None:
    first = ":TRIG2:ACQ:COUN 2;:TRIG1:ACQ:COUN 2;:INIT:ACQ (@1,2);*WAI;:FETC:ARR? (@1,2)"
    rows = "+1.0E+00,+1.0E-06,+0,+2.0E+00,+2.0E-06,+2,+1.1E+00,+9.91E+37,+8192,+2.1E+00,+2.1E-06,+0"
    smu, _ = build(KeysightB2912A, (first, rows))
    read = smu.acquisition([("ch2", "volt"), ("ch1", "curr")])
    acquired = read(2)
    assert acquired.values[:, 0].tolist() == [2.0, 2.1]
    assert acquired.values[0, 1] == 1e-6
    assert np.isnan(acquired.values[1, 1])
    assert acquired.overload.tolist() == [[True, False], [False, True]]


def test_a_single_channel_is_set_and_read_by_the_same_words(build: Build) -> None:
    level = ":SOUR1:VOLT 0.5;:SOUR1:VOLT?;:OUTP1?;:SYST:ERR?"
    reading = ":TRIG1:ACQ:COUN 1;:INIT:ACQ (@1);*WAI;:FETC:ARR? (@1)"
    smu, _ = build(KeysightB2901A, (level, f"+5.0E-01;1;{FINE}"), (reading, "+5.001E-01,+2.5E-07,+0"))
    smu.level_writer(["ch1"])([0.5])
    assert smu.acquisition([("ch1", "curr"), ("ch1", "volt")])(1).values.tolist() == [[2.5e-7, 0.5001]]


def test_a_pulse_ends_at_0_volts_whatever_becomes_of_the_computer(build: Build) -> None:
    """The level that it goes back to is 0 before anything runs, and nothing holds the last one of the list."""
    fine = '+0,"No error"'
    smu, _ = build(
        KeysightB2901A,
        (":SOUR1:VOLT 0;:SYST:ERR?", fine),
        (":SOUR1:LIST:VOLT 0.5,0,0;:SYST:ERR?", fine),
        (":SOUR1:LIST:VOLT:POIN?;:SYST:ERR?", f"3;{fine}"),
        (
            ":TRIG1:SOUR TIM;:TRIG1:TIM 0.05;:TRIG1:COUN 3;:TRIG1:ACQ:DEL 0.0299;"
            ":SOUR1:FUNC:TRIG:CONT OFF;:SOUR1:VOLT:MODE LIST;:SYST:ERR?",
            fine,
        ),
        (":INIT (@1);*WAI;:FETC:ARR? (@1)", "+5E-1,+5E-7,+0,+0E+0,+1E-9,+0,+0E+0,+9.91E+37,+0"),
        (":SOUR1:VOLT 0;:SOUR1:VOLT:MODE FIX;:TRIG1:ACQ:DEL 0;:TRIG1:SOUR AINT;:SYST:ERR?", fine),
    )
    smu.note(**{"ch1.curr_range": 1e-5})
    play, lead = smu.waveform_player(["ch1"], [("ch1", "curr")])
    assert lead == pytest.approx(20.1e-3)
    played = play(np.array([[0.5], [0.0]]), np.array([0.0, 0.05]), np.array([0.05, 0.1]), 0.1)
    assert played.values.tolist() == [[5e-7], [1e-9]]
    assert not played.overload.any()


def test_a_channel_it_does_not_have_is_refused(build: Build) -> None:
    smu, _ = build(KeysightB2901A)
    with pytest.raises(ConfigError, match="has no port 'ch2'"):
        smu.port("ch2")
    with pytest.raises(ConfigError, match=r"write unit\.ch1\.volt"):
        smu.level_writer([""])


# On the emulated unit -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    with VirtualBench.start(resistors("KeysightB2912A", {"1": "ch1", "2": "ch2"})) as running:
        yield running


@pytest.fixture
def smu(bench: VirtualBench) -> Iterator[KeysightB2912A]:
    unit = KeysightB2912A("smu", bench.addresses["it"])
    for port in ("ch1", "ch2"):
        unit.port(port).configure_source(plan(settings={"nplc": 0.1}))
    yield unit
    for port in ("ch1", "ch2"):
        unit.port(port).disable(SafeAction.HIGH_IMPEDANCE)
    unit.close()


def test_who_it_is_is_all_that_it_says(smu: KeysightB2912A) -> None:
    said = smu.get_idn()
    assert (said["vendor"], said["model"]) == ("Keysight Technologies", "B2912A")
    assert said["serial"]
    assert said["firmware"]


def test_both_channels_source_and_are_read_over_the_same_time(bench: VirtualBench, smu: KeysightB2912A) -> None:
    for port in ("ch1", "ch2"):
        smu.port(port).enable(0.0)
    smu.level_writer(["ch1", "ch2"])([1.0, -2.0])
    read = smu.acquisition([("ch2", "volt"), ("ch1", "volt"), ("ch2", "curr"), ("ch1", "curr")])
    before = bench.clock.now()
    values = read(4).values
    assert bench.clock.now() - before == pytest.approx(4 * 0.1 / 50.0)
    np.testing.assert_allclose(values.mean(axis=0)[:2], [-2.0, 1.0], atol=12e-3)
    np.testing.assert_allclose(values.mean(axis=0)[2:], [-2e-6, 1e-6], rtol=0.015)
    smu.ch2.compliance(1e-6)
    assert [condition.in_limits for condition in smu.condition_reader(["ch1", "ch2"])()] == [True, False]
    assert read(1).overload.tolist() == [[True, False, True, False]]


def test_a_waveform_needs_a_fixed_current_range(smu: KeysightB2912A) -> None:
    """Of every channel that takes part, for each of them measures amperes, whatever is wanted of it."""
    sentence = r"smu\.{}: autorange takes time that a waveform does not have; fix the current"
    smu.ch2.configure_meter("curr", {"range": 1e-5})
    for wanted in ("volt", "curr"):
        with pytest.raises(CapabilityError, match=sentence.format("ch1")):
            smu.waveform_player(["ch1"], [("ch2", wanted)])
    smu.ch1.configure_meter("curr", {"range": 1e-5})
    smu.waveform_player(["ch1"], [("ch2", "volt")])
    smu.ch2.configure_meter("curr", {})
    with pytest.raises(CapabilityError, match=sentence.format("ch2")):
        smu.waveform_player(["ch1"], [("ch2", "volt")])


def test_a_list_that_could_not_be_armed_leaves_the_levels_fixed(bench: VirtualBench, smu: KeysightB2912A) -> None:
    for port in ("ch1", "ch2"):
        smu.port(port).enable(0.5)
    run, _ = smu.list_acquisition(["ch1"], [("ch2", "volt")], 2e5)  # s: a delay takes 1e5 s at the most
    with pytest.raises(InstrumentError, match="arming a list"):
        run(np.array([[1.0], [2.0]]), 1, True)
    assert smu.ask(":SOUR1:VOLT:MODE?") == "FIX"
    assert smu.ch1.volt() == pytest.approx(0.5, abs=12e-3)
    assert bench.side_door.voltages()["1"] == pytest.approx(0.5, abs=12e-3)
    assert smu.errors() == []


def test_an_integration_time_that_was_left_does_not_make_a_waveform_late(bench: VirtualBench, smu: KeysightB2912A) -> None:
    smu.write(":SENS1:CURR:NPLC 10;:SENS1:REM ON")
    smu.ch1.configure_source(plan(settings={"current_range": 1e-5}))
    smu.ch1.enable(0.0)
    assert smu.ask(":SENS1:CURR:NPLC?;:SENS1:REM?") == "+1.000000E+00;0"
    play, _ = smu.waveform_player(["ch1"], [("ch1", "curr")])
    before = bench.clock.now()
    values = play(np.array([[1.0], [0.0]]), np.array([0.0, 0.05]), np.array([0.05, 0.1]), 0.1).values[:, 0]
    assert bench.clock.now() - before < 0.2  # s of the bench
    np.testing.assert_allclose(values, [1e-6, 0.0], atol=2e-8)


def test_a_reading_switches_no_output_on(bench: VirtualBench, smu: KeysightB2912A) -> None:
    """As delivered the unit does that by itself with every reading that is triggered, and says so in no reply."""
    smu.ch2.disable(SafeAction.LEVEL)
    smu.ch2.curr()
    assert bench.side_door.sources()["it"]["ch2"]["source"] == "VoltageSource"  # held at 0 V by the off state
    assert smu.ask(":OUTP2?") == "0"
    smu.write(":OUTP2:ON:AUTO ON;:INIT:ACQ (@2)")
    assert smu.ask(":OUTP2?") == "1"


def test_a_unit_that_insists_on_switching_on_is_refused(build: Build) -> None:
    smu, _ = build(KeysightB2901A, (":OUTP1:ON:AUTO OFF;:OUTP1:ON:AUTO?;:SYST:ERR?", f"1;{FINE}"))
    with pytest.raises(InstrumentError, match=r"would switch the output of unit\.ch1 on with every reading"):
        smu.ch1.curr()


def test_autorange_reaches_the_smallest_range(smu: KeysightB2912A) -> None:
    """After a reset it stops at 1 uA, which shows 1 pA at the best."""
    smu.port("ch1").enable(1e-3)
    smu.acquisition([("ch1", "curr")])(1)
    assert float(smu.ask(":SENS1:CURR:RANG?")) == 1e-8


def test_a_list_of_one_channel_leaves_the_other_alone(bench: VirtualBench, smu: KeysightB2912A) -> None:
    for port in ("ch1", "ch2"):
        smu.port(port).enable(0.0)
    smu.level_writer(["ch2"])([1.5])
    levels = np.linspace(0.0, 3.0, 120)[:, None]
    run, seconds = smu.list_acquisition(["ch1"], [("ch2", "volt"), ("ch1", "volt"), ("ch1", "curr")], 0.01)
    before = bench.clock.now()
    acquired = run(levels, 1, False)
    assert bench.clock.now() - before == pytest.approx(120 * seconds(1), rel=0.02)
    np.testing.assert_allclose(acquired.values[:, 0], 1.5, atol=12e-3)
    np.testing.assert_allclose(acquired.values[:, 1], levels[:, 0], atol=12e-3)
    np.testing.assert_allclose(acquired.values[:, 2], levels[:, 0] * 1e-6, atol=2e-8)
    assert smu.ch1.source_state().level == 3.0
    assert bench.side_door.voltages()["1"] == pytest.approx(3.0, abs=12e-3)
    both, _ = smu.list_acquisition(["ch1", "ch2"], [("ch1", "volt"), ("ch2", "volt")], 0.0)
    pairs = np.column_stack([np.linspace(0.0, 1.0, 7), np.linspace(2.0, -1.0, 7)])
    np.testing.assert_allclose(both(pairs, 2, True).values[::2], pairs, atol=12e-3)
    assert abs(bench.side_door.voltages()["2"]) < 12e-3


def test_off_states_hold_zero_or_let_go(bench: VirtualBench, smu: KeysightB2912A) -> None:
    smu.ch2.enable(1.0)
    smu.ch2.disable(SafeAction.LEVEL)
    assert bench.side_door.sources()["it"]["ch2"]["source"] == "VoltageSource"
    smu.ch2.disable(SafeAction.HIGH_IMPEDANCE)
    assert bench.side_door.sources()["it"]["ch2"]["source"] == "Open"


def test_qcodes_driver_of_its_sister_drives_it(bench: VirtualBench) -> None:
    """QCoDeS has none for the B2900; that for the B2962A power source speaks the same commands."""
    from qcodes.instrument_drivers.Keysight import Keysight_B2962A as stock

    unit = stock.KeysightB2962A("stock_b2900", bench.addresses["it"])
    try:
        channel = unit.ch1
        channel.source_mode("voltage")
        channel.current_limit(1e-4)
        channel.source_voltage(2.0)
        channel.enable(True)
        assert channel.voltage() == pytest.approx(2.0, abs=12e-3)
        assert channel.current() == pytest.approx(2e-6, rel=0.02)
        assert channel.resistance() == pytest.approx(1e6, rel=0.02)
        channel.current_limit(1e-6)
        assert channel.voltage() == pytest.approx(1.0, abs=12e-3)
        channel.enable(False)
        assert unit.ask(":SYST:ERR?") == '+0,"No error"'
    finally:
        unit.close()


def test_a_control_that_is_set_up_after_a_waveform_was_judged_is_judged_when_it_runs(bench: VirtualBench) -> None:
    unit = KeysightB2912A("late", bench.addresses["it"])
    try:
        unit.ch1.configure_meter("volt", {})
        play, _ = unit.waveform_player(["ch1"], [("ch1", "volt")])
        given = np.array([[1.0], [0.0]]), np.array([0.0, 0.05]), np.array([0.05, 0.1]), 0.1
        unit.ch1.configure_source(plan())
        with pytest.raises(CapabilityError, match=r"late\.ch1: autorange takes time"):
            play(*given)
        unit.ch1.configure_source(plan(settings={"current_range": 1e-5, "nplc": 5.0}))
        with pytest.raises(CapabilityError, match=r"multiples of 0\.1001 s or more, not of 0\.05 s"):
            play(*given)
        unit.ch1.configure_source(plan(settings={"current_range": 1e-5}))
        unit.ch1.enable(0.0)
        np.testing.assert_allclose(play(*given).values[:, 0], [1.0, 0.0], atol=12e-3)
    finally:
        unit.ch1.disable(SafeAction.HIGH_IMPEDANCE)
        unit.close()
