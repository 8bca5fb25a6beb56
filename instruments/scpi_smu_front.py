"""What SCPI source-measure units share whose one terminal is the instrument itself. For the manuals see the drivers."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from qcodes.validators import Ints

from hil.core.types import FloatArray, SafeAction
from instruments.safe_commands import SafeCommands
from instruments.scpi_smu import ScpiSmu
from instruments.scpi_smu_terminal import SmuTerminal
from instruments.scpi_smu_words import flagged, safe_smu
from instruments.wiring import Setting

LONGEST_LIST = 2500
"""Levels of a list, and readings of a run."""


class FrontSmu(ScpiSmu, SmuTerminal):
    """One terminal, whose readings are volts, amperes and a status word; and the interlock."""

    limited: ClassVar[int]
    """Bits of the status word of a source that does not deliver its level."""
    interlock_means: ClassVar[str]
    """What the interlock says when it answers 1."""

    def __init__(self, name: str, address: str | None = None, **options: Any) -> None:
        super().__init__(name, address, **options)
        self.unit = self
        self._count = 0
        self.add_terminal(self, "")
        self.add_parameter(
            "interlock",
            label="Interlock",
            get_cmd=":OUTP:INT:TRIP?",
            get_parser=lambda text: int(float(text)),
            set_cmd=False,
            vals=Ints(0, 1),
            snapshot_get=False,
            docstring=self.interlock_means,
        )

    @classmethod
    def safe_commands(cls, port: str, action: SafeAction, value: float, settings: Mapping[str, Setting]) -> SafeCommands | None:
        """Off at high impedance or at 0 V, as the bench file says; or held at another level."""
        return safe_smu(cls.words, action, value, settings)

    def forget(self) -> None:
        """Counts are sent again before they are used."""
        self._count = 0

    def _judged(self, text: str, rows: int) -> FloatArray:
        """A reply as ``readings`` gives it, (rows, 1, 3)."""
        table = self.table(text, rows, 3)
        table[:, 2] = flagged(table[:, 2], self.limited)
        return table[:, np.newaxis, :]
