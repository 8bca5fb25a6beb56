"""Worlds for the contract: a divider of two resistors, whose answers anybody can work out by hand."""

from collections.abc import Callable, Mapping, Sequence

from hil.core.types import Channel, Kind, Layout, Quantity
from simulated_backend.devices.registry import law
from simulated_backend.network import Edge, Network, Node

G1, G2 = 1e-6, 3e-6  # S
PRESSURE = 1e5


def divider(capacitance: float = 0.0) -> Network:
    """Nodes 1, 2, 3 and resistors 1-2, 2-3."""
    ohmic = law("ohmic")
    nodes = [Node(name, pressure=PRESSURE, capacitance=capacitance if name == "2" else 0.0) for name in "123"]
    return Network.build(
        nodes, [Edge("a", "1", "2", ohmic, {"conductance": G1}), Edge("b", "2", "3", ohmic, {"conductance": G2})]
    )


def voltage(name: str, node: str) -> Channel:
    """A voltage control."""
    return Channel(name, Quantity.VOLTAGE, Kind.DRIVE, -2.0, 5.0, max_slew=50.0, node=node)


CONTROLS = Layout((voltage("V1", "1"), voltage("V3", "3")))
V2 = Channel("V2", Quantity.VOLTAGE, Kind.SENSE, node="2")
I1 = Channel("I1", Quantity.CURRENT, Kind.SENSE, node="1")
STIMULI: Sequence[Sequence[float]] = ([1.0, 0.0], [3.0, -1.0], [-0.5, 2.0])


def truth(names: Sequence[str]) -> Callable[[Sequence[float]], Mapping[str, float]]:
    """Ohm's law, by hand."""

    def outputs(values: Sequence[float]) -> Mapping[str, float]:
        v1, v3 = values[:2]
        known = {"V2": (G1 * v1 + G2 * v3) / (G1 + G2), "I1": (v1 - v3) * G1 * G2 / (G1 + G2)}
        return {name: known[name] for name in names}

    return outputs
