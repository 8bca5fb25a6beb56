"""What is done otherwise on Windows, with what that system has in place of what it has not."""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from hil import control
from instruments import guard, guard_process

ROOT = Path(__file__).resolve().parents[3]


def as_on_windows(monkeypatch: pytest.MonkeyPatch, path: str, **modules: Any) -> ModuleType:
    """The module at ``path``, imported once more under another name, as Windows would."""
    monkeypatch.setattr(sys, "platform", "win32")
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "fcntl", None)  # not there: importing it is an error
    spec = importlib.util.spec_from_file_location(f"windows_{Path(path).stem}", ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.undo()
    return module


class Locking:
    """Byte locks as ``msvcrt`` has them: of a file and a place, held by whoever took them first."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self.held: set[tuple[int, int]] = set()

    def locking(self, handle: int, mode: int, count: int) -> None:
        place = os.fstat(handle).st_ino, os.lseek(handle, 0, os.SEEK_CUR)
        assert (mode, count) == (self.LK_NBLCK, 1)
        if place in self.held:
            raise OSError(13, "Permission denied")
        self.held.add(place)


def test_a_lock_keeps_others_out_and_tells_them_who_holds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    system = Locking()
    locks = as_on_windows(monkeypatch, "hil/locks.py", msvcrt=system)
    with locks.locked(tmp_path / "smu.lock", "the instrument", "a night", "Ada"):
        # Windows lets nobody read locked bytes: what is locked lies far behind the text.
        assert min(place for _, place in system.held) > 4096
        with pytest.raises(locks.HeldError, match="in use by Ada for a night"), locks.locked(tmp_path / "smu.lock", "it", "more"):
            pass


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
        guard_process.Guard(tmp_path, keeps=(7,)).start(dict)
    assert (asked["creationflags"], asked["start_new_session"], asked["pass_fds"]) == (512 + 1024, False, ())
