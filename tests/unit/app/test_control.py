"""The doors of ``hil stop`` and ``hil emergency``: tokens, stale files, and who is told what."""

import json
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil import control
from hil.control import emergency, stop, stoppable_from_outside
from hil.core.errors import BackendError, ConfigError
from hil.core.private import write_private


class Terminal:
    """Another terminal: asks once this one waits."""

    def __init__(self) -> None:
        self.waiting = threading.Event()
        self.pool = ThreadPoolExecutor(1)

    def asks(self, ask: Callable[..., list[str]], *arguments: object) -> "Future[list[str]]":
        def when_waiting() -> list[str]:
            self.waiting.wait(240.0)
            return ask(*arguments)

        return self.pool.submit(when_waiting)

    def interrupts(self) -> None:
        self.waiting.set()
        threading.Event().wait(240.0)


@contextmanager
def elsewhere() -> Iterator[Terminal]:
    terminal = Terminal()
    with terminal.pool:
        yield terminal


def doors(folder: Path) -> list[Path]:
    return sorted((folder / control.FOLDER).glob("*.json"))


def test_stop_interrupts_the_program_and_waits_until_it_has_ended(tmp_path: Path) -> None:
    with elsewhere() as other:
        with stoppable_from_outside(tmp_path):
            (door,) = doors(tmp_path)
            if os.name == "posix":
                assert stat.S_IMODE(door.stat().st_mode) == 0o600
            asked = other.asks(stop, tmp_path)
            with pytest.raises(KeyboardInterrupt):
                other.interrupts()
            assert not asked.done()
        assert asked.result(240.0) == [f"process {os.getpid()} has left everything in its safe state and ended"]
    assert doors(tmp_path) == []


def test_a_program_that_does_not_end_in_time_is_told(tmp_path: Path) -> None:
    with elsewhere() as other, stoppable_from_outside(tmp_path):
        asked = other.asks(stop, tmp_path, 0.2)
        with pytest.raises(KeyboardInterrupt):
            other.interrupts()
        with pytest.raises(BackendError, match="has not ended; `hil emergency` does not wait"):
            asked.result(240.0)


@pytest.mark.parametrize("message", [b'{"token": "guess"}\n', b"[1, 2]\n", b"nonsense\n", b""])
def test_without_the_token_nothing_happens(tmp_path: Path, message: bytes) -> None:
    with stoppable_from_outside(tmp_path):
        port = json.loads(doors(tmp_path)[0].read_text(encoding="utf-8"))["port"]
        with socket.create_connection(("127.0.0.1", port), 240.0) as link:
            link.sendall(message)
            link.shutdown(socket.SHUT_WR)
            assert link.recv(64) == b""


def test_outside_the_main_thread_no_door_is_opened(tmp_path: Path) -> None:
    def inside() -> list[Path]:
        with stoppable_from_outside(tmp_path):
            return doors(tmp_path)

    with elsewhere() as other:
        assert other.pool.submit(inside).result(240.0) == []


def test_where_nothing_runs_it_is_said_and_stale_files_go(tmp_path: Path) -> None:
    stale = [tmp_path / control.FOLDER / f"run-{number}.json" for number in (1, 2, 3)]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens: while it is held, nobody else can
        write_private(stale[0], json.dumps({"pid": 1, "port": taken.getsockname()[1], "token": "x"}))
        write_private(stale[1], "half a fi")
        write_private(stale[2], "[]")
        with pytest.raises(ConfigError, match="nothing runs on the data folder"):
            stop(tmp_path)
    assert doors(tmp_path) == []
    with pytest.raises(ConfigError, match="nothing runs"):
        emergency(tmp_path)


@contextmanager
def guard(folder: Path, answer: bytes) -> Iterator[list[bytes]]:
    """A guard's door that gives ``answer``."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as door:
        facts = {"pid": 4711, "port": door.getsockname()[1], "token": "secret"}
        write_private(folder / control.FOLDER / "guard-4711.json", json.dumps(facts))

        def serve() -> None:
            link, _ = door.accept()
            with link, link.makefile("rb") as stream:
                heard.append(stream.readline())
                link.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield heard
        thread.join(240.0)


def test_the_emergency_stop_shows_its_token_to_the_guard_and_says_what_it_did(tmp_path: Path) -> None:
    with guard(tmp_path, b'{"problems": []}\n') as heard:
        assert emergency(tmp_path) == ["process 4711 was ended, and the guard has brought everything into its safe state"]
    assert json.loads(heard[0]) == {"token": "secret"}


def test_what_the_guard_could_not_do_is_told(tmp_path: Path) -> None:
    with (
        guard(tmp_path, b'{"problems": ["smu does not answer"]}\n'),
        pytest.raises(BackendError, match=r"could not make everything safe: smu does not answer"),
    ):
        emergency(tmp_path)


def test_somebody_else_behind_an_old_port_is_no_guard(tmp_path: Path) -> None:
    with guard(tmp_path, b""), pytest.raises(ConfigError, match="nothing runs"):
        emergency(tmp_path)


def test_without_a_guard_the_emergency_stop_stops_the_program(tmp_path: Path) -> None:
    with elsewhere() as other:
        with stoppable_from_outside(tmp_path):
            asked = other.asks(emergency, tmp_path)
            with pytest.raises(KeyboardInterrupt):
                other.interrupts()
        assert "ended" in asked.result(240.0)[0]


def test_a_folder_that_cannot_be_written_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "running").write_text("a file where the folder should be", encoding="utf-8")
    with (
        pytest.raises(ConfigError, match=r"cannot be written .*; choose another one with --data DIR"),
        stoppable_from_outside(tmp_path),
    ):
        pytest.fail("nothing may begin")
