"""One explicit Euler step in the manner of the network papers' solver: resistors set, operating point taken, g advanced."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks import peers
from benchmarks.nets import load
from benchmarks.result import Result, best_time
from hil.core.types import FloatArray

NAMES = ("euler_step/rand6", "euler_step/rand100", "euler_step/rand1000")
_DT, _WHOLE, _EULER = 0.1, 100, 0
_SCRIPT = """
import json, logging, sys, time, warnings
warnings.simplefilter("ignore"); logging.disable(logging.CRITICAL)
import numpy as np, ahkab
from ahkab import circuit
data = np.load(sys.argv[1]); steps = int(sys.argv[2]); dt = 0.1
edges, g = data["edges"], data["g0"].copy()
c = circuit.Circuit("net")
clamped = np.flatnonzero(data["clamped"])
ground = int(clamped[-1])  # its potential is taken as zero and added afterwards
name = lambda k: c.gnd if k == ground else "n%d" % k
level = data["voltage"][ground]
for k in clamped[:-1]:
    c.add_vsource("V%d" % k, name(k), c.gnd, dc_value=data["voltage"][k] - level)
for k, (i, j) in enumerate(edges):
    c.add_resistor("R%d" % k, name(i), name(j), 1.0 / g[k])
resistors = [part for part in c if part.part_id.startswith("R")]
analysis = ahkab.new_op()
times = []
for _ in range(steps):
    begin = time.perf_counter()
    for k, part in enumerate(resistors):
        part.value = 1.0 / g[k]
        part.g = g[k]
    result = ahkab.run(c, analysis)["op"]
    v = np.array([0.0 if k == ground else float(result["VN%d" % k].item()) for k in range(len(data["voltage"]))]) + level
    drop = v[edges[:, 0]] - v[edges[:, 1]]
    g = g + dt * (data["g0"] * (1 + 0.5 * np.tanh(drop)) - g)
    times.append(time.perf_counter() - begin)
print(json.dumps({"seconds": min(times), "v": v.tolist(), "g": g.tolist()}))
"""


def run(name: str) -> Iterable[Result]:
    """Same step, same network; compared are conductances after a few steps."""
    from simulated_backend.solve.relaxing import RelaxingNetwork
    from simulated_backend.solve.transient import segments

    net = load(name.split("/")[1])
    network = net.network
    steps = 3
    prepared = RelaxingNetwork.of(network, net.clamped)
    if prepared is None:
        raise RuntimeError("the golden law has lost its kernel")
    rest, quiet = (net.conductance[np.newaxis],), np.zeros(network.n_nodes)

    def ours_after(count: int) -> FloatArray:
        cut, wanted = segments([0.0], [net.voltage], [_DT * count], net.clamped)
        course = prepared.run(cut, wanted, rest, quiet, 1.0, step=_DT, order=_EULER, inner=1e-9)
        return np.asarray(course.final[0][0])

    g = ours_after(steps)
    ours = best_time(lambda: ours_after(_WHOLE)) / _WHOLE
    python = peers.python_with(
        "ahkab",
        ("numpy==1.26.4", "scipy==1.12.0", "sympy", "tabulate", "setuptools<70", "wheel"),
        ("--no-build-isolation", "ahkab==0.18"),
    )
    if isinstance(python, str):
        yield Result(name, network.n_edges, ours, None, None, None, None, None, python)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.npz"
        np.savez(path, edges=net.edges, g0=net.conductance, clamped=net.clamped, voltage=net.voltage)
        found = json.loads(peers.call(python, _SCRIPT, str(path), str(steps)))
    error = float(np.max(np.abs(np.asarray(found["g"]) / g - 1.0)))
    peer = float(found["seconds"])
    yield Result(name, network.n_edges, ours, "ahkab 0.18", peer, peer / ours, error, 1e-6)
