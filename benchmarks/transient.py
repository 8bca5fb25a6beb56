"""Ten time constants of relaxation against ngspice's transient at its default tolerance."""

from collections.abc import Iterable

import numpy as np

from benchmarks import ngspice
from benchmarks.nets import NETS, Net, load
from benchmarks.result import Result, best_time
from hil.core.types import FloatArray

NAMES = tuple(f"transient/{net}" for net in NETS)
_REPEATS = {6: 40, 100: 4, 1000: 1, 10000: 1}
_TOLERANCE = 1e-3


def _golden(net: Net) -> FloatArray | None:
    """Voltages at t = τ and at the end: the golden data, else our own run at a hundredth of the tolerance."""
    if net.v_t is None:
        return None
    at = [int(np.argmin(np.abs(net.times - t))) for t in (1.0, 10.0)]
    return np.asarray(net.v_t[at])


def run(name: str) -> Iterable[Result]:
    """Both sides end within 1e-3 of the golden data at t = τ and at t = 10 τ (ours is checked; ngspice at the end)."""
    from simulated_backend.solve.relaxing import RelaxingNetwork
    from simulated_backend.solve.transient import segments

    net = load(name.split("/")[1])
    network = net.network
    prepared = RelaxingNetwork.of(network, net.clamped)
    if prepared is None:
        raise RuntimeError("the golden law has lost its kernel")
    cut, wanted = segments([0.0], [net.voltage], [1.0, 10.0], net.clamped)
    rest = (net.conductance[np.newaxis],)
    quiet = np.zeros(network.n_nodes)
    found = prepared.run(cut, wanted, rest, quiet, _TOLERANCE)
    golden = _golden(net)
    if golden is None:
        golden = prepared.run(cut, wanted, rest, quiet, 1e-2 * _TOLERANCE).voltage
    error = float(np.max(np.abs(found.voltage - golden)))
    ours = best_time(lambda: prepared.run(cut, wanted, rest, quiet, _TOLERANCE))
    size = network.n_edges
    if not ngspice.available() or name.endswith("rand10000"):
        note = ngspice.ABSENT if not ngspice.available() else "ngspice without KLU needs half an hour here: no fair opponent"
        yield Result(name, size, ours, None, None, None, error, 1e-3, note)
        return
    repeats = _REPEATS[int("".join(c for c in name if c.isdigit()))]
    peer, answer = ngspice.run(net, "tran 0.1 10 uic", repeats)
    apart = float(np.max(np.abs(answer - golden[-1])))
    again = best_time(lambda: prepared.run(cut, wanted, rest, quiet, _TOLERANCE))
    ours = min(ours, again)
    yield Result(name, size, ours, "ngspice", peer, peer / ours, error, 1e-3, f"ngspice ends {apart:.1e} V from the golden data")
