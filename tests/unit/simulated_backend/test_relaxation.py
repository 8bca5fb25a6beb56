"""The network in time: exact steps, orders of convergence, capacitances."""

import numpy as np
import pytest

from hil.core.errors import CapabilityError, ConfigError, NotConvergedError
from simulated_backend.devices.registry import law
from simulated_backend.network import Edge, Network, Node
from simulated_backend.solve.operating_point import solve_operating_point
from simulated_backend.solve.relaxation import relax

CLAMPED = np.array([True, False, True])


def test_step_response_reaches_one_minus_one_over_e_at_tau():
    device = law("conical_channel")
    network = Network.build([Node("1", concentration=0.2), Node("2", concentration=0.2)], [Edge("a", "1", "2", device, {})])
    tau = 1e-10 / (12 * 1.75e-9)
    assert tau == pytest.approx(4.762e-3, abs=1e-6)
    run = relax(network, [1.0, 0.0], [True, True], [0.0, tau, 60 * tau])
    current = run.terminal_current[:, 0, 0]
    assert (current[1] - current[0]) / (current[2] - current[0]) == pytest.approx(1 - np.exp(-1), abs=1e-12)


@pytest.mark.parametrize("order", [1, 2])
def test_order_of_convergence(make_divider, order):
    network = make_divider(reverse=(True, False))
    ends = [
        relax(network, [5, 0, 0], CLAMPED, [8e-3], max_step=h, order=order).voltage[-1, 0, 1] for h in (1e-3, 5e-4, 2.5e-4, 2e-5)
    ]
    errors = np.abs(np.array(ends[:3]) - ends[3])
    assert np.log2(errors[:-1] / errors[1:]) == pytest.approx([order, order], abs=0.2)


def test_second_order_with_capacitance_and_memory(make_divider):
    network = make_divider(reverse=(True, False), capacitance=2e-14)
    ends = [relax(network, [5, 0, 0], CLAMPED, [4e-3], max_step=h).voltage[-1, 0, 1] for h in (1e-4, 5e-5, 2.5e-5, 2e-6)]
    errors = np.abs(np.array(ends[:3]) - ends[3])
    assert np.log2(errors[:-1] / errors[1:]) == pytest.approx([2, 2], abs=0.2)


def test_resistor_and_capacitor_charge_exponentially():
    device = law("ohmic")
    network = Network.build([Node("in"), Node("out", capacitance=1e-9)], [Edge("r", "in", "out", device, {"conductance": 1e-6})])
    times = np.linspace(0, 4e-3, 9)
    run = relax(network, [1.0, 0.0], [True, False], times, max_step=1e-5)
    assert run.voltage[:, 0, 1] == pytest.approx(1 - np.exp(-times / 1e-3), abs=2e-5)
    started = relax(network, [1.0, 0.0], [True, False], times, start=[0.0, 1.0], max_step=1e-5)
    assert started.voltage[:, 0, 1] == pytest.approx(1.0, abs=1e-12)


def test_stiff_capacitance_does_not_ring(make_divider):
    network = make_divider(reverse=(True, False), capacitance=1e-19)
    run = relax(network, [5, 0, 0], CLAMPED, np.linspace(1e-3, 0.02, 20), max_step=1e-3)
    assert np.all(np.diff(run.voltage[:, 0, 1]) > 0)


def test_relaxation_ends_at_the_operating_point(make_divider):
    network = make_divider(reverse=(True, False), capacitance=1e-14)
    steady = solve_operating_point(network, [5, 0, 0], CLAMPED, shunt=[0, 1e-12, 0], injected=[0, 1e-13, 0])
    run = relax(network, [5, 0, 0], CLAMPED, [0.3], max_step=2e-3, shunt=[0, 1e-12, 0], injected=[0, 1e-13, 0])
    assert run.voltage[-1, 0] == pytest.approx(steady.voltage, abs=1e-9)


def test_segments_continue_where_the_last_one_ended(make_divider):
    network = make_divider(reverse=(True, False), capacitance=1e-14)
    whole = relax(network, [5, 0, 0], CLAMPED, [2e-3, 5e-3], max_step=1e-4)
    first = relax(network, [5, 0, 0], CLAMPED, [2e-3], max_step=1e-4)
    second = relax(network, [5, 0, 0], CLAMPED, [3e-3], max_step=1e-4, state=first.state, start=first.voltage[-1, 0])
    assert second.voltage[-1] == pytest.approx(whole.voltage[-1], abs=1e-12)


def test_what_it_cannot_do_is_refused(make_divider):
    with pytest.raises(ConfigError, match="rise"):
        relax(make_divider(), [5, 0, 0], CLAMPED, [2e-3, 1e-3])
    with pytest.raises(ConfigError, match="above 0 s"):
        relax(make_divider(), [5, 0, 0], CLAMPED, [1e-3], max_step=0.0)
    flux = law("flux_volatile")
    network = Network.build([Node("1"), Node("2")], [Edge("a", "1", "2", flux, {})])
    with pytest.raises(CapabilityError, match="flux_volatile"):
        relax(network, [1, 0], [True, True], [1e-3])


def test_lost_balance_is_an_error_not_a_number(make_divider):
    network = make_divider(minimum_conductance=0.0)
    state = (np.array([[[1e-12, -1e-12]]]),)
    with pytest.raises(NotConvergedError, match="no balance"):
        relax(network, [5, 0, 0], CLAMPED, [1e-3], state=state)
