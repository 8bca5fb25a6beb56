"""What all drivers of this package share: a verified session under a QCoDeS instrument, and an error queue that is read."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from qcodes.instrument import VisaInstrument

from hil.core.errors import ConfigError, InstrumentError
from instruments.first_check import known
from instruments.roles import OVERFLOW
from instruments.serial_line import CHOICES
from instruments.visa import Link, Session, open_session
from instruments.wiring import Setting

T = TypeVar("T")
LINE_ENDINGS = {"lf": "\n", "cr": "\r", "crlf": "\r\n"}


def prepare(
    link: Link,
    name: str,
    address: str | None,
    session: Session | None,
    *,
    line: Mapping[str, Any],
    visalib: str,
) -> Session:
    """The session a driver stands on: ``session`` if given (tests), otherwise opened at ``address`` and verified."""
    chosen = chosen_link(link, name, line)
    if session is not None:
        return session
    if address is None:
        raise ConfigError(f"instrument {name!r} has no address")
    return open_session(name, address, chosen, visalib=visalib)


def chosen_link(link: Link, name: str, line: Mapping[str, Any]) -> Link:
    """The link of a driver class with what the station says otherwise (options by name; None: it says nothing).

    ConfigError for a word that is none of those there are.
    """
    said = {key: value for key, value in line.items() if value is not None}
    for key, words in {"line_ending": tuple(LINE_ENDINGS), **CHOICES}.items():
        if said.get(key, words[0]) not in words:
            raise ConfigError(f"instrument {name!r}: {key} must be one of {', '.join(map(str, words))}, not {said[key]!r}")
    if "line_ending" in said:
        said["read_termination"] = said["write_termination"] = LINE_ENDINGS[said.pop("line_ending")]
    if "timeout" in said:
        said["timeout"] = float(said["timeout"])
        said["first_timeout"] = min(link.first_timeout, said["timeout"])
    return replace(link, **said)


class UnheardError(InstrumentError):
    """No reply that means anything came to what must not act twice: it was obeyed, or it was not."""


class BenchInstrument(VisaInstrument):
    """A QCoDeS instrument on a Session. Connecting sends nothing but the identity query.

    ``address`` or an open ``session``; ``timeout`` in s; ``line_ending`` (lf, cr, crlf), and ``baud_rate`` and the words
    of ``serial_line.CHOICES`` for serial lines.
    """

    link: ClassVar[Link]
    simultaneous: ClassVar[bool] = False
    concrete: ClassVar[bool] = False
    joiner: ClassVar[str] = ""
    """What joins messages into one line, for an instrument whose lines may be long."""
    query_joiner: ClassVar[str] = ""
    """What joins queries into one, and their replies, for an instrument that takes compound queries."""
    reads_when_off: ClassVar[bool] = True
    """Whether a port measures its node with the output off, too; a source-measure unit then holds it at 0 V, or lets go."""
    answers: ClassVar[bool] = False
    """Whether every message is answered, and nothing may be said before the answer has come."""
    release_port: ClassVar[int | None] = None
    """TCP port whose opening makes the instrument drop links that nobody uses any more, where it has one."""

    def __init__(
        self,
        name: str,
        address: str | None = None,
        *,
        session: Session | None = None,
        timeout: float | None = None,
        baud_rate: int | None = None,
        data_bits: int | None = None,
        parity: str | None = None,
        stop_bits: int | None = None,
        flow_control: str | None = None,
        line_ending: str | None = None,
        visalib: str = "",
    ) -> None:
        line = {"timeout": timeout, "baud_rate": baud_rate, "line_ending": line_ending}
        line |= {"data_bits": data_bits, "parity": parity, "stop_bits": stop_bits, "flow_control": flow_control}
        self._session = prepare(self.link, name, address, session, line=line, visalib=visalib)
        self._settings: dict[str, object] = {}
        try:
            super().__init__(
                name,
                resource=self._session.resource,  # type: ignore[arg-type] # a scripted resource is enough in tests
                device_clear=False,
                terminator=None,
                timeout=self._session.link.timeout,
            )
        except BaseException:
            self._session.close()
            raise

    @classmethod
    def checked_on_hardware(cls, data: Path | None = None) -> str:
        """Who tried this driver on a real instrument, when, with which firmware; empty: only an emulator has answered it.

        ``data``: a data folder with records of this lab. Raises RecordError for a file that cannot be read.
        """
        return "; ".join(record.sentence() for record in known(cls, data))

    @property
    def session(self) -> Session:
        """The one way to the instrument."""
        return self._session

    def write_raw(self, cmd: str) -> None:
        """Send ``cmd`` through the session."""
        self._session.write(cmd)

    def ask_raw(self, cmd: str) -> str:
        """Query ``cmd`` through the session."""
        return self._session.query(cmd)

    def get_idn(self) -> dict[str, str | None]:
        """Vendor, model, serial, firmware from the identity verified when the link was opened; sends nothing."""
        parts: list[str | None] = [part.strip() for part in self.identity().split(",")]
        parts += [None] * 4
        return dict(zip(("vendor", "model", "serial", "firmware"), parts, strict=False))

    def identity(self) -> str:
        """The verified reply to the identity query."""
        return self._session.identity or self._session.verify()

    @abstractmethod
    def errors(self) -> list[str]:
        """Take everything out of the error queue; empty if there was nothing."""

    def check_errors(self, after: str) -> None:
        """InstrumentError if the error queue holds anything; ``after`` says what was done."""
        found = self.errors()
        if found:
            raise self.fault(f"reported {'; '.join(found)} after {after}")

    def converse(self, message: str, doing: str, *, timeout: float | None = None) -> str:
        """One query whose reply is taken as it is; see ``inquire``."""
        return self.inquire(message, str, doing, timeout=timeout)

    def inquire(
        self,
        message: str,
        decode: Callable[[str], T],
        doing: str,
        *,
        timeout: float | None = None,
        repeat: bool = True,
        anyway: bool = False,
    ) -> T:
        """One query and what its reply means; ``doing`` is what the user reads.

        Where no reply comes, or one that means nothing (``decode`` raises ValueError or IndexError), the link is made new if
        need be, late replies are thrown away, the error queue is asked why, and that the instrument has kept its settings
        is verified. Only then is the message sent once more, unless ``repeat`` is False: for whatever must not act twice.
        ``anyway``: it may be sent to an instrument that has lost its settings (it leaves something safe).
        Raises InstrumentError; UnheardError where it is not repeated and the instrument itself has nothing to say of it.
        """
        return self._again(lambda: decode(self._session.query(message, timeout=timeout)), doing, repeat, anyway)

    def _again(self, ask: Callable[[], T], doing: str, repeat: bool, anyway: bool = False) -> T:
        try:
            return ask()
        except InstrumentError as error:
            self._recover(doing, str(error), repeat, anyway)
        except (ValueError, IndexError) as error:
            self._recover(doing, f"its reply means nothing ({error})", repeat, anyway)
        try:
            return ask()
        except (ValueError, IndexError) as error:
            raise self.fault(f"failed twice while {doing}: its reply means nothing ({error})") from error

    def _recover(self, doing: str, trouble: str, repeat: bool, anyway: bool) -> None:
        """Make the link good again after ``trouble``; InstrumentError where going on would not be safe."""
        self._session.resynchronise()
        # An instrument that stumbles over a message says nothing, but its queue knows.
        found = self.errors()
        if (found and not anyway) or not repeat:
            error = self.fault(f"failed while {doing}: {'; '.join(found) or trouble}")
            raise error if found else UnheardError(str(error))
        if not anyway:
            self.require_settings_kept()
        self._session.notice(f"instrument {self.name!r}: {doing} was repeated, because {trouble}")

    def complain(self, found: Sequence[str], doing: str, anyway: bool) -> None:
        """InstrumentError about entries of the error queue; only a notice on the way to the safe state (``anyway``), where an
        old entry must not hide that an output is off, and where every step is read back."""
        sentence = f"reported {'; '.join(found)} after {doing}"
        if not anyway:
            raise self.fault(sentence)
        self._session.notice(f"instrument {self.name!r} {sentence}")

    def require_settings_kept(self) -> None:
        """InstrumentError if the instrument has been switched off and on since it was configured; asks it."""

    def restarted(self) -> InstrumentError:
        """The error for an instrument that has lost its settings."""
        return self.fault("was switched off and on: its settings are lost; find out why before you go on")

    def require_levels(
        self, ports: Sequence[str], levels: Sequence[float], kept: Sequence[float], outputs: Sequence[float]
    ) -> None:
        """InstrumentError where a source of volts was found at another level than was sent, or with its output off."""
        for port, level, found, output in zip(ports, levels, kept, outputs, strict=True):
            if abs(found - level) > 1e-3 * max(abs(level), 1e-3):
                raise self.fault(f"{port} is at {found:g} V, although {level:g} V was sent")
            if output == 0:
                raise self.fault(f"{port} has its output off, although it was on; was the instrument switched off?")

    def forget(self) -> None:
        """Something went wrong: whatever was believed of the instrument's state is no longer believed."""

    def port(self, name: str) -> Any:
        """The port of that name ("" is the instrument itself); ConfigError names those there are."""
        found: Any = self
        for part in name.split(".") if name else ():
            if part not in found.submodules:
                known = ", ".join(found.submodules) or "none (its parameters stand directly on it)"
                raise ConfigError(f"instrument {self.name!r} has no port {part!r}; ports: {known}")
            found = found.submodules[part]
        return found

    def sending(self, characters: int) -> float:
        """Seconds that a reply of so many characters is on its way: something on a serial line only."""
        return 10.0 * characters / self._session.link.baud_rate if self.serial else 0.0

    @property
    def serial(self) -> bool:
        """Whether it is reached through a serial line."""
        return self._session.address.upper().startswith("ASRL")

    def settings(self) -> Mapping[str, object]:
        """Settings as last set and read back; sends nothing."""
        return dict(self._settings)

    def note(self, **values: object) -> None:
        """Remember settings that were just set or read back."""
        self._settings.update(values)

    def fault(self, what: str) -> InstrumentError:
        """An InstrumentError that names this instrument and its address."""
        return InstrumentError(f"instrument {self.name!r} at {self._session.address} {what}")


class ScpiInstrument(BenchInstrument):
    """A BenchInstrument that speaks SCPI and has ``:SYST:ERR?``."""

    def exchange(
        self, *parts: str, doing: str, timeout: float | None = None, repeat: bool = True, anyway: bool = False
    ) -> list[str]:
        """Commands and queries as one message that ends by asking for errors; the replies of its queries. See ``inquire``.

        Raises InstrumentError in the error queue's own words.
        """
        expected = sum(part.split(" ")[0].endswith("?") for part in ";".join(parts).split(";"))

        def decode(reply: str) -> tuple[list[str], int]:
            fields = split_replies(reply)
            code = error_code(fields[-1])
            if code == 0 and len(fields) != expected + 1:
                raise ValueError(f"{reply[:60]!r}")
            return fields, code

        message = ";".join((*parts, ":SYST:ERR?"))
        fields, code = self.inquire(message, decode, doing, timeout=timeout, repeat=repeat, anyway=anyway)
        if code != 0:
            self.complain([error_text(fields[-1]), *self.errors()], doing, anyway and len(fields) == expected + 1)
        return fields[:-1]

    def confirm(self, command: str, query: str, wanted: float, doing: str, tolerance: float = 1e-3) -> float:
        """Set a number and read it back; InstrumentError if the instrument kept another."""
        (reply,) = self.exchange(command, query, doing=doing)
        kept = self.number(reply, doing)
        if abs(kept - wanted) > tolerance * max(abs(wanted), 1e-12):
            raise self.fault(f"answers {kept:g} to {query} after {command!r}")
        return kept

    def require_scpi(self) -> None:
        """InstrumentError where an instrument with several command sets has been left in another one."""
        spoken = self.converse("*LANG?", "asking for its command set").strip()
        if spoken.upper() != "SCPI":
            raise self.fault(f"understands {spoken} now; choose the command set SCPI in its settings menu, and restart it")

    def number(self, reply: str, doing: str) -> float:
        """A reply that has to be a number; InstrumentError otherwise."""
        try:
            return float(value_of(reply))
        except ValueError:
            raise self.fault(f"answered {reply[:60]!r} while {doing}, where a number was expected") from None

    def errors(self) -> list[str]:
        """Empty the error queue."""
        found: list[str] = []
        while len(found) < 64:
            reply = self._session.query(":SYST:ERR?")
            try:
                code = error_code(reply)
            except ValueError:
                raise self.fault(f"answered {reply[:60]!r} when it was asked for errors") from None
            if code == 0:
                break
            found.append(error_text(reply))
        return found


def finite(text: str) -> float:
    """A number that is one: ValueError for NaN, infinity, and the 9.9E37 that stands for them."""
    value = float(text)
    if not abs(value) < OVERFLOW:
        raise ValueError(f"{text[:20]!r} is no value")
    return value


def split_replies(text: str) -> list[str]:
    """The replies to the queries of one message, split at semicolons outside quotes."""
    parts, quoted, begin = [], False, 0
    for place, letter in enumerate(text):
        if letter == '"':
            quoted = not quoted
        elif letter == ";" and not quoted:
            parts.append(text[begin:place].strip())
            begin = place + 1
    if rest := text[begin:].strip():  # some end the last reply with a semicolon, too
        parts.append(rest)
    return parts


def value_of(reply: str) -> str:
    """A reply without an echoed header (``:SENS:PRES 1.0`` is ``1.0``)."""
    text = reply.strip()
    return text.split(" ", 1)[1].strip() if text.startswith((":", "*")) and " " in text else text


def error_code(reply: str) -> int:
    """Number of an error-queue entry; 0 is none."""
    return int(float(value_of(reply).split(",", 1)[0]))


def error_text(reply: str) -> str:
    """An error-queue entry as the user reads it."""
    return value_of(reply).replace('"', "").strip()


def number_setting(settings: Mapping[str, Setting], key: str, default: float | None) -> float | None:
    """A numeric setting or its default; ConfigError if it is no number."""
    value: Any = settings.get(key, default)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"setup {key!r} must be a number, not {value!r}")
    return float(value)


def smallest_range(ranges: Sequence[float], wanted: float, where: str) -> float:
    """The smallest of ``ranges`` (rising) that holds ``wanted``; ConfigError if none does."""
    for step in ranges:
        if step >= abs(wanted) * (1 - 1e-9):
            return step
    raise ConfigError(f"{where}: range {wanted:g} is above the largest, {ranges[-1]:g}; lower the `limits` or the `range`")


def refuse_unknown(settings: Mapping[str, Setting], known: tuple[str, ...], where: str) -> None:
    """ConfigError for a setting this port does not have."""
    for key in settings:
        if key not in known:
            raise ConfigError(f"{where} has no setting {key!r}; settings: {', '.join(known)}")
