"""The program where what only POSIX has is missing: see ``windows/sitecustomize.py``. Pipes are those of a Western Windows."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import sigkill
from benchmarks.kill_scenes import Scene, electrical
from hil.record.logbook import add_note
from tests.marks import needs_posix

ROOT = Path(__file__).parents[2]
pytestmark = [
    needs_posix,  # Windows needs nobody to play it
    pytest.mark.skipif(sys.platform != "linux", reason="locks of open files, and /proc, as Linux has them"),
]
LETTERS = {
    "PYTHONUTF8": "0",
    "PYTHONIOENCODING": "cp1252",
    "PYTHONCOERCECLOCALE": "0",
    "LC_ALL": "C",
    "PYTHONWARNDEFAULTENCODING": "1",
    "PYTHONWARNINGS": "ignore::EncodingWarning",
    "MPLBACKEND": "Agg",
    "COLUMNS": "200",
}
IMPORT_ALL = """
import importlib, pkgutil, sys
for package in ("hil", "instruments", "simulated_backend", "protocols"):
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        try:
            importlib.import_module(found.name)
        except Exception as error:
            if getattr(error.__cause__ or error, "name", "") not in ("torch", "pyarrow"):  # optional, and not of the system
                raise
from hil.core import file_lock
print(file_lock.sys.platform, file_lock.os.name, hasattr(file_lock, "msvcrt"), hasattr(file_lock, "fcntl"))
"""


def environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        **LETTERS,
        "TMPDIR": str(folder),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent / "windows"), str(ROOT)]),
    }


def python(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        encoding="cp1252",
        check=False,
        timeout=300,
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
                [sys.executable, "-m", "hil.cli", *arguments], cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE,
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
    add_note(1, "ΔV ≥ 5 µV", tmp_path / "data")
    for arguments in (["export", "1"], ["show", "1"]):
        done = hil(tmp_path, *arguments)
        assert (done.returncode, done.stderr) == (0, ""), arguments
    assert "?V ? 5 µV" in done.stdout  # letters that the pipe has not, and one that it has


def test_a_divider_is_trained_through_drivers_and_sockets(tmp_path: Path) -> None:
    few = ["--set", "stop.max_steps=1", "--set", "stop.loss_below=1 V^2"]  # reached by the first step
    done = hil(tmp_path, "run", "voltage_divider_concentration", "--on", "virtual", *few, "--json")
    assert json.loads(done.stdout.splitlines()[-1])["outcome"] == "converged", done.stderr


def test_a_serial_line_cannot_be_emulated(tmp_path: Path) -> None:
    done = hil(tmp_path, "run", "voltage_divider", "--bench", "divider_five_transports", "--on", "virtual")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "'pace2' asks for `transport: serial`, and this system has no pseudo-terminals" in line


def test_emulators_stop_on_ctrl_c(started: Any) -> None:
    process = started("virtual", "divider")
    for line in process.stdout:
        if "emulators are running" in line:
            break
    time.sleep(0.5)  # it waits by now
    os.kill(process.pid, signal.SIGINT)
    assert process.stdout.read().strip() == "stopped"
    assert process.wait(240) == 0


LOCK = """
import sys
from pathlib import Path
from hil.locks import locked_bench
from instruments.guard_process import Guard
with locked_bench(["TCPIP0::192.0.2.1::5025::SOCKET"], "a night", "Ada") as locks:
    guard = Guard(Path("guarded"), locks)
    guard.start(lambda: {"instruments": [], "edges": []})
    guard.arm()
    print(guard.pid, flush=True)
    if sys.argv[1:] == ["wait"]:
        sys.stdin.readline()
    guard.dismiss()
"""


def test_nobody_takes_a_bench_that_its_guard_still_brings_home(tmp_path: Path) -> None:
    assert python(tmp_path, "-c", LOCK).returncode == 0
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, "wait"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        guard = int(process.stdout.readline())
        assert "in use by Ada for a night" in python(tmp_path, "-c", LOCK).stderr
        os.kill(guard, signal.SIGSTOP)
        process.kill()
    try:
        assert "in use by Ada for a night" in python(tmp_path, "-c", LOCK).stderr
    finally:
        os.kill(guard, signal.SIGCONT)
    until(lambda: python(tmp_path, "-c", LOCK).returncode == 0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = electrical(tmp_path_factory.mktemp("windows") / "electrical", 0.5)
    yield made
    made.virtual.stop()


@pytest.mark.parametrize("way", ["its console is closed", "hil emergency", "hil stop"])
def test_however_a_program_ends_its_bench_is_safe(place: Scene, started: Any, tmp_path: Path, way: str) -> None:
    process = started("run", *place.arguments, "--on", "bench", "--data", str(place.data))
    until(lambda: process.poll() is not None or abs(place.virtual.side_door.sources()["smu"]["smua"]["level"]) > 4.9)
    assert process.poll() is None, process.stdout.read()
    if way == "its console is closed":
        os.killpg(process.pid, signal.SIGKILL)  # everybody who is attached to it ends
    else:
        done = hil(tmp_path, way.removeprefix("hil "), "--data", str(place.data))
        assert (done.returncode, done.stderr) == (0, "")
        assert f"process {process.pid} " in done.stdout
    assert process.wait(240) == (5 if way == "hil stop" else -signal.SIGKILL)
    until(lambda: sigkill.voltages(place, 0.0)[0])
    until(lambda: sigkill.rested(place.virtual.side_door))


def until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 240.0
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)
