"""A thousand perturbed copies of a five-node network, 133 Euler steps each, and their steady states by Newton."""

from collections.abc import Iterable

import numpy as np

from benchmarks.nets import load
from benchmarks.result import Result, best_time
from hil.core.types import FloatArray

NAMES = ("copies",)
_COPIES, _STEPS, _DT = 1000, 133, 0.1


def _by_numpy(edges: FloatArray, clamped: FloatArray, voltage: FloatArray, g0: FloatArray) -> FloatArray:
    """The same in numpy: batched ``linalg.solve``, the usual way to vectorise it."""
    free = np.flatnonzero(~clamped.astype(bool))
    n, m = voltage.size, len(edges)
    incidence = np.zeros((m, n))
    incidence[np.arange(m), edges[:, 0].astype(int)] = 1.0
    incidence[np.arange(m), edges[:, 1].astype(int)] = -1.0
    g, v = g0.copy(), np.repeat(voltage[np.newaxis], len(g0), axis=0)
    for _ in range(_STEPS):
        laplacian = np.einsum("ei,ke,ej->kij", incidence, g, incidence, optimize=True)
        right = -laplacian[:, free] @ np.where(clamped, voltage, 0.0)
        v[:, free] = np.linalg.solve(laplacian[:, free][:, :, free], right[..., np.newaxis])[..., 0]
        g += _DT * (g0 * (1.0 + 0.5 * np.tanh(v @ incidence.T)) - g)
    return v


def run(name: str) -> Iterable[Result]:
    """``ours_s`` and ``peer_s`` are seconds per copy and step."""
    from simulated_backend.solve.copies import Copies

    net = load("rand6")
    rng = np.random.default_rng(0)
    g0 = net.conductance * (1.0 + 0.01 * rng.standard_normal((_COPIES, net.network.n_edges)))
    network = net.network.with_parameters([{**net.network.groups[0].parameters, "conductance": g0}])
    copies = Copies(network, net.clamped)
    relaxed, _ = copies.relax(net.voltage, _DT, _STEPS)
    steady, good = copies.steady(net.voltage)
    each = _COPIES * _STEPS
    ours = best_time(lambda: copies.relax(net.voltage, _DT, _STEPS), rounds=10) / each
    arguments = net.edges.astype(np.float64), net.clamped.astype(np.float64), net.voltage, g0
    peer = best_time(lambda: _by_numpy(*arguments), rounds=3) / each
    error = float(np.max(np.abs(relaxed - steady))) if good.all() else float("inf")
    yield Result(
        name,
        _COPIES,
        ours,
        "numpy linalg.solve",
        peer,
        peer / ours,
        error,
        1e-5,
        "seconds per copy and step; error: Euler after 13.3 τ against Newton",
    )
