"""One VISA session to one instrument: verified identity, one lock, one error type, and never an old reply to a new question.

Why this exists, all of it measured with PyVISA-py 0.8: Nagle's algorithm delays a write before a query by 44 ms; a refused
port opens without complaint; a device clear on a peer that accepts and then closes never returns; after a timeout the late
reply answers the next question; two threads on one session receive each other's replies.
"""

import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, TypeVar

import pyvisa
from pyvisa.constants import BufferOperation
from pyvisa.ctwrapper.highlevel import IVIVisaLibrary
from pyvisa.errors import Error as PyvisaError

from hil.core.errors import ConfigError, InstrumentError
from instruments.prologix import AdaptedResource, is_adapted
from instruments.serial_line import USUAL, set_line

T = TypeVar("T")

# What a link can throw: pyvisa, sockets and serial ports (OSError), undecodable bytes, pyvisa-py's bare errors on a closed link
# (its HiSLIP says RuntimeError).
LINK_ERRORS = (PyvisaError, OSError, UnicodeError, ValueError, AttributeError, RuntimeError)


class Resource(Protocol):
    """What a session needs of a pyvisa message-based resource (a scripted one will do in tests)."""

    timeout: Any
    read_termination: Any
    write_termination: Any

    @property
    def resource_name(self) -> Any:
        """VISA address."""
        ...

    def write(self, message: str) -> Any:
        """Send one message with its terminator."""
        ...

    def read(self) -> str:
        """Receive one message without its terminator."""
        ...

    def read_raw(self) -> bytes:
        """Receive one message as it came."""
        ...

    def read_bytes(self, count: int) -> bytes:
        """Receive exactly ``count`` bytes."""
        ...

    def close(self) -> None:
        """End the link."""
        ...


@dataclass(frozen=True, slots=True)
class Link:
    """How to talk to one kind of instrument.

    ``identity``: regular expression the reply to ``identify`` must match; its first group, if it has one, is what tells
    instruments apart. ``baud_rate`` and the rest are for serial addresses only. Times in seconds.
    """

    identity: str
    identify: str = "*IDN?"
    read_termination: str = "\n"
    write_termination: str = "\n"
    timeout: float = 5.0
    first_timeout: float = 5.0
    baud_rate: int = 9600
    data_bits: int = 8
    parity: str = "none"
    stop_bits: int = 1
    flow_control: str = "none"
    reader: Callable[[Resource], str] | None = None
    """Takes one reply off the line, for instruments whose replies end in no terminator of their own."""
    greeting: str = ""
    """Regular expression of what is said instead of the identity when the instrument has just been switched on, once."""

    def recognise(self, reply: str) -> str | None:
        """Who says ``reply``: the first group of ``identity``, or the whole reply where it has none. None: somebody else."""
        found = re.search(self.identity, reply)
        return None if found is None else found.group(1) if found.re.groups else reply

    def receive(self, resource: Resource) -> str:
        """One reply."""
        return resource.read() if self.reader is None else self.reader(resource)


class Session:
    """All traffic with one instrument. Every method raises InstrumentError with name, address and what to do.

    ``reopen`` gives a fresh resource when the link is dead.
    """

    def __init__(self, name: str, address: str, resource: Resource, link: Link) -> None:
        self.name = name
        self.address = address
        self.resource = resource
        self.link = link
        self.identity = ""
        self.lock = threading.RLock()
        self.failed = False
        self.notice: Callable[[str], None] = lambda _: None
        """Told a sentence about every trouble that was overcome."""
        # True while a reply is owed: a Ctrl-C or an error in between leaves it set, and the next use cleans up first.
        self._owed = False
        # How often the identity was asked for on this line without an answer so far: a serial port that is opened anew is the
        # line it was, and an instrument that was only slow answers them all.
        self._unanswered = 0

    def write(self, message: str) -> None:
        """Send ``message``."""
        with self.lock:
            try:
                if self._owed:
                    self.resynchronise()
                self.resource.write(message)
            except InstrumentError:
                self.failed = True
                raise
            except LINK_ERRORS as error:
                raise self.told(message, error) from error

    def query(self, message: str, *, timeout: float | None = None) -> str:
        """Send ``message``, return the reply; ``timeout`` in s where it takes longer than usual."""
        return self._ask(message, self.link.receive, timeout)

    def query_bytes(self, message: str, count: int, *, timeout: float | None = None) -> bytes:
        """Send ``message``, return exactly ``count`` bytes of reply, whatever bytes they are."""
        return self._ask(message, lambda resource: resource.read_bytes(count), timeout)

    def _ask(self, message: str, receive: Callable[[Resource], T], timeout: float | None) -> T:
        # Plain try blocks: this is the path of every reading, and a context manager costs as much as a system call.
        with self.lock:
            previous = None
            try:
                if timeout is not None:
                    previous, self.resource.timeout = self.resource.timeout, 1000.0 * timeout
                if self._owed:
                    self.resynchronise()
                self._owed = True
                self.resource.write(message)
                reply = receive(self.resource)
                self._owed = False
                return reply
            except InstrumentError:
                self.failed = True
                raise
            except LINK_ERRORS as error:
                raise self.told(message, error) from error
            finally:
                if previous is not None:
                    with suppress(*LINK_ERRORS):
                        self.resource.timeout = previous

    def verify(self) -> str:
        """Ask for the identity and compare; the instrument's own text."""
        timeout = self.link.first_timeout
        reply = self.query(self.link.identify, timeout=timeout).strip()
        if self.link.greeting and re.search(self.link.greeting, reply):
            self.resynchronise()  # it may have been said unasked, and be the answer, too
            reply = self.query(self.link.identify, timeout=timeout).strip()
        found = self.link.recognise(reply)
        if found is None:
            self.failed = True
            raise InstrumentError(
                f"instrument {self.name!r} at {self.address} answers as {reply[:80]!r}, but something matching "
                f"{self.link.identity!r} was expected; check the address and the type in the station"
            )
        self.identity = found
        return found

    def resynchronise(self) -> None:
        """Throw away late replies until the instrument answers its identity; reopens a dead link once.

        Raises InstrumentError if it cannot.
        """
        with self.lock:
            self._owed = False
            if not self._resynchronised():
                self._reopen()
                if not self._resynchronised():
                    self._owed = True
                    raise InstrumentError(self._sentence("does not answer any more; check power and cable"))
            self.failed = False

    def close(self) -> None:
        """End the link without sending anything."""
        with self.lock, suppress(*LINK_ERRORS):
            self.resource.close()

    @property
    def _serial(self) -> bool:
        return self.address.upper().startswith("ASRL")

    def _resynchronised(self) -> bool:
        """Whether the identity came, as often as it was asked for: what is left on the line would answer the next question."""
        previous = self.resource.timeout
        seen = False
        try:
            self._flush()
            self.resource.timeout = 1000.0 * self.link.first_timeout
            self.resource.write(self.link.identify)
            self._unanswered += 1
            # Replies come in order: what precedes the identity is late and not wanted.
            for _ in range(32):
                if self.link.reader is None:
                    reply = self.resource.read_raw().decode("latin-1").strip()
                else:
                    reply = self.link.reader(self.resource).strip()
                    if self.link.greeting and re.search(self.link.greeting, reply):
                        self.resource.write(self.link.identify)
                        self._unanswered += 1
                found = self.link.recognise(reply)
                if found is not None and found == (self.identity or found):
                    seen = True
                    self._unanswered -= 1
                    if self._unanswered <= 0:
                        return True
        except LINK_ERRORS:
            if seen:
                self._unanswered = 0  # the others were lost
            return seen
        finally:
            with suppress(*LINK_ERRORS):
                self.resource.timeout = previous
        return False

    def _flush(self) -> None:
        flush = getattr(self.resource, "flush", None)
        if flush is not None and self._serial:
            flush(BufferOperation.discard_read_buffer)

    def _reopen(self) -> None:
        reopen = getattr(self.resource, "open", None)
        if reopen is None:
            return
        with suppress(*LINK_ERRORS):
            previous = self.resource.timeout
            self.resource.close()
            reopen()
            if not self._serial:
                self._unanswered = 0
            configure(self.resource, self.address, self.link)
            self.resource.timeout = previous

    def told(self, message: str, error: BaseException) -> InstrumentError:
        """What went wrong with ``message``, as the one type of error there is."""
        self.failed = True
        text = str(error).split("\n")[0]
        return InstrumentError(self._sentence(f"did not complete {message[:60]!r} ({text}); check power, cable and address"))

    def _sentence(self, what: str) -> str:
        return f"instrument {self.name!r} at {self.address} {what}"


def configure(resource: Resource, address: str, link: Link) -> None:
    """Terminators, timeout and transport settings of a fresh resource; nothing is sent."""
    resource.read_termination = link.read_termination
    resource.write_termination = link.write_termination
    resource.timeout = 1000.0 * link.timeout
    if link.reader is not None:
        framed: Any = resource
        framed.encoding = "latin-1"  # every byte means itself
    if address.upper().startswith("ASRL"):
        set_line(resource, {name: getattr(link, name) for name in ("baud_rate", *USUAL)})
    elif address.upper().endswith("::SOCKET"):
        _tend(resource)


class _Attentive(socket.socket):
    """Says at once that the other side has closed. PyVISA-py reads on until its time-out, and keeps a processor busy with it."""

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """As of any socket, but ConnectionResetError in place of no bytes."""
        received = super().recv(bufsize, flags)
        if not received:
            raise ConnectionResetError("the other side has closed the connection")
        return received


def _tend(resource: Resource) -> None:
    """Switch off Nagle's algorithm, notice the end of a link: NI-VISA does so itself, pyvisa-py does not, its socket can."""
    live: Any = resource
    sessions = getattr(getattr(live, "visalib", None), "sessions", None)
    if isinstance(sessions, dict):
        link = sessions.get(live.session)
        connection = getattr(link, "interface", None)
        if link is not None and isinstance(connection, socket.socket) and not isinstance(connection, _Attentive):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            patience = connection.gettimeout()
            link.interface = _Attentive(fileno=connection.detach())
            link.interface.settimeout(patience)


@cache
def _library(visalib: str) -> str:
    """``visalib``, or the installed VISA where there is one; looking for it takes a quarter of a second every time."""
    return visalib or ("" if IVIVisaLibrary.get_library_paths() else "@py")


def _open_resource(address: str, visalib: str) -> Resource:
    manager = pyvisa.ResourceManager(_library(visalib))

    def opened(plain: str) -> Any:
        link: Any = manager.open_resource(plain)
        if plain.upper().endswith("::SOCKET"):
            _tend(link)
        return link

    resource: Resource = AdaptedResource(address, opened) if is_adapted(address) else opened(address)
    return resource


def require_known_library(name: str, visalib: object) -> None:
    """ConfigError for a ``visalib`` of instrument ``name`` that is a path, or names a package: PyVISA would run its code."""
    if visalib not in ("", "@py", "@ivi"):
        raise ConfigError(
            f"instrument {name!r}: option 'visalib' is {visalib!r}, and a file must not name code to load; leave it out, or "
            "write @py or @ivi (where a maker's VISA library lies stands in PyVISA's own settings, ~/.pyvisarc)"
        )


def open_session(
    name: str, address: str, link: Link, *, visalib: str = "", opener: Callable[[str, str], Resource] = _open_resource
) -> Session:
    """Open ``address``, verify who answers, and return the session. Nothing but the identity query is sent.

    ``visalib``: "" for the installed VISA, "@py" for the pure Python one. Raises InstrumentError.
    """
    require_known_library(name, visalib)
    try:
        resource = opener(address, visalib)
    except Exception as error:  # pyvisa-py raises bare Exception when it cannot connect
        text = str(error).split("\n")[0]
        raise InstrumentError(
            f"instrument {name!r}: {address} cannot be opened ({text}); check address, cable and power, "
            "and that no other program holds it"
        ) from error
    session = Session(name, address, resource, link)
    try:
        try:
            configure(resource, address, link)
        except LINK_ERRORS as error:
            raise session.told("the line settings", error) from error
        session.verify()
    except BaseException:
        session.close()
        raise
    return session
