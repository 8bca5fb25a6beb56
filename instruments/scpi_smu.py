"""What SCPI source-measure units have in common: how a terminal is set up, switched, moved, looked at and left alone.

A model says its headers in ``SmuWords``, its ranges in ``SmuSpan``, and how volts, amperes and the state of the source are
read together. The order is the same everywhere: off, function, level 0, range, limit (read back: a limit that is too small is
silently ignored by some models), off state, then the meter. For the manuals see the drivers.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from qcodes.parameters import Parameter
from qcodes.validators import Bool, Enum, Numbers

from hil.core.errors import ConfigError
from hil.core.types import FloatArray, Quantity, SafeAction
from instruments.base import ScpiInstrument, UnheardError, number_setting, refuse_unknown, smallest_range, value_of
from instruments.roles import Acquired, Condition, Delivery, SourcePlan, SourceState
from instruments.scpi_smu_words import SmuSpan, SmuWords
from instruments.wiring import Setting

if TYPE_CHECKING:
    from qcodes.instrument import InstrumentBase

SETTINGS = ("range", "current_range", "nplc", "four_wire", "off_mode")
COLUMN = {"volt": 0, "curr": 1}
MARK = 60
"""Event enable register of a unit that we configured; 0 once it has been switched off and on."""
PROTECTION_MARGIN = 1.1  # of a protection over the largest level: its tolerance is 5 %
LEADS = 0.2  # ohm, of both leads and their contacts
LONGEST_COMMAND = 50  # levels in one SOUR:LIST:VOLT: manuals allow 100, but the line had better stay below 1000 characters
NOISE_SHARE = 0.1  # of the accuracy, for the noise of one reading
LEAST_CONFLICT = 1e-3  # A: no limit below that is too much for any range of volts
READING_LENGTH = 45  # characters of volts, amperes and status
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
    _output_range: Setting | None = None
    """Current range that an output asked for: it is fixed once the limit stands, and whenever the source is set up again."""

    def add_terminal(self, module: "InstrumentBase", port: str) -> None:
        """Add the parameters of the terminal to ``module``."""
        words, span, unit = self.words, self.span, self.unit
        volts, _ = span.largest
        self._off_word = words.off_zero
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
            set_cmd=lambda value: self.unit.confirm(f"{header} {value:.9g}", f"{header}?", value, f"setting {name}"),
        )

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
        refuse_unknown(plan.settings, SETTINGS, where)
        if plan.compliance is None:
            raise ConfigError(f"{where}: a voltage source needs a compliance")
        largest = max(abs(plan.minimum), abs(plan.maximum), number_setting(plan.settings, "range", None) or 0.0)
        chosen = smallest_range(span.voltage_ranges, largest, where)
        low, high = span.compliance
        if not low <= plan.compliance <= high:
            raise ConfigError(f"{where}: compliance {plan.compliance:g} A is outside {low:g} … {high:g} A, what it takes")
        off_mode = plan.settings.get("off_mode", "zero")
        self._off_word = self._off(off_mode)
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
        measuring = {key: value for key, value in plan.settings.items() if key not in ("range", "off_mode")}
        measuring.setdefault("current_range", "auto" if self._output_range is None else self._output_range)
        return self._configure_measure(measuring)

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
        """Integration time, wiring and current range. The voltage is measured on the source's range."""
        refuse_unknown(settings, ("range", "nplc", "four_wire"), self.where)
        given = {key: value for key, value in settings.items() if key != "range"}
        if parameter == "curr" and "range" in settings:
            self._output_range = settings["range"]
            if self._compliance is not None:
                given["current_range"] = settings["range"]
        return self._configure_measure(given)

    def _configure_measure(self, settings: Mapping[str, Setting]) -> Sequence[str]:
        words, unit = self.words, self.unit
        unit.prepare_meter(self.short_port)
        nplc = number_setting(settings, "nplc", None)
        if nplc is not None:
            low, high = self.span.nplc
            if not low <= nplc <= high:
                raise ConfigError(f"{self.where}: nplc {nplc:g} is outside {low:g} … {high:g}")
            unit.confirm(f"{words.nplc} {nplc:g}", f"{words.nplc}?", nplc, "setting nplc")
            self.nplc_used = nplc
            self.note_terminal(nplc=nplc)
        if "four_wire" in settings:
            unit.exchange(f"{words.four_wire} {'ON' if settings['four_wire'] else 'OFF'}", doing="choosing the wiring")
            self.note_terminal(four_wire=bool(settings["four_wire"]))
        chosen = settings.get("current_range")
        if chosen == "auto":
            unit.exchange(f"{words.current_range}:AUTO ON", *filter(None, (words.finest,)), doing="choosing autorange")
            self.note_terminal(curr_range="auto")
        elif chosen is not None:
            self._fix_range(float(chosen))
        return ()

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


class ScpiSmu(ScpiInstrument):
    """A unit whose ports are SmuTerminals. Levels of all ports in one message, readings of all in one transfer."""

    range_is_limit: ClassVar[bool] = False
    """Whether a fixed measuring range limits the current."""
    reads_when_off: ClassVar[bool] = False
    conversions: ClassVar[float] = 3.0
    """Apertures that one reading takes."""
    marked: bool = False

    def terminal(self, port: str) -> SmuTerminal:
        """The terminal of ``port``."""
        found = self.port(port)
        if not isinstance(found, SmuTerminal):
            raise ConfigError(f"instrument {self.name!r}: {port!r} is no source-measure terminal")
        return found

    def begin(self) -> None:
        """Asked before anything is set."""

    @abstractmethod
    def prepare_meter(self, port: str) -> None:
        """Make ``port`` measure volts and amperes, and send both with the state of the source."""

    @abstractmethod
    def readings(self, ports: Sequence[str], samples: int, timeout: float | None) -> FloatArray:
        """Volts, amperes, and 1 where the source was at its limit: (samples, n_ports, 3)."""

    def send_list(self, points: Sequence[float], channel: str = "") -> None:
        """Levels of a list, ``LONGEST_COMMAND`` at a time. What is appended is not sent twice: all begins anew, once."""

        def send() -> None:
            for begin in range(0, len(points), LONGEST_COMMAND):
                part = ",".join(f"{level:.9g}" for level in points[begin : begin + LONGEST_COMMAND])
                head = f":SOUR{channel}:LIST:VOLT{':APP' if begin else ''}"
                self.exchange(f"{head} {part}", doing="sending a list", repeat=not begin)

        try:
            send()
        except UnheardError as error:
            self._session.notice(f"instrument {self.name!r}: sending a list was repeated from its beginning: {error}")
            send()

    def send_counted_list(self, points: Sequence[float], channel: str = "") -> None:
        """The same; InstrumentError where the unit has not kept all of them."""
        self.send_list(points, channel)
        (kept,) = self.exchange(f":SOUR{channel}:LIST:VOLT:POIN?", doing="counting the list")
        if int(float(kept)) != len(points):
            raise self.fault(f"kept {kept} of {len(points)} levels of a list")

    def level_writer(self, ports: Sequence[str]) -> Callable[[Sequence[float]], None]:
        """Set the voltage levels of ``ports`` in one round trip; levels, outputs and the error queue are read back."""
        words = [self.terminal(port).words for port in ports]
        questions = [f"{one.level}?" for one in words] + [f"{one.output}?" for one in words]
        count = len(words)

        def write(levels: Sequence[float]) -> None:
            commands = [f"{one.level} {level:.9g}" for one, level in zip(words, levels, strict=True)]
            values = [float(value_of(text)) for text in self.exchange(*commands, *questions, doing="setting levels")]
            self.require_levels(ports, levels, values[:count], values[count:])

        return write

    def condition_reader(self, ports: Sequence[str]) -> Callable[[], list[Condition]]:
        """Level, output and limit of ``ports`` in one round trip."""
        words = [self.terminal(port).words for port in ports]
        questions = [f"{header}?" for one in words for header in (one.level, one.output, one.tripped)]

        def look() -> list[Condition]:
            values = [float(value_of(text)) for text in self.exchange(*questions, doing="looking at the sources")]
            return [Condition(values[k], values[k + 1] != 0, values[k + 2] == 0) for k in range(0, len(values), 3)]

        return look

    def delivery_reader(self, ports: Sequence[str]) -> Callable[[], list[Delivery]]:
        """Outputs and the mark of a unit that kept its settings, then one reading of ``ports``."""
        there = [self.terminal(port) for port in ports]
        questions = ["*ESE?", *(f"{one.words.output}?" for one in there)]

        def measure() -> list[Delivery]:
            mark, *outputs = (float(value_of(text)) for text in self.exchange(*questions, doing="looking at the sources"))
            if mark != MARK:
                raise self.restarted()
            if not all(outputs):
                return [Delivery(float("nan"), one.allowed, on != 0, False) for one, on in zip(there, outputs, strict=True)]
            table = self.readings(ports, 1, None)[0]
            return [
                Delivery(float(volts), one.allowed, True, bool(limited))
                for one, (volts, _, limited) in zip(there, table, strict=True)
            ]

        return measure

    def require_settings_kept(self) -> None:
        """InstrumentError if the event enable register, set when it was configured, is back at its default."""
        if self.marked and float(self._session.query("*ESE?")) != MARK:
            raise self.restarted()

    def acquisition(self, terminals: Sequence[tuple[str, str]]) -> Callable[[int], Acquired]:
        """Volts or amperes of all (port, parameter) in one transfer."""
        ports = list(dict.fromkeys(port for port, _ in terminals))
        slowest = self.seconds_per_sample(ports)
        patience = self._session.link.timeout

        def read(samples: int) -> Acquired:
            duration = samples * slowest + self.sending(samples * len(ports) * READING_LENGTH)
            timeout = None if duration < 0.5 * patience else patience + 2 * duration
            return self.picked(self.readings(ports, samples, timeout), ports, terminals)

        return read

    def seconds_per_sample(self, ports: Sequence[str]) -> float:
        """How long one reading of ``ports`` takes at 50 Hz."""
        return self.conversions * max(self.terminal(port).nplc_used for port in ports) / 50.0

    def picked(self, table: FloatArray, ports: Sequence[str], terminals: Sequence[tuple[str, str]]) -> Acquired:
        """The columns asked for out of what ``readings`` gives."""
        places = [ports.index(port) for port, _ in terminals]
        values: FloatArray = table[:, places, [COLUMN[parameter] for _, parameter in terminals]]
        return Acquired.of(values, table[:, places, 2] != 0)

    def read_one(self, port: str, parameter: str) -> float:
        """One reading; NaN in overflow. The meter is prepared where that has not been done."""
        if f"{port}.measures" not in self._settings:
            self.prepare_meter(port)
        return float(self.acquisition([(port, parameter)])(1).values[0, 0])

    def table(self, text: str, rows: int, columns: int) -> FloatArray:
        """Numbers (rows, columns) of a reply."""
        try:
            return np.array([float(part) for part in text.split(",")], dtype=np.float64).reshape(rows, columns)
        except ValueError:
            self._session.resynchronise()
            raise self.fault(f"sent {text[:60]!r} where {rows * columns} numbers were expected") from None
