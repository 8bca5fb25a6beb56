"""Instruments on a GPIB bus behind a Prologix GPIB-ETHERNET adapter: ``PRLGX-TCPIP0::HOST::PORT::GPIB::ADDRESS``.

The adapter is a plain TCP socket to VISA, so any VISA will do. Source: Prologix GPIB-ETHERNET Controller User Manual, version
1.6.6, sections 7 (ESC before CR, LF, ESC and + inside a message) and 8 (``++`` commands). All instruments behind one adapter
share its one link: it knows one address at a time, and takes one client.
"""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

from pyvisa.constants import StatusCode
from pyvisa.errors import Error as PyvisaError

_ADDRESS = re.compile(r"(?i)^PRLGX-TCPIP\d*::([^:]+)::(\d+)::GPIB::(\d+)$")
SETUP = ("++savecfg 0", "++mode 1", "++auto 0", "++eoi 1", "++eos 3", "++eot_enable 0")
"""Nothing that follows is written to its memory, which wears out (first, because it writes at every change until then);
controller; replies on demand; EOI ends messages both ways, nothing is appended."""
BUS_PATIENCE = 3000
"""ms; the longest read time-out that the adapter knows."""
MARGIN = 200
"""ms that its silence is waited for beyond its end: a read that the adapter has not given up would take the next reply."""


def is_adapted(address: str) -> bool:
    """Whether ``address`` names an instrument behind an adapter."""
    return _ADDRESS.match(address.strip()) is not None


class _Adapter:
    """The one link to one adapter; closed when the last instrument behind it is."""

    open: ClassVar[dict[str, "_Adapter"]] = {}
    """The adapters of this process, by socket address."""
    _registry_lock = threading.Lock()

    def __init__(self, address: str, link: Any) -> None:
        self.address = address
        self.link = link
        self.lock = threading.RLock()
        self.users = 0
        self.listening: int | None = None
        self.patience = 0
        link.write_termination, link.read_termination = "\n", "\n"
        for command in SETUP:
            link.write(command)

    @classmethod
    def joined(cls, address: str, opener: Callable[[str], Any]) -> "_Adapter":
        with cls._registry_lock:
            if address not in cls.open:
                cls.open[address] = cls(address, opener(address))
            adapter = cls.open[address]
            adapter.users += 1
            return adapter

    def leave(self) -> None:
        """One instrument less."""
        with self._registry_lock:
            self.users -= 1
            if self.users == 0:
                self._forgotten()
                with suppress(PyvisaError, OSError):  # a dead link need not be closed politely
                    self.link.close()

    def _forgotten(self) -> None:
        if self.open.get(self.address) is self:
            del self.open[self.address]

    @contextmanager
    def used(self, gpib: int) -> Iterator[None]:
        """The bus for one transfer with the instrument at ``gpib``. A link that breaks is nobody's any more.

        An instrument that says nothing in time leaves the link as it is: others behind the adapter may be well.
        """
        with self.lock:
            try:
                self.listen(gpib)
                yield
            except (PyvisaError, OSError) as error:
                if getattr(error, "error_code", None) != StatusCode.error_timeout:
                    with self._registry_lock:
                        self._forgotten()
                raise

    def listen(self, gpib: int) -> None:
        """Speak to the instrument at ``gpib`` from now on."""
        if self.listening != gpib:
            self.link.write(f"++addr {gpib}")
            self.listening = gpib

    def received(self, take: Callable[[], bytes], timeout: float) -> bytes:
        """What the instrument says within ``timeout`` ms: it is asked to talk again where the adapter has given up before."""
        left = max(timeout, 1.0)
        while True:
            piece = min(left, BUS_PATIENCE)
            left -= piece
            if self.patience != round(piece):
                self.patience = round(piece)
                self.link.write(f"++read_tmo_ms {max(self.patience, 1)}")
            self.link.timeout = piece + MARGIN
            self.link.write("++read eoi")
            try:
                return bytes(take())
            except PyvisaError as error:
                if left <= 0.0 or getattr(error, "error_code", None) != StatusCode.error_timeout:
                    raise


class AdaptedResource:
    """One instrument behind an adapter, with as much of a pyvisa resource as a session needs. ``opener`` opens an address."""

    def __init__(self, address: str, opener: Callable[[str], Any]) -> None:
        found = _ADDRESS.match(address.strip())
        if found is None:
            raise ValueError(f"{address!r} is no address of the form PRLGX-TCPIP0::HOST::PORT::GPIB::ADDRESS")
        self._socket_address = f"TCPIP0::{found.group(1)}::{found.group(2)}::SOCKET"
        self._gpib = int(found.group(3))
        self._opener = opener
        self._name = address
        self.timeout: Any = 5000.0
        self.read_termination: Any = "\n"
        self.write_termination: Any = "\n"
        self._adapter: _Adapter | None = None
        self.open()

    @property
    def session(self) -> Any:
        """Number of the VISA session underneath; None when it is closed."""
        return None if self._adapter is None else self._adapter.link.session

    @property
    def resource_name(self) -> Any:
        """VISA-like address."""
        return self._name

    def open(self) -> None:
        """Join the adapter, or make its link."""
        self._adapter = _Adapter.joined(self._socket_address, self._opener)

    def write(self, message: str) -> int:
        """Send one message to the instrument."""
        text = message.encode("latin-1")
        for special in (b"\x1b", b"\n", b"\r", b"+"):
            text = text.replace(special, b"\x1b" + special)
        adapter = self._joined()
        with adapter.used(self._gpib):
            adapter.link.write_raw(text + b"\n")
        return len(text)

    def read(self) -> str:
        """One message without its terminator."""
        return self.read_raw().decode("latin-1").removesuffix(self.read_termination or "")

    def read_raw(self) -> bytes:
        """One message as it came."""
        adapter = self._joined()
        with adapter.used(self._gpib):
            return adapter.received(adapter.link.read_raw, self.timeout)

    def read_bytes(self, count: int) -> bytes:
        """Exactly ``count`` bytes."""
        adapter = self._joined()
        with adapter.used(self._gpib):
            return adapter.received(lambda: adapter.link.read_bytes(count), self.timeout)

    def close(self) -> None:
        """Leave the adapter; twice is fine."""
        adapter, self._adapter = self._adapter, None
        if adapter is not None:
            adapter.leave()

    def _joined(self) -> _Adapter:
        if self._adapter is None:
            raise OSError(f"{self._name} has been closed")
        return self._adapter
