"""One terminal of an SCPI source-measure unit: how it is set up, switched, looked at and left alone.

The order is the same for all models: off, function, level 0, range, limit (read back: a limit that is too small is silently
ignored by some models), off state, then the meter. What somebody left in it by hand or with another program is sent anew, too.
"""

from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar

from qcodes.parameters import Parameter
from qcodes.validators import Bool, Enum, Numbers

from hil.core.errors import ConfigError
from hil.core.types import Quantity, SafeAction
from instruments.base import number_setting, refuse_unknown, smallest_range, value_of
from instruments.roles import SourcePlan, SourceState
from instruments.scpi_smu_words import MARK, SmuSpan, SmuWords
from instruments.terminal_settings import Wishes
from instruments.wiring import Setting

if TYPE_CHECKING:
    from qcodes.instrument import InstrumentBase

    from instruments.scpi_smu import ScpiSmu

MEASURING = ("range", "nplc", "four_wire")
PROTECTION_MARGIN = 1.1  # of a protection over the largest level: its tolerance is 5 %
LEADS = 0.2  # ohm, of both leads and their contacts
NOISE_SHARE = 0.1  # of the accuracy, for the noise of one reading
LEAST_CONFLICT = 1e-3  # A: no limit below that is too much for any range of volts
_QUANTITY = {"volt": Quantity.VOLTAGE, "curr": Quantity.CURRENT}


class SmuTerminal:
    """One terminal: source of voltage, meter of voltage and current. Mixed into a driver or into one of its channels.

    Whoever uses it sets ``unit``, ``words`` and ``span`` before ``add_terminal`` is called.
    """

    unit: "ScpiSmu"
    words: SmuWords
    span: SmuSpan
    measured: ClassVar[tuple[str, ...]] = ()
    """Commands that make it measure volts and amperes and send what ``readings`` expects; with ``{n}`` for a channel."""
    nplc_used: float = 1.0
    allowed: float = inf
    _off_word: str = ""
    _compliance: float | None = None
    _wishes: Wishes

    def add_terminal(self, module: "InstrumentBase", port: str) -> None:
        """Add the parameters of the terminal to ``module``."""
        words, span, unit = self.words, self.span, self.unit
        volts, _ = span.largest
        self._off_word, self._wishes = words.off_zero, Wishes()
        for name, symbol, label in (("volt", "V", "Voltage"), ("curr", "A", "Current")):
            module.add_parameter(
                name,
                label=label,
                unit=symbol,
                get_cmd=lambda p=name: unit.read_one(port, p),
                set_cmd=(lambda value: unit.level_writer([port])([value])) if name == "volt" else False,
                vals=Numbers(-volts, volts) if name == "volt" else None,
                snapshot_get=False,
                docstring="set: source level; get: measured value, NaN in overflow" if name == "volt" else "measured value",
            )
        self._number(module, "compliance", "Current limit", "A", words.limit, span.compliance)
        self._number(module, "nplc", "Integration time", "PLC", words.nplc, span.nplc)
        module.add_parameter(
            "output",
            label="Output",
            get_cmd=f"{words.output}?",
            get_parser=lambda text: int(float(text)) == 1,
            set_cmd=lambda on: unit.exchange(f"{words.output} {'ON' if on else 'OFF'}", doing="switching the output"),
            vals=Bool(),
            docstring="output relay",
        )
        module.add_parameter(
            "off_mode",
            label="Output-off mode",
            get_cmd=f"{words.off_mode}?",
            get_parser=lambda text: "high_impedance" if text.strip().upper().startswith(words.off_open) else "zero",
            set_cmd=lambda word: unit.exchange(f"{words.off_mode} {self._off(word)}", doing="choosing the off mode"),
            vals=Enum("zero", "high_impedance"),
            docstring="what the terminal does while the output is off",
        )

    def _number(
        self, module: "InstrumentBase", name: str, label: str, unit: str, header: str, span: tuple[float, float]
    ) -> "Parameter[Any, Any]":
        return module.add_parameter(
            name,
            label=label,
            unit=unit,
            vals=Numbers(*span),
            get_cmd=f"{header}?",
            get_parser=float,
            set_cmd=lambda value: self._set_number(name, header, value),
        )

    def _set_number(self, name: str, header: str, value: float) -> None:
        self.unit.confirm(f"{header} {value:.9g}", f"{header}?", value, f"setting {name}")
        if name == "nplc":
            self.nplc_used = value
            self.note_terminal(nplc=value)

    def _off(self, word: object) -> str:
        if word not in ("zero", "high_impedance"):
            raise ConfigError(f"{self.where}: off_mode must be zero or high_impedance, not {word!r}")
        return self.words.off_open if word == "high_impedance" else self.words.off_zero

    # -- source -------------------------------------------------------------------------------------------------

    def source_quantities(self) -> Mapping[str, Quantity]:
        """Voltage through ``volt``."""
        return {"volt": Quantity.VOLTAGE}

    def configure_source(self, plan: SourcePlan) -> Sequence[str]:
        """Fixed range that just holds the span, limit, off mode, meter; read back. The output stays off."""
        words, span, where = self.words, self.span, self.where
        refuse_unknown(plan.settings, (*self._measuring_settings, "current_range", "off_mode"), where)
        if plan.compliance is None:
            raise ConfigError(f"{where}: a voltage source needs a compliance")
        largest = max(abs(plan.minimum), abs(plan.maximum), number_setting(plan.settings, "range", None) or 0.0)
        chosen = smallest_range(span.voltage_ranges, largest, where)
        low, high = span.compliance
        if not low <= plan.compliance <= high:
            raise ConfigError(f"{where}: compliance {plan.compliance:g} A is outside {low:g} … {high:g} A, what it takes")
        off_mode = plan.settings.get("off_mode", "zero")
        self._off_word = self._off(off_mode)
        measuring = {key: value for key, value in plan.settings.items() if key not in ("range", "off_mode")}
        self._wishes.hear("control", measuring, where)
        unit = self.unit
        unit.begin()
        unit.exchange(
            *(words.abort, f"{words.output} OFF", words.function, f"{words.level} 0", f"*ESE {MARK}"),
            doing="preparing the source",
        )
        unit.marked = True
        # Some models refuse a limit far below a fixed measuring range, and a range for which the limit that was left is too much.
        lowered = f"{words.limit} {min(plan.compliance, LEAST_CONFLICT):.9g}"
        unit.exchange(f"{words.current_range}:AUTO ON", lowered, doing="choosing autorange")
        unit.confirm(f"{words.range} {chosen:g}", f"{words.range}?", chosen, "setting the source range", tolerance=0.06)
        self._protect(max(abs(plan.minimum), abs(plan.maximum)))
        unit.confirm(f"{words.limit} {plan.compliance:.9g}", f"{words.limit}?", plan.compliance, "setting the compliance")
        self._compliance = plan.compliance
        (kept,) = unit.exchange(f"{words.off_mode} {self._off_word}", f"{words.off_mode}?", doing="choosing the off mode")
        if not value_of(kept).upper().startswith(self._off_word):
            raise unit.fault(f"has the off mode {kept}, although {self._off_word} was sent")
        self.note_terminal(source_range_V=chosen, compliance_A=plan.compliance, off_mode=off_mode)
        error = span.voltage_errors[span.voltage_ranges.index(chosen)]
        self.allowed = (1.0 + NOISE_SHARE) * error + LEADS * plan.compliance
        self._configure_measure()
        return ()

    def _protect(self, largest: float) -> None:
        """Lock the smallest protection that lets ``largest`` V pass into the unit, read back; none where no step is as high."""
        words = self.words
        if not words.protection:
            return
        step = next((step for step in self.span.protections if step >= PROTECTION_MARGIN * largest), None)
        word = words.unprotected if step is None else words.protected.format(step)
        (kept,) = self.unit.exchange(f"{words.protection} {word}", f"{words.protection}?", doing="setting the voltage protection")
        wanted, found = (text.upper().removeprefix("PROT") for text in (word, value_of(kept)))
        numbers = found[-1:].isdigit() and wanted[-1:].isdigit()
        if found != wanted and not (numbers and float(found) == float(wanted)):
            raise self.unit.fault(f"keeps the voltage protection {kept}, although {word} was sent")
        self.note_terminal(protection_V=step)

    def held(self) -> Mapping[str, float | str]:
        """Range of the source and output-off mode."""
        chosen, mode = self.unit.exchange(f"{self.words.range}?", f"{self.words.off_mode}?", doing="asking what it holds")
        opened = value_of(mode).upper().startswith(self.words.off_open)
        return {"range": float(value_of(chosen)), "off_mode": "high_impedance" if opened else "zero"}

    def source_state(self) -> SourceState:
        """Programmed level, voltage measured now (NaN while the output is off), output on."""
        level, output = self.unit.exchange(f"{self.words.level}?", f"{self.words.output}?", doing="looking at the source")
        on = float(output) != 0
        actual = self.unit.read_one(self.short_port, "volt") if on else float("nan")
        return SourceState(float(level), actual, on)

    def enable(self, level: float) -> None:
        """Output on at ``level``."""
        words = self.words
        (output,) = self.unit.exchange(
            f"{words.level} {level:.9g}", f"{words.output} ON", f"{words.output}?", doing="switching the output on"
        )
        if float(output) == 0:
            raise self.unit.fault(f"keeps the output of {self.where} off")

    def disable(self, action: SafeAction) -> None:
        """Output off: high impedance, or held at 0 V as the bench file chose. The level goes to 0 afterwards."""
        words = self.words
        mode = words.off_open if action is SafeAction.HIGH_IMPEDANCE else self._off_word
        kept, output = self.unit.exchange(
            *(words.abort, f"{words.off_mode} {mode}", f"{words.output} OFF", f"{words.level} 0"),
            *(f"{words.off_mode}?", f"{words.output}?"),
            doing="switching the output off",
            anyway=True,
        )
        if float(output) != 0 or not value_of(kept).upper().startswith(mode):
            raise self.unit.fault(f"did not switch {self.where} off ({kept}; output {output})")

    # -- meter --------------------------------------------------------------------------------------------------

    def meter_quantities(self) -> Mapping[str, Quantity]:
        """Voltage through ``volt``, current through ``curr``."""
        return _QUANTITY

    def configure_meter(self, parameter: str, settings: Mapping[str, Setting]) -> Sequence[str]:
        """Integration time, wiring, autozero, current range. The voltage is measured on the source's range."""
        refuse_unknown(settings, self._measuring_settings, self.where)
        given = {key: value for key, value in settings.items() if key != "range"}
        if parameter == "curr" and "range" in settings:
            given["current_range"] = settings["range"]
        self._wishes.hear(f"output {parameter}", given, self.where)
        self._configure_measure()
        return ()

    @property
    def _measuring_settings(self) -> tuple[str, ...]:
        return (*MEASURING, "auto_zero") if self.words.auto_zero else MEASURING

    def _configure_measure(self) -> None:
        """All that decides what is read, also where nobody gave it: what somebody left in the unit does not stay."""
        words, unit = self.words, self.unit
        unit.prepare_meter(self.short_port)
        self.integrate()
        four_wire, auto_zero = bool(self._wishes.get("four_wire", False)), bool(self._wishes.get("auto_zero", True))
        self._switch(words.four_wire, four_wire, "choosing the wiring")
        self.note_terminal(four_wire=four_wire)
        if words.auto_zero:
            self._switch(words.auto_zero, auto_zero, "choosing autozero")
            self.note_terminal(auto_zero=auto_zero)
        chosen = self._wishes.get("current_range", "auto")
        if chosen == "auto":
            self._switch(f"{words.current_range}:AUTO", True, "choosing autorange")
            if words.finest:
                unit.exchange(words.finest, doing="choosing autorange")
            self.note_terminal(curr_range="auto")
        elif self._compliance is not None:
            self._fix_range(float(chosen))
        else:  # until its limit stands, a unit may refuse a range
            self.note_terminal(curr_range=smallest_range(self.span.current_ranges, float(chosen), self.where))

    def integrate(self) -> None:
        """The integration time that was asked for, or 1 PLC."""
        nplc = number_setting(self._wishes.all(), "nplc", 1.0) or 0.0
        low, high = self.span.nplc
        if not low <= nplc <= high:
            raise ConfigError(f"{self.where}: nplc {nplc:g} is outside {low:g} … {high:g}")
        self._set_number("nplc", self.words.nplc, nplc)

    def _switch(self, header: str, on: bool, doing: str) -> None:
        self.unit.confirm(f"{header} {'ON' if on else 'OFF'}", f"{header}?", float(on), doing)

    def _fix_range(self, wanted: float) -> None:
        """Fix the current range, and see that the limit has stayed: some units change it for one that suits the range."""
        words, unit, limit = self.words, self.unit, self._compliance
        fixed = smallest_range(self.span.current_ranges, wanted, self.where)
        if unit.range_is_limit and limit is not None and fixed < limit * (1 - 1e-9):
            raise ConfigError(
                f"{self.where}: the current range {fixed:g} A would limit the current below the compliance "
                f"{limit:g} A; choose a larger `current_range` or a smaller compliance"
            )
        unit.confirm(f"{words.current_range} {fixed:g}", f"{words.current_range}?", fixed, "setting the range", tolerance=0.06)
        if limit is not None:
            kept = unit.number(unit.exchange(f"{words.limit}?", doing="looking at the limit")[0], "looking at the limit")
            if abs(kept - limit) > 1e-3 * limit:
                changed = f"changed the compliance of {self.where} from {limit:g} A to {kept:g} A"
                raise unit.fault(f"{changed} when its current range was fixed at {fixed:g} A; choose a smaller `current_range`")
        self.note_terminal(curr_range=fixed)

    @property
    def short_port(self) -> str:
        """Name of the port of the unit; "" where the unit itself is the terminal."""
        return ""

    @property
    def where(self) -> str:
        """The terminal as the user reads it."""
        return f"{self.unit.name}.{self.short_port}" if self.short_port else self.unit.name

    def note_terminal(self, **values: object) -> None:
        """Remember settings under the port's name."""
        prefix = f"{self.short_port}." if self.short_port else ""
        self.unit.note(**{f"{prefix}{key}": value for key, value in values.items()})
