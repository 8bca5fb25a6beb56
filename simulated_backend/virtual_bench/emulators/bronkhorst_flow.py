"""Bronkhorst liquid flow controllers (mini CORI-FLOW and relatives), from the RS-232/ProPar manual (917.027).

Imitated: the ASCII and the binary form of ProPar, single and chained parameters, requests, writes with and without status,
measure and set-point in 1/32000 of the capacity, capacity with its unit, identification, an error within 0.2 % of the reading
drawn from the seed; the counter (process 104): off, upwards, or up to its limit, where the set-point becomes 0 if that was asked
for; the control mode, and that set-points from here are followed in two of them only. Options: ``full_scale`` (m^3/s at 100 %),
``unit`` (of the capacity as told), ``counter_unit``; ``control_mode``, ``slope`` (of the set-point, 0.1 s; told only) and
``node`` (what it answers with), as found. Not imitated: settling of the flow, other set-points at the limit, alarms, what other
control modes follow instead, fluids, the other parameters of the manual. What a counter forgets without power the manual does
not say: here everything.
"""

import struct
from collections.abc import Iterator, Mapping
from math import inf, isfinite
from typing import ClassVar

import numpy as np

from hil.core.errors import ConfigError
from simulated_backend.virtual_bench.emulator import Emulator
from simulated_backend.virtual_bench.ports import PlantView

UNITS: Mapping[str, float] = {"ul/min": 1e-9 / 60.0, "ml/min": 1e-6 / 60.0, "ml/h": 1e-6 / 3600.0, "l/h": 1e-3 / 3600.0}
VOLUMES: Mapping[str, float] = {"ul": 1e-9, "ml": 1e-6, "l": 1e-3}
COUNTER = 104
TO_LIMIT = 2
NODE = 0x80
FULL = 32000
HIGHEST = 41942
"""Largest count of a measurement (131 %); what is above stands for negative flow."""
ERROR = 2e-3
STATUS, WRITE, SEND, REQUEST = 0, 1, 2, 4
INT8, INT16, INT32, STRING = 0x00, 0x20, 0x40, 0x60
SIZES = {INT8: 1, INT16: 2, INT32: 4}
OK, NO_PROCESS, NO_PARAMETER, WRONG_TYPE, WRONG_VALUE, READ_ONLY = 0, 3, 4, 5, 6, 13
LISTENING = (0, 18)
_AS_FOUND: dict[str, object] = {"control_mode": 0, "slope": 0, "node": 0x80}
DLE, STX, ETX = 0x10, 0x02, 0x03


class _StatusError(Exception):
    """A status that is not 0, and the place in the message that it is about."""

    def __init__(self, status: int, place: int) -> None:
        self.status, self.place = status, place


class BronkhorstFlow(Emulator):
    """One controller, node 128."""

    models: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "BronkhorstFlow": {"full_scale": 100e-6 / 3600.0, "unit": "ml/h", "serial": "M24200123A", "counter_unit": "ml"}
        | _AS_FOUND
    }
    transport = "serial"

    def __init__(self, name: str, plant: PlantView, options: Mapping[str, object], rng: np.random.Generator) -> None:
        super().__init__(name, plant, options, rng)
        if options["unit"] not in UNITS:
            raise ConfigError(f"option 'unit' of {name!r} must be one of {', '.join(UNITS)}, not {options['unit']!r}")
        if options["counter_unit"] not in VOLUMES:
            raise ConfigError(
                f"option 'counter_unit' of {name!r} must be one of {', '.join(VOLUMES)}, not {options['counter_unit']!r}"
            )
        self._volume = VOLUMES[str(options["counter_unit"])]
        self._mode, self._node = (round(self.number(key)) for key in ("control_mode", "node"))
        self._port = plant.flow(name, "")
        self._error = 0.0 if plant.ideal else float(rng.uniform(-ERROR, ERROR))
        self.power_on()

    def power_on(self) -> None:
        """Set-point 0, counter off and at 0."""
        self._count = self._afterwards = 0
        self._counted, self._limit = 0.0, 0.0
        self._counter_mode = self._changes = 0
        self._port.set_flow(0.0)
        self._seen = self._port.delivered()

    def asks(self, message: bytes) -> bool:
        """Nearly every message is answered."""
        return True

    # Framing -------------------------------------------------------------------------------------------------------

    def frames(self, buffer: bytearray) -> list[bytes]:
        """ASCII messages (from the colon to LF) and binary ones (DLE STX to DLE ETX); anything between them is dropped."""
        found = []
        while buffer:
            if buffer[0] == ord(":"):
                end = buffer.find(b"\n") + 1
            elif buffer[0] == DLE:
                end = _binary_end(buffer)
            else:
                del buffer[:1]
                continue
            if end == 0:
                break
            found.append(bytes(buffer[:end]))
            del buffer[:end]
        return found

    def receive(self, message: bytes) -> bytes | None:
        """One message of either form."""
        if message[:1] == b":":
            try:
                content = bytes.fromhex(message[1:].decode("latin-1").strip())
            except ValueError:
                return b":0101\r\n"
            if len(content) < 3 or content[0] != len(content) - 1:
                return b":0103\r\n"
            reply = self._obey(content[1], content[2:])
            if reply is None:
                return None
            return b":" + bytes([len(reply) + 1, self._node, *reply]).hex().upper().encode() + b"\r\n"
        content = message[2:-2].replace(b"\x10\x10", b"\x10")
        if len(content) < 4:
            return None
        reply = self._obey(content[1], content[3:])
        if reply is None:
            return None
        body = bytes([content[0], self._node, len(reply), *reply]).replace(b"\x10", b"\x10\x10")
        return bytes([DLE, STX]) + body + bytes([DLE, ETX])

    # Language ------------------------------------------------------------------------------------------------------

    def _obey(self, node: int, data: bytes) -> bytes | None:
        if node not in (NODE, self._node, 0):
            return None
        self._look()
        command = data[0]
        try:
            if command == REQUEST:
                return bytes([SEND]) + self._requested(data[1:])
            if command in (WRITE, SEND):
                self._write(data)
                return bytes([STATUS, OK, len(data)]) if command == WRITE else None
        except _StatusError as problem:
            return bytes([STATUS, problem.status, problem.place])
        except (IndexError, struct.error):
            return bytes([STATUS, WRONG_VALUE, len(data)])
        return bytes([STATUS, 2, 0])

    def _requested(self, data: bytes) -> bytes:
        answer = bytearray()
        place = 0
        more_processes = True
        while more_processes:
            more_processes = bool(data[place] & 0x80)
            answer.append(data[place])
            place += 1
            more = True
            while more:
                index, process, parameter = data[place : place + 3]
                more = bool(index & 0x80)
                kind = parameter & 0x60
                place += 3
                length = 0
                if kind == STRING:
                    length = data[place]
                    place += 1
                answer.append(index)
                answer += self._value(process & 0x7F, parameter & 0x1F, kind, length, place)
        return bytes(answer)

    def _value(self, process: int, parameter: int, kind: int, length: int, place: int) -> bytes:
        value = self._table().get((process, parameter))
        if value is None:
            raise _StatusError(NO_PARAMETER if process in (1, 33, COUNTER, 113) else NO_PROCESS, place)
        if kind == STRING:
            if not isinstance(value, str):
                raise _StatusError(WRONG_TYPE, place)
            text = value.encode("latin-1")
            return bytes([0]) + text + b"\x00" if length == 0 else bytes([length]) + text[:length].ljust(length)
        if isinstance(value, str) or SIZES[kind] != {bytes: 1, int: 2, float: 4}[type(value)]:
            raise _StatusError(WRONG_TYPE, place)
        if isinstance(value, bytes):
            return value
        return struct.pack(">f", value) if isinstance(value, float) else struct.pack(">H", value % 65536)

    def _table(self) -> Mapping[tuple[int, int], bytes | int | float | str]:
        scale = UNITS[str(self.options["unit"])]
        capacity = self.number("full_scale") / scale
        measured = self._measured()
        return {
            (1, 0): max(-23593, min(round(measured * FULL), HIGHEST)),
            (1, 1): self._count,
            (1, 2): round(self.number("slope")),
            (1, 4): bytes([self._mode]),
            (1, 13): capacity,
            (1, 17): "WATER",
            (1, 31): str(self.options["unit"]).ljust(7),
            (33, 0): measured * capacity,
            (33, 3): self._count / FULL * capacity,
            (COUNTER, 1): self.broken.shown(self._counted / self._volume),
            (COUNTER, 3): self._limit / self._volume,
            (COUNTER, 5): bytes([self._changes]),
            (COUNTER, 6): self._afterwards,
            (COUNTER, 7): str(self.options["counter_unit"]).ljust(4),
            (COUNTER, 8): bytes([self._counter_mode]),
            (113, 1): "7LM14-ABD-22-0-S-DA",
            (113, 2): str(self.options["identity"] or "ML120V00-BAD-11-0-S"),
            (113, 3): str(self.options["serial"]),
            (113, 5): "V2.37",
        }

    def _write(self, data: bytes) -> None:
        for process, parameter, raw, place in _written(data):
            if (process, parameter) == (1, 1):
                count = int.from_bytes(raw, "big")
                if len(raw) != 2 or count > FULL:
                    raise _StatusError(WRONG_TYPE if len(raw) != 2 else WRONG_VALUE, place)
                self._count = count
            elif (process, parameter) == (1, 4):
                self._mode = raw[0]
            elif (process, parameter) == (33, 3):
                capacity = self.number("full_scale") / UNITS[str(self.options["unit"])]
                (value,) = struct.unpack(">f", raw)
                if not 0.0 <= value <= capacity * 1.0001:
                    raise _StatusError(WRONG_VALUE, place)
                self._count = min(round(value / capacity * FULL), FULL)
            elif process == COUNTER:
                self._set_counter(parameter, raw, place)
            else:
                raise _StatusError(READ_ONLY if (process, parameter) in self._table() else NO_PARAMETER, place)
        self._drive()

    def _set_counter(self, parameter: int, raw: bytes, place: int) -> None:
        if parameter in (1, 3):
            (value,) = struct.unpack(">f", raw)
            if not 0.0 <= value <= 1e7:
                raise _StatusError(WRONG_VALUE, place)
            if parameter == 1:
                self._counted = value * self._volume
            else:
                self._limit = value * self._volume
            return
        number = int.from_bytes(raw, "big")
        most = {5: 1, 6: 0, 8: TO_LIMIT}.get(parameter)
        if most is None:
            raise _StatusError(READ_ONLY if (COUNTER, parameter) in self._table() else NO_PARAMETER, place)
        if len(raw) != (2 if parameter == 6 else 1) or number > most:
            raise _StatusError(WRONG_VALUE, place)
        if parameter == 5:
            self._changes = number
        elif parameter == 8:
            self._counter_mode = number

    # The valve -----------------------------------------------------------------------------------------------------

    @property
    def _ends(self) -> bool:
        """Whether the counter puts the set-point to 0 at its limit."""
        return self._counter_mode == TO_LIMIT and self._changes == 1

    def _drive(self) -> None:
        """Let flow what the set-point says, up to the counter's limit."""
        left = max(self._limit - self._counted, 0.0) * (1.0 + self._error) if self._ends else inf
        followed = self._count if self._mode in LISTENING else 0
        self._port.set_flow(followed / FULL * self.number("full_scale") * (1.0 + self._error), left)

    def _look(self) -> None:
        """What has happened since the last message."""
        delivered = self._port.delivered()
        if self._counter_mode:
            self._counted += (delivered - self._seen) / (1.0 + self._error)
        self._seen = delivered
        if self._ends and self._count and self._counted >= self._limit * (1.0 - 1e-9):
            self._count = self._afterwards
            self._drive()

    def _measured(self) -> float:
        """As a fraction of the capacity; the sensor shares the controller's error, so that control looks perfect."""
        shown = self.broken.shown(self._port.flow() / (1.0 + self._error) / self.number("full_scale"))
        return shown if isfinite(shown) else HIGHEST / FULL  # a count cannot be anything else


def _written(data: bytes) -> Iterator[tuple[int, int, bytes, int]]:
    """Process, parameter, bytes and place of every value in a write."""
    place = 1
    more_processes = True
    while more_processes:
        process = data[place]
        more_processes = bool(process & 0x80)
        place += 1
        more = True
        while more:
            head = data[place]
            more = bool(head & 0x80)
            kind = head & 0x60
            place += 1
            size = SIZES.get(kind, 0)
            if kind == STRING:
                size = data[place]
                place += 1
            raw = data[place : place + size]
            place += size
            yield process & 0x7F, head & 0x1F, raw, place


def _binary_end(buffer: bytearray) -> int:
    """Where the binary message at the front ends; 0 if it is not complete."""
    place = 2
    while place + 1 < len(buffer):
        if buffer[place] == DLE:
            if buffer[place + 1] == ETX:
                return place + 2
            place += 1
        place += 1
    return 0
