"""The guard as a process: quiet while all is well, awake when the pipe ends, and deaf to signals meant for others."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hil.core.errors import InstrumentError, SafetyError
from instruments.guard_process import Guard, NoGuard
from tests.marks import needs_posix
from tests.unit.instruments import guard_kit as kit


@pytest.fixture
def smu() -> Iterator[kit.Device]:
    device = kit.Device(kit.off)
    yield device
    device.close()


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guard]:
    made = Guard(tmp_path)
    yield made
    if made._process is not None:
        made._process.kill()
        made.dismiss()


def plan(smu: kit.Device) -> dict[str, Any]:
    return {"instruments": [kit.instrument("smu", smu, kit.source("V1"))], "edges": []}


def log_of(guard: Guard, sentence: str) -> str:
    """The guard's log, once it says ``sentence``."""
    end = time.monotonic() + 240.0
    while sentence not in (text := guard.log.read_text(encoding="utf-8")):
        assert time.monotonic() < end, text
        time.sleep(0.01)
    return text


def hang_up(guard: Guard) -> None:
    """What the kernel does to the pipe of a program that is killed."""
    assert guard._process is not None
    assert guard._process.stdin is not None
    guard._process.stdin.close()


def test_a_guard_that_is_dismissed_has_done_nothing(guard: Guard, smu: kit.Device) -> None:
    guard.start(lambda: plan(smu))
    guard.arm()
    guard.arm()  # twice is fine
    guard.check()
    (door,) = (guard.folder / "running").glob("guard-*.json")
    assert json.loads(door.read_text(encoding="utf-8"))["pid"] == os.getpid()
    guard.take_over(needed=False)
    assert smu.lines == []
    assert not door.exists()
    assert "the program has left everything in its safe state" in guard.log.read_text(encoding="utf-8")
    guard.dismiss()
    guard.take_over(needed=True)  # it is gone: nothing to take over


def test_when_the_pipe_ends_the_outputs_are_left(guard: Guard, smu: kit.Device) -> None:
    guard.start(lambda: plan(smu))
    guard.arm()
    hang_up(guard)
    text = log_of(guard, "everything is in its safe state")
    assert "the program is gone without a word" in text
    assert smu.lines == ["abort", "V1 off", "STATE?"]


def test_before_an_output_was_touched_there_is_nothing_to_do(guard: Guard, smu: kit.Device) -> None:
    guard.start(lambda: plan(smu))
    hang_up(guard)
    log_of(guard, "before it touched an output; nothing to do")
    assert smu.lines == []


def test_a_rescue_is_done_over_its_own_links_and_confirmed(guard: Guard, smu: kit.Device) -> None:
    guard.start(lambda: plan(smu))
    guard.arm()
    guard.take_over(needed=True)
    assert smu.lines == ["abort", "V1 off", "STATE?"]


def test_a_rescue_that_fails_is_told(guard: Guard) -> None:
    deaf = kit.Device(lambda line: "P nonsense" if line == "P?" else "ON 1")
    odd = kit.pressure("P1") | {"measured": "."}
    guard.start(lambda: {"instruments": [kit.instrument("odd", deaf, odd)], "edges": []})
    guard.arm()
    with pytest.raises(InstrumentError, match="the guard could not make everything safe, either: IndexError"):
        guard.take_over(needed=True)
    deaf.close()


@needs_posix
def test_signals_meant_for_everybody_do_not_end_it_but_a_kill_is_seen(guard: Guard, smu: kit.Device) -> None:
    guard.start(lambda: plan(smu))
    guard.arm()
    assert guard.pid is not None
    assert os.getpgid(guard.pid) != os.getpgid(0), "Ctrl-C in the terminal would reach it"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(guard.pid, number)
    assert guard.rescue() == []
    guard.check()
    os.kill(guard.pid, signal.SIGKILL)
    assert guard._process is not None
    guard._process.wait()
    with pytest.raises(SafetyError, match="the guard process has ended"):
        guard.check()
    with pytest.raises((SafetyError, InstrumentError), match=r"does not listen|has ended"):
        guard.rescue()


def test_the_door_opens_for_its_token_only(guard: Guard, smu: kit.Device) -> None:
    guard.start(lambda: plan(smu))
    guard.arm()
    (door,) = (guard.folder / "running").glob("guard-*.json")
    port = json.loads(door.read_text(encoding="utf-8"))["port"]
    for message in (b'{"token": "guess"}\n', b"nonsense\n", b"3\n"):
        with socket.create_connection(("127.0.0.1", port), 60.0) as link:
            link.sendall(message)
            assert link.recv(10) == b""
    guard.check()
    assert smu.lines == []


def test_nobody_to_start_nobody_to_arm(tmp_path: Path, smu: kit.Device) -> None:
    nobody = NoGuard()
    nobody.start(lambda: plan(smu))
    nobody.arm()
    nobody.check()
    nobody.take_over(needed=True)
    nobody.dismiss()
    with pytest.raises(SafetyError, match="was not started"):
        Guard(tmp_path).arm()
    assert smu.lines == []


def test_without_a_folder_the_log_is_in_the_temporary_one() -> None:
    assert Guard().log.name == "guard.log"
