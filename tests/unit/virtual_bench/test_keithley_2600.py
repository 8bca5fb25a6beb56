"""The 2600B emulator against a plant of independent resistors: source, limit, readings, buffers, time, sweeps."""

import struct
from collections.abc import Sequence
from math import copysign, inf

import numpy as np
import pytest

from simulated_backend.virtual_bench.emulators.keithley_2600 import Keithley2600
from simulated_backend.virtual_bench.emulators.keithley_2600_datasheet import MODELS, derating, range_for
from simulated_backend.virtual_bench.faults import OutputStage
from simulated_backend.virtual_bench.ports import CurrentSource, ElectricalPort, Open, Sample, Source, VoltageSource


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        assert seconds >= 0.0
        self.seconds += seconds


class Resistor:
    """A terminal with a resistor to low."""

    def __init__(self) -> None:
        self.source: Source = Open()
        self.load = (inf, 0.0)
        self.ohm = 1000.0
        self.stage = OutputStage()

    def set_source(self, source: Source) -> None:
        self.source = source

    def set_load(self, input_resistance: float, bias_current: float) -> None:
        self.load = (input_resistance, bias_current)

    def sample(self) -> Sample:
        match self.source:
            case VoltageSource(level, limit, series):
                current = level / (self.ohm + series)
                if abs(current) > limit:
                    current = copysign(limit, current)
                    return Sample(current * self.ohm, current, True)
                return Sample(current * self.ohm, current, False)
            case CurrentSource(level, limit):
                ohm = 1.0 / (1.0 / self.ohm + 1.0 / self.load[0])
                if abs(level * ohm) > limit:
                    return Sample(copysign(limit, level), copysign(limit, level) / ohm, True)
                return Sample(level * ohm, level, False)
            case _:
                return Sample(0.0, 0.0, False)


class Plant:
    def __init__(self, *, ideal: bool) -> None:
        self.clock = Clock()
        self.ideal = ideal
        self.ports: dict[str, Resistor] = {}
        self.observed: list[tuple[int, float, int]] = []

    def electrical(self, instrument: str, port: str) -> Resistor:
        return self.ports.setdefault(port, Resistor())

    def pneumatic(self, instrument: str, port: str) -> object:
        raise NotImplementedError

    def observe(self, ports: Sequence[ElectricalPort], aperture: float, count: int = 1) -> list[tuple[Sample, ...]]:
        self.observed.append((len(ports), aperture, count))
        rows = [tuple(port.sample() for port in ports if isinstance(port, Resistor)) for _ in range(count)]
        self.clock.advance(aperture * count)
        return rows


class Bench:
    def __init__(self, model: str = "Keithley2602B", *, ideal: bool = True, seed: int = 0, **options: object) -> None:
        self.plant = Plant(ideal=ideal)
        settings = {**Keithley2600.models[model], "identity": None, **options}
        self.unit = Keithley2600("smu", self.plant, settings, np.random.default_rng(seed))  # type: ignore[arg-type]  # no pneumatics here

    def write(self, *lines: str) -> None:
        for line in lines:
            assert self.unit.receive(line.encode()) is None, line

    def raw(self, line: str) -> bytes:
        reply = self.unit.receive(line.encode())
        assert reply is not None
        return reply

    def ask(self, expression: str) -> list[str]:
        return self.raw(f"print({expression})").decode().rstrip("\n").split("\t")

    def numbers(self, expression: str) -> list[float]:
        return [float(word) for word in self.ask(expression)]

    def table(self, line: str) -> list[float]:
        return [float(word) for word in self.raw(line).decode().split(",")]

    def errors(self) -> list[int]:
        codes = []
        while code := int(float(self.ask("errorqueue.next()")[0])):
            codes.append(code)
        return codes

    @property
    def a(self) -> Resistor:
        return self.plant.ports["smua"]


def drives(bench: Bench) -> Source:
    """What smua does to its node now."""
    return bench.a.source


ON = "smua.source.levelv = 2 smua.source.limiti = 1e-2 smua.source.output = 1"


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


def test_list_sweep_by_the_trigger_model_returns_to_the_idle_level() -> None:
    bench = Bench()
    bench.write("smua.source.levelv = 0.25 smua.source.rangev = 6 smua.source.output = 1")
    bench.write("smua.trigger.source.listv({1, 2, 3}) smua.trigger.source.action = 1 smua.trigger.count = 3")
    bench.write("smua.trigger.measure.iv(smua.nvbuffer1, smua.nvbuffer2) smua.trigger.measure.action = 1")
    bench.write("smua.nvbuffer1.collectsourcevalues = 1 smua.trigger.initiate() waitcomplete()")
    assert bench.table("printbuffer(1, 3, smua.nvbuffer1, smua.nvbuffer2, smua.nvbuffer1.sourcevalues)") == [
        1e-3, 1.0, 1.0, 2e-3, 2.0, 2.0, 3e-3, 3.0, 3.0,
    ]  # fmt: skip
    assert bench.a.source == VoltageSource(0.25, 1.0)
    bench.write("smua.trigger.endsweep.action = smua.SOURCE_HOLD smua.trigger.initiate() waitcomplete()")
    assert bench.numbers("smua.source.levelv") == [3.0]
    assert bench.errors() == []


def test_two_sweeps_step_together() -> None:
    bench = Bench()
    for smu in ("smua", "smub"):
        bench.write(f"{smu}.source.output = 1 {smu}.trigger.source.linearv(1, 2, 2) {smu}.trigger.source.action = 1")
        bench.write(f"{smu}.trigger.measure.i({smu}.nvbuffer1) {smu}.trigger.measure.action = 1 {smu}.trigger.count = 2")
    bench.plant.observed.clear()
    bench.write("smua.trigger.initiate() smub.trigger.initiate() waitcomplete()")
    assert bench.plant.observed == [(2, 0.02, 1), (2, 0.02, 1)]
    assert bench.errors() == []


def test_a_sweep_waits_for_its_event_and_an_endless_wait_is_an_error() -> None:
    bench = Bench()
    bench.write("smua.source.output = 1 smua.trigger.source.listv({1}) smua.trigger.source.action = 1")
    bench.write("smua.trigger.source.stimulus = trigger.EVENT_ID smua.trigger.endsweep.action = 1 smua.trigger.initiate()")
    assert bench.numbers("smua.source.levelv, status.operation.sweeping.condition") == [0.0, 2.0]
    bench.write("*TRG")
    assert bench.numbers("smua.source.levelv, status.operation.sweeping.condition") == [1.0, 0.0]
    bench.write("smua.trigger.initiate() waitcomplete()")
    assert bench.errors() == [-286]
    bench.write("smua.trigger.source.stimulus = 0 smua.trigger.initiate() waitcomplete()")
    assert bench.errors() == []


def test_factory_sweep_and_pulses() -> None:
    bench = Bench()
    bench.write("smua.measure.count = 1", "SweepVListMeasureI(smua, {1, 2, 3}, 0.01, 3)")
    assert bench.table("printbuffer(1, 3, smua.nvbuffer1, smua.nvbuffer1.sourcevalues)") == [1e-3, 1.0, 2e-3, 2.0, 3e-3, 3.0]
    assert bench.numbers("smua.source.output") == [0]
    assert bench.ask("ConfigPulseVMeasureI(smua.nvbuffer1, 0, 1, 0.1, 1e-3, 9e-3, 3, 1)")[0] == "false"
    bench.write("smua.source.levelv = 0 smua.source.rangev = 1 smua.measure.rangei = 1e-2 smua.measure.nplc = 0.01")
    bench.write("smua.nvbuffer1.clear()")
    assert bench.ask("ConfigPulseVMeasureI(smua.nvbuffer1, 0, 1, 0.1, 1e-3, 9e-3, 3, 1)")[0] == "true"
    bench.write("smua.nvbuffer1.collecttimestamps = 1")
    assert bench.ask("InitiatePulseTest(1)")[0] == "true"
    values = bench.table("printbuffer(1, 3, smua.nvbuffer1, smua.nvbuffer1.timestamps)")
    assert values == [1e-3, 0.0, 1e-3, pytest.approx(0.01), 1e-3, pytest.approx(0.02)]
    assert bench.a.source == VoltageSource(0.0, 1.0)
    assert bench.ask("InitiatePulseTest(9)")[0] == "false"


@pytest.mark.parametrize("model", ["Keithley2602B", "Keithley2612B", "Keithley2636B"])
def test_honest_terminals_stay_inside_the_data_sheet_and_are_not_perfect(model: str) -> None:
    deviations = []
    for seed in range(20):
        bench = Bench(model, ideal=False, seed=seed)
        bench.write("smua.source.levelv = 5 smua.source.limiti = 0.1 smua.source.output = 1 format.asciiprecision = 12")
        assert isinstance(bench.a.source, VoltageSource)
        line = range_for(MODELS[model[8:]][0].volts, 5.0)
        deviation = bench.a.source.level - 5.0
        assert abs(deviation) <= 5.0 * line.source_gain + line.source_offset + line.programming + line.noise
        deviations.append(deviation)
        amperes, volts = bench.numbers("smua.measure.iv()")
        assert abs(volts - bench.a.source.level) <= 5.0 * line.measure_gain + line.measure_offset + 25 * line.display
        assert amperes == pytest.approx(bench.a.source.level / 1000.0, abs=5e-3 * 2e-4 + 2.5e-6 + 50e-9)
    assert np.std(deviations) > 0.1 * line.source_offset


def test_the_same_seed_is_the_same_instrument_also_after_a_power_cycle() -> None:
    first, second = Bench(ideal=False, seed=3), Bench(ideal=False, seed=3)
    first.write(ON)
    second.write(ON)
    assert first.a.source == second.a.source
    level = first.a.source
    first.unit.power_on()
    first.write(ON)
    assert first.a.source == level


def test_noise_falls_with_integration_time() -> None:
    spreads = []
    for nplc in (0.01, 1.0, 16.0):
        bench = Bench(ideal=False, seed=1)
        bench.write(
            ON, f"smua.measure.nplc = {nplc} smua.measure.count = 400 smua.measure.v(smua.nvbuffer1) format.asciiprecision = 12"
        )
        spreads.append(float(np.std(bench.table("printbuffer(1, 400, smua.nvbuffer1)"))))
    assert spreads[0] > 5 * spreads[1]
    assert spreads[1] == pytest.approx(5 * 10e-6, rel=0.15)  # five steps of the 6 V range's display resolution
    assert spreads[2] == pytest.approx(spreads[1] / 4.0, rel=0.25)


def test_a_channel_that_sources_zero_amperes_loads_and_biases_its_node() -> None:
    bench = Bench("Keithley2636B", ideal=False, seed=2)
    bench.write("smua.source.func = smua.OUTPUT_DCAMPS smua.source.rangei = 1e-9 smua.source.limitv = 20 smua.source.output = 1")
    assert isinstance(bench.a.source, CurrentSource)
    assert 0.0 < abs(bench.a.source.level) <= 2e-12 + 0.8e-12  # 1 nA range: ± 2 pA, noise 800 fA peak to peak
    assert bench.a.load == (1e14, 0.0)
    bench.write("smua.source.func = smua.OUTPUT_DCVOLTS")
    assert bench.a.load == (inf, 0.0)


def test_leads_drop_voltage_in_two_wire_operation_only() -> None:
    bench = Bench(ideal=False, lead_resistance=0.5)
    bench.a.ohm = 10.0
    bench.write("smua.source.levelv = 1 smua.source.output = 1")
    terminal, at_node = bench.numbers("smua.measure.v()")[0], bench.a.sample().voltage
    assert at_node == pytest.approx(terminal * 10.0 / 11.0, rel=2e-3)
    bench.write("smua.sense = smua.SENSE_REMOTE")
    assert bench.a.sample().voltage == pytest.approx(terminal, rel=2e-3)


def test_auto_delay_of_the_low_current_models_takes_time() -> None:
    bench = Bench("Keithley2636B")
    bench.a.ohm = 1e10
    bench.write("smua.source.levelv = 1 smua.source.output = 1")
    bench.write("smua.measure.i()")
    start = bench.plant.clock.now()
    assert bench.numbers("smua.measure.i(), smua.measure.rangei") == [1e-10, 1e-10]
    assert bench.plant.clock.now() - start == pytest.approx(0.36 + 0.02)  # 100 pA range: 360 ms


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


def test_derating_follows_the_table() -> None:
    assert derating(1.0, current=False) == 0.0
    assert derating(0.1, current=False) == pytest.approx(1e-4)
    assert derating(0.01, current=True) == pytest.approx(1e-3)
    assert derating(0.001, current=False) == pytest.approx(8e-3)
    assert 1e-4 < derating(0.05, current=False) < 8e-4
