"""Keithley 2400: exact words of the driver, and the driver on the emulated unit at a plant of resistors."""

from collections.abc import Iterator

import numpy as np
import pytest

from hil.core.errors import ConfigError, InstrumentError
from hil.core.types import SafeAction
from instruments.keithley_2400 import Keithley2400
from simulated_backend.virtual_bench.process import VirtualBench
from tests.smu_rig import plan, resistors
from tests.unit.instruments.conftest import Build

FINE = '0,"No error"'


def configuring(kept: str = "1.000000E-07") -> list[tuple[str, str]]:
    return [
        (":ABOR;:OUTP OFF;:SOUR:FUNC VOLT;:SOUR:VOLT 0;*ESE 60;:SYST:ERR?", FINE),
        (":SENS:CURR:RANG:AUTO ON;:SENS:CURR:PROT 1e-07;:SYST:ERR?", FINE),
        (":SOUR:VOLT:RANG 20;:SOUR:VOLT:RANG?;:SYST:ERR?", f"2.000000E+01;{FINE}"),
        (":SOUR:VOLT:PROT 20;:SOUR:VOLT:PROT?;:SYST:ERR?", f"2.000000E+01;{FINE}"),
        (":SENS:CURR:PROT 1e-07;:SENS:CURR:PROT?;:SYST:ERR?", f"{kept};{FINE}"),
        (":OUTP:SMOD NORM;:OUTP:SMOD?;:SYST:ERR?", f"NORM;{FINE}"),
        (':SENS:FUNC:CONC ON;:SENS:FUNC "VOLT","CURR";:SENS:AVER OFF;:SYST:ERR?', FINE),
        (":FORM:ELEM VOLT,CURR,STAT;:SOUR:CLE:AUTO OFF;:SOUR:VOLT:MODE FIX;:SOUR:DEL 0;:SYST:ERR?", FINE),
        (":ARM:SOUR IMM;:ARM:COUN 1;:TRIG:SOUR IMM;:TRIG:DEL 0;:SYST:ERR?", FINE),
        (":SENS:CURR:NPLC 1;:SENS:CURR:NPLC?;:SYST:ERR?", f"1.00;{FINE}"),
        (":SYST:RSEN OFF;:SYST:RSEN?;:SYST:ERR?", f"0;{FINE}"),
        (":SYST:AZER ON;:SYST:AZER?;:SYST:ERR?", f"1;{FINE}"),
    ]


def test_a_tenth_of_a_microampere_arrives_as_what_it_is(build: Build) -> None:
    smu, _ = build(Keithley2400, *configuring(), (":SENS:CURR:RANG:AUTO ON;:SENS:CURR:RANG:AUTO?;:SYST:ERR?", f"1;{FINE}"))
    smu.configure_source(plan(compliance=1e-7))
    assert smu.settings()["compliance_A"] == 1e-7


def test_a_compliance_that_was_dropped_is_an_error(build: Build) -> None:
    smu, _ = build(Keithley2400, *configuring(kept="1.050000E-04")[:5])
    with pytest.raises(InstrumentError, match=r"0\.000105.*PROT"):
        smu.configure_source(plan(compliance=1e-7))


def test_a_fixed_range_below_the_compliance_is_refused(build: Build) -> None:
    smu, _ = build(Keithley2400, *[
        (message.replace("1e-07", "1e-05"), reply.replace("1.000000E-07", "1.000000E-05")) for message, reply in configuring()
    ])  # fmt: skip
    with pytest.raises(ConfigError, match=r"current range 1e-06 A would limit the current below the compliance 1e-05 A"):
        smu.configure_source(plan(compliance=1e-5, settings={"current_range": 1e-6}))


def test_readings_with_both_kinds_of_compliance_and_with_the_output_off(build: Build) -> None:
    tail = f";{FINE}"
    smu, _ = build(
        Keithley2400,
        (":TRIG:COUN 1;:OUTP?;:READ?;:SYST:ERR?", f"1;+1.5E+00,+2.0E-06,+2.150800E+04{tail}"),
        (":OUTP?;:READ?;:SYST:ERR?", f"1;+1.5E+00,+2.0E-06,+{float(21508 | 8):.6E}{tail}"),
        (":OUTP?;:READ?;:SYST:ERR?", f"1;+1.5E+00,+9.9E+37,+{float(21508 | 1 << 16):.6E}{tail}"),
        (":OUTP?;:READ?;:SYST:ERR?", '0;+803,"Not permitted with OUTPUT off"'),
        (":OUTP?;:READ?;:SYST:ERR?", '1;-113,"Undefined header"'),
    )
    read = smu.acquisition([("", "volt"), ("", "curr")])
    assert read(1).values.tolist() == [[1.5, 2e-6]]
    for overload in (read(1), read(1), read(1)):
        assert overload.overload.all()
    with pytest.raises(InstrumentError, match="-113"):
        read(1)


def test_a_reply_without_meaning_is_asked_for_again(build: Build) -> None:
    identity = "KEITHLEY INSTRUMENTS INC.,MODEL 2400,1234567,C33   Mar 31 2015 09:32:39/A02  /K/J"
    smu, _ = build(
        Keithley2400,
        (":TRIG:COUN 1;:OUTP?;:READ?;:SYST:ERR?", "?x;;"),
        ("*IDN?", identity),
        (":SYST:ERR?", FINE),
        (":TRIG:COUN 1;:OUTP?;:READ?;:SYST:ERR?", f"1;+1.5E+00,+2.0E-06,+2.150800E+04;{FINE};"),
    )
    assert smu.acquisition([("", "volt")])(1).values.tolist() == [[1.5]]


def test_many_readings_are_waited_for_as_long_as_a_serial_line_takes(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = ",".join(["+1.500000E+00,+2.000000E-06,+2.150800E+04"] * 1000)
    smu, resource = build(Keithley2400, (":TRIG:COUN 1000;:OUTP?;:READ?;:SYST:ERR?", f"1;{reading};{FINE}"))
    smu.session.address = "ASRL1::INSTR"
    smu.nplc_used = 0.01
    waits, write = [], resource.write

    def writing(message: str) -> None:
        waits.append(resource.timeout)
        write(message)

    monkeypatch.setattr(resource, "write", writing)
    assert smu.acquisition([("", "volt")])(1000).values.shape == (1000, 1)
    assert waits[0] > 1000.0 * len(reading) * 10 / 9600  # ms


# On the emulated unit -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    with VirtualBench.start(resistors("Keithley2400", {"1": ""})) as running:
        yield running


@pytest.fixture
def smu(bench: VirtualBench) -> Iterator[Keithley2400]:
    unit = Keithley2400("smu", bench.addresses["it"])
    yield unit
    unit.disable(SafeAction.HIGH_IMPEDANCE)
    unit.close()


def test_what_the_stock_driver_got_wrong_is_right(bench: VirtualBench, smu: Keithley2400) -> None:
    smu.configure_source(plan(compliance=1e-7, settings={"nplc": 1.0}))
    assert smu.compliance() == 1e-7
    smu.output(True)
    smu.volt(0.05)
    assert smu.volt() == pytest.approx(0.05, abs=4e-3)
    assert smu.curr() == pytest.approx(0.05e-6, abs=5e-9)
    with pytest.raises(ValueError, match="210"):
        smu.volt(1e6)
    smu.volt(1.0)  # 1 uA is ten times the compliance
    assert not smu.condition_reader([""])()[0].in_limits
    assert smu.acquisition([("", "curr")])(1).overload.all()
    assert bench.side_door.voltages()["1"] == pytest.approx(0.1, abs=3e-3)
    smu.output(False)
    assert np.isnan(smu.curr())
    assert smu.errors() == []
    assert smu.interlock() == 1


def test_staircases_and_long_lists_are_run_by_the_unit(bench: VirtualBench, smu: Keithley2400) -> None:
    smu.configure_source(plan(compliance=1e-5, settings={"nplc": 0.1}))
    smu.enable(3.0)
    table = smu.staircase(3.0, -2.0, 11, 0.0)
    np.testing.assert_allclose(table[:, 0], np.linspace(3.0, -2.0, 11), atol=6e-3)
    assert not table[:, 2].any()
    assert smu.source_state().level == -2.0
    run, _ = smu.list_acquisition([""], [("", "curr"), ("", "volt")], 0.01)
    long = run(np.full((1500, 1), 0.5), 2, True)
    assert long.values.shape == (3000, 2)
    assert bench.side_door.voltages()["1"] == pytest.approx(0.0, abs=4e-3)


def test_range_compliance_limits_like_the_real_one(bench: VirtualBench, smu: Keithley2400) -> None:
    smu.configure_source(plan(compliance=1e-5))
    with pytest.raises(ConfigError, match=r"current range 1e-06 A would limit the current below the compliance 1e-05 A"):
        smu.configure_meter("curr", {"range": 1e-6})
    smu.write(":SENS:CURR:RANG 1e-6")  # somebody else did
    smu.enable(3.0)
    reading = smu.acquisition([("", "volt")])(1)
    assert reading.overload.all()
    assert reading.values[0, 0] == pytest.approx(1.05, abs=0.01)
    assert bench.side_door.sources()["it"][""]["limited"]


def test_what_a_front_panel_left_behind_does_not_stop_a_reading(bench: VirtualBench, smu: Keithley2400) -> None:
    smu.write(":ARM:SOUR BUS;:TRIG:SOUR TLIN;:TRIG:DEL 5")
    smu.configure_source(plan())
    smu.enable(1.0)
    before = bench.clock.now()
    assert smu.volt() == pytest.approx(1.0, abs=6e-3)
    assert bench.clock.now() - before < 1.0  # s of the bench


def test_an_outputs_range_can_be_above_the_compliance_that_the_unit_is_switched_on_with(
    bench: VirtualBench, smu: Keithley2400
) -> None:
    """It begins with 105 uA, and refuses a range above that of its compliance (+824)."""
    bench.side_door.inject("it", "restart")
    smu.configure_meter("curr", {"range": 1e-2})
    smu.configure_source(plan(compliance=1e-2))
    assert smu.settings()["curr_range"] == 1e-2
    assert smu.errors() == []


def test_a_list_stays_on_the_source_range_that_was_locked(bench: VirtualBench, smu: Keithley2400) -> None:
    """As delivered the unit takes the smallest range that holds the list (:SOUR:SWE:RANG BEST), and stays there."""
    smu.configure_source(plan(settings={"nplc": 0.1}))
    smu.enable(0.0)
    smu.write(":SOUR:SWE:RANG BEST")
    run, _ = smu.list_acquisition([""], [("", "curr")], 0.0)
    run(np.array([[0.1], [0.2]]), 1, True)
    assert smu.held()["range"] == 20.0


@pytest.mark.parametrize("run", ["list", "staircase"])
def test_a_sweep_that_could_not_be_armed_leaves_the_level_fixed(bench: VirtualBench, smu: Keithley2400, run: str) -> None:
    """A delay beyond 999.9999 s is refused, and the mode behind it obeyed: the next reading would step through the list."""
    smu.configure_source(plan(settings={"nplc": 0.1}))
    smu.enable(0.5)
    smu.volt()
    sweep, _ = smu.list_acquisition([""], [("", "curr")], 2000.0)
    calls = {"list": lambda: sweep(np.array([[1.0], [3.0]]), 1, True), "staircase": lambda: smu.staircase(1.0, 3.0, 3, 2000.0)}
    with pytest.raises(InstrumentError, match="arming a sweep"):
        calls[run]()
    assert smu.ask(":SOUR:VOLT:MODE?").startswith("FIX")
    assert smu.volt() == pytest.approx(0.5, abs=6e-3)
    assert bench.side_door.voltages()["1"] == pytest.approx(0.5, abs=6e-3)
    assert smu.errors() == []


@pytest.mark.parametrize(("sent", "kept"), [("110", 100.0), ("-50", 40.0), ("3", 20.0), ("160", 160.0), ("161", 210.0)])
def test_a_protection_between_its_steps_is_the_lower_one(smu: Keithley2400, sent: str, kept: float) -> None:
    """Manual 2400S-900-01, page 18-81."""
    assert float(smu.ask(f":SOUR:VOLT:PROT {sent};:SOUR:VOLT:PROT?")) == kept
