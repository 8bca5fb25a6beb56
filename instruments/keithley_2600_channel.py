"""One channel of a Keithley 2600B: source of voltage, meter of voltage and current. See ``keithley_2600`` for the manual."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qcodes.instrument import InstrumentChannel
from qcodes.instrument_drivers.Keithley._Keithley_2600 import Keithley2600Channel as StockChannel
from qcodes.parameters import Parameter
from qcodes.validators import Enum, Ints, Numbers

from hil.core.errors import ConfigError
from hil.core.types import Quantity, SafeAction
from instruments.base import number_setting, refuse_unknown, smallest_range
from instruments.keithley_2600_routines import LETTER, MARK
from instruments.roles import OVERFLOW, SourcePlan, SourceState
from instruments.terminal_settings import Wishes
from instruments.wiring import Setting

if TYPE_CHECKING:
    from instruments.keithley_2600 import Keithley2600B

AUTOZERO_OFF, AUTOZERO_AUTO = 0, 2  # smuX.AUTOZERO_OFF, and as delivered
OFF_ZERO, OFF_HIGH_IMPEDANCE = 0, 2  # smuX.OUTPUT_NORMAL, smuX.OUTPUT_HIGH_Z
OFF_LIMIT = 1e-3  # A, of what holds 0 V while the output is off; as delivered
LEAST_CONFLICT = 1e-3  # A
SETTINGS = ("range", "current_range", "nplc", "four_wire", "off_mode", "auto_zero")
_RANGE = {"volt": "voltage_range", "curr": "current_range"}
_QUANTITY = {"volt": Quantity.VOLTAGE, "curr": Quantity.CURRENT}


class DigitalLines(InstrumentChannel["Keithley2600B"]):
    """The digital port: ``bit1`` to ``bit14``, 1 where the line is high (an open line is pulled up). Read only."""

    def __init__(self, parent: "Keithley2600B", name: str) -> None:
        super().__init__(parent, name)
        for line in range(1, 15):
            self.add_parameter(
                f"bit{line}",
                label=f"Digital line {line}",
                get_cmd=f"digio.readbit({line})",
                get_parser=lambda text: int(float(text)),
                set_cmd=False,
                vals=Ints(0, 1),
                snapshot_get=False,
                docstring="1: high, also where nothing is connected",
            )


class LevelParameter(Parameter[float, Any]):
    """Set: the programmed level. Get: the measured value (NaN on overflow). ``limited``: was the source at compliance?"""

    limited: bool | None = None

    def set_raw(self, value: float) -> None:
        """Program the level and poll the error queue."""
        channel = self.instrument
        if not isinstance(channel, Keithley2600BChannel):
            raise TypeError("a level belongs to a channel of a 2600B")
        self.limited = None
        letter = LETTER[self.name]
        channel.unit.transact(
            f"{channel.channel}.source.level{letter}={value:.10g}", ("errorqueue.count",), "setting a level", errors=0
        )

    def get_raw(self) -> float:
        """Measure once."""
        channel = self.instrument
        if not isinstance(channel, Keithley2600BChannel):
            raise TypeError("a level belongs to a channel of a 2600B")
        smu = channel.channel
        reply = channel.ask(f"{smu}.measure.{LETTER[self.name]}(), {smu}.source.compliance")
        value, limited = reply.split("\t")
        self.limited = limited.strip() == "true"
        number = float(value)
        return number if abs(number) < OVERFLOW else float("nan")


class Keithley2600BChannel(StockChannel):
    """One SMU channel: a source of voltage or current and a meter of both."""

    def __init__(self, parent: "Keithley2600B", name: str, channel: str) -> None:
        super().__init__(parent, name, channel)
        self.unit = parent
        self._off_mode = OFF_ZERO
        self._wishes = Wishes()
        volts, amperes = parent.spans
        for parameter, unit, limit in (("volt", "V", volts), ("curr", "A", amperes)):
            self.remove_parameter(parameter)
            replacement = self.add_parameter(
                parameter,
                parameter_class=LevelParameter,
                label="Voltage" if unit == "V" else "Current",
                unit=unit,
                vals=Numbers(-limit, limit),
                snapshot_get=False,
                docstring="set: source level; get: measured value",
            )
            setattr(self, parameter, replacement)
        self.nplc.unit = "PLC"
        self.timetrace_npts.add_validator(Ints(1, 100_000))
        self.timetrace_dt.add_validator(Numbers(1e-6, 3600.0))
        self.off_mode: Parameter[str, Any] = self.add_parameter(
            "off_mode",
            label="Output-off mode",
            get_cmd=f"{channel}.source.offmode",
            get_parser=lambda text: int(float(text)),
            set_cmd=f"{channel}.source.offmode={{}}",
            val_mapping={"zero": OFF_ZERO, "high_impedance": OFF_HIGH_IMPEDANCE},
            vals=Enum("zero", "high_impedance"),
            docstring="what the terminal does while the output is off",
        )

    # -- source -------------------------------------------------------------------------------------------------

    def source_quantities(self) -> Mapping[str, Quantity]:
        """Voltage through ``volt``."""
        return {"volt": Quantity.VOLTAGE}

    def configure_source(self, plan: SourcePlan) -> Sequence[str]:
        """Fixed range that just holds the span, compliance, integration time, off mode; all read back. Output stays off."""
        where = f"{self.full_name}"
        refuse_unknown(plan.settings, SETTINGS, where)
        if plan.compliance is None:
            raise ConfigError(f"{where}: a voltage source needs a compliance")
        largest = max(abs(plan.minimum), abs(plan.maximum))
        ranges = self.unit.voltage_ranges
        wanted = max(largest, number_setting(plan.settings, "range", None) or 0.0)
        fitting = [step for step in ranges if step >= wanted * (1 - 1e-9)]
        if not fitting:
            raise ConfigError(f"{where}: {wanted:g} V is more than the {self.unit.model} sources ({ranges[-1]:g} V)")
        low, high = self.unit.compliance_span
        if not low <= plan.compliance <= high:
            raise ConfigError(
                f"{where}: compliance {plan.compliance:g} A is outside {low:g} … {high:g} A, what the {self.unit.model} takes"
            )
        off_mode = plan.settings.get("off_mode", "zero")
        if off_mode not in ("zero", "high_impedance"):
            raise ConfigError(f"{where}: off_mode must be zero or high_impedance, not {off_mode!r}")
        self._off_mode = OFF_HIGH_IMPEDANCE if off_mode == "high_impedance" else OFF_ZERO
        self._wishes.hear(
            "control", {key: value for key, value in plan.settings.items() if key not in ("range", "off_mode")}, where
        )
        smu = self.channel
        self.unit.transact(
            f"{smu}.source.output=0 {smu}.source.func=1 {smu}.source.levelv=0 {smu}.source.autorangev=0 "
            # A limit that every range takes comes first, for what somebody left may be too much for the new range.
            f"{smu}.source.limiti={min(plan.compliance, LEAST_CONFLICT):.10g} {smu}.source.rangev={fitting[0]:.6g} "
            f"{smu}.source.limiti={plan.compliance:.10g} "
            f"{smu}.source.offfunc=1 {smu}.source.offlimiti={OFF_LIMIT:g} {smu}.source.offmode={self._off_mode} "
            f"{smu}.measure.filter.enable=0 {smu}.measure.rel.enablev=0 {smu}.measure.rel.enablei=0",
            (f"{smu}.source.rangev", f"{smu}.source.limiti", f"{smu}.source.offmode", "errorqueue.count"),
            "configuring the source",
            errors=3,
            expected=(fitting[0], plan.compliance, float(self._off_mode)),
            tolerance=1e-3,
        )
        self.note(source_range_V=fitting[0], compliance_A=plan.compliance, off_mode=off_mode)
        self._configure_measure()
        return ()

    def held(self) -> Mapping[str, float | str]:
        """Range of the source and output-off mode."""
        smu = self.channel
        chosen, mode = self.unit.numbers((f"{smu}.source.rangev", f"{smu}.source.offmode"))
        return {"range": chosen, "off_mode": "high_impedance" if mode == OFF_HIGH_IMPEDANCE else "zero"}

    def source_state(self) -> SourceState:
        """Programmed level, voltage measured now (NaN while the output is off), output on."""
        smu = self.channel
        level, output = self.unit.numbers((f"{smu}.source.levelv", f"{smu}.source.output"))
        on = output != 0
        actual = self.unit.numbers((f"{smu}.measure.v()",))[0] if on else float("nan")
        return SourceState(level, actual if abs(actual) < OVERFLOW else float("nan"), on)

    def enable(self, level: float) -> None:
        """Output on at ``level``."""
        smu = self.channel
        self.unit.transact(
            # An instrument that has lost its limits since it was configured stays off.
            f"if {MARK} then {smu}.source.levelv={level:.10g} {smu}.source.output=1 end",
            (f"{smu}.source.output", "errorqueue.count"),
            "switching the output on",
            errors=1,
            expected=(1.0,),
        )

    def disable(self, action: SafeAction) -> None:
        """Output off: high impedance, or held at 0 V by the off mode the bench file chose."""
        smu = self.channel
        mode = OFF_HIGH_IMPEDANCE if action is SafeAction.HIGH_IMPEDANCE else self._off_mode
        # The level goes to 0 after the output is off, so that a disconnected node is not pulled there first.
        self.unit.transact(
            f"{smu}.source.offmode={mode} {smu}.source.output=0 {smu}.source.levelv=0",
            (f"{smu}.source.output", f"{smu}.source.offmode", "errorqueue.count"),
            "switching the output off",
            errors=2,
            expected=(0.0, float(mode)),
            anyway=True,
        )

    # -- meter --------------------------------------------------------------------------------------------------

    def meter_quantities(self) -> Mapping[str, Quantity]:
        """Voltage through ``volt``, current through ``curr``."""
        return _QUANTITY

    def configure_meter(self, parameter: str, settings: Mapping[str, Setting]) -> Sequence[str]:
        """Range of one measured quantity; integration time, wiring and autozero of both."""
        refuse_unknown(settings, ("range", "nplc", "four_wire", "auto_zero"), self.full_name)
        renamed = {_RANGE[parameter] if key == "range" else key: value for key, value in settings.items()}
        self._wishes.hear(f"output {parameter}", renamed, self.full_name)
        self._configure_measure()
        return ()

    def _configure_measure(self) -> None:
        """All that decides what is read, also where nobody gave it: what somebody left in the unit does not stay."""
        smu, wishes = self.channel, self._wishes
        nplc = number_setting(wishes.all(), "nplc", 1.0)
        self.nplc.validate(nplc)
        four_wire, auto_zero = bool(wishes.get("four_wire", False)), bool(wishes.get("auto_zero", True))
        wanted = {
            "measure.nplc": nplc or 0.0,
            "sense": float(four_wire),
            "measure.autozero": float(AUTOZERO_AUTO if auto_zero else AUTOZERO_OFF),
        }
        for parameter, ranges in (("volt", self.unit.voltage_ranges), ("curr", self.unit.current_ranges)):
            letter, chosen = LETTER[parameter], wishes.get(_RANGE[parameter], "auto")
            wanted[f"measure.autorange{letter}"] = float(chosen == "auto")
            if chosen != "auto":
                wanted[f"measure.range{letter}"] = smallest_range(ranges, float(chosen), self.full_name)
            self.note(**{f"{parameter}_range": chosen})
        self.unit.transact(
            " ".join(f"{smu}.{name}={value:.6g}" for name, value in wanted.items()),
            (*(f"{smu}.{name}" for name in wanted), "errorqueue.count"),
            "configuring the meter",
            errors=len(wanted),
            expected=list(wanted.values()),
            tolerance=1e-3,
        )
        self.note(nplc=nplc, four_wire=four_wire, auto_zero=auto_zero)

    def note(self, **values: object) -> None:
        """Remember settings under this channel's name."""
        self.unit.note(**{f"{self.channel}.{key}": value for key, value in values.items()})

    def _execute_lua(self, _script: list[str], steps: int) -> NDArray[np.float64]:
        """Run a sweep and read its buffer in double precision (stock: single, a relative 6e-8)."""
        program = "\n".join(line.replace("REAL32", "REAL64") for line in _script)
        duration = 2 * steps * float(self.nplc()) / float(self.linefreq()) + 5.0
        block = self.unit.session.query_bytes(f"loadandrunscript\n{program}\nendscript", 3 + 8 * steps, timeout=duration)
        return self.unit.unpack(block, steps, 1)[:, 0]
