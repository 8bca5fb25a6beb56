"""Keithley 2450 source-measure unit in its SCPI command set.

Source: Model 2450 Interactive SourceMeter Reference Manual (2450-901-01), section 6 (SOURce, SOURce:VOLTage:PROTection, SENSe,
OUTPut:<function>:SMODe, TRACe, TRIGger:BLOCk) and section 8 for the bits of a source status (32: at the limit). The unit measures
one quantity and reads the other back from its source: volts come from SOURce, amperes from READing. A list is run by a trigger
model of our own, because the ready-made sweeps switch the output off at their end.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from instruments.roles import Acquired
from instruments.scpi_smu_front import LONGEST_LIST, FrontSmu
from instruments.scpi_smu_words import SmuSpan, SmuWords
from instruments.visa import Link

AT_LIMIT, OVER_TEMPERATURE = 32, 16  # bits of a reading's source status
LIST, BUFFER = "VoltCustomSweepList", "defbuffer1"
ELEMENTS = "SOUR, READ, SOURSTAT"
STEP_PATIENCE = 20e-3  # s, more than recalling one level of a list takes; no manual says how long it is
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
    auto_zero=":SENS:CURR:AZER",
    protection=":SOUR:VOLT:PROT",
    protected="PROT{:g}",
)


class Keithley2450(FrontSmu):
    """One channel, 200 V, 1 A, ranges from 20 mV and 10 nA. Manual: 2450-901-01."""

    concrete: ClassVar[bool] = True
    link: ClassVar[Link] = Link(identity=r"(?i)KEITHLEY.*MODEL 2450")
    limited = AT_LIMIT | OVER_TEMPERATURE
    interlock_means = "1: the interlock is engaged, and the full voltage may be sourced"
    words = WORDS
    span = SmuSpan(
        voltage_ranges=(0.02, 0.2, 2.0, 20.0, 200.0),
        voltage_errors=(0.39e-3, 0.46e-3, 1.24e-3, 9.4e-3, 94e-3),
        current_ranges=(1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        largest=(210.0, 1.05),
        compliance=(1e-9, 1.05),
        nplc=(0.01, 10.0),
        protections=(2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0),
    )

    def begin(self) -> None:
        """InstrumentError in another command set."""
        self.require_scpi()

    def prepare_meter(self, port: str) -> None:
        """Amperes are measured, volts read back from the source; ten digits."""
        self.exchange(
            ":FORM ASC", ":FORM:ASC:PREC 10", ':SENS:FUNC "CURR"', ":SOUR:VOLT:READ:BACK ON", doing="preparing the meter"
        )
        self.exchange(
            *(":SENS:CURR:AVER OFF", ":SENS:CURR:REL:STAT OFF", ":CALC:CURR:MATH:STAT OFF"),
            doing="switching filter, offset and mathematics off",
        )
        self._count = 0
        self.note(**{f"{port}.measures": "volt and curr"})

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

    def list_acquisition(
        self, ports: Sequence[str], terminals: Sequence[tuple[str, str]], dwell: float
    ) -> tuple[Callable[[FloatArray, int, bool], Acquired], Callable[[int], float]]:
        """A list of levels (n, 1), ``dwell`` s and ``samples`` readings at each, run by the unit; one transfer of readings."""

        def seconds(samples: int) -> float:
            return dwell + samples * self.seconds_per_sample([""])

        def run(levels: FloatArray, samples: int, home: bool) -> Acquired:
            points = [float(level) for level in levels[:, 0]]
            rows = len(points) * samples
            if len(points) + 1 > LONGEST_LIST:
                raise ConfigError(f"{self.name} takes {LONGEST_LIST} levels at the most, not {len(points)}")
            self.send_counted_list([*points, 0.0] if home else points)
            self.exchange(*_model(len(points), dwell, samples, home), doing="building the trigger model")
            text = self.inquire(
                f':INIT;*WAI;:TRAC:DATA? 1, {rows}, "{BUFFER}", {ELEMENTS}',
                str,
                "running a list",
                repeat=False,
                timeout=self._session.link.timeout + 2 * len(points) * (seconds(samples) + STEP_PATIENCE),
            )
            return self.picked(self._judged(text, rows), [""], terminals)

        return run, seconds


def _model(points: int, dwell: float, samples: int, home: bool) -> list[str]:
    """Blocks: first level; wait; measure, as often as there are samples; next level as often as there are; one more, which is
    0 V, when it goes home. A counter begins anew once it is full. Measuring blocks know no count in older firmware."""
    blocks = [
        f'BUFF:CLE 1, "{BUFFER}"',
        f'CONF:REC 2, "{LIST}", 1',
        "BRAN:ALW 3, 5",
        f'CONF:NEXT 4, "{LIST}"',
        f"DEL:CONS 5, {dwell:.9g}",
        f'MEAS 6, "{BUFFER}"',
    ]
    if samples > 1:
        blocks.append(f"BRAN:COUN 7, {samples}, 6")
    blocks.append(f"BRAN:COUN {len(blocks) + 1}, {points}, 4")
    if home:
        blocks.append(f'CONF:NEXT {len(blocks) + 1}, "{LIST}"')
    return [':TRIG:LOAD "Empty"', *(f":TRIG:BLOC:{block}" for block in blocks)]
