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
from benchmarks.kill_scenes import Scene, electrical, liquid
from hil.control import emergency
from hil.record.reader import list_runs
from tests.marks import needs_posix

pytestmark = needs_posix
NEVER = float("inf")  # s after the kill; how soon it is, the benchmark measures: here other tests may have the processor


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A running virtual bench with instruments for one client only.

    Pressures go home slowly enough that a second of delay between two controllers exceeds no limit.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.kill_scenes.EMERGENCY_SLEW", 2e3)
        made = electrical(tmp_path_factory.mktemp("guarded") / "electrical", 0.5)
    yield made
    made.virtual.stop()


@pytest.fixture
def wet(tmp_path: Path) -> Iterator[Scene]:
    """The same with pumps, a valve, an Alicat and a Mensor."""
    made = liquid(tmp_path / "liquid", 0.5)
    yield made
    made.virtual.stop()


def until_driving(process: "subprocess.Popen[bytes]", door: Any) -> None:
    end = time.monotonic() + 240.0
    while abs(door.sources()["smu"]["smua"]["level"]) < 4.9:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.05)


def hil(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "hil.cli", *words], capture_output=True, text=True, timeout=240, check=False)


def test_killed_programs_leave_a_safe_bench_and_readable_data(place: Scene) -> None:
    data = place.data
    rng = np.random.default_rng(11)
    for _ in range(2):
        verdict = sigkill.kill_once(place, rng)
        assert verdict.latency < NEVER
        assert all(worst < sigkill.EDGE_LIMIT + sigkill.EDGE_TOLERANCE for worst in verdict.edges.values())
    count, bad = sigkill.unreadable(data)
    assert count >= 1
    assert bad == 0
    assert "the program is gone without a word" in (data / "guard.log").read_text(encoding="utf-8")


def at_waste(scene: Scene, _killed: float) -> tuple[bool, float]:
    return scene.virtual.side_door.flows()["valve"][""]["position"] == 4, 0.0


def test_pumps_of_a_killed_program_stop(wet: Scene) -> None:
    with sigkill.running(wet) as process:
        end = time.monotonic() + 240.0
        while len(wet.running_pumps()) < 2:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.05)
        killed = time.monotonic()
        process.kill()
        process.wait()
    assert sigkill.when(sigkill.pumps, wet, killed) < NEVER
    assert sigkill.when(at_waste, wet, killed) < NEVER
    assert sigkill.when(sigkill.voltages, wet, killed) < NEVER
    assert sigkill.when(sigkill.pressures, wet, killed) < NEVER


def test_stop_from_another_terminal_ends_the_run_safely_and_on_record(place: Scene) -> None:
    data, virtual = place.data, place.virtual
    with sigkill.running(place) as process:
        until_driving(process, virtual.side_door)
        done = hil("stop", "--data", str(data))
        assert (done.returncode, done.stderr) == (0, "")
        assert f"process {process.pid} has left everything in its safe state" in done.stdout
        assert process.wait(240) == 5
    assert sigkill.voltages(place, 0.0)[0]
    assert sigkill.rested(virtual.side_door)
    assert not list((data / "running").glob(f"run-{process.pid}-*"))
    assert list_runs(data)[-1]["outcome"] == "stopped"
    assert "the program has left everything in its safe state" in (data / "guard.log").read_text(encoding="utf-8")


def test_the_emergency_stop_needs_nothing_of_a_program_that_hangs(place: Scene) -> None:
    data, virtual = place.data, place.virtual
    with sigkill.running(place) as process:
        until_driving(process, virtual.side_door)
        os.kill(process.pid, signal.SIGSTOP)  # it answers nothing any more
        (said,) = emergency(data)
        assert said == f"process {process.pid} was ended, and the guard has brought everything into its safe state"
        assert process.wait(240) == -signal.SIGKILL
    assert sigkill.voltages(place, 0.0)[0]
    assert sigkill.rested(virtual.side_door)
    refused = hil("emergency", "--data", str(data))
    assert refused.returncode == 2
    assert "nothing runs on the data folder" in refused.stderr
