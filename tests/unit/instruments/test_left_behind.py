"""Meters that somebody has used before, by hand or with another program: what is left in them neither stops nor falsifies."""

from typing import Any

import pytest

from hil.core.errors import ConfigError, InstrumentError
from instruments.keithley_2400 import Keithley2400
from instruments.keithley_2450 import Keithley2450
from instruments.keithley_6517b import Keithley6517B
from instruments.keithley_daq6510 import KeithleyDAQ6510
from instruments.keysight_34970a import Keysight34970A, KeysightDAQ970A
from instruments.keysight_b2900 import KeysightB2912A
from simulated_backend.virtual_bench.process import VirtualBench
from tests.smu_rig import plan, resistors


@pytest.mark.parametrize(
    "left",
    [
        ":TRIG:SOUR BUS",
        ":ARM:SOUR TLIN",
        ":ARM:LAY2:COUN INF",
        ":SENS:VOLT:AVER ON;:SENS:VOLT:AVER:COUN 100",
        ":ARM:LAY2:DEL 30;:TRIG:DEL 30",
        ":ARM:COUN 3;:ARM:LAY2:COUN 2",
        ":SENS:VOLT:REF 1;:SENS:VOLT:REF:STAT ON",
    ],
)
def test_an_electrometer_reads_whatever_was_left_in_it(left: str) -> None:
    with VirtualBench.start(resistors("Keithley6517B", {"1": ""}, transport="socket")) as bench:
        meter = Keithley6517B("meter", bench.addresses["it"])
        try:
            meter.write(left)
            meter.configure_meter("volt", {"range": 2.0, "nplc": 1.0})
            before = bench.clock.now()
            acquired = meter.acquisition([("", "volt")])(3)
            assert acquired.values.ravel().tolist() == pytest.approx([0.0] * 3, abs=1e-3)
            assert bench.clock.now() - before == pytest.approx(3 / 50.0)  # s of the bench
            assert meter.errors() == []
        finally:
            meter.close()


RIGS = {
    "KeithleyDAQ6510": (
        ":FORM REAL;:SENS:VOLT:REL 1, (@101);:SENS:VOLT:REL:STAT ON, (@101);:SENS:VOLT:AVER ON, (@101)",
        KeithleyDAQ6510,
    ),
    "Keysight34970A": (":CALC:SCAL:GAIN 2,(@101);:CALC:SCAL:OFFS 1,(@101);:CALC:SCAL:STAT ON,(@101)", Keysight34970A),
    "KeysightDAQ970A": (":CALC:SCAL:GAIN 2,(@101);:CALC:SCAL:OFFS 1,(@101);:CALC:SCAL:STAT ON,(@101)", KeysightDAQ970A),
}


@pytest.mark.parametrize("model", RIGS)
def test_a_scanner_reads_what_is_there_whatever_was_left_in_it(model: str) -> None:
    left, driver = RIGS[model]
    with VirtualBench.start(resistors(model, {"1": "ch101"}, transport="socket")) as bench:
        meter = driver("meter", bench.addresses["it"])
        try:
            meter.write(left)
            meter.port("ch101").configure_meter("volt", {"range": 1.0, "nplc": 1.0})
            before = bench.clock.now()
            assert meter.acquisition([("ch101", "volt")])(1).values[0, 0] == pytest.approx(0.0, abs=1e-3)
            assert bench.clock.now() - before < 0.1  # s of the bench: no filter
        finally:
            meter.close()


@pytest.mark.parametrize("driver", [Keysight34970A, KeysightDAQ970A])
def test_a_channel_delay_and_autozero_that_were_left_go(driver: type[Any]) -> None:
    with VirtualBench.start(resistors(driver.__name__, {"1": "ch101"}, transport="socket")) as bench:
        logger = driver("logger", bench.addresses["it"])
        try:
            logger.write(f":ROUT:CHAN:DEL 5,(@101);{driver.auto_zero} OFF,(@101)")
            logger.port("ch101").configure_meter("volt", {"nplc": 1.0})
            before = bench.clock.now()
            logger.acquisition([("ch101", "volt")])(1)
            assert bench.clock.now() - before < 0.1  # s of the bench
            assert logger.ask(f"{driver.auto_zero}? (@101)") == "1"
            assert logger.errors() == []
        finally:
            logger.close()


@pytest.mark.parametrize("driver", [Keysight34970A, KeysightDAQ970A])
def test_a_logger_that_keeps_its_registers_still_tells_that_it_was_switched_off(driver: type[Any]) -> None:
    """What is enabled in them is non-volatile unless *PSC 1 says otherwise (programming guide of the DAQ970A, page 149)."""
    with VirtualBench.start(resistors(driver.__name__, {"1": "ch101"}, transport="socket")) as bench:
        logger = driver("logger", bench.addresses["it"])
        try:
            logger.write("*PSC 0")
            logger.port("ch101").configure_meter("volt", {})
            bench.side_door.inject("it", "restart")
            with pytest.raises(InstrumentError, match="was switched off and on"):
                logger.acquisition([("ch101", "volt")])(1)
        finally:
            logger.close()


def test_a_source_measure_unit_reads_the_current_that_flows() -> None:
    """An offset that was left on is taken off every reading."""
    with VirtualBench.start(resistors("Keithley2450", {"1": ""})) as bench:
        smu = Keithley2450("smu", bench.addresses["it"])
        try:
            smu.write(":FORM REAL;:SENS:CURR:REL 1e-6;:SENS:CURR:REL:STAT ON;:SENS:CURR:AVER ON")
            smu.configure_source(plan(settings={"nplc": 0.1}))
            smu.enable(2.0)
            before = bench.clock.now()
            assert smu.curr() == pytest.approx(2e-6, abs=2e-8)
            assert bench.clock.now() - before < 0.01  # s of the bench: no filter
        finally:
            smu.close()


UNITS = {
    "Keithley2400": (
        Keithley2400,
        "",
        ":SYST:RSEN ON;:SENS:CURR:NPLC 10;:SENS:CURR:PROT 1e-3;:SENS:CURR:RANG 1e-6;:SYST:AZER OFF",
    ),
    "Keithley2450": (
        Keithley2450,
        "",
        ":SENS:CURR:RSEN ON;:SENS:CURR:NPLC 10;:SOUR:VOLT:ILIM 1e-4;:SENS:CURR:RANG 1e-6;:SENS:CURR:AZER OFF",
    ),
    "KeysightB2912A": (KeysightB2912A, "ch2", ":SENS2:REM ON;:SENS2:CURR:NPLC 10;:SENS2:CURR:RANG 1e-6"),
}


@pytest.mark.parametrize("as_output", [False, True], ids=["control", "control and output"])
@pytest.mark.parametrize("model", UNITS)
def test_sense_leads_times_and_ranges_that_were_left_go(model: str, as_output: bool) -> None:
    """Its pages say: two-wire, 1 PLC, autorange and autozero unless the file says otherwise."""
    driver, port, left = UNITS[model]
    with VirtualBench.start(resistors(model, {"1": port})) as bench:
        smu = driver("smu", bench.addresses["it"])
        try:
            terminal = smu.port(port)
            words = terminal.words
            smu.write(left)
            assert smu.errors() == []
            if as_output:
                terminal.configure_meter("curr", {})
            terminal.configure_source(plan())
            asked = [words.four_wire, words.nplc, f"{words.current_range}:AUTO", *filter(None, [words.auto_zero])]
            found = [float(part) for part in smu.ask(";".join(f"{header}?" for header in asked)).split(";")]
            assert found == [0.0, 1.0, 1.0, 1.0][: len(asked)]
            terminal.enable(2.0)
            before = bench.clock.now()
            acquired = smu.acquisition([(port, "curr")])(1)
            assert acquired.values[0, 0] == pytest.approx(2e-6, rel=0.02)
            assert not acquired.overload.any()
            assert bench.clock.now() - before < 0.1  # s of the bench
        finally:
            smu.close()


@pytest.mark.parametrize("model", UNITS)
def test_what_an_output_asked_for_outlives_its_control_and_both_have_to_agree(model: str) -> None:
    driver, port, _ = UNITS[model]
    with VirtualBench.start(resistors(model, {"1": port})) as bench:
        smu = driver("smu", bench.addresses["it"])
        try:
            terminal = smu.port(port)
            terminal.configure_meter("curr", {"range": 1e-5, "nplc": 0.1, "four_wire": True})
            terminal.configure_source(plan(settings={"current_range": 1e-5}))
            terminal.configure_meter("volt", {})
            assert (terminal.nplc_used, terminal.nplc()) == (0.1, 0.1)
            asked = [terminal.words.four_wire, terminal.words.current_range]
            assert [float(part) for part in smu.ask(";".join(f"{one}?" for one in asked)).split(";")] == [1.0, 1e-5]
            with pytest.raises(ConfigError, match=r"its control wants current_range 0\.0001, its output curr 1e-05"):
                terminal.configure_source(plan(settings={"current_range": 1e-4}))
        finally:
            smu.close()
