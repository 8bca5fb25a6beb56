"""A matched pair on the two channels of one emulated 2602B: driven apart, measured at one moment."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from hil.core.errors import LimitExceededError
from hil.core.safety import SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, SettlePolicy, Stimulus
from instruments.backend import InstrumentBackend
from instruments.wiring import ControlWire, InstrumentSpec, OutputWire
from simulated_backend.description import describe
from simulated_backend.devices.registry import law
from simulated_backend.network import Edge, Network, Node
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire
from simulated_backend.virtual_bench.process import VirtualBench

G = (2e-6, 3e-6)
POLICY = SettlePolicy(tolerance=1e-8, window=0.02, timeout=5.0)
V = Channel("V", Quantity.VOLTAGE, Kind.DRIVE, -2.0, 2.0, max_slew=20.0, node="1")
CURRENT = Channel("I", Quantity.CURRENT, Kind.SENSE, node="1")
REPLICAS = {"A": {"V": "smu.smua.volt", "I": "smu.smua.curr"}, "B": {"V": "smu.smub.volt", "I": "smu.smub.curr"}}


@pytest.fixture(scope="module")
def running() -> Iterator[VirtualBench]:
    ohmic = law("ohmic")
    network = Network.build(
        [Node("1"), Node("2"), Node("0", ground=True)],
        [Edge("a", "1", "0", ohmic, {"conductance": G[0]}), Edge("b", "2", "0", ohmic, {"conductance": G[1]})],
    )
    wires = (Wire("smu", "smua", "1"), Wire("smu", "smub", "2"))
    with VirtualBench.start(BenchPlan((InstrumentPlan("smu", "Keithley2602B"),), wires, describe(network), seed=5)) as bench:
        yield bench


@pytest.fixture
def pair(running: VirtualBench) -> Iterator[InstrumentBackend]:
    backend = InstrumentBackend(
        "pair",
        [InstrumentSpec("smu", "instruments.keithley_2600.Keithley2602B", running.addresses["smu"])],
        [ControlWire(V, "smu.smua.volt", 1e-5, {"nplc": 1.0, "current_range": 1e-5})],
        [OutputWire(CURRENT, "smu.smua.curr")],
        SafetyEnvelope.of(Layout((V,))),
        running.clock,
        replicas=REPLICAS,
        simultaneous=[("A", "B")],
    )
    with backend:
        yield backend


def rows(*pairs: tuple[float, float]) -> list[list[Stimulus]]:
    return [[Stimulus.of([one]), Stimulus.of([other])] for one, other in pairs]


@pytest.mark.parametrize("dwell", [None, 0.01])
def test_both_devices_are_measured_at_their_own_voltage(pair: InstrumentBackend, dwell: float | None) -> None:
    drive = [(0.1, 0.2), (0.3, -0.1), (0.5, 0.4), (0.2, 0.1)]
    measured = pair.measure_replicas(rows(*drive), replace(POLICY, dwell=dwell), samples=4)
    # 10 uA range: 0.025 % and 1.5 nA; the source: 0.02 % and 1.8 mV
    assert measured[:, :, 0] == pytest.approx(np.array(drive) * G, abs=1e-8, rel=1e-3)


def test_the_two_apertures_are_one(pair: InstrumentBackend, running: VirtualBench) -> None:
    pair.measure_replicas(rows((0.1, 0.2)), POLICY)
    begun = running.clock.now()
    pair._reader((0, 1))(10)
    taken = running.clock.now() - begun
    # ten readings of 20 ms on both channels: one after the other they would take twice as long
    assert 0.19 < taken < 0.35


def test_compliance_marks_the_device_it_befell_and_no_other(pair: InstrumentBackend) -> None:
    pair.measure_replicas(rows((0.1, 0.1)), POLICY)
    pair._drives[1][0].instrument.smub.limiti(1e-7)  # 0.3 V would draw 0.9 uA there
    measured = pair.measure_replicas(rows((0.3, 0.3)), POLICY)
    assert measured[0, 0, 0] == pytest.approx(0.3 * G[0], abs=1e-8)
    assert np.isnan(measured[0, 1, 0])


def test_a_stimulus_outside_the_limits_of_either_is_refused(pair: InstrumentBackend, running: VirtualBench) -> None:
    with pytest.raises(LimitExceededError, match="'V'"):
        pair.measure_replicas(rows((0.1, 0.1), (0.1, 2.1)), POLICY)
    assert running.side_door.voltages()["1"] == pytest.approx(0.0, abs=1e-3)
