"""A virtual bench in a child process: its addresses, its clock, and a side door to the truth for tests and judges.

The two processes speak lines of JSON over the child's standard input and output; the child ends when its input closes,
so it never outlives the program that started it. Whoever needs one bench after the other starts them ``in_a_row``: then a child
that has everything loaded splits off a process for each, which takes a twentieth of the time.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from tempfile import TemporaryFile
from typing import Any

from hil.core.child import environment
from hil.core.clock import Clock, WallClock
from hil.core.errors import BackendClosedError, ConfigError, InstrumentError
from simulated_backend.virtual_bench.plan import BenchPlan, PlanError

START_TIMEOUT = 60.0
STOP_TIMEOUT = 5.0
OFF = "off"
"""What ends the bench of a child that can start another."""


class BenchClock:
    """The clock of a stepped virtual bench: waiting steps the plant in the child; instruments step it too."""

    def __init__(self, bench: "VirtualBench") -> None:
        self._bench = bench

    def now(self) -> float:
        """Seconds since the bench was switched on."""
        return float(self._bench.ask("now"))

    def sleep(self, seconds: float) -> None:
        """Step the plant by ``seconds``; ValueError if negative."""
        if not seconds >= 0.0:
            raise ValueError(f"time cannot pass backwards: {seconds} s")
        if seconds > 0.0:
            self._bench.ask("advance", seconds=seconds)


class SideDoor:
    """The truth about the plant, past all instruments: for tests, for dry runs' judges, never for a procedure."""

    def __init__(self, bench: "VirtualBench") -> None:
        self._bench = bench

    def voltages(self) -> dict[str, float]:
        """True node voltages, V."""
        return dict(self._bench.ask("voltages"))

    def pressures(self) -> dict[str, float]:
        """True absolute node pressures, Pa."""
        return dict(self._bench.ask("pressures"))

    def concentrations(self) -> dict[str, float]:
        """True node concentrations, mol/m^3."""
        return dict(self._bench.ask("concentrations"))

    def sources(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Instrument -> port -> source, level, limited, voltage, current, input_resistance, bias_current, since, and
        ``seen``: node -> true voltage and current at the last measurement there, limited, when it began, how many there were.

        ``since`` and when it began: s of the machine's clock, the same as of outlets and flows.
        """
        return dict(self._bench.ask("sources"))

    def outlets(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Instrument -> port -> pressure, target, slew, state ("control", "vent", "shut")."""
        return dict(self._bench.ask("outlets"))

    def flows(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Instrument -> port -> true flow (m^3/s), net volume delivered (m^3), since; or position of a valve (None: it turns)."""
        return dict(self._bench.ask("flows"))

    def extremes(self) -> dict[str, dict[str, list[float]]]:
        """Smallest and largest value so far: ``voltage``, ``pressure`` per node; the differences per edge."""
        return dict(self._bench.ask("extremes"))

    def troubles(self) -> list[str]:
        """Sentences about what the physics could not follow."""
        return list(self._bench.ask("troubles"))

    def mount(self, network: Mapping[str, object]) -> None:
        """Exchange the devices for those of ``network`` (a description); ValueError unless nodes and edges are the same."""
        self._bench.ask("mount", network=network)

    def inject(self, instrument: str, fault: str, amount: float = 1.0, *, where: str = "", after: int = 0) -> None:
        """Put a fault on an instrument or on the plant: see ``faults.FAULTS`` and what is said of them there.

        ``where``: the output, the edge or the node. ``after``: it acts when the instrument gets its n-th message from now
        (0: at once). ValueError for what does not exist.
        """
        self._bench.ask("inject", instrument=instrument, fault=fault, amount=amount, where=where, after=after)

    def happened(self) -> list[tuple[str, str]]:
        """(instrument, fault) in the order in which they acted, since the last ``renew``."""
        return [(instrument, fault) for instrument, fault in self._bench.ask("happened")]

    def messages(self) -> dict[str, int]:
        """How many messages every instrument got since the last ``renew``."""
        return dict(self._bench.ask("messages"))

    def before(self) -> dict[str, dict[str, Any]]:
        """``voltages`` and ``sources`` right before a device was last damaged; empty where none has been."""
        return dict(self._bench.ask("before"))

    def renew(self) -> None:
        """Mend everything, switch every instrument off and on, put pressures to rest, forget the extremes."""
        self._bench.ask("renew")


class _Row:
    """Children that can start another bench; kept only inside ``in_a_row``."""

    def __init__(self) -> None:
        self.kept = False
        self._idle: list[tuple[subprocess.Popen[str], Any]] = []

    def child(self) -> "tuple[subprocess.Popen[str], Any]":
        """A process that waits for a plan, and the file of its last words."""
        while self._idle:
            process, errors = self._idle.pop()
            if process.poll() is None:
                return process, errors
            _end(process, errors)
        errors = TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - lives as long as the child, closed in end()
        process = subprocess.Popen(
            [sys.executable, "-m", "simulated_backend.virtual_bench", *(["--in-a-row"] if self.kept else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            env=environment(),
            start_new_session=self.kept,  # with the processes that split off from it, so that one that hangs can be killed
        )
        return process, errors

    def back(self, process: "subprocess.Popen[str]", errors: Any) -> None:
        """The bench of this child has been switched off; it may start another."""
        self._idle.append((process, errors))

    def end(self) -> None:
        """No more benches from those that wait."""
        while self._idle:
            _end(*self._idle.pop())


_ROW = _Row()


@contextlib.contextmanager
def in_a_row() -> Generator[None]:
    """Inside, benches that are started one after the other share the loading of the program; where the system can (fork)."""
    _ROW.kept = hasattr(os, "fork")
    try:
        yield
    finally:
        _ROW.kept = False
        _ROW.end()


def _end(process: "subprocess.Popen[str]", errors: Any) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it may have ended by itself
            process.stdin.close()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        _kill(process)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
    errors.close()


def _kill(process: "subprocess.Popen[str]") -> None:
    """It, and what split off from it: that would keep our end of its output open."""
    with contextlib.suppress(OSError):  # it may have ended by itself
        if sys.platform != "win32" and os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


@contextlib.contextmanager
def _within(seconds: float, process: "subprocess.Popen[str]") -> Generator[None]:
    """Whoever waits inside for an answer of ``process`` does not wait longer."""
    watchdog = threading.Timer(seconds, _kill, (process,))
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


class VirtualBench:
    """Handle of a running child process; a context manager. Use ``VirtualBench.start``."""

    def __init__(self, plan: BenchPlan, process: "subprocess.Popen[str]", errors: Any) -> None:
        self.plan = plan
        self._process = process
        self._errors = errors
        self._lock = threading.Lock()
        self._stopped, self._one_of_many = False, _ROW.kept
        self.addresses: Mapping[str, str] = {}
        self.clock: Clock = WallClock() if plan.real_time else BenchClock(self)
        self.side_door = SideDoor(self)

    @classmethod
    def start(cls, plan: BenchPlan) -> "VirtualBench":
        """Start the child and wait until all instruments listen.

        ConfigError, one sentence, where the plan is wrong; PlanError where one instrument is to blame.
        """
        process, errors = _ROW.child()
        bench = cls(plan, process, errors)
        try:
            with _within(START_TIMEOUT, process):
                answer = bench._exchange(plan.to_json())
        except (InstrumentError, BackendClosedError):
            bench.stop()
            raise
        if "error" in answer:
            bench.stop()
            sentence = f"the virtual bench cannot start: {answer['error']}"
            if "instrument" in answer:
                raise PlanError(sentence, answer["instrument"], answer["port"])
            raise ConfigError(sentence)
        bench.addresses = answer["addresses"]
        return bench

    def ask(self, verb: str, **arguments: object) -> Any:
        """One question to the child. InstrumentError if it has ended, ValueError if it refuses."""
        answer = self._exchange(json.dumps({"ask": verb, **arguments}))
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["answer"]

    def _exchange(self, line: str) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None or self._stopped:
            raise BackendClosedError("the virtual bench has been stopped")
        with self._lock:
            try:
                stdin.write(line + "\n")
                stdin.flush()
                reply = stdout.readline()
            except OSError:
                reply = ""
        if not reply:
            raise InstrumentError(f"the process of the virtual bench has ended{self._last_words()}")
        return dict(json.loads(reply))

    def _last_words(self) -> str:
        self._errors.seek(0)
        words = [line for line in self._errors.read().splitlines() if line.strip()]
        return f": {words[-1]}" if words else ""

    @property
    def pid(self) -> int:
        """Process number of the child."""
        return self._process.pid

    def stop(self) -> None:
        """End the child; twice is fine."""
        if self._stopped:
            return
        if self._one_of_many:
            with contextlib.suppress(InstrumentError), _within(STOP_TIMEOUT, self._process):
                self._exchange(json.dumps({"ask": OFF}))
                self._stopped = True
                _ROW.back(self._process, self._errors)
                return
        self._stopped = True
        _end(self._process, self._errors)

    def __enter__(self) -> "VirtualBench":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
