"""Rehearsals of faults side by side: each has a bench of its own, so that every processor of the machine can take one.

A worker is this module as a program. It reads a line of JSON that says what is rehearsed, then a number of a case per line, and
answers each with a line; it ends when its input closes, so that it never outlives the program that started it.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from hil.bench import Target
from hil.bench_check import fault_kinds
from hil.bench_station import virtual_benches_in_a_row
from hil.core.child import TYPED, environment, ignore, take_input
from hil.core.errors import BackendError, HilError
from hil.fault_rehearsal import chosen_cases, for_rehearsal, rehearse_case
from hil.prepared import Prepared, Request, prepare

Told = Callable[[int, int], None]
LOOK_EVERY = 0.5
"""s; on Windows no signal interrupts a wait for a thread."""


def rehearse_faults(
    prepared: Prepared, seed: int, readings: int, kinds: Sequence[str] | None = None, told: Told | None = None, workers: int = 0
) -> list[dict[str, Any]]:
    """One rehearsal per case (see ``hil.fault_rehearsal``), ``workers`` at a time; JSON-able.

    ``prepared``: as the files say; ``seed`` of the benches; ``readings``: how many the whole procedure takes; ``told``: how many
    of how many are done. 0 ``workers``: one more than there are processors, because who waits for an instrument that does not
    answer needs none. Raises HilError where a bench cannot start.
    """
    if kinds is None:  # settled here, so that a number means the same case to everybody
        kinds = fault_kinds(bool(prepared.bench.mixers))
    total = len(chosen_cases(prepared, readings, kinds))
    said = {"request": _packed(prepared.request), "seed": seed, "readings": readings, "kinds": list(kinds)}
    team = _Team(total, told)
    members: list[_Worker] = []
    count = min(workers or _processors() + 1, total)
    # Not Thread.join: Ctrl-C in it makes Python 3.11 take the thread for ended while it still listens.
    threads = ThreadPoolExecutor(max(count, 1))
    try:
        fed = []
        for _ in range(count):
            members.append(_Worker(said))
            fed.append(threads.submit(team.feed, members[-1]))
        while wait(fed, LOOK_EVERY).not_done:
            continue
        for one in fed:
            one.result()
    finally:
        for member in members:
            member.kill()
        threads.shutdown()  # upon Ctrl-C they are still listening to what has been killed
        for member in members:
            member.close()
    return team.results()


class _Team:
    """What is still to be done, and what was found."""

    def __init__(self, total: int, told: Told | None) -> None:
        self._lock = threading.Lock()
        self._open = list(range(total))
        self._found: list[dict[str, Any] | None] = [None] * total
        self._told = told
        self._refusal = ""

    def feed(self, worker: "_Worker") -> None:
        """Give one case after the other to ``worker`` until there is none left, or one could not be rehearsed."""
        while True:
            with self._lock:
                if not self._open or self._refusal:
                    return
                number = self._open.pop(0)
            answer = worker.ask(number)
            with self._lock:
                if "refusal" in answer:
                    self._refusal = self._refusal or str(answer["refusal"])
                    return
                self._found[number] = answer
                if self._told is not None:
                    self._told(sum(one is not None for one in self._found), len(self._found))

    def results(self) -> list[dict[str, Any]]:
        """In the order of the cases; BackendError where one could not be rehearsed."""
        found = [one for one in self._found if one is not None]
        if self._refusal or len(found) < len(self._found):
            raise BackendError(f"the faults were not all rehearsed: {self._refusal or 'interrupted'}")
        return found


class _Worker:
    """One process."""

    def __init__(self, said: dict[str, Any]) -> None:
        self._errors = TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - lives as long as the process, closed in close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hil.fault_workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env=environment(),
        )
        self._first = json.dumps(said) + "\n"

    def ask(self, number: int) -> dict[str, Any]:
        """What case ``number`` led to, or ``refusal``."""
        stdin, stdout = self._process.stdin, self._process.stdout
        reply = ""
        if stdin is not None and stdout is not None:
            with suppress(OSError, ValueError):
                stdin.write(f"{self._first}{number}\n")
                stdin.flush()
                self._first = ""
                reply = stdout.readline()
        return dict(json.loads(reply)) if reply else {"refusal": f"a process that rehearses faults has ended{self._last_words()}"}

    def _last_words(self) -> str:
        self._errors.seek(0)
        words = [line for line in self._errors.read().splitlines() if line.strip()]
        return f": {words[-1]}" if words else ""

    def kill(self) -> None:
        """End it, whatever it is doing; its bench ends with it."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Let go of what nobody reads any more."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._errors.close()


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _packed(request: Request) -> dict[str, Any]:
    return {**asdict(request), "target": request.target.value, "data": str(request.data)}


def _unpacked(packed: dict[str, Any]) -> Request:
    asked: dict[str, Any] = dict(packed)
    asked["target"], asked["sets"], asked["data"] = Target(packed["target"]), tuple(packed["sets"]), Path(packed["data"])
    return Request(**asked)


def main() -> int:
    """Answer until standard input ends. Returns the exit code."""
    ignore(TYPED)  # the program ends us
    asked = take_input()
    said = json.loads(asked.readline())
    try:
        prepared = prepare(_unpacked(said["request"]))
        found = chosen_cases(prepared, said["readings"], said["kinds"])
        rehearsed = replace(prepared, bench=for_rehearsal(prepared))
        with virtual_benches_in_a_row():
            for line in asked:
                _say(asdict(rehearse_case(rehearsed, found[int(line)], said["seed"])))
    except HilError as error:
        _say({"refusal": str(error)})
        return 1
    return 0


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
