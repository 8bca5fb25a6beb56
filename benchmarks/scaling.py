"""Time per operating point from a thousand to a million edges; the slope of log time over log size is the exponent."""

from collections.abc import Iterable
from functools import partial

import numpy as np

from benchmarks.nets import drawn
from benchmarks.result import Result, best_time

NAMES = ("scaling/grid", "scaling/rand", "scaling/grid-two-terminals", "scaling/rand-two-terminals")
_SIZES = (1000, 10_000, 100_000, 1_000_000)


def run(name: str) -> Iterable[Result]:
    """One line a size and one for the exponent (its ``ratio``; bound 1.3); ``error`` is the Kirchhoff residual."""
    from simulated_backend.solve.compiled import PreparedNetwork

    _, _, kind = name.partition("/")
    shape, _, terminals = kind.partition("-")
    seconds, edges = [], []
    for size in _SIZES:
        net = drawn(shape, size, terminals=2 if terminals else 0.05)
        prepared = PreparedNetwork(net.network, net.clamped)
        voltage = net.voltage.copy()
        ours = best_time(partial(prepared.solve_in_place, voltage), rounds=3 if size > 10_000 else 5)
        current, _ = prepared.edge_steady(voltage)
        lost = prepared.imbalance(current, voltage, np.zeros(prepared.pattern.size))
        error = float(np.max(np.abs(lost)) / np.max(np.abs(current)))
        seconds.append(ours)
        edges.append(net.network.n_edges)
        yield Result(name, net.network.n_edges, ours, None, None, None, error, 1e-9, prepared.core.method)
    exponent = float(np.polyfit(np.log(edges), np.log(seconds), 1)[0])
    yield Result(name, edges[-1], seconds[-1], None, None, exponent, max(exponent - 1.3, 0.0), 0.0, "ratio: exponent of the size")
