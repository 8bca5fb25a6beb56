"""Alicat pressure controllers (PCD, dual valve; or an MCD flow controller that controls pressure), from the serial primer.

Imitated: unit id, polling, set-point and where it comes from (``LSS``: the analogue input has its own; after a power failure it
controls at the last one that was saved, whatever was sent unsaved since, as the BC series' manual has it, page 12), ramp,
holding the valves shut, exhaust, engineering units, full scale, registers of the control point, status words, "?" for what is
not understood, resolution of the display, an error of 0.25 % of full scale and unrest drawn from the seed. Options:
``full_scale`` (Pa), ``reference`` ("absolute" or "gauge"), ``unit`` (as delivered), ``frame`` ("pressure": two columns; "mass
flow": six, as a flow controller tells them), ``source`` (of set-points, as found), ``saved`` and ``analogue`` (Pa: a set-point
somebody saved, and the one at its analogue input; negative: none), ``group_first`` (whether ``DCU`` takes the group before the
unit, as the primer has it), ``supply`` and ``vacuum`` (absolute Pa behind the valves). Not imitated: streaming, tare, PID
terms, batches, gases, a ramp that goes on while the valves are held.
"""

from collections.abc import Mapping
from math import inf
from typing import ClassVar

import numpy as np

from hil.core.errors import ConfigError
from simulated_backend.virtual_bench.emulator import Emulator
from simulated_backend.virtual_bench.ports import PlantView

UNITS: Mapping[int, tuple[str, float, int]] = {
    2: ("Pa", 1.0, 1),
    3: ("hPa", 100.0, 3),
    4: ("kPa", 1e3, 4),
    6: ("mbar", 100.0, 3),
    7: ("bar", 1e5, 6),
    10: ("PSI", 6894.757293168, 4),
}
"""Number in the primer's appendix -> label, Pa, decimals shown here."""
TIMES: Mapping[int, tuple[str, float]] = {3: ("ms", 1e-3), 4: ("s", 1.0), 5: ("m", 60.0), 6: ("h", 3600.0), 7: ("d", 86400.0)}
SOURCES = ("S", "A", "U")
"""Saved, analogue, unsaved."""
CONTROL = {"absolute": 34, "gauge": 38}
ERROR = 2.5e-3 / 3.0
"""Relative to full scale: the specified limit of error (0.25 %) is taken as three standard deviations."""
STABILITY, STABILITY_TIME = 5e-5, 0.5
"""Unrest of the controlled pressure, of full scale, and its correlation time in s (not in the data sheet: assumed)."""
NOISE = 5e-6
"""Of one reading, of full scale (assumed)."""


class _RefusedError(Exception):
    """What is answered with a question mark."""


class AlicatPressure(Emulator):
    """One controller, unit A."""

    models: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "AlicatPressure": {
            "full_scale": 3.0e5,
            "reference": "absolute",
            "unit": "kPa",
            "frame": "pressure",
            "source": "S",
            "saved": -1.0,
            "analogue": -1.0,
            "group_first": True,
            "supply": 4.0e5,
            "vacuum": 2.0e3,
        }
    }
    transport = "serial"

    def __init__(self, name: str, plant: PlantView, options: Mapping[str, object], rng: np.random.Generator) -> None:
        super().__init__(name, plant, options, rng)
        labels = {label: code for code, (label, _, _) in UNITS.items()}
        for key, allowed in (
            ("reference", CONTROL),
            ("unit", labels),
            ("frame", ("pressure", "mass flow")),
            ("source", SOURCES),
        ):
            if options[key] not in allowed:
                raise ConfigError(f"option {key!r} of {name!r} must be one of {', '.join(allowed)}, not {options[key]!r}")
        self._port = plant.pneumatic(name, "")
        self._full_scale = self.number("full_scale")
        self._offset = 0.0
        if not plant.ideal:
            self._offset = ERROR * self._full_scale * float(rng.standard_normal())
            self._port.set_stability(STABILITY * self._full_scale, STABILITY_TIME)
        # Kept without power.
        self._unit = labels[str(options["unit"])]
        self._ramp, self._ramp_time = 0.0, 4
        self._ramp_config = [1, 1, 1, 1]
        self._point = CONTROL[str(options["reference"])]
        self._source = str(options["source"])
        self._saved = self._kept_level("saved")
        self.power_on()

    def power_on(self) -> None:
        """The valves shut, set-point at the reference's own zero (gauge) or at the atmosphere it starts in (absolute)."""
        self._held, self._exhausting = True, False
        self._sent = self._set_point = self._from = 0.0 if self._point == CONTROL["gauge"] else self.plant.atmosphere
        self._since = self.plant.clock.now()
        self._port.hold()
        begins = self._kept_level("analogue") if self._source == "A" else self._saved
        if begins is not None:
            self._sent = begins if self._source != "A" else self._sent
            self._held, self._set_point = False, begins
            self._control()

    def _kept_level(self, option: str) -> float | None:
        """Pa; None where the option is negative."""
        return None if self.number(option) < 0.0 else self.number(option)

    def asks(self, message: bytes) -> bool:
        """Every message is answered."""
        return True

    def receive(self, message: bytes) -> bytes | None:
        """One command, ended by CR."""
        text = message.decode("latin-1").strip().upper().replace("$$", "")
        if not text.startswith("A"):
            return None  # another unit is meant
        try:
            return (self._obey(text[1:].strip()) + "\r").encode("latin-1")
        except (_RefusedError, ValueError, KeyError, IndexError):
            return b"?\r"

    # Language ------------------------------------------------------------------------------------------------------

    def _obey(self, text: str) -> str:
        if not text:
            return self._frame()
        if text in ("H", "HP", "HC", "C", "E"):
            return self._valves(text)
        if text == "VE":
            return "A   " + str(self.options["identity"] or "10v05.0-R24 Feb 14 2023,11:18:42")
        if text.startswith("R122"):
            return f"A   122={self._point}"
        if text.startswith("W122="):
            if int(text[5:]) not in CONTROL.values():
                raise _RefusedError
            self._point = int(text[5:])
            return f"A   122={self._point}"
        for word, action in (
            ("LSRC", self._lsrc),
            ("LSS", self._lss),
            ("LS", self._ls),
            ("SR", self._sr),
            ("DCU", self._dcu),
            ("FPF", self._fpf),
            ("S", self._s),
        ):
            if text.startswith(word):
                return action(text[len(word) :].split())
        raise _RefusedError

    def _s(self, words: list[str]) -> str:
        value = float(words[0]) * self._scale
        if not -0.01 * self._full_scale <= value <= 1.01 * self._full_scale:
            raise _RefusedError
        if self._source == "A":
            return self._frame()  # nothing happens, and nothing is said of it
        self._sent = value
        self._saved = value if self._source == "S" else self._saved
        self._go_to(value)
        return self._frame()

    def _go_to(self, value: float) -> None:
        self._from, self._since = self._current(), self.plant.clock.now()
        self._set_point = value
        self._control()

    def _ls(self, words: list[str]) -> str:
        if words:
            self._s(words)
        return f"A {self._shown(self._current())} {self._shown(self._set_point)} {self._unit} {UNITS[self._unit][0]}"

    def _sr(self, words: list[str]) -> str:
        if words:
            ramp, unit = float(words[0]), int(words[1])
            label = TIMES[unit][0]
            if ramp < 0.0:
                raise _RefusedError
            self._from, self._since = self._current(), self.plant.clock.now()
            self._ramp, self._ramp_time = ramp * self._scale, unit
            self._control()
        label = TIMES[self._ramp_time][0]
        return f"A {self._ramp / self._scale:.4f} {self._unit} {self._ramp_time} {UNITS[self._unit][0]}/{label}"

    def _lsrc(self, words: list[str]) -> str:
        if words:
            flags = [int(word) for word in words]
            if len(flags) != 4 or set(flags) - {0, 1}:
                raise _RefusedError
            self._ramp_config = flags
        return "A " + " ".join(map(str, self._ramp_config))

    def _lss(self, words: list[str]) -> str:
        if words:
            if words[0] not in SOURCES:
                raise _RefusedError
            self._source = words[0]
            analogue = self._kept_level("analogue")
            self._go_to(analogue if self._source == "A" and analogue is not None else self._sent)
        return f"A {self._source}"

    def _dcu(self, words: list[str]) -> str:
        if int(words[0]) not in (2, 6):
            raise _RefusedError
        if len(words) > 1:
            group, unit = words[1:] if self.options["group_first"] else reversed(words[1:])
            if group not in ("0", "1") or int(unit) not in UNITS:
                raise _RefusedError
            self._unit = int(unit)
        return f"A {self._unit} {UNITS[self._unit][0]}"

    def _fpf(self, words: list[str]) -> str:
        if int(words[0]) not in (2, 6):
            raise _RefusedError
        return f"A {self._shown(self._full_scale)} {self._unit} {UNITS[self._unit][0]}"

    def _valves(self, word: str) -> str:
        self._held, self._exhausting = word.startswith("H"), word == "E"
        if self._held:
            self._port.hold()
        elif self._exhausting:
            self._port.set_target(None, inf)
        else:
            self._control()
        return self._frame()

    def _frame(self) -> str:
        pressure = self._measured()
        columns = [pressure, self._current()]
        texts = [self._shown(value) for value in columns]
        if self.options["frame"] == "mass flow":
            texts = [texts[0], "+025.00", "+000.00", "+000.00", texts[1], "    N2"]
        words = [
            *(["EXH"] if self._exhausting else []),
            *(["HLD"] if self._held else []),
            *(["POV"] if pressure > 1.1 * self._full_scale else []),
        ]
        return " ".join(["A", *texts, *words])

    # The controller ------------------------------------------------------------------------------------------------

    @property
    def _scale(self) -> float:
        """Pa per unit."""
        return UNITS[self._unit][1]

    @property
    def _reference(self) -> float:
        return self.plant.atmosphere if self._point == CONTROL["gauge"] else 0.0

    def _slew(self) -> float:
        """Of the present set-point change, Pa/s; inf where it is not ramped."""
        rising = self._set_point >= self._from
        ramped = self._ramp_config[2] if self._set_point == 0.0 else self._ramp_config[0 if rising else 1]
        return self._ramp / TIMES[self._ramp_time][1] if ramped and self._ramp > 0.0 else inf

    def _current(self) -> float:
        """Where the ramped set-point is, Pa."""
        travel = self._slew() * (self.plant.clock.now() - self._since)
        distance = self._set_point - self._from
        return self._set_point if not travel < abs(distance) else self._from + (travel if distance > 0 else -travel)

    def _control(self) -> None:
        if self._held or self._exhausting:
            return
        target = self._set_point - self._offset + self._reference
        self._port.set_target(min(max(target, self.number("vacuum")), self.number("supply")), self._slew())

    def _measured(self) -> float:
        noise = 0.0 if self.plant.ideal else NOISE * self._full_scale * float(self.rng.standard_normal())
        return self.broken.shown(self._port.pressure() - self._reference + self._offset + noise)

    def _shown(self, pascal: float) -> str:
        _, scale, decimals = UNITS[self._unit]
        return f"{pascal / scale:+0{decimals + 5}.{decimals}f}"
