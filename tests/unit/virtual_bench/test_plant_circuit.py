"""The plant's electrical physics against hand calculations."""

from math import exp, inf
from typing import Any

import numpy as np
import pytest

from hil.core.errors import ConfigError, NotConvergedError
from simulated_backend.description import describe, with_salt
from simulated_backend.devices import registry
from simulated_backend.network import Edge, Network, Node
from simulated_backend.virtual_bench.circuit import Circuit
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire
from simulated_backend.virtual_bench.plant import Plant
from simulated_backend.virtual_bench.ports import CurrentSource, Open, VoltageSource


def ohmic_divider(resistance: float = 1e9, capacitance: float = 0.0) -> Network:
    law = registry.law("ohmic")
    edges = [Edge("a", "1", "2", law, {"conductance": 1 / resistance}), Edge("b", "2", "3", law, {"conductance": 1 / resistance})]
    return Network.build([Node("1"), Node("2", capacitance=capacitance), Node("3", ground=True)], edges)


def channel_divider(parallel: float = 20_000.0, capacitance: float = 100e-12, mixed: bool = False) -> Network:
    law = registry.law("conical_channel", preset="network")
    nodes = [Node("1"), Node("2", capacitance=capacitance), Node("3", ground=True)]
    lower = ("3", "2") if mixed else ("2", "3")
    edges = [Edge("a", "1", "2", law, {}, parallel), Edge("b", *lower, law, {}, parallel)]
    return Network.build(*with_salt(nodes, edges))


def plant_of(network: Network, **options: Any) -> Plant:
    instruments = (InstrumentPlan("source", "any"), InstrumentPlan("meter", "any"))
    wires = (Wire("source", "hi", "1"), Wire("meter", "", "2"), Wire("meter", "second", "2"))
    plant = Plant(BenchPlan(instruments, wires, describe(network), **options))
    plant.lock.acquire()
    for instrument, port in (("source", "hi"), ("meter", ""), ("meter", "second"), ("source", "spare")):
        plant.electrical(instrument, port)
    if not plant._plan.frozen:
        plant.node_voltages()  # everything at rest with all sources off
    return plant


def test_a_loaded_divider_shows_what_kirchhoff_says() -> None:
    plant = plant_of(ohmic_divider(1e9))
    source, meter = plant.electrical("source", "hi"), plant.electrical("meter", "")
    source.set_source(VoltageSource(5.0))
    meter.set_load(10e9, 20e-12)
    (row,) = plant.observe([source, meter], 0.01)
    # node 2: (5 - v)/1G + (0 - v)/1G - v/10G + 20 pA = 0
    expected = (5.0 / 1e9 + 20e-12) / (2 / 1e9 + 1 / 10e9)
    assert row[1].voltage == pytest.approx(expected, rel=1e-10)
    assert row[1].current == pytest.approx(20e-12 - expected / 10e9, rel=1e-9)
    assert row[0].current == pytest.approx((5.0 - expected) / 1e9, rel=1e-10)


def test_a_source_at_its_limit_drives_exactly_the_limit_and_comes_back() -> None:
    plant = plant_of(ohmic_divider(1e6))
    source, meter = plant.electrical("source", "hi"), plant.electrical("meter", "")
    source.set_source(VoltageSource(5.0, 1e-6))
    (row,) = plant.observe([source, meter], 0.0)
    assert row[0] == pytest.approx((2.0, 1e-6, True))
    source.set_source(VoltageSource(1.0, 1e-6))
    (row,) = plant.observe([source, meter], 0.0)
    assert row[0] == pytest.approx((1.0, 0.5e-6, False))
    source.set_source(VoltageSource(-5.0, 1e-6))
    assert plant.observe([source], 0.0)[0][0] == pytest.approx((-2.0, -1e-6, True))


def test_a_current_source_stops_at_its_voltage_limit() -> None:
    plant = plant_of(ohmic_divider(1e6))
    source = plant.electrical("source", "hi")
    source.set_source(CurrentSource(1e-6, 10.0))
    assert plant.observe([source], 0.0)[0][0] == pytest.approx((2.0, 1e-6, False))
    source.set_source(CurrentSource(50e-6, 10.0))
    assert plant.observe([source], 0.0)[0][0] == pytest.approx((10.0, 5e-6, True))


def test_the_stronger_of_two_voltage_sources_on_one_node_wins() -> None:
    plant = plant_of(ohmic_divider(1e6))
    strong, weak = plant.electrical("meter", ""), plant.electrical("meter", "second")
    strong.set_source(VoltageSource(1.0, 1.0))
    weak.set_source(VoltageSource(2.0, 1e-3))
    (row,) = plant.observe([strong, weak], 0.0)
    assert row[0].voltage == pytest.approx(1.0)
    assert row[1].current == pytest.approx(1e-3)
    assert row[1].limited
    assert not row[0].limited


def test_output_resistance_takes_its_share() -> None:
    plant = plant_of(ohmic_divider(1e6))
    source = plant.electrical("source", "hi")
    source.set_source(VoltageSource(3.0, inf, 1e6))
    assert plant.observe([source], 0.0)[0][0] == pytest.approx((2.0, 1e-6, False))


def test_an_open_node_charges_through_its_capacitance_as_an_exponential() -> None:
    plant = plant_of(ohmic_divider(1e9, 100e-12))
    source, meter = plant.electrical("source", "hi"), plant.electrical("meter", "")
    source.set_source(VoltageSource(4.0))
    tau = 0.5e9 * 100e-12
    elapsed = 0.0
    for wait in (0.01, 0.03, 0.06, 0.1):
        plant.clock.advance(wait)
        elapsed += wait
        assert plant.observe([meter], 0.0)[0][0].voltage == pytest.approx(2.0 * (1.0 - exp(-elapsed / tau)), abs=2e-3)
    mean = plant.observe([meter], 0.05)[0][0].voltage
    start, end = elapsed / tau, (elapsed + 0.05) / tau
    assert mean == pytest.approx(2.0 * (1.0 - (exp(-start) - exp(-end)) / (end - start)), abs=2e-3)


def test_a_current_limited_source_charges_a_capacitance_at_a_constant_rate() -> None:
    network = Network.build(
        [Node("1", capacitance=1e-9), Node("2"), Node("3", ground=True)],
        [Edge(n, a, b, registry.law("ohmic"), {"conductance": 1e-12}) for n, a, b in (("a", "1", "2"), ("b", "2", "3"))],
    )
    plant = plant_of(network)
    source = plant.electrical("source", "hi")
    source.set_source(VoltageSource(5.0, 1e-9))
    plant.clock.advance(2.0)
    sample = plant.observe([source], 0.0)[0][0]
    assert sample.voltage == pytest.approx(2.0, rel=1e-2)  # I t / C, less what leaks through 2 Tohm
    assert sample.limited
    plant.clock.advance(5.0)
    assert plant.observe([source], 0.0)[0][0] == pytest.approx((5.0, 2.5e-12, False), rel=1e-6)


def test_memories_relax_as_a_fine_integration_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def trajectory() -> list[float]:
        plant = plant_of(channel_divider(mixed=True))  # from the middle to a voltage that only the memories make
        plant.electrical("source", "hi").set_source(VoltageSource(-5.0))
        result = []
        for _ in range(12):
            plant.clock.advance(2e-3)
            result.append(plant.observe([plant.electrical("meter", "")], 0.0)[0][0].voltage)
        return result

    coarse = trajectory()
    monkeypatch.setattr("simulated_backend.virtual_bench.circuit.FIRST_FRACTION", 0.004)
    monkeypatch.setattr("simulated_backend.virtual_bench.circuit.GROWTH", 1.01)
    fine = trajectory()
    assert max(fine) - min(fine) > 0.5
    assert np.max(np.abs(np.subtract(coarse, fine))) < 0.01 * (max(fine) - min(fine))


def test_the_published_node_loses_most_of_its_voltage_to_a_voltmeter_and_millivolts_to_an_electrometer() -> None:
    plant = plant_of(channel_divider(parallel=1.0))
    source, meter = plant.electrical("source", "hi"), plant.electrical("meter", "")
    source.set_source(VoltageSource(5.0))
    voltages = []
    for resistance in (inf, 10e9, 200e12):
        meter.set_load(resistance, 0.0)
        plant.clock.advance(10_000.0)
        voltages.append(plant.observe([meter], 0.1)[0][0].voltage)
    free, voltmeter, electrometer = voltages
    assert free == pytest.approx(2.5, abs=1e-7)
    assert 1.0 - voltmeter / free == pytest.approx(0.95, abs=0.01)
    # differential resistance at the operating point is 236 Gohm: the loss is 2.5 V * 236 G / 200 T
    assert free - electrometer == pytest.approx(2.5 * 236e9 / 200e12, rel=0.03)


def test_an_hour_costs_some_dozens_of_steps_and_rest_costs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []
    attempt = Circuit.attempt
    monkeypatch.setattr(Circuit, "attempt", lambda self, h, pressure: attempts.append(h) or attempt(self, h, pressure))
    plant = plant_of(channel_divider(parallel=1.0))
    plant.electrical("source", "hi").set_source(VoltageSource(5.0))
    plant.clock.advance(3600.0)
    assert 10 < len(attempts) < 150
    attempts.clear()
    for _ in range(100):
        plant.observe([plant.electrical("meter", "")], 1.0)
    assert attempts == []
    assert plant.clock.now() == pytest.approx(3700.0)
    assert plant.troubles == []


def test_a_frozen_plant_keeps_its_answers() -> None:
    plant = plant_of(ohmic_divider(), frozen=True)
    source, meter = plant.electrical("source", "hi"), plant.electrical("meter", "")
    source.set_source(VoltageSource(4.0))
    before = plant.observe([meter], 0.1)
    assert before[0][0].voltage == pytest.approx(2.0)
    source.set_source(VoltageSource(1.0))
    assert plant.observe([meter], 0.1) == before


def test_an_unwired_terminal_behaves_like_an_open_one() -> None:
    plant = plant_of(ohmic_divider())
    spare = plant.electrical("source", "spare")
    spare.set_load(1e9, 5e-12)
    assert plant.observe([spare], 0.1)[0][0] == pytest.approx((5e-3, 0.0, False))
    spare.set_source(VoltageSource(7.0))
    assert plant.observe([spare], 0.1)[0][0] == pytest.approx((7.0, 0.0, False))
    spare.set_source(CurrentSource(1e-6, 20.0))
    assert plant.observe([spare], 0.1)[0][0] == pytest.approx((20.0, 0.0, True))
    spare.set_source(Open())
    assert not spare.wired


def test_several_apertures_are_rows_and_let_time_pass() -> None:
    plant = plant_of(ohmic_divider(1e9, 100e-12))
    plant.electrical("source", "hi").set_source(VoltageSource(4.0))
    rows = plant.observe([plant.electrical("meter", "")], 0.02, 4)
    voltages = [row[0].voltage for row in rows]
    assert voltages == sorted(voltages)
    assert voltages[0] < voltages[-1]
    assert plant.clock.now() == pytest.approx(0.08)


def test_extremes_remember_the_worst_moment() -> None:
    plant = plant_of(ohmic_divider())
    source = plant.electrical("source", "hi")
    for level in (3.0, -1.0, 0.0):
        source.set_source(VoltageSource(level))
        plant.observe([source], 0.1)
    assert plant.extremes()["voltage"]["1"] == pytest.approx([-1.0, 3.0])
    assert plant.extremes()["voltage_difference"]["b"] == pytest.approx([-0.5, 1.5])


def test_wires_must_lead_somewhere() -> None:
    network = describe(ohmic_divider())
    with pytest.raises(ConfigError, match=r"node '9', which the network does not have"):
        Plant(BenchPlan((InstrumentPlan("s", "x"),), (Wire("s", "hi", "9"),), network))
    plant = Plant(BenchPlan((InstrumentPlan("s", "x"),), (Wire("s", "hi", "1"),), network))
    plant.electrical("s", "lo")
    with pytest.raises(ConfigError, match=r"'s' has no port 'hi'; ports: 'lo'"):
        plant.check_wires()


def test_impossible_loads_and_times_are_refused() -> None:
    plant = plant_of(ohmic_divider())
    with pytest.raises(ValueError, match="above 0 ohm"):
        plant.electrical("meter", "").set_load(0.0, 0.0)
    with pytest.raises(ValueError, match="backwards"):
        plant.clock.advance(-1.0)


def test_a_source_leaves_its_limit_when_what_loaded_it_is_mended() -> None:
    plant = plant_of(channel_divider())
    source = plant.electrical("source", "hi")
    source.set_source(VoltageSource(5.0, 1e-5))
    plant.damage("leak", "1", 1e3)
    assert plant.observe([source], 0.01)[0][0] == pytest.approx((1e-2, 1e-5, True), rel=1e-3)
    plant.mend()
    # 10 uA through the mended channels would need hundreds of volts.
    (row,) = plant.observe([source], 1.0)
    assert row[0].voltage == pytest.approx(5.0)
    assert not row[0].limited
    assert plant.troubles == []


def test_without_a_steady_state_time_goes_on_from_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    plant = plant_of(channel_divider())

    def lost(_: Circuit) -> None:
        raise NotConvergedError("lost")

    with monkeypatch.context() as patch:
        patch.setattr(Circuit, "settle_now", lost)
        plant.mend()
        plant.electrical("source", "hi").set_source(VoltageSource(5.0, 1e-5))
        plant.clock.advance(1e-4)
    plant.clock.advance(10.0)
    assert plant.troubles[0].endswith("lost right after a source was switched; voltages stay where they were")
    assert plant.node_voltages()["2"] == pytest.approx(2.5, abs=1e-3)
