"""Unmodified third-party drivers on the emulated SCPI source-measure units: QCoDeS' stock drivers and pymeasure's, over TCP."""

from collections.abc import Iterator

import numpy as np
import pytest

from simulated_backend.virtual_bench.process import VirtualBench
from tests.smu_rig import CONDUCTANCE, resistors


@pytest.fixture(scope="module")
def k2450() -> Iterator[VirtualBench]:
    with VirtualBench.start(resistors("Keithley2450", {"1": ""})) as running:
        yield running


@pytest.fixture(scope="module")
def k2400() -> Iterator[VirtualBench]:
    with VirtualBench.start(resistors("Keithley2400", {"1": ""})) as running:
        yield running


def test_qcodes_drives_the_2450_and_sweeps(k2450: VirtualBench) -> None:
    from qcodes.instrument_drivers.Keithley import Keithley2450

    unit = Keithley2450("stock_2450", k2450.addresses["it"])
    try:
        unit.reset()
        unit.sense_function("current")
        unit.source_function("voltage")
        unit.source.range(20.0)
        unit.source.limit(1e-4)
        unit.source.auto_delay(False)
        unit.source.delay(0.01)
        unit.sense.nplc(0.1)
        unit.sense.auto_range(True)
        unit.source.voltage(2.0)
        unit.output_enabled(True)
        assert unit.source.voltage() == 2.0
        assert unit.source.read_back_enabled()
        assert unit.sense.current() == pytest.approx(2.0 * CONDUCTANCE, rel=1e-2)
        assert not unit.source.limit_tripped()
        unit.source.limit(1e-6)
        assert unit.source.limit_tripped()
        assert unit.sense.current() == pytest.approx(1e-6, rel=1e-2)
        unit.source.limit(1e-4)
        unit.source.sweep_setup(0.0, 1.0, 11, 0.02)
        unit.buffer(name="defbuffer1").elements(["source_value", "measurement", "source_value_status"])
        before = k2450.clock.now()
        line = unit.sense.sweep()
        assert k2450.clock.now() - before > 11 * 0.03
        np.testing.assert_allclose(line, np.linspace(0.0, 1.0, 11) * CONDUCTANCE, atol=1e-8)
        extra = unit.sense.sweep.get_selected()
        np.testing.assert_allclose([float(x) for x in extra[0::3]], np.linspace(0.0, 1.0, 11), atol=4e-3)
        assert {int(x) & 32 for x in extra[2::3]} == {0}
        assert unit.output_enabled() is False  # its ready-made sweeps end like this
        assert unit.ask(":SYST:ERR?").startswith("0,")
    finally:
        unit.close()


def test_pymeasure_drives_the_2450(k2450: VirtualBench) -> None:
    from pymeasure.instruments.keithley import Keithley2450

    unit = Keithley2450(k2450.addresses["it"], read_termination="\n", write_termination="\n")
    try:
        unit.reset()
        unit.apply_voltage(voltage_range=20.0, compliance_current=1e-4)
        unit.measure_current(nplc=1, auto_range=True)
        unit.enable_source()
        assert unit.source_enabled
        unit.ramp_to_voltage(1.5, steps=4, pause=0.0)
        assert unit.source_voltage == 1.5
        assert unit.current == pytest.approx(1.5 * CONDUCTANCE, rel=1e-2)
        assert unit.compliance_current == pytest.approx(1e-4)
        unit.measure_voltage()
        assert unit.voltage == pytest.approx(1.5, abs=4e-3)
        unit.voltage_output_off_state = "HIMP"
        assert unit.voltage_output_off_state == "HIMP"
        unit.disable_source()
        assert not unit.source_enabled
        assert k2450.side_door.sources()["it"][""]["source"] == "Open"
        unit.source_voltage = 1e3
        assert unit.next_error[0] == -222
    finally:
        unit.adapter.close()


def test_qcodes_drives_the_2400(k2400: VirtualBench) -> None:
    from qcodes.instrument_drivers.Keithley import Keithley2400

    unit = Keithley2400("stock_2400", k2400.addresses["it"])
    try:
        unit.write("*RST")  # its own reset() says ":*RST", which IEEE 488.2 does not know
        unit.write(":FORM:ELEM VOLT,CURR")
        unit.mode("VOLT")
        unit.rangev(20.0)
        unit.compliancei(1e-3)
        unit.volt(2.0)
        unit.output(True)
        assert unit.curr() == pytest.approx(2.0 * CONDUCTANCE, rel=1e-2)
        unit.sense("VOLT")
        assert unit.volt() == pytest.approx(2.0, abs=5e-3)
        # the fault of the stock driver that ours repairs: 0.1 uA arrives as 0
        unit.compliancei(1e-7)
        assert unit.compliancei() == 1e-3
        unit.output(False)
        assert unit.ask(":SYST:ERR?") == '0,"No error"'
        unit.output(True)
        unit.write(":OUTP OFF")
        unit.write(":READ?")
        assert unit.ask(":SYST:ERR?") == '+803,"Not permitted with OUTPUT off"'
    finally:
        unit.close()


def test_pymeasure_drives_the_2400(k2400: VirtualBench) -> None:
    from pymeasure.instruments.keithley import Keithley2400

    unit = Keithley2400(k2400.addresses["it"], read_termination="\n", write_termination="\n")
    try:
        unit.clear()
        unit.write("*RST")
        unit.reset_data_format()
        unit.source_mode = "voltage"
        unit.source_voltage_range = 20.0
        unit.compliance_current = 1e-4
        unit.current_nplc = 0.1
        unit.source_enabled = True
        unit.ramp_to_voltage(1.0, steps=3, pause=0.0)
        assert unit.source_voltage == 1.0
        assert unit.current == pytest.approx(CONDUCTANCE, rel=2e-2)
        assert unit.voltage == pytest.approx(1.0, abs=5e-3)
        everything = unit.measure_all()
        assert everything["resistance"] == pytest.approx(1.0 / CONDUCTANCE, rel=2e-2)
        assert everything["status"] & 8 == 0
        unit.compliance_current = 1e-7
        assert unit.measure_all()["status"] & 8
        unit.output_off_state = "HIMP"
        assert unit.output_off_state in ("disconnected", "HIMP")
        unit.compliance_current = 1e-4
        unit.config_buffer(points=5, delay=0.0)
        unit.write(":TRIG:COUN 5")
        unit.start_buffer()
        assert unit.buffer_data.reshape(5, 5)[:, 0] == pytest.approx(1.0, abs=5e-3)
        assert unit.mean_voltage == pytest.approx(1.0, abs=5e-3)
        unit.source_enabled = False
        assert unit.check_errors() == []
    finally:
        unit.adapter.close()


def test_the_older_driver_of_pymeasure_drives_the_2400_too(k2400: VirtualBench) -> None:
    from pymeasure.instruments.keithley import Keithley2400Legacy

    with pytest.warns(FutureWarning, match="legacy version"):
        unit = Keithley2400Legacy(k2400.addresses["it"], read_termination="\n", write_termination="\n")
    try:
        unit.write("*RST")
        unit.apply_voltage(voltage_range=20, compliance_current=1e-4)
        unit.measure_current(nplc=1, current=1e-4, auto_range=True)
        unit.enable_source()
        unit.ramp_to_voltage(1.0, steps=3, pause=0)
        assert unit.source_voltage == 1.0
        assert unit.compliance_current == pytest.approx(1e-4)
        assert unit.current == pytest.approx(CONDUCTANCE, rel=2e-2)
        unit.config_buffer(points=5, delay=0)
        unit.start_buffer()
        assert unit.buffer_data == pytest.approx([CONDUCTANCE] * 5, rel=2e-2)
        unit.shutdown()
        assert unit.check_errors() == []
    finally:
        unit.adapter.close()
