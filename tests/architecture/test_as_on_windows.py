"""The program where what only POSIX has is missing: see ``windows/sitecustomize.py``. The pipes are those of a Western Windows."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.marks import needs_posix

ROOT = Path(__file__).parents[2]
pytestmark = [
    needs_posix,  # Windows needs nobody to play it
    pytest.mark.skipif(sys.platform != "linux", reason="locks of open files, and /proc, as Linux has them"),
]
LETTERS = {
    **{"PYTHONUTF8": "0", "PYTHONIOENCODING": "cp1252", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
    **{"PYTHONWARNDEFAULTENCODING": "1", "PYTHONWARNINGS": "ignore::EncodingWarning", "MPLBACKEND": "Agg", "COLUMNS": "200"},
}
IMPORT_ALL = """
import importlib, pkgutil, sys
for package in ("hil", "instruments", "simulated_backend", "protocols"):
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        try:
            importlib.import_module(found.name)
        except ImportError as error:
            if error.name not in ("torch", "pyarrow"):  # optional, and not of the system
                raise
from hil import locks
print(locks.sys.platform, locks.os.name, hasattr(locks, "msvcrt"), hasattr(locks, "fcntl"))
"""


def environment() -> dict[str, str]:
    return {**os.environ, **LETTERS, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent / "windows"), str(ROOT)])}


def python(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment(), capture_output=True, encoding="cp1252", check=False, timeout=300
    )


def hil(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return python(folder, "-m", "hil.cli", *arguments)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Any]:
    """Programs that go on, each at the console of its own; ended afterwards."""
    all_started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> "subprocess.Popen[str]":
        all_started.append(
            subprocess.Popen(
                [sys.executable, "-m", "hil.cli", *arguments], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE,
                encoding="cp1252", start_new_session=True,
            )
        )  # fmt: skip
        return all_started[-1]

    yield start
    for one in all_started:
        if one.poll() is None:
            os.killpg(one.pid, signal.SIGKILL)
        one.wait()
        assert one.stdout is not None
        one.stdout.close()


def test_every_module_can_be_imported(tmp_path: Path) -> None:
    done = python(tmp_path, "-c", IMPORT_ALL)
    assert done.stdout.split() == ["win32", "nt", "True", "False"], done.stderr


def test_a_divider_is_trained_shown_and_exported(tmp_path: Path) -> None:
    done = hil(tmp_path, "run", str(ROOT / "protocols" / "voltage_divider.yaml"), "--json")
    assert json.loads(done.stdout.splitlines()[-1])["outcome"] == "converged", done.stderr
    for arguments in (["runs"], ["show", "1"], ["export", "1"], ["note", "1", "ΔV ≥ 5 µV"], ["show", "1"]):
        done = hil(tmp_path, *arguments)
        assert (done.returncode, done.stderr) == (0, ""), arguments
    assert "?V ? 5 µV" in done.stdout  # letters that the pipe has not, and one that it has


def test_a_divider_is_trained_through_drivers_and_sockets(tmp_path: Path) -> None:
    done = hil(tmp_path, "run", "voltage_divider", "--on", "virtual", "--json")
    assert json.loads(done.stdout.splitlines()[-1])["outcome"] == "converged", done.stderr
