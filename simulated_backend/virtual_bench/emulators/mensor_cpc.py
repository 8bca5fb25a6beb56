"""Mensor CPC pressure controllers (CPC4000, CPC6050: one channel, A), Mensor command set, from the operating instructions.

Imitated: replies that begin with a space, or with ``E`` while there is an error in the queue (ten at most), CR LF behind them,
commands ended by CR, LF or both, queries by a question mark behind the word, modes, set-point, limits, units, pressure type,
output formats 1, 2 and 6, an error within 0.01 % of full scale and unrest of 0.003 %, both from the seed. Options:
``full_scale`` (Pa), ``reference`` ("absolute" or "gauge"), ``unit`` and ``format`` (as found), ``kind`` (a CPC4000 has no
channels: neither ``A?`` nor ``Chan`` are in its table), ``supply`` and ``vacuum`` (absolute Pa). Not imitated: rate control, a
second channel, leak tests, the wording of the error texts.
"""

from collections.abc import Callable, Mapping
from math import inf
from typing import ClassVar

import numpy as np

from hil.core.errors import ConfigError
from simulated_backend.virtual_bench.emulator import Emulator
from simulated_backend.virtual_bench.ports import PlantView

UNITS: Mapping[int, tuple[str, float]] = {
    1: ("psi", 6894.757293168),
    14: ("bar", 1e5),
    15: ("mbar", 100.0),
    21: ("Torr", 133.322368421),
    22: ("kPa", 1e3),
    23: ("Pa", 1.0),
}
MODES = ("STANDBY", "MEASURE", "CONTROL", "VENT")
ERROR = 1e-4 / 3.0
"""Relative to full scale: the specified limit of error is taken as three standard deviations."""
STABILITY, STABILITY_TIME = 0.5 * 3e-5, 1.0
NOISE = 2e-6
"""Of one reading, of full scale (assumed)."""
ERRORS_KEPT = 10


class _ComplaintError(Exception):
    """An entry for the error queue."""


class MensorCPC(Emulator):
    """One controller, channel A."""

    identity: ClassVar[str] = "MENSOR,CPC6050,41000XYZ,1.12.00"
    models: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "MensorCPC": {
            "full_scale": 3.0e5,
            "reference": "absolute",
            "unit": 22,
            "format": 1,
            "kind": "CPC6050",
            "supply": 4.0e5,
            "vacuum": 1.0e3,
        }
    }

    def __init__(self, name: str, plant: PlantView, options: Mapping[str, object], rng: np.random.Generator) -> None:
        super().__init__(name, plant, options, rng)
        if options["reference"] not in ("absolute", "gauge"):
            raise ConfigError(f"option 'reference' of {name!r} must be absolute or gauge, not {options['reference']!r}")
        if round(self.number("unit")) not in UNITS:
            raise ConfigError(f"option 'unit' of {name!r} must be one of {', '.join(map(str, UNITS))}")
        self._port = plant.pneumatic(name, "")
        self._full_scale = self.number("full_scale")
        self._offset = 0.0
        if not plant.ideal:
            self._offset = ERROR * self._full_scale * float(rng.standard_normal())
            self._port.set_stability(STABILITY * self._full_scale, STABILITY_TIME)
        # Kept without power.
        self._unit = round(self.number("unit"))
        self._gauge = options["reference"] == "gauge"
        self._upper, self._lower = self._full_scale, -self.plant.atmosphere if self._gauge else 0.0
        self.power_on()

    def power_on(self) -> None:
        """Standby, set-point 0, no errors."""
        self._mode = "STANDBY"
        self._set_point = 0.0
        self._errors: list[str] = []
        self._port.hold()

    def complain(self) -> None:
        """An entry that no message caused."""
        self._errors = [*self._errors, "99 - Injected"][-ERRORS_KEPT:]

    def receive(self, message: bytes) -> bytes | None:
        """One command or query."""
        words = message.decode("latin-1").strip().split(maxsplit=1)
        word, data = words[0].upper(), words[1] if len(words) > 1 else ""
        try:
            if word.endswith("?"):
                return self._reply(self._query(word[:-1]))
            self._command(word, data)
        except _ComplaintError as problem:
            self._errors = [*self._errors, str(problem)][-ERRORS_KEPT:]
        return None

    def _reply(self, text: str) -> bytes:
        return (("E" if self._errors else " ") + text).encode("latin-1") + b"\r\n"

    # Language ------------------------------------------------------------------------------------------------------

    def _query(self, word: str) -> str:
        answers: Mapping[str, Callable[[], str]] = {
            "*IDN": self._identity,
            "ID": self._identity,
            "": self._formatted,
            "A": lambda: self._shown(self._measured()),
            "CHAN": lambda: "A",
            "MODE": lambda: self._mode,
            "SETPT": lambda: self._shown(self._set_point),
            "UNITS": lambda: UNITS[self._unit][0],
            "PTYPE": lambda: "GAUGE" if self._gauge else "ABSOLUTE",
            "UPPERLIMIT": lambda: self._shown(self._upper),
            "LOWERLIMIT": lambda: self._shown(self._lower),
            "STABLE": lambda: "YES" if self._stable() else "NO",
        }
        if word == "ERROR":
            return self._errors.pop(0) if self._errors else "00 - No Errors"
        if word not in answers or (not self._channels and word in ("A", "CHAN")):
            raise _ComplaintError("01 - Unknown query")
        return answers[word]()

    def _command(self, word: str, data: str) -> None:
        if word == "CHAN" and data.upper() == "A" and self._channels:
            return
        if word == "MODE":
            found = [mode for mode in MODES if mode.startswith(data.upper()) and data]
            if not found:
                raise _ComplaintError("02 - Unknown mode")
            self._mode = found[0]
        elif word == "UNITS":
            code = int(_number(data))
            if code not in UNITS:
                raise _ComplaintError("03 - Unknown unit")
            self._unit = code
        elif word == "PTYPE":
            if data.upper()[:1] not in ("A", "G"):
                raise _ComplaintError("04 - Unknown type")
            self._gauge = data.upper().startswith("G")
        elif word == "SETPT":
            value = _number(data) * UNITS[self._unit][1]
            if not self._lower <= value <= self._upper:
                raise _ComplaintError("05 - Set-point outside the limits")
            self._set_point = value
        else:
            raise _ComplaintError("01 - Unknown command")
        self._drive()

    @property
    def _channels(self) -> bool:
        return self.options["kind"] == "CPC6050"

    def _identity(self) -> str:
        return str(self.options["identity"] or self.identity.replace("CPC6050", str(self.options["kind"])))

    def _formatted(self) -> str:
        """The pressure of the active channel, and what the output format adds."""
        stable = "stable" if self._stable() else "slewing"
        more = {2: f", {UNITS[self._unit][0]}, {self._mode}", 6: f", {self._shown(self._set_point)}, {stable}"}
        return self._shown(self._measured()) + more.get(round(self.number("format")), "")

    # The controller ------------------------------------------------------------------------------------------------

    @property
    def _reference(self) -> float:
        return self.plant.atmosphere if self._gauge else 0.0

    def _drive(self) -> None:
        if self._mode == "CONTROL":
            target = self._set_point - self._offset + self._reference
            self._port.set_target(min(max(target, self.number("vacuum")), self.number("supply")), inf)
        elif self._mode == "VENT":
            self._port.set_target(None, inf)
        else:
            self._port.hold()

    def _measured(self) -> float:
        noise = 0.0 if self.plant.ideal else NOISE * self._full_scale * float(self.rng.standard_normal())
        return self.broken.shown(self._port.pressure() - self._reference + self._offset + noise)

    def _stable(self) -> bool:
        true = self._port.pressure() - self._reference + self._offset
        return self._mode == "CONTROL" and abs(true - self._set_point) < 1e-4 * self._full_scale

    def _shown(self, pascal: float) -> str:
        return f"{pascal / UNITS[self._unit][1]:+.6E}"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _ComplaintError("06 - A number was expected") from None
