"""VICI multiposition valve actuators of the universal kind (EUT, modular universal), from their manual's serial commands.

Imitated: positions by number, the way ``SM`` says (the shortest, as it is set up here), direction, a turn that takes time during
which the valve is between two positions and the common line is shut, the number of positions, the actuator's mode (``AM``; in
those for two positions nothing turns here), the firmware in several lines, of which the manual prints none. Actions are answered
with nothing (interface mode 0, as delivered) unless ``IFM`` asks for more. ``step_time`` (s): from one position to the next;
``mode`` and ``interface``: as it is found. Not imitated: two positions, device IDs, offsets, digital inputs, a stuck rotor.
"""

import re
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from simulated_backend.virtual_bench.emulator import Emulator
from simulated_backend.virtual_bench.ports import PlantView

MULTIPOSITION = 3
_COMMAND = re.compile(r"(GO|CP|NP|AM|VR|HM|CW|CC|IFM|CNT|STAT)(\d*)|(SM)([FRA]?)")


class ViciValve(Emulator):
    """One valve; its rotor is the port ""."""

    identity: ClassVar[str] = "UA_MAIN_CL\rJul 13 2016"
    models: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "ViciValve": {"positions": 10, "step_time": 0.2, "mode": 3, "interface": 0}
    }
    transport = "serial"

    def __init__(self, name: str, plant: PlantView, options: Mapping[str, object], rng: np.random.Generator) -> None:
        super().__init__(name, plant, options, rng)
        self._rotor = plant.valve(name, "")
        self._version = str(options["identity"] or self.identity)
        self._count = round(self.number("positions"))
        self._mode, self._interface, self._way = round(self.number("mode")), round(self.number("interface")), "A"
        self._turns = 0
        self._target = self._rotor.position() or 1
        self.power_on()

    def power_on(self) -> None:
        """The rotor stays where it is; so do the settings."""

    def asks(self, message: bytes) -> bool:
        """Only what is answered."""
        return re.fullmatch(rb"\s*(GO|HM|CW|CC)\d*\s*", message.upper()) is None

    def receive(self, message: bytes) -> bytes | None:
        """One command, ended by CR."""
        text = message.decode("latin-1").strip().upper()
        found = _COMMAND.fullmatch(text)
        if found is None:
            return _line(f"{text} = Bad command")
        name, digits = (part or "" for part in (found.groups()[2:] if found.group(3) else found.groups()[:2]))
        if name == "AM" and digits in ("1", "2", "3"):
            self._mode = int(digits)
            return None
        if self._mode != MULTIPOSITION and name in ("GO", "CW", "CC", "HM", "NP", "SM"):
            return _line(f"{text} = Bad command")
        if name == "SM":
            self._way = digits or self._way
            return None if digits else _line(f"SM{self._way}")
        if name in ("GO", "CW", "CC", "HM"):
            return self._action(name, digits, text)
        if name == "NP" and digits:
            if not 2 <= int(digits) <= 96:
                return _line(f"{text} = Bad command")
            self._count = int(digits)
            return None
        if name == "IFM" and digits:
            self._interface = min(int(digits), 2)
            return None
        return self._query(name)

    def _query(self, name: str) -> bytes:
        if name == "CP":
            place = self._rotor.position()
            return _line(f"CP{place:02d}" if place is not None else "CP??")
        if name == "STAT":
            return _line("STATUS: " + ("N" if self._rotor.position() is not None else "M"))
        values = {"NP": f"NP{self._count:02d}", "AM": f"AM{self._mode}", "VR": self._version, "IFM": f"IFM{self._interface}"}
        return _line(values.get(name, f"CNT{self._turns}"))

    def _action(self, name: str, digits: str, text: str) -> bytes | None:
        here = self._rotor.position() or self._target
        if name == "HM":
            target = 1
        elif digits:
            target = int(digits)
        elif name == "GO":
            return _line(f"{text} = Bad command")
        else:
            target = (here if name == "CW" else here - 2) % self._count + 1
        if not 1 <= target <= self._count:
            return _line(f"{text} = Bad command")
        forward, backward = (target - here) % self._count, (here - target) % self._count
        way = {"CW": "F", "CC": "R", "GO": self._way}.get(name, "A")
        steps = {"F": forward, "R": backward}.get(way, min(forward, backward))
        self._turns += int(steps > 0)
        self._target = target
        if steps:
            self._rotor.set_position(target, steps * self.number("step_time"))
        return _line(f"{name}{target:02d}") if self._interface else None


def _line(text: str) -> bytes:
    return text.encode("latin-1") + b"\r"
