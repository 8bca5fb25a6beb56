"""Chord differences against brute force, the adjoint against both, for every law with a steady state; copies."""

import numpy as np
import pytest

from hil.core.errors import CapabilityError, ConfigError
from simulated_backend.devices.registry import law
from simulated_backend.network import Edge, Network, Node
from simulated_backend.solve import adjoint, gradient
from simulated_backend.solve.compiled import PreparedNetwork
from simulated_backend.solve.copies import Copies
from simulated_backend.solve.operating_point import solve_operating_point

CASES = {
    "ohmic": (law("ohmic"), {"conductance": 1e-3}, "conductance", 1e-8),
    "saturating": (law("saturating"), {"conductance": 1e-3}, "amplitude", 1e-5),
    "conical": (law("conical_channel"), {}, "length", 1e-11),
    "conical ratio": (law("conical_channel"), {}, "radius_ratio_fixed_tip", 1e-5),
    "self-consistent": (law("conical_channel", form="self-consistent"), {}, "length", 1e-10),
    "tabulated": (
        law("tabulated", volts=[-2, -1, 0, 1, 2], amperes=[-5e-3, -1e-3, 0, 2e-3, 3e-3]),
        {"scale": 1.0},
        "scale",
        1e-6,
    ),
}


def random_network(case: str, seed: int = 0) -> Network:
    device, parameters, _, _ = CASES[case]
    rng = np.random.default_rng(seed)
    pairs = [(k, k + 1) for k in range(6)] + [tuple(int(i) for i in rng.choice(7, 2, replace=False)) for _ in range(6)]
    nodes = [Node(str(k), concentration=0.2, pressure=1e5 + 300.0 * k) for k in range(7)]
    return Network.build(nodes, [Edge(str(k), str(i), str(j), device, parameters) for k, (i, j) in enumerate(pairs)])


CLAMPED = np.arange(7) % 6 == 0
VOLTAGE = np.array([0.8, 0, 0, 0, 0, 0, -0.2])
OUTPUTS = [2, 3, 4]


@pytest.mark.parametrize("case", CASES)
def test_adjoint_equals_finite_differences(case: str) -> None:
    _, _, name, step = CASES[case]
    net = random_network(case)
    prepared = PreparedNetwork(net, CLAMPED)
    v = prepared.solve(VOLTAGE).voltage
    pull = np.zeros(7)
    pull[OUTPUTS] = [1.0, -2.0, 0.5]
    exact = adjoint.gradient(prepared, v, [name], pull)[0]
    measured = gradient.finite_difference(prepared, v, [name], [step], OUTPUTS)[0] @ pull[OUTPUTS]
    assert np.linalg.norm(exact - measured) < 1e-4 * np.linalg.norm(exact)


@pytest.mark.parametrize("case", CASES)
def test_chord_newton_solves_every_perturbed_network(case: str) -> None:
    _, _, name, step = CASES[case]
    net = random_network(case, 1)
    prepared = PreparedNetwork(net, CLAMPED)
    v = prepared.solve(VOLTAGE).voltage
    big = 1e3 * step
    found = gradient.perturbed_outputs(prepared, v, [name], [big], OUTPUTS)
    group = net.groups[0]
    here = adjoint.tunable_value(group, name)
    for e in (0, 5, 11):
        moved = here.copy()
        moved[e] += big
        other = net.with_parameters([group.law.tuned(group.parameters, name, moved)])
        np.testing.assert_allclose(found[e], solve_operating_point(other, VOLTAGE, CLAMPED).voltage[OUTPUTS], atol=1e-11)


def test_gradient_of_terminal_currents_and_by_sources() -> None:
    net = random_network("conical")
    prepared = PreparedNetwork(net, CLAMPED)
    base = solve_operating_point(net, VOLTAGE, CLAMPED)
    measure = np.where(CLAMPED, [2.0, 0, 0, 0, 0, 0, 1.0], 0.0)
    by_voltage = np.zeros(7)
    by_length = adjoint.gradient(prepared, base.voltage, ["length"], by_voltage, measure)[0]
    group, h = net.groups[0], 1e-10
    for e in (0, 7):
        moved = group.parameters["length"].copy()
        moved[e] += h
        other = net.with_parameters([{**group.parameters, "length": moved}])
        change = solve_operating_point(other, VOLTAGE, CLAMPED).terminal_current - base.terminal_current
        assert by_length[e] == pytest.approx(measure @ change / h, rel=1e-3)
    by_source = adjoint.gradient_by_sources(prepared, base.voltage, by_voltage, measure)
    for node in (0, 6):
        step = np.zeros(7)
        step[node] = 1e-5
        change = solve_operating_point(net, VOLTAGE + step, CLAMPED).terminal_current - base.terminal_current
        assert by_source[node] == pytest.approx(measure @ change / 1e-5, rel=1e-3)


def test_unknown_tunables_and_steps_are_refused() -> None:
    net = random_network("ohmic")
    prepared = PreparedNetwork(net, CLAMPED)
    v = prepared.solve(VOLTAGE).voltage
    with pytest.raises(ConfigError, match="no tunable 'length'"):
        gradient.finite_difference(prepared, v, ["length"], [1e-9], OUTPUTS)
    with pytest.raises(ConfigError, match="finite and not 0"):
        gradient.finite_difference(prepared, v, ["conductance"], [0.0], OUTPUTS)


def copied(case: str, count: int = 5) -> tuple[Network, Network]:
    net = random_network(case)
    rng = np.random.default_rng(3)
    group = net.groups[0]
    name = "length" if case == "conical" else "conductance"
    many = group.parameters[name] * (1.0 + 0.1 * rng.standard_normal((count, net.n_edges)))
    return net, net.with_parameters([{**group.parameters, name: many}])


@pytest.mark.parametrize("case", ["conical", "saturating"])
def test_copies_equal_the_batched_solver(case: str) -> None:
    _, many = copied(case)
    steady, good = Copies(many, CLAMPED).steady(VOLTAGE)
    assert good.all()
    np.testing.assert_allclose(steady, solve_operating_point(many, VOLTAGE, CLAMPED).voltage, atol=1e-10)


def test_euler_on_copies_repeats_the_plain_loop() -> None:
    net, many = copied("saturating", 200)
    g0 = many.groups[0].parameters["conductance"]
    voltage, g = Copies(many, CLAMPED).relax(VOLTAGE, 0.1, 20)
    incidence = np.zeros((net.n_edges, 7))
    incidence[np.arange(net.n_edges), net.base] = 1.0
    incidence[np.arange(net.n_edges), net.tip] = -1.0
    for copy in (0, 131, 199):
        mine = g0[copy].copy()
        for step in range(21):
            laplacian = incidence.T @ (mine[:, np.newaxis] * incidence)
            v = VOLTAGE.copy()
            v[~CLAMPED] = np.linalg.solve(laplacian[~CLAMPED][:, ~CLAMPED], -laplacian[~CLAMPED][:, CLAMPED] @ VOLTAGE[CLAMPED])
            if step < 20:
                mine += 0.1 * (g0[copy] * (1 + 0.5 * np.tanh(incidence @ v)) - mine)
        np.testing.assert_allclose(g[copy], mine, rtol=1e-12)
        np.testing.assert_allclose(voltage[copy], v, atol=1e-12)


def test_copies_refuse_steps_that_blow_up_and_laws_without_a_kernel() -> None:
    _, many = copied("saturating")
    with pytest.raises(ConfigError, match="twice the shortest time constant"):
        Copies(many, CLAMPED).relax(VOLTAGE, 2.5, 3)
    with pytest.raises(CapabilityError, match="no compiled kernel"):
        Copies(random_network("tabulated"), CLAMPED)
    with pytest.raises(ConfigError, match="do not fit"):
        Copies(many, CLAMPED).steady(np.zeros((3, 7)))
