"""The adjoint of every law the registry knows that has a steady state, against finite differences on random networks."""

import numpy as np
import pytest

from hil.core.types import Channel, Kind, Layout, Quantity, Stimulus
from simulated_backend.devices import registry
from simulated_backend.devices.base import StateKind
from simulated_backend.network import Edge, Network, Node
from simulated_backend.twin import SimulatedTwin

STEADY = [name for name in registry.names() if registry.law_class(name).kind is not StateKind.RATE]
# laws that cannot be made without options, and numbers for parameters without a default
OPTIONS = {
    "tabulated": {"volts": [-2.0, -1.0, 0.0, 1.0, 2.0], "amperes": [-5e-3, -1e-3, 0.0, 2e-3, 3e-3]},
    "stuck": {"law": "ohmic"},
}
MISSING = {"conductance": 1e-3, "time_constant": 1e-2, "stuck_conductance": 2e-3, "full_current": 5e-5, "safe_voltage": 1.0}


def world(name, seed):
    """A random connected network of one law between two sources, one control for each source and each tunable of an edge."""
    rng = np.random.default_rng([seed, len(name)])
    device = registry.law(name, **OPTIONS.get(name, {}))
    parameters = {key: MISSING[key] for key in device.parameters if device.default(key) is None}
    pairs = [(k, k + 1) for k in range(5)] + [tuple(int(i) for i in rng.choice(6, 2, replace=False)) for _ in range(4)]
    nodes = [Node(str(k), concentration=0.2, pressure=1e5 + 200.0 * k) for k in range(6)]
    network = Network.build(nodes, [Edge(str(k), str(i), str(j), device, parameters) for k, (i, j) in enumerate(pairs)])
    controls = [Channel(f"V{node}", Quantity.VOLTAGE, Kind.DRIVE, node=node) for node in ("0", "5")]
    values = [0.7, -0.2]
    for place, tunable in enumerate(device.tunables()):
        edge = str(place % len(pairs))
        group = network.groups[0]
        if tunable in group.parameters:
            value = float(group.parameters[tunable][int(edge)])
        else:  # a ratio of two radii
            value = float(group.parameters["base_radius"][int(edge)] / group.parameters["tip_radius"][int(edge)])
        controls.append(Channel(f"{tunable}.{edge}", Quantity.RATIO, Kind.TUNE, edge=edge, parameter=tunable))
        values.append(value)
    outputs = [Channel(f"U{node}", Quantity.VOLTAGE, Kind.SENSE, node=node) for node in ("1", "2", "3")]
    outputs.append(Channel("I", Quantity.CURRENT, Kind.SENSE, node="5"))
    return SimulatedTwin(network, Layout(tuple(controls)), Layout(tuple(outputs))), np.array(values)


def test_the_registry_has_laws_with_a_steady_state():
    assert {"ohmic", "conical_channel", "saturating", "tabulated"} <= set(STEADY)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", STEADY)
def test_adjoint_equals_finite_differences(name, seed):
    twin, values = world(name, seed)
    size = twin.predict([Stimulus.of(values)])[0]
    cotangent = np.array([1.0, -2.0, 0.5, 1.0 / max(abs(size[3]), 1e-15)])
    exact = twin.vjp([Stimulus.of(values)], cotangent[np.newaxis])[0]
    measured, scales = np.empty_like(exact), np.empty_like(exact)
    for k, value in enumerate(values):
        step = 1e-4 * (abs(value) or 1e-2)
        rows = []
        for shift in (-2.0, -1.0, 1.0, 2.0):
            moved = values.copy()
            moved[k] += shift * step
            rows.append(Stimulus.of(moved))
        y = twin.predict(rows) @ cotangent
        measured[k], scales[k] = (y[0] - 8.0 * y[1] + 8.0 * y[2] - y[3]) / (12.0 * step), abs(value) or 1e-2
    weighted = exact * scales, measured * scales  # every control counts by what a relative change of it does
    assert np.linalg.norm(exact) > 0.0
    assert np.linalg.norm(weighted[0] - weighted[1]) < 1e-4 * np.linalg.norm(weighted[0])
