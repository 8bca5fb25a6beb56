"""How many steady states there are, which are stable, and how it is said."""

import numpy as np
import pytest

from simulated_backend.devices.registry import law
from simulated_backend.network import Edge, Network, Node
from simulated_backend.solve.relaxation import relax
from simulated_backend.solve.steady_states import steady_states

CLAMPED = np.array([True, False, True])


def test_three_states_of_the_dilute_divider(make_divider):
    network = make_divider(law("conical_channel", preset="letter"), concentration=0.1)
    found = steady_states(network, [5, 0, 0], CLAMPED)
    assert found.voltage[:, 1] == pytest.approx([0.199, 2.5, 4.801], abs=1e-3)
    assert found.stable.tolist() == [True, False, True]
    assert found.ambiguous
    assert "3 steady states" in found.message
    assert "unstable: (2: 2.5 V)" in found.message


def test_stability_is_what_relaxation_in_time_does(make_divider):
    network = make_divider(law("conical_channel", preset="letter"), concentration=0.1)
    for pressure, expected in ((1e5 + 5.0, 0.199), (1e5 - 5.0, 4.801)):
        run = relax(network, [5, 0, 0], CLAMPED, [0.3], pressure=[1e5, pressure, 1e5], max_step=1e-3)
        assert run.voltage[-1, 0, 1] == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("reverse", [(False, False), (True, True), (True, False)])
def test_default_divider_has_one_stable_state(make_divider, reverse):
    found = steady_states(make_divider(reverse=reverse), [5, 0, 0], CLAMPED)
    assert not found.ambiguous
    assert found.message == "the network has one steady state"


def test_no_state_is_said(make_divider):
    found = steady_states(make_divider(minimum_conductance=0.0), [5, 0, 0], CLAMPED, pressure=[1e5, 1.3e5, 1e5])
    assert found.ambiguous
    assert len(found.voltage) == 0
    assert "no steady state" in found.message
    assert "floor" in found.message


def test_two_coupled_dilute_dividers_have_states_of_both():
    """With a weak link between them every combination of the two stable halves remains."""
    device, wire = law("conical_channel", preset="letter"), law("ohmic")
    nodes = [Node(n, concentration=0.1) for n in ("high", "a", "b", "low")]
    edges = [Edge(f"{m}{end}", *ends, device, {}) for m in "ab" for end, ends in (("up", ("high", m)), ("down", (m, "low")))]
    network = Network.build(nodes, [*edges, Edge("link", "a", "b", wire, {"conductance": 1e-16})])
    found = steady_states(network, [5, 0, 0, 0], [True, False, False, True], starts=60)
    assert found.stable.sum() == 4
    assert sorted(np.round(found.voltage[found.stable][:, 1:3].ravel(), 1)) == [0.2] * 4 + [4.8] * 4


def test_all_clamped_network_has_one(make_divider):
    assert not steady_states(make_divider(), [1, 0.5, 0], [True, True, True]).ambiguous
