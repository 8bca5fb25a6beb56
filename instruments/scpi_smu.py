"""What SCPI source-measure units have in common: levels, readings and looks of all their terminals, one message for each.

A model says its headers in ``SmuWords``, its ranges in ``SmuSpan``, and how volts, amperes and the state of the source are
read together. A terminal is a ``SmuTerminal``. For the manuals see the drivers.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from instruments.base import ScpiInstrument, UnheardError, value_of
from instruments.roles import Acquired, Condition, Delivery
from instruments.scpi_smu_terminal import SmuTerminal
from instruments.scpi_smu_words import MARK

COLUMN = {"volt": 0, "curr": 1}
LONGEST_COMMAND = 50  # levels in one SOUR:LIST:VOLT: manuals allow 100, but the line had better stay below 1000 characters
READING_LENGTH = 45  # characters of volts, amperes and status


class ScpiSmu(ScpiInstrument):
    """A unit whose ports are SmuTerminals. Levels of all ports in one message, readings of all in one transfer."""

    range_is_limit: ClassVar[bool] = False
    """Whether a fixed measuring range limits the current."""
    reads_when_off: ClassVar[bool] = False
    conversions: ClassVar[float] = 3.0
    """Apertures that one reading takes."""
    marked: bool = False

    def terminal(self, port: str) -> SmuTerminal:
        """The terminal of ``port``."""
        found = self.port(port)
        if not isinstance(found, SmuTerminal):
            raise ConfigError(f"instrument {self.name!r}: {port!r} is no source-measure terminal")
        return found

    def begin(self) -> None:
        """Asked before anything is set."""

    @abstractmethod
    def prepare_meter(self, port: str) -> None:
        """Make ``port`` measure volts and amperes, and send both with the state of the source."""

    @abstractmethod
    def readings(self, ports: Sequence[str], samples: int, timeout: float | None) -> FloatArray:
        """Volts, amperes, and 1 where the source was at its limit: (samples, n_ports, 3)."""

    def send_list(self, points: Sequence[float], channel: str = "") -> None:
        """Levels of a list, ``LONGEST_COMMAND`` at a time. What is appended is not sent twice: all begins anew, once."""

        def send() -> None:
            for begin in range(0, len(points), LONGEST_COMMAND):
                part = ",".join(f"{level:.9g}" for level in points[begin : begin + LONGEST_COMMAND])
                head = f":SOUR{channel}:LIST:VOLT{':APP' if begin else ''}"
                self.exchange(f"{head} {part}", doing="sending a list", repeat=not begin)

        try:
            send()
        except UnheardError as error:
            self._session.notice(f"instrument {self.name!r}: sending a list was repeated from its beginning: {error}")
            send()

    def send_counted_list(self, points: Sequence[float], channel: str = "") -> None:
        """The same; InstrumentError where the unit has not kept all of them."""
        self.send_list(points, channel)
        (kept,) = self.exchange(f":SOUR{channel}:LIST:VOLT:POIN?", doing="counting the list")
        if int(float(kept)) != len(points):
            raise self.fault(f"kept {kept} of {len(points)} levels of a list")

    def level_writer(self, ports: Sequence[str]) -> Callable[[Sequence[float]], None]:
        """Set the voltage levels of ``ports`` in one round trip; levels, outputs and the error queue are read back."""
        words = [self.terminal(port).words for port in ports]
        questions = [f"{one.level}?" for one in words] + [f"{one.output}?" for one in words]
        count = len(words)

        def write(levels: Sequence[float]) -> None:
            commands = [f"{one.level} {level:.9g}" for one, level in zip(words, levels, strict=True)]
            values = [float(value_of(text)) for text in self.exchange(*commands, *questions, doing="setting levels")]
            self.require_levels(ports, levels, values[:count], values[count:])

        return write

    def condition_reader(self, ports: Sequence[str]) -> Callable[[], list[Condition]]:
        """Level, output and limit of ``ports`` in one round trip."""
        words = [self.terminal(port).words for port in ports]
        questions = [f"{header}?" for one in words for header in (one.level, one.output, one.tripped)]

        def look() -> list[Condition]:
            values = [float(value_of(text)) for text in self.exchange(*questions, doing="looking at the sources")]
            return [Condition(values[k], values[k + 1] != 0, values[k + 2] == 0) for k in range(0, len(values), 3)]

        return look

    def delivery_reader(self, ports: Sequence[str]) -> Callable[[], list[Delivery]]:
        """Outputs and the mark of a unit that kept its settings, then one reading of ``ports``."""
        there = [self.terminal(port) for port in ports]
        questions = ["*ESE?", *(f"{one.words.output}?" for one in there)]

        def measure() -> list[Delivery]:
            mark, *outputs = (float(value_of(text)) for text in self.exchange(*questions, doing="looking at the sources"))
            if mark != MARK:
                raise self.restarted()
            if not all(outputs):
                return [Delivery(float("nan"), one.allowed, on != 0, False) for one, on in zip(there, outputs, strict=True)]
            table = self.readings(ports, 1, None)[0]
            return [
                Delivery(float(volts), one.allowed, True, bool(limited))
                for one, (volts, _, limited) in zip(there, table, strict=True)
            ]

        return measure

    def require_settings_kept(self) -> None:
        """InstrumentError if the event enable register, set when it was configured, is back at its default."""
        if self.marked and float(self._session.query("*ESE?")) != MARK:
            raise self.restarted()

    def acquisition(self, terminals: Sequence[tuple[str, str]]) -> Callable[[int], Acquired]:
        """Volts or amperes of all (port, parameter) in one transfer."""
        ports = list(dict.fromkeys(port for port, _ in terminals))
        patience = self._session.link.timeout

        def read(samples: int) -> Acquired:
            duration = samples * self.seconds_per_sample(ports) + self.sending(samples * len(ports) * READING_LENGTH)
            timeout = None if duration < 0.5 * patience else patience + 2 * duration
            return self.picked(self.readings(ports, samples, timeout), ports, terminals)

        return read

    def seconds_per_sample(self, ports: Sequence[str]) -> float:
        """How long one reading of ``ports`` takes at 50 Hz."""
        return self.conversions * max(self.terminal(port).nplc_used for port in ports) / 50.0

    def picked(self, table: FloatArray, ports: Sequence[str], terminals: Sequence[tuple[str, str]]) -> Acquired:
        """The columns asked for out of what ``readings`` gives."""
        places = [ports.index(port) for port, _ in terminals]
        values: FloatArray = table[:, places, [COLUMN[parameter] for _, parameter in terminals]]
        return Acquired.of(values, table[:, places, 2] != 0)

    def read_one(self, port: str, parameter: str) -> float:
        """One reading; NaN in overflow. The meter is prepared where that has not been done."""
        if f"{port}.measures" not in self._settings:
            self.prepare_meter(port)
            self.terminal(port).integrate()
        return float(self.acquisition([(port, parameter)])(1).values[0, 0])

    def table(self, text: str, rows: int, columns: int) -> FloatArray:
        """Numbers (rows, columns) of a reply."""
        try:
            return np.array([float(part) for part in text.split(",")], dtype=np.float64).reshape(rows, columns)
        except ValueError:
            self._session.resynchronise()
            raise self.fault(f"sent {text[:60]!r} where {rows * columns} numbers were expected") from None
