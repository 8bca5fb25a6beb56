"""In real time the plant runs before the last instrument is switched on; a terminal that comes late still holds its node."""

import pytest

from simulated_backend.description import describe
from simulated_backend.devices import registry
from simulated_backend.network import Edge, Network, Node
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire
from simulated_backend.virtual_bench.plant import Plant
from simulated_backend.virtual_bench.ports import VoltageSource


def test_a_terminal_asked_for_after_the_plant_has_started_acts_on_its_node() -> None:
    law = registry.law("ohmic")
    edges = [Edge("a", "1", "2", law, {"conductance": 1e-6}), Edge("b", "2", "3", law, {"conductance": 1e-6})]
    network = Network.build([Node("1"), Node("2"), Node("3")], edges)
    wires = (Wire("source", "a", "1"), Wire("source", "b", "3"))
    plant = Plant(BenchPlan((InstrumentPlan("source", "any"),), wires, describe(network)))
    with plant.lock:
        plant.electrical("source", "a").set_source(VoltageSource(5.0))
        assert plant.node_voltages()["3"] == pytest.approx(5.0)
        plant.electrical("source", "b").set_source(VoltageSource(1.0))
        assert plant.node_voltages() == pytest.approx({"1": 5.0, "2": 3.0, "3": 1.0})
