"""Networks and bench channels that the tests of the simulated backend share."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from hil.core.safety import SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, SettlePolicy, Stimulus
from simulated_backend.backend import SimulatedBackend
from simulated_backend.devices.base import Device
from simulated_backend.devices.registry import law
from simulated_backend.network import Edge, Network, Node

DIVIDER_CLAMPED = np.array([True, False, True])
V, P, C = Quantity.VOLTAGE, Quantity.PRESSURE, Quantity.CONCENTRATION


def make_divider(
    device: Device | None = None,
    *,
    concentration: float = 0.2,
    reverse: Sequence[bool] = (False, False),
    parallel: float = 1.0,
    capacitance: float = 0.0,
    **parameters: float,
) -> Network:
    """Nodes 1, 2, 3 at 1 bar; channels a (1-2) and b (2-3), base first unless reversed."""
    device = device or law("conical_channel")
    nodes = [
        Node(name, concentration=concentration, pressure=1e5, capacitance=capacitance if name == "2" else 0.0) for name in "123"
    ]
    edges = []
    for name, ends, turned in zip("ab", (("1", "2"), ("2", "3")), reverse, strict=True):
        base, tip = ends[::-1] if turned else ends
        edges.append(Edge(name, base, tip, device, parameters, parallel))
    return Network.build(nodes, edges)


CONTROLS = {
    "none": [],
    "pressure": [Channel(f"P{n}", P, Kind.DRIVE, 0.0, 2e5, node=n) for n in "123"],
    "concentration": [Channel(f"c{n}", C, Kind.TUNE, 0.02, 1.0, node=n) for n in "123"],
    "length": [Channel(f"L{e}", Quantity.LENGTH, Kind.TUNE, 1e-6, 1e-4, edge=e, parameter="length") for e in "ab"],
    **{
        f"radius_ratio_fixed_{end}": [
            Channel(f"r{e}", Quantity.RATIO, Kind.TUNE, 1.25, 16.0, edge=e, parameter=f"radius_ratio_fixed_{end}") for e in "ab"
        ]
        for end in ("base", "tip")
    },
}


def layouts(weights: str = "none") -> tuple[Layout, Layout]:
    """Controls V1, V3 and the weights; outputs V2 and I1."""
    sources = [Channel(f"V{n}", V, Kind.DRIVE, -5.0, 5.0, node=n) for n in "13"]
    outputs = Layout((Channel("V2", V, Kind.SENSE, node="2"), Channel("I1", Quantity.CURRENT, Kind.SENSE, node="1")))
    return Layout((*sources, *CONTROLS[weights])), outputs


MakeBackend = Callable[..., SimulatedBackend]


@pytest.fixture
def said() -> list[str]:
    """Warnings of the backend."""
    return []


@pytest.fixture
def make_backend(said: list[str]) -> MakeBackend:
    """Builds an opened divider backend that warns into ``said``."""

    def make(network: Network | None = None, weights: str = "none", **options: object) -> SimulatedBackend:
        controls, outputs = layouts(weights)
        options.setdefault("warn", said.append)
        backend = SimulatedBackend(network or make_divider(), controls, outputs, SafetyEnvelope.of(controls), **options)
        backend.open()
        return backend

    return make


def descend(
    backend: SimulatedBackend, start: Sequence[float], *, unit: float, target: float, step: float, rate: float, updates: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Plain forward-difference descent on (V2 - target)^2 in scaled weights, as the papers do it: losses, weights, V2."""
    weights, losses = np.array(start, dtype=float), []
    for number in range(updates + 1):
        points = weights + step * np.vstack([np.zeros(len(weights)), np.eye(len(weights))])
        readings = backend.measure([Stimulus.of([5.0, 0.0, *(unit * one)]) for one in points], SettlePolicy())
        cost = (readings.values[:, 0] - target) ** 2
        losses.append(cost[0])
        if cost[0] < 1e-6 or number == updates:
            break
        weights = weights - rate * (cost[1:] - cost[0]) / step
    return np.array(losses), weights, float(readings.values[0, 0])


@pytest.fixture(name="make_divider")
def _make_divider() -> Callable[..., Network]:
    return make_divider


@pytest.fixture(name="layouts")
def _layouts() -> Callable[..., tuple[Layout, Layout]]:
    return layouts


@pytest.fixture(name="descend")
def _descend() -> Callable[..., tuple[np.ndarray, np.ndarray, float]]:
    return descend
