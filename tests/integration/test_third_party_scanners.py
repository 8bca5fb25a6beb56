"""Unmodified clients of others on data loggers and the switch matrix.

daqmon, scpi-instrument-control, pymeasure, and what of QCoDeS' 3706A fits a 707B.
"""

from collections.abc import Iterator

import pytest
import pyvisa
from pyvisa.resources import MessageBasedResource

from simulated_backend.description import describe
from simulated_backend.devices import registry
from simulated_backend.network import Edge, Network, Node
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire
from simulated_backend.virtual_bench.process import VirtualBench


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    law = registry.law("ohmic")
    given = {"conductance": 1e-6}
    nodes = [Node("low", ground=True), Node("1"), Node("2")]
    network = Network.build(nodes, [Edge("a", "1", "2", law, given), Edge("b", "2", "low", law, given)])
    plan = BenchPlan(
        (
            InstrumentPlan("logger", "Keysight34970A", {"transport": "serial"}),
            InstrumentPlan("younger", "KeysightDAQ970A"),
            InstrumentPlan("matrix", "Keithley707B", {"slots": 2}),
            InstrumentPlan("source", "Keithley2450"),
            InstrumentPlan("meter", "KeithleyDAQ6510"),
        ),
        (
            *(Wire("source", "", "1"), Wire("meter", "", "1")),
            *(Wire(logger, port, node) for logger in ("logger", "younger") for port, node in (("ch101", "1"), ("ch102", "2"))),
        ),
        describe(network),
        seed=6,
    )
    with VirtualBench.start(plan) as running:
        yield running


@pytest.fixture
def driven(bench: VirtualBench) -> Iterator[None]:
    manager = pyvisa.ResourceManager("@py")
    source = manager.open_resource(bench.addresses["source"], read_termination="\n", write_termination="\n", timeout=60_000)
    assert isinstance(source, MessageBasedResource)
    source.query(":SOUR:VOLT:ILIM 1e-4;:SOUR:VOLT 4;:OUTP ON;:OUTP?")
    yield
    manager.close()


@pytest.mark.usefixtures("driven")
def test_daqmon_scans_with_the_34970a(bench: VirtualBench) -> None:
    from daqmon import instrument

    port = bench.addresses["logger"].removeprefix("ASRL").removesuffix("::INSTR")
    logger = instrument.HP34970A(port, timeout=5.0)
    logger.open()
    try:
        assert "34970A" in logger.idn()
        logger.reset()
        logger.clear_status()
        logger.configure_dc_voltage([101, 102], "10", 1.0)
        logger.set_scan_list([101, 102])
        logger.enable_channel_in_readings()
        logger.set_channel_delay(102, 0.5)
        logger.set_scan_interval(10.0)
        logger.set_scan_count(3)
        assert logger.get_scan_channel_list() == "#210(@101,102)"
        assert logger.query_channel_function(102) == '"VOLT"'
        assert instrument.normalize_range(logger.query_channel_range(101, "VOLT:DC")) == "10"
        assert float(logger.query_channel_nplc(101, "VOLT:DC")) == 1.0
        assert float(logger.query_channel_delay(102)) == 0.5
        assert logger.query_trigger_source() == "TIM"
        assert float(logger.query_trigger_timer()) == 10.0
        before = bench.clock.now()
        logger.initiate_scan()
        assert logger.get_data_count() == 6
        # three sweeps, ten seconds from one to the next
        assert 20.5 < bench.clock.now() - before < 21.0
        pairs = logger.query_readings_with_channels("DATA:REM? 6")
        assert [channel for _, channel in pairs] == [101, 102] * 3
        # 10 Mohm of the logger stand beside 1 Mohm of the network
        assert [value for value, _ in pairs[::2]] == pytest.approx([4.0] * 3, abs=4e-3)
        assert [value for value, _ in pairs[1::2]] == pytest.approx([4.0 / 2.1] * 3, abs=4e-3)
        assert logger.get_data_count() == 0
        assert logger.query("SYST:ERR?") == '+0,"No error"'
    finally:
        logger.close()


@pytest.mark.usefixtures("driven")
def test_scpi_instrument_control_scans_with_the_daq970a(bench: VirtualBench) -> None:
    from scpi_control.data_logger import DataLogger

    port = int(bench.addresses["younger"].split("::")[2])
    with DataLogger("127.0.0.1", port) as logger:
        assert logger.model_capability is not None
        assert logger.model_capability.model_name == "DAQ970A"
        logger.reset()
        logger.clear_status()
        logger.configure_voltage_dc([101, 102], range="10", resolution="DEF")
        assert logger.get_scan_list() == "#210(@101,102)"
        assert [reading.value for reading in logger.read()] == pytest.approx([4.0, 4.0 / 2.1], abs=4e-3)
        logger.set_trigger_source("TIM")
        logger.set_trigger_timer(10.0)
        logger.set_trigger_count(3)
        before = bench.clock.now()
        logger.initiate()
        assert logger.get_data_points() == 6
        assert 20.0 < bench.clock.now() - before < 21.0
        first = logger.read_and_remove(4)  # a block of definite length
        assert [reading.value for reading in first] == pytest.approx([4.0, 4.0 / 2.1] * 2, abs=4e-3)
        assert len(logger.read_and_remove()) == 2
        assert logger.query("R?") == "#10"  # nothing left, and no error
        (too_much,) = logger.measure_voltage_dc(101, range="1", resolution="DEF")
        assert too_much.overload
        assert logger.get_error() == '+0,"No error"'


def test_what_fits_of_the_qcodes_driver_of_a_sister_runs_on_the_707b(
    bench: VirtualBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 3706A numbers its rows and has interlocks: its greeting and its lists of channels are left out."""
    from qcodes.instrument_drivers.Keithley import Keithley3706A

    monkeypatch.setattr(Keithley3706A, "connect_message", lambda *_: None)
    matrix = Keithley3706A("stock_3706a", bench.addresses["matrix"])
    try:
        assert matrix.get_idn()["model"] == "707B"
        cards = matrix.get_switch_cards()
        assert [(card["slot_no"], card["model"]) for card in cards] == [("1", "7174A"), ("2", "7174A")]
        for rule in ("OFF", "MAKE_BEFORE_BREAK", "BREAK_BEFORE_MAKE"):
            matrix.channel_connect_rule(rule)
            assert matrix.channel_connect_rule() == rule
        matrix.write("channel.exclusiveclose('2B07')")
        assert matrix.ask("channel.getclose('slot2')") == "2B07"
        assert matrix.ask("channel.getclose('slot1')") == "nil"
        assert float(matrix.ask("errorqueue.count")) == 0.0
    finally:
        matrix.close()


@pytest.mark.usefixtures("driven")
def test_pymeasure_takes_the_daq6510_for_its_sister_dmm6500(bench: VirtualBench) -> None:
    from pymeasure.instruments.keithley import KeithleyDMM6500

    meter = KeithleyDMM6500(bench.addresses["meter"], visa_library="@py", read_termination="\n", write_termination="\n")
    try:
        meter.clear()
        meter.mode = "voltage"
        meter.range = 10
        meter.nplc = 2
        assert (meter.mode, meter.range, meter.nplc) == ("voltage", 10.0, 2.0)
        assert meter.voltage == pytest.approx(4.0, abs=4e-3)
        assert meter.check_errors() == []
    finally:
        meter.adapter.close()
