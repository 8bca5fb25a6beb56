"""Every source-measure unit drives the divider in a bench file: on the virtual target, through its driver, within its limits."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hil.bench import Target, assemble
from hil.bench_layout import control_channels, envelope
from hil.bench_network import node_rest, twin_network
from hil.core.errors import InstrumentError, LimitExceededError
from hil.core.types import Layout, SettlePolicy, Stimulus
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import read
from instruments.guard_instrument import Instrument
from instruments.guard_plan import guard_plan
from instruments.roles import SourcePlan
from instruments.station import driver_class
from instruments.wiring import ControlWire, InstrumentSpec
from simulated_backend.virtual_bench.process import VirtualBench
from tests.smu_rig import PORTS, resistors

BENCH = """\
format: hil-bench/1
title: divider of two membranes, driven by one unit that also reads its current
station:
  instruments:
    smu: {{type: {type}, address: "TCPIP0::192.0.2.31::5025::SOCKET", options: {{timeout: 5.0}}}}
    meter: {{type: instruments.keithley_daq6510.KeithleyDAQ6510, address: "TCPIP0::192.0.2.32::5025::SOCKET"}}
twin:
  law: {{name: conical_channel, preset: network, parallel: 20000}}
  pressure: 1 bar
  concentration: 0.2 mM
  nodes:
    "1": {{}}
    "2": {{cable_capacitance: 100 pF}}
    "3": {{ground: true}}
  edges:
    a: {{base: "1", tip: "2"}}
    b: {{base: "2", tip: "3"}}
virtual: {{seed: 4, plant: {{}}}}
controls:
  V1: {{node: "1", parameter: {port}.volt, limits: [-1 V, 5 V], slew: 20 V/s, compliance: {compliance}, safe: {safe}}}
outputs:
  V2: {{node: "2", parameter: meter.volt, setup: {{range: 10 V, nplc: 1}}}}
  I1: {{node: "1", parameter: {port}.curr, setup: {{nplc: 1}}}}
"""
POLICY = SettlePolicy(tolerance=1e-3, window=0.2, timeout=60.0)


def bench(driver: str, folder: Path, *, compliance: str = "10 uA", safe: str = "0 V") -> BenchFile:
    path = folder / "bench.yaml"
    kind, port = PORTS[driver]
    path.write_text(BENCH.format(type=kind, port=f"smu.{port}" if port else "smu", compliance=compliance, safe=safe))
    return read(path).model(BenchFile)


@pytest.fixture(params=sorted(PORTS))
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_it_drives_the_divider_and_reads_its_own_current(driver: str, tmp_path: Path) -> None:
    file = bench(driver, tmp_path)
    with assemble(file, Target.SIMULATED) as simulated, simulated.backend as backend:
        controls = len(backend.capabilities.controls)
        want = backend.measure([Stimulus.of([volts, *_rest(backend, controls)]) for volts in (2.0, 4.0)], POLICY).values
    with assemble(file, Target.VIRTUAL) as virtual, virtual.backend as backend:
        got = backend.measure([Stimulus.of([2.0]), Stimulus.of([4.0])], POLICY)
        assert not got.overload.any()
        # 10 Gohm of the meter take 0.1 %; source and meter of the unit keep their one-year limits on 20 V.
        np.testing.assert_allclose(got.values[:, 0], want[:, 0], rtol=3e-3, atol=3e-3)
        np.testing.assert_allclose(got.values[:, 1], want[:, 1], rtol=8e-3, atol=2e-9)
        backend.make_safe()
        virtual.clock.sleep(1.0)  # an output that is off holds 0 V with a few nA only, and the cable discharges through it
        assert abs(virtual.virtual.side_door.voltages()["1"]) < 10e-3
        smu = virtual.virtual.side_door.sources()["smu"][PORTS[driver][1]]
        assert smu["source"] == "VoltageSource"  # held at 0 V, as the bench file says


def _rest(backend: object, count: int) -> list[float]:
    channels = backend.capabilities.controls
    return [channel.safe.value for channel in channels][1:count]


def test_at_its_compliance_readings_are_marked(driver: str, tmp_path: Path) -> None:
    with assemble(bench(driver, tmp_path, compliance="50 nA"), Target.VIRTUAL) as virtual, virtual.backend as backend:
        said: list[str] = []
        virtual.warnings.listen(said.append)
        got = backend.measure([Stimulus.of([4.0])], POLICY)
        assert got.overload.all()
        assert abs(virtual.virtual.side_door.sources()["smu"][PORTS[driver][1]]["current"]) < 56e-9
    assert any("at compliance" in sentence and "'V1' (5e-08 A)" in sentence for sentence in said)


def test_limits_are_kept_and_a_floating_terminal_is_let_go(driver: str, tmp_path: Path) -> None:
    with assemble(bench(driver, tmp_path, safe="high_impedance"), Target.VIRTUAL) as virtual, virtual.backend as backend:
        with pytest.raises(LimitExceededError, match=r"5\.5 V"):
            backend.apply(Stimulus.of([5.5]))
        backend.apply(Stimulus.of([1.0]))
        backend.make_safe()
        door = virtual.virtual.side_door.sources()["smu"][PORTS[driver][1]]
        assert door["source"] == "Open"


def test_a_list_of_levels_equals_the_same_levels_one_by_one(driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = bench(driver, tmp_path)
    del file.outputs["V2"]  # a list is run by one instrument, with its own meter
    levels = [[0.5 + 0.3 * k] for k in range(5)]
    kind = driver_class(InstrumentSpec("smu", PORTS[driver][0], "TCPIP0::192.0.2.31::5025::SOCKET"))
    prepare = kind.list_acquisition
    prepared = []
    monkeypatch.setattr(kind, "list_acquisition", lambda *given: prepared.append(given) or prepare(*given))
    with assemble(file, Target.VIRTUAL) as virtual, virtual.backend as backend:
        stimuli = [Stimulus.of(row) for row in levels]
        listed = backend.measure(stimuli, replace(POLICY, dwell=0.05), samples=2)
        assert len(prepared) == 1
        assert backend.terminals()["V1"] == pytest.approx(levels[-1][0])
        single = [backend.measure([stimulus], POLICY, samples=2).values[0, 0] for stimulus in stimuli]
        assert len(prepared) == 1
    assert not listed.overload.any()
    assert np.all(np.diff(listed.time) > 0.0)
    np.testing.assert_allclose(listed.values[:, 0], single, rtol=8e-3, atol=2e-9)


def test_the_guard_switches_it_off_with_nothing_but_an_address(driver: str, tmp_path: Path) -> None:
    file = bench(driver, tmp_path)
    layout = Layout(control_channels(file, node_rest(twin_network(file))))
    kind, port = PORTS[driver]
    with VirtualBench.start(resistors(driver, {"1": port})) as running:
        spec = InstrumentSpec("smu", kind, running.addresses["it"])
        unit = driver_class(spec)("smu", spec.address)
        try:
            unit.port(port).configure_source(SourcePlan(layout["V1"].quantity, 0.0, 5.0, 1e-5, 1.0))
            unit.port(port).enable(1.0)
        finally:
            unit.close()
        assert running.side_door.voltages()["1"] == pytest.approx(1.0, abs=0.02)
        wire = ControlWire(layout["V1"], f"smu.{port}.volt" if port else "smu.volt", 1e-5)
        said: list[str] = []
        plan = guard_plan([spec], {"smu": driver_class(spec)}, [wire], {}, envelope(file, layout, "t"), said.append)
        (instrument,) = plan["instruments"]
        rescued = Instrument(instrument, said.append, time.monotonic() + 240.0)
        try:
            rescued.start()
        finally:
            rescued.close()
        assert said == []
        door = running.side_door.sources()["it"][port]
        assert door["source"] == "VoltageSource"
        assert abs(float(str(door["level"]))) < 0.06
        assert abs(running.side_door.voltages()["1"]) < 0.06


FAULTS = [
    ("restart", 1.0, "", "was switched off and on"),
    ("drift", 0.5, "port", "stuck or drifts"),
]


def test_what_goes_wrong_inside_it_is_an_error_and_what_goes_wrong_on_the_line_is_overcome(driver: str, tmp_path: Path) -> None:
    with assemble(bench(driver, tmp_path), Target.VIRTUAL) as virtual:
        door = virtual.virtual.side_door
        for fault, amount, where, sentence in FAULTS:
            with virtual.backend as backend:
                backend.measure([Stimulus.of([2.0])], POLICY)
                door.inject("smu", fault, amount, where=PORTS[driver][1] if where else "", after=1)
                with pytest.raises(InstrumentError, match=sentence):
                    backend.measure([Stimulus.of([2.0])] * 3, POLICY)
            door.renew()
        with virtual.backend as backend:
            said: list[str] = []
            virtual.warnings.listen(said.append)
            backend.apply(Stimulus.of([2.0]))
            backend.settle(POLICY)
            before = backend.read()
            door.inject("smu", "garbage", 1.0, after=1)
            after = backend.read()
            assert after.values == pytest.approx(before.values, rel=5e-3, abs=2e-3)
            assert any("was repeated" in sentence for sentence in said)
