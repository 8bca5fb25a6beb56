"""A Prologix GPIB-ETHERNET adapter with instruments on its bus.

Source: Prologix GPIB-ETHERNET Controller User Manual, version 1.6.6: lines that begin with ``++`` are for the adapter (section
8), everything else goes to the instrument at the present address. CR, LF, ESC and + inside a message are preceded by ESC
(section 7); an unescaped CR or LF ends a message. In ``++auto 0`` a reply comes when ``++read`` asks for it.

Imitated: addr, auto, eoi, eos, eot_char, eot_enable, mode, read, read_tmo_ms, clr, spoll (always 0), ver, rst, savecfg, ifc,
llo, loc, trg. Everything else: "Unrecognized command". Not imitated: device mode, service requests.
"""

import socket
from collections import deque
from collections.abc import Mapping

from simulated_backend.virtual_bench.server import Line, SocketListener
from simulated_backend.virtual_bench.traffic import Link

ESCAPE = 0x1B
_CHUNK = 65_536
_SETTINGS = {"auto": 0, "eoi": 1, "eos": 0, "eot_char": 0, "eot_enable": 0, "mode": 1, "read_tmo_ms": 500, "savecfg": 1}
_SILENT = ("ifc", "llo", "loc", "trg", "rst")
VERSION = "Prologix GPIB-ETHERNET Controller version 01.06.06.00"


class PrologixListener(SocketListener):
    """One adapter; ``lines`` by GPIB address. Every client has its own settings here, the real adapter has one client."""

    def __init__(self, lines: Mapping[int, Line], port: int = 0, clients: int = 8) -> None:
        super().__init__(next(iter(lines.values())), port, clients)
        self.lines = lines

    def address_of(self, gpib: int) -> str:
        """The address of the instrument at ``gpib``, as the VISA helper of ``instruments`` takes it."""
        return f"PRLGX-TCPIP0::{self.host}::{self.port}::GPIB::{gpib}"

    def converse(self, link: socket.socket, state: Link) -> None:
        """Lines in, replies out."""
        adapter = _Adapter(self, link, state)
        buffer = bytearray()
        while True:
            self.await_bytes(state)
            chunk = link.recv(_CHUNK)
            if not chunk:
                return
            buffer += chunk
            for message in split_lines(buffer):
                adapter.obey(message)
            state.busy = False

    def hang_up(self) -> None:
        """A client has left; so it has for every instrument."""
        for line in self.lines.values():
            line.hang_up()


def split_lines(buffer: bytearray) -> list[bytes]:
    """Take the complete lines off ``buffer``: ended by a CR or LF that no ESC precedes. Escapes stay; blanks are dropped."""
    found, begin, place = [], 0, 0
    while place < len(buffer):
        if buffer[place] == ESCAPE:
            place += 2
            continue
        if buffer[place] in b"\r\n":
            if place > begin:
                found.append(bytes(buffer[begin:place]))
            begin = place + 1
        place += 1
    del buffer[:begin]
    return found


def unescaped(message: bytes) -> bytes:
    """A message as the bus carries it."""
    plain, place = bytearray(), 0
    while place < len(message):
        place += message[place] == ESCAPE
        plain += message[place : place + 1]
        place += 1
    return bytes(plain)


class _Adapter:
    """The adapter as one client sees it: its settings, and what the instruments wait to say."""

    def __init__(self, listener: PrologixListener, link: socket.socket, state: Link) -> None:
        self._listener = listener
        self._link = link
        self._state = state
        self._settings = dict(_SETTINGS)
        self._address = 0
        self._replies: dict[int, deque[bytes]] = {gpib: deque() for gpib in listener.lines}

    def obey(self, message: bytes) -> None:
        """One line."""
        if message.startswith(b"++"):
            self._command(message[2:].decode("latin-1").split())
            return
        line = self._listener.lines.get(self._address)
        if line is None:
            return  # nobody listens at that address
        # Bytes reach the bus with EOI on the last one: that ends the message, whatever ++eos appends.
        whole = bytearray(unescaped(message))
        self._listener.obey_whole(self._state, whole, self._replies[self._address].append, line)
        self._state.busy = True
        if self._settings["auto"]:
            self._read()

    def _command(self, words: list[str]) -> None:
        name, values = (words[0].lower(), words[1:]) if words else ("", [])
        if name == "addr" and not values:
            self._say(str(self._address))
        elif name == "addr" and values[0].isdigit() and int(values[0]) <= 30:
            self._address = int(values[0])
        elif name in _SETTINGS and not values:
            self._say(str(self._settings[name]))
        elif name in _SETTINGS and values[0].isdigit():
            self._settings[name] = int(values[0])
        elif name == "read":
            self._read()
        elif name == "clr":
            self._replies.get(self._address, deque()).clear()
        elif name == "spoll":
            self._say("0")
        elif name == "ver":
            self._say(VERSION)
        elif name not in _SILENT:
            self._say("Unrecognized command")

    def _read(self) -> None:
        waiting = self._replies.get(self._address)
        if not waiting:
            # The bus is silent: the adapter gives up after its read time-out and says nothing.
            self._state.busy = False
            self._listener.wait(1e-3 * self._settings["read_tmo_ms"])
            return
        reply = waiting.popleft()
        if self._settings["eot_enable"]:
            reply += bytes([self._settings["eot_char"] & 0xFF])
        self._link.sendall(reply)

    def _say(self, text: str) -> None:
        self._link.sendall(text.encode("latin-1") + b"\r\n")
