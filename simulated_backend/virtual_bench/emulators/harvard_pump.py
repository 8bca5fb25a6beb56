"""Harvard Apparatus Pump 11 Elite and PHD Ultra syringe pumps, from their manuals' pump-chain commands.

Imitated: multi-line replies that end in a prompt (idle ``:``, infusing ``>``, withdrawing ``<``, stalled ``*``, target
reached ``T*``), abbreviated commands, rates and volumes with units, limits from the speed of the pusher, target volume,
counters, raw status, error sentences, a plunger that stalls at the end of its syringe or against a blocked line, an error
within the data sheet's limit from the seed; ``@`` before a command (the screen is not redrawn), polling mode (on: XON after the
prompt; off: a prompt comes unasked when the pump stalls or reaches its target, here right before the next reply; publication
5419-013, page 44), quick-start mode, clock, brightness. Options: ``diameter`` (true, m), ``content`` and ``capacity`` (m^3),
``poll`` (the polling mode it is found in), ``flags`` (of the raw status: five, PHD Ultra, 5419-002 revision A, page 88; six with
that of the target, in later firmware). Not imitated: methods, ramps, target time, addresses, remote polling, echo, force.
"""

import re
from collections.abc import Callable, Mapping
from math import inf
from typing import ClassVar

import numpy as np

from simulated_backend.virtual_bench.emulator import Emulator
from simulated_backend.virtual_bench.plunger import Plunger
from simulated_backend.virtual_bench.ports import PlantView

VOLUMES: Mapping[str, float] = {"nl": 1e-12, "ul": 1e-9, "ml": 1e-6}
TIMES: Mapping[str, float] = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "hr": 3600.0}
_RATE = re.compile(r"(\d*\.?\d+)\s*([a-z]+)/([a-z]+)")
_VOLUME = re.compile(r"(\d*\.?\d+)\s*([a-z]+)")
XON = b"\x11"
_PROMPT = {"idle": ":", "infuse": ">", "withdraw": "<", "stalled": "*", "target": "T*"}


class _ArgumentError(Exception):
    """What follows ``Argument error:``."""


class HarvardPump(Emulator):
    """One pump, address 0."""

    models: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "HarvardPump11Elite": {
            "diameter": 14.57e-3,
            "content": 10e-6,
            "capacity": 12e-6,
            "version": "11 ELITE I/W Single 3.0.4",
            "poll": "off",
            "flags": 6,
            "error": 5e-3,
            "slowest": 0.15e-6 / 60.0,
            "fastest": 159e-3 / 60.0,
        },
        "HarvardPHDUltra": {
            "diameter": 14.57e-3,
            "content": 10e-6,
            "capacity": 12e-6,
            "version": "PHD ULTRA I/W 3.0.7",
            "poll": "off",
            "flags": 5,
            "error": 2.5e-3,
            "slowest": 0.18e-6 / 60.0,
            "fastest": 190.8e-3 / 60.0,
        },
    }
    transport = "serial"

    def __init__(self, name: str, plant: PlantView, options: Mapping[str, object], rng: np.random.Generator) -> None:
        super().__init__(name, plant, options, rng)
        limit = self.number("error")
        error = 0.0 if plant.ideal else float(rng.uniform(-limit, limit))
        holds = (self.number("capacity"), self.number("content"))
        self._plunger = Plunger(plant.flow(name, ""), 1e3 * self.number("diameter"), 14.57, *holds, error)
        self._kept = "on"
        # Kept without power, like the plunger's diameter.
        self._syringe = (10.0, "ml")
        self._rates = {"i": (1.0, "ml", "min"), "w": (1.0, "ml", "min")}
        self._target: tuple[float, str] | None = None
        self.power_on()

    def power_on(self) -> None:
        """Idle, counters at 0."""
        self._plunger.stop()
        self._state = "idle"
        self._polled = self.options["poll"] == "on"
        self._unasked = b""
        self._count = {"i": 0.0, "w": 0.0}

    def fill(self, volume: float | None) -> None:
        """See ``Emulator.fill``; the plunger does not move for it, and ends where the liquid does."""
        self._plunger.fill(volume)

    def complain(self) -> None:
        """It stalls."""
        self._look()
        self._state = "stalled"
        self._drive()

    def asks(self, message: bytes) -> bool:
        """Every message is answered by a prompt."""
        return True

    def frames(self, buffer: bytearray) -> list[bytes]:
        """Lines that end in CR; an empty one asks for the prompt."""
        found = []
        while (end := buffer.find(b"\r") + 1) > 0:
            found.append(bytes(buffer[:end]))
            del buffer[:end]
        return found

    def receive(self, message: bytes) -> bytes | None:
        """One command line."""
        words = message.decode("latin-1").strip().lower().removeprefix("@").split(maxsplit=1)
        self._look()
        try:
            lines = self._obey(words[0], words[1] if len(words) > 1 else "") if words else []
        except _ArgumentError as problem:
            lines = [f"Argument error: {words[1] if len(words) > 1 else ''}", f"   {problem}"]
        self._drive()
        unasked, self._unasked = self._unasked, b""
        told = unasked + b"\n" + b"".join(line.encode("latin-1") + b"\r\n" for line in lines) + _PROMPT[self._state].encode()
        return told + XON if self._polled else told

    # Language ------------------------------------------------------------------------------------------------------

    def _obey(self, word: str, rest: str) -> list[str]:
        actions: Mapping[str, Callable[[str], list[str]]] = {
            "ver": lambda _: [str(self.options["identity"] or self.options["version"])],
            "version": self._version,
            "poll": self._poll,
            "nvram": self._nvram,
            "load": lambda text: [] if text.startswith("qs") else ["Quick Start"],
            "time": lambda text: [text or "01/01/26 00:00:00"],
            "dim": lambda text: [] if text else ["100"],
            "diameter": self._dia,
            "svolume": self._svol,
            "irate": lambda text: self._rate("i", text),
            "wrate": lambda text: self._rate("w", text),
            "tvolume": self._tvol,
            "ctvolume": self._ctvol,
            "ivolume": lambda _: [self._counted("i")],
            "wvolume": lambda _: [self._counted("w")],
            "civolume": lambda _: self._clear("i"),
            "cwvolume": lambda _: self._clear("w"),
            "irun": lambda _: self._run("infuse"),
            "wrun": lambda _: self._run("withdraw"),
            "stop": lambda _: self._stop(),
            "stp": lambda _: self._stop(),
            "status": lambda _: [self._status()],
        }
        for name, action in actions.items():
            if word == name or (len(word) >= 4 and name.startswith(word)):
                return action(rest)
        return [f"Command error: {word}", "   Unknown command"]

    def _version(self, _rest: str) -> list[str]:
        release = str(self.options["version"]).split()[-1]
        return [f"Firmware:      v{release}", "Pump address:  0", f"Serial number: {self.name.upper()[:7]}"]

    def _poll(self, rest: str) -> list[str]:
        if rest:
            if rest not in ("on", "off"):
                raise _ArgumentError("Unknown mode")
            self._polled = rest == "on"
            return []
        return ["On" if self._polled else "Off"]

    def _nvram(self, rest: str) -> list[str]:
        if rest not in ("", "on", "off", "none"):
            raise _ArgumentError("Unknown mode")
        self._kept = rest or self._kept
        return [] if rest else [self._kept.capitalize()]

    def _dia(self, rest: str) -> list[str]:
        if rest:
            self._only_at_rest()
            value = _number(rest)
            if not 0.1 <= value <= 60.0:
                raise _ArgumentError("Out of range")
            self._plunger.diameter = value
            return []
        return [f"{self._plunger.diameter:.4f} mm"]

    def _svol(self, rest: str) -> list[str]:
        if rest:
            self._only_at_rest()
            self._syringe = _volume(rest)
            return []
        return [f"{self._syringe[0]:g} {self._syringe[1]}"]

    def _rate(self, side: str, rest: str) -> list[str]:
        if not rest:
            value, volume, time = self._rates[side]
            return [f"{value:g} {volume}/{time}"]
        if rest == "lim":
            return [
                " to ".join(f"{_shown(60.0 * self.number(name) * self._plunger.area)}/min" for name in ("slowest", "fastest"))
            ]
        found = _RATE.fullmatch(rest)
        if found is None or found.group(2) not in VOLUMES or found.group(3) not in TIMES:
            raise _ArgumentError("Unknown units")
        speed = float(found.group(1)) * VOLUMES[found.group(2)] / TIMES[found.group(3)] / self._plunger.area
        if not self.number("slowest") <= speed <= self.number("fastest"):
            raise _ArgumentError("Out of range")
        self._rates[side] = (float(found.group(1)), found.group(2), found.group(3))
        return []

    def _tvol(self, rest: str) -> list[str]:
        if rest:
            self._target = _volume(rest)
            return []
        return [f"{self._target[0]:g} {self._target[1]}" if self._target else "Target volume not set"]

    def _ctvol(self, _rest: str) -> list[str]:
        self._target = None
        return []

    def _counted(self, side: str) -> str:
        return _shown(self._count[side])

    def _clear(self, side: str) -> list[str]:
        self._count[side] = 0.0
        return []

    def _run(self, state: str) -> list[str]:
        left = self._left(state[0])
        if self._target and left <= 0.0:
            return ["Command error: Target volume reached"]
        self._state = state
        return []

    def _stop(self) -> list[str]:
        self._state = "idle"
        return []

    def _status(self) -> str:
        """Rate fL/s, time ms, volume fL, and flags: direction (capital: moving), limit, stall, trigger, direction in, target."""
        moving = self._state in ("infuse", "withdraw")
        side = "w" if self._state == "withdraw" else "i"
        rate = round(self._nominal(side) * 1e18) if moving else 0
        flags = (side.upper() if moving else side) + "." + ("S" if self._state == "stalled" else ".") + ".I"
        flags += "T" if self._state == "target" else "."
        return f"{rate} 0 {round(self._count[side] * 1e18)} {flags[: round(self.number('flags'))]}"

    def _only_at_rest(self) -> None:
        if self._state in ("infuse", "withdraw"):
            raise _ArgumentError("Not allowed while the pump is running")

    # The pump ------------------------------------------------------------------------------------------------------

    def _nominal(self, side: str) -> float:
        value, volume, time = self._rates[side]
        return value * VOLUMES[volume] / TIMES[time]

    def _left(self, side: str) -> float:
        """Volume up to the target, as the pump counts."""
        return inf if self._target is None else self._target[0] * VOLUMES[self._target[1]] - self._count[side]

    def _drive(self) -> None:
        if self._state not in ("infuse", "withdraw"):
            self._plunger.rest()
            return
        side = self._state[0]
        self._plunger.push(side == "i", self._nominal(side), {"target": max(self._left(side), 0.0) * self._plunger.truth})

    def _look(self) -> None:
        """What has happened since the last message."""
        if self._state not in ("infuse", "withdraw"):
            return
        counted, end = self._plunger.moved()
        self._count[self._state[0]] += counted
        if end:
            self._state = end
            self._unasked = b"" if self._polled else b"\n" + _PROMPT[end].encode()


def _shown(volume: float) -> str:
    """A volume (m^3) in the unit that fits it."""
    unit = "ml" if volume >= 1e-6 else "ul" if volume >= 1e-9 or volume == 0.0 else "nl"
    return f"{volume / VOLUMES[unit]:.6g} {unit}"


def _number(text: str) -> float:
    try:
        return float(text.split()[0])
    except ValueError:
        raise _ArgumentError("Invalid number") from None


def _volume(text: str) -> tuple[float, str]:
    found = _VOLUME.fullmatch(text)
    if found is None or found.group(2) not in VOLUMES:
        raise _ArgumentError("Unknown units")
    return float(found.group(1)), found.group(2)
