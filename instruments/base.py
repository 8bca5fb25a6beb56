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
    if line_ending is not None and line_ending not in LINE_ENDINGS:
        raise ConfigError(f"instrument {name!r}: line_ending must be one of {', '.join(LINE_ENDINGS)}, not {line_ending!r}")
    if session is not None:
        return session
    if address is None:
        raise ConfigError(f"instrument {name!r} has no address")
    ending = None if line_ending is None else LINE_ENDINGS[line_ending]
    chosen = replace(
        link,
        timeout=link.timeout if timeout is None else float(timeout),
        baud_rate=link.baud_rate if baud_rate is None else int(baud_rate),
        read_termination=link.read_termination if ending is None else ending,
        write_termination=link.write_termination if ending is None else ending,
    )
    return open_session(name, address, chosen, visalib=visalib)


class BenchInstrument(VisaInstrument):
    """A QCoDeS instrument on a Session. Connecting sends nothing but the identity query.

    ``address`` or an open ``session``; ``timeout`` in s; ``baud_rate`` and ``line_ending`` (lf, cr, crlf) for serial lines.
    """

    link: ClassVar[Link]
    simultaneous: ClassVar[bool] = False

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

    def settings(self) -> Mapping[str, object]:
        """Settings as last set and read back; sends nothing."""
        return dict(self._settings)

    def note(self, **values: object) -> None:
        """Remember settings that were just set or read back."""
        self._settings.update(values)

    def fault(self, what: str) -> InstrumentError:
        """An InstrumentError that names this instrument and its address."""
        return InstrumentError(f"instrument {self.name!r} at {self._session.address} {what}")


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
