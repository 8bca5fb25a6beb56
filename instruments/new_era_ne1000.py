"""New Era NE-1000 syringe pump, RS-232.

Source: NE-1000 user manual (publication 1200-01), sections 10.2 (basic and safe mode) and 10.4 (commands). Requests go out as
packets with a checksum, which the pump takes in both modes; replies come in the mode the pump is in. With a watchdog set
(``SAF``) the pump stops by itself when it has not been spoken to in time, whatever became of the program or the computer.
In safe mode an alarm is also sent at once, unasked, and again as the reply to the next command. Numbers have four digits at
the most. Rate, volume and direction belong to a phase of a pumping program, of which others may stand in the pump.
"""

import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from qcodes.parameters import Parameter
from qcodes.validators import Numbers

from hil.core.errors import ConfigError
from hil.core.types import SafeAction
from hil.experiment.fields import FieldError
from instruments.fluid_roles import PumpState, Syringe
from instruments.safe_commands import SafeCommands
from instruments.syringe_pump import SyringePump
from instruments.visa import Link, Resource
from instruments.wiring import Setting

RATE_UNITS = (("UH", 1e-9 / 3600.0), ("UM", 1e-9 / 60.0), ("MH", 1e-6 / 3600.0), ("MM", 1e-6 / 60.0))
VOLUME_UNITS = (("UL", 1e-9), ("ML", 1e-6))
ALARMS = {
    "R": "was switched off and on",
    "S": "has stalled (the line is blocked, or the plunger is at its end)",
    "T": "was not spoken to for longer than its watchdog allows, and has stopped",
    "E": "has an error in its pumping program",
    "O": "has a program out of range",
}
REFUSALS = {"NA": "not now", "OOR": "out of range", "COM": "packet damaged", "IGN": "ignored", "": "not understood"}
MOVING = ("I", "W", "X")
_STX, _ETX = "\x02", "\x03"
_BODY = re.compile(r"^(\d\d)(?:A\?([RSTEO])|([IWSPTUX])(.*))$", re.DOTALL)
_AMOUNT = re.compile(r"^(\d*\.?\d*)([A-Z]*)$")


def packet(command: str) -> str:
    """A request in safe mode: STX, length, data, CRC-CCITT, ETX; one character per byte."""
    body = command.encode("ascii")
    check = binascii.crc_hqx(body, 0).to_bytes(2, "big")
    return _STX + chr(len(body) + 4) + command + check.decode("latin-1") + _ETX


def read_reply(resource: Resource) -> str:
    """The data of one reply of either mode; ValueError where a checksum is wrong."""
    for _ in range(256):
        if resource.read_bytes(1) == b"\x02":
            break
    first = resource.read_bytes(1)
    if first.isdigit():  # basic mode: the address; a packet that began like that would be longer than any there is
        text = first
        while not text.endswith(b"\x03") and len(text) < 64:
            text += resource.read_bytes(1)
        return text[:-1].decode("latin-1")
    rest = resource.read_bytes(max(first[0] - 1, 1))
    body, check = rest[:-3], rest[-3:-1]
    if binascii.crc_hqx(body, 0).to_bytes(2, "big") != check:
        raise ValueError("a packet of the pump was damaged on the way")
    return body.decode("latin-1")


class Reply(NamedTuple):
    """Status letter, alarm letter ("" is none), data."""

    status: str
    alarm: str
    data: str


class NewEraNE1000(SyringePump):
    """NE-1000: one syringe. Manual: publication 1200-01. ``baud_rate`` is 19200 unless the pump was set up otherwise."""

    link: ClassVar[Link] = Link(
        identity=r"^00[A-Z](NE\d+.*)",
        identify=packet("VER"),
        read_termination=_ETX,
        write_termination="",
        timeout=1.0,
        first_timeout=1.0,
        baud_rate=19200,
        reader=read_reply,
        greeting=r"^00A\?",
    )
    slowest, fastest = 0.004205e-2 / 3600.0, 5.1005e-2 / 60.0
    concrete = True

    def __init__(self, name: str, address: str | None = None, **options: Any) -> None:
        super().__init__(name, address, **options)
        self.rate: Parameter[float, Any] = self.add_parameter(
            "rate",
            label="Rate",
            unit="m^3/s",
            vals=Numbers(0.0, 1e-5),
            get_cmd=lambda: _amount(self.command("RAT", "reading the rate").data, RATE_UNITS),
            set_cmd=self._set_rate,
            docstring="set: for the next start, or at once while it runs",
        )
        self.diameter: Parameter[float, Any] = self.add_parameter(
            "diameter",
            label="Inner diameter of the syringe",
            unit="m",
            vals=Numbers(1e-4, 5e-2),
            get_cmd=lambda: 1e-3 * float(self.command("DIA", "reading the diameter").data),
            set_cmd=self._set_diameter,
        )

    # Talking -------------------------------------------------------------------------------------------------------

    def get_idn(self) -> dict[str, str | None]:
        """From the verified identity; the pump tells no serial number. Sends nothing."""
        model, _, firmware = self.identity().partition("V")
        return {"vendor": "New Era", "model": model, "serial": "not told", "firmware": firmware}

    def ask_pump(self, command: str, doing: str, *, repeat: bool = True, anyway: bool = False) -> Reply:
        """One command and its reply, whatever it says. InstrumentError where none comes."""

        def decode(text: str) -> Reply:
            found = _BODY.match(text)
            if found is None or found.group(1) != "00":
                raise ValueError(f"{text[:40]!r}")
            return Reply(found.group(3) or "S", found.group(2) or "", found.group(4) or "")

        reply = self.inquire(packet(command), decode, doing, repeat=repeat, anyway=anyway)
        if reply.alarm:
            # It may be the one that was sent unasked: then the reply itself, the same alarm, is still to come.
            self._session.resynchronise()
        return reply

    def command(self, command: str, doing: str) -> Reply:
        """One command that has to be obeyed. InstrumentError for an alarm or a refusal, in words."""
        reply = self.ask_pump(command, doing)
        if reply.alarm:
            self._under_way = False
            raise self.fault(f"{ALARMS[reply.alarm]}, as it said while {doing}")
        if reply.data.startswith("?"):
            raise self.fault(f"refused {command!r} while {doing}: {REFUSALS.get(reply.data[1:], reply.data[1:])}")
        return reply

    def errors(self) -> list[str]:
        """The alarm, if there is one; asking clears it."""
        alarm = self.ask_pump("", "asking for alarms", anyway=True).alarm
        return [f"the pump {ALARMS[alarm]}"] if alarm else []

    def require_settings_kept(self) -> None:
        """A pump that should move or has counted something has not forgotten it."""
        if self._under_way and self.ask_pump("", "asking whether it still runs", anyway=True).status not in MOVING:
            counted = self.ask_pump("DIS", "reading the volume", anyway=True)
            if counted.alarm or not re.search(r"[1-9]", counted.data):
                raise self.restarted()

    # Pump ----------------------------------------------------------------------------------------------------------

    def configure_pump(self, syringe: Syringe) -> Sequence[str]:
        """Diameter, read back. An old alarm is taken note of, and a pump found running is stopped."""
        warnings = [f"{self.name}: {found} since it was last used" for found in self.errors()]
        if self.ask_pump("", "looking whether it runs").status in MOVING:
            warnings.append(f"{self.name} was found running; it was stopped first")
        self.stop()
        warnings += self._forget_programs()
        self._set_diameter(syringe.diameter)
        self._keep_syringe(syringe)
        return warnings

    def _forget_programs(self) -> list[str]:
        """One phase that pumps, then stop; and no start by itself when power comes back. Simple models have none of this."""
        warnings = []
        for phase, function in ((2, "STP"), (1, "RAT")):  # the last one chosen is the one that is set from now on
            if self.ask_pump(f"PHN{phase}", "choosing a phase").data == "?":
                break
            found = self.command("FUN", "reading the function of a phase").data
            if found != function:
                warnings.append(f"{self.name}: phase {phase} of its pumping program was {found}; it is {function} now")
                self.command(f"FUN{function}", "setting the function of a phase")
        if self.ask_pump("PF", "asking what it does after a power failure").data == "1":
            self.command("PF0", "forbidding it to go on after a power failure")
            warnings.append(f"{self.name} would have gone on pumping after a power failure; it does not any more")
        return warnings

    def start(self, rate: float, volume: float | None = None) -> None:
        """See ``fluid_roles.Pump``. ConfigError for a rate or volume this pump cannot do with its syringe."""
        self._require_rate(rate)
        self.stop()
        unit, amount = _fitting(volume or 0.0, VOLUME_UNITS, f"pump {self.name!r}: a volume")
        self.command(f"VOL{unit}", "choosing the unit of volume")
        self.command(f"VOL{amount}", "setting the volume")
        kept = _amount(self.command("VOL", "reading the volume").data, VOLUME_UNITS)
        self._same(kept, volume or 0.0, "volume", "m^3")
        self._set_rate(abs(rate))
        self.command("DIRINF" if rate > 0.0 else "DIRWDR", "setting the direction")
        for side in ("INF", "WDR"):
            self.command(f"CLD{side}", "clearing the counter")
        reply = self._begun(lambda: self.ask_pump("RUN", "starting", repeat=False))
        if reply is not None and (reply.alarm or reply.status not in MOVING):
            raise self.fault(f"did not start: {ALARMS.get(reply.alarm) or REFUSALS.get(reply.data[1:], reply.data)}")
        self._under_way = True
        self.note(rate_m3_per_s=rate, volume_m3=volume or 0.0)

    def stop(self) -> None:
        """The first STP pauses, the second ends the pause; verified. An alarm of a pump that has stopped is no obstacle."""
        self._under_way = False
        for _ in range(4):
            reply = self.ask_pump("STP", "stopping", anyway=True)
            if reply.status == "S" and not reply.alarm:
                return
        raise self.fault("does not stop; switch it off")

    def pump_state(self) -> PumpState:
        """Status and counter."""
        counted = self.command("DIS", "reading the volume")
        running = counted.status in MOVING
        self._under_way = self._under_way and running
        found = re.match(r"^I(\d*\.\d*)W(\d*\.\d*)([UM]L)$", counted.data)
        if found is None:
            raise self.fault(f"tells its volume as {counted.data!r}, which is not understood")
        unit = dict(VOLUME_UNITS)[found.group(3)]
        return PumpState(running, (float(found.group(1)) - float(found.group(2))) * unit)

    def set_watchdog(self, seconds: float) -> None:
        """Stop after so many seconds of silence (whole ones, 1 to 255; 0: off); read back."""
        if seconds != 0.0 and not 1.0 <= seconds < 256.0:
            raise FieldError(f"this watchdog can be 1 to 255 s, not {seconds:g} s", f"station.instruments.{self.name}.watchdog")
        self.command(f"SAF{int(seconds)}", "setting the watchdog")
        kept = self.command("SAF", "reading the watchdog").data
        self._same(float(kept), float(int(seconds)), "watchdog", "s")
        self.note(watchdog_s=int(seconds))

    @classmethod
    def safe_commands(cls, port: str, action: SafeAction, value: float, settings: Mapping[str, Setting]) -> SafeCommands | None:
        """Back to basic mode, which plain text can speak, then STP twice (pause, end)."""
        return SafeCommands(attention=(packet("SAF0"),), leave=("STP\r", "STP\r"), query="\r", expected=r"\x0200[SPT]$")

    # Small -----------------------------------------------------------------------------------------------------------

    def _set_diameter(self, metres: float) -> None:
        self.command(f"DIA{_digits(1e3 * metres)}", "setting the diameter")
        self._same(1e-3 * float(self.command("DIA", "reading the diameter").data), metres, "diameter", "m")

    def _set_rate(self, rate: float) -> None:
        units: Sequence[tuple[str, float]] = RATE_UNITS
        if self._under_way:  # a pump that runs keeps its unit
            present = self.command("RAT", "reading the rate").data
            units = [pair for pair in RATE_UNITS if present.endswith(pair[0])]
        unit, amount = _fitting(rate, units, f"pump {self.name!r}: a rate")
        self.command(f"RAT{amount}{unit}", "setting the rate")
        self._same(_amount(self.command("RAT", "reading the rate").data, RATE_UNITS), rate, "rate", "m^3/s")

    def _same(self, kept: float, wanted: float, what: str, unit: str) -> None:
        if abs(kept - wanted) > 1e-3 * abs(wanted):
            raise self.fault(f"keeps the {what} {kept:g} {unit} although {wanted:g} {unit} was sent")


def _fitting(value: float, units: Sequence[tuple[str, float]], what: str) -> tuple[str, str]:
    """The first unit in which four digits hold ``value``, and these digits; ConfigError if there is none."""
    for unit, scale in units:
        if value == 0.0 or (value / scale < 9999.5 and (value / scale >= 1.0 or unit == units[0][0])):
            digits = _digits(value / scale)
            if value == 0.0 or abs(float(digits) * scale - value) <= 1e-3 * value:
                return unit, digits
    raise ConfigError(f"{what} of {value:g} (SI) cannot be said in the four digits the pump takes")


def _digits(value: float) -> str:
    """At most four digits and three decimals."""
    for decimals in (3, 2, 1):
        if round(value, decimals) < 10 ** (4 - decimals):
            return f"{value:.{decimals}f}"
    return f"{value:.0f}"


def _amount(text: str, units: Sequence[tuple[str, float]]) -> float:
    """A number with its unit, in SI; ValueError if it is none."""
    found = _AMOUNT.match(text)
    if found is None or found.group(2) not in dict(units):
        raise ValueError(f"{text[:20]!r} is no amount")
    return float(found.group(1)) * dict(units)[found.group(2)]


__all__ = ["NewEraNE1000"]
