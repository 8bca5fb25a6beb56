"""The guard: a process that outlives the program and makes the bench safe when the program is gone.

It is started when a bench opens, reads a plan (one line of JSON) and then commands, one a line, from its standard input:
``arm`` before the first output is touched, ``bye`` when the program has left everything safe, ``act`` to make everything safe
now. The pipe's end without ``bye`` means that the program was killed: then the guard opens connections of its own. Not
before, because some instruments and every serial port serve one client only.

``hil emergency`` reaches it through a loopback socket: it ends the program, whatever that is doing, and acts.
Standard error is its log. It ignores Ctrl-C, a closed terminal and SIGTERM, which may be meant for everybody.
"""

import contextlib
import hmac
import json
import os
import queue
import signal
import socket
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from hil.core.child import STOPS, hurry, ignore, take_input
from hil.core.file_lock import keep
from hil.core.private import write_private
from instruments.guard_links import is_socket, visa_manager
from instruments.guard_rescue import Rescue

ORPHAN_CHECK = 0.25
"""s between looks whether the parent is still there: a forked child of it may hold the pipe open."""

Order = tuple[str, socket.socket | None]


def say(text: str) -> None:
    """One line into the log."""
    stamp = datetime.now(tz=UTC).isoformat(timespec="milliseconds")
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{stamp} [{os.getpid()}] {text}\n")
        sys.stderr.flush()


def tell(text: str) -> None:
    """One line to the program, if it is still there."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def main() -> int:
    """Wait, and act if need be. Returns the exit code: 0 unless something was left unsafe."""
    ignore(STOPS)
    hurry()
    program_says = take_input()
    plan = json.loads(program_says.readline())
    program = int(plan["program"])
    kept = keep(plan["locks"])
    for instrument in plan["instruments"]:
        if not is_socket(instrument["address"]):
            visa_manager(instrument["visalib"])  # what takes long is done now, not when every millisecond counts
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    door = _Door(plan, orders)
    threading.Thread(target=_listen, args=(program_says, orders), daemon=True).start()
    say(f"watching process {program}: {', '.join(i['name'] for i in plan['instruments']) or 'no instrument with an output'}")
    tell("ready")
    try:
        return _watch(plan, orders, program)
    finally:
        door.close()
        for lock in kept:
            os.close(lock)


def _watch(plan: dict[str, Any], orders: "queue.SimpleQueue[Order]", program: int) -> int:
    armed = False
    while True:
        try:
            word, client = orders.get(timeout=ORPHAN_CHECK)
        except queue.Empty:
            if _there(program):
                continue
            word, client = "gone", None
        if word == "arm":
            armed = True
            tell("armed")
        elif word == "bye":
            say("the program has left everything in its safe state")
            return 0
        elif word == "act":
            tell("done " + json.dumps(_act(plan, "asked by the program")))
        elif word == "emergency":
            _end(program)
            problems = _act(plan, f"emergency stop; process {program} was ended")
            if client is not None:
                with contextlib.suppress(OSError):
                    client.sendall((json.dumps({"problems": problems}) + "\n").encode())
                    client.close()
            return 1 if problems else 0
        elif not armed:
            say("the program is gone before it touched an output; nothing to do")
            return 0
        else:
            return 1 if _act(plan, "the program is gone without a word") else 0


def _act(plan: dict[str, Any], reason: str) -> list[str]:
    say(f"making everything safe: {reason}")
    problems = Rescue(plan, say).run()
    say("; ".join(["left unsafe", *problems]) if problems else "everything is in its safe state")
    return problems


def _there(program: int) -> bool:
    """Whether the program may still be alive. On Windows nobody else can hold its end of the pipe, which tells by itself."""
    return os.name != "posix" or os.getppid() == program


def _end(program: int) -> None:
    """End the program at once: it must not write another set-point."""
    if not _there(program):
        return  # it has ended already, and its number may belong to somebody else by now
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            os.kill(program, signal.SIGTERM)  # which asks nobody there: it is the end
        else:
            os.kill(program, signal.SIGKILL)


def _listen(program_says: TextIO, orders: "queue.SimpleQueue[Order]") -> None:
    with contextlib.suppress(OSError, ValueError):
        for line in program_says:
            orders.put((line.strip(), None))
            if line.strip() == "bye":
                return
    orders.put(("gone", None))


class _Door:
    """The loopback socket of the emergency stop; its port and token stand in a file that only the user can read."""

    def __init__(self, plan: dict[str, Any], orders: "queue.SimpleQueue[Order]") -> None:
        self._path = Path(plan["door"]) if plan.get("door") else None
        self._token = str(plan.get("token", ""))
        self._orders = orders
        self._socket = socket.create_server(("127.0.0.1", 0))
        if self._path is not None:
            text = json.dumps({"pid": plan["program"], "port": self._socket.getsockname()[1], "token": self._token})
            write_private(self._path, text)
            threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with contextlib.suppress(OSError, ValueError):
                client.settimeout(5.0)
                asked = json.loads(client.makefile(encoding="utf-8").readline())
                if isinstance(asked, dict) and hmac.compare_digest(str(asked.get("token")), self._token):
                    self._orders.put(("emergency", client))
                    continue
            client.close()

    def close(self) -> None:
        """Take the file away and listen no more."""
        self._socket.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


if __name__ == "__main__":
    raise SystemExit(main())
