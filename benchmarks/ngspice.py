"""ngspice as a peer: decks of the golden law, its own analysis time inside one running process."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.nets import Net
from hil.core.types import FloatArray

ABSENT = "ngspice is not installed (Debian: apt-get install ngspice)"


def available() -> bool:
    """Whether an ngspice is on the path."""
    return shutil.which("ngspice") is not None


def deck(net: Net, control: list[str]) -> str:
    """Per edge a source g0·(1 + V(x))·V(i,j) and a state node x: 1 F driven by 0.5·tanh(V(i,j)) − V(x) (τ = 1 s)."""
    lines = [f"* {net.name}"]
    lines += [f"V{k} n{k} 0 {net.voltage[k]:.17g}" for k in np.flatnonzero(net.clamped)]
    for k, ((i, j), g) in enumerate(zip(net.edges, net.conductance, strict=True)):
        lines += [
            f"B{k} n{i} n{j} I={g:.17g}*(1+V(x{k}))*V(n{i},n{j})",
            f"C{k} x{k} 0 1 IC=0",
            f"BS{k} 0 x{k} I=0.5*tanh(V(n{i},n{j}))-V(x{k})",
        ]
    return "\n".join([*lines, ".control", *control, "quit", ".endc", ".end", ""])


def run(net: Net, analysis: str, repeats: int, *, timeout: float = 3600.0) -> tuple[float, FloatArray]:
    """Seconds per analysis (ngspice's own count) and all node voltages at its end, (n_nodes,)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        wanted = " ".join(f"n{k}" for k in range(net.network.n_nodes))
        control = ["set noaskquit", "set numdgt=14", "set wr_vecnames", "option numdgt=14"]
        # plots that pile up would slow ngspice down: each run but the last is thrown away
        control += [f"repeat {repeats - 1}", analysis, "destroy", "end", analysis, "rusage everything"]
        control += [f"wrdata answer.txt {wanted}"]
        (path / "deck.cir").write_text(deck(net, control))
        done = subprocess.run(
            ["ngspice", "-b", "deck.cir"], cwd=path, capture_output=True, text=True, timeout=timeout, check=False
        )
        found = re.search(r"Total analysis time \(seconds\) = ([0-9.eE+-]+)", done.stdout + done.stderr)
        answer = path / "answer.txt"
        if found is None or not answer.is_file():
            raise RuntimeError(f"ngspice gave no answer for {net.name}: {(done.stdout + done.stderr)[-400:]}")
        table = np.loadtxt(answer, skiprows=1, ndmin=2)
        # wrdata writes pairs: scale, vector
        return float(found.group(1)) / repeats, np.asarray(table[-1, 1::2])
