"""One listener per instrument (a socket on 127.0.0.1, or a pseudo-terminal), one thread per connection.

The lock of the plant is held while an instrument obeys a message, so that instruments act one after the other, as if each
command took no time but the time it asks for.
"""

import contextlib
import os
import select
import socket
import sys
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from hil.core.errors import ConfigError
from simulated_backend.virtual_bench.emulator import Emulator
from simulated_backend.virtual_bench.faults import LineFaults, Order
from simulated_backend.virtual_bench.traffic import Link, Traffic

HOST = "127.0.0.1"
_CHUNK = 65_536


class Line:
    """What travels between clients and one emulator, with the faults that were put on it. All use of it is under a lock."""

    def __init__(
        self, emulator: Emulator, plant_lock: AbstractContextManager[None], traffic: Traffic, faults: LineFaults
    ) -> None:
        self.emulator = emulator
        self.traffic = traffic
        self.faults = faults
        self.drop: Callable[[], None] = lambda: None
        self._plant_lock = plant_lock
        self._own_lock = threading.Lock()
        self._dead: set[int] = set()

    def inject(self, order: Order) -> None:
        """Put a fault on the line, now or when its messages have come; see ``faults``."""
        with self._own_lock:
            if order.after > 0:
                self.faults.waiting.append(order)
                return
        if order.fault in ("drop", "restart"):
            if order.fault == "restart":
                with self._own_lock, self._plant_lock:
                    self.emulator.power_on()
            with self._own_lock:
                self.faults.happened(order.fault)
            self.drop()
            return
        with self._own_lock, self._plant_lock:
            self.faults.begin(order)

    def heal(self) -> None:
        """No faults any more."""
        with self._own_lock:
            self.faults.heal()
            self._dead.clear()

    def obey(self, link: Link, buffer: bytearray, send: Callable[[bytes], None], wait: Callable[[float], None]) -> None:
        """Take the complete messages off ``buffer``, obey them in order and send the replies."""
        for message in self.emulator.frames(buffer):
            if self.emulator.asks(message):
                self.traffic.stand_back(link)
            with self._own_lock, self._plant_lock:
                reply, cut = self._obeyed(link, message)
            if cut:
                self.drop()
            if reply is None:
                continue
            link.busy = False
            if self.faults.lasting:
                reply = self._spoil(reply, wait)
            if reply:
                send(reply)
            link.busy = True
        link.busy = False

    def _obeyed(self, link: Link, message: bytes) -> tuple[bytes | None, bool]:
        """The reply (None: there is none, or it is lost), and whether all links end here."""
        for order in self.faults.due():
            if order.fault == "restart":
                self.faults.happened("restart")
                self.emulator.power_on()
                return None, True
            if order.fault == "drop":
                self.faults.happened("drop")
                if order.amount > 0:
                    self.emulator.receive(message)
                return None, True
            self.faults.begin(order)
        if link.number not in self._dead and self.faults.take("half_open"):
            if link.lazy:  # a serial line has no other link that could take its place: the message is lost
                return None, False
            self._dead.add(link.number)
        if link.number in self._dead:
            return None, False
        return self.emulator.receive(message), False

    def _spoil(self, reply: bytes, wait: Callable[[float], None]) -> bytes:
        delay = self.faults.lasting.pop("delay", 0.0)
        if delay > 0.0:
            wait(delay)
        if self.faults.take("silence"):
            return b""
        return b"\x15\xff#?" + reply[-1:] if self.faults.take("garbage") else reply

    def hang_up(self) -> None:
        """A client has left."""
        with self._own_lock, self._plant_lock:
            self.emulator.hang_up()


class Listener(ABC):
    """Accepts clients for one instrument."""

    address: str
    """VISA resource name."""

    @abstractmethod
    def start(self) -> None:
        """Begin to serve, in threads of its own."""

    @abstractmethod
    def drop(self) -> None:
        """Close every link to a client, without a word."""

    @abstractmethod
    def stop(self) -> None:
        """Stop serving; twice is fine."""


def receive_exactly(link: socket.socket, count: int) -> bytes:
    """``count`` bytes; OSError where the client leaves before."""
    data = bytearray()
    while len(data) < count:
        chunk = link.recv(min(count - len(data), _CHUNK))
        if not chunk:
            raise ConnectionResetError("the client has left")
        data += chunk
    return bytes(data)


class SocketListener(Listener):
    """TCP on a free port (or ``port``) of 127.0.0.1; at most ``clients`` at a time, further ones are turned away."""

    host = HOST

    def __init__(self, line: Line, port: int = 0, clients: int = 8) -> None:
        self._line = line
        self._clients = clients
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if os.name == "posix":  # elsewhere this option lets two programs share one port
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((HOST, port))
        except OSError as error:
            self._socket.close()
            raise ConfigError(f"{line.emulator.name!r} cannot listen on port {port} of {HOST}: {error}") from error
        self._socket.listen(8)
        self.port = int(self._socket.getsockname()[1])
        self.address = f"TCPIP0::{HOST}::{self.port}::SOCKET"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._leave = threading.Event()

    def start(self) -> None:
        """Accept clients in a thread."""
        threading.Thread(target=self._accept, name=f"{self._line.emulator.name} accept", daemon=True).start()

    def _accept(self) -> None:
        traffic = self._line.traffic
        door = traffic.join(self._socket.fileno())  # someone at the door counts as a message that has arrived
        while True:
            try:
                select.select([door.fd], [], [])
                door.busy = True
                link, _ = self._socket.accept()
            except (OSError, ValueError):
                break
            with self._lock:
                welcome = len(self._open) < self._clients
                if welcome:
                    self._open.add(link)
            if welcome:
                state = traffic.join(link.fileno())
                threading.Thread(target=self._serve, args=(link, state), name=self._line.emulator.name, daemon=True).start()
            else:
                link.close()
            door.busy = False
        traffic.leave(door)

    def _serve(self, link: socket.socket, state: Link) -> None:
        try:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.converse(link, state)
        except (OSError, ValueError):
            pass  # the client is gone, or the link was dropped on purpose
        finally:
            self._line.traffic.leave(state)
            with self._lock:
                self._open.discard(link)
            link.close()
            self.hang_up()

    def converse(self, link: socket.socket, state: Link) -> None:
        """Serve one client until it leaves; whatever its link raises then ends it, too. Here: messages as they are."""
        buffer = bytearray()
        while True:
            self.await_bytes(state)
            chunk = link.recv(_CHUNK)
            if not chunk:
                return
            buffer += chunk
            self._line.obey(state, buffer, link.sendall, self.wait)

    @staticmethod
    def await_bytes(state: Link) -> None:
        """Wait until there is something to read; from then on the link counts as busy."""
        select.select([state.fd], [], [])
        state.busy = True

    def obey_whole(self, state: Link, message: bytearray, send: Callable[[bytes], None], line: "Line | None" = None) -> None:
        """Obey a message whose end the transport tells, with or without a terminator of its own; it is taken off."""
        if not message.endswith((b"\n", b"\r")):
            message += b"\n"
        (line or self._line).obey(state, message, send, self.wait)

    def wait(self, seconds: float) -> None:
        """Let ``seconds`` of the machine's clock pass, less when serving ends."""
        self._leave.wait(seconds)

    def hang_up(self) -> None:
        """A client has left."""
        self._line.hang_up()

    def drop(self) -> None:
        """Reset every connection."""
        with self._lock:
            for link in self._open:
                with contextlib.suppress(OSError):
                    link.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Close the port and every connection."""
        self._leave.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.drop()


class SerialListener(Listener):
    """A pseudo-terminal that looks like a serial port (baud rate and parity are not imitated).

    Its address is a link of its own: the system gives a terminal's number to the next one, and a guard that still asks for the
    instruments of a bench that is gone would read what the other bench answers.
    """

    _line: Line
    _host: int
    _device: int
    _link: Path
    _leave: threading.Event

    def __init__(self, line: Line) -> None:
        if sys.platform == "win32":
            raise ConfigError(
                f"{line.emulator.name!r} asks for `transport: serial`, and this system has no pseudo-terminals; leave it out "
                f"in virtual.instruments.{line.emulator.name}, or write socket"
            )
        import pty
        import tty

        self._line = line
        self._host, self._device = pty.openpty()  # the device end stays open: else the host end fails between two clients
        tty.setraw(self._device)
        self._link = Path(tempfile.mkdtemp(prefix="virtual-serial-")) / line.emulator.name
        self._link.symlink_to(os.ttyname(self._device))
        self.address = f"ASRL{self._link}::INSTR"
        self._leave = threading.Event()

    def start(self) -> None:
        """Serve in a thread."""
        threading.Thread(target=self._serve, name=self._line.emulator.name, daemon=True).start()

    def _serve(self) -> None:
        buffer = bytearray()
        state = self._line.traffic.join(self._host, lazy=True)
        while not self._leave.is_set():
            try:
                select.select([self._host], [], [])
                state.busy = True
                buffer += os.read(self._host, _CHUNK)
            except (OSError, ValueError):
                break
            self._line.obey(state, buffer, self._send, self._wait)
        self._line.traffic.leave(state)

    def _send(self, reply: bytes) -> None:
        sent = 0
        while sent < len(reply):
            sent += os.write(self._host, reply[sent:])

    def _wait(self, seconds: float) -> None:
        self._leave.wait(seconds)

    def drop(self) -> None:
        """A serial line has no link that could be closed."""

    def stop(self) -> None:
        """Give the pseudo-terminal back."""
        if not self._leave.is_set():
            self._leave.set()
            self._link.unlink()
            self._link.parent.rmdir()
            os.close(self._device)
