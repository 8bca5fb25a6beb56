"""One emulator on a plant inside this process: what is sent, what comes back, what it does to the plant."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulated_backend.description import describe
from simulated_backend.devices import registry
from simulated_backend.network import Edge, Network, Node
from simulated_backend.virtual_bench.emulator import Emulator, create, transport_of
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire
from simulated_backend.virtual_bench.plant import Plant

ATMOSPHERE = 101_325.0
Ask = Callable[[str], str | None]


@dataclass
class Rig:
    """A plant and the one instrument under test on it."""

    plant: Plant
    emulator: Emulator


def bench_of(model: str, port_of_node: dict[str, str], *, ideal: bool = True, seed: int = 0, **options: Any) -> Rig:
    """An instrument on a 1 Mohm divider whose upper node "1" a helper can drive."""
    law = registry.law("ohmic")
    edges = [Edge("a", "1", "2", law, {"conductance": 1e-6}), Edge("b", "2", "3", law, {"conductance": 1e-6})]
    network = Network.build([Node("1"), Node("2"), Node("3", ground=True)], edges)
    wires = (*(Wire("it", port, node) for node, port in port_of_node.items()), Wire("helper", "hi", "1"))
    it = InstrumentPlan("it", model, options)
    plant = Plant(BenchPlan((it, InstrumentPlan("helper", "none")), wires, describe(network), ideal=ideal, seed=seed))
    plant.lock.acquire()
    plant.electrical("helper", "hi")
    transport_of(it)
    return Rig(plant, create(it, plant, np.random.default_rng(seed)))


def talk(rig: Rig) -> Ask:
    def ask(text: str) -> str | None:
        reply = rig.emulator.receive(text.encode())
        return None if reply is None else reply.decode("latin-1").rstrip("\r\n")

    return ask


def floats(reply: str | None) -> list[float]:
    assert reply is not None
    return [float(part) for part in reply.split(",")]
