"""What is done otherwise on Windows, with what that system has in place of what it has not."""

import os
import signal
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil import control, fault_workers
from hil.core.file_lock import Held
from instruments import guard, guard_process
from simulated_backend.virtual_bench import process


def test_without_thread_signals_a_stop_still_reaches_the_main_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    # There it is raised in the thread that asks, and wakes the main thread from a sleep.
    windows = SimpleNamespace(SIGINT=signal.SIGINT, raise_signal=lambda number: os.kill(os.getpid(), number))
    monkeypatch.setattr(control, "signal", windows)
    with pytest.raises(KeyboardInterrupt):
        asked_from_a_thread()


def asked_from_a_thread() -> None:
    asking = threading.Thread(target=control._interrupt)
    asking.start()
    asking.join()
    threading.Event().wait(30.0)


def test_an_emergency_ends_a_program_without_sigkill(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    windows = SimpleNamespace(name="nt", kill=lambda *which: ended.append(which), getppid=lambda: 1)
    monkeypatch.setattr(guard, "os", windows)
    monkeypatch.setattr(guard, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setattr(guard, "signal", SimpleNamespace(SIGTERM=signal.SIGTERM))
    guard._end(4711)
    assert ended == [(4711, signal.SIGTERM)]


def test_a_guard_is_started_apart_from_the_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, Any] = {}

    class StartedError(Exception):
        pass

    def start(*_: object, **options: object) -> None:
        asked.update(options)
        raise StartedError

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 512, raising=False)
    monkeypatch.setattr(subprocess, "CREATE_NO_WINDOW", 1024, raising=False)
    monkeypatch.setattr(guard_process, "os", SimpleNamespace(name="nt", getpid=os.getpid))
    with pytest.raises(StartedError):
        guard_process.Guard(tmp_path, keeps=(Held(7, tmp_path / "smu.lock"),)).start(dict)
    assert (asked["creationflags"], asked["start_new_session"], asked["pass_fds"]) == (512 + 1024, False, ())


def test_where_nobody_tells_which_processors_are_ours_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_workers, "os", SimpleNamespace(cpu_count=lambda: 7))
    assert fault_workers._processors() == 7


def test_a_bench_that_hangs_is_killed_where_there_are_no_groups_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = []
    monkeypatch.setattr(process, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setattr(process, "os", SimpleNamespace())
    process._kill(SimpleNamespace(pid=4711, kill=lambda: killed.append(4711)))
    with process.in_a_row():
        assert not process._ROW.kept  # each bench a process of its own: none can split off
    assert killed == [4711]
