"""What all drivers of this package share: a verified session under a QCoDeS instrument, and an error queue that is read."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from qcodes.instrument import VisaInstrument

from hil.core.errors import ConfigError, InstrumentError
from instruments.visa import Link, Session, open_session
from instruments.wiring import Setting

LINE_ENDINGS = {"lf": "\n", "cr": "\r", "crlf": "\r\n"}


def prepare(
    link: Link,
    name: str,
    address: str | None,
    session: Session | None,
    *,
    timeout: float | None,
    baud_rate: int | None,
    line_ending: str | None,
    visalib: str,
) -> Session:
    """The session a driver stands on: ``session`` if given (tests), otherwise opened at ``address`` and verified."""
    chosen = chosen_link(link, name, timeout=timeout, baud_rate=baud_rate, line_ending=line_ending)
    if session is not None:
        return session
    if address is None:
        raise ConfigError(f"instrument {name!r} has no address")
    return open_session(name, address, chosen, visalib=visalib)


def chosen_link(link: Link, name: str, *, timeout: float | None, baud_rate: int | None, line_ending: str | None) -> Link:
    """The link of a driver class with what the station says otherwise; ConfigError for an unknown line ending."""
    if line_ending is not None and line_ending not in LINE_ENDINGS:
        raise ConfigError(f"instrument {name!r}: line_ending must be one of {', '.join(LINE_ENDINGS)}, not {line_ending!r}")
    ending = None if line_ending is None else LINE_ENDINGS[line_ending]
    return replace(
        link,
        timeout=link.timeout if timeout is None else float(timeout),
        baud_rate=link.baud_rate if baud_rate is None else int(baud_rate),
        read_termination=link.read_termination if ending is None else ending,
        write_termination=link.write_termination if ending is None else ending,
    )


class BenchInstrument(VisaInstrument):
    """A QCoDeS instrument on a Session. Connecting sends nothing but the identity query.

    ``address`` or an open ``session``; ``timeout`` in s; ``baud_rate`` and ``line_ending`` (lf, cr, crlf) for serial lines.
    """

    link: ClassVar[Link]
    simultaneous: ClassVar[bool] = False
    concrete: ClassVar[bool] = False
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
        line_ending: str | None = None,
        visalib: str = "",
    ) -> None:
        self._session = prepare(
            self.link, name, address, session, timeout=timeout, baud_rate=baud_rate, line_ending=line_ending, visalib=visalib
        )
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

    def errors(self) -> list[str]:
        """Take everything out of the error queue; empty if there was nothing."""
        raise NotImplementedError

    def check_errors(self, after: str) -> None:
        """InstrumentError if the error queue holds anything; ``after`` says what was done."""
        found = self.errors()
        if found:
            raise self.fault(f"reported {'; '.join(found)} after {after}")

    def converse(self, message: str, doing: str, *, timeout: float | None = None) -> str:
        """One query; when no answer comes, the error queue is asked why. ``doing`` is what the user reads."""
        try:
            return self._session.query(message, timeout=timeout)
        except InstrumentError as error:
            # An instrument that stumbles over a message says nothing, but its queue knows.
            self._session.resynchronise()
            found = self.errors()
            raise self.fault(f"failed while {doing}: {'; '.join(found) or error}") from error

    def port(self, name: str) -> Any:
        """The port of that name ("" is the instrument itself); ConfigError names those there are."""
        found: Any = self
        for part in name.split(".") if name else ():
            if part not in found.submodules:
                known = ", ".join(found.submodules) or "none (its parameters stand directly on it)"
                raise ConfigError(f"instrument {self.name!r} has no port {part!r}; ports: {known}")
            found = found.submodules[part]
        return found

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

    def exchange(self, *parts: str, doing: str, timeout: float | None = None) -> list[str]:
        """Commands and queries as one message that ends by asking for errors; the replies of its queries.

        Raises InstrumentError in the error queue's own words.
        """
        fields = split_replies(self.converse(";".join((*parts, ":SYST:ERR?")), doing, timeout=timeout))
        if error_code(fields[-1]) != 0:
            first = error_text(fields[-1])
            raise self.fault(f"reported {'; '.join([first, *self.errors()])} after {doing}")
        return fields[:-1]

    def confirm(self, command: str, query: str, wanted: float, doing: str, tolerance: float = 1e-3) -> float:
        """Set a number and read it back; InstrumentError if the instrument kept another."""
        (reply,) = self.exchange(command, query, doing=doing)
        kept = float(value_of(reply))
        if abs(kept - wanted) > tolerance * max(abs(wanted), 1e-12):
            raise self.fault(f"answers {kept:g} to {query} after {command!r}")
        return kept

    def errors(self) -> list[str]:
        """Empty the error queue."""
        found: list[str] = []
        while len(found) < 64:
            reply = self._session.query(":SYST:ERR?")
            if error_code(reply) == 0:
                break
            found.append(error_text(reply))
        return found


def split_replies(text: str) -> list[str]:
    """The replies to the queries of one message, split at semicolons outside quotes."""
    parts, quoted, begin = [], False, 0
    for place, letter in enumerate(text):
        if letter == '"':
            quoted = not quoted
        elif letter == ";" and not quoted:
            parts.append(text[begin:place].strip())
            begin = place + 1
    parts.append(text[begin:].strip())
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


def refuse_unknown(settings: Mapping[str, Setting], known: tuple[str, ...], where: str) -> None:
    """ConfigError for a setting this port does not have."""
    for key in settings:
        if key not in known:
            raise ConfigError(f"{where} has no setting {key!r}; settings: {', '.join(known)}")
