"""Keysight (Agilent) B2901A and B2912A source-measure units, SCPI.

Source: manual "B2900 Series SCPI Command Reference" (B2910-90030): :SENSe:CURRent:PROTection, :OUTPut:OFF:MODE, lists
(:SOURce:LIST, :SOURce:VOLTage:MODE), :TRIGger with its sources AINT and TIMer, :FETCh:ARRay? with channel lists, and table 1-2
for the bits of the status element (1 and 2: compliance, 13: overflow); for :OUTPut:ON:AUTO and the lower limit of autorange
(1 uA unless told otherwise) the summary of its settings after a reset. 9.91E+37 is not a number. Both channels are read over
the same time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from qcodes.instrument import InstrumentChannel

from hil.core.errors import CapabilityError, ConfigError
from hil.core.types import FloatArray, SafeAction
from instruments.roles import Acquired
from instruments.safe_commands import SafeCommands
from instruments.scpi_smu import ScpiSmu
from instruments.scpi_smu_terminal import SmuTerminal
from instruments.scpi_smu_words import SmuSpan, SmuWords, flagged, safe_smu
from instruments.visa import Link
from instruments.wiring import Setting

LIMITED, TOO_HOT, BEYOND = 2 | 4, 32, 8192
LONGEST_LIST = 2500
READING_OVERHEAD = 100e-6  # s, beside the integration
MICROSECOND = 1e-6
"""Step of its timer."""


def words_of(channel: int) -> SmuWords:
    """Headers of a channel, 1 or 2."""
    n = channel
    return SmuWords(
        function=f":SOUR{n}:FUNC:MODE VOLT",
        level=f":SOUR{n}:VOLT",
        range=f":SOUR{n}:VOLT:RANG",
        limit=f":SENS{n}:CURR:PROT",
        tripped=f":SENS{n}:CURR:PROT:TRIP",
        output=f":OUTP{n}",
        off_mode=f":OUTP{n}:OFF:MODE",
        off_zero="NORM",
        off_open="HIZ",
        current_range=f":SENS{n}:CURR:RANG",
        nplc=f":SENS{n}:CURR:NPLC",
        four_wire=f":SENS{n}:REM",
        finest=f":SENS{n}:CURR:RANG:AUTO:LLIM MIN",
    )


class B2900Channel(SmuTerminal, InstrumentChannel["KeysightB2900"]):
    """One channel, ``ch1`` or ``ch2``."""

    def __init__(self, parent: "KeysightB2900", name: str) -> None:
        super().__init__(parent, name)
        self.unit = parent
        self.words = words_of(int(name[-1]))
        self.span = parent.span
        self.add_terminal(self, name)

    @property
    def short_port(self) -> str:
        """``ch1`` or ``ch2``."""
        return str(self.short_name)


class KeysightB2900(ScpiSmu):
    """What the models share: levels of the channels in one message, readings of the channels over the same time."""

    link: ClassVar[Link]
    conversions: ClassVar[float] = 1.0
    span: ClassVar[SmuSpan]
    channels_there: ClassVar[tuple[str, ...]]

    def __init__(self, name: str, address: str | None = None, **options: Any) -> None:
        super().__init__(name, address, **options)
        self._count: tuple[object, ...] = ()
        for port in self.channels_there:
            self.add_submodule(port, B2900Channel(self, port))

    @classmethod
    def safe_commands(cls, port: str, action: SafeAction, value: float, settings: Mapping[str, Setting]) -> SafeCommands | None:
        """Off at high impedance or at 0 V, as the bench file says; or held at another level."""
        return safe_smu(words_of(int(port[-1])), action, value, settings)

    def prepare_meter(self, port: str) -> None:
        """Volts and amperes with the status; triggers follow each other at once; fixed mode.

        As delivered the unit switches an output on by itself whenever a reading is triggered: that goes off first.
        """
        n = port[-1]
        (left,) = self.exchange(f":OUTP{n}:ON:AUTO OFF", f":OUTP{n}:ON:AUTO?", doing="keeping readings from switching outputs on")
        if float(left) != 0:
            raise self.fault(f"would switch the output of {self.name}.{port} on with every reading (:OUTP{n}:ON:AUTO is {left})")
        self.exchange(":FORM ASC", ":FORM:ELEM:SENS VOLT,CURR,STAT", f':SENS{n}:FUNC "VOLT","CURR"', doing="preparing the meter")
        self.exchange(
            *(f":ARM{n}:SOUR AINT", f":ARM{n}:COUN 1", f":ARM{n}:DEL 0", f":TRIG{n}:SOUR AINT", f":TRIG{n}:DEL 0"),
            f":SOUR{n}:VOLT:MODE FIX",
            doing="preparing the triggers",
        )
        self._count = ()
        self.note(**{f"{port}.measures": "volt and curr"})

    def forget(self) -> None:
        """Counts are sent again before they are used."""
        self._count = ()

    def readings(self, ports: Sequence[str], samples: int, timeout: float | None) -> FloatArray:
        """One triggered acquisition of all ``ports``; no source is touched."""
        listed = _listed(ports)
        prefix = ""
        if self._count != (samples, listed):
            prefix = "".join(f":TRIG{port[-1]}:ACQ:COUN {samples};" for port in ports)
        text = self.converse(f"{prefix}:INIT:ACQ {listed};*WAI;:FETC:ARR? {listed}", "reading", timeout=timeout)
        self._count = (samples, listed)
        return self._judged(text, samples, ports)

    def _judged(self, text: str, rows: int, ports: Sequence[str]) -> FloatArray:
        """The channels come in the order of their numbers, whatever was asked for."""
        table = self.table(text, rows, 3 * len(ports)).reshape(rows, len(ports), 3)
        table[:, :, 2] = flagged(table[:, :, 2], LIMITED | TOO_HOT | BEYOND)
        return table[:, [sorted(ports).index(port) for port in ports], :]

    def list_acquisition(
        self, ports: Sequence[str], terminals: Sequence[tuple[str, str]], dwell: float
    ) -> tuple[Callable[[FloatArray, int, bool], Acquired], Callable[[int], float]]:
        """Lists of levels (n, n_ports) of one or both channels, stepped together; one transfer of readings.

        Several samples of one level are the level several times; every entry waits ``dwell`` s.
        """
        read = list(dict.fromkeys([*ports, *(port for port, _ in terminals)]))

        def seconds(samples: int) -> float:
            return samples * (dwell + self.seconds_per_sample(read))

        def run(levels: FloatArray, samples: int, home: bool) -> Acquired:
            most = LONGEST_LIST // samples
            if len(levels) > most:
                parts = [levels[k : k + most] for k in range(0, len(levels), most)]
                made = [run(part, samples, home and part is parts[-1]) for part in parts]
                return Acquired.joined(made)
            points = np.repeat(levels, samples, axis=0)
            for port, column in zip(ports, points.T, strict=True):
                self.send_counted_list([float(level) for level in column], port[-1])
            ends = np.zeros(len(ports)) if home else points[-1]
            table = self._swept(ports, read, len(points), dwell, ends)
            return self.picked(table, read, terminals)

        return run, seconds

    def waveform_player(
        self, ports: Sequence[str], terminals: Sequence[tuple[str, str]]
    ) -> tuple[Callable[[FloatArray, FloatArray, FloatArray, float], Acquired], float]:
        """Levels of ``ports`` as a list that a timer steps, the unit reading at every step; ends at 0 V, also by itself.

        All times have to be multiples of one step, which is found; CapabilityError where they are not, or there are too many, and
        where a current range is not fixed.
        """
        read = list(dict.fromkeys([*ports, *(port for port, _ in terminals)]))
        # A control that has not been set up yet may still fix its range, or choose its time.
        self._require_fixed_ranges([port for port in read if f"{port}.compliance_A" in self._settings])

        def run(levels: FloatArray, begins: FloatArray, samples: FloatArray, end: float) -> Acquired:
            self._require_fixed_ranges(read)
            lead = self.seconds_per_sample(read) + READING_OVERHEAD
            step = self.require_steps(np.concatenate([begins, samples, [end]]), lead)
            count = round(end / step)
            at = np.searchsorted(np.round(begins / step), np.arange(count), side="right") - 1
            points = np.vstack([levels[at], np.zeros(len(ports))])
            for port, column in zip(ports, points.T, strict=True):
                self.exchange(f":SOUR{port[-1]}:VOLT 0", doing="choosing what a waveform ends at")
                self.send_counted_list([float(level) for level in column], port[-1])
            timer = f":SOUR TIM;:TRIG{{n}}:TIM {step:.9g}"
            delay = step - lead
            table = self._swept(ports, read, len(points), delay, np.zeros(len(ports)), timer=timer, spent=step)
            return self.picked(table[np.round(samples / step).astype(np.int64) - 1], read, terminals)

        return run, self.seconds_per_sample(read) + READING_OVERHEAD

    def _require_fixed_ranges(self, ports: Sequence[str]) -> None:
        """Every port measures amperes, whichever of its readings is wanted."""
        for port in ports:
            if self._settings.get(f"{port}.curr_range", "auto") == "auto":
                raise CapabilityError(
                    f"{self.name}.{port}: autorange takes time that a waveform does not have; fix the current range "
                    "(`current_range` of its control, or `range` of its output of amperes)"
                )

    def require_steps(self, times: FloatArray, lead: float) -> float:
        """See ``waveforms.Stepping``."""
        counts = np.round(times / MICROSECOND).astype(np.int64)
        step = float(np.gcd.reduce(counts)) * MICROSECOND
        if not np.allclose(counts * MICROSECOND, times, rtol=0.0, atol=1e-9) or step < lead:
            raise CapabilityError(
                f"{self.name} steps a waveform by a timer and reads at every step: its times have to be multiples of "
                f"{lead:.6g} s or more, not of {step:.6g} s; choose other times, or a shorter integration time (`nplc`)"
            )
        if np.max(counts) * MICROSECOND / step + 1 > LONGEST_LIST:
            raise CapabilityError(
                f"{self.name} keeps {LONGEST_LIST} steps of a waveform; {step:.6g} s is too short for its length"
            )
        return step

    def _swept(
        self,
        ports: Sequence[str],
        read: Sequence[str],
        points: int,
        delay: float,
        ends: FloatArray,
        *,
        timer: str = "",
        spent: float = 0.0,
    ) -> FloatArray:
        """Arm, run, read. Without a ``timer`` the last level stays (triggered output goes on) until the fixed level has been set
        to it; with one the unit goes back to its fixed level, 0 V, by itself. ``spent``: s for one point at the least."""
        still = [port[-1] for port in read if port not in ports]
        held = self.exchange(*(f":SOUR{n}:VOLT?" for n in still), doing="looking at the sources") if still else []
        goes_on = "OFF" if timer else "ON"
        listed = _listed(read)
        patience = self._session.link.timeout + 2 * points * max(spent, delay + self.seconds_per_sample(read))
        moved: list[str] = []
        self._count = ()
        try:
            self.exchange(
                *(f":SOUR{n}:VOLT:TRIG {float(level):.9g}" for n, level in zip(still, held, strict=True)),
                *(f":TRIG{port[-1]}{timer.format(n=port[-1])}" for port in read if timer),
                *(f":TRIG{port[-1]}:COUN {points};:TRIG{port[-1]}:ACQ:DEL {delay:.6g}" for port in read),
                *(f":SOUR{port[-1]}:FUNC:TRIG:CONT {goes_on};:SOUR{port[-1]}:VOLT:MODE LIST" for port in ports),
                doing="arming a list",
            )
            moved += [f":SOUR{port[-1]}:VOLT {level:.9g}" for port, level in zip(ports, ends, strict=True)]
            message = f":INIT {listed};*WAI;:FETC:ARR? {listed}"
            text = self.inquire(message, str, "running a list", repeat=False, timeout=patience)
        finally:
            self.exchange(
                *moved,  # where nothing has run, the levels stay
                *(f":SOUR{port[-1]}:VOLT:MODE FIX" for port in ports),
                *(f":TRIG{port[-1]}:ACQ:DEL 0" for port in read),
                *(f":TRIG{port[-1]}:SOUR AINT" for port in read if timer),
                doing="ending a list",
            )
        return self._judged(text, points, read)

    def terminal(self, port: str) -> SmuTerminal:
        """The channel; ConfigError without one."""
        if not port:
            raise ConfigError(f"instrument {self.name!r} has channels; write {self.name}.ch1.volt")
        return super().terminal(port)


def _listed(ports: Sequence[str]) -> str:
    return f"(@{','.join(sorted(port[-1] for port in ports))})"


class KeysightB2901A(KeysightB2900):
    """One channel, 210 V, 3 A, ranges from 0.2 V and 100 nA. Manual: B2910-90030."""

    concrete: ClassVar[bool] = True
    simultaneous: ClassVar[bool] = True
    link: ClassVar[Link] = Link(identity=r"(?i)(?:KEYSIGHT|AGILENT).*B2901A")
    channels_there = ("ch1",)
    span = SmuSpan(
        voltage_ranges=(0.2, 2.0, 20.0, 200.0),
        voltage_errors=(0.51e-3, 1.5e-3, 16e-3, 160e-3),
        current_ranges=(1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1.5, 3.0),
        largest=(210.0, 3.03),
        compliance=(1e-9, 3.03),
        nplc=(4e-4, 100.0),
    )


class KeysightB2912A(KeysightB2900):
    """Two channels, 210 V, 3 A, ranges from 0.2 V and 10 nA. Manual: B2910-90030."""

    concrete: ClassVar[bool] = True
    simultaneous: ClassVar[bool] = True
    link: ClassVar[Link] = Link(identity=r"(?i)(?:KEYSIGHT|AGILENT).*B2912A")
    channels_there = ("ch1", "ch2")
    span = SmuSpan(
        voltage_ranges=(0.2, 2.0, 20.0, 200.0),
        voltage_errors=(0.51e-3, 1.5e-3, 16e-3, 160e-3),
        current_ranges=(1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1.5, 3.0),
        largest=(210.0, 3.03),
        compliance=(1e-10, 3.03),
        nplc=(4e-4, 100.0),
    )
