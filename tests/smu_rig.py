"""A plant of resistors for one source-measure unit: 1 Mohm from every wired node to low."""

from collections.abc import Mapping
from typing import Any

from hil.core.types import Quantity
from instruments.roles import SourcePlan
from simulated_backend.description import describe
from simulated_backend.devices import registry
from simulated_backend.network import Edge, Network, Node
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire

CONDUCTANCE = 1e-6


def plan(**changes: Any) -> SourcePlan:
    """How a terminal will be used: up to 5 V either way, 10 uA at the most, unless ``changes`` say otherwise."""
    given: dict[str, Any] = {"quantity": Quantity.VOLTAGE, "minimum": -5.0, "maximum": 5.0, "compliance": 1e-5, "slew": 10.0}
    return SourcePlan(**{**given, **changes})


def resistors(model: str, port_of_node: Mapping[str, str], *, seed: int = 2, ideal: bool = False, **options: object) -> BenchPlan:
    """The instrument ``it`` of ``model``, each of its ports on a node with a resistor to low."""
    law = registry.law("ohmic")
    nodes = [Node("low", ground=True), *(Node(name) for name in port_of_node)]
    edges = [Edge(f"r{name}", name, "low", law, {"conductance": CONDUCTANCE}) for name in port_of_node]
    wires = tuple(Wire("it", port, name) for name, port in port_of_node.items())
    return BenchPlan(
        (InstrumentPlan("it", model, options),), wires, describe(Network.build(nodes, edges)), seed=seed, ideal=ideal
    )


PORTS = {
    "KeysightB2912A": ("instruments.keysight_b2900.KeysightB2912A", "ch2"),
    "Keithley2400": ("instruments.keithley_2400.Keithley2400", ""),
    "Keithley2450": ("instruments.keithley_2450.Keithley2450", ""),
}
"""Model -> its driver class and the port that the bench tests use."""
