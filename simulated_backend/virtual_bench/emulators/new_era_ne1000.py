"""New Era NE-1000 syringe pump, from its manual (publication 1200-01): basic and safe mode, status, alarms, limits, volumes.

Imitated: packets with CRC beside plain lines, the communications time-out, alarms that hold everything up until they have
been reported (in safe mode they are sent unasked as well, here right before the next reply), programs of phases that pump or
stop, going on after a power failure, a plunger that reaches the end of its syringe and stalls, settings kept without power. The
pump believes in the diameter it was told; what really flows follows from the syringe's true one (option ``diameter``, m) and from
the pump's own error, drawn once within its specified 1 %. ``content`` and ``capacity`` (m^3): what the syringe holds and could
hold. Not imitated: other functions of phases, the TTL lines, networks of pumps, the rate of the serial line.
"""

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np

from simulated_backend.virtual_bench.emulator import Emulator
from simulated_backend.virtual_bench.plunger import STALLED, Plunger
from simulated_backend.virtual_bench.ports import PlantView

STX, ETX = b"\x02", b"\x03"
ERROR = 0.01
"""Limit of error of the delivered volume, relative (data sheet)."""
SLOWEST, FASTEST = 0.004205e-2 / 3600.0, 5.1005e-2 / 60.0
"""m/s: speeds of the plunger (data sheet: 0.004205 cm/h to 5.1005 cm/min)."""
RATES: Mapping[str, float] = {"UM": 1e-9 / 60.0, "MM": 1e-6 / 60.0, "UH": 1e-9 / 3600.0, "MH": 1e-6 / 3600.0}
VOLUMES: Mapping[str, float] = {"UL": 1e-9, "ML": 1e-6}
SMALL_SYRINGE = 14.0
"""mm: up to this diameter volumes are in microlitres by default, above in millilitres."""
_NUMBER = re.compile(r"(\d{0,4}(?:\.\d{0,3})?)([A-Z]*)")
_MOVING = ("I", "W", "X")
PHASES = 41


@dataclass(slots=True)
class _Phase:
    """Of a pumping program: what it does, and the data of that."""

    function: str = "STP"
    rate: float = 0.0
    rate_unit: str = "MH"
    volume: float = 0.0
    direction: str = "INF"


class _RefusedError(Exception):
    """An error field: ``NA``, ``OOR``, ``COM``, or nothing for a command that is not understood."""


class NewEraNE1000(Emulator):
    """One pump."""

    models: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "NewEraNE1000": {"diameter": 14.57e-3, "content": 10e-6, "capacity": 12e-6}
    }
    transport = "serial"

    def __init__(self, name: str, plant: PlantView, options: Mapping[str, object], rng: np.random.Generator) -> None:
        super().__init__(name, plant, options, rng)
        error = 0.0 if plant.ideal else float(rng.uniform(-ERROR, ERROR))
        holds = (self.number("capacity"), self.number("content"))
        self._plunger = Plunger(plant.flow(name, ""), 1e3 * self.number("diameter"), 26.59, *holds, error)
        self._version = str(options["identity"] or "NE1000V3.928")
        # Kept without power, as they come from the factory, like the plunger's diameter.
        self._phases = [_Phase() for _ in range(PHASES)]
        self._phases[0].function = "RAT"
        self._chosen = self._running = 0
        self._volume_unit = "ML"
        self._patience = 0
        self._goes_on = False
        self._status = "S"
        self._left = inf
        self.power_on()

    def power_on(self) -> None:
        """Stopped, unless it is to go on after a power failure; counters at 0, reset alarm; the watchdog waits for a packet."""
        goes_on = self._goes_on and self._status in ("I", "W")
        self._plunger.stop()
        self._unasked = b""
        self._raise("R")
        self._count = {"INF": 0.0, "WDR": 0.0}
        self._heard: float | None = None
        if goes_on:
            self._begin(0)
            self._drive()

    def fill(self, volume: float | None) -> None:
        """See ``Emulator.fill``; the plunger does not move for it, and ends where the liquid does."""
        self._plunger.fill(volume)

    def complain(self) -> None:
        """It stalls."""
        self._look()
        self._raise("S")
        self._drive()

    @property
    def _phase(self) -> _Phase:
        """The one that moves, or else the one that is chosen."""
        return self._phases[self._running if self._status in (*_MOVING, "P") else self._chosen]

    def _raise(self, alarm: str) -> None:
        """Stop with an alarm; in safe mode it is told at once."""
        self._status, self._alarm = "S", alarm
        if self._patience:
            self._unasked += self._answer(f"A?{alarm}", status="")

    def _begin(self, phase: int) -> None:
        """A phase of the program; one that stops ends it."""
        self._running = phase
        begun = self._phases[phase]
        if begun.function == "STP":
            self._status = "S"
            return
        self._status = begun.direction[0]
        self._left = begun.volume * VOLUMES[self._volume_unit] if begun.volume else inf

    # Framing -------------------------------------------------------------------------------------------------------

    def asks(self, message: bytes) -> bool:
        """Every message is answered."""
        return True

    def frames(self, buffer: bytearray) -> list[bytes]:
        """Packets (STX, length, data, CRC, ETX) as they are; everything else by lines that end in CR, an empty one included."""
        found = []
        while buffer:
            if buffer.startswith(STX):
                if len(buffer) < 2 or len(buffer) < 1 + buffer[1]:
                    break
                end = 1 + max(buffer[1], 1)
                found.append(bytes(buffer[:end]))
            else:
                end = buffer.find(b"\r") + 1
                if end == 0:
                    break
                found.append(bytes(buffer[:end]))
            del buffer[:end]
        return found

    def receive(self, message: bytes) -> bytes | None:
        """Obey one packet or line; what was to be said unasked comes first."""
        reply = self._reply(message)
        if reply is None:
            return None
        unasked, self._unasked = self._unasked, b""
        return unasked + reply

    def _reply(self, message: bytes) -> bytes | None:
        if message[:1] == STX:
            data = message[2:-3]
            if message[-1:] != ETX or message[-3:-1] != _crc(data):
                return self._answer("?COM")
            text = data.decode("latin-1")
        elif self._patience:
            return None  # in safe mode only packets count
        else:
            text = message.decode("latin-1")
        text = re.sub(r"[\x00-\x20]", "", text).upper()
        digits = min(len(text) - len(text.lstrip("0123456789")), 2)
        address, command = text[:digits], text[digits:]
        if int(address or 0) != 0:
            return None
        self._look()
        self._heard = self.plant.clock.now()
        if self._alarm:
            reply, self._alarm = f"A?{self._alarm}", ""
            self._drive()
            return self._answer(reply, status="")
        try:
            data_sent = self._obey(command)
        except _RefusedError as refused:
            data_sent = f"?{refused}"
        self._drive()
        return self._answer(data_sent)

    def _answer(self, data: str, status: str | None = None) -> bytes:
        body = ("00" + (self._status if status is None else status) + data).encode("latin-1")
        if not self._patience:
            return STX + body + ETX
        return STX + bytes([len(body) + 4]) + body + _crc(body) + ETX

    # Language ------------------------------------------------------------------------------------------------------

    def _obey(self, command: str) -> str:
        if not command:
            return ""
        name, rest = command[:3], command[3:]
        action = {
            "VER": self._ver,
            "DIA": self._dia,
            "RAT": self._rat,
            "VOL": self._vol,
            "DIR": self._dir,
            "RUN": self._run,
            "PUR": self._pur,
            "STP": self._stp,
            "DIS": self._dis,
            "CLD": self._cld,
            "SAF": self._saf,
            "PHN": self._phn,
            "FUN": self._fun,
        }.get(name)
        if command.startswith("PF"):
            return self._pf(command[2:])
        if action is None:
            raise _RefusedError
        return action(rest)

    def _ver(self, rest: str) -> str:
        if rest:
            raise _RefusedError
        return self._version

    def _dia(self, rest: str) -> str:
        if not rest:
            return _shown(self._plunger.diameter)
        self._only_at_rest()
        value, unit = _number(rest)
        if unit or not 0.1 <= value <= 50.0:
            raise _RefusedError("OOR")
        self._plunger.diameter = value
        self._volume_unit = "UL" if value <= SMALL_SYRINGE else "ML"
        return ""

    def _rat(self, rest: str) -> str:
        if not rest:
            return _shown(self._phase.rate) + self._phase.rate_unit
        value, unit = _number(rest)
        unit = unit or self._phase.rate_unit
        if unit not in RATES:
            raise _RefusedError
        if unit != self._phase.rate_unit:
            self._only_at_rest()
        speed = value * RATES[unit] / self._plunger.area
        if value != 0.0 and not SLOWEST <= speed <= FASTEST * (1.0 + 1e-3):
            raise _RefusedError("OOR")
        self._phase.rate, self._phase.rate_unit = value, unit
        return ""

    def _vol(self, rest: str) -> str:
        if not rest:
            return _shown(self._phase.volume) + self._volume_unit
        self._only_at_rest()
        if rest in VOLUMES:
            self._volume_unit = rest
            return ""
        value, unit = _number(rest)
        if unit:
            raise _RefusedError
        self._phase.volume = value
        return ""

    def _dir(self, rest: str) -> str:
        if not rest:
            return self._phase.direction
        if rest == "REV":
            rest = "WDR" if self._phase.direction == "INF" else "INF"
        if rest not in ("INF", "WDR"):
            raise _RefusedError
        if self._status in _MOVING and self._phase.volume > 0.0:
            raise _RefusedError("NA")
        self._phase.direction = rest
        if self._status in ("I", "W"):
            self._status = rest[0]
        return ""

    def _run(self, rest: str) -> str:
        if rest not in ("", "1"):
            raise _RefusedError
        if self._status in _MOVING:
            raise _RefusedError("NA")
        if self._phases[0].rate == 0.0:
            raise _RefusedError("OOR")
        if self._status == "P":
            self._status = self._phase.direction[0]
        else:
            self._begin(0)  # whichever phase is chosen
        return ""

    def _phn(self, rest: str) -> str:
        if not rest:
            return str(self._chosen + 1)
        self._only_at_rest()
        if not rest.isdigit() or not 1 <= int(rest) <= PHASES:
            raise _RefusedError("OOR")
        self._chosen = int(rest) - 1
        return ""

    def _fun(self, rest: str) -> str:
        if not rest:
            return self._phases[self._chosen].function
        self._only_at_rest()
        if rest not in ("RAT", "STP"):
            raise _RefusedError
        self._phases[self._chosen].function = rest
        return ""

    def _pf(self, rest: str) -> str:
        if rest not in ("", "0", "1"):
            raise _RefusedError
        if rest:
            self._goes_on = rest == "1"
            return ""
        return str(int(self._goes_on))

    def _pur(self, rest: str) -> str:
        if rest:
            raise _RefusedError
        self._only_at_rest()
        self._left = inf
        self._status = "X"
        return ""

    def _stp(self, rest: str) -> str:
        if rest:
            raise _RefusedError
        if self._status == "S":
            raise _RefusedError("NA")
        self._status = "P" if self._status in ("I", "W") else "S"
        return ""

    def _dis(self, rest: str) -> str:
        if rest:
            raise _RefusedError
        unit = VOLUMES[self._volume_unit]
        return f"I{_shown(self._count['INF'] / unit)}W{_shown(self._count['WDR'] / unit)}{self._volume_unit}"

    def _cld(self, rest: str) -> str:
        if rest not in self._count:
            raise _RefusedError
        self._only_at_rest()
        self._count[rest] = 0.0
        return ""

    def _saf(self, rest: str) -> str:
        if not rest:
            return str(self._patience)
        if not rest.isdigit() or int(rest) > 255:
            raise _RefusedError("OOR")
        self._patience = int(rest)
        return ""

    def _only_at_rest(self) -> None:
        if self._status in _MOVING:
            raise _RefusedError("NA")

    # The pump ------------------------------------------------------------------------------------------------------

    def _drive(self) -> None:
        """Let the plunger do what the status says, up to the first thing that will end it."""
        if self._status not in _MOVING:
            self._plunger.rest()
            return
        phase = self._phase
        rate = FASTEST * self._plunger.area if self._status == "X" else phase.rate * RATES[phase.rate_unit]
        ends = {"target": self._left * self._plunger.truth}
        if self._patience and self._heard is not None:
            ends["T"] = self._patience * (rate * self._plunger.truth)
        self._plunger.push(phase.direction == "INF", rate, ends)

    def _look(self) -> None:
        """What has happened since the last message."""
        if self._status in _MOVING:
            counted, end = self._plunger.moved()
            self._count[self._phase.direction] += counted
            self._left = max(self._left - counted, 0.0)
            if end == "target":
                # The next phase begins where the pump is looked at, not before: nothing here watches it in between.
                self._begin(min(self._running + 1, PHASES - 1))
            elif end is not None:
                self._raise("S" if end == STALLED else end)
        silent = self._patience and self._heard is not None and self.plant.clock.now() - self._heard > self._patience
        if silent and not self._alarm:
            self._raise("T")


def _crc(data: bytes) -> bytes:
    return binascii.crc_hqx(data, 0).to_bytes(2, "big")


def _number(text: str) -> tuple[float, str]:
    """A number of at most four digits, and what follows it."""
    found = _NUMBER.fullmatch(text)
    if found is None or sum(letter.isdigit() for letter in found.group(1)) not in range(1, 5):
        raise _RefusedError("OOR" if re.match(r"[\d.]", text) else "")
    return float(found.group(1)), found.group(2)


def _shown(value: float) -> str:
    """Four digits and a point, at most three behind it."""
    for decimals in (3, 2, 1):
        if round(value, decimals) < 10 ** (4 - decimals):
            return f"{value:.{decimals}f}"
    return f"{value:.0f}."
