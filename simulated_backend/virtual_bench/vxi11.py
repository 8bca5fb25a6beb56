"""VXI-11 as an instrument serves it, without a port mapper: the core channel on a port that the address names.

Sources: VXI-11 "TCP/IP Instrument Protocol", revision 1.0, section B (messages, flags, reasons, error codes, RPC definition
language); ONC RPC version 2 and its record marking, RFC 5531; XDR, RFC 4506.

Imitated: create_link, device_write, device_read, device_readstb (always 0), trigger, clear, remote, local, lock, unlock,
destroy_link. Everything else answers "operation not supported". No interrupt channel, no abort channel.
"""

import socket
import struct
from collections import deque
from collections.abc import Callable

from simulated_backend.virtual_bench.server import Line, SocketListener, receive_exactly
from simulated_backend.virtual_bench.traffic import Link

PROGRAM, VERSION = 0x0607AF, 1
LAST = 0x8000_0000
LARGEST = 1 << 20
"""Bytes of one device_write."""
CREATE_LINK, WRITE, READ, READ_STATUS, TRIGGER, CLEAR, REMOTE, LOCAL, LOCK, UNLOCK = range(10, 20)
DESTROY_LINK = 23
END_FLAG, TERMINATOR_FLAG = 0x08, 0x80
COUNT_REACHED, TERMINATOR_SEEN, END_SEEN = 1, 2, 4
NO_ERROR, UNKNOWN_LINK, NOT_SUPPORTED, TIMED_OUT = 0, 4, 8, 15
NOT_THE_PROGRAM, NO_SUCH_PROCEDURE, GARBAGE = 1, 3, 4


class Vxi11Listener(SocketListener):
    """Serves one instrument as ``inst0`` on a port of its own."""

    def __init__(self, line: Line, port: int = 0, clients: int = 8) -> None:
        super().__init__(line, port, clients)
        self.address = f"TCPIP0::{self.host},{self.port}::inst0::INSTR"

    def converse(self, link: socket.socket, state: Link) -> None:
        """Calls one after the other, each with its reply."""
        core = _Core(self, state)
        while True:
            self.await_bytes(state)
            try:
                answer = core.answer(_record(link))
            except struct.error as error:
                raise ConnectionResetError("that was no remote procedure call") from error
            state.busy = False
            link.sendall(struct.pack("!I", LAST | len(answer)) + answer)


def _record(link: socket.socket) -> bytes:
    """One record: fragments up to the one that is marked as the last."""
    record = b""
    while True:
        (mark,) = struct.unpack("!I", receive_exactly(link, 4))
        record += receive_exactly(link, mark & ~LAST)
        if mark & LAST:
            return record


class _Reader:
    """XDR off the front of a record; struct.error where it ends too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def unsigned(self, count: int = 1) -> tuple[int, ...]:
        """``count`` unsigned numbers of 4 bytes."""
        values = struct.unpack_from(f"!{count}I", self._data)
        self._data = self._data[4 * count :]
        return values

    def opaque(self) -> bytes:
        """Bytes with their length before them, filled up to a multiple of 4."""
        (length,) = self.unsigned()
        if length > len(self._data):
            raise struct.error("the record is shorter than it says")
        value = self._data[:length]
        self._data = self._data[(length + 3) // 4 * 4 :]
        return value


def _opaque(data: bytes) -> bytes:
    return struct.pack("!I", len(data)) + data + bytes(-len(data) % 4)


class _Core:
    """The core channel of one connection: its links, what was written, what waits to be read."""

    def __init__(self, listener: SocketListener, state: Link) -> None:
        self._listener = listener
        self._state = state
        self._links: dict[int, bytearray] = {}
        self._replies: deque[bytes] = deque()
        self._procedures: dict[int, Callable[[_Reader], bytes]] = {
            CREATE_LINK: self._create,
            WRITE: self._write,
            READ: self._read,
            READ_STATUS: lambda args: self._plain(args) + struct.pack("!I", 0),
            CLEAR: self._clear,
            DESTROY_LINK: self._destroy,
            **dict.fromkeys((TRIGGER, REMOTE, LOCAL, LOCK, UNLOCK), self._plain),
        }

    def answer(self, record: bytes) -> bytes:
        """The reply record of a call record (RFC 5531, section 9)."""
        reader = _Reader(record)
        number, _, _, program, version, procedure = reader.unsigned(6)
        for _ in range(2):  # credential and verifier: flavour and body, not looked at
            reader.unsigned()
            reader.opaque()
        accepted = struct.pack("!5I", number, 1, 0, 0, 0)
        if (program, version) != (PROGRAM, VERSION):
            return accepted + struct.pack("!I", NOT_THE_PROGRAM)
        if procedure == 0:
            return accepted + struct.pack("!I", 0)
        if procedure not in self._procedures:
            supported = 10 <= procedure <= 26
            return (
                accepted + struct.pack("!2I", 0, NOT_SUPPORTED) if supported else accepted + struct.pack("!I", NO_SUCH_PROCEDURE)
            )
        try:
            return accepted + struct.pack("!I", 0) + self._procedures[procedure](reader)
        except struct.error:
            return accepted + struct.pack("!I", GARBAGE)

    def _create(self, args: _Reader) -> bytes:
        args.unsigned(3)
        device = args.opaque().decode("latin-1").lower()
        if device not in ("inst0", ""):
            return struct.pack("!4I", 3, 0, 0, 0)  # device not accessible
        number = len(self._links) + 1
        self._links[number] = bytearray()
        return struct.pack("!4I", NO_ERROR, number, 0, LARGEST)

    def _write(self, args: _Reader) -> bytes:
        number, _, _, flags = args.unsigned(4)
        data = args.opaque()
        if number not in self._links:
            return struct.pack("!2I", UNKNOWN_LINK, 0)
        buffer = self._links[number]
        buffer += data
        if flags & END_FLAG:
            self._listener.obey_whole(self._state, buffer, self._replies.append)
        return struct.pack("!2I", NO_ERROR, len(data))

    def _read(self, args: _Reader) -> bytes:
        number, size, timeout, _, flags, terminator = args.unsigned(6)
        if number not in self._links:
            return struct.pack("!2I", UNKNOWN_LINK, 0) + _opaque(b"")
        if not self._replies:
            self._state.busy = False
            self._listener.wait(1e-3 * timeout)
            return struct.pack("!2I", TIMED_OUT, 0) + _opaque(b"")
        reply = self._replies.popleft()
        end, reason = min(size, len(reply)), 0
        if flags & TERMINATOR_FLAG:
            found = reply.find(terminator & 0xFF, 0, end)
            if found >= 0:
                end, reason = found + 1, TERMINATOR_SEEN
        if end == size:
            reason |= COUNT_REACHED
        if end == len(reply):
            reason |= END_SEEN
        else:
            self._replies.appendleft(reply[end:])
        return struct.pack("!2I", NO_ERROR, reason) + _opaque(reply[:end])

    def _plain(self, args: _Reader) -> bytes:
        (number,) = args.unsigned()
        return struct.pack("!I", NO_ERROR if number in self._links else UNKNOWN_LINK)

    def _clear(self, args: _Reader) -> bytes:
        self._replies.clear()
        for buffer in self._links.values():
            buffer.clear()
        return self._plain(args)

    def _destroy(self, args: _Reader) -> bytes:
        (number,) = args.unsigned()
        return struct.pack("!I", NO_ERROR if self._links.pop(number, None) is not None else UNKNOWN_LINK)
