"""Bronkhorst flow controllers for liquids (mini CORI-FLOW and relatives), serial, ProPar in its ASCII form.

Source: RS-232 interface manual 917.027: messages are a colon, hexadecimal bytes (length, node, command, data) and CR LF;
measure and set-point count 32000 at 100 % of the capacity, which the instrument tells with its unit. 38400 baud, 8N1, node 128,
at which whatever is on the line listens; it may answer with its own. It follows set-points from here only in the control modes
``LISTENING`` (917.023), and at once only without a slope.
As a pump of a mixer it doses by its own counter (process 104): at the counter's limit the instrument puts its set-point to 0 by
itself, whatever became of the program.
"""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from qcodes.parameters import Parameter
from qcodes.validators import Numbers

from hil.core.errors import ConfigError, InstrumentError
from hil.core.types import SafeAction
from instruments.base import BenchInstrument, UnheardError, finite
from instruments.fluid_roles import PumpState, Syringe
from instruments.safe_commands import SafeCommands
from instruments.visa import Link
from instruments.wiring import Setting

T = TypeVar("T")
FULL = 32000
HIGHEST = 41942
"""Counts above this stand for negative flow."""
UNITS = {
    "ul/min": 1e-9 / 60.0,
    "ul/h": 1e-9 / 3600.0,
    "ml/min": 1e-6 / 60.0,
    "ml/h": 1e-6 / 3600.0,
    "l/min": 1e-3 / 60.0,
    "l/h": 1e-3 / 3600.0,
}
VOLUMES = {"ul": 1e-9, "mm3": 1e-9, "ml": 1e-6, "cm3": 1e-6, "cl": 1e-5, "dl": 1e-4, "l": 1e-3}
LOWEST = 0.02
"""Of the capacity: smallest flow that is controlled (data sheets: 1:50)."""
DOSED = 1e-3
"""Of a dose: what may be missing where the counter has ended it."""
HELD = 0.02
"""Of the set-point, and a tenth of it of the capacity: a controller that works is nearer (data sheets: 0.2 % of reading)."""
ATTEMPTS = 3
"""How often a flow is told to stop before that counts as impossible."""
STATUS = {3: "no such process", 4: "no such parameter", 5: "wrong type", 6: "value out of range", 13: "read only"}

# Requests: node, request, process and index for the reply (the index tells replies apart), process and parameter wanted.
_MEASURE = (":06800401210120", "0121")
_SET_POINT = (":06800401220121", "0122")
_CAPACITY = (":068004014D014D", "014D")
_UNIT = (":078004017F017F07", "017F07")
_CONTROL_MODE = (":06800401040104", "0104")
_SLOPE = (":06800401220122", "0122")
LISTENING = (0, 18)
"""Control modes: bus or RS-232, RS-232 only."""
_SERIAL = (":0780047163716300", "716300")
# The counter: value, limit, set-point mode (1: change at the limit), new set-point, unit, mode (2: up to the limit).
_COUNTED = (":06800468416841", "6841")
_LIMIT = (":06800468436843", "6843")
_CHANGES = (":06800468056805", "6805")
_AFTERWARDS = (":06800468266826", "6826")
_COUNTER_UNIT = (":0780046867686704", "686704")
_COUNTER_MODE = (":06800468086808", "6808")
OFF, UPWARDS, TO_LIMIT = 0, 1, 2


class BronkhorstFlow(BenchInstrument):
    """Bronkhorst liquid flow controller with a volume unit; may be a pump of a mixer. Manual: 917.027."""

    link: ClassVar[Link] = Link(
        identity=r"^:[0-9A-F]{4}02716300([0-9A-F]*)00$",
        identify=_SERIAL[0],
        read_termination="\r\n",
        write_termination="\r\n",
        timeout=1.0,
        first_timeout=1.0,
        baud_rate=38400,
    )
    concrete = True
    answers = True

    def __init__(self, name: str, address: str | None = None, **options: Any) -> None:
        super().__init__(name, address, **options)
        self._full_scale = 0.0
        self._wanted: int | None = None
        self._dose: float | None = None
        self._counter_unit = 0.0
        self.flow: Parameter[float, Any] = self.add_parameter(
            "flow",
            label="Flow",
            unit="m^3/s",
            vals=Numbers(0.0, 1e-3),
            get_cmd=self.flow_now,
            set_cmd=self.set_flow,
            docstring="set: set-point; get: measured flow",
        )

    def get_idn(self) -> dict[str, str | None]:
        """From the verified identity; sends nothing."""
        serial = bytes.fromhex(self.identity()).decode("latin-1")
        return {"vendor": "Bronkhorst", "model": "flow controller", "serial": serial, "firmware": "not told"}

    def errors(self) -> list[str]:
        """The instrument keeps no errors; every message is answered with its status."""
        return []

    def request(self, request: tuple[str, str], decode: Callable[[bytes], T], doing: str, *, anyway: bool = False) -> T:
        """One parameter. InstrumentError with the status where the instrument refuses."""
        message, head = request

        def take(reply: str) -> T:
            found = re.match(rf"^:[0-9A-F]{{4}}(?:00([0-9A-F]{{2}})[0-9A-F]{{2}}|02{head}([0-9A-F]*))$", reply)
            if found is None:
                raise ValueError(f"{reply[:40]!r}")
            if found.group(1) is not None:
                raise _RefusedError(int(found.group(1), 16))
            return decode(bytes.fromhex(found.group(2)))

        try:
            return self.inquire(message, take, doing, anyway=anyway)
        except _RefusedError as refused:
            raise self.fault(f"refused while {doing}: {STATUS.get(refused.status, f'status {refused.status}')}") from None

    # Flow controller -------------------------------------------------------------------------------------------------

    def full_scale(self) -> float:
        """Capacity with its unit; asked once. InstrumentError for a mass or gas unit: volumes are what a bench counts."""
        if not self._full_scale:
            unit = self.request(_UNIT, lambda raw: raw.decode("latin-1").strip(" \0").lower(), "asking for the unit")
            if unit not in UNITS:
                raise self.fault(f"counts in {unit!r}; set its capacity unit to one of {', '.join(UNITS)}")
            self._require_listening()
            capacity = self.request(_CAPACITY, lambda raw: float(struct.unpack(">f", raw)[0]), "asking for the capacity")
            self._full_scale = capacity * UNITS[unit]
            self.note(capacity=capacity, unit=unit)
        return self._full_scale

    def _require_listening(self) -> None:
        """InstrumentError where it takes a set-point, but does not follow it, or only slowly."""
        mode = self.request(_CONTROL_MODE, lambda raw: int.from_bytes(raw, "big"), "asking for its control mode")
        if mode not in LISTENING:
            raise self.fault(
                f"is in control mode {mode}, in which it does not follow set-points from here; set it to 0 (bus or RS-232)"
            )
        slope = self.request(_SLOPE, _count, "asking for the slope of its set-point")
        if slope:
            raise self.fault(f"takes {0.1 * slope:g} s for a change of its set-point; set its set-point slope to 0")

    def set_flow(self, rate: float) -> None:
        """Set-point, read back; ConfigError outside 0 to 100 %."""
        full = self.full_scale()
        if not 0.0 <= rate <= full:
            raise ConfigError(f"flow controller {self.name!r}: {rate:g} m^3/s is not within 0 to {full:g} m^3/s")
        count = round(rate / full * FULL)
        self._wanted = None
        self._send_set_point(count)
        kept = self._set_point("reading the set-point back")
        if kept != count and not (count and kept == 0 and self._dosed()):
            raise self.fault(f"keeps the set-point {kept} of {FULL} although {count} was sent")
        self._wanted = count
        self.note(set_point_m3_per_s=count / FULL * full)

    def _send_set_point(self, count: int) -> None:
        """With a dose set a flow is not told twice: its counter may have ended it meanwhile, and another one would follow."""
        doing = "the set-point"
        try:
            self._write(f"0121{count:04X}", doing, repeat=not (count and self._dose))
        except UnheardError:
            present = self._set_point("asking for the set-point")
            if present == count or self._dosed():
                self._session.notice(f"instrument {self.name!r}: {doing} was set, although no reply came")
                return
            if present == 0 and self._counted("reading the counter") > 0.0:
                raise self.restarted() from None
            self._session.notice(f"instrument {self.name!r}: setting {doing} was repeated, because it had not been heard")
            self._write(f"0121{count:04X}", doing, repeat=False)

    def flow_now(self) -> float:
        """Measured flow, m^3/s."""
        count = self.request(_MEASURE, _count, "reading the flow")
        return (count - 65536 if count > HIGHEST else count) / FULL * self.full_scale()

    def held(self) -> float:
        """Measured flow, m^3/s, which has to be what was set; InstrumentError for a valve that is stuck, clogged, or drifts."""
        if self._wanted is not None and self._set_point("asking for the set-point") != self._wanted:
            raise self.restarted()
        # Last, because what happened before shows in it.
        flow = self.flow_now()
        self._require_held(flow)
        return flow

    def stop(self) -> None:
        """Set-point 0, read back; tried several times, because that may be said twice."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self.set_flow(0.0)
                self._dose = None
                return
            except InstrumentError:
                if attempt == ATTEMPTS:
                    raise

    def require_settings_kept(self) -> None:
        """A controller that was sent a set-point has not forgotten it, unless its counter has ended a dose."""
        if self._wanted and self._set_point("asking for the set-point", anyway=True) != self._wanted and not self._dosed():
            raise self.restarted()

    # Pump ----------------------------------------------------------------------------------------------------------

    def configure_pump(self, syringe: Syringe) -> Sequence[str]:
        """See ``fluid_roles.Pump``: it draws from a vessel, of which it has to know nothing. One found flowing is stopped."""
        warnings = []
        if self._set_point("looking whether it flows"):
            warnings.append(f"{self.name} was found with a set-point; it was stopped first")
        self.stop()
        return warnings

    def rate_span(self) -> tuple[float, float]:
        """From 2 % to 100 % of the capacity."""
        return LOWEST * self.full_scale(), self.full_scale()

    def start(self, rate: float, volume: float | None = None) -> None:
        """See ``fluid_roles.Pump``. ConfigError for a rate that it cannot control; it does not withdraw."""
        low, high = self.rate_span()
        if not low <= rate <= high:
            raise ConfigError(
                f"flow controller {self.name!r} cannot do {rate:g} m^3/s: between {low:g} and {high:g}; choose another flow"
            )
        self.stop()
        unit = self._unit_of_counter()
        limit = struct.pack(">f", (volume or 0.0) / unit).hex().upper()
        self._set("08", f"{OFF:02X}", _COUNTER_MODE, "the counter's mode")
        self._set("41", "00000000", _COUNTED, "the counter")
        self._set("43", limit, _LIMIT, "the counter's limit")
        self._set("26", "0000", _AFTERWARDS, "the set-point after the limit")
        self._set("05", "01" if volume else "00", _CHANGES, "what happens at the limit")
        self._set("08", f"{TO_LIMIT if volume else UPWARDS:02X}", _COUNTER_MODE, "the counter's mode")
        self._dose = volume
        self.set_flow(rate)
        # What had to be sent twice may have come to a controller that was switched off and on in between.
        wanted = {_LIMIT: limit, _CHANGES: "01", _COUNTER_MODE: f"{TO_LIMIT:02X}"} if volume else {}
        for readback, value in wanted.items():
            if self.request(readback, lambda raw: raw.hex().upper(), "reading the counter's settings again") != value:
                self.stop()
                raise self.restarted()
        self.note(rate_m3_per_s=rate, volume_m3=volume or 0.0)

    def pump_state(self) -> PumpState:
        """Counter and set-point. InstrumentError where the flow is not what was set, or ended before its dose was delivered."""
        # The set-point last: while it stands, what was read before it was read during the dose.
        flow, counted = self.flow_now(), self._counted("reading the counter")
        present = self._set_point("asking whether it flows")
        if self._wanted and present == self._wanted:
            self._require_held(flow)
        elif self._wanted and (self._dose is None or counted < self._dose * (1.0 - DOSED)):
            self._wanted = None
            raise self.restarted()
        return PumpState(present != 0, counted)

    def _dosed(self) -> bool:
        return self._dose is not None and self._counted("reading the counter", anyway=True) >= self._dose * (1.0 - DOSED)

    def _counted(self, doing: str, *, anyway: bool = False) -> float:
        return self.request(_COUNTED, _float, doing, anyway=anyway) * self._unit_of_counter()

    def _unit_of_counter(self) -> float:
        if not self._counter_unit:
            unit = self.request(_COUNTER_UNIT, lambda raw: raw.decode("latin-1").strip(" \0").lower(), "asking what it counts in")
            if unit not in VOLUMES:
                raise self.fault(f"has a counter in {unit!r}; set its counter unit to one of {', '.join(VOLUMES)}")
            self._counter_unit = VOLUMES[unit]
        return self._counter_unit

    def _set(self, parameter: str, value: str, readback: tuple[str, str], what: str) -> None:
        """Write a parameter of the counter, as hexadecimal digits; read back."""
        self._write(f"68{parameter}{value}", what)
        kept = self.request(readback, lambda raw: raw.hex().upper(), f"reading {what} back")
        if kept != value:
            raise self.fault(f"keeps {kept} as {what} although {value} was sent")

    def _write(self, content: str, what: str, *, repeat: bool = True) -> None:
        """Write process, parameter and value (hexadecimal digits). InstrumentError with the status of a refusal."""

        def take(reply: str) -> int:
            found = re.match(r"^:04[0-9A-F]{2}00([0-9A-F]{2})[0-9A-F]{2}$", reply)
            if found is None:
                raise ValueError(f"{reply[:40]!r}")
            return int(found.group(1), 16)

        status = self.inquire(f":{2 + len(content) // 2:02X}8001{content}", take, f"setting {what}", repeat=repeat)
        if status != 0:
            raise self.fault(f"did not accept {what}: {STATUS.get(status, f'status {status}')}")

    def _require_held(self, flow: float) -> None:
        wanted = (self._wanted or 0) / FULL * self.full_scale()
        if not abs(flow - wanted) <= HELD * (wanted + 0.1 * self.full_scale()):
            raise self.fault(f"delivers {flow:g} m^3/s although {wanted:g} m^3/s was set: it is stuck or clogged, or drifts")

    def _set_point(self, doing: str, *, anyway: bool = False) -> int:
        return self.request(_SET_POINT, _count, doing, anyway=anyway)

    @classmethod
    def safe_commands(cls, port: str, action: SafeAction, value: float, settings: Mapping[str, Setting]) -> SafeCommands | None:
        """Set-point 0."""
        return SafeCommands(leave=(":06800101210000",), query=_SET_POINT[0], expected=r"^:06[0-9A-F]{2}0201220000")


class _RefusedError(Exception):
    """A status other than 0."""

    def __init__(self, status: int) -> None:
        self.status = status


def _count(raw: bytes) -> int:
    if len(raw) != 2:
        raise ValueError(f"{raw!r} is no count")
    return int.from_bytes(raw, "big")


def _float(raw: bytes) -> float:
    """Of four bytes; ValueError where they stand for no value."""
    if len(raw) != 4:
        raise ValueError(f"{raw!r} is no number")
    return finite(str(struct.unpack(">f", raw)[0]))


__all__ = ["BronkhorstFlow"]
