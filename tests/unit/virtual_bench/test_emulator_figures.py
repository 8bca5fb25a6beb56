"""Figures of emulators against the lines of the data sheets they were compared with, and the printed exchanges of a manual."""

from collections.abc import Iterator

import pytest
import pyvisa
from pyvisa.resources import MessageBasedResource

from simulated_backend.virtual_bench.emulators import (
    keithley_2400_datasheet,
    keithley_2450,
    keithley_6517b_datasheet,
    keithley_daq6510,
    keysight_34970a,
    keysight_b2900_channel,
)
from simulated_backend.virtual_bench.emulators.keithley_2600_datasheet import MODELS
from simulated_backend.virtual_bench.plan import InstrumentPlan
from simulated_backend.virtual_bench.process import VirtualBench
from simulated_backend.virtual_bench.smu import NOISE_CREST
from tests.fluid_bench import fluid_plan

# SPEC-2602B rev. B, page 2: range, programming resolution, % + offset, noise, % + offset of the meter
SPEC_2602B = """
100 nA 2 pA 0.06 100 pA 5 pA 0.05 100 pA
1 uA 20 pA 0.03 800 pA 25 pA 0.025 500 pA
10 uA 200 pA 0.03 5 nA 60 pA 0.025 1.5 nA
100 uA 2 nA 0.03 60 nA 3 nA 0.02 25 nA
1 mA 20 nA 0.03 300 nA 6 nA 0.02 200 nA
10 mA 200 nA 0.03 6 uA 200 nA 0.02 2.5 uA
100 mA 2 uA 0.03 30 uA 600 nA 0.02 20 uA
1 A 20 uA 0.05 1.8 mA 70 uA 0.03 1.5 mA
3 A 20 uA 0.06 4 mA 150 uA 0.05 3.5 mA
"""
# SPEC-2400 rev. H, page 1: range, programming resolution, % + offset, noise (peak to peak)
SPEC_2400 = """
1 uA 50 pA 0.035 600 pA 5 pA
10 uA 500 pA 0.033 2 nA 50 pA
100 uA 5 nA 0.031 20 nA 500 pA
1 mA 50 nA 0.034 200 nA 5 nA
10 mA 500 nA 0.045 2 uA 50 nA
100 mA 5 uA 0.066 20 uA 500 nA
1 A 50 uA 0.27 900 uA 5 uA
"""
# SPEC-2450 rev. A, page 2: range, resolution, % + offset, noise (rms), % + offset of the meter
SPEC_2450 = """
10 nA 500 fA 0.1 100 pA 500 fA 0.1 50 pA
100 nA 5 pA 0.06 150 pA 500 fA 0.06 100 pA
1 uA 50 pA 0.025 400 pA 5 pA 0.025 300 pA
10 uA 500 pA 0.025 1.5 nA 40 pA 0.025 700 pA
100 uA 5 nA 0.02 15 nA 400 pA 0.02 6 nA
1 mA 50 nA 0.02 150 nA 5 nA 0.02 60 nA
10 mA 500 nA 0.02 1.5 uA 40 nA 0.02 600 nA
100 mA 5 uA 0.025 15 uA 100 nA 0.025 6 uA
1 A 50 uA 0.067 900 uA 3 uA 0.03 500 uA
"""
# B2900A data sheet, page 16: range, measurement resolution of all models, % + offset
SHEET_B2900 = """
10 nA 10 fA 0.1 50 pA
100 nA 100 fA 0.06 100 pA
1 uA 1 pA 0.025 500 pA
10 uA 10 pA 0.025 1.5 nA
100 uA 100 pA 0.02 25 nA
1 mA 1 nA 0.02 200 nA
10 mA 10 nA 0.02 2.5 uA
100 mA 100 nA 0.02 20 uA
1 A 1 uA 0.03 1.5 mA
1.5 A 1 uA 0.05 3.5 mA
3 A 10 uA 0.4 7 mA
"""
# DAQ970A data sheet, page 10, DC voltage, one year: range, % of reading + % of range
SHEET_DAQ970A = {
    0.1: (0.0050, 0.0060),
    1.0: (0.0035, 0.0006),
    10.0: (0.0030, 0.0004),
    100.0: (0.0040, 0.0006),
    300.0: (0.0040, 0.0020),
}
# SPEC-DMM6500 rev. A, DC voltage, one year; the DAQ6510 has the same meter. The last column: resolution, V
SPEC_DMM6500 = {
    0.1: (0.0030, 0.0035, 100e-9),
    1.0: (0.0025, 0.0006, 1e-6),
    10.0: (0.0025, 0.0005, 10e-6),
    100.0: (0.0040, 0.0006, 100e-6),
    1000.0: (0.0040, 0.0006, 1e-3),
}
UNITS = {"fA": 1e-15, "pA": 1e-12, "nA": 1e-9, "uA": 1e-6, "mA": 1e-3, "A": 1.0}


def table(text: str) -> list[list[float]]:
    """Every line as numbers: amperes where a unit follows, percentages as fractions."""
    lines = []
    for line in text.strip().splitlines():
        words, numbers = line.split(), []
        for place, word in enumerate(words):
            if word in UNITS:
                continue
            unit = words[place + 1] if place + 1 < len(words) else ""
            numbers.append(float(word) * UNITS.get(unit, 1e-2))
        lines.append(numbers)
    return lines


def test_currents_of_the_2602b() -> None:
    family, _ = MODELS["2602B"]
    ours = [
        [r.full_scale, r.programming, r.source_gain, r.source_offset, r.noise, r.measure_gain, r.measure_offset]
        for r in family.amperes
    ]
    assert ours == [pytest.approx(line) for line in table(SPEC_2602B)]


def test_currents_of_the_2400() -> None:
    ours = [[r.full_scale, r.programming, r.source_gain, r.source_offset, r.noise] for r in keithley_2400_datasheet.DATA.amperes]
    assert ours == [pytest.approx(line) for line in table(SPEC_2400)]


def test_currents_of_the_2450() -> None:
    ours = [
        [
            *(r.full_scale, r.programming, r.source_gain, r.source_offset, r.noise / NOISE_CREST),
            *(r.measure_gain, r.measure_offset),
        ]
        for r in keithley_2450.DATA.amperes
    ]
    assert ours == [pytest.approx(line) for line in table(SPEC_2450)]


@pytest.mark.parametrize(("fine", "lines"), [(True, slice(0, None)), (False, slice(1, None))])
def test_currents_that_the_b2900_measures(fine: bool, lines: slice) -> None:
    ours = [[r.full_scale, r.display, r.measure_gain, r.measure_offset] for r in keysight_b2900_channel.data(fine).amperes]
    assert ours == [pytest.approx(line) for line in table(SHEET_B2900)[lines]]


def test_volts_of_the_daq970a() -> None:
    ours = dict(zip(keysight_34970a.FULL_SCALES, keysight_34970a.ACCURACY["DAQ970A"], strict=True))
    assert {full: (100 * reading, 100 * offset) for full, (reading, offset) in ours.items()} == {
        full: pytest.approx(line) for full, line in SHEET_DAQ970A.items()
    }


def test_volts_of_the_daq6510() -> None:
    ours = {r.full_scale: (100 * r.of_reading, 100 * r.offset / r.full_scale, r.resolution) for r in keithley_daq6510.RANGES}
    assert ours == {full: pytest.approx(line) for full, line in SPEC_DMM6500.items()}


def test_the_6517b_burdens_a_node_by_its_range() -> None:
    """SPEC-6517BC: below 20 uV on 20 pA, 2 nA, 20 nA, 2 uA and 20 uA, 100 uV on the three in between, 2 mV and 5 mV."""
    limits = dict(
        zip((r.full_scale for r in keithley_6517b_datasheet.AMPERE_RANGES), keithley_6517b_datasheet.BURDENS, strict=True)
    )
    assert {limits[full] for full in (20e-12, 2e-9, 20e-9, 2e-6, 20e-6)} == {20e-6}
    assert {limits[full] for full in (200e-12, 200e-9, 200e-6)} == {100e-6}
    assert (limits[2e-3], limits[20e-3]) == (2e-3, 5e-3)
    with VirtualBench.start(fluid_plan(InstrumentPlan("meter", "Keithley6517B", {"transport": "socket"}))) as bench:
        manager = pyvisa.ResourceManager("@py")
        meter = manager.open_resource(bench.addresses["meter"], read_termination="\n", write_termination="\n", timeout=60_000)
        assert isinstance(meter, MessageBasedResource)
        meter.query("*RST;:SENS:FUNC 'CURR';:SYST:ZCH OFF;:SENS:CURR:RANG 2e-9;:SYST:ERR?")
        low = bench.side_door.sources()["meter"][""]["level"]
        meter.query(":SENS:CURR:RANG 2e-7;:SYST:ERR?")
        high = bench.side_door.sources()["meter"][""]["level"]
        manager.close()
    assert 0.0 < abs(low) <= 20e-6
    assert high == pytest.approx(5.0 * low)


@pytest.fixture(scope="module")
def pace() -> Iterator[MessageBasedResource]:
    with VirtualBench.start(fluid_plan(InstrumentPlan("pace", "DruckPACE6000"), ideal=True)) as bench:
        manager = pyvisa.ResourceManager("@py")
        resource = manager.open_resource(bench.addresses["pace"], read_termination="\n", write_termination="\n", timeout=60_000)
        assert isinstance(resource, MessageBasedResource)
        yield resource
        manager.close()


# SCPI manual K0472 revision A, page of the exchange: what is sent, what comes back (an empty answer: a command).
K0472 = [
    ("4-56", ":SENS:PRES:BAR?", ":SENS:PRES:BAR 1013.2500000"),
    ("4-57", ':SENS2:PRES:RANG "3.00bara"', ""),
    ("4-57", ":SENS2:PRES:RANG?", ':SENS2:PRES:RANG "3.00bara"'),
    ("4-58", ":SENS:PRES:RES?", ":SENS:PRES:RES 6"),
    ("4-58", ":SENS:PRES:RES 4", ""),
    ("4-58", ":SENS:PRES:RES?", ":SENS:PRES:RES 4"),
    ("4-58", ":SENS2:PRES:RES 8", ""),
    ("4-58", ":SYST:ERR?", ':SYST:ERR -222,"Data out of range; Parameter 1"'),
    ("4-32", ":OUTP:STAT?", ":OUTP:STAT 0"),
    ("4-32", ":OUTP:STAT ON", ""),
    ("4-32", ":OUTP:STAT?", ":OUTP:STAT 1"),
    ("4-32", ":OUTP:STAT OFF", ""),
]


def test_a_pace_answers_as_its_manual_prints(pace: MessageBasedResource) -> None:
    for page, sent, told in K0472:
        if told:
            assert pace.query(sent) == told, f"page {page}"
        else:
            pace.write(sent)
