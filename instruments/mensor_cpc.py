"""Mensor (WIKA) CPC pressure controllers, Mensor command set, TCP or serial.

Source: the CPC6050's manual (operating instructions), section 7.7: commands end in CR, LF or both and are not answered;
queries are the word with a question mark; replies begin with a space, or with ``E`` while there is an error in the queue, and end
in CR LF. Pascals are unit 23. The words of its rate control are not used: the bench leads the set-point. ``?`` alone asks for the
pressure of the active channel, in every output format first; the tables of the CPC3050 and the CPC4000 have neither ``A?`` nor
``Chan``.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeVar

from hil.core.types import SafeAction
from instruments.base import finite
from instruments.pressure_unit import Look, PressureUnit, Valves
from instruments.safe_commands import SafeCommands
from instruments.visa import Link
from instruments.wiring import Setting

T = TypeVar("T")
PASCAL = 23
UNITS = {
    "psi": 6894.757293168,
    "bar": 1e5,
    "bars": 1e5,
    "mbar": 100.0,
    "kpa": 1e3,
    "pa": 1.0,
    "torr": 133.322368421,
    "atm": 101_325.0,
}
MOST_ERRORS = 10
_CHANNELS = re.compile(r"(?i)CPC6|,\s*600\b")
"""Models that have more than one channel."""
_MODES = {Valves.CONTROL: "CONTROL", Valves.SHUT: "MEASURE", Valves.VENT: "VENT"}
_SEEN = {"CONTROL": Valves.CONTROL, "VENT": Valves.VENT, "MEASURE": Valves.SHUT, "STANDBY": Valves.SHUT}


class MensorCPC(PressureUnit):
    """CPC4000, CPC6050 and relatives, channel A. Manual: operating instructions of the CPC6050."""

    link: ClassVar[Link] = Link(
        identity=r"(?i)(MENSOR,\s*(?:CPC|600\b).*?)\s*$",
        identify="*IDN?",
        read_termination="\r\n",
        write_termination="\n",
        timeout=2.0,
        first_timeout=2.0,
        baud_rate=57600,
    )
    concrete = True
    holds_slew = False
    error_share = 1e-4

    def errors(self) -> list[str]:
        """Empty the queue: a reply that begins with a space says that nothing is left."""
        found: list[str] = []
        for _ in range(MOST_ERRORS + 1):
            # Straight through the session: recovery asks for errors, which must not end in another recovery.
            if not self._session.query("Mode?").startswith("E"):
                break
            found.append(self._session.query("Error?")[1:].strip())
        return found

    def _asked(self, query: str, decode: Callable[[str], T], doing: str, *, anyway: bool = False) -> tuple[bool, T]:
        """Whether the error flag is set, and what the reply means."""

        def take(reply: str) -> tuple[bool, T]:
            if reply[:1] not in (" ", "E"):
                raise ValueError(f"{reply[:40]!r}")
            return reply[0] == "E", decode(reply[1:].strip())

        return self.inquire(query, take, doing, anyway=anyway)

    def tell(self, command: str, query: str, decode: Callable[[str], T], doing: str, *, anyway: bool = False) -> T:
        """A command, and a query that shows what became of it. InstrumentError in the instrument's words."""
        if not anyway and self._asked("Mode?", str, "asking whether there are errors")[0]:
            self._session.notice(f"instrument {self.name!r} had old errors: {'; '.join(self.errors())}")
        self._session.write(command)
        flagged, value = self._asked(query, decode, doing, anyway=anyway)
        if flagged and not anyway:
            raise self.fault(f"reported {'; '.join(self.errors())} after {doing}")
        return value

    # What PressureUnit asks for --------------------------------------------------------------------------------------

    def prepare_unit(self) -> tuple[float, bool, Sequence[str]]:
        """Pascals on channel A; its upper limit of control is what counts as full scale."""
        if _CHANNELS.search(self.identity()):
            self.tell("Chan A", "Chan?", str, "choosing the channel")
        unit = self.tell(f"Units {PASCAL}", "Units?", str, "choosing the unit")
        if _scale(unit) != 1.0:
            raise self.fault(f"counts in {unit} although pascals were asked for")
        _, kind = self._asked("Ptype?", str, "asking for the kind of pressure")
        _, upper = self._asked("Upperlimit?", finite, "asking for the upper limit")
        return upper, kind.upper().startswith("G"), ()

    def look(self, *, anyway: bool = False) -> Look:
        """Pressure, mode and set-point, in whatever unit it counts: it may be looked at before pascals are chosen."""
        _, scale = self._asked("Units?", _scale, "asking for the unit", anyway=anyway)
        _, actual = self._asked("?", _pressure, "looking at the pressure", anyway=anyway)
        _, mode = self._asked("Mode?", _valves, "asking for the mode", anyway=anyway)
        _, level = self._asked("Setpt?", finite, "asking for the set-point", anyway=anyway)
        return Look(level * scale, actual * scale, mode)

    def send_level(self, level: float) -> float:
        """The set-point as it was kept. With its unit every time, in a line of its own: somebody may have chosen another."""
        return self.tell(f"Units {PASCAL}\nSetpt {level:.2f}", "Setpt?", finite, "setting a pressure")

    def send_slew(self, pascal_per_second: float) -> None:
        """Nothing is sent: the bench moves the set-point in steps."""

    def switch(self, valves: Valves) -> None:
        """Control; measure, which shuts the valves; or vent."""
        self.tell(f"Mode {_MODES[valves]}", "Mode?", str, "choosing the mode", anyway=valves is not Valves.CONTROL)

    @classmethod
    def safe_commands(cls, port: str, action: SafeAction, value: float, settings: Mapping[str, Setting]) -> SafeCommands | None:
        """Pascals; the set-point is led, because no slew is held, then vent, or the valves shut."""
        valves = Valves.VENT if action is SafeAction.VENT else Valves.SHUT
        leave = () if action is SafeAction.LEVEL else (f"Mode {_MODES[valves]}",)
        return SafeCommands(
            leave=leave,
            query="Mode?",
            expected="^[ E]CONTROL" if action is SafeAction.LEVEL else f"^[ E]{_MODES[valves]}",
            attention=(f"Units {PASCAL}",),
            state="Mode?",
            states="^[ E](?:CONTROL|VENT|MEASURE|STANDBY)",
            active="^[ E]CONTROL",
            measure="?",
            measured=r"^[ E]([-+]\d+\.?\d*(?:[eE][-+]?\d+)?)\s*(?:,.*)?$",
            move=("Setpt {level:.2f}", "Mode CONTROL"),
            led=True,
        )


def _pressure(text: str) -> float:
    """What every output format begins with."""
    return finite(text.split(",")[0])


def _scale(text: str) -> float:
    """Pa per unit, by its name."""
    unit = text.split(",")[-1].strip().lower()
    if unit not in UNITS:
        raise ValueError(f"{unit!r} is no unit known here")
    return UNITS[unit]


def _valves(mode: str) -> Valves:
    if mode.upper() not in _SEEN:
        raise ValueError(f"{mode[:20]!r} is no mode")
    return _SEEN[mode.upper()]


__all__ = ["MensorCPC"]
