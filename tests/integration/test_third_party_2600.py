"""Unmodified third-party drivers on the emulated 2600B: QCoDeS' stock driver, pymeasure's, and plain pyvisa, over TCP."""

from collections.abc import Iterator

import numpy as np
import pytest

from simulated_backend.description import describe
from simulated_backend.devices.registry import law
from simulated_backend.network import Edge, Network, Node
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire
from simulated_backend.virtual_bench.process import VirtualBench

CONDUCTANCE = 1e-4


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    ohmic = law("ohmic")
    nodes = [Node("low", ground=True), Node("1"), Node("2"), Node("3")]
    given = {"conductance": CONDUCTANCE}
    edges = [
        Edge("a", "1", "low", ohmic, parameters=given),
        Edge("b", "2", "low", ohmic, parameters=given),
        Edge("c", "3", "low", ohmic, parameters={"conductance": 1e-9}),
    ]
    plan = BenchPlan(
        (InstrumentPlan("smu", "Keithley2602B"), InstrumentPlan("picoammeter", "Keithley2636B")),
        (Wire("smu", "smua", "1"), Wire("smu", "smub", "2"), Wire("picoammeter", "smua", "3")),
        describe(Network.build(nodes, edges)),
        seed=5,
    )
    with VirtualBench.start(plan) as running:
        yield running


def test_qcodes_sources_measures_and_sees_compliance(bench: VirtualBench) -> None:
    from qcodes.instrument_drivers.Keithley import Keithley2602B

    keithley = Keithley2602B("stock_2602b", bench.addresses["smu"])
    try:
        assert keithley.get_idn()["model"] == "2602B"
        smu = keithley.smua
        smu.mode("voltage")
        smu.limiti(1e-2)
        smu.nplc(1)
        smu.volt(2.0)
        smu.output(True)
        assert smu.output() is True  # a reply: the side door must not overtake the socket
        # the terminal keeps the one-year specification of the 6 V range, 0.02 % + 1.8 mV, and is not exact
        at_node = bench.side_door.voltages()["1"]
        assert 0.0 < abs(at_node - 2.0) <= 2.0 * 2e-4 + 1.8e-3 + 100e-6
        assert smu.volt() == pytest.approx(at_node, abs=2.0 * 1.5e-4 + 1e-3 + 200e-6)
        assert smu.curr() == pytest.approx(at_node * CONDUCTANCE, abs=2e-4 * 3e-4 + 200e-9)
        assert smu.curr.measurement_status == "No error occured."
        assert smu.res() == pytest.approx(1.0 / CONDUCTANCE, rel=5e-3)
        smu.limiti(1e-5)
        assert smu.curr() == pytest.approx(1e-5, rel=2e-2)
        assert smu.curr.measurement_status == "Reached current compliance limit."
        assert bench.side_door.voltages()["1"] == pytest.approx(1e-5 / CONDUCTANCE, rel=2e-2)
        smu.output(False)
        assert keithley.ask("errorqueue.count") == "0.00000e+00"
    finally:
        keithley.close()


def test_qcodes_fast_sweeps_and_time_traces(bench: VirtualBench) -> None:
    from qcodes.dataset import LinSweep
    from qcodes.instrument_drivers.Keithley import Keithley2602B

    keithley = Keithley2602B("stock_sweeper", bench.addresses["smu"])
    try:
        for smu in (keithley.smua, keithley.smub):
            smu.mode("voltage")
            smu.limiti(1e-2)
            smu.nplc(0.1)
        keithley.smua.setup_fastsweep(LinSweep(keithley.smua.volt, 0.0, 1.0, 11, 0.01))
        line = keithley.smua.fastsweep()
        np.testing.assert_allclose(line, np.linspace(0.0, 1.0, 11) * CONDUCTANCE, atol=1e-6)
        keithley.smua.setup_fastsweep(
            LinSweep(keithley.smub.volt, 0.0, 1.0, 5, 0.0), LinSweep(keithley.smua.volt, 0.0, 0.5, 3, 0.0)
        )
        plane = keithley.smub.fastsweep()
        assert plane.shape == (3, 5)
        np.testing.assert_allclose(plane, np.tile(np.linspace(0.0, 1.0, 5) * CONDUCTANCE, (3, 1)), atol=1e-6)
        keithley.smua.volt(0.5)
        keithley.smua.timetrace_npts(20)
        keithley.smua.timetrace_dt(0.01)
        before = bench.clock.now()
        trace = keithley.smua.timetrace()
        assert trace.shape == (20,)
        np.testing.assert_allclose(trace, 0.5 * CONDUCTANCE, atol=1e-6)
        assert np.unique(trace).size > 1  # readings have noise
        assert bench.clock.now() - before == pytest.approx(19 * 0.01 + 0.1 / 50.0)
        keithley.smua.output(False)
        keithley.smub.output(False)
        assert keithley.ask("errorqueue.count") == "0.00000e+00"
    finally:
        keithley.close()


def test_qcodes_reads_picoamperes_on_a_2636b(bench: VirtualBench) -> None:
    from qcodes.instrument_drivers.Keithley import Keithley2636B

    keithley = Keithley2636B("stock_2636b", bench.addresses["picoammeter"])
    try:
        smu = keithley.smua
        smu.mode("voltage")
        smu.sourcerange_v(0.2)
        smu.limiti(1e-6)
        smu.volt(0.05)
        smu.output(True)
        assert smu.output() is True  # a reply: the side door must not overtake the socket
        at_node = bench.side_door.voltages()["3"]
        assert smu.curr() == pytest.approx(at_node * 1e-9, abs=60e-12 * 1.5e-3 + 120e-15)
        smu.output(False)
    finally:
        keithley.close()


# pymeasure says of its own driver that it may not be SCPI (it is not: TSP)
@pytest.mark.filterwarnings("ignore:It is not known whether this device support SCPI:FutureWarning")
def test_pymeasure_sources_measures_and_sees_compliance(bench: VirtualBench) -> None:
    from pymeasure.instruments.keithley import Keithley2600

    keithley = Keithley2600(bench.addresses["smu"], read_termination="\n", write_termination="\n")
    try:
        channel = keithley.ChB
        channel.apply_voltage(compliance_current=0.01)
        channel.measure_current(nplc=1)
        channel.source_voltage = 1.0
        channel.source_output = "ON"
        assert channel.source_output == "ON"
        at_node = bench.side_door.voltages()["2"]
        assert at_node == pytest.approx(1.0, abs=1e-3)
        assert channel.voltage == pytest.approx(at_node, abs=1e-3)
        assert channel.current == pytest.approx(at_node * CONDUCTANCE, rel=5e-3)
        assert channel.resistance == pytest.approx(1.0 / CONDUCTANCE, rel=5e-3)
        channel.compliance_current = 2e-5
        assert channel.current == pytest.approx(2e-5, rel=1e-2)
        assert keithley.ask("print(smub.source.compliance)").strip() == "true"
        channel.source_voltage_range = 6.0
        assert channel.source_voltage_range == 6.0
        channel.source_output = "OFF"
        assert keithley.next_error == (0, "Queue Is Empty")
        keithley.write("smub.source.levelv = 1e3")
        assert keithley.next_error == (1101, "Parameter too big")
    finally:
        keithley.adapter.close()


def test_plain_pyvisa_runs_a_loaded_function_on_both_channels(bench: VirtualBench) -> None:
    import pyvisa

    manager = pyvisa.ResourceManager("@py")
    # A shared machine may stand still for longer than PyVISA waits by itself, 2 s.
    smu = manager.open_resource(bench.addresses["smu"], read_termination="\n", write_termination="\n", timeout=60_000)
    try:
        assert isinstance(smu, pyvisa.resources.MessageBasedResource)
        lines = [
            "loadscript pair",
            "function both(va, vb, n)",
            "  smua.source.levelv = va smub.source.levelv = vb",
            "  smua.source.output = 1 smub.source.output = 1",
            "  for _, smu in ipairs({smua, smub}) do",
            "    smu.measure.count = n",
            "    smu.measure.overlappediv(smu.nvbuffer1, smu.nvbuffer2)",
            "  end",
            "  waitcomplete()",
            "  format.data = format.REAL64",
            "  printbuffer(1, n, smua.nvbuffer1.readings, smub.nvbuffer1.readings, smua.nvbuffer1.statuses)",
            "  smua.source.output = 0 smub.source.output = 0",
            "end",
            "endscript",
            "pair()",
        ]
        for line in lines:
            smu.write(line)
        smu.write("reset()")
        before = bench.clock.now()
        smu.write("both(0.5, -0.25, 4)")
        block = smu.read_bytes(2 + 4 * 3 * 8 + 1)
        assert bench.clock.now() - before == pytest.approx(4 / 50.0)  # both channels in the same four line cycles
        assert block.startswith(b"#0")
        assert block.endswith(b"\n")
        rows = np.frombuffer(block[2:-1], dtype="<f8").reshape(4, 3)
        np.testing.assert_allclose(rows[:, 0], 0.5 * CONDUCTANCE, rtol=2e-2)
        np.testing.assert_allclose(rows[:, 1], -0.25 * CONDUCTANCE, rtol=2e-2)
        assert not np.any(rows[:, 2].astype(int) & 0x40)
    finally:
        smu.close()
        manager.close()
