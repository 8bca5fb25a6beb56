"""VICI multiposition selector valves with a universal actuator (EUT, EUH, modular universal), RS-232.

Source: the actuators' manual, table of serial commands (CR ends a command; actions are answered with nothing as delivered,
queries with one line, ``VR`` with several; a command that is not understood comes back with "Bad command"). 9600 baud, 8N1.
Who answers is asked by the mode, ``AM``: one line, and every universal actuator has it.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from qcodes.parameters import Parameter
from qcodes.validators import Ints

from hil.core.errors import ConfigError
from hil.core.types import SafeAction
from instruments.base import BenchInstrument
from instruments.safe_commands import SafeCommands
from instruments.visa import Link
from instruments.wiring import Setting

MULTIPOSITION = "3"
_PLACE = re.compile(r"^(?:CP|Position is)\s*=?\s*(\d+)$", re.IGNORECASE)
_TURNING = re.compile(r"^(?:CP|Position is)\s*=?\s*\?+")
_COUNT = re.compile(r"^NP\s*=?\s*(\d+)$", re.IGNORECASE)


class ViciValve(BenchInstrument):
    """Multiposition valve. Manual: EUT/EUD/EUH universal actuators."""

    link: ClassVar[Link] = Link(
        identity=r"(?i)^AM\s*=?\s*([123])$",
        identify="AM",
        read_termination="\r",
        write_termination="\r",
        timeout=1.0,
        first_timeout=1.0,
        baud_rate=9600,
    )
    concrete = True

    def __init__(self, name: str, address: str | None = None, **options: Any) -> None:
        super().__init__(name, address, **options)
        self._count = 0
        self.position: Parameter[int | None, Any] = self.add_parameter(
            "position",
            label="Position",
            unit="1",
            vals=Ints(1, 96),
            get_cmd=self.position_now,
            set_cmd=self.go,
            docstring="set: begins to turn the short way; get: where it is, None while it turns",
        )

    def get_idn(self) -> dict[str, str | None]:
        """The actuator tells no serial number, and its firmware in several lines. Sends nothing."""
        return {"vendor": "VICI", "model": "universal actuator", "serial": "not told", "firmware": "not told"}

    def errors(self) -> list[str]:
        """The actuator keeps no errors; what it did not understand it says at once."""
        return []

    def positions(self) -> int:
        """How many positions the actuator is set to; asked once. InstrumentError for one that is set up for two positions."""
        if not self._count:
            if self.identity() != MULTIPOSITION:
                raise self.fault(f"is in mode {self.identity()}, for two positions; set it up for many (AM3, then NP and AL)")
            # An actuator that was told to confirm its actions would answer questions with that.
            self._session.write("IFM0")
            self._session.resynchronise()
            self._count = self.inquire("NP", lambda text: int(_matched(_COUNT, text)), "asking for the number of positions")
            self.note(positions=self._count)
        return self._count

    def go(self, position: int) -> None:
        """Begin to turn the short way; ConfigError if there is no such position."""
        if not 1 <= position <= self.positions():
            raise ConfigError(f"valve {self.name!r} has positions 1 to {self.positions()}, not {position}")
        # An action has no answer: whether it was understood shows in where the valve goes.
        self._session.write(f"GO{position:02d}")

    def position_now(self) -> int | None:
        """Where it is; None while it turns."""

        def decode(text: str) -> int | None:
            return None if _TURNING.match(text.strip()) else int(_matched(_PLACE, text))

        return self.inquire("CP", decode, "asking for the position")

    @classmethod
    def safe_commands(cls, port: str, action: SafeAction, value: float, settings: Mapping[str, Setting]) -> SafeCommands | None:
        """Position ``value``, which is waste, whatever its pumps do. Else a valve stays where it is: turning would join lines."""
        if action is not SafeAction.LEVEL:
            return None
        there = rf"(?i)^\s*(?:CP|Position is)\s*=?\s*0*{value:.0f}\s*$"
        return SafeCommands(leave=(f"GO{value:02.0f}",), query="CP", expected=there)


def _matched(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.match(text.strip())
    if found is None:
        raise ValueError(f"{text[:40]!r}")
    return found.group(1)


__all__ = ["ViciValve"]
