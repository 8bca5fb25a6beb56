"""HiSLIP as an instrument serves it: IVI-6.1 "High-Speed LAN Instrument Protocol", revision 1.1, synchronized mode.

A client opens two TCP connections, the synchronous channel for messages and the asynchronous one for control (section 6.1). A
header is 16 bytes: ``HS``, type, control code, parameter (4 bytes), length of the payload (8 bytes), big-endian (table 3). The
message that ends with DataEND is complete, and a reply carries the identifier of the message that asked for it (section 3.1.2).

Imitated: Initialize, Data, DataEND, Trigger (ignored), device clear, locks (granted), status query (always 0), remote/local,
maximum message size, Error and FatalError. Not imitated: overlap mode, service requests, encryption.
"""

import socket
import struct
import threading
from dataclasses import dataclass, field

from simulated_backend.virtual_bench.server import Line, SocketListener, receive_exactly
from simulated_backend.virtual_bench.traffic import Link

HEADER = struct.Struct("!2sBBIQ")
VERSION = 0x0100
LONGEST = 1 << 24
"""Bytes of one message that the server takes."""

# Message types (IVI-6.1, table 4).
INITIALIZE, INITIALIZE_RESPONSE, FATAL_ERROR, ERROR = 0, 1, 2, 3
ASYNC_LOCK, ASYNC_LOCK_RESPONSE, DATA, DATA_END = 4, 5, 6, 7
DEVICE_CLEAR_COMPLETE, DEVICE_CLEAR_ACKNOWLEDGE = 8, 9
ASYNC_REMOTE_LOCAL, ASYNC_REMOTE_LOCAL_RESPONSE, TRIGGER = 10, 11, 12
ASYNC_MAX_SIZE, ASYNC_MAX_SIZE_RESPONSE = 15, 16
ASYNC_INITIALIZE, ASYNC_INITIALIZE_RESPONSE = 17, 18
ASYNC_DEVICE_CLEAR, ASYNC_STATUS_QUERY, ASYNC_STATUS_RESPONSE = 19, 21, 22
ASYNC_DEVICE_CLEAR_ACKNOWLEDGE, ASYNC_LOCK_INFO, ASYNC_LOCK_INFO_RESPONSE = 23, 24, 25

POORLY_FORMED, NO_CHANNELS, BAD_INITIALIZATION = 1, 2, 3
UNRECOGNIZED_TYPE, TOO_LARGE = 1, 4


@dataclass
class _Session:
    """One client: what it has sent of a message that is not complete, and the largest message it takes."""

    number: int
    synchronous: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    largest: int = LONGEST


class HiSlipListener(SocketListener):
    """Serves one instrument as ``hislip0`` on a port of its own."""

    def __init__(self, line: Line, port: int = 0, clients: int = 8) -> None:
        super().__init__(line, port, 2 * clients)  # two connections each
        self.address = f"TCPIP0::{self.host}::hislip0,{self.port}::INSTR"
        self._sessions: dict[int, _Session] = {}
        self._begun = 0
        self._sessions_lock = threading.Lock()

    def converse(self, link: socket.socket, state: Link) -> None:
        """One connection: the first message tells which channel it is."""
        session: _Session | None = None
        synchronous = False
        try:
            while True:
                self.await_bytes(state)
                kind, parameter, payload, fatal = _received(link)
                if fatal is not None:
                    _send(link, FATAL_ERROR, fatal)
                    return
                if session is None:
                    session, synchronous = self._begin(link, kind, parameter), kind == INITIALIZE
                    if session is None:
                        return
                elif synchronous:
                    self._obey_message(session, link, state, kind, parameter, payload)
                else:
                    _answer_control(session, link, kind, payload)
                state.busy = False
        finally:
            if session is not None and synchronous:
                with self._sessions_lock:
                    self._sessions.pop(session.number, None)

    def _begin(self, link: socket.socket, kind: int, parameter: int) -> _Session | None:
        with self._sessions_lock:
            if kind == INITIALIZE:
                self._begun += 1
                session = self._sessions[self._begun & 0xFFFF] = _Session(self._begun & 0xFFFF, link)
                _send(link, INITIALIZE_RESPONSE, 0, VERSION << 16 | session.number)
                return session
            found = self._sessions.get(parameter) if kind == ASYNC_INITIALIZE else None
        if found is None:
            _send(link, FATAL_ERROR, BAD_INITIALIZATION)
            return None
        _send(link, ASYNC_INITIALIZE_RESPONSE, 0, int.from_bytes(b"\0\0MH"))
        return found

    def _obey_message(self, session: _Session, link: socket.socket, state: Link, kind: int, number: int, payload: bytes) -> None:
        if kind in (DATA, DATA_END):
            session.buffer += payload
            if len(session.buffer) > LONGEST:
                session.buffer.clear()
                _send(link, ERROR, TOO_LARGE)
            elif kind == DATA_END:
                self.obey_whole(state, session.buffer, lambda reply: _reply(session, link, number, reply))
        elif kind == DEVICE_CLEAR_COMPLETE:
            session.buffer.clear()
            _send(link, DEVICE_CLEAR_ACKNOWLEDGE)
        elif kind != TRIGGER:
            _send(link, ERROR, UNRECOGNIZED_TYPE)


def _received(link: socket.socket) -> tuple[int, int, bytes, int | None]:
    """Type, parameter, payload of the next message; and the code of a fatal error, or None."""
    prologue, kind, _, parameter, length = HEADER.unpack(receive_exactly(link, HEADER.size))
    if prologue != b"HS" or length > LONGEST:
        return kind, parameter, b"", POORLY_FORMED
    return kind, parameter, receive_exactly(link, length), None


def _send(link: socket.socket, kind: int, control: int = 0, parameter: int = 0, payload: bytes = b"") -> None:
    link.sendall(HEADER.pack(b"HS", kind, control, parameter, len(payload)) + payload)


def _reply(session: _Session, link: socket.socket, number: int, reply: bytes) -> None:
    """A reply in as many messages as the client's largest size asks for."""
    room = max(1, session.largest - HEADER.size)
    while len(reply) > room:
        _send(link, DATA, 0, number, reply[:room])
        reply = reply[room:]
    _send(link, DATA_END, 0, number, reply)


def _answer_control(session: _Session, link: socket.socket, kind: int, payload: bytes) -> None:
    """The asynchronous channel."""
    if kind == ASYNC_MAX_SIZE and len(payload) == 8:
        session.largest = min(LONGEST, int.from_bytes(payload))
        _send(link, ASYNC_MAX_SIZE_RESPONSE, payload=LONGEST.to_bytes(8))
        return
    answers = {
        ASYNC_LOCK: (ASYNC_LOCK_RESPONSE, 1),
        ASYNC_LOCK_INFO: (ASYNC_LOCK_INFO_RESPONSE, 0),
        ASYNC_REMOTE_LOCAL: (ASYNC_REMOTE_LOCAL_RESPONSE, 0),
        ASYNC_STATUS_QUERY: (ASYNC_STATUS_RESPONSE, 0),
        ASYNC_DEVICE_CLEAR: (ASYNC_DEVICE_CLEAR_ACKNOWLEDGE, 0),
    }
    if kind in answers:
        _send(link, *answers[kind])
    else:
        _send(link, ERROR, UNRECOGNIZED_TYPE)
