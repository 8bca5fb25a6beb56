"""The 2600B emulator against a plant of independent resistors: sweeps by the trigger model and by the factory scripts."""

import pytest

from simulated_backend.virtual_bench.ports import VoltageSource
from tests.unit.virtual_bench.keithley_2600_rig import Bench


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
