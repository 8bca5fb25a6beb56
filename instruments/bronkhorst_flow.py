"""Bronkhorst flow controllers for liquids (mini CORI-FLOW and relatives), serial, ProPar in its ASCII form.

Source: RS-232 interface manual 917.027: messages are a colon, hexadecimal bytes (length, node, command, data) and CR LF;
measure and set-point count 32000 at 100 % of the capacity, which the instrument tells with its unit. 38400 baud, 8N1, node 128.
"""

import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from qcodes.parameters import Parameter
from qcodes.validators import Numbers

from hil.core.errors import ConfigError, InstrumentError
from hil.core.types import SafeAction
from instruments.base import BenchInstrument
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
_SERIAL = (":0780047163716300", "716300")


class BronkhorstFlow(BenchInstrument):
    """Bronkhorst liquid flow controller with a volume unit. Manual: 917.027."""

    link: ClassVar[Link] = Link(
        identity=r"^:[0-9A-F]{2}8002716300([0-9A-F]*)00$",
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
            found = re.match(rf"^:[0-9A-F]{{2}}80(?:00([0-9A-F]{{2}})[0-9A-F]{{2}}|02{head}([0-9A-F]*))$", reply)
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
            capacity = self.request(_CAPACITY, lambda raw: float(struct.unpack(">f", raw)[0]), "asking for the capacity")
            self._full_scale = capacity * UNITS[unit]
            self.note(capacity=capacity, unit=unit)
        return self._full_scale

    def set_flow(self, rate: float) -> None:
        """Set-point, read back; ConfigError outside 0 to 100 %."""
        full = self.full_scale()
        if not 0.0 <= rate <= full:
            raise ConfigError(f"flow controller {self.name!r}: {rate:g} m^3/s is not within 0 to {full:g} m^3/s")
        count = round(rate / full * FULL)
        self._wanted = None

        def take(reply: str) -> int:
            found = re.match(r"^:048000([0-9A-F]{2})[0-9A-F]{2}$", reply)
            if found is None:
                raise ValueError(f"{reply[:40]!r}")
            return int(found.group(1), 16)

        status = self.inquire(f":0680010121{count:04X}", take, "setting the flow")
        if status != 0:
            raise self.fault(f"did not accept the set-point: {STATUS.get(status, f'status {status}')}")
        kept = self._set_point("reading the set-point back")
        if kept != count:
            raise self.fault(f"keeps the set-point {kept} of {FULL} although {count} was sent")
        self._wanted = count
        self.note(set_point_m3_per_s=count / FULL * full)

    def flow_now(self) -> float:
        """Measured flow, m^3/s."""
        count = self.request(_MEASURE, _count, "reading the flow")
        return (count - 65536 if count > HIGHEST else count) / FULL * self.full_scale()

    def held(self) -> float:
        """Measured flow, m^3/s, which has to be what was set; InstrumentError for a valve that is stuck, clogged, or drifts."""
        if self._wanted is not None and self._set_point("asking for the set-point") != self._wanted:
            raise self.restarted()
        # Last, because what happened before shows in it.
        flow, wanted = self.flow_now(), (self._wanted or 0) / FULL * self.full_scale()
        if not abs(flow - wanted) <= HELD * (wanted + 0.1 * self.full_scale()):
            raise self.fault(f"delivers {flow:g} m^3/s although {wanted:g} m^3/s was set: it is stuck or clogged, or drifts")
        return flow

    def stop(self) -> None:
        """Set-point 0, read back; tried several times, because that may be said twice."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self.set_flow(0.0)
                return
            except InstrumentError:
                if attempt == ATTEMPTS:
                    raise

    def require_settings_kept(self) -> None:
        """A controller that was sent a set-point has not forgotten it."""
        if self._wanted and self._set_point("asking for the set-point", anyway=True) != self._wanted:
            raise self.restarted()

    def _set_point(self, doing: str, *, anyway: bool = False) -> int:
        return self.request(_SET_POINT, _count, doing, anyway=anyway)

    @classmethod
    def safe_commands(cls, port: str, action: SafeAction, value: float, settings: Mapping[str, Setting]) -> SafeCommands | None:
        """Set-point 0."""
        return SafeCommands(leave=(":06800101210000",), query=_SET_POINT[0], expected=r"^:06800201220000")


class _RefusedError(Exception):
    """A status other than 0."""

    def __init__(self, status: int) -> None:
        self.status = status


def _count(raw: bytes) -> int:
    if len(raw) != 2:
        raise ValueError(f"{raw!r} is no count")
    return int.from_bytes(raw, "big")


__all__ = ["BronkhorstFlow"]
