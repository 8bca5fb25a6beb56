"""Peers that live in environments of their own, made on first use with pip under the user's cache folder."""

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "memristor-hil"


def python_with(name: str, *steps: tuple[str, ...]) -> Path | str:
    """Interpreter of environment ``name``, or a sentence why there is none; ``steps``: arguments of ``pip install``."""
    folder = ROOT / f"peer-{name}-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = folder / "ready"
    if ready.is_file():
        return python
    try:
        venv.create(folder, with_pip=True, clear=True)
        for step in steps:
            done = subprocess.run(
                [str(python), "-m", "pip", "install", "--quiet", *step], capture_output=True, text=True, timeout=900, check=False
            )
            if done.returncode:
                return f"{name} could not be installed: {done.stderr.strip().splitlines()[-1:]}"
        ready.write_text("")
    except (OSError, subprocess.SubprocessError) as error:
        return f"{name} could not be installed: {error}"
    return python


def call(python: Path, script: str, *arguments: str, timeout: float = 1800.0) -> str:
    """What ``script`` prints last; raises RuntimeError when it fails."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "OPENBLAS_CORETYPE")}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(python), "-c", script, *arguments], capture_output=True, text=True, timeout=timeout, check=False, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"the peer failed: {done.stderr[-600:]}")
    return done.stdout.strip().splitlines()[-1]
