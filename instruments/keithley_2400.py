"""Keithley 2400 source-measure unit, SCPI.

Source: Series 2400 SourceMeter User's Manual (2400S-900-01), section 18 (SOURce, its VOLTage:PROTection,
SENSe:CURRent:PROTection, FORMat:ELEMents, OUTPut:SMODe and :INTerlock) and the status element's bits (3 and 16: real and range
compliance). Readings need the output on; a fixed measuring range limits the current, too; a compliance below a thousandth of
that range is dropped without a message, so it is read back.

Written anew instead of on the stock QCoDeS driver, whose faults it repairs: limits and ranges sent with six decimals (0.1 uA
became 0), levels without limits, reading refused after ``output("on")``, settings written on connecting, 9.91E37 taken for
data, the status dropped, and an error queue that nobody read.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from instruments.base import error_code, split_replies
from instruments.roles import Acquired
from instruments.scpi_smu import READING_LENGTH
from instruments.scpi_smu_front import LONGEST_LIST, FrontSmu
from instruments.scpi_smu_words import SmuSpan, SmuWords
from instruments.visa import Link

REAL_LIMIT, RANGE_LIMIT = 1 << 3, 1 << 16  # bits of a reading's status
NEEDS_OUTPUT = 803
WORDS = SmuWords(
    function=":SOUR:FUNC VOLT",
    level=":SOUR:VOLT",
    range=":SOUR:VOLT:RANG",
    limit=":SENS:CURR:PROT",
    tripped=":SENS:CURR:PROT:TRIP",
    output=":OUTP",
    off_mode=":OUTP:SMOD",
    off_zero="NORM",
    off_open="HIMP",
    current_range=":SENS:CURR:RANG",
    nplc=":SENS:CURR:NPLC",
    four_wire=":SYST:RSEN",
    auto_zero=":SYST:AZER",
    protection=":SOUR:VOLT:PROT",
    unprotected="210",
)


class Keithley2400(FrontSmu):
    """One channel, 200 V, 1 A, ranges from 0.2 V and 1 uA. Manual: 2400S-900-01."""

    concrete: ClassVar[bool] = True
    range_is_limit: ClassVar[bool] = True
    link: ClassVar[Link] = Link(identity=r"(?i)KEITHLEY.*MODEL 2400", baud_rate=9600)
    limited = REAL_LIMIT | RANGE_LIMIT
    interlock_means = "1: the interlock permits sourcing"
    words = WORDS
    span = SmuSpan(
        voltage_ranges=(0.2, 2.0, 20.0, 200.0),
        voltage_errors=(0.97e-3, 1.54e-3, 10.9e-3, 104e-3),
        current_ranges=(1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        largest=(210.0, 1.05),
        compliance=(1e-9, 1.05),
        nplc=(0.01, 10.0),
        protections=(20.0, 40.0, 60.0, 80.0, 100.0, 120.0, 160.0),
    )

    def prepare_meter(self, port: str) -> None:
        """Volts and amperes together, with the status; the output stays on after a reading; fixed mode."""
        self.exchange(":SENS:FUNC:CONC ON", ':SENS:FUNC "VOLT","CURR"', ":SENS:AVER OFF", doing="choosing the functions")
        self.exchange(
            *(":FORM:ELEM VOLT,CURR,STAT", ":SOUR:CLE:AUTO OFF", ":SOUR:VOLT:MODE FIX", ":SOUR:DEL 0"),
            doing="preparing the meter",
        )
        # From the front panel it counts without end, and may have been left waiting for a trigger that nobody sends.
        self.exchange(":ARM:SOUR IMM", ":ARM:COUN 1", ":TRIG:SOUR IMM", ":TRIG:DEL 0", doing="preparing the triggers")
        self._count = 0
        self.note(**{f"{port}.measures": "volt and curr"})

    def readings(self, ports: Sequence[str], samples: int, timeout: float | None) -> FloatArray:
        """All samples of one triggered run. With the output off there is no reading: NaN, marked as lost."""
        if samples > LONGEST_LIST:
            raise ConfigError(f"{self.name} takes {LONGEST_LIST} readings at the most, not {samples}")
        prefix = "" if self._count == samples else f":TRIG:COUN {samples};"

        def decode(reply: str) -> tuple[str, bool, int]:
            fields = split_replies(reply)
            code = error_code(fields[-1])
            return fields[-1] if code else fields[1], float(fields[0]) != 0, code

        text, on, code = self.inquire(f"{prefix}:OUTP?;:READ?;:SYST:ERR?", decode, "reading", timeout=timeout)
        self._count = samples
        if not on and code == NEEDS_OUTPUT:
            return np.full((samples, 1, 3), np.nan)
        if code != 0:
            raise self.fault(f"reported {text} after reading")
        return self._judged(text, samples)

    def list_acquisition(
        self, ports: Sequence[str], terminals: Sequence[tuple[str, str]], dwell: float
    ) -> tuple[Callable[[FloatArray, int, bool], Acquired], Callable[[int], float]]:
        """A list of levels (n, 1), run by the unit. Several samples of one level are the level several times.

        Every entry waits ``dwell`` s, the unit has one delay for all.
        """

        def seconds(samples: int) -> float:
            return samples * (dwell + self.seconds_per_sample([""]))

        def run(levels: FloatArray, samples: int, home: bool) -> Acquired:
            points = [float(level) for level in np.repeat(levels[:, 0], samples)]
            if len(points) > LONGEST_LIST:
                parts = [levels[k : k + LONGEST_LIST // samples] for k in range(0, len(levels), LONGEST_LIST // samples)]
                made = [run(part, samples, home and part is parts[-1]) for part in parts]
                return Acquired.joined(made)
            self.send_list(points)
            table = self._swept("LIST", len(points), dwell, 0.0 if home else points[-1])
            return self.picked(table, [""], terminals)

        return run, seconds

    def staircase(self, start: float, stop: float, points: int, dwell: float) -> FloatArray:
        """A linear sweep run by the unit: volts, amperes, 1 where it was at its limit, (points, 3). It ends at ``stop``.

        Volts and seconds; the output has to be on. ConfigError for more points than the unit takes.
        """
        if not 2 <= points <= LONGEST_LIST:
            raise ConfigError(f"{self.name} sweeps 2 to {LONGEST_LIST} points, not {points}")
        for level in (start, stop):
            self.parameters["volt"].validate(level)
        if f"{self.short_port}.measures" not in self._settings:
            self.prepare_meter(self.short_port)
            self.integrate()
        self.exchange(
            *(f":SOUR:VOLT:STAR {start:.9g}", f":SOUR:VOLT:STOP {stop:.9g}", ":SOUR:SWE:SPAC LIN"),
            *(f":SOUR:SWE:POIN {points}", ":SOUR:SWE:DIR UP"),
            doing="setting up a sweep",
        )
        return self._swept("SWE", points, dwell, stop)[:, 0, :]

    def _swept(self, mode: str, points: int, dwell: float, last: float) -> FloatArray:
        """Arm, run, read, and go back to a fixed level; the level is sent before the mode, so that the source stays there.

        Unless told otherwise the unit chooses a source range of its own for the levels of a sweep.
        """
        self._count = 0
        duration = points * (dwell + self.seconds_per_sample([""])) + self.sending(points * READING_LENGTH)
        patience = self._session.link.timeout + 2 * duration
        ending = [":SOUR:VOLT:MODE FIX", ":SOUR:DEL 0"]
        try:
            self.exchange(
                *(":SOUR:SWE:RANG FIX", ":SOUR:SWE:CAB NEV", f":SOUR:DEL {dwell:.6g}", f":TRIG:COUN {points}"),
                f":SOUR:VOLT:MODE {mode}",
                doing="arming a sweep",
            )
            ending.insert(0, f":SOUR:VOLT {last:.9g}")  # where nothing has run, the level stays
            text = self.inquire(":READ?", str, "running a sweep", repeat=False, timeout=patience)
        finally:
            self.exchange(*ending, doing="ending a sweep")
        return self._judged(text, points)
