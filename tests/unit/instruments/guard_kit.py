"""Instruments that are sockets and nothing else, their plans for the guard, and a time that passes only while one waits."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Device:
    """Answers lines; refuses its first ``refuse`` clients as an instrument does that serves one client only."""

    def __init__(self, answer: Callable[[str], str | None], refuse: int = 0) -> None:
        self.answer = answer
        self.refuse = refuse
        self.lines: list[str] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self.socket.accept()
            except OSError:
                return
            if self.refuse > 0:
                self.refuse -= 1
                link.close()
                continue
            with link, link.makefile("r") as stream:
                try:
                    for line in stream:
                        self.lines.append(line.rstrip("\n"))
                        reply = self.answer(line.rstrip("\n"))
                        if reply is not None:
                            link.sendall((reply + "\n").encode())
                except OSError:
                    continue

    def close(self) -> None:
        self.socket.close()


class Time:
    """Passes only while somebody waits for it, so that it does not matter how fast the machine is."""

    def __init__(self) -> None:
        self._now = 0.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        return self._now

    def wait(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds


class Pressure:
    """A controller: goes to its set-point at its slew."""

    def __init__(self, clock: Time, start: float, on: bool = True) -> None:
        self.start, self.goal, self.slew, self.on, self.vented = start, start, 1e9, on, False
        self.clock = clock
        self.since = clock.monotonic()
        self.heard: list[tuple[float, str]] = []

    @property
    def now(self) -> float:
        way = self.slew * (self.clock.monotonic() - self.since)
        if abs(self.goal - self.start) <= way:
            return self.goal
        return self.start + way * (1 if self.goal > self.start else -1)

    def __call__(self, line: str) -> str | None:
        self.heard.append((self.clock.monotonic(), line))
        word, _, rest = line.partition(" ")
        if word == "P?":
            return f"P {self.now}"
        if word == "ON?":
            return f"ON {int(self.on)}"
        if word == "VENT?":
            return f"VENT {int(self.vented)}"
        if word == "GO":
            self.start, self.since = self.now, self.clock.monotonic()
            self.goal, self.slew = (float(part) for part in rest.split())
            self.on = True
        if word == "VENT":
            self.vented, self.on = True, False
        return None


def instrument(name: str, device: Device, *terminals: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "address": f"TCPIP0::127.0.0.1::{device.port}::SOCKET",
        "visalib": "",
        "read_termination": "\n",
        "write_termination": "\n",
        "joiner": "",
        "query_joiner": "",
        "release_port": None,
        "terminals": list(terminals),
    }


def source(channel: str, expected: str = "^OFF$") -> dict[str, Any]:
    return {"channel": channel, "attention": ["abort"], "leave": [f"{channel} off"], "query": "STATE?", "expected": expected,
            "move": []}  # fmt: skip


def pressure(channel: str, slew: float = 1e5) -> dict[str, Any]:
    return {
        "channel": channel, "attention": [], "leave": ["VENT"], "query": "VENT?", "expected": "^VENT 1$",
        "state": "ON?", "states": "^ON [01]$", "active": "^ON 1$", "measure": "P?", "measured": r"^P [-+.\de]+$",
        "move": ["GO {level} {slew}"], "minimum": 9e4, "maximum": 1.1e5, "goal": 1e5, "slew": slew,
    }  # fmt: skip


@contextmanager
def devices(*answers: Callable[[str], str | None]) -> Iterator[list[Device]]:
    made = [Device(answer) for answer in answers]
    try:
        yield made
    finally:
        for device in made:
            device.close()


def off(line: str) -> str | None:
    return "OFF" if line == "STATE?" else None
