"""Gradient over all edges: chord Newton against cold Newton, and the adjoint against one forward solve."""

from collections.abc import Iterable
from functools import partial

import numpy as np

from benchmarks.nets import Net, load
from benchmarks.result import Result, best_time
from hil.core.types import FloatArray

NAMES = ("fd_gradient", "adjoint")
_NET = "rand1000"
_STEP = 1e-4


def run(name: str) -> Iterable[Result]:
    """On the random network of 1,000 edges; outputs are three free nodes, the cost their summed squared voltage."""
    yield (_differences if name == "fd_gradient" else _adjoint)(load(_NET))


def _differences(net: Net) -> Result:
    from simulated_backend.solve.compiled import PreparedNetwork
    from simulated_backend.solve.gradient import perturbed_outputs

    prepared = PreparedNetwork(net.network, net.clamped)
    voltage = net.voltage.copy()
    prepared.solve_in_place(voltage)
    outputs = prepared.free[:3].astype(np.intp)
    h = _STEP * net.conductance
    found = perturbed_outputs(prepared, voltage, ["conductance"], [h], outputs)
    ours = best_time(lambda: perturbed_outputs(prepared, voltage, ["conductance"], [h], outputs))

    parameters = net.network.groups[0].parameters
    error = 0.0
    cold: list[float] = []
    for e in range(0, net.network.n_edges, 50):
        moved = net.conductance.copy()
        moved[e] += h[e]
        other = PreparedNetwork(
            net.network.with_parameters([{**parameters, "conductance": moved}]), net.clamped, pattern=prepared.pattern
        )
        v = net.voltage.copy()
        other.solve_in_place(v)
        error = max(error, float(np.max(np.abs(v[outputs] - found[e]))))
        if e % 250 == 0:
            cold.append(best_time(partial(other.solve_in_place, v), rounds=3))
    peer = float(np.mean(cold)) * net.network.n_edges
    return Result(
        "fd_gradient", net.network.n_edges, ours, "cold Newton", peer, peer / ours, error, 1e-11, "error in volts of any output"
    )


def _adjoint(net: Net) -> Result:
    from simulated_backend.solve import adjoint
    from simulated_backend.solve.compiled import PreparedNetwork
    from simulated_backend.solve.gradient import finite_difference

    prepared = PreparedNetwork(net.network, net.clamped)
    voltage = net.voltage.copy()
    prepared.solve_in_place(voltage)
    outputs = prepared.free[:3].astype(np.intp)
    pull = np.zeros(net.network.n_nodes)
    pull[outputs] = 2.0 * voltage[outputs]

    def gradient() -> FloatArray:
        w = adjoint.weights(prepared, voltage, pull)
        drop = w[net.network.base] - w[net.network.tip]
        current, _ = prepared.edge_steady(voltage)
        return np.asarray(drop * current / net.conductance)  # I is proportional to g0

    ours = best_time(gradient)
    forward = best_time(lambda: prepared.solve_in_place(voltage))
    measured = finite_difference(prepared, voltage, ["conductance"], [1e-6 * net.conductance], outputs)[0] @ pull[outputs]
    mine = gradient()
    error = float(np.linalg.norm(mine - measured) / np.linalg.norm(mine))
    return Result(
        "adjoint",
        net.network.n_edges,
        ours,
        "one forward solve",
        forward,
        ours / forward,
        error,
        1e-4,
        "ratio: ours over the forward solve; error: relative, against finite differences",
    )
