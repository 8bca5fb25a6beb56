"""Adjoint gradients against differences of predictions, and what terminals take away."""

from dataclasses import replace

import numpy as np
import pytest

from hil.core.errors import ConfigError, NotConvergedError
from hil.core.types import Channel, Kind, Layout, Quantity, SettlePolicy, Stimulus
from simulated_backend.devices.registry import law
from simulated_backend.loading import loading
from simulated_backend.network import Edge, Network, Node
from simulated_backend.twin import SimulatedTwin

CLAMPED = np.array([True, False, True])
POINTS = {
    "pressure": [1e5, 0.98e5, 1.01e5],
    "concentration": [0.2, 0.17, 0.25],
    "length": [1e-5, 7e-6],
    "radius_ratio_fixed_base": [4.0, 3.0],
    "radius_ratio_fixed_tip": [4.0, 3.0],
}


def numeric(twin, values, connected, cotangent):
    out = []
    for position, value in enumerate(values):
        h = 1e-4 * abs(value)
        shifted = [np.where(np.arange(len(values)) == position, value + k * h, values) for k in (-2, -1, 1, 2)]
        low, lower, upper, high = twin.predict([Stimulus.of(s, connected) for s in shifted]) @ cotangent
        out.append((low - 8 * lower + 8 * upper - high) / (12 * h))
    return np.array(out)


@pytest.mark.parametrize("weights", list(POINTS))
def test_gradient_equals_differences_of_predictions(make_divider, layouts, weights):
    twin = SimulatedTwin(make_divider(), *layouts(weights), loads={"2": (1e-13, 1e-13)})
    values, cotangent = np.array([1.0, 0.1, *POINTS[weights]]), np.array([1.0, 1e11])
    found = twin.vjp([Stimulus.of(values)] * 2, np.array([cotangent, 2 * cotangent]))
    expected = numeric(twin, values, None, cotangent)
    assert found[0] == pytest.approx(expected, rel=1e-8)
    assert found[1] == pytest.approx(2 * found[0], rel=1e-12)


def test_gradient_of_a_floating_source_is_zero(make_divider, layouts):
    twin = SimulatedTwin(make_divider(), *layouts("length"), loads={"2": (1e-12, 0.0)})
    values, connected = np.array([1.0, 0.4, 1e-5, 7e-6]), [True, False, True, True]
    found = twin.vjp([Stimulus.of(values, connected)], np.array([[1.0, 1e10]]))[0]
    assert found[1] == 0.0
    assert found == pytest.approx(numeric(twin, values, connected, np.array([1.0, 1e10])), rel=1e-7, abs=1e-6)


def test_gradient_on_a_mixed_network_with_two_tunables_per_edge():
    """Base radius and ratio of one edge together: the ratio moves the tip, the base radius moves both."""
    cone, wire = law("conical_channel"), law("ohmic")
    nodes = [Node(n, concentration=0.2, pressure=1e5) for n in "1234"]
    edges = [
        Edge("a", "1", "2", cone, {}),
        Edge("b", "3", "2", cone, {"length": 5e-6}),
        Edge("c", "3", "4", wire, {"conductance": 4e-12}),
        Edge("d", "2", "4", cone, {}, 3.0),
    ]
    tuned = [("a", "radius_ratio_fixed_base"), ("a", "base_radius"), ("c", "conductance"), ("d", "length")]
    controls = Layout(
        (
            Channel("V1", Quantity.VOLTAGE, Kind.DRIVE, -5, 5, node="1"),
            Channel("V4", Quantity.VOLTAGE, Kind.DRIVE, -5, 5, node="4"),
            Channel("P3", Quantity.PRESSURE, Kind.DRIVE, 0, 2e5, node="3"),
            *(Channel(f"{e}.{p}", Quantity.RATIO, Kind.TUNE, edge=e, parameter=p) for e, p in tuned),
        )
    )
    outputs = Layout(
        (
            Channel("V2", Quantity.VOLTAGE, Kind.SENSE, node="2"),
            Channel("V3", Quantity.VOLTAGE, Kind.SENSE, node="3"),
            Channel("I4", Quantity.CURRENT, Kind.SENSE, node="4"),
        )
    )
    twin = SimulatedTwin(Network.build(nodes, edges), controls, outputs)
    values, cotangent = np.array([1.0, -0.2, 1.003e5, 3.0, 210e-9, 5e-12, 8e-6]), np.array([1.0, -0.5, 2e11])
    found = twin.vjp([Stimulus.of(values)], cotangent[np.newaxis])[0]
    assert found == pytest.approx(numeric(twin, values, None, cotangent), rel=1e-7)


def test_twin_predicts_what_the_backend_reads(make_backend, make_divider, layouts):
    twin = SimulatedTwin(make_divider(), *layouts("pressure"))
    points = [Stimulus.of([5.0, 0.0, 1e5, p, 1e5]) for p in (0.99e5, 1e5, 1.02e5)]
    assert np.array_equal(twin.predict(points), make_backend(weights="pressure").measure(points, SettlePolicy()).values)


def test_twin_says_where_there_is_no_state(make_divider, layouts):
    twin = SimulatedTwin(make_divider(minimum_conductance=0.0), *layouts("pressure"))
    point = [Stimulus.of([5.0, 0.0, 1e5, 1.3e5, 1e5])]
    for ask in (lambda: twin.predict(point), lambda: twin.vjp(point, np.ones((1, 2)))):
        with pytest.raises(NotConvergedError, match="steady state"):
            ask()


def test_all_derivatives_at_once_equal_differences_of_predictions(make_divider, layouts):
    network, wired = make_divider(), layouts("pressure")
    values = np.array([3.0, 0.1, 1e5, 0.98e5, 1.01e5])
    points = [Stimulus.of(values), Stimulus.of([0.0, 2.0, *values[2:]], [True, False, True, True, True])]
    found, by_control, by_edge = SimulatedTwin(network, *wired).linearised(points)
    assert np.array_equal(found, SimulatedTwin(network, *wired).predict(points))
    for output, cotangent in enumerate(np.eye(found.shape[1])):
        expected = numeric(SimulatedTwin(network, *wired), values, None, cotangent)
        assert by_control[0, output] == pytest.approx(expected, rel=1e-6)
    step = 1e-4
    for edge, row in enumerate(np.eye(network.n_edges)):
        up, down = (
            SimulatedTwin(replace(network, parallel=network.parallel * np.exp(sign * step * row)), *wired).predict(points)
            for sign in (1.0, -1.0)
        )
        assert by_edge[..., edge] == pytest.approx((up - down) / (2.0 * step), rel=1e-6, abs=1e-20)


def test_without_a_rescue_only_the_row_without_a_state_is_lost(make_divider, layouts):
    twin = SimulatedTwin(make_divider(minimum_conductance=0.0), *layouts("pressure"))
    points = [Stimulus.of([5.0, 0.0, 1e5, p, 1e5]) for p in (1.3e5, 1e5)]
    found = twin.attempted(points)
    assert np.isnan(found[0]).all()
    assert np.array_equal(found[1], twin.predict(points[1:])[0])
    values, by_control, by_edge = twin.linearised(points)
    for one in (values, by_control, by_edge):
        assert np.isnan(one[0]).all()
        assert np.isfinite(one[1]).all()


def test_ten_gigaohm_takes_95_percent_of_a_single_channel_and_a_thousandth_of_a_membrane(make_divider):
    single = loading(make_divider(), [5, 0, 0], CLAMPED, {"2": (1e10, 0.0)})
    assert single.relative[1] == pytest.approx(0.95, abs=5e-3)
    assert single.error[1] == pytest.approx(single.alone["2"])
    assert single.loaded[1] == pytest.approx(single.without[1] + single.error[1])
    membrane = loading(make_divider(parallel=20000.0), [5, 0, 0], CLAMPED, {"2": (1e10, 0.0)})
    assert membrane.relative[1] == pytest.approx(1e-3, abs=2e-4)
    offset = loading(make_divider(), [0.1, 0, 0], CLAMPED, {"2": (np.inf, 2e-12)})
    assert 0.05 < offset.error[1] < 1.0


def test_terminals_that_cannot_be_are_refused(make_divider):
    for terminals, sentence in (
        ({"9": (1e9, 0.0)}, "no such node"),
        ({"2": (0.0, 0.0)}, "no terminal"),
        ({"2": (1e9, np.nan)}, "no terminal"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            loading(make_divider(), [5, 0, 0], CLAMPED, terminals)
