"""Crossbars with wire resistance (1 Ω segments, 10-100 kΩ cells) against badcrossbar."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks import peers
from benchmarks.result import Result, best_time

NAMES = tuple(f"crossbar/{n}" for n in (64, 128, 256, 512))
_SCRIPT = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np, badcrossbar
data = np.load(sys.argv[1])
times = []
for _ in range(int(sys.argv[2])):
    begin = time.perf_counter()
    found = badcrossbar.compute(data["v"].T, 1.0 / data["g"], 1.0)
    times.append(time.perf_counter() - begin)
print(json.dumps({"seconds": min(times), "out": np.asarray(found.currents.output).ravel().tolist()}))
"""


def run(name: str) -> Iterable[Result]:
    """One input vector; compared are the output currents."""
    from simulated_backend.crossbar import Crossbar

    n = int(name.split("/")[1])
    rng = np.random.default_rng(n)
    crossbar = Crossbar(1.0 / rng.uniform(1e4, 1e5, (n, n)))
    v = rng.uniform(0.0, 1.0, (1, n))
    out = crossbar.solve(v).output[0]
    ours = best_time(lambda: crossbar.solve(v))
    python = peers.python_with("badcrossbar", ("numpy", "scipy", "pathvalidate", "sigfig"), ("--no-deps", "badcrossbar"))
    if isinstance(python, str):
        yield Result(name, n, ours, None, None, None, None, None, python)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "crossbar.npz"
        np.savez(path, v=v, g=crossbar.cells)
        found = json.loads(peers.call(python, _SCRIPT, str(path), str(5 if n <= 128 else 2)))
    error = float(np.max(np.abs(np.asarray(found["out"]) / out - 1.0)))
    peer = float(found["seconds"])
    yield Result(name, n, ours, "badcrossbar", peer, peer / ours, error, 1e-8)
