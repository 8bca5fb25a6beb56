"""The SCPI command language: trees of headers with short and long forms, messages of several commands, queues, registers.

Source: SCPI-1999 volumes 1 and 2 (headers, numeric suffixes, numeric and boolean parameters, error numbers) and IEEE 488.2
(message units separated by semicolons, common commands, status byte). An instrument declares commands by their notation in
a manual, e.g. ``[:SENSe[1]]:VOLTage[:DC]:RANGe[:UPPer]``.
"""

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import ClassVar

import numpy as np

from simulated_backend.virtual_bench.emulator import Emulator
from simulated_backend.virtual_bench.ports import PlantView

Handler = Callable[[tuple[int, ...], list[str]], str | None]
"""Gets the numeric suffixes of the header's keywords (1 where none was sent) and the parameters; returns the reply."""

STANDARD_ERRORS: Mapping[int, str] = {
    0: "No error",
    -100: "Command error",
    -102: "Syntax error",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -113: "Undefined header",
    -114: "Header suffix out of range",
    -120: "Numeric data error",
    -141: "Invalid character data",
    -151: "Invalid string data",
    -200: "Execution error",
    -213: "Init ignored",
    -214: "Trigger deadlock",
    -221: "Settings conflict",
    -222: "Data out of range",
    -223: "Too much data",
    -224: "Illegal parameter value",
    -230: "Data corrupt or stale",
    -241: "Hardware missing",
    -350: "Queue overflow",
    207: "Enumerated value not in union",
    -410: "Query INTERRUPTED",
}

POWER_ON, COMMAND_ERROR, EXECUTION_ERROR, DEVICE_ERROR, QUERY_ERROR, COMPLETE = 128, 32, 16, 8, 4, 1


class ScpiError(Exception):
    """What goes into the instrument's error queue instead of an answer."""

    def __init__(self, code: int, detail: str = "") -> None:
        text = STANDARD_ERRORS.get(code, "Device-specific error")
        super().__init__(f"{text};{detail}" if detail else text)
        self.code = code


@dataclass(slots=True)
class _Node:
    """One keyword of the tree: what may follow, and what ends here."""

    children: dict[str, "_Node"] = field(default_factory=dict)
    suffixed: bool = False
    command: Handler | None = None
    query: Handler | None = None


class CommandTree:
    """Headers to handlers, from the notation of manuals: lower-case letters and bracketed keywords may be left out."""

    def __init__(self) -> None:
        self._root = _Node()
        self._found: dict[tuple[str, str], tuple[_Node, tuple[int, ...], str] | None] = {}

    def add(self, notation: str, command: Handler | None = None, query: Handler | None = None) -> None:
        """Declare a header. A keyword that takes a numeric suffix ends in ``#``: ``SOURce#[:PRESsure]:SLEW``."""
        self._found.clear()
        places = [self._root]
        for keyword, optional in _keywords(notation):
            suffixed = keyword.endswith("#")
            name = keyword.rstrip("#")
            short = "".join(letter for letter in name if not letter.islower())
            reached: list[_Node] = []
            for place in places:
                node = place.children.get(short) or _Node(suffixed=suffixed)
                node.suffixed |= suffixed
                place.children[short] = place.children[name.upper()] = node
                if all(node is not other for other in reached):
                    reached.append(node)
            places = places + reached if optional else reached
        for place in places:
            place.command = command or place.command
            place.query = query or place.query

    def find(self, header: str, path: str) -> tuple[_Node, tuple[int, ...], str] | None:
        """Node, suffixes and the path that a following relative header starts from; None for an unknown header.

        ``header`` without its question mark; ``path`` is where the previous command of the same message stood.
        """
        key = (header, path)
        if key not in self._found:
            if len(self._found) > 4096:
                self._found.clear()
            self._found[key] = self._search(header.upper(), path)
        return self._found[key]

    def _search(self, header: str, path: str) -> tuple[_Node, tuple[int, ...], str] | None:
        words = header[1:].split(":") if header.startswith(":") else [*path.split(":"), *header.split(":")]
        node, suffixes = self._root, []
        words = [word for word in words if word] if not header.startswith(":") else words
        for word in words:
            name = word.rstrip("0123456789")
            child = node.children.get(word) or node.children.get(name)
            if child is None:
                return None
            if word in node.children:
                number = 1
            elif not child.suffixed:
                return None
            else:
                number = int(word[len(name) :])
            if child.suffixed:
                suffixes.append(number)
            node = child
        return node, tuple(suffixes), ":".join(words[:-1])


def _keywords(notation: str) -> list[tuple[str, bool]]:
    result: list[tuple[str, bool]] = []
    depth = 0
    word = ""
    for letter in notation + ":":
        if letter in "[]:":
            if word:
                result.append((word, depth > 0))
                word = ""
            depth += {"[": 1, "]": -1, ":": 0}[letter]
        else:
            word += letter
    return result


def split(text: str, separator: str) -> list[str]:
    """Parts of ``text`` between separators that stand outside quotes and parentheses, stripped."""
    if "'" not in text and '"' not in text and "(" not in text:
        return [part.strip() for part in text.split(separator)]
    parts, part, quote, depth = [], "", "", 0
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += {"(": 1, ")": -1}.get(letter, 0)
            if letter == separator and depth <= 0:
                parts.append(part.strip())
                part = ""
                continue
        part += letter
    return [*parts, part.strip()]


class ScpiEmulator(Emulator):
    """An instrument that speaks SCPI. Subclasses declare their commands in ``declare`` and set ``idn``."""

    identity: ClassVar[str]
    errors_kept: ClassVar[int] = 10
    terminator: bytes = b"\n"
    wrong_direction: ClassVar[tuple[int, str]] = (-113, "")
    """The error for a query of a command that has none, and the reverse."""

    def __init__(self, name: str, plant: PlantView, options: Mapping[str, object], rng: np.random.Generator) -> None:
        super().__init__(name, plant, options, rng)
        self.tree = CommandTree()
        self.errors: deque[tuple[int, str]] = deque()
        self.event_register = POWER_ON
        self.event_enable = 0
        self.service_enable = 0
        self._path = ""
        self._common: dict[str, Handler] = {
            "*IDN?": lambda _s, _p: str(self.options["identity"] or self.identity),
            "*RST": lambda _s, _p: self.reset(),
            "*CLS": lambda _s, _p: self._clear_status(),
            "*ESR?": lambda _s, _p: self._read_events(),
            "*ESE?": lambda _s, _p: str(self.event_enable),
            "*ESE": lambda _s, p: self._set_enable("event_enable", p),
            "*SRE?": lambda _s, _p: str(self.service_enable),
            "*SRE": lambda _s, p: self._set_enable("service_enable", p),
            "*STB?": lambda _s, _p: str(self.status_byte()),
            "*OPC?": lambda _s, _p: "1",
            "*OPC": lambda _s, _p: self._complete(),
            "*TST?": lambda _s, _p: "0",
            "*WAI": lambda _s, _p: None,
            "*TRG": lambda _s, _p: self.trigger(),
        }
        self.declare()
        self.power_on()

    # What subclasses fill in ---------------------------------------------------------------------------------------

    @abstractmethod
    def declare(self) -> None:
        """Add all commands to ``self.tree``."""

    @abstractmethod
    def reset(self) -> None:
        """What *RST does."""

    def trigger(self) -> None:
        """What *TRG does; nothing unless overridden."""

    def power_on(self) -> None:
        """Queues and registers empty, everything as after *RST."""
        self.errors.clear()
        self.event_register = POWER_ON
        self.event_enable = self.service_enable = 0
        self.reset()

    # Messages ------------------------------------------------------------------------------------------------------

    def receive(self, message: bytes) -> bytes | None:
        """Obey one message of one or several commands; the replies stand in one line, separated by semicolons."""
        text = message.decode("latin-1").strip()
        replies: list[str] = []
        self._path = ""
        for unit in split(text, ";") if ";" in text else (text,):
            if not unit:
                continue
            header, _, rest = unit.partition(" ") if "\t" not in unit else unit.replace("\t", " ").partition(" ")
            try:
                reply = self._obey(header, rest.strip())
            except ScpiError as error:
                self.report(error.code, str(error))
                continue
            if reply is not None:
                replies.append(reply)
        return ";".join(replies).encode("latin-1") + self.terminator if replies else None

    def _obey(self, header: str, rest: str) -> str | None:
        parameters = split(rest, ",") if rest else []
        if header.startswith("*"):
            common = self._common.get(header.upper())
            if common is None:
                raise ScpiError(-113)
            reply = common((), parameters)
            return None if reply is None else self.decorate(header.upper()[:-1], reply)
        if self.options.get("command_set", "SCPI") != "SCPI":
            raise ScpiError(-113)
        is_query = header.endswith("?")
        found = self.tree.find(header[:-1] if is_query else header, self._path)
        if found is None:
            raise ScpiError(-113)
        node, suffixes, self._path = found
        handler = node.query if is_query else node.command
        if handler is None:
            raise ScpiError(*self.wrong_direction)
        return handler(suffixes, parameters)

    def decorate(self, header: str, reply: str) -> str:
        """The reply to a common query ``header``; instruments that echo headers override it."""
        return reply

    # Queues and registers ------------------------------------------------------------------------------------------

    def report(self, code: int, text: str) -> None:
        """Put an error into the queue and set the matching bit of the event register."""
        if -200 < code <= -100:
            self.event_register |= COMMAND_ERROR
        elif -300 < code <= -200:
            self.event_register |= EXECUTION_ERROR
        elif -500 < code <= -400:
            self.event_register |= QUERY_ERROR
        else:
            self.event_register |= DEVICE_ERROR
        if len(self.errors) < self.errors_kept:
            self.errors.append((code, text))
        else:
            self.errors[-1] = (-350, STANDARD_ERRORS[-350])

    def complain(self) -> None:
        """Queue a settings conflict, as if somebody had pressed the wrong key."""
        self.report(-221, STANDARD_ERRORS[-221])

    def next_error(self) -> tuple[int, str]:
        """The oldest error, taken out of the queue; (0, No error) when there is none."""
        return self.errors.popleft() if self.errors else (0, STANDARD_ERRORS[0])

    def status_byte(self) -> int:
        """Status byte: 4 errors in the queue, 32 an enabled event, 64 service requested."""
        byte = (4 if self.errors else 0) | (32 if self.event_register & self.event_enable else 0)
        return byte | (64 if byte & self.service_enable else 0)

    def _clear_status(self) -> None:
        self.errors.clear()
        self.event_register = 0

    def _read_events(self) -> str:
        events, self.event_register = self.event_register, 0
        return str(events)

    def _set_enable(self, register: str, parameters: list[str]) -> None:
        setattr(self, register, int(number(parameters, 0.0, 255.0)))

    def _complete(self) -> None:
        self.event_register |= COMPLETE


# Parameters --------------------------------------------------------------------------------------------------------


def single(parameters: Sequence[str]) -> str:
    """The one parameter there must be."""
    if not parameters or not parameters[0]:
        raise ScpiError(-109)
    if len(parameters) > 1:
        raise ScpiError(-108)
    return parameters[0]


def number(parameters: Sequence[str], minimum: float, maximum: float, default: float | None = None) -> float:
    """A number within limits, or MINimum, MAXimum, DEFault."""
    text = single(parameters).upper()
    named = {"MIN": minimum, "MINIMUM": minimum, "MAX": maximum, "MAXIMUM": maximum}
    if default is not None:
        named |= {"DEF": default, "DEFAULT": default}
    if text in named:
        return named[text]
    try:
        value = float(text)
    except ValueError:
        raise ScpiError(-104 if text[:1] in "'\"(" else -120) from None
    if not isfinite(value) or not minimum <= value <= maximum:
        raise ScpiError(-222)
    return value


def boolean(parameters: Sequence[str]) -> bool:
    """ON, OFF, or a number (anything that rounds to 0 is OFF)."""
    text = single(parameters).upper()
    if text in ("ON", "OFF"):
        return text == "ON"
    try:
        return round(float(text)) != 0
    except (ValueError, OverflowError):
        raise ScpiError(-141) from None


def choice(parameters: Sequence[str], notations: Sequence[str]) -> str:
    """One of several keywords in manual notation; the short form in capitals is returned."""
    return keyword(single(parameters), notations)


def keyword(text: str, notations: Sequence[str]) -> str:
    """``text`` as the short form of the keyword it names in long or short form."""
    for notation in notations:
        short = "".join(letter for letter in notation if not letter.islower())
        if text.upper() in (short, notation.upper()):
            return short
    raise ScpiError(-224)


def quoted(parameters: Sequence[str]) -> str:
    """The content of a string in single or double quotes."""
    text = single(parameters)
    if len(text) < 2 or text[0] not in "'\"" or text[-1] != text[0]:
        raise ScpiError(-151)
    return text[1:-1]


def channel_list(text: str) -> list[int]:
    """Channels of ``(@101,103:105)`` in the order written; an empty list for ``(@)``."""
    if not (text.startswith("(@") and text.endswith(")")):
        raise ScpiError(-104)
    channels: list[int] = []
    for part in text[2:-1].split(","):
        if not part.strip():
            continue
        first, colon, last = part.partition(":")
        try:
            start = int(first)
            stop = int(last) if colon else start
        except ValueError:
            raise ScpiError(-120) from None
        step = 1 if stop >= start else -1
        if abs(stop - start) > 9999:
            raise ScpiError(-222)
        channels.extend(range(start, stop + step, step))
    return channels
