"""Keithley 707B: exact words of the driver, the emulated matrix, and one meter that reads many nodes through it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import pyvisa

from hil.bench import Target, assemble
from hil.core.errors import ConfigError, InstrumentError
from hil.core.types import SettlePolicy, Stimulus
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import read
from instruments.keithley_707b import Keithley707B
from simulated_backend.description import describe
from simulated_backend.devices import registry
from simulated_backend.network import Edge, Network, Node
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire
from simulated_backend.virtual_bench.process import VirtualBench
from tests.unit.instruments.conftest import Build

SHOW = 'print(errorqueue.count,channel.getclose("allslots"))'
RULE = "channel.connectrule=channel.BREAK_BEFORE_MAKE "


def test_it_opens_before_it_closes_and_moves_nothing_where_all_is_well(build: Build) -> None:
    matrix, _ = build(
        Keithley707B,
        (SHOW, "0.00000e+00\t2B01"),
        (f'{RULE}channel.open("1A03,1A04") channel.close("1A02") {SHOW}', "0.00000e+00\t1A02;2B01"),
        (SHOW, "0.00000e+00\t1A02;2B01"),
        (SHOW, "0.00000e+00\t1A02;2B01"),
        (f'{RULE}channel.open("1A02,1A04") channel.close("1A03") {SHOW}', "0.00000e+00\t1A03;2B01"),
        (SHOW, "0.00000e+00\t1A03"),
        (f'{RULE}channel.open("1A03") {SHOW}', "0.00000e+00\tnil"),
    )
    matrix.switch(["1A03", "1A04"], ["1A02"])
    matrix.switch(["1A03", "1A04"], ["1A02"])
    assert matrix.settings() == {"closed": ["1A02", "2B01"]}
    matrix.switch(["1A02", "1A04"], ["1A03"])
    matrix.switch(["1A03"], [])
    assert matrix.settings() == {"closed": []}


def test_a_crosspoint_that_opened_during_a_reading_is_an_error(build: Build) -> None:
    matrix, _ = build(Keithley707B, (SHOW, "0.00000e+00\t1A02;2B01"), (SHOW, "0.00000e+00\tnil"))
    matrix.require_closed("1A02")
    with pytest.raises(InstrumentError, match=r"opened 1A02 by itself during a reading"):
        matrix.require_closed("1A02")


def test_a_relay_that_did_not_follow_is_an_error_and_looked_at_again(build: Build) -> None:
    matrix, _ = build(
        Keithley707B,
        (SHOW, "0.00000e+00\t1A03"),
        (f'{RULE}channel.open("1A03") channel.close("1A02") {SHOW}', "0.00000e+00\t1A02;1A03"),
        (SHOW, "0.00000e+00\t1A03"),
        (f'{RULE}channel.open("1A03") channel.close("1A02") {SHOW}', "1.00000e+00\t1A03"),
        ("print(errorqueue.count)", "1.00000e+00"),
        ("print(errorqueue.next())", "-2.21000e+02\tSettings conflict\t2.00000e+01\t1.00000e+00"),
        ("print(errorqueue.count)", "0.00000e+00"),
    )
    with pytest.raises(InstrumentError, match=r"did not switch 1A03; closed now: 1A02, 1A03"):
        matrix.switch(["1A03"], ["1A02"])
    with pytest.raises(InstrumentError, match=r"-221 Settings conflict"):
        matrix.switch(["1A03"], ["1A02"])


@pytest.mark.parametrize("name", ["1A13", "7A01", "1I01", "1A1", "A01", "1A02,1A03", '1A02") reset('])
def test_what_is_no_crosspoint_never_reaches_the_wire(build: Build, name: str) -> None:
    matrix, _ = build(Keithley707B)
    with pytest.raises(ConfigError, match="is no crosspoint"):
        matrix.switch([], [name])


# On the emulated matrix ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    law = registry.law("ohmic")
    given = {"conductance": 1e-9}
    nodes = [Node("low", ground=True), Node("1"), Node("2"), Node("3")]
    edges = [Edge("a", "1", "2", law, given), Edge("b", "2", "3", law, given), Edge("c", "3", "low", law, given)]
    plan = BenchPlan(
        (
            InstrumentPlan("matrix", "Keithley707B", {"slots": 2}),
            InstrumentPlan("meter", "KeithleyDAQ6510"),
            InstrumentPlan("smu", "Keithley2450"),
        ),
        (Wire("smu", "", "1"), Wire("meter", "", "2", "matrix.1A02"), Wire("meter", "", "3", "matrix.1A03")),
        describe(Network.build(nodes, edges)),
        seed=6,
        ideal=False,
    )
    with VirtualBench.start(plan) as running:
        yield running


@pytest.fixture
def ask(bench: VirtualBench) -> Iterator[dict[str, pyvisa.resources.MessageBasedResource]]:
    manager = pyvisa.ResourceManager("@py")
    found = {}
    for name, address in bench.addresses.items():
        resource = manager.open_resource(address, read_termination="\n", write_termination="\n", timeout=60_000)
        assert isinstance(resource, pyvisa.resources.MessageBasedResource)
        found[name] = resource
    found["smu"].query(":SOUR:VOLT:ILIM 1e-6;:SOUR:VOLT 3;:OUTP ON;:OUTP?")
    found["meter"].query("*RST;:SENS:VOLT:RANG 10;:INP MOHM10;:SYST:ERR?")
    found["matrix"].query('reset() print(channel.getclose("allslots"))')
    yield found
    manager.close()


Resources = dict[str, pyvisa.resources.MessageBasedResource]


def test_only_a_closed_crosspoint_connects_and_loads(bench: VirtualBench, ask: Resources) -> None:
    assert bench.side_door.voltages()["2"] == pytest.approx(2.0, abs=4e-3)
    assert abs(float(ask["meter"].query(":READ?"))) < 1e-3  # an open input rests near 0 V
    assert ask["matrix"].query('channel.close("1A02") print(channel.getclose("slot1"))') == "1A02"
    assert bench.side_door.voltages()["2"] < 0.05  # 10 Mohm now stand at a node of 0.7 Gohm
    assert float(ask["meter"].query(":READ?")) == pytest.approx(bench.side_door.voltages()["2"], abs=1e-3)
    assert ask["matrix"].query('channel.exclusiveclose("1A03") print(channel.getclose("allslots"))') == "1A03"
    assert bench.side_door.voltages()["3"] < 0.05
    assert bench.side_door.troubles() == []
    assert ask["matrix"].query('channel.open("allslots") print(channel.getclose("allslots"))') == "nil"
    assert bench.side_door.voltages()["3"] == pytest.approx(1.0, abs=4e-3)


def test_the_language_of_the_manual(ask: Resources) -> None:
    matrix = ask["matrix"]
    assert matrix.query('channel.close("2A01:2A03, 1C05,2B01") print(channel.getclose("allslots"))') == "1C05;2A01;2A02;2A03;2B01"
    assert matrix.query('print(channel.getstate("2A03:2A05"))') == "1;0;0"
    assert matrix.query('channel.exclusiveslotclose("2A05") print(channel.getclose("allslots"))') == "1C05;2A05"
    for wrong in ('"3A01"', '"1A13"', '"1A01:1B02"', '"slot1"', "7"):
        assert matrix.query(f"channel.close({wrong}) print(errorqueue.count)") == "1.00000e+00"
        matrix.query("errorqueue.clear() print(0)")
    assert matrix.query('channel.setforbidden("1C05") channel.close("1C05") print(errorqueue.next())').startswith("-2.21000e+02")
    assert matrix.query('print(channel.getclose("slot1"))') == "nil"
    assert matrix.query("print(channel.connectrule, slot[3].idn)") == "1.00000e+00\tEmpty Slot"
    assert matrix.query("*IDN?") == "Keithley Instruments Inc., Model 707B, 1235678, 01.20a"


def test_tying_two_nodes_together_is_reported(bench: VirtualBench, ask: Resources) -> None:
    ask["matrix"].query('channel.connectrule=2 channel.close("1A02") channel.exclusiveclose("1A03") print(0)')
    assert any("tie the nodes '2' and '3' together" in sentence for sentence in bench.side_door.troubles())


# In a bench file ----------------------------------------------------------------------------------------------------

BENCH = """\
format: hil-bench/1
title: one voltmeter at two nodes
station:
  instruments:
    smu: {type: instruments.keithley_2450.Keithley2450, address: "TCPIP0::192.0.2.31::5025::SOCKET"}
    meter: {type: instruments.keithley_daq6510.KeithleyDAQ6510, address: "TCPIP0::192.0.2.32::5025::SOCKET"}
    matrix: {type: instruments.keithley_707b.Keithley707B, address: "TCPIP0::192.0.2.33::5025::SOCKET"}
twin:
  law: {name: conical_channel, preset: network, parallel: 20000}
  pressure: 1 bar
  concentration: 0.2 mM
  nodes: {"1": {}, "2": {cable_capacitance: 100 pF}, "3": {cable_capacitance: 100 pF}, "4": {ground: true}}
  edges: {a: {base: "1", tip: "2"}, b: {base: "2", tip: "3"}, c: {base: "3", tip: "4"}}
virtual: {seed: 4, plant: {}}
controls:
  V1: {node: "1", parameter: smu.volt, limits: [0 V, 5 V], slew: 20 V/s, compliance: 10 uA, safe: 0 V}
outputs:
  V2: {node: "2", parameter: meter.volt, through: matrix.1A02, setup: {range: 10 V, nplc: 1}}
  V3: {node: "3", parameter: meter.volt, through: matrix.1A03, setup: {range: 10 V, nplc: 1}}
"""


def bench_file(folder: Path, old: str = "", new: str = "") -> BenchFile:
    path = folder / "bench.yaml"
    assert old in BENCH
    path.write_text(BENCH.replace(old, new))
    return read(path).model(BenchFile)


def test_one_meter_reads_two_nodes_one_after_the_other(tmp_path: Path) -> None:
    file = bench_file(tmp_path)
    policy = SettlePolicy(tolerance=1e-3, window=0.3, timeout=60.0)
    with assemble(file, Target.SIMULATED) as simulated, simulated.backend as backend:
        rest = [channel.safe.value for channel in backend.capabilities.controls][1:]
        want = backend.measure([Stimulus.of([4.5, *rest])], policy).values[0]
    with assemble(file, Target.VIRTUAL) as virtual, virtual.backend as backend:
        got = backend.measure([Stimulus.of([4.5])], policy, samples=3)
        door = virtual.virtual.side_door
        assert door.troubles() == []  # never were two nodes tied together
        assert backend.snapshot()["outputs"]["V3"]["through"] == "matrix.1A03"
        loaded = door.voltages()
    assert not got.overload.any()
    assert want[0] - want[1] > 0.5
    # 10 Gohm at nodes of some 10 Mohm take 0.1 %, and only where the crosspoint is closed
    assert got.values[0] == pytest.approx(want, rel=4e-3)
    assert got.values[0, 1] == pytest.approx(loaded["3"], abs=1e-3)


def test_a_reading_during_which_the_matrix_was_switched_off_and_on_does_not_count(tmp_path: Path) -> None:
    policy = SettlePolicy(tolerance=1e-3, window=0.3, timeout=60.0)
    with assemble(bench_file(tmp_path), Target.VIRTUAL) as virtual, virtual.backend as backend:
        backend.measure([Stimulus.of([4.5])], policy)
        # Its messages of one reading: look, switch, look again. A restart just before the third opens V2 under the meter.
        virtual.virtual.side_door.inject("matrix", "restart", after=3)
        with pytest.raises(InstrumentError, match=r"opened 1A02 by itself during a reading"):
            backend.read(1)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("matrix.1A03", "matrix.1A02", "used by 'V2' already"),
        ("through: matrix.1A03, ", "", "one parameter, one channel"),
        ("matrix.1A03", "switch.1A03", "switch matrix in the station"),
        ("matrix.1A03", "matrix.1A99", "no crosspoint"),
        ("matrix.1A03", "meter.1A03", "no switch matrix"),
        ("through: matrix.1A03, setup: {range: 10 V", "through: matrix.1A03, setup: {range: 1 V", "not its settings"),
    ],
)
def test_wrong_crosspoints_are_refused_before_anything_is_opened(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        assemble(bench_file(tmp_path, old, new), Target.SIMULATED)


def test_a_matrix_that_was_switched_off_and_on_is_closed_again(bench: VirtualBench, ask: Resources) -> None:
    matrix = Keithley707B("matrix", bench.addresses["matrix"])
    try:
        matrix.switch(["1A03"], ["1A02"])
        ask["matrix"].query("reset() print(0)")
        assert matrix.closed() == set()
        matrix.switch(["1A03"], ["1A02"])
        assert matrix.closed() == {"1A02"}
    finally:
        matrix.close()
