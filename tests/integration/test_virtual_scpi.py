"""The virtual bench as a program meets it: a child process, VISA addresses, plain PyVISA, and third-party drivers."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvisa
from pyvisa.resources import MessageBasedResource

from hil.core.errors import BackendClosedError, ConfigError, InstrumentError
from simulated_backend.description import describe, with_salt
from simulated_backend.devices import registry
from simulated_backend.network import Edge, Network, Node
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire
from simulated_backend.virtual_bench.process import VirtualBench

ROOT = Path(__file__).resolve().parents[2]
CAPACITANCE = 100e-12


def divider(parallel: float) -> dict[str, object]:
    law = registry.law("conical_channel", preset="network")
    nodes = [Node("1"), Node("2", capacitance=CAPACITANCE), Node("3", ground=True)]
    edges = [Edge("a", "1", "2", law, {}, parallel), Edge("b", "2", "3", law, {}, parallel)]
    return describe(Network.build(*with_salt(nodes, edges)))


def bench_plan(parallel: float = 20_000.0, **options: Any) -> BenchPlan:
    instruments = (
        InstrumentPlan("meter", "KeithleyDAQ6510"),
        InstrumentPlan("electrometer", "Keithley6517B"),
        InstrumentPlan("pace1", "DruckPACE6000"),
        InstrumentPlan("pace2", "DruckPACE6000"),
    )
    wires = (
        Wire("electrometer", "vsource", "1"),
        Wire("meter", "ch101", "1"),
        Wire("meter", "ch102", "2"),
        Wire("pace1", "a", "1"),
        Wire("pace1", "b", "2"),
        Wire("pace2", "a", "3"),
    )
    return BenchPlan(instruments, wires, divider(parallel), **options)


@pytest.fixture
def visa() -> Iterator[pyvisa.ResourceManager]:
    manager = pyvisa.ResourceManager("@py")
    yield manager
    manager.close()


def open_at(visa: pyvisa.ResourceManager, address: str) -> MessageBasedResource:
    resource = visa.open_resource(address, read_termination="\n", write_termination="\n", timeout=60_000)
    assert isinstance(resource, MessageBasedResource)
    if address.endswith("SOCKET"):  # else Nagle keeps the second of two writes back until the first is acknowledged
        link = visa.visalib.sessions[resource.session].interface
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return resource


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    with VirtualBench.start(bench_plan(ideal=True)) as running:
        yield running


@pytest.mark.skipif(sys.platform == "win32", reason="serial ports are emulated over sockets there")
def test_the_address_of_a_serial_instrument_ends_with_its_bench_and_is_never_another_ones() -> None:
    with VirtualBench.start(bench_plan(ideal=True)) as running:
        first = running.addresses["electrometer"]
        path = Path(first.removeprefix("ASRL").removesuffix("::INSTR"))
        assert path.exists()
    assert not path.parent.exists(), "a guard that still asks there must not reach the next bench"
    with VirtualBench.start(bench_plan(ideal=True)) as running:
        assert running.addresses["electrometer"] != first


def test_addresses_are_visa_names_on_this_machine_only(bench: VirtualBench) -> None:
    assert bench.addresses["meter"].startswith("TCPIP0::127.0.0.1::")
    if sys.platform == "linux":
        assert bench.addresses["electrometer"].endswith("/electrometer::INSTR")
        listening = set()
        for line in Path(f"/proc/{bench.pid}/net/tcp").read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A":
                listening.add(local)
        for name in ("meter", "pace1", "pace2"):
            port = int(bench.addresses[name].split("::")[2])
            assert f"0100007F:{port:04X}" in listening
            assert f"00000000:{port:04X}" not in listening


def test_plain_pyvisa_drives_all_instruments_on_one_plant(bench: VirtualBench, visa: pyvisa.ResourceManager) -> None:
    meter, electrometer, pace = (open_at(visa, bench.addresses[name]) for name in ("meter", "electrometer", "pace1"))
    assert meter.query("*IDN?").startswith("KEITHLEY INSTRUMENTS,MODEL DAQ6510")
    assert electrometer.query("*IDN?").startswith("KEITHLEY INSTRUMENTS INC.,MODEL 6517B")
    assert "PACE6000" in pace.query("*IDN?")
    electrometer.write("SOUR:VOLT 5;:OUTP ON")
    meter.write("SENS:VOLT:RANG 10,(@101:102);INP AUTO,(@101:102)")
    meter.write("ROUT:SCAN:CRE (@101:102)")
    for command in (
        "UNIT BAR",
        "UNIT2 BAR",
        "SOUR:PRES:SLEW:MODE LIN",
        "SOUR:PRES:SLEW 0.05",
        "SOUR 1.02",
        "SOUR2 1",
        "OUTP 1",
        "OUTP2 1",
    ):
        pace.write(command)
    pace2 = open_at(visa, bench.addresses["pace2"])
    pace2.write("UNIT BAR;:SOUR 1;:OUTP 1")
    assert pace2.query("SYST:ERR?") == ":SYST:ERR 0, No error"
    bench.clock.sleep(30.0)
    assert pace.query("SENS:PRES:INL?") == ":SENS:PRES:INL 1.0200000, 1"
    meter.write("INIT")
    values = [float(part) for part in meter.query("TRAC:DATA? 1, 2").split(",")]
    true = bench.side_door.voltages()
    assert values == pytest.approx([5.0, true["2"]], abs=1.1e-5)
    # node 1 is 20 mbar above the others: the upper channels conduct more, the output rises by more than 0.2 V
    assert 2.7 < true["2"] < 3.2
    assert bench.side_door.pressures() == pytest.approx({"1": 1.02e5, "2": 1e5, "3": 1e5})
    assert bench.side_door.extremes()["pressure_difference"]["a"][1] == pytest.approx(2e3, abs=1.0)
    assert bench.side_door.troubles() == []
    electrometer.write("OUTP OFF")


def test_time_passes_only_by_durations(bench: VirtualBench, visa: pyvisa.ResourceManager) -> None:
    meter = open_at(visa, bench.addresses["meter"])
    meter.write("*RST;:SENS:VOLT:RANG 10;NPLC 10;AZER OFF")
    before = bench.clock.now()
    started = time.perf_counter()
    meter.query("READ?")
    bench.clock.sleep(3600.0)
    assert bench.clock.now() - before == pytest.approx(3600.2)
    assert time.perf_counter() - started < 1800.0, "it waited for the hour"
    with pytest.raises(ValueError, match="backwards"):
        bench.clock.sleep(-1.0)


def test_a_voltmeter_takes_a_single_channels_voltage_and_an_electrometer_millivolts(visa: pyvisa.ResourceManager) -> None:
    """One channel is 120 Gohm; the divider's working point 236 Gohm. By hand: V2 is where the edges carry the load's current."""
    law = registry.law("conical_channel", preset="network")
    network = Network.build(*with_salt([Node("x"), Node("y")], [Edge("a", "x", "y", law, {})]))

    def current(volts: float) -> float:
        from simulated_backend.devices.base import EdgeDrive

        salt = np.array([network.nodes[0].concentration])
        drive = EdgeDrive(np.array([volts]), np.zeros(1), salt, salt)
        return float(law.steady(network.groups[0].parameters, drive)[0][0])

    def by_hand(load: float) -> float:
        low, high = 0.0, 5.0
        for _ in range(200):
            middle = 0.5 * (low + high)
            if current(5.0 - middle) - current(middle) - middle / load > 0.0:
                low = middle
            else:
                high = middle
        return low

    names = (InstrumentPlan("meter", "KeithleyDAQ6510"), InstrumentPlan("source", "Keithley6517B", {"transport": "socket"}))
    electrometer = InstrumentPlan("reader", "Keithley6517B")
    wires = (Wire("source", "vsource", "1"), Wire("meter", "", "2"))
    lost = []
    for instruments, wired in ((names, wires), ((names[1], electrometer), (wires[0], Wire("reader", "", "2")))):
        with VirtualBench.start(BenchPlan(instruments, wired, divider(1.0), seed=3)) as running:
            open_at(visa, running.addresses["source"]).write("SOUR:VOLT 5;:OUTP ON")
            reader = open_at(visa, running.addresses[instruments[1].name if wired is not wires else "meter"])
            if wired is wires:
                reader.write("SENS:VOLT:RANG 10;INP AUTO")
            else:
                reader.write("SYST:ZCH OFF;:SENS:VOLT:RANG 20;:FORM:ELEM READ")
            running.clock.sleep(20_000.0)
            reading = float(reader.query("READ?"))
            assert reading == pytest.approx(running.side_door.voltages()["2"], abs=1e-3)
            port = running.side_door.sources()[instruments[1].name if wired is not wires else "meter"][""]
            load = port["input_resistance"]
            # the bias current acts like a further load at this voltage
            effective = 1.0 / (1.0 / load - port["bias_current"] / running.side_door.voltages()["2"])
            assert running.side_door.voltages()["2"] == pytest.approx(by_hand(effective), rel=1e-6)
            lost.append(2.5 - reading)
    assert lost[0] / 2.5 == pytest.approx(0.95, abs=0.03)  # the rest is this meter's bias current
    assert 0.5e-3 < lost[1] < 8e-3


def test_pymeasure_drives_the_daq6510(bench: VirtualBench, visa: pyvisa.ResourceManager) -> None:
    from pymeasure.instruments.keithley import KeithleyDAQ6510

    electrometer = open_at(visa, bench.addresses["electrometer"])
    electrometer.write("SOUR:VOLT 4;:OUTP ON")
    daq = KeithleyDAQ6510(bench.addresses["meter"], visa_library="@py", read_termination="\n", write_termination="\n")
    daq.reset()
    daq.clear()
    daq.measure_voltage(nplc=2, voltage=10, auto_range=False)
    daq.close_channel(101)
    assert daq.voltage_range == 10.0
    assert daq.voltage_nplc == 2.0
    assert daq.voltage == pytest.approx(4.0, abs=1.1e-5)
    daq.open_channel(101)
    assert daq.check_errors() == []
    daq.adapter.close()
    electrometer.write("OUTP OFF")


def test_pymeasure_drives_the_6517b(bench: VirtualBench) -> None:
    from pymeasure.instruments.keithley import Keithley6517B

    em = Keithley6517B(bench.addresses["electrometer"], visa_library="@py", read_termination="\n", write_termination="\n")
    em.reset()
    em.write("SYST:ZCH OFF")
    em.apply_voltage(voltage_range=100)
    em.source_voltage = 3.0
    em.enable_source()
    assert em.source_voltage == 3.0
    assert em.source_enabled
    em.measure_voltage(nplc=1, voltage=20, auto_range=False)
    assert em.voltage == pytest.approx(0.0, abs=1e-3)  # its own input is open
    em.disable_source()
    assert not em.source_enabled
    em.adapter.close()


def test_faults_can_be_put_on_an_instrument(bench: VirtualBench, visa: pyvisa.ResourceManager) -> None:
    meter = open_at(visa, bench.addresses["meter"])
    bench.side_door.inject("meter", "silence")
    meter.timeout = 200
    with pytest.raises(pyvisa.VisaIOError):
        meter.query("*OPC?")
    meter.timeout = 60_000
    assert meter.query("*OPC?") == "1"
    bench.side_door.inject("meter", "garbage", 1)
    with pytest.raises((UnicodeDecodeError, AssertionError)):
        assert meter.query("*OPC?") == "1"
    meter.write("SENS:VOLT:RANG 10")
    bench.side_door.inject("meter", "restart")
    again = open_at(visa, bench.addresses["meter"])
    assert again.query("SENS:VOLT:RANG:AUTO?") == "1"
    with pytest.raises(ValueError, match=r"there is no fault 'fire'"):
        bench.side_door.inject("meter", "fire")
    with pytest.raises(ValueError, match=r"there is no instrument 'oven'"):
        bench.side_door.inject("oven", "drop")
    with pytest.raises(ValueError, match=r"does not know the question 'nothing'"):
        bench.ask("nothing")


def test_what_was_written_before_is_obeyed_before_the_side_door_acts(bench: VirtualBench) -> None:
    door = bench.side_door
    with socket.create_connection(("127.0.0.1", int(bench.addresses["meter"].split("::")[2])), timeout=60) as link:
        door.renew()
        link.sendall(b"SENS:VOLT:RANG 10\n" * 1000)
        assert door.messages()["meter"] == 1000
        link.sendall(b"SENS:VOLT:RANG 10\n" * 1000)
        door.inject("meter", "silence", after=1)
        assert door.happened() == [], "it strikes at the next message, and none has come since"
        link.sendall(b"SENS:VOLT:RANG 10\n" * 1000)
        door.renew()
        link.sendall(b"*CLS\n")
        assert door.messages()["meter"] == 1


def test_a_limit_on_clients_turns_further_ones_away() -> None:
    plan = BenchPlan((InstrumentPlan("meter", "KeithleyDAQ6510", {"clients": 1}),), (), divider(1e4), frozen=True)
    with VirtualBench.start(plan) as running:
        port = int(running.addresses["meter"].split("::")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=60) as first:
            first.sendall(b"*OPC?\n")
            assert first.recv(16) == b"1\n"
            with socket.create_connection(("127.0.0.1", port), timeout=60) as second:
                assert second.recv(16) == b""


def test_real_time_waits_and_serves_others_meanwhile(visa: pyvisa.ResourceManager) -> None:
    with VirtualBench.start(bench_plan(ideal=True, real_time=True)) as running:
        slow, other = open_at(visa, running.addresses["meter"]), open_at(visa, running.addresses["pace1"])
        started = time.monotonic()
        slow.query("SENS:VOLT:RANG 10;NPLC 12;AZER OFF;:SENS:COUN 1;:READ?")
        assert time.monotonic() - started >= 0.2  # 12 periods of the mains at 60 Hz, or more
        slow.write("SENS:COUN 1000;:READ?")  # minutes
        other.query("*IDN?")
        slow.timeout = 10
        with pytest.raises(pyvisa.VisaIOError, match="VI_ERROR_TMO"):
            slow.read()


def test_startup_errors_are_one_sentence() -> None:
    plan = BenchPlan((InstrumentPlan("meter", "KeithleyDAQ6510"),), (Wire("meter", "ch999", "1"),), divider(1.0))
    with pytest.raises(ConfigError, match=r"the virtual bench cannot start: instrument 'meter' has no port 'ch999'"):
        VirtualBench.start(plan)


def test_the_child_ends_with_its_program() -> None:
    script = (
        "import os, sys\n"
        "from simulated_backend.virtual_bench.plan import BenchPlan\n"
        "from simulated_backend.virtual_bench.process import VirtualBench\n"
        "bench = VirtualBench.start(BenchPlan.from_json(sys.stdin.read()))\n"
        "print(bench.pid, flush=True)\n"
        "os._exit(9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=bench_plan().to_json(),
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        state = Path(f"/proc/{pid}/stat")
        if state.exists() and state.read_text().split(")")[1].split()[0] == "Z":
            return
        time.sleep(0.02)
    pytest.fail(f"the child {pid} outlived its program")


def test_a_stopped_or_killed_bench_says_so() -> None:
    running = VirtualBench.start(BenchPlan((InstrumentPlan("pace", "DruckPACE6000"),), (), divider(1e4)))
    running._process.kill()
    running._process.wait()
    with pytest.raises(InstrumentError, match="process of the virtual bench has ended"):
        running.clock.now()
    running.stop()
    running.stop()
    with pytest.raises(BackendClosedError, match="has been stopped"):
        running.clock.now()


def test_a_frozen_bench_answers_its_first_operating_point(visa: pyvisa.ResourceManager) -> None:
    with VirtualBench.start(bench_plan(frozen=True, ideal=True)) as running:
        meter, electrometer = (open_at(visa, running.addresses[name]) for name in ("meter", "electrometer"))
        meter.write("SENS:VOLT:RANG 10,(@101);INP AUTO,(@101);:ROUT:CLOS (@101)")
        first, true = meter.query("READ?"), running.side_door.voltages()
        electrometer.write("SOUR:VOLT 5;:OUTP ON")
        running.clock.sleep(3600.0)
        assert {meter.query("READ?") for _ in range(20)} == {first}
        assert running.side_door.voltages() == true
