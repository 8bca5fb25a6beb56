"""A resource that knows the whole conversation beforehand: any other word is a failure."""

from collections.abc import Sequence
from typing import Any

from pyvisa.constants import StatusCode
from pyvisa.errors import VisaIOError

from instruments.visa import Link, Session

Exchange = tuple[str, str | bytes | None]


class ScriptedResource:
    """Expects each message in turn and gives its reply; None is silence (a write, or a time-out when it is read)."""

    resource_name = "TCPIP0::192.0.2.1::5025::SOCKET"
    session = 1

    def __init__(self, script: Sequence[Exchange]) -> None:
        self.script = list(script)
        self.timeout: Any = 5000.0
        self.read_termination: Any = "\n"
        self.write_termination: Any = "\n"
        self.closed = False
        self._replies: list[str | bytes] = []

    def expect(self, *exchanges: Exchange) -> None:
        """More of the conversation."""
        self.script.extend(exchanges)

    def write(self, message: str) -> None:
        assert self.script, f"nothing more was to be said, but {message!r} was sent"
        wanted, reply = self.script.pop(0)
        assert message == wanted
        if reply is not None:
            self._replies.append(reply)

    def read(self) -> str:
        reply = self._next()
        return reply if isinstance(reply, str) else reply.decode("latin-1")

    def read_raw(self) -> bytes:
        reply = self._next()
        return reply.encode("latin-1") if isinstance(reply, str) else reply

    def read_bytes(self, count: int) -> bytes:
        reply = self.read_raw()
        assert len(reply) == count
        return reply

    def late(self, reply: str) -> None:
        """A reply that nobody waits for any more."""
        self._replies.insert(0, reply)

    def close(self) -> None:
        self.closed = True

    def _next(self) -> str | bytes:
        if not self._replies:
            raise VisaIOError(StatusCode.error_timeout)
        return self._replies.pop(0)


def scripted(name: str, link: Link, identity: str, *exchanges: Exchange) -> tuple[Session, ScriptedResource]:
    """A session whose identity was verified already, and its resource."""
    resource = ScriptedResource(exchanges)
    session = Session(name, resource.resource_name, resource, link)
    session.identity = identity
    return session, resource
