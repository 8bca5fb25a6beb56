"""Alicat pressure controllers (PC, PCD and flow controllers set up to control pressure), serial.

Source: the manual "Alicat Serial Primer" (rev. 2, 2023): data frame, set-point (LS, S), ramp (SR, LSRC), valves (HC, C, E),
engineering units (DCU), full scale (FPF), control point (register 122), source of set-points (LSS). Commands end in CR, replies
too, and no command may be sent before the reply to the last has ended. Firmware 10v05 or later. Unit id A.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import ClassVar, TypeVar

from hil.core.hydrostatics import ATMOSPHERE
from hil.core.types import SafeAction
from instruments.pressure_unit import Look, PressureUnit, Valves
from instruments.roles import SourcePlan
from instruments.safe_commands import SafeCommands
from instruments.visa import Link
from instruments.wiring import Setting

T = TypeVar("T")
PASCAL = 2
"""Number of the unit pascal in the primer's appendix."""
UNITS = {2: 1.0, 3: 100.0, 4: 1e3, 5: 1e6, 6: 100.0, 7: 1e5, 10: 6894.757293168}
"""Pa per unit, by its number: Pa, hPa, kPa, MPa, mbar, bar, PSI."""
SECOND = 4
ABSOLUTE, GAUGE = 34, 38
"""Register 122."""
_NUMBER = re.compile(r"^[-+]?\d+(?:\.\d*)?$")
_FIRMWARE = re.compile(r"(\d+)v(\d+)", re.IGNORECASE)
STATISTICS = {ABSOLUTE: 2, GAUGE: 6}
"""Number of the pressure that is controlled, in the primer's appendix."""
SAVED, ANALOGUE, UNSAVED = "S", "A", "U"
RAMP_STEP = 0.02
"""The instrument takes the nearest ramp it has: what it may differ by from the one that was sent."""
_EVERY_CHANGE = "ALSRC 1 1 1 1"


class AlicatPressure(PressureUnit):
    """Alicat PC/PCD/MCD, unit A. Manual: serial primer. ``baud_rate`` is 19200, or 38400 for newer ones."""

    link: ClassVar[Link] = Link(
        identity=r"^A\s+(\d+v\d+\S*)",
        identify="AVE",
        read_termination="\r",
        write_termination="\r",
        timeout=1.0,
        first_timeout=1.0,
        baud_rate=19200,
    )
    concrete = True
    answers = True
    error_share = 0.0025

    def get_idn(self) -> dict[str, str | None]:
        """From the verified identity; sends nothing."""
        return {"vendor": "Alicat", "model": "pressure controller", "serial": "not told", "firmware": self.identity()}

    def errors(self) -> list[str]:
        """The instrument keeps no errors; what it does not understand it answers with a question mark."""
        return []

    def say(self, command: str, doing: str, decode: Callable[[list[str]], T], *, anyway: bool = False) -> T:
        """One command and the words of its reply after the unit id. InstrumentError for a refusal."""
        found = self._answer(command, doing, decode, anyway=anyway)
        if found is None:
            raise self.fault(f"did not accept {command!r} while {doing}")
        return found

    def _answer(self, command: str, doing: str, decode: Callable[[list[str]], T], *, anyway: bool = False) -> T | None:
        """As ``say``; None for a refusal."""

        def take(reply: str) -> T | None:
            words = reply.split()
            if words == ["?"]:
                return None
            if words[0] != "A":
                raise ValueError(f"{reply[:40]!r}")
            return decode(words[1:])

        return self.inquire(command, take, doing, anyway=anyway)

    # What PressureUnit asks for --------------------------------------------------------------------------------------

    def prepare_unit(self) -> tuple[float, bool, Sequence[str]]:
        """Pascals for every pressure it tells. Who controls it, and how, stays as it is: it may be somebody else's."""
        found = _FIRMWARE.search(self.identity())
        if found is None or (int(found.group(1)), int(found.group(2))) < (10, 5):
            raise self.fault(f"has firmware {self.identity()}; 10v05 or later is needed to choose units and ramps")
        point = self.say("AR122", "asking what it controls", lambda words: int(" ".join(words).split("=")[1]))
        if point not in (ABSOLUTE, GAUGE):
            raise self.fault("is set up to control something else than absolute or gauge pressure; change its control point")
        self._choose_pascals(STATISTICS[point])
        full_scale = self.say(f"AFPF {STATISTICS[point]}", "asking for full scale", _with_unit)
        return full_scale, point == GAUGE, ()

    def take_in_hand(self) -> None:
        """Ramps in every direction. InstrumentError while its analogue input says where it goes: that is not taken from it."""
        source = self.say("ALSS", "asking where set-points come from", lambda words: words[0])
        if source == ANALOGUE:
            raise self.fault(
                "takes its set-points from its analogue input and would obey none from here; make sure that nobody needs what "
                "it controls, shut its valves and choose serial set-points at the instrument (or send AHC, then ALSS S)"
            )
        self.say(_EVERY_CHANGE, "choosing what is ramped", lambda words: _only(words, ["1"] * 4))

    def settle_in(self, plan: SourcePlan) -> None:
        """One harmless set-point is saved while the valves are shut: it is what the instrument controls at by itself when
        power comes back. The others are not saved, which spares its memory.

        Gauge: 0. Absolute: the pressure there is, or a standard atmosphere where that is less, inside the limits.
        """
        self.disable(SafeAction.STOP)
        # At altitude a standard atmosphere is an overpressure; the pressure there is may be what somebody else left.
        absolute = min(max(min(self.pressure_now(), ATMOSPHERE), plan.minimum, 0.0), plan.maximum)
        harmless = 0.0 if self._gauge else absolute
        self._choose_source(SAVED)
        self._keep(harmless)
        self._choose_source(UNSAVED)
        self._wanted = float("nan")  # nothing to have kept while the valves are shut
        self.note(set_point_after_power_failure_Pa=harmless)

    def _choose_source(self, source: str) -> None:
        self.say(f"ALSS {source}", "choosing where set-points come from", lambda words: _only(words, [source]))

    def _choose_pascals(self, statistic: int) -> None:
        """For all pressures (group 1). Clients of others differ in what comes first, group or unit: what it does is looked at."""
        unit = ""
        for order in ("", f" 1 {PASCAL}", f" {PASCAL} 1"):
            if order:
                self._answer(f"ADCU {statistic}{order}", "choosing the unit", lambda words: True)
            number, unit = self.say(f"ADCU {statistic}", "asking for the unit", lambda words: (int(words[0]), words[1]))
            if number == PASCAL:
                return
        raise self.fault(f"counts in {unit} although pascals were asked for; choose Pa for its pressures at the instrument")

    def look(self, *, anyway: bool = False) -> Look:
        """The data frame for pressure and valves; the set-point it was sent (not where its ramp is) and the unit from LS.

        In whatever unit it counts: it may be looked at before pascals are chosen.
        """
        actual, valves = self.say("A", "looking at the pressure", _frame, anyway=anyway)
        level, scale = self.say("ALS", "asking for the set-point", _set_point, anyway=anyway)
        return Look(level * scale, actual * scale, valves)

    def send_level(self, level: float) -> float:
        """LS, which answers with the set-point it keeps, and in which unit."""
        kept, scale = self.say(f"ALS {level:.1f}", "setting a pressure", _set_point)
        return kept * scale

    def send_slew(self, pascal_per_second: float) -> None:
        """Ramp of the set-point, never a faster one than this; 0 switches the ramp off."""
        ramp = pascal_per_second if isfinite(pascal_per_second) else 0.0
        kept = self._send_ramp(ramp)
        if ramp < kept <= (1.0 + RAMP_STEP) * ramp:
            kept = self._send_ramp((1.0 - RAMP_STEP) * ramp)
        if not (1.0 - 2.0 * RAMP_STEP) * ramp <= kept <= ramp:
            raise self.fault(f"keeps a ramp of {kept:g} Pa/s although {ramp:g} Pa/s was sent")

    def _send_ramp(self, ramp: float) -> float:
        """SR, which answers with the ramp it keeps, and in which units."""
        kept, unit, time = self.say(
            f"ASR {ramp:.4f} {SECOND}", "setting the ramp", lambda words: (float(words[0]), int(words[1]), int(words[2]))
        )
        if unit != PASCAL or time != SECOND:
            raise self.fault(f"keeps a ramp of {kept:g} (units {unit}, {time}) although {ramp:g} Pa/s was sent")
        return kept

    def switch(self, valves: Valves) -> None:
        """C cancels what holds them, HC shuts, E opens the exhaust."""
        word = {Valves.CONTROL: "C", Valves.SHUT: "HC", Valves.VENT: "E"}[valves]
        self.say(f"A{word}", "switching the valves", _frame, anyway=valves is not Valves.CONTROL)

    @classmethod
    def safe_commands(cls, port: str, action: SafeAction, value: float, settings: Mapping[str, Setting]) -> SafeCommands | None:
        """Pascals, ramp, set-point; then the exhaust, or the valves shut."""
        leave, expected = {
            SafeAction.VENT: (("AE",), r"^A [-+ \d.].*\bEXH\b"),
            SafeAction.LEVEL: ((), r"^A [-+]\d"),
        }.get(action, (("AHC",), r"^A [-+ \d.].*\bHLD\b"))
        pressures = {"absolute": (2,), "gauge": (6,)}.get(str(settings.get("reference")), tuple(STATISTICS.values()))
        return SafeCommands(
            leave=leave,
            query="A",
            expected=expected,
            # It may be armed before pascals are chosen. Both orders: who does not take one refuses it; the primer's goes last.
            attention=(*(f"ADCU {one} {order}" for order in (f"{PASCAL} 1", f"1 {PASCAL}") for one in pressures), _EVERY_CHANGE),
            state="A",
            states=r"^A [-+]\d",
            active=r"^A [-+]\d(?!.*\b(?:HLD|EXH)\b)",
            measure="A",
            measured=r"^A ([-+]\d+\.?\d*) ",
            move=(f"ASR {{slew:.4f}} {SECOND}", "AS{level:.1f}", "AC"),
        )


def _frame(words: list[str]) -> tuple[float, Valves]:
    """Pressure and valves of a data frame: the first column, and the status words behind the last."""
    status = {word for word in words if not _NUMBER.match(word)}
    valves = Valves.VENT if "EXH" in status else Valves.SHUT if "HLD" in status else Valves.CONTROL
    return float(words[0]), valves


def _set_point(words: list[str]) -> tuple[float, float]:
    """The requested set-point of an LS reply, and Pa per unit of it; ValueError for a unit that is not known here."""
    unit = int(words[2])
    if unit not in UNITS:
        raise ValueError(f"a set-point is told in {words[3]}, which is no unit known here")
    return float(words[1]), UNITS[unit]


def _with_unit(words: list[str]) -> float:
    """A pressure that is told with its unit, Pa."""
    return float(words[0]) * UNITS[int(words[1])]


def _only(words: list[str], expected: list[str]) -> bool:
    if words != expected:
        raise ValueError(f"{' '.join(words)[:40]!r}")
    return True


__all__ = ["AlicatPressure"]
