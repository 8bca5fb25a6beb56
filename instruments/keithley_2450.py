"""Keithley 2450 source-measure unit in its SCPI command set.

Source: Model 2450 Interactive SourceMeter Reference Manual (2450-901-01), section 6 (SOURce, SENSe, OUTPut:<function>:SMODe,
TRACe, TRIGger:BLOCk) and section 8 for the bits of a source status (32: at the limit). The unit measures one quantity and reads
the other back from its source: volts come from SOURce, amperes from READing. A list is run by a trigger model of our own,
because the ready-made sweeps switch the output off at their end.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from qcodes.validators import Ints

from hil.core.errors import ConfigError
from hil.core.types import FloatArray, SafeAction
from instruments.roles import Acquired
from instruments.safe_commands import SafeCommands
from instruments.scpi_smu import ScpiSmu, SmuTerminal
from instruments.scpi_smu_words import SmuSpan, SmuWords, safe_smu
from instruments.visa import Link
from instruments.wiring import Setting

AT_LIMIT, OVER_TEMPERATURE = 32, 16  # bits of a reading's source status
LIST, BUFFER = "VoltCustomSweepList", "defbuffer1"
LONGEST_COMMAND = 100  # levels in one SOUR:LIST:VOLT
LONGEST_LIST = 2500
ELEMENTS = "SOUR, READ, SOURSTAT"
WORDS = SmuWords(
    function=":SOUR:FUNC VOLT",
    level=":SOUR:VOLT",
    range=":SOUR:VOLT:RANG",
    limit=":SOUR:VOLT:ILIM",
    tripped=":SOUR:VOLT:ILIM:TRIP",
    output=":OUTP",
    off_mode=":OUTP:VOLT:SMOD",
    off_zero="NORM",
    off_open="HIMP",
    current_range=":SENS:CURR:RANG",
    nplc=":SENS:CURR:NPLC",
    four_wire=":SENS:CURR:RSEN",
)


class Keithley2450(ScpiSmu, SmuTerminal):
    """One channel, 200 V, 1 A, ranges from 20 mV and 10 nA. Manual: 2450-901-01."""

    concrete: ClassVar[bool] = True
    link: ClassVar[Link] = Link(identity=r"(?i)KEITHLEY.*MODEL 2450")
    words = WORDS
    span = SmuSpan(
        voltage_ranges=(0.02, 0.2, 2.0, 20.0, 200.0),
        voltage_errors=(0.39e-3, 0.46e-3, 1.24e-3, 9.4e-3, 94e-3),
        current_ranges=(1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        largest=(210.0, 1.05),
        compliance=(1e-9, 1.05),
        nplc=(0.01, 10.0),
    )

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
            docstring="1: the interlock is engaged, and the full voltage may be sourced",
        )

    @classmethod
    def safe_commands(cls, port: str, action: SafeAction, value: float, settings: Mapping[str, Setting]) -> SafeCommands | None:
        """Off at high impedance or at 0 V, as the bench file says; or held at another level."""
        return safe_smu(WORDS, action, value, settings)

    def prepare_meter(self, port: str) -> None:
        """Amperes are measured, volts read back from the source; ten digits."""
        self.exchange(":FORM:ASC:PREC 10", ':SENS:FUNC "CURR"', ":SOUR:VOLT:READ:BACK ON", doing="preparing the meter")
        self._count = 0
        self.note(**{f"{port}.measures": "volt and curr"})

    def forget(self) -> None:
        """Counts are sent again before they are used."""
        self._count = 0

    def readings(self, ports: Sequence[str], samples: int, timeout: float | None) -> FloatArray:
        """One reading, or a buffer of them: one round trip."""
        prefix = "" if self._count == samples else f":SENS:COUN {samples};"
        if samples == 1:
            text = self.converse(f'{prefix}:READ? "{BUFFER}", {ELEMENTS}', "reading", timeout=timeout)
        else:
            text = self.converse(
                f'{prefix}:TRAC:CLE "{BUFFER}";:TRAC:TRIG "{BUFFER}";*WAI;:TRAC:DATA? 1, {samples}, "{BUFFER}", {ELEMENTS}',
                "reading the buffer",
                timeout=timeout,
            )
        self._count = samples
        return self._judged(text, samples)

    def _judged(self, text: str, rows: int) -> FloatArray:
        table = self.table(text, rows, 3)
        table[:, 2] = (table[:, 2].astype(np.int64) & (AT_LIMIT | OVER_TEMPERATURE)) != 0
        return table[:, np.newaxis, :]

    def list_acquisition(
        self, ports: Sequence[str], terminals: Sequence[tuple[str, str]], dwell: float
    ) -> tuple[Callable[[FloatArray, int, bool], Acquired], Callable[[int], float]]:
        """A list of levels (n, 1), ``dwell`` s and ``samples`` readings at each, run by the unit; one transfer of readings."""
        slowest = self.seconds_per_sample([""])

        def seconds(samples: int) -> float:
            return dwell + samples * slowest

        def run(levels: FloatArray, samples: int, home: bool) -> Acquired:
            points = [float(level) for level in levels[:, 0]]
            rows = len(points) * samples
            if len(points) + 1 > LONGEST_LIST:
                raise ConfigError(f"{self.name} takes {LONGEST_LIST} levels at the most, not {len(points)}")
            self._load([*points, 0.0] if home else points)
            self.exchange(*_model(len(points), dwell, samples, home), doing="building the trigger model")
            text = self.inquire(
                f':INIT;*WAI;:TRAC:DATA? 1, {rows}, "{BUFFER}", {ELEMENTS}',
                str,
                "running a list",
                repeat=False,
                timeout=self._session.link.timeout + 2 * len(points) * seconds(samples),
            )
            return self.picked(self._judged(text, rows), [""], terminals)

        return run, seconds

    def _load(self, points: Sequence[float]) -> None:
        """Send the levels, a hundred at a time, and count what was kept."""
        for begin in range(0, len(points), LONGEST_COMMAND):
            part = ",".join(f"{level:.9g}" for level in points[begin : begin + LONGEST_COMMAND])
            self.exchange(f":SOUR:LIST:VOLT{':APP' if begin else ''} {part}", doing="sending a list")
        (kept,) = self.exchange(":SOUR:LIST:VOLT:POIN?", doing="counting the list")
        if int(float(kept)) != len(points):
            raise self.fault(f"kept {kept} of {len(points)} levels of a list")


def _model(points: int, dwell: float, samples: int, home: bool) -> list[str]:
    """Blocks: first level; wait; measure; next level as often as there are; one more, which is 0 V, when it goes home."""
    blocks = [
        f'BUFF:CLE 1, "{BUFFER}"',
        f'CONF:REC 2, "{LIST}", 1',
        "BRAN:ALW 3, 5",
        f'CONF:NEXT 4, "{LIST}"',
        f"DEL:CONS 5, {dwell:.9g}",
        f'MEAS 6, "{BUFFER}", {samples}',
        f"BRAN:COUN 7, {points}, 4",
    ]
    if home:
        blocks.append(f'CONF:NEXT 8, "{LIST}"')
    return [':TRIG:LOAD "Empty"', *(f":TRIG:BLOC:{block}" for block in blocks)]
