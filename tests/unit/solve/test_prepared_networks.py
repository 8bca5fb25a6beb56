"""The compiled and sparse paths against the general solver, against each other, and where they must refuse."""

import numpy as np
import pytest

from hil.core.errors import ConfigError, NotConvergedError
from simulated_backend.devices.base import Device
from simulated_backend.devices.registry import law
from simulated_backend.network import Edge, Network, Node
from simulated_backend.solve import dispatch
from simulated_backend.solve.compiled import PreparedNetwork
from simulated_backend.solve.operating_point import Status, solve_operating_point

METHODS = ("replay", "conjugate", "supernodal", "multigrid", "general")


def mixed(n: int, m: int, seed: int) -> Network:
    """A connected random network of ohmic, saturating, conical and tabulated edges."""
    rng = np.random.default_rng(seed)
    laws: list[tuple[Device, dict[str, float]]] = [
        (law("ohmic"), {"conductance": 5e-12}),
        (law("saturating"), {"conductance": 8e-12}),
        (law("conical_channel"), {}),
        (law("tabulated", volts=[-2.0, -0.5, 0.0, 0.5, 2.0], amperes=[-3e-11, -4e-12, 0.0, 3e-12, 9e-12]), {}),
    ]
    pairs = [(int(rng.integers(k)), k) for k in range(1, n)]
    while len(pairs) < m:
        i, j = rng.choice(n, 2, replace=False)
        pairs.append((int(i), int(j)))
    edges = []
    for k, (i, j) in enumerate(pairs):
        device, parameters = laws[k % len(laws)]
        edges.append(Edge(f"e{k}", str(i), str(j), device, parameters, parallel=float(rng.integers(1, 4))))
    return Network.build([Node(str(k), concentration=0.2, pressure=1e5 + 500.0 * rng.standard_normal()) for k in range(n)], edges)


def drive(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    clamped = np.zeros(n, dtype=bool)
    clamped[rng.choice(n, 3, replace=False)] = True
    return clamped, np.where(clamped, rng.uniform(-1.0, 1.0, n), 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_every_linear_method_gives_the_same_answer(method: str) -> None:
    net = mixed(60, 150, 1)
    clamped, voltage = drive(60, 2)
    shunt = np.where(clamped, 0.0, 1e-13)
    injected = np.where(clamped, 0.0, 1e-13)
    solved = PreparedNetwork(net, clamped, shunt=shunt, method=method).solve(voltage, injected=injected)
    general = solve_operating_point(net, voltage, clamped, shunt=shunt, injected=injected)
    assert solved.converged
    np.testing.assert_allclose(solved.voltage, general.voltage, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["ohmic", "saturating", "conical_channel"])
def test_kernel_equals_the_array_law(name: str) -> None:
    rng = np.random.default_rng(5)
    parameters = {} if name == "conical_channel" else {"conductance": 3e-3}
    nodes = [Node(str(k), concentration=rng.uniform(0.1, 0.4), pressure=1e5 + 5e3 * rng.standard_normal()) for k in range(40)]
    net = Network.build(nodes, [Edge(str(k), str(k), str(k + 1), law(name), parameters) for k in range(39)])
    prepared = PreparedNetwork(net, np.arange(40) < 1)
    assert prepared.kernels is not None
    voltage = np.cumsum(rng.uniform(-2.0, 2.0, 40)) * 0.5
    fast = prepared.edge_steady(voltage)
    prepared.kernels = None
    slow = prepared.edge_steady(voltage)
    for one, other in zip(fast, slow, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-9, atol=1e-12 * np.max(np.abs(other)))


def test_many_stimuli_in_one_call_equal_single_solves() -> None:
    net = mixed(12, 24, 3)
    clamped, voltage = drive(12, 4)
    prepared = PreparedNetwork(net, clamped)
    stimuli = np.linspace(-1.0, 1.0, 7)[:, np.newaxis] * voltage
    many, good = prepared.solve_many(stimuli)
    assert good.all()
    for row, stimulus in zip(many, stimuli, strict=True):
        np.testing.assert_allclose(row, prepared.solve(stimulus).voltage, atol=1e-11)


def test_large_networks_reach_the_sparse_path_and_balance(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 400
    net = mixed(n, 900, 6)
    clamped, voltage = drive(n, 7)
    calls = []
    original = dispatch.solve_large
    monkeypatch.setattr(dispatch, "solve_large", lambda problem, guess: calls.append(1) or original(problem, guess))
    point = solve_operating_point(net, voltage, clamped)
    assert calls
    assert point.status is Status.CONVERGED
    out = np.zeros(n)
    np.add.at(out, net.base, point.current)
    np.subtract.at(out, net.tip, point.current)
    assert np.max(np.abs(out[~clamped])) < 1e-9 * np.max(np.abs(point.current))


def test_a_warm_start_takes_fewer_iterations() -> None:
    net = mixed(30, 60, 8)
    clamped, voltage = drive(30, 9)
    prepared = PreparedNetwork(net, clamped)
    cold = prepared.solve(voltage)
    assert prepared.solve(1.001 * voltage, guess=cold.voltage).iterations < cold.iterations


def test_negative_slopes_are_solved_by_pivoting_and_said() -> None:
    """The 0.1 mM channel has a falling current above 0.82 V: two of them in series, the known outer state."""
    letter = law("conical_channel", preset="letter")
    nodes = [Node(name, concentration=0.1) for name in "abc"]
    net = Network.build(nodes, [Edge("1", "a", "b", letter, {}), Edge("2", "b", "c", letter, {})])
    prepared = PreparedNetwork(net, [True, False, True])
    unstable = prepared.solve([5.0, 0.0, 0.0], guess=[5.0, 2.5, 0.0])
    stable = prepared.solve([5.0, 0.0, 0.0], guess=[5.0, 4.79, 0.0])
    assert unstable.converged
    assert stable.converged
    assert unstable.voltage[1] == pytest.approx(2.5, abs=5e-3)
    assert unstable.negative_slopes
    assert stable.voltage[1] == pytest.approx(4.801, abs=5e-3)


def test_no_operating_point_is_a_sentence_and_never_a_number() -> None:
    net = Network.build(
        [Node("a"), Node("b")],
        [Edge("1", "a", "b", law("tabulated", volts=[-1.0, 1.0], amperes=[-1e-3, 1e-3], outside="clip"), {})],
    )
    prepared = PreparedNetwork(net, [True, False])
    solved = prepared.solve([0.0, 0.0], injected=[0.0, 2e-3])
    assert not solved.converged
    assert np.isnan(solved.voltage[1])
    assert "was not found" in solved.message


def test_the_lean_call_raises_where_nothing_converges() -> None:
    net = Network.build(
        [Node("a"), Node("b"), Node("c")],
        [
            Edge("1", "a", "b", law("ohmic"), {"conductance": 1e-3}),
            Edge("2", "b", "c", law("conical_channel", preset="letter"), {"minimum_conductance": 0.0}),
        ],
    )
    # no salt at any node: the law has no value
    prepared_voltage = np.array([1.0, 0.0, 0.0])
    with np.errstate(all="ignore"):
        prepared = PreparedNetwork(net, [True, False, True], concentration=np.zeros(3))
        with pytest.raises(NotConvergedError, match="was not found"):
            prepared.solve_in_place(prepared_voltage)


def test_floating_and_misshapen_input_is_refused() -> None:
    net = mixed(6, 8, 10)
    with pytest.raises(ConfigError, match="float"):
        PreparedNetwork(net, np.zeros(6, dtype=bool))
    with pytest.raises(ConfigError, match="one flag for each"):
        PreparedNetwork(net, [True])


def test_all_nodes_clamped_needs_no_solving() -> None:
    net = mixed(5, 6, 11)
    voltage = np.linspace(0.0, 1.0, 5)
    solved = PreparedNetwork(net, np.ones(5, dtype=bool)).solve(voltage)
    assert solved.converged
    np.testing.assert_array_equal(solved.voltage, voltage)
