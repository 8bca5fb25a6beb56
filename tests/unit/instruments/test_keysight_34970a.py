"""Keysight 34970A and DAQ970A: exact words of the driver, the emulated logger, and plain PyVISA with the manual's examples."""

from collections.abc import Iterator

import numpy as np
import pytest
import pyvisa

from hil.core.errors import ConfigError, InstrumentError
from instruments.keysight_34970a import Keysight34970A, KeysightDAQ970A
from simulated_backend.description import describe
from simulated_backend.devices import registry
from simulated_backend.network import Edge, Network, Node
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire
from simulated_backend.virtual_bench.process import VirtualBench
from tests.unit.instruments.conftest import Build

FINE = '+0,"No error"'


def configuring(number: int, impedance: str = ":SENS:VOLT:DC:IMP:AUTO", zero: str = "ON") -> list[tuple[str, str]]:
    here = f"(@{number})"
    header = ":SENS:ZERO:AUTO" if impedance.startswith(":INP") else ":SENS:VOLT:DC:ZERO:AUTO"
    return [
        (f'*PSC 1;*ESE 60;:SENS:FUNC "VOLT",{here};:SYST:ERR?', FINE),
        (f":CALC:SCAL:STAT OFF,{here};:SYST:ERR?", FINE),
        (f":SENS:VOLT:DC:RANG 10,{here};:SENS:VOLT:DC:RANG? {here};:SYST:ERR?", f"+1.00000000E+01;{FINE}"),
        (f":SENS:VOLT:DC:NPLC 1,{here};:SENS:VOLT:DC:NPLC? {here};:SYST:ERR?", f"+1.00000000E+00;{FINE}"),
        (f":ROUT:CHAN:DEL:AUTO ON,{here};:ROUT:CHAN:DEL:AUTO? {here};:SYST:ERR?", f"1;{FINE}"),
        (f"{header} {zero},{here};:SYST:ERR?", FINE),
        (f"{impedance} ON,{here};:SYST:ERR?", FINE),
    ]


def test_a_scan_is_one_message_and_its_order_is_undone(build: Build) -> None:
    units = ":FORM:READ:UNIT OFF;:FORM:READ:CHAN OFF;:FORM:READ:TIME OFF;:FORM:READ:ALAR OFF"
    logger, _ = build(
        KeysightDAQ970A,
        *configuring(103),
        *configuring(101, zero="OFF"),
        (
            f":ROUT:SCAN (@101,103);{units};:TRIG:SOUR IMM;:TRIG:COUN 2;:READ?;*ESE?",
            "+1.0E+00,+3.0E+00,+1.1E+00,+9.90000000E+37;60",
        ),
        (":READ?;*ESE?", "+1.0E+00,+3.0E+00,+1.0E+00,+3.0E+00;0"),
    )
    logger.port("ch103").configure_meter("volt", {"range": 5.0})
    logger.port("ch101").configure_meter("volt", {"range": 5.0, "auto_zero": False})
    read = logger.acquisition([("ch103", "volt"), ("ch101", "volt")])
    acquired = read(2)
    assert acquired.values[0].tolist() == [3.0, 1.0]
    assert np.isnan(acquired.values[1, 0])
    assert acquired.overload.tolist() == [[False, False], [True, False]]
    with pytest.raises(InstrumentError, match="was switched off and on"):
        read(2)


def test_an_integration_time_it_does_not_have_becomes_the_next_and_is_told(build: Build) -> None:
    script = [
        (message.replace("NPLC 1,", "NPLC 10,"), reply.replace("+1.00000000E+00;", "+1.00000000E+01;"))
        for message, reply in configuring(101, ":INP:IMP:AUTO")
    ]
    logger, _ = build(Keysight34970A, *script)
    (sentence,) = logger.port("ch101").configure_meter("volt", {"nplc": 5.0})
    assert "integrates over 10 line cycles" in sentence


def test_what_it_cannot_do_is_refused(build: Build) -> None:
    logger, _ = build(Keysight34970A)
    channel = logger.port("ch120")
    for settings, sentence in (
        ({"nplc": 500.0}, "outside 0.02 … 200"),
        ({"input_impedance": "1M"}, "auto or 10M"),
        ({"colour": 1}, "no setting 'colour'"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            channel.configure_meter("volt", settings)
    with pytest.raises(ConfigError, match="has no port 'ch121'"):
        logger.port("ch121")
    with pytest.raises(ConfigError, match="once per scan"):
        logger.acquisition([("ch101", "volt"), ("ch101", "volt")])


# On the emulated logger ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["Keysight34970A", "KeysightDAQ970A"])
def bench(request: pytest.FixtureRequest) -> Iterator[VirtualBench]:
    law = registry.law("ohmic")
    given = {"conductance": 1e-9}
    nodes = [Node("low", ground=True), Node("1"), Node("2")]
    network = Network.build(nodes, [Edge("a", "1", "2", law, given), Edge("b", "2", "low", law, given)])
    plan = BenchPlan(
        (InstrumentPlan("logger", request.param), InstrumentPlan("source", "Keithley2450")),
        (Wire("source", "", "1"), Wire("logger", "ch101", "1"), Wire("logger", "ch102", "2")),
        describe(network),
        seed=6,
    )
    with VirtualBench.start(plan) as running:
        yield running


@pytest.fixture
def visa(bench: VirtualBench) -> Iterator[pyvisa.ResourceManager]:
    manager = pyvisa.ResourceManager("@py")
    source = manager.open_resource(bench.addresses["source"], read_termination="\n", write_termination="\n", timeout=60_000)
    source.query(":SOUR:VOLT:ILIM 1e-6;:SOUR:VOLT 4;:OUTP ON;:OUTP?")
    yield manager
    manager.close()


def test_only_the_closed_channel_loads_its_node_and_by_the_impedance_chosen(
    bench: VirtualBench, visa: pyvisa.ResourceManager
) -> None:
    model = {"Keysight34970A": Keysight34970A, "KeysightDAQ970A": KeysightDAQ970A}[bench.plan.instruments[0].model]
    logger = model("logger", bench.addresses["logger"])
    try:
        for name in ("ch102", "ch101"):
            logger.port(name).configure_meter("volt", {"range": 10.0, "nplc": 1.0})
        read = logger.acquisition([("ch102", "volt"), ("ch101", "volt")])
        before = bench.clock.now()
        two = read(2).values
        assert bench.clock.now() - before == pytest.approx(4 * (2.0 / 50.0 + 1.0 / 60.0))
        # 10 Gohm on 0.5 Gohm take 5 %, and up to 30 pA push the node by as much as 15 mV
        assert two[:, 0] == pytest.approx(2.0 / 1.05, abs=16e-3)
        assert two[:, 1] == pytest.approx(4.0, abs=4e-3)
        assert bench.side_door.voltages()["2"] == pytest.approx(2.0, abs=3e-3)  # all channels are open again
        logger.port("ch102").configure_meter("volt", {"range": 10.0, "nplc": 1.0, "input_impedance": "10M"})
        loaded = logger.acquisition([("ch102", "volt")])(1).values[0, 0]
        assert loaded == pytest.approx(2.0 / 51.0, abs=4e-3)
        logger.port("ch101").configure_meter("volt", {"range": 1.0})
        assert logger.acquisition([("ch101", "volt")])(1).overload.all()
        assert logger.errors() == []
    finally:
        logger.close()


def test_plain_pyvisa_with_the_examples_of_the_manual(bench: VirtualBench, visa: pyvisa.ResourceManager) -> None:
    logger = visa.open_resource(bench.addresses["logger"], read_termination="\n", write_termination="\n", timeout=60_000)
    assert isinstance(logger, pyvisa.resources.MessageBasedResource)
    logger.write("*RST")
    assert float(logger.query("MEAS:VOLT:DC? 10,0.003,(@101)")) == pytest.approx(4.0, abs=4e-3)
    logger.write("CONF:VOLT:DC AUTO,DEF,(@102,101)")
    logger.write("ROUT:CHAN:DEL 0.1,(@101,102)")
    logger.write("TRIG:COUN 3")
    before = bench.clock.now()
    logger.write("INIT")
    values = [float(text) for text in logger.query("FETC?").split(",")]
    assert len(values) == 6
    assert bench.clock.now() - before > 0.6
    assert values[0::2] == pytest.approx([4.0] * 3, abs=4e-3)  # in the order of the channel numbers
    assert logger.query("ROUT:SCAN?") == "#210(@101,102)"
    assert logger.query("SYST:CTYP? 100").startswith("HEWLETT-PACKARD,34901A")
    logger.write("ROUT:CLOS (@101,102)")
    assert logger.query("SYST:ERR?").startswith("-221,")
    logger.write("SENS:VOLT:RANG 10,(@999)")
    assert logger.query("SYST:ERR?").startswith("-222,")
    assert logger.query("SYST:ERR?") == '+0,"No error"'
    logger.write("SENS:VOLT:DC:IMP:AUTO ON,(@101)" if "34970A" in logger.query("*IDN?") else "INP:IMP:AUTO ON,(@101)")
    assert logger.query("SYST:ERR?").startswith("-113,")  # each model has its own word for it


def test_the_longest_wait_holds_what_a_serial_line_takes(build: Build) -> None:
    logger, resource = build(Keysight34970A)
    assert logger.sending(960) == 0.0
    logger.session.address = "ASRL1::INSTR"
    assert logger.sending(960) == 1.0
    resource.expect((":SYST:REM;:SYST:ERR?", FINE), *configuring(101, ":INP:IMP:AUTO"))
    logger.port("ch101").configure_meter("volt", {})
