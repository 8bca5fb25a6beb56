"""The 2600B emulator against a plant of independent resistors: source, limit, readings, buffers, status."""

import struct

import pytest

from simulated_backend.virtual_bench.emulators.keithley_2600 import Keithley2600
from simulated_backend.virtual_bench.emulators.keithley_2600_datasheet import MODELS
from simulated_backend.virtual_bench.ports import CurrentSource, Open, VoltageSource
from tests.unit.virtual_bench.keithley_2600_rig import ON, Bench, drives


def test_identity_and_models() -> None:
    bench = Bench("Keithley2636B")
    assert bench.raw("*IDN?").startswith(b"Keithley Instruments Inc., Model 2636B, ")
    assert bench.ask("localnode.model, localnode.linefreq, smub ~= nil") == ["2636B", "5.00000e+01", "true"]
    assert Bench("Keithley2601B").ask("smub") == ["nil"]
    assert set(Keithley2600.models) == {f"Keithley{model}" for model in MODELS}
    assert Bench(identity="ACME,1,2,3").raw("*IDN?") == b"ACME,1,2,3\n"


def test_power_on_clamps_to_zero_and_output_states_reach_the_terminal() -> None:
    bench = Bench()
    assert drives(bench) == VoltageSource(0.0, 1e-3)
    bench.write(ON)
    assert drives(bench) == VoltageSource(2.0, 1e-2)
    bench.write("smua.source.output = 0")
    assert drives(bench) == VoltageSource(0.0, 1e-3)
    bench.write("smua.source.offlimiti = 1e-6")
    assert drives(bench) == VoltageSource(0.0, 1e-6)
    bench.write("smua.source.offmode = smua.OUTPUT_ZERO")
    assert drives(bench) == VoltageSource(0.0, 1e-2)
    bench.write("smua.source.offmode = smua.OUTPUT_HIGH_Z")
    assert drives(bench) == Open()
    assert bench.numbers("smua.measure.v()") == [0.0]
    bench.write("smua.source.offmode = 0 smua.source.offfunc = smua.OUTPUT_DCAMPS")
    assert drives(bench) == CurrentSource(0.0, 40.0)
    assert bench.errors() == []


def test_readings_of_an_ideal_plant_are_exact_to_the_display_resolution() -> None:
    bench = Bench()
    bench.write(ON, "format.asciiprecision = 12")
    amperes, volts = bench.numbers("smua.measure.iv()")
    assert (amperes, volts) == (2e-3, 2.0)
    assert bench.numbers("smua.measure.r()") == [1000.0]
    assert bench.numbers("smua.measure.p()") == pytest.approx([4e-3])
    assert bench.plant.clock.now() == pytest.approx(3 / 50.0)


def test_levels_are_rounded_to_the_converter_even_on_an_ideal_plant() -> None:
    bench = Bench()
    bench.write("smua.source.output = 1 smua.source.rangev = 6 smua.source.levelv = 1.000020")
    assert isinstance(bench.a.source, VoltageSource)
    assert bench.a.source.level == pytest.approx(1.0, abs=1e-12)  # 50 µV steps
    bench.write("smua.source.levelv = 1.000030")
    assert bench.a.source.level == pytest.approx(1.00005, abs=1e-12)


def test_compliance_shows_in_reading_status_and_registers() -> None:
    bench = Bench()
    bench.write(ON, "smua.measure.i(smua.nvbuffer1)", "smua.source.limiti = 1e-4")
    assert bench.ask("smua.source.compliance") == ["true"]
    bench.write("smua.nvbuffer1.appendmode = 1 smua.measure.i(smua.nvbuffer1)")
    first, second = bench.table("printbuffer(1, 2, smua.nvbuffer1.statuses)")
    assert not int(first) & 0x40
    assert int(second) & 0x40
    assert bench.numbers("smua.measure.v(), status.measurement.instrument.smua.condition") == [pytest.approx(0.1), 2 + 256]
    assert int(bench.numbers("status.measurement.current_limit.condition")[0]) == 2
    bench.write("smua.source.func = smua.OUTPUT_DCAMPS smua.source.limitv = 1 smua.source.leveli = 5e-3")
    assert bench.ask("smua.source.compliance") == ["true"]
    assert int(bench.numbers("status.measurement.instrument.smua.condition")[0]) & 3 == 1


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("smua.source.levelv = 41", 1101),
        ("smua.source.levelv = -41", 1102),
        ("smua.source.limiti = 1e-9", 1102),
        ("smua.source.limiti = 4", 1101),
        ("smua.measure.nplc = 30", 1101),
        ("smua.source.rangev = 1 smua.source.levelv = 5", 5005),
        ("smua.source.rangev = 40 smua.source.limiti = 3", 5007),
        ("smua.source.limiti = 3 smua.source.levelv = 20", 5007),
        ("smua.source.output = 4", 1101),
        ("smua.source.levelv = 0/0", 1401),
        ("smua.measure.overlappediv(smua.nvbuffer1)", 1400),
        ("smua.measure.v(smub.nvbuffer1)", 1401),
        ("printbuffer(1, 2, 3)", 1401),
        ("smua.trigger.source.action = 1 smua.trigger.initiate()", 5038),
        ("delay(-1)", 1102),
        ("*BAD", -285),
    ],
)
def test_refused_commands_leave_everything_as_it_was(line: str, code: int) -> None:
    bench = Bench()
    before = bench.a.source
    bench.write(line)
    assert bench.errors() == [code]
    assert bench.a.source == before
    assert bench.numbers("smua.source.levelv") == [0.0]


def test_the_200_volt_range_needs_the_interlock() -> None:
    bench = Bench("Keithley2636B")
    bench.write("smua.source.levelv = 50")
    assert bench.errors() == [802]
    assert bench.numbers("smua.source.levelv") == [0.0]
    closed = Bench("Keithley2636B", interlock=True)
    closed.write("smua.source.levelv = 50 smua.source.output = 1")
    assert closed.errors() == []


def test_both_channels_are_observed_together() -> None:
    bench = Bench()
    bench.write(ON, "smub.source.levelv = 1 smub.source.output = 1", "smua.measure.count = 3 smub.measure.count = 3")
    bench.plant.observed.clear()
    bench.write(
        "smua.measure.overlappediv(smua.nvbuffer1, smua.nvbuffer2) smub.measure.overlappedi(smub.nvbuffer1) waitcomplete()"
    )
    assert bench.plant.observed == [(2, 0.02, 3)]
    assert bench.table("printbuffer(1, 3, smua.nvbuffer1, smub.nvbuffer1)") == [2e-3, 1e-3] * 3
    bench.plant.observed.clear()
    start = bench.plant.clock.now()
    bench.write("smub.measure.nplc = 0.4 smua.measure.overlappedi(smua.nvbuffer1) smub.measure.overlappedi(smub.nvbuffer1)")
    assert bench.plant.clock.now() - start == pytest.approx(0.06)  # unequal apertures still run at the same time
    ports, aperture, count = bench.plant.observed[0]
    assert (ports, count) == (2, 1)
    assert aperture == pytest.approx(0.008)
    assert bench.table("printbuffer(1, 3, smua.nvbuffer1, smub.nvbuffer1)") == [2e-3, 1e-3] * 3


def test_a_busy_channel_refuses_a_second_measurement() -> None:
    bench = Bench()
    bench.write("smua.measure.overlappedi(smua.nvbuffer1) smua.measure.v()")
    assert bench.errors() == [5045]


def test_buffers_append_clear_fill_and_print() -> None:
    bench = Bench()
    bench.write(ON, "smua.nvbuffer1.collecttimestamps = 1 smua.nvbuffer1.collectsourcevalues = 1")
    bench.write("smua.measure.count = 2 smua.measure.interval = 0.1 smua.measure.i(smua.nvbuffer1)")
    assert bench.table("printbuffer(1, 99, smua.nvbuffer1.timestamps, smua.nvbuffer1.sourcevalues)") == [0.0, 2.0, 0.1, 2.0]
    bench.write("smua.measure.i(smua.nvbuffer1)")
    assert bench.numbers("smua.nvbuffer1.n") == [2]  # appendmode 0: cleared first
    bench.write("smua.nvbuffer1.appendmode = 1 smua.measure.i(smua.nvbuffer1)")
    assert bench.numbers("smua.nvbuffer1.n, smua.nvbuffer1.readings[4]") == [4, 2e-3]
    assert bench.ask("smua.nvbuffer1.readings[5], smua.nvbuffer1[1.5]") == ["nil", "nil"]
    bench.write("smua.nvbuffer1.collecttimestamps = 0")
    assert bench.errors() == [-221]
    bench.write("b = smua.makebuffer(3) smua.measure.count = 5 smua.measure.interval = 0 smua.measure.v(b)")
    assert bench.errors() == [-225, -225]
    assert bench.numbers("b.n, b.capacity") == [3, 3]
    assert bench.raw("format.data = format.REAL64 printbuffer(1, b.n, b)") == b"#0" + struct.pack("<3d", 2.0, 2.0, 2.0) + b"\n"


def test_filter_and_rel() -> None:
    bench = Bench()
    bench.write(ON, "smua.measure.filter.count = 4 smua.measure.filter.enable = 1")
    start = bench.plant.clock.now()
    assert bench.numbers("smua.measure.v()") == [2.0]
    assert bench.plant.clock.now() - start == pytest.approx(4 * 0.02)
    bench.write("smua.measure.rel.levelv = 0.5 smua.measure.rel.enablev = 1 smua.measure.v(smua.nvbuffer1)")
    value, status = bench.table("printbuffer(1, 1, smua.nvbuffer1, smua.nvbuffer1.statuses)")
    assert value == 1.5
    assert int(status) & 0xA0 == 0xA0


def test_a_fixed_measure_range_overflows() -> None:
    bench = Bench()
    bench.write(ON, "smua.measure.rangei = 1e-4")
    assert bench.numbers("smua.measure.i()") == [9.91e37]
    assert int(bench.numbers("status.measurement.instrument.smua.condition")[0]) & 128
    bench.write("smua.measure.autorangei = 1")
    assert bench.numbers("smua.measure.i(), smua.measure.rangei") == [2e-3, 1e-2]
    assert bench.numbers("smua.measure.rangev, smua.source.rangev") == [6.0, 6.0]  # locked to the source range


def test_status_byte_events_and_common_commands() -> None:
    bench = Bench()
    assert bench.raw("*ESR?") == b"128\n"  # power on
    assert bench.raw("*OPC?;*STB?") == b"1\n0\n"
    bench.write("smua.source.levelv = 99", "status.standard.enable = 255")
    assert bench.raw("*STB?") == b"36\n"  # error available, standard event
    bench.write("*CLS")
    assert bench.raw("*STB?;*ESR?") == b"0\n0\n"
    bench.write("*OPC")
    assert bench.raw("*ESR?") == b"1\n"


def test_reset_returns_to_defaults() -> None:
    bench = Bench()
    bench.write(ON, "smua.measure.nplc = 10 smua.measure.rel.enablev = 1 format.data = format.REAL64", "reset()")
    assert bench.numbers("smua.source.levelv, smua.source.output, smua.measure.nplc, smua.measure.rel.enablev") == [0, 0, 1, 0]
    assert bench.numbers("smua.source.limiti, smua.source.autorangev, smua.measure.autorangei") == [1, 1, 1]
    assert bench.a.source == VoltageSource(0.0, 1e-3)
    bench.write("smua.measure.rel.enablev = 1 smua.measure.autorangei = 0")
    assert bench.numbers("smua.measure.rel.enablev, smua.measure.autorangei") == [1, 0]
