"""Keithley 707B switching matrix, spoken to in TSP.

Source: Models 707B and 708B Switching Matrix Reference Manual (707B-901-01), "TSP command reference" (channel.open,
channel.close, channel.getclose, channel.connectrule). A crosspoint is slot, row, column: 1A02. We open first and close then,
in two commands, so that no two nodes are ever tied together, and read back what is closed.
"""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from qcodes.parameters import Parameter
from qcodes.validators import Enum

from hil.core.errors import ConfigError
from instruments.base import BenchInstrument
from instruments.visa import Link

_CROSSPOINT = re.compile(r"[1-6][A-H](0[1-9]|1[0-2])")
RULES = {"off": 0, "break_before_make": 1, "make_before_break": 2}


class Keithley707B(BenchInstrument):
    """Six slots of eight rows and twelve columns; one meter on a row reaches every node on a column. Manual: 707B-901-01."""

    concrete: ClassVar[bool] = True
    link: ClassVar[Link] = Link(identity=r"(?i)KEITHLEY.*MODEL 70[78]B")
    release_port: ClassVar[int | None] = 5030

    def __init__(self, name: str, address: str | None = None, **options: Any) -> None:
        super().__init__(name, address, **options)
        self.connect_rule: Parameter[str, Any] = self.add_parameter(
            "connect_rule",
            label="Connection rule",
            get_cmd="print(channel.connectrule)",
            get_parser=lambda text: int(float(text)),
            set_cmd=self._choose_rule,
            val_mapping=RULES,
            vals=Enum(*RULES),
            docstring="order of opening and closing within one command",
        )

    def _choose_rule(self, rule: int) -> None:
        self._look(f"channel.connectrule={rule} ")

    @classmethod
    def check_crosspoint(cls, crosspoint: str) -> None:
        """ConfigError unless ``crosspoint`` is slot, row and column, such as 1A02."""
        if not _CROSSPOINT.fullmatch(crosspoint):
            raise ConfigError(f"{crosspoint!r} is no crosspoint; write slot 1-6, row A-H, column 01-12, for example 1A02")

    def closed(self) -> set[str]:
        """Crosspoints that are closed now."""
        return _names(self.ask('print(channel.getclose("allslots"))'))

    def switch(self, open_: Sequence[str], close: Sequence[str]) -> None:
        """Open ``open_``, then close ``close``; verified, and other crosspoints are left alone.

        The matrix is asked every time, because one that was switched off and on has everything open. Where everything stands
        right already, nothing moves. InstrumentError where a relay did not follow.
        """
        for crosspoint in (*open_, *close):
            self.check_crosspoint(crosspoint)
        now = self._look("")
        if set(close) <= now and not set(open_) & now:
            self.note(closed=sorted(now))
            return
        parting = f'channel.open("{",".join(open_)}") ' if open_ else ""
        joining = f'channel.close("{",".join(close)}") ' if close else ""
        found = self._look(f"channel.connectrule=channel.BREAK_BEFORE_MAKE {parting}{joining}")
        wrong = sorted((set(close) - found) | (set(open_) & found))
        if wrong:
            raise self.fault(f"did not switch {', '.join(wrong)}; closed now: {', '.join(sorted(found)) or 'none'}")
        self.note(closed=sorted(found))

    def require_closed(self, crosspoint: str) -> None:
        """InstrumentError where ``crosspoint`` has opened since it was closed: what was read meanwhile belongs to no node."""
        if crosspoint not in self._look(""):
            raise self.fault(
                f"opened {crosspoint} by itself during a reading: it was switched off and on, or somebody used its front panel"
            )

    def _look(self, commands: str) -> set[str]:
        """What is closed after ``commands``; InstrumentError with what the error queue says."""
        message = f'{commands}print(errorqueue.count,channel.getclose("allslots"))'
        count, listed = self.converse(message, "switching crosspoints").split("\t")
        if float(count) != 0:
            self.check_errors("switching crosspoints")
        return _names(listed)

    def errors(self) -> list[str]:
        """Empty the error queue: ``code message`` each."""
        found: list[str] = []
        while len(found) < 64 and int(float(self.ask("print(errorqueue.count)"))) > 0:
            code, message, *_ = self.ask("print(errorqueue.next())").split("\t")
            found.append(f"{int(float(code))} {message.strip()}")
        return found


def _names(reply: str) -> set[str]:
    text = reply.strip()
    return set() if text == "nil" else set(text.split(";"))
