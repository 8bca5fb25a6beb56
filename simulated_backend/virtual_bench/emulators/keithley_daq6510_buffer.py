"""Reading buffers of the DAQ6510, and the elements and formats in which readings are sent (manual: TRACe and FORMat)."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from struct import pack
from typing import TYPE_CHECKING, ClassVar

from simulated_backend.virtual_bench.scpi import ScpiError, choice, keyword, number, quoted

if TYPE_CHECKING:
    from simulated_backend.virtual_bench.scpi import CommandTree

DEFAULT_SIZE = 100_000
SMALLEST, LARGEST = 10, 1_000_000
ELEMENTS = (
    "READing",
    "CHANnel",
    "RELative",
    "STATus",
    "UNIT",
    "FORMatted",
    "TSTamp",
    "SEConds",
    "FRACtional",
)
BINARY_ELEMENTS = ("READ", "REL")


@dataclass(frozen=True, slots=True)
class ReadingRecord:
    """Volts, channel (0: no channel), seconds since switching on, and status bits (8: front terminals)."""

    value: float
    channel: int
    time: float
    status: int


class Buffers:
    """All buffers of one instrument by name; the two default ones always exist. A full buffer drops its oldest readings."""

    elements: ClassVar[tuple[str, ...]] = ELEMENTS

    def __init__(self) -> None:
        self._buffers: dict[str, deque[ReadingRecord]] = {}
        self.reset()

    def reset(self) -> None:
        """Only the default buffers, empty; readings as text with automatic digits."""
        self._buffers = {name: deque(maxlen=DEFAULT_SIZE) for name in ("defbuffer1", "defbuffer2")}
        self._format = "ASC"
        self._digits = 0
        self._swapped = True

    def declare(self, tree: "CommandTree") -> None:
        """Add the TRACe and FORMat commands."""
        tree.add("TRACe:DATA", query=lambda _s, p: self._data(p))
        tree.add("TRACe:ACTual", query=lambda _s, p: str(len(self._named(p))))
        tree.add("TRACe:CLEar", lambda _s, p: self._named(p).clear())
        tree.add("TRACe:POINts", lambda _s, p: self._resize(p), lambda _s, p: str(self._named(p).maxlen))
        tree.add("TRACe:MAKE", lambda _s, p: self._make(p))
        tree.add("TRACe:DELete", lambda _s, p: self._delete(p))
        tree.add("FORMat[:DATA]", lambda _s, p: self._set_format(p), lambda _s, _p: self._format)
        tree.add("FORMat:ASCii:PRECision", lambda _s, p: self._set_digits(p), lambda _s, _p: str(self._digits))
        tree.add("FORMat:BORDer", lambda _s, p: self._set_order(p), lambda _s, _p: "SWAP" if self._swapped else "NORM")

    # What the instrument does --------------------------------------------------------------------------------------

    def store(self, name: str, reading: ReadingRecord) -> None:
        """Append one reading."""
        self._buffers[name].append(reading)

    def clear(self, name: str) -> None:
        """Empty one buffer."""
        self._buffers[name].clear()

    def known(self, name: str) -> str:
        """``name`` if there is such a buffer."""
        if name not in self._buffers:
            raise ScpiError(-224, f"there is no buffer {name}")
        return name

    def wanted(self, parameters: list[str]) -> tuple[str, list[str]]:
        """Buffer and elements of ``READ? "name", element, …``."""
        name, rest = "defbuffer1", parameters
        if parameters and parameters[0][:1] in "'\"":
            name, rest = self.known(quoted(parameters[:1])), parameters[1:]
        return name, [keyword(text, self.elements) for text in rest] or ["READ"]

    def latest(self, name: str, elements: list[str]) -> str:
        """The last reading of a buffer, as it is sent."""
        buffer = self._buffers[name]
        if not buffer:
            raise ScpiError(-230, "the buffer is empty")
        return self._sent([buffer[-1]], elements, buffer[0].time)

    # Commands ------------------------------------------------------------------------------------------------------

    def _named(self, parameters: list[str]) -> deque[ReadingRecord]:
        return self._buffers[self.known(quoted(parameters)) if parameters else "defbuffer1"]

    def _data(self, parameters: list[str]) -> str:
        if len(parameters) < 2:
            raise ScpiError(-109)
        name, elements = self.wanted(parameters[2:])
        buffer = self._buffers[name]
        first = round(number(parameters[:1], 1, LARGEST))
        last = round(number(parameters[1:2], first, LARGEST))
        if last > len(buffer):
            raise ScpiError(-222, f"the buffer holds {len(buffer)} readings")
        return self._sent([buffer[i] for i in range(first - 1, last)], elements, buffer[0].time)

    def _resize(self, parameters: list[str]) -> None:
        size = round(number(parameters[:1], SMALLEST, LARGEST, DEFAULT_SIZE))
        name = self.known(quoted(parameters[1:2])) if len(parameters) > 1 else "defbuffer1"
        self._buffers[name] = deque(maxlen=size)

    def _make(self, parameters: list[str]) -> None:
        name = quoted(parameters[:1])
        if name in self._buffers:
            raise ScpiError(-224, f"the buffer {name} exists")
        self._buffers[name] = deque(maxlen=round(number(parameters[1:2], SMALLEST, LARGEST, DEFAULT_SIZE)))

    def _delete(self, parameters: list[str]) -> None:
        name = self.known(quoted(parameters))
        if name.startswith("defbuffer"):
            raise ScpiError(-221, "the default buffers stay")
        del self._buffers[name]

    def _set_format(self, parameters: list[str]) -> None:
        self._format = choice(parameters, ("ASCii", "REAL", "SREal"))

    def _set_digits(self, parameters: list[str]) -> None:
        self._digits = round(number(parameters, 0, 16, 0))

    def _set_order(self, parameters: list[str]) -> None:
        self._swapped = choice(parameters, ("SWAPped", "NORMal")) == "SWAP"

    # Formats -------------------------------------------------------------------------------------------------------

    def _sent(self, readings: list[ReadingRecord], elements: list[str], start: float) -> str:
        if self._format == "ASC":
            return ",".join([self._text(reading, element, start) for reading in readings for element in elements])
        if any(element not in BINARY_ELEMENTS for element in elements):
            raise ScpiError(-224, "binary formats carry readings and relative times only")
        numbers = [r.value if element == "READ" else r.time - start for r in readings for element in elements]
        code = ("<" if self._swapped else ">") + str(len(numbers)) + ("d" if self._format == "REAL" else "f")
        return "#0" + pack(code, *numbers).decode("latin-1")

    def _text(self, reading: ReadingRecord, element: str, start: float) -> str:
        digits = self._digits or 7
        plain: dict[str, Callable[[], str]] = {
            "READ": lambda: f"{reading.value:.{digits - 1}E}",
            "CHAN": lambda: str(reading.channel),
            "REL": lambda: f"{reading.time - start:.6f}",
            "STAT": lambda: str(reading.status),
            "UNIT": lambda: "Volt DC",
            "FORM": lambda: f"{reading.value:+.6f} V",
            "TST": lambda: f"{reading.time:.6f}",
            "SEC": lambda: str(int(reading.time)),
            "FRAC": lambda: f"{reading.time % 1.0:.9f}",
        }
        return plain[element]()
