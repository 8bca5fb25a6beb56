"""The program's side of the guard: start it, arm it, take leave of it."""

import contextlib
import json
import os
import queue
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from hil.core.child import environment
from hil.core.errors import InstrumentError, SafetyError
from hil.core.file_lock import Held

START_TIMEOUT = 60.0
RESCUE_TIMEOUT = 120.0
LEAVE_TIMEOUT = 30.0


class NoGuard:
    """Nobody watches: for rehearsals, where killing the program ends the instruments with it."""

    def start(self, plan: Callable[[], dict[str, Any]]) -> None:
        """Nothing to start."""

    def arm(self) -> None:
        """Nothing to arm."""

    def check(self) -> None:
        """Nothing to check."""

    def take_over(self, *, needed: bool) -> None:
        """Nobody takes over."""

    def dismiss(self) -> None:
        """Nobody leaves."""


class Guard:
    """A guard process that watches over one bench. ``folder`` takes its log and its door (None: the temporary folder).

    ``keeps``: locks that it keeps as long as it lives: nobody else may take the bench while the guard still brings it home.

    InstrumentError when it does not start; SafetyError when it is gone while it is needed.
    """

    def __init__(self, folder: Path | None = None, keeps: Sequence[Held] = ()) -> None:
        self._keeps = tuple(keeps)
        self.folder = Path(tempfile.gettempdir()) / "memristor-hil" if folder is None else folder
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._armed = False

    @property
    def log(self) -> Path:
        """Where the guard writes what it did."""
        return self.folder / "guard.log"

    @property
    def pid(self) -> int | None:
        """Process number while it is there."""
        return None if self._process is None else self._process.pid

    def start(self, plan: Callable[[], dict[str, Any]]) -> None:
        """Start it; it gets ready while the bench is being opened."""
        known = plan()
        door = self.folder / "running" / f"guard-{os.getpid()}-{secrets.token_hex(4)}.json"
        self._armed = False
        self._lines = queue.SimpleQueue()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as log:
            # Away from the terminal: Ctrl-C there is meant for the program, and so is its end. A Windows console that is
            # closed ends whoever is attached to it, whatever they ignore: hence one without a window.
            windows = (getattr(subprocess, name, 0) for name in ("CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW"))
            self._process = subprocess.Popen(
                [sys.executable, "-m", "instruments.guard"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                env=environment(),
                start_new_session=os.name == "posix",
                pass_fds=[lock.handle for lock in self._keeps] if os.name == "posix" else (),
                creationflags=sum(windows),
            )
        threading.Thread(target=self._read, args=(self._process.stdout, self._lines), daemon=True).start()
        # Not the guard's parent: on Windows the launcher of a virtual environment stands between the two.
        own = {"program": os.getpid(), "door": str(door), "token": secrets.token_hex(16)}
        self._send(json.dumps({**known, **own, "locks": [str(lock.path) for lock in self._keeps]}))

    def arm(self) -> None:
        """From now on the end of the program means danger. Returns when the guard is ready; cheap when it is armed already."""
        if self._armed:
            return
        self._send("arm")
        self._expect("armed", START_TIMEOUT)
        self._armed = True

    def check(self) -> None:
        """SafetyError if the guard has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise SafetyError(
                f"the guard process has ended (exit code {self._process.returncode}), so nobody would switch the outputs off if "
                f"the program were killed; see {self.log} and start again"
            )

    def rescue(self) -> list[str]:
        """Let the guard make everything safe now, over connections of its own; what it could not do."""
        self._send("act")
        answer = self._expect("done", RESCUE_TIMEOUT)
        return [str(problem) for problem in json.loads(answer.removeprefix("done "))]

    def take_over(self, *, needed: bool) -> None:
        """The program has let go of its instruments: dismiss the guard, after a rescue where one is ``needed``.

        Its connections are its own, so it may reach what our broken ones could not. InstrumentError if it could not.
        """
        if self._process is None:
            return
        try:
            problems = self.rescue() if needed else []
        finally:
            self.dismiss()
        if problems:
            raise InstrumentError(f"the guard could not make everything safe, either: {'; '.join(problems)}")

    def dismiss(self) -> None:
        """Everything is safe: the guard may go. Twice is fine."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError, ValueError):
            if process.stdin is not None:
                process.stdin.write("bye\n")
                process.stdin.close()
        try:
            process.wait(LEAVE_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _send(self, line: str) -> None:
        stdin = None if self._process is None else self._process.stdin
        try:
            if stdin is None:
                raise ValueError("it was not started")
            stdin.write(line + "\n")
            stdin.flush()
        except (OSError, ValueError) as error:
            raise SafetyError(f"the guard process does not listen ({error}); see {self.log}") from error

    def _expect(self, word: str, timeout: float) -> str:
        while True:
            try:
                line = self._lines.get(timeout=timeout)
            except queue.Empty:
                raise InstrumentError(f"the guard process said nothing for {timeout:g} s; see {self.log}") from None
            if line.startswith(word):
                return line
            if not line:
                raise InstrumentError(f"the guard process has ended before it was ready; see {self.log}")

    @staticmethod
    def _read(stream: IO[str] | None, lines: "queue.SimpleQueue[str]") -> None:
        if stream is not None:
            with contextlib.closing(stream), contextlib.suppress(OSError, ValueError):
                for line in stream:
                    lines.put(line.strip())
        lines.put("")
