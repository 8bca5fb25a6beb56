"""Killed, stopped, and stopped in an emergency: the program as a process, on instruments in real time, judged in the plant."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import sigkill
from hil.control import emergency
from hil.record.reader import list_runs
from tests.marks import needs_posix

pytestmark = needs_posix
SLACK = 1.0  # s; the benchmark measures, here other tests may have the processor


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, Any]]:
    """Bench file, data folder, and the running virtual bench with instruments for one client only."""
    folder = tmp_path_factory.mktemp("guarded")
    bench, virtual = sigkill.bench_file(folder)
    yield bench, folder / "data", virtual
    virtual.stop()


def until_driving(process: "subprocess.Popen[bytes]", door: Any) -> None:
    end = time.monotonic() + 60.0
    while abs(door.sources()["smu"]["smua"]["level"]) < 4.9:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.05)


def hil(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "hil.cli", *words], capture_output=True, text=True, timeout=60, check=False)


def test_killed_programs_leave_a_safe_bench_and_readable_data(place: tuple[Path, Path, Any]) -> None:
    bench, data, virtual = place
    rng = np.random.default_rng(11)
    for _ in range(2):
        verdict = sigkill.kill_once(bench, data, virtual, rng, 0.5)
        assert verdict.latency < SLACK
        assert all(worst < sigkill.EDGE_LIMIT + sigkill.EDGE_TOLERANCE for worst in verdict.edges.values())
    count, bad = sigkill.unreadable(data)
    assert count >= 1
    assert bad == 0
    assert "the program is gone without a word" in (data / "guard.log").read_text(encoding="utf-8")


def test_stop_from_another_terminal_ends_the_run_safely_and_on_record(place: tuple[Path, Path, Any]) -> None:
    bench, data, virtual = place
    with sigkill.running(bench, data) as process:
        until_driving(process, virtual.side_door)
        done = hil("stop", "--data", str(data))
        assert (done.returncode, done.stderr) == (0, "")
        assert f"process {process.pid} has left everything in its safe state" in done.stdout
        assert process.wait(30) == 5
    assert sigkill.voltages(virtual.side_door, 0.0)[0]
    assert sigkill.rested(virtual.side_door)
    assert not list((data / "running").glob(f"run-{process.pid}-*"))
    assert list_runs(data)[-1]["outcome"] == "stopped"
    assert "the program has left everything in its safe state" in (data / "guard.log").read_text(encoding="utf-8")


def test_the_emergency_stop_needs_nothing_of_a_program_that_hangs(place: tuple[Path, Path, Any]) -> None:
    bench, data, virtual = place
    with sigkill.running(bench, data) as process:
        until_driving(process, virtual.side_door)
        os.kill(process.pid, signal.SIGSTOP)  # it answers nothing any more
        (said,) = emergency(data)
        assert said == f"process {process.pid} was ended, and the guard has brought everything into its safe state"
        assert process.wait(30) == -signal.SIGKILL
    assert sigkill.voltages(virtual.side_door, 0.0)[0]
    assert sigkill.rested(virtual.side_door)
    refused = hil("emergency", "--data", str(data))
    assert refused.returncode == 2
    assert "nothing runs on the data folder" in refused.stderr
