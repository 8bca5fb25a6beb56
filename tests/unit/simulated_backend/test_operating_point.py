"""Operating points: known networks, independence of the batch, refusals."""

import numpy as np
import pytest

from hil.core.errors import ConfigError
from simulated_backend.devices.registry import law
from simulated_backend.network import Edge, Network, Node
from simulated_backend.solve import kirchhoff
from simulated_backend.solve.operating_point import Status, solve_operating_point

CLAMPED = np.array([True, False, True])


def resistors(edges, nodes):
    device = law("ohmic")
    return Network.build(
        [Node(n) for n in nodes], [Edge(f"e{i}", b, t, device, {"conductance": g}) for i, (b, t, g) in enumerate(edges)]
    )


@pytest.mark.parametrize(
    ("reverse", "expected"),
    [((False, False), 2.5), ((True, True), 2.5), ((True, False), 4.055), ((False, True), 0.945)],
)
def test_untrained_divider(make_divider, reverse, expected):
    point = solve_operating_point(make_divider(reverse=reverse), [5.0, np.nan, 0.0], CLAMPED)
    assert point.status is Status.CONVERGED
    assert point.voltage[1] == pytest.approx(expected, abs=5e-4)
    assert point.terminal_current.sum() == pytest.approx(0.0, abs=1e-11 * point.terminal_current[0])
    assert point.terminal_current[1] == 0.0
    assert point.current == pytest.approx(
        point.terminal_current[0] * np.array([-1.0 if reverse[0] else 1.0, -1.0 if reverse[1] else 1.0])
    )


@pytest.mark.parametrize(
    ("bar", "expected"), [(0.02, 2.00), (0.05, 1.34), (0.10, 0.48), (-0.02, 3.00), (-0.05, 3.66), (-0.10, 4.52)]
)
def test_pressure_of_the_middle_node_moves_the_divider(make_divider, bar, expected):
    pressure = [1e5, 1e5 + bar * 1e5, 1e5]
    assert solve_operating_point(make_divider(), [5, 0, 0], CLAMPED, pressure=pressure).voltage[1] == pytest.approx(
        expected, abs=6e-3
    )


@pytest.mark.parametrize("bar", [0.2, 0.3, 0.4, 0.5, -0.2, -0.5])
def test_unclamped_model_without_a_steady_state_is_told(make_divider, bar):
    network = make_divider(minimum_conductance=0.0)
    point = solve_operating_point(network, [5, 0, 0], CLAMPED, pressure=[1e5, 1e5 + bar * 1e5, 1e5])
    assert point.status in (Status.NO_STEADY_STATE, Status.NOT_CONVERGED)
    assert "steady state" in point.message
    assert not point.converged
    assert np.isnan(point.voltage).all()


def test_one_bad_row_does_not_spoil_its_neighbours(make_divider):
    network = make_divider(minimum_conductance=0.0)
    pressure = np.array([[1e5, 1e5, 1e5], [1e5, 1.3e5, 1e5], [1e5, 1.02e5, 1e5]])
    point = solve_operating_point(network, [5, 0, 0], CLAMPED, pressure=pressure)
    assert point.converged.tolist() == [True, False, True]
    assert point.voltage[[0, 2], 1] == pytest.approx([2.5, 2.0045], abs=1e-3)
    assert "operating point 2 of 3" in point.message


def test_resistor_network_has_the_textbook_solution():
    network = resistors([("in", "a", 1e-3), ("a", "b", 2e-3), ("a", "gnd", 1e-3), ("b", "gnd", 4e-3)], ["in", "a", "b", "gnd"])
    clamped = np.array([True, False, False, True])
    point = solve_operating_point(network, [3.0, 0, 0, 0], clamped, injected=[0, 1e-3, 0, 0], shunt=[1e-3, 0, 2e-3, 0])
    matrix = np.array([[4e-3, -2e-3], [-2e-3, 8e-3]])
    expected = np.linalg.solve(matrix, [3e-3 + 1e-3, 0.0])
    assert point.voltage[1:3] == pytest.approx(expected, rel=1e-13)
    # the source also feeds the shunt at its own node
    assert point.terminal_current[0] == pytest.approx((3.0 - expected[0]) * 1e-3 + 3e-3, rel=1e-13)


def test_a_stimulus_gives_the_same_bits_alone_and_among_others(make_divider):
    rng = np.random.default_rng(1)
    network = make_divider(reverse=(True, False))
    volts = rng.uniform(-3, 3, (37, 3))
    pressure = 1e5 + rng.uniform(-1e3, 1e3, (37, 3))
    together = solve_operating_point(network, volts, CLAMPED, pressure=pressure)
    for row in (0, 7, 36):
        alone = solve_operating_point(network, volts[row], CLAMPED, pressure=pressure[row])
        assert np.array_equal(alone.voltage, together.voltage[row])
        assert np.array_equal(alone.terminal_current, together.terminal_current[row])


def test_batched_parameters_equal_separate_networks(make_divider):
    network = make_divider(reverse=(True, False))
    lengths = np.array([[5e-6, 1e-5], [2e-5, 1e-5], [1e-5, 3e-5]])
    batched = network.with_parameters([{**network.groups[0].parameters, "length": lengths}])
    found = solve_operating_point(batched, [5, 0, 0], CLAMPED).voltage
    for row, length in enumerate(lengths):
        one = network.with_parameters([{**network.groups[0].parameters, "length": length}])
        assert np.array_equal(solve_operating_point(one, [5, 0, 0], CLAMPED).voltage, found[row])


def test_parallel_channels_multiply_the_current_only(make_divider):
    one, many = (
        solve_operating_point(make_divider(parallel=n, reverse=(True, False)), [5, 0, 0], CLAMPED) for n in (1.0, 20000.0)
    )
    assert many.voltage == pytest.approx(one.voltage, rel=1e-12)
    assert many.current == pytest.approx(20000.0 * one.current, rel=1e-11)


def test_all_nodes_clamped_is_fine(make_divider):
    point = solve_operating_point(make_divider(), [1.0, 0.5, 0.0], [True, True, True])
    assert point.status is Status.CONVERGED
    assert point.terminal_current.sum() == pytest.approx(0.0, abs=1e-25)


def test_large_grid_takes_the_sparse_path_and_agrees_with_the_dense_one(monkeypatch):
    side = 20
    edges = [(f"{i},{j}", f"{i + 1},{j}", 1.0 + i) for i in range(side - 1) for j in range(side)]
    edges += [(f"{i},{j}", f"{i},{j + 1}", 1.0 + j) for i in range(side) for j in range(side - 1)]
    network = resistors(edges, [f"{i},{j}" for i in range(side) for j in range(side)])
    clamped = np.zeros(side * side, bool)
    clamped[[0, -1]] = True
    volts = np.zeros(side * side)
    volts[0] = 1.0
    sparse = solve_operating_point(network, volts, clamped)
    monkeypatch.setattr(kirchhoff, "DENSE_LIMIT", 1000)
    dense = solve_operating_point(network, volts, clamped)
    assert sparse.status is Status.CONVERGED
    assert sparse.voltage == pytest.approx(dense.voltage, abs=1e-12)


def test_self_consistent_divider_is_solved(make_divider):
    point = solve_operating_point(
        make_divider(law("conical_channel", form="self-consistent"), reverse=(True, False)), [5, 0, 0], CLAMPED
    )
    analytic = solve_operating_point(make_divider(reverse=(True, False)), [5, 0, 0], CLAMPED)
    assert point.status is Status.CONVERGED
    assert abs(point.voltage[1] - analytic.voltage[1]) > 0.05
    assert 2.5 < point.voltage[1] < 5.0


def test_warnings_come_with_the_solution_and_can_be_left_out(make_divider):
    assert solve_operating_point(make_divider(), [5, 0, 0], CLAMPED).warnings
    assert not solve_operating_point(make_divider(), [5, 0, 0], CLAMPED, validity=False).warnings
    assert not solve_operating_point(make_divider(), [0.4, 0, 0], CLAMPED).warnings


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"voltage": [np.nan, 0, 0]}, "node '1': voltage is not a finite"),
        ({"pressure": [1e5, np.nan, 1e5]}, "node '2': pressure is not a finite"),
        ({"injected": [0, 0, np.inf]}, "node '3': injected is not a finite"),
        ({"shunt": [0, -1e-9, 0]}, "node '2': the shunt conductance is negative"),
        ({"concentration": [0.2, 0.0, 0.2]}, "node '2' has no salt"),
        ({"clamped": [False, False, False]}, "no node is driven or grounded"),
        ({"clamped": [True, False]}, "one flag for each of the 3 nodes"),
        ({"voltage": [1.0, 2.0]}, "one value for each of the 3 nodes"),
        ({"voltage": np.zeros((2, 3)), "pressure": np.full((3, 3), 1e5)}, "do not fit together"),
    ],
)
def test_malformed_input_is_refused_in_a_sentence(make_divider, arguments, sentence):
    given = {"voltage": [5.0, 0, 0], "clamped": CLAMPED, **arguments}
    with pytest.raises(ConfigError, match=sentence):
        solve_operating_point(make_divider(), given.pop("voltage"), given.pop("clamped"), **given)


def test_floating_part_is_named_and_a_shunt_ties_it():
    network = resistors([("a", "b", 1.0), ("c", "d", 1.0)], ["a", "b", "c", "d"])
    clamped = np.array([True, False, False, False])
    with pytest.raises(ConfigError, match="nodes 'c', 'd' float"):
        solve_operating_point(network, [1.0, 0, 0, 0], clamped)
    point = solve_operating_point(network, [1.0, 0, 0, 0], clamped, shunt=[0, 0, 1e-3, 0], injected=[0, 0, 0, 2e-3])
    assert point.voltage == pytest.approx([1.0, 1.0, 2.0, 2.002])


def test_shunt_alone_defines_a_network_without_sources(make_divider):
    point = solve_operating_point(make_divider(), [0, 0, 0], [False] * 3, shunt=[0, 1e-12, 0], injected=[0, 1e-13, 0])
    assert point.voltage == pytest.approx([0.1, 0.1, 0.1], rel=1e-9)
