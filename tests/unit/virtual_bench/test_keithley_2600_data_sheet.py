"""The 2600B emulator against its data sheet: accuracy, noise, leads, loads, delays."""

from math import inf

import numpy as np
import pytest

from simulated_backend.virtual_bench.emulators.keithley_2600_datasheet import MODELS, derating, range_for
from simulated_backend.virtual_bench.ports import CurrentSource, VoltageSource
from tests.unit.virtual_bench.keithley_2600_rig import ON, Bench


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


def test_derating_follows_the_table() -> None:
    assert derating(1.0, current=False) == 0.0
    assert derating(0.1, current=False) == pytest.approx(1e-4)
    assert derating(0.01, current=True) == pytest.approx(1e-3)
    assert derating(0.001, current=False) == pytest.approx(8e-3)
    assert 1e-4 < derating(0.05, current=False) < 8e-4
