"""Druck PACE5000 and PACE6000 pressure controllers, SCPI.

Source: PACE Series SCPI Remote Communications Manual K0472 (revision A), sections 2 (message structure; a header without a
suffix means module 1) and 4 (:SOURce, :SENSe, :OUTPut, :UNIT, :SYSTem). Replies carry the header of the query. The replies to one
message hold 256 characters at the most (section 3.1); messages are kept to 128, as ``gepace``, a client of others, keeps them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, ClassVar

import numpy as np
from qcodes.instrument import InstrumentChannel
from qcodes.parameters import Parameter
from qcodes.validators import Bool, Numbers

from hil.core.errors import ConfigError
from hil.core.types import Quantity, SafeAction
from instruments.base import ScpiInstrument, finite, number_setting, refuse_unknown, value_of
from instruments.roles import Acquired, Condition, Delivery, SourcePlan, SourceState
from instruments.safe_commands import SafeCommands
from instruments.visa import Link
from instruments.wiring import Setting

SETTINGS = ("in_limits", "reference")
PASCAL = {"mbar": 100.0, "bar": 1e5, "kpa": 1e3, "mpa": 1e6, "pa": 1.0, "psi": 6894.757293168}
_RANGE = re.compile(r"([-+\d.]+)\s*(mbar|bar|kPa|MPa|Pa|psi)\s*([ag])", re.IGNORECASE)


class PaceModule(InstrumentChannel["DruckPACE"]):
    """One controller module; every header carries its number, because none means module 1. Pascals throughout."""

    def __init__(self, parent: "DruckPACE", name: str, number: int) -> None:
        super().__init__(parent, name)
        self.number = number
        self.unit = parent
        self._range = ""
        self._slew = float("inf")
        top = parent.highest
        self.ready = False
        self.pressure: Parameter[float, Any] = self.add_parameter(
            "pressure",
            label="Pressure",
            unit="Pa",
            vals=Numbers(-1e5, top),
            get_cmd=self.pressure_now,
            set_cmd=lambda value: self.unit.level_writer([self.name_of_port])([value]),
            docstring="set: set-point; get: measured pressure",
        )
        self.slew: Parameter[float, Any] = self.add_parameter(
            "slew",
            label="Slew rate",
            unit="Pa/s",
            vals=Numbers(1e-3, top),
            get_cmd=f":SOUR{number}:PRES:SLEW?",
            get_parser=lambda text: float(value_of(text)),
            set_cmd=self.set_slew,
            docstring="speed of the controller in linear mode",
        )
        self.in_limits: Parameter[float, Any] = self.add_parameter(
            "in_limits",
            label="In-limits band",
            unit="% FS",
            vals=Numbers(0.0, 100.0),
            get_cmd=f":SOUR{number}:PRES:INL?",
            get_parser=lambda text: float(value_of(text)),
            set_cmd=lambda value: self.unit.exchange(f":SOUR{number}:PRES:INL {value:.7f}", doing="setting the in-limits band"),
            docstring="band around the set-point that counts as reached",
        )
        self.output: Parameter[bool, Any] = self.add_parameter(
            "output",
            label="Controller on",
            vals=Bool(),
            get_cmd=f":OUTP{number}:STAT?",
            get_parser=lambda text: value_of(text) == "1",
            set_cmd=lambda on: self.unit.exchange(f":OUTP{number}:STAT {int(on)}", doing="switching the controller"),
            docstring="False holds the volume shut; it is no vent",
        )

    @property
    def name_of_port(self) -> str:
        """``a`` or ``b``."""
        return self.short_name

    def source_quantities(self) -> Mapping[str, Quantity]:
        """Pressure through ``pressure``."""
        return {"pressure": Quantity.PRESSURE}

    def meter_quantities(self) -> Mapping[str, Quantity]:
        """Measured pressure."""
        return {"pressure": Quantity.PRESSURE}

    def configure_meter(self, parameter: str, settings: Mapping[str, Any]) -> Sequence[str]:
        """Unit pascal; there is nothing else to set."""
        refuse_unknown(settings, (), f"{self.full_name}.{parameter}")
        self._use_pascal()
        return ()

    def configure_source(self, plan: SourcePlan) -> Sequence[str]:
        """Unit, range, supplies, slew (its default is as fast as it can), overshoot off, in-limits band; all read back."""
        refuse_unknown(plan.settings, SETTINGS, self.full_name)
        n, unit = self.number, self.unit
        self.ready = False
        self._use_pascal()
        warnings = self._check_range(plan)
        warnings += self._check_supplies(plan)
        unit.exchange(f":SOUR{n}:PRES:SLEW:OVER 0", doing="forbidding overshoot")
        self.set_slew(plan.slew)
        band = number_setting(plan.settings, "in_limits", None)
        full_scale = self._full_scale()
        if band is not None:
            percent = 100.0 * band / full_scale
            unit.confirm(f":SOUR{n}:PRES:INL {percent:.7f}", f":SOUR{n}:PRES:INL?", percent, "setting the in-limits band")
        (reply,) = unit.exchange(f":SOUR{n}:PRES:INL?", doing="reading the in-limits band")
        self.note(in_limits_Pa=float(value_of(reply)) / 100.0 * full_scale, range=self._range, slew_Pa_per_s=plan.slew)
        self.ready = True
        return warnings

    def _use_pascal(self) -> None:
        n = self.number
        (reply,) = self.unit.exchange(f":UNIT{n}:PRES PA", f":UNIT{n}:PRES?", doing="choosing the unit")
        if value_of(reply).upper() != "PA":
            raise self.unit.fault(f"module {n} counts in {value_of(reply)} although PA was asked for")

    def _check_range(self, plan: SourcePlan) -> list[str]:
        n, unit = self.number, self.unit
        (reply,) = unit.exchange(f":SOUR{n}:PRES:RANG?", doing="reading the range")
        self._range = value_of(reply).strip('"')
        found = _RANGE.match(self._range)
        if found is None:
            raise unit.fault(f"module {n} has the range {self._range!r}, which is not understood")
        # Readings and in-limits are told in the sensing range: it must be the controlling one.
        (sensing,) = unit.exchange(f':SENS{n}:PRES:RANG "{self._range}"', f":SENS{n}:PRES:RANG?", doing="choosing the range")
        if value_of(sensing).strip('"') != self._range:
            raise unit.fault(f"module {n} senses in {value_of(sensing)} and controls in {self._range!r}")
        gauge = found.group(3).lower() == "g"
        wanted = plan.settings.get("reference")
        if wanted not in (None, "absolute", "gauge"):
            raise ConfigError(f"{self.full_name}: reference must be absolute or gauge, not {wanted!r}")
        if wanted is not None and (wanted == "gauge") != gauge:
            raise unit.fault(
                f"module {n} is in range {self._range}, but the bench file wants {wanted} pressures; select that range"
            )
        if plan.maximum > self._full_scale():
            raise ConfigError(f"{self.full_name}: {plan.maximum:g} Pa is above its range {self._range}")
        if gauge and wanted is None:
            return [f"{self.full_name} counts gauge pressures (range {self._range}); say `reference: gauge` if that is meant"]
        return []

    def _full_scale(self) -> float:
        found = _RANGE.match(self._range)
        if found is None:
            raise self.unit.fault(f"module {self.number} was not configured before its range was needed")
        return float(found.group(1)) * PASCAL[found.group(2).lower()]

    def specified_error(self) -> float:
        """Pa: 0.01 % of the reading and of full scale; 0 before it was configured."""
        return 2e-4 * self._full_scale() if self._range else 0.0

    def _check_supplies(self, plan: SourcePlan) -> list[str]:
        n = self.number
        replies = self.unit.exchange(f":SOUR{n}:PRES:COMP1?", f":SOUR{n}:PRES:COMP2?", doing="reading the supplies")
        positive, negative = (self.unit.number(reply, "reading the supplies") for reply in replies)
        self.note(supply_Pa=positive, vacuum_Pa=negative)
        warnings = []
        if positive <= plan.maximum:
            warnings.append(f"{self.full_name}: supply {positive:g} Pa is not above the upper limit {plan.maximum:g} Pa")
        if negative >= plan.minimum:
            warnings.append(f"{self.full_name}: vacuum supply {negative:g} Pa is not below the lower limit {plan.minimum:g} Pa")
        return warnings

    def set_slew(self, pascal_per_second: float) -> None:
        """Linear mode at this speed, read back; infinity chooses the fastest mode."""
        n, unit = self.number, self.unit
        self._slew = pascal_per_second
        if not isfinite(pascal_per_second):
            unit.exchange(f":SOUR{n}:PRES:SLEW:MODE MAX", doing="choosing the fastest slew")
            return
        # With its unit, as every set-point: one that was found switched on is sent home before anything else has chosen it.
        slew = f":UNIT{n}:PRES PA;:SOUR{n}:PRES:SLEW {pascal_per_second:.7f}"
        unit.confirm(slew, f":SOUR{n}:PRES:SLEW?", pascal_per_second, "setting the slew rate")
        (mode,) = unit.exchange(f":SOUR{n}:PRES:SLEW:MODE LIN", f":SOUR{n}:PRES:SLEW:MODE?", doing="choosing linear slew")
        if value_of(mode).upper() != "LIN":
            raise unit.fault(f"module {n} stays in slew mode {value_of(mode)}")

    def held(self) -> Mapping[str, float | str]:
        """Unit, and slew in Pa/s: infinite while the module moves as fast as it can."""
        n = self.number
        asked = (f":UNIT{n}:PRES?", f":SOUR{n}:PRES:SLEW?", f":SOUR{n}:PRES:SLEW:MODE?")
        unit, slew, mode = (value_of(reply) for reply in self.unit.exchange(*asked, doing="asking what it holds"))
        scale = PASCAL.get(unit.lower(), float("nan"))
        fastest = mode.upper().startswith("MAX")
        return {"unit": unit, "slew": float("inf") if fastest else scale * self.unit.number(slew, "asking what it holds")}

    def source_state(self) -> SourceState:
        """Set-point, measured pressure, controller on."""
        n = self.number
        replies = self.unit.exchange(f":SOUR{n}:PRES?", f":SENS{n}:PRES?", f":OUTP{n}:STAT?", doing="reading the state")
        level, actual, on = (value_of(reply) for reply in replies)
        return SourceState(self.unit.number(level, "reading the state"), self.unit.number(actual, "reading the state"), on == "1")

    def pressure_now(self) -> float:
        """Measured pressure, Pa."""
        n = self.number

        def decode(reply: str) -> float:
            pressure, unit = (value_of(part) for part in reply.split(";"))
            if unit.lower() not in PASCAL:
                raise ValueError(f"{unit!r} is no unit")
            return finite(pressure) * PASCAL[unit.lower()]

        # On the way to the safe state it may have lost its settings: what it says is understood in any unit.
        return self.unit.inquire(f":SENS{n}:PRES?;:UNIT{n}:PRES?", decode, "reading a pressure", anyway=True)

    def vented(self) -> bool:
        """Whether a vent has ended."""
        return self._vent_state() == 2

    def _vent_state(self) -> int:
        query = f":SOUR{self.number}:PRES:LEV:IMM:AMPL:VENT?"
        return self.unit.inquire(query, lambda reply: int(value_of(reply)), "asking for the vent", anyway=True)

    def enable(self, level: float) -> None:
        """Controller on at set-point ``level``; a vent under way is ended first."""
        n, unit = self.number, self.unit
        if self._vent_state() != 0:
            unit.exchange(f":SOUR{n}:PRES:LEV:IMM:AMPL:VENT 0", doing="ending the vent")
        # One message: a controller that lost its settings a moment ago must not start with others (mbar, full speed).
        slew = f":SOUR{n}:PRES:SLEW {self._slew:.6g};:SOUR{n}:PRES:SLEW:MODE LIN" if isfinite(self._slew) else ""
        settings = (part for part in (f":UNIT{n}:PRES PA", slew) if part)
        (on,) = unit.exchange(
            *settings, f":SOUR{n}:PRES {level:.2f}", f":OUTP{n}:STAT 1", f":OUTP{n}:STAT?", doing="switching the controller on"
        )
        if value_of(on) != "1":
            raise unit.fault(f"module {n} did not switch its controller on")

    def disable(self, action: SafeAction) -> None:
        """VENT starts the vent; everything else switches the controller off, which holds the volume shut."""
        n, unit = self.number, self.unit
        if action is SafeAction.VENT:
            vent = f":SOUR{n}:PRES:LEV:IMM:AMPL:VENT"
            (state,) = unit.exchange(f"{vent} 1", f"{vent}?", doing="venting", anyway=True)
            if value_of(state) not in ("1", "2"):
                raise unit.fault(f"module {n} does not vent")
            return
        (on,) = unit.exchange(f":OUTP{n}:STAT 0", f":OUTP{n}:STAT?", doing="switching the controller off", anyway=True)
        if value_of(on) != "0":
            raise unit.fault(f"module {n} did not switch its controller off")

    def note(self, **values: object) -> None:
        """Remember settings under this module's name."""
        self.unit.note(**{f"{self.short_name}.{key}": value for key, value in values.items()})


class DruckPACE(ScpiInstrument):
    """What the models share. ``modules``: how many controller modules it holds."""

    link: ClassVar[Link] = Link(identity=r"(?i)pace ?[56]000")
    modules: ClassVar[int]
    highest: ClassVar[float] = 2.1e7
    query_joiner: ClassVar[str] = ";"

    def __init__(self, name: str, address: str | None = None, **options: Any) -> None:
        super().__init__(name, address, **options)
        for number in range(1, self.modules + 1):
            letter = "ab"[number - 1]
            self.add_submodule(letter, PaceModule(self, letter, number))

    def get_idn(self) -> dict[str, str | None]:
        """From the verified identity; sends nothing."""
        return {key: value and value_of(value) for key, value in super().get_idn().items()}

    @classmethod
    def safe_commands(cls, port: str, action: SafeAction, value: float, settings: Mapping[str, Setting]) -> SafeCommands | None:
        """Linear slew, set-point, controller on; then a vent, or the valves shut (a vent alone is as fast as it can be)."""
        n = "ab".index(port) + 1
        echo = "" if n == 1 else str(n)
        vent = f":SOUR{n}:PRES:LEV:IMM:AMPL:VENT"
        state = f"^:OUTP{echo}:STAT [01]"
        leave, query, expected = {
            SafeAction.VENT: ((f"{vent} 1",), f"{vent}?", f"^:SOUR{echo}:PRES:LEV:IMM:AMPL:VENT [12]"),
            SafeAction.LEVEL: ((), f":OUTP{n}:STAT?", state),
        }.get(action, ((f":OUTP{n}:STAT 0",), f":OUTP{n}:STAT?", f"^:OUTP{echo}:STAT 0"))
        return SafeCommands(
            leave=leave,
            query=query,
            expected=expected,
            attention=(f":UNIT{n}:PRES PA",),
            state=f":OUTP{n}:STAT?",
            states=state,
            active=f"^:OUTP{echo}:STAT 1",
            measure=f":SENS{n}:PRES?",
            measured=rf"^:SENS{echo}:PRES [-+.\deE]+$",
            move=(
                # one message, because each costs the time of one; overshoot was forbidden when the source was set up
                f":SOUR{n}:PRES:SLEW {{slew:.7f}};:SOUR{n}:PRES:SLEW:MODE LIN;:SOUR{n}:PRES {{level:.4f}};:OUTP{n}:STAT 1",
            ),
        )

    def require_settings_kept(self) -> None:
        """InstrumentError if a module that was set up counts in another unit or may overshoot again, as after switching on."""
        for module in self.submodules.values():
            if isinstance(module, PaceModule) and module.ready:
                reply = self._session.query(f":UNIT{module.number}:PRES?;:SOUR{module.number}:PRES:SLEW:OVER?")
                if [value_of(part).upper() for part in reply.split(";")] != ["PA", "0"]:
                    raise self.restarted()

    def _numbers(self, ports: Sequence[str]) -> list[int]:
        return ["ab".index(port) + 1 for port in ports]

    def level_writer(self, ports: Sequence[str]) -> Callable[[Sequence[float]], None]:
        """Set-points of ``ports`` in one message, read back."""
        numbers = self._numbers(ports)

        def write(levels: Sequence[float]) -> None:
            # With its unit every time: a controller that has just been switched off and on counts in mbar.
            parts = [f":UNIT{n}:PRES PA;:SOUR{n}:PRES {level:.4f}" for n, level in zip(numbers, levels, strict=True)]
            replies = self.exchange(*parts, *(f":SOUR{n}:PRES?" for n in numbers), doing="setting a pressure")
            for n, level, reply in zip(numbers, levels, replies, strict=True):
                kept = self.number(reply, "setting a pressure")
                if abs(kept - level) > max(0.01, 1e-6 * abs(level)):
                    raise self.fault(f"module {n} has the set-point {kept:g} Pa, although {level:g} Pa was sent")

        return write

    def condition_reader(self, ports: Sequence[str]) -> Callable[[], list[Condition]]:
        """Measured pressure, controller on and in limits of ``ports``, in one round trip."""
        message = ";".join(f":SENS{n}:PRES:INL?;:OUTP{n}:STAT?" for n in self._numbers(ports))

        def decode(reply: str) -> list[Condition]:
            parts = reply.split(";")
            if len(parts) != 2 * len(ports):
                raise ValueError(f"{reply[:60]!r}")
            found = []
            for place in range(0, len(parts), 2):
                pressure, reached = value_of(parts[place]).split(",")
                found.append(Condition(finite(pressure), value_of(parts[place + 1]) == "1", int(reached) == 1))
            return found

        return lambda: self.inquire(message, decode, "looking at the pressures")

    def delivery_reader(self, ports: Sequence[str]) -> Callable[[], list[Delivery]]:
        """Pressures of ``ports``; allowed are three times their in-limits band (a controller may be just leaving it)."""
        look = self.condition_reader(ports)

        def measure() -> list[Delivery]:
            found = []
            for port, condition in zip(ports, look(), strict=True):
                band = self.settings().get(f"{port}.in_limits_Pa")
                allowed = 3.0 * band if isinstance(band, float) else float("inf")
                found.append(Delivery(condition.level, allowed, condition.on, False))
            return found

        return measure

    def acquisition(self, terminals: Sequence[tuple[str, str]]) -> Callable[[int], Acquired]:
        """Measured pressures of (port, "pressure") with the units they are told in, one query a sample."""
        numbers = self._numbers([port for port, _ in terminals])
        message = ";".join([*(f":SENS{n}:PRES?" for n in numbers), *(f":UNIT{n}:PRES?" for n in numbers)])

        def decode(reply: str) -> tuple[list[float], set[str]]:
            parts = [value_of(part) for part in reply.split(";")]
            if len(parts) != 2 * len(numbers):
                raise ValueError(f"{reply[:60]!r}")
            return [float(part) for part in parts[: len(numbers)]], {part.upper() for part in parts[len(numbers) :]}

        def sample() -> list[float]:
            values, units = self.inquire(message, decode, "reading pressures")
            if units != {"PA"}:
                raise self.restarted()
            return values

        def read(samples: int) -> Acquired:
            rows = [sample() for _ in range(samples)]
            values = np.array(rows, dtype=np.float64)
            return Acquired.of(values)

        return read


class DruckPACE6000(DruckPACE):
    """PACE6000: modules ``a`` (1) and ``b`` (2). Manual: K0472."""

    link = Link(identity=r"(?i)pace ?6000")
    modules = 2
    concrete = True


class DruckPACE5000(DruckPACE):
    """PACE5000: one module, ``a``. Manual: K0472."""

    link = Link(identity=r"(?i)pace ?5000")
    modules = 1
    concrete = True


__all__ = ["DruckPACE5000", "DruckPACE6000"]
