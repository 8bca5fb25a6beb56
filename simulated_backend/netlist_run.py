"""ngspice as a peer: runs a deck in batch mode and reads its binary results."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hil.core.errors import BackendError, NotConvergedError
from hil.core.types import FloatArray


def find() -> str | None:
    """Path of the ngspice program, or None where it is not installed."""
    return shutil.which("ngspice")


def run(deck: str, *, timeout: float = 600.0) -> Mapping[str, FloatArray]:
    """Vectors of the deck's analysis by lower-case name, (n_points,) each; ``time`` among them in a transient.

    Raises BackendError where ngspice is missing, is not done within ``timeout`` s or rejects the deck, NotConvergedError
    where it finds no solution.
    """
    program = find()
    if program is None:
        raise BackendError("ngspice is not installed; on Debian and Ubuntu: apt-get install ngspice")
    with tempfile.TemporaryDirectory() as folder:
        source, raw = Path(folder, "deck.cir"), Path(folder, "result.raw")
        source.write_text(deck, encoding="utf-8")
        try:
            done = subprocess.run(
                [program, "-b", "-r", str(raw), str(source)],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=timeout,
                check=False,
                cwd=folder,
                # no start-up file of the user may change tolerances; and ngspice wants some home to exist
                env={**os.environ, "HOME": folder},
            )
        except subprocess.TimeoutExpired:
            raise BackendError(f"ngspice was not done after {timeout:g} s") from None
        said = done.stdout + done.stderr
        if not raw.exists() or raw.stat().st_size == 0:
            raise BackendError(f"ngspice produced no result: {_first_error(said)}")
        if re.search(r"timestep too small|simulation\(s\) aborted", said, re.IGNORECASE):
            raise NotConvergedError(f"ngspice found no solution: {_first_error(said)}")
        return _read(raw.read_bytes())


def _first_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if re.search(r"error|converge|singular|too small", line, re.IGNORECASE)]
    return lines[0] if lines else text.strip()[-200:]


def _read(content: bytes) -> Mapping[str, FloatArray]:
    """The last plot of a binary raw file with real numbers."""
    start = content.rfind(b"Plotname:")
    header, _, body = content[start:].partition(b"Binary:\n")
    text = header.decode("utf-8", errors="replace")
    count = int(re.findall(r"No\. Variables:\s*(\d+)", text)[0])
    points = int(re.findall(r"No\. Points:\s*(\d+)", text)[0])
    names = re.findall(r"^\s+\d+\s+(\S+)\s+\S+", text.partition("Variables:\n")[2], re.MULTILINE)[:count]
    numbers = np.frombuffer(body, dtype="<f8", count=count * points).reshape(points, count)
    return {name.lower(): numbers[:, column].copy() for column, name in enumerate(names)}
