"""Stop a program, or everything, from another terminal: loopback doors whose tokens stand in the data folder.

Every running program opens one for ``hil stop``: it leaves its bench safe and puts the end on record, as after Ctrl-C. Every
guard process opens one for ``hil emergency``: it ends the program and makes the bench safe by itself. Files of doors that
nobody opens any more are taken away by whoever finds them.
"""

import contextlib
import hmac
import json
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hil.core.errors import BackendError, ConfigError
from hil.core.private import write_private

FOLDER = "running"
GREETING_TIMEOUT = 5.0
STOP_TIMEOUT = 300.0
"""s that a program may take to its safe state; pressures ramp slowly."""
RESCUE_TIMEOUT = 180.0


@contextmanager
def stoppable_from_outside(folder: Path) -> Iterator[None]:
    """Inside, ``hil stop`` acts like Ctrl-C on this program. Outside the main thread nothing is opened."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    token = secrets.token_hex(16)
    path = folder / FOLDER / f"run-{os.getpid()}-{secrets.token_hex(4)}.json"
    with socket.create_server(("127.0.0.1", 0)) as door:
        waiting: list[socket.socket] = []
        threading.Thread(target=_serve, args=(door, token, waiting), name="stop door", daemon=True).start()
        try:
            write_private(path, json.dumps({"pid": os.getpid(), "port": door.getsockname()[1], "token": token}))
        except OSError as error:
            raise ConfigError(
                f"the data folder {folder} cannot be written ({error.strerror}), and `hil stop` would find nobody; choose "
                "another one with --data DIR"
            ) from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            for client in waiting:  # they see by the end of the link that all is done
                client.close()


def _serve(door: socket.socket, token: str, waiting: list[socket.socket]) -> None:
    while True:
        try:
            client, _ = door.accept()
        except OSError:
            return
        with contextlib.suppress(OSError, ValueError):
            client.settimeout(GREETING_TIMEOUT)
            asked = json.loads(client.makefile(encoding="utf-8").readline())
            if isinstance(asked, dict) and hmac.compare_digest(str(asked.get("token")), token):
                client.sendall(b'{"stopping": true}\n')
                waiting.append(client)
                _interrupt()
                continue
        client.close()


def _interrupt() -> None:
    """Ctrl-C for the main thread, also while it waits in the system. On Windows raised here it ends a sleep there."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)


def stop(folder: Path, timeout: float = STOP_TIMEOUT) -> list[str]:
    """Stop what runs on the data ``folder`` and wait until it has ended; what happened, one sentence each.

    Raises ConfigError when nothing runs, BackendError when something does not end in time.
    """
    return _answers(folder, "run", partial(_stopped, timeout), timeout)


def emergency(folder: Path, timeout: float = RESCUE_TIMEOUT) -> list[str]:
    """Let every guard on ``folder`` end its program and make its bench safe; what happened, one sentence each.

    Where no guard is found, what runs has no bench, and is stopped. Raises ConfigError when nothing runs, BackendError when
    something was left unsafe.
    """
    try:
        return _answers(folder, "guard", _rescued, timeout)
    except ConfigError:
        return _answers(folder, "run", partial(_stopped, timeout), timeout)


def _answers(folder: Path, kind: str, ask: Any, timeout: float) -> list[str]:
    found = []
    for path in sorted((folder / FOLDER).glob(f"{kind}-*.json")):
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            link = socket.create_connection(("127.0.0.1", int(facts["port"])), GREETING_TIMEOUT)
        except (OSError, ValueError, KeyError, TypeError):
            path.unlink(missing_ok=True)  # its program was killed
            continue
        with link:
            link.sendall((json.dumps({"token": facts["token"]}) + "\n").encode())
            link.settimeout(max(timeout, GREETING_TIMEOUT))
            answer = _line(link)
            if not answer:
                path.unlink(missing_ok=True)  # somebody else has got this port in the meantime
                continue
            found.append(ask(int(facts["pid"]), answer, link))
    if not found:
        raise ConfigError(f"nothing runs on the data folder {folder}; name another one with --data DIR")
    return found


def _line(link: socket.socket) -> str:
    try:
        return link.makefile(encoding="utf-8").readline()
    except OSError:
        return ""


def _stopped(timeout: float, pid: int, _answer: str, link: socket.socket) -> str:
    link.settimeout(timeout)
    try:
        while link.recv(64):
            pass
    except TimeoutError:
        raise BackendError(f"process {pid} was asked to stop and has not ended; `hil emergency` does not wait for it") from None
    except OSError:
        pass  # it ended without closing its links: it has ended
    return f"process {pid} has left everything in its safe state and ended"


def _rescued(pid: int, answer: str, _link: socket.socket) -> str:
    problems = json.loads(answer)["problems"]
    if problems:
        raise BackendError(f"process {pid} was ended, but the guard could not make everything safe: {'; '.join(problems)}")
    return f"process {pid} was ended, and the guard has brought everything into its safe state"
