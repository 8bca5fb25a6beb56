"""The guard's own way to an instrument: short, bounded, and without any driver.

A socket address is spoken to directly, because that is ready at once and depends on nothing; everything else goes through
VISA. ``LinkError`` is whatever goes wrong.
"""

import re
import socket
from functools import cache
from importlib import import_module
from typing import Any, Protocol

_SOCKET = re.compile(r"(?i)^TCPIP\d*::([^:]+)::(\d+)::SOCKET$")
CONNECT_TIMEOUT = 0.5


class LinkError(Exception):
    """The instrument cannot be reached, or does not answer."""


class Link(Protocol):
    """A fresh connection. ``pipelined``: whether a question may be sent before the last one is answered."""

    pipelined: bool

    def send(self, messages: list[str]) -> None:
        """Send messages, each with its terminator, in one go where the transport allows."""
        ...

    def line(self, timeout: float) -> str:
        """The next line that comes within ``timeout`` s."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


@cache
def visa_manager(visalib: str) -> Any:
    """VISA, found once: looking for its library takes a tenth of a second."""
    import pyvisa

    import_module("instruments.prologix")  # loaded now, because it will be needed in a hurry

    return pyvisa.ResourceManager(visalib)


def is_socket(address: str) -> bool:
    """Whether ``address`` is a plain TCP address."""
    return _SOCKET.match(address) is not None


def connect(plan: dict[str, Any]) -> Link:
    """Connect to the instrument of ``plan`` (keys: address, visalib, line settings); LinkError if it does not let us."""
    return SocketLink(plan) if is_socket(plan["address"]) else VisaLink(plan)


def release(plan: dict[str, Any]) -> None:
    """Ask an instrument that has a port for that purpose to drop links nobody uses any more."""
    port = plan.get("release_port")
    found = _SOCKET.match(plan["address"])
    if port and found:
        try:
            socket.create_connection((found.group(1), int(port)), CONNECT_TIMEOUT).close()
        except OSError:
            return  # it has no such port, or is not there: the next attempt to connect will tell


class SocketLink:
    """A TCP connection."""

    pipelined = True

    def __init__(self, plan: dict[str, Any]) -> None:
        found = _SOCKET.match(plan["address"])
        if found is None:
            raise LinkError(f"{plan['address']} is no socket address")
        self._write_end = str(plan["write_termination"])
        self._read_end = str(plan["read_termination"]).encode()
        self._buffer = b""
        try:
            self._socket = socket.create_connection((found.group(1), int(found.group(2))), CONNECT_TIMEOUT)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise LinkError(str(error)) from error

    def send(self, messages: list[str]) -> None:
        """One segment for all messages."""
        try:
            self._socket.sendall("".join(message + self._write_end for message in messages).encode("latin-1"))
        except OSError as error:
            raise LinkError(str(error)) from error

    def line(self, timeout: float) -> str:
        """The next line."""
        self._socket.settimeout(timeout)
        try:
            while self._read_end not in self._buffer:
                chunk = self._socket.recv(4096)
                if not chunk:
                    raise LinkError("the instrument has closed the link")
                self._buffer += chunk
        except OSError as error:
            raise LinkError(str(error) or "no answer in time") from error
        text, self._buffer = self._buffer.split(self._read_end, 1)
        return text.decode("latin-1")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class VisaLink:
    """Any other VISA resource."""

    def __init__(self, plan: dict[str, Any]) -> None:
        import pyvisa

        from instruments.prologix import AdaptedResource, is_adapted
        from instruments.serial_line import set_line

        address = plan["address"]
        self._serial = address.upper().startswith("ASRL")
        self.pipelined = self._serial  # elsewhere IEEE 488.2 has it that a new question takes the answer to the last away
        try:
            opener = visa_manager(plan["visalib"]).open_resource
            resource: Any = AdaptedResource(address, opener) if is_adapted(address) else opener(address)
            resource.read_termination = plan["read_termination"]
            resource.write_termination = plan["write_termination"]
            if self._serial:
                set_line(resource, plan)
                # What the dead program was still owed is not ours; an empty line ends whatever it had begun to write.
                resource.flush(pyvisa.constants.BufferOperation.discard_read_buffer)
                resource.write("")
        except Exception as error:  # pyvisa-py raises bare Exception when it cannot connect
            raise LinkError(str(error).split("\n")[0]) from error
        self._resource = resource

    def send(self, messages: list[str]) -> None:
        """One write for every message."""
        try:
            for message in messages:
                self._resource.write(message)
        except Exception as error:  # a dead link raises whatever its library likes, bare Exception included
            raise LinkError(str(error).split("\n")[0]) from error

    def line(self, timeout: float) -> str:
        """The next line."""
        try:
            self._resource.timeout = 1000.0 * timeout
            return str(self._resource.read())
        except Exception as error:  # see above
            raise LinkError(str(error).split("\n")[0]) from error

    def close(self) -> None:
        """Close the resource."""
        try:
            self._resource.close()
        except Exception:  # noqa: BLE001 - the link is given up in any case
            return
