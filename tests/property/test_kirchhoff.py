"""Laws of physics that every network must obey, whatever it is made of."""

from dataclasses import dataclass

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simulated_backend.devices.base import EdgeDrive
from simulated_backend.devices.registry import law
from simulated_backend.network import Edge, Network, Node
from simulated_backend.solve.operating_point import Status, solve_operating_point

LAWS = {
    "cone": law("conical_channel"),
    "letter": law("conical_channel", preset="letter"),
    "wire": law("ohmic"),
    "saturating": law("saturating", preset="golden"),
}


@dataclass(frozen=True)
class Drawn:
    nodes: list[Node]
    edges: list[Edge]
    voltage: np.ndarray
    clamped: np.ndarray

    def network(self) -> Network:
        return Network.build(self.nodes, self.edges)


@st.composite
def networks(draw: st.DrawFn, largest: int = 50, kinds: tuple[str, ...] = tuple(LAWS), pressures: bool = True) -> Drawn:
    """Connected networks of 2 to ``largest`` nodes: a random tree, more edges on top, one source or more."""
    count = draw(st.integers(2, largest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    salt = rng.uniform(0.15, 0.3, count)
    pressure = 1e5 + (rng.uniform(-500.0, 500.0, count) if pressures else np.zeros(count))
    nodes = [Node(f"n{i}", concentration=salt[i], pressure=pressure[i]) for i in range(count)]
    pairs = [(int(rng.integers(0, i)), i) for i in range(1, count)]
    for _ in range(draw(st.integers(0, 2 * count))):
        one, two = rng.choice(count, 2, replace=False)
        pairs.append((int(one), int(two)))
    edges = []
    for number, (one, two) in enumerate(pairs):
        kind = kinds[int(rng.integers(len(kinds)))]
        base, tip = (one, two) if rng.random() < 0.5 else (two, one)
        conductance = {"conductance": float(10.0 ** rng.uniform(-13, -10))}
        length = {"length": float(rng.uniform(3e-6, 5e-5))}
        parameters = conductance if kind in ("wire", "saturating") else length
        edges.append(Edge(f"e{number}", f"n{base}", f"n{tip}", LAWS[kind], parameters, float(rng.integers(1, 5))))
    clamped = np.zeros(count, dtype=np.bool_)
    clamped[rng.choice(count, int(rng.integers(1, max(2, count // 3 + 1))), replace=False)] = True
    return Drawn(nodes, edges, rng.uniform(-1.0, 1.0, count), clamped)


@settings(max_examples=60, deadline=None)
@given(networks())
def test_currents_balance_at_every_node(drawn: Drawn) -> None:
    network = drawn.network()
    point = solve_operating_point(network, drawn.voltage, drawn.clamped, validity=False)
    assert point.status is Status.CONVERGED, point.message
    balance = np.zeros(network.n_nodes)
    for edge, current in enumerate(point.current):
        balance[network.base[edge]] += current
        balance[network.tip[edge]] -= current
    largest = np.max(np.abs(point.current))
    assert np.max(np.abs(balance[~drawn.clamped]), initial=0.0) <= 1e-9 * largest
    assert np.max(np.abs(balance - point.terminal_current)) <= 1e-9 * largest


@settings(max_examples=40, deadline=None)
@given(networks())
def test_no_node_leaves_the_range_of_the_sources(drawn: Drawn) -> None:
    point = solve_operating_point(drawn.network(), drawn.voltage, drawn.clamped, validity=False)
    assume(point.status is Status.CONVERGED)
    driven = drawn.voltage[drawn.clamped]
    slack = 1e-9 * max(1e-3, float(np.max(np.abs(driven))))
    assert np.all(point.voltage >= driven.min() - slack)
    assert np.all(point.voltage <= driven.max() + slack)


@settings(max_examples=25, deadline=None)
@given(networks(largest=12))
def test_loads_and_injections_balance_too(drawn: Drawn) -> None:
    network = drawn.network()
    shunt, injected = np.full(network.n_nodes, 1e-13), np.linspace(-1e-14, 1e-14, network.n_nodes)
    point = solve_operating_point(network, drawn.voltage, drawn.clamped, shunt=shunt, injected=injected, validity=False)
    assert point.status is Status.CONVERGED, point.message
    fed = point.terminal_current.sum() + injected.sum()
    spent = float(shunt @ point.voltage)
    assert abs(fed - spent) <= 1e-9 * np.max(np.abs(point.current))


VOLTS = st.floats(-2.0, 2.0)
DRIVES = st.tuples(VOLTS, st.floats(-2e4, 2e4), st.floats(0.05, 0.5), st.floats(0.05, 0.5))


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["cone", "letter", "wire", "saturating"]), DRIVES)
def test_slope_equals_the_numeric_derivative(kind: str, numbers: tuple[float, float, float, float]) -> None:
    device = LAWS[kind]
    given_ = {name: np.array([device.default(name) or 1e-12]) for name in device.parameters}
    volts, pressure, base, tip = numbers
    h = 1e-3
    drives = [EdgeDrive(*(np.array([x]) for x in (volts + k * h, pressure, base, tip))) for k in (-2, -1, 0, 1, 2)]
    # the floor has a corner, where there is no derivative
    assume(not any(device.clamped(given_, drive).any() for drive in drives))
    low, lower, (_, slope), upper, high = (device.steady(given_, drive) for drive in drives)
    numeric = (low[0] - 8 * lower[0] + 8 * upper[0] - high[0]) / (12 * h)
    scale = abs(
        device.steady(given_, EdgeDrive.of_voltage(np.zeros(1)) if kind in ("wire", "saturating") else drives[2])[0][0]
    ) + abs(slope[0])
    assert abs(numeric[0] - slope[0]) <= 1e-8 * scale


@settings(max_examples=40, deadline=None)
@given(st.floats(-2.0, 2.0), st.floats(-1e4, 1e4), st.floats(0.1, 0.4), st.floats(0.1, 0.4))
def test_turning_an_edge_round_with_its_drives_flips_the_current(volts: float, pressure: float, one: float, two: float) -> None:
    """Node values swapped and the edge reversed: the same device, so the same current with the other sign."""
    nodes = [Node("x", concentration=one, pressure=1e5 + pressure), Node("y", concentration=two, pressure=1e5)]
    swapped = [Node("x", concentration=two, pressure=1e5), Node("y", concentration=one, pressure=1e5 + pressure)]
    forward = Network.build(nodes, [Edge("e", "x", "y", LAWS["cone"], {})])
    backward = Network.build(swapped, [Edge("e", "y", "x", LAWS["cone"], {})])
    both = [True, True]
    current = solve_operating_point(forward, [volts, 0.0], both).terminal_current
    mirrored = solve_operating_point(backward, [0.0, volts], both).terminal_current
    assert current[0] == mirrored[1]
    assert current[0] == -current[1]
