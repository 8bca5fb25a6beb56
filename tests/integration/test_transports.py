"""Every transport of the virtual bench, spoken to by PyVISA alone, by our own sessions, and by a whole training."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pyvisa
from typer.testing import CliRunner

from hil.cli import app
from hil.core.errors import ConfigError, InstrumentError
from instruments.visa import Link, open_session
from simulated_backend.description import describe, with_salt
from simulated_backend.devices import registry
from simulated_backend.network import Edge, Network, Node
from simulated_backend.virtual_bench.emulator import TRANSPORTS
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan
from simulated_backend.virtual_bench.process import VirtualBench
from simulated_backend.virtual_bench.prologix import split_lines, unescaped

ROOT = Path(__file__).resolve().parents[2]
IDENTITY = Link("DAQ6510")


def plan(*instruments: InstrumentPlan) -> BenchPlan:
    law = registry.law("conical_channel", preset="network")
    nodes = [Node("1"), Node("2", ground=True)]
    network = describe(Network.build(*with_salt(nodes, [Edge("a", "1", "2", law, {}, 20_000.0)])))
    return BenchPlan(instruments, (), network)


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    meters = [InstrumentPlan(name, "KeithleyDAQ6510", {"transport": name}) for name in TRANSPORTS]
    second = InstrumentPlan("neighbour", "Keithley6517B", {"transport": "prologix", "gpib": 27})
    with VirtualBench.start(plan(*meters, second)) as running:
        yield running


@pytest.fixture
def visa() -> Iterator[pyvisa.ResourceManager]:
    manager = pyvisa.ResourceManager("@py")
    yield manager
    manager.close()


def plain(visa: pyvisa.ResourceManager, address: str) -> Any:
    resource: Any = visa.open_resource(address, read_termination="\n", write_termination="\n")
    resource.timeout = 2000
    return resource


@pytest.mark.parametrize("transport", ["socket", "serial", "hislip", "vxi11"])
def test_pyvisa_alone_writes_asks_and_is_told_of_silence(
    transport: str, bench: VirtualBench, visa: pyvisa.ResourceManager
) -> None:
    meter = plain(visa, bench.addresses[transport])
    meter.write(":SENS:FUNC 'VOLT:DC'")
    meter.write(":SENS:VOLT:RANG 10")
    assert float(meter.query(":SENS:VOLT:RANG?")) == 10.0
    assert "DAQ6510" in meter.query("*IDN?")
    if transport != "hislip":  # PyVISA-py's HiSLIP reads an empty message where none is owed, without asking the server
        meter.timeout = 100
        with pytest.raises(pyvisa.VisaIOError, match="VI_ERROR_TMO"):
            meter.read()
    meter.close()


def test_long_replies_come_in_pieces(bench: VirtualBench, visa: pyvisa.ResourceManager) -> None:
    for transport in ("hislip", "vxi11"):
        meter = plain(visa, bench.addresses[transport])
        whole = meter.query("*IDN?")
        meter.chunk_size = 8
        assert meter.query("*IDN?") == whole
        meter.write("*IDN?")
        assert meter.read_bytes(7) == whole[:7].encode()
        assert meter.read() == whole[7:]
        meter.close()


def test_device_clear_takes_back_a_reply(bench: VirtualBench, visa: pyvisa.ResourceManager) -> None:
    for transport in ("hislip", "vxi11"):
        meter = plain(visa, bench.addresses[transport])
        if transport == "vxi11":  # a HiSLIP server has sent its reply by then, and PyVISA-py does not throw it away
            meter.write("*IDN?")
        meter.clear()
        assert float(meter.query("*ESE?")) == 0.0
        assert meter.read_stb() == 0
        meter.close()


def test_the_adapter_serves_a_client_of_its_own_kind(bench: VirtualBench, visa: pyvisa.ResourceManager) -> None:
    port = bench.addresses["prologix"].split("::")[2]
    adapter: Any = visa.open_resource(f"PRLGX-TCPIP5::127.0.0.1::{port}::INTFC")
    try:
        meter: Any = visa.open_resource("GPIB5::1::INSTR")
        other: Any = visa.open_resource("GPIB5::27::INSTR")
        assert "DAQ6510" in meter.query("*IDN?")
        assert "6517B" in other.query("*IDN?")
        meter.write(":SENS:VOLT:RANG +1E+1")  # a plus sign has to be escaped on the way
        assert float(meter.query(":SENS:VOLT:RANG?")) == 10.0
        meter.close()
        other.close()
    finally:
        adapter.close()


def test_lines_end_at_an_unescaped_end() -> None:
    buffer = bytearray(b"++addr 5\n*IDN?\r\nA\x1b\nB\x1b+\x1b\x1bC\nrest")
    lines = split_lines(buffer)
    assert lines == [b"++addr 5", b"*IDN?", b"A\x1b\nB\x1b+\x1b\x1bC"]
    assert unescaped(lines[2]) == b"A\nB+\x1bC"
    assert buffer == b"rest"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_our_session_speaks_every_transport(transport: str, bench: VirtualBench) -> None:
    session = open_session(transport, bench.addresses[transport], IDENTITY, visalib="@py")
    session.write(":SENS:VOLT:RANG +1E+1")
    assert float(session.query(":SENS:VOLT:RANG?")) == 10.0
    assert session.query_bytes("*IDN?", len(session.identity) + 1).decode().strip() == session.identity
    session.close()


@pytest.mark.parametrize("transport", ["hislip", "vxi11", "prologix"])
def test_a_dropped_link_is_made_new(transport: str, bench: VirtualBench) -> None:
    session = open_session(transport, bench.addresses[transport], Link("DAQ6510", first_timeout=1.0), visalib="@py")
    bench.side_door.inject(transport, "drop")
    with pytest.raises(InstrumentError):
        session.query("*IDN?", timeout=1.0)
    session.resynchronise()
    assert session.query("*IDN?") == session.identity
    session.close()


def test_two_instruments_share_one_adapter_link(bench: VirtualBench) -> None:
    one = open_session("one", bench.addresses["prologix"], IDENTITY, visalib="@py")
    two = open_session("two", bench.addresses["neighbour"], Link("6517B"), visalib="@py")
    assert "DAQ6510" in one.query("*IDN?")
    one.close()
    assert "6517B" in two.query("*IDN?")
    two.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transport": "telnet"}, "must be one of socket, serial, hislip, vxi11, prologix"),
        ({"transport": "prologix", "gpib": 31}, "cannot have GPIB address 31"),
        ({"transport": "hislip", "tcp_port": "x"}, "must be a whole number"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VirtualBench.start(plan(InstrumentPlan("meter", "KeithleyDAQ6510", options)))


def test_five_transports_on_one_bench_train_the_divider(tmp_path: Path) -> None:
    words = ["run", "voltage_divider", "--on", "virtual", "--json", "--data", str(tmp_path)]
    bench_file = str(ROOT / "protocols" / "benches" / "divider_five_transports.yaml")
    result = CliRunner().invoke(app, [*words, "--bench", bench_file, "--set", "stop.loss_below=1e-3 V^2"])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout.strip().splitlines()[-1])
    assert summary["outcome"] == "converged"
    assert abs(summary["outputs"]["V2"] - 4.0) < 0.035
