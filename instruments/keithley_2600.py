"""Keithley 2600B source-measure units, spoken to in TSP.

Source: Series 2600B System SourceMeter Instrument Reference Manual (2600BS-901-01), chapters "TSP command reference"
(smuX.source, smuX.measure, format, errorqueue) and "Reading buffers"; model ranges from the data sheets.

On the stock QCoDeS driver, with these of its faults repaired: no limits on source levels; the 10 mA range of the 2634B to
2636B missing; source levels cut at 1e-12; sweeps read back in single precision; overflow taken for data; compliance not seen.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from qcodes.instrument_drivers.Keithley._Keithley_2600 import Keithley2600 as StockKeithley2600

from hil.core.errors import ConfigError, InstrumentError
from hil.core.types import SafeAction
from instruments.base import BenchInstrument
from instruments.keithley_2600_channel import OFF_HIGH_IMPEDANCE, OFF_ZERO, DigitalLines, Keithley2600BChannel
from instruments.keithley_2600_routines import LATEST, MARK, handing, in_lines, listing, measuring, playing
from instruments.roles import Acquired, Condition, Delivery
from instruments.safe_commands import SafeCommands
from instruments.visa import Link
from instruments.wiring import Setting

READING_OVERHEAD = 0.2e-3  # s that a reading takes beside its integration time
IN_COMPLIANCE, OVER_TEMPERATURE = 0x40, 0x02  # bits of a buffered reading's status


class Keithley2600B(StockKeithley2600, BenchInstrument):
    """What the models share: two channels that can be set in one message and measured at one moment."""

    link: ClassVar[Link] = Link(identity=r"(?i)KEITHLEY.*MODEL 26\d\d", timeout=5.0)
    simultaneous: ClassVar[bool] = True
    reads_when_off: ClassVar[bool] = False
    joiner: ClassVar[str] = " "
    release_port: ClassVar[int | None] = 5030  # the "dead socket termination" port
    voltage_ranges: ClassVar[tuple[float, ...]]
    voltage_offsets: ClassVar[tuple[float, ...]]
    """V, per range: offset error of the source and of the meter together, 1 year."""
    current_ranges: ClassVar[tuple[float, ...]]
    compliance_span: ClassVar[tuple[float, float]]
    spans: ClassVar[tuple[float, float]]
    model: str

    def __init__(self, name: str, address: str | None = None, **options: Any) -> None:
        super().__init__(name, address, **options)  # type: ignore[arg-type] # the stock class hands both on unread
        self._prepared = False
        self._routines: dict[str, str] = {}
        self._loaded = 0
        model = self.model  # closing forgets it
        if f"Keithley{model}" != type(self).__name__:
            self.close()
            raise InstrumentError(
                f"instrument {name!r} is a {model}, but its type in the station is {type(self).__name__}; correct the type"
            )
        self.channels.clear()
        for channel in ("smua", "smub"):
            del self.submodules[channel]
            # instrument_modules is the second index of the same submodules
            self.instrument_modules.pop(channel, None)
            module = Keithley2600BChannel(self, channel, channel)
            self.add_submodule(channel, module)
            self.channels.append(module)
        self.add_submodule("digio", DigitalLines(self, "digio"))

    @classmethod
    def safe_commands(cls, port: str, action: SafeAction, value: float, settings: Mapping[str, Setting]) -> SafeCommands | None:
        """Whatever runs is aborted; 0 V and the output off, in the off mode of the bench file; or held at another level."""
        marked = f'print("{port} is", {port}.source.output)'
        moving = SafeCommands(
            leave=(),
            query=marked,
            expected=f"^{port} is\\t",
            attention=("abort",),
            measure=f'print("{port} at", {port}.source.levelv, {port}.source.output)',
            measured=f"^{port} at\\t([^\\t]+)\\t",
            active=r"\t1\.0+e[-+]00$",
            move=(f"{port}.source.levelv={{level:.10g}}",),
        )
        if action is SafeAction.LEVEL and value != 0.0:
            return replace(moving, leave=(f"{port}.source.levelv={value:.10g}",))
        clamped = action is SafeAction.LEVEL and settings.get("off_mode", "zero") == "zero"
        mode = OFF_ZERO if clamped else OFF_HIGH_IMPEDANCE
        off = f"{port}.source.offmode={mode} {port}.source.output=0 {port}.source.levelv=0"
        return replace(moving, leave=(off,), expected=f"^{port} is\\t0\\.0+e[-+]00")

    def connect_message(self, idn_param: str = "IDN", begin_time: float | None = None) -> None:
        """Say nothing: standard output belongs to the user's program."""

    def get_idn(self) -> dict[str, str | None]:
        """From the verified identity; sends nothing."""
        parts = BenchInstrument.get_idn(self)
        return {**parts, "model": (parts["model"] or "").upper().removeprefix("MODEL").strip()}

    def errors(self) -> list[str]:
        """Empty the error queue: ``code message`` each."""
        found = []
        try:
            while int(float(self.ask("errorqueue.count"))) > 0:
                code, message, *_ = self.ask("errorqueue.next()").split("\t")
                found.append(f"{int(float(code))} {message.strip()}")
                if len(found) > 64:
                    break
        except ValueError as error:
            raise self.fault(f"gave an answer without meaning when it was asked for errors ({error})") from error
        return found

    # -- wire ---------------------------------------------------------------------------------------------------

    def numbers(self, expressions: Sequence[str]) -> list[float]:
        """Print several numbers in one round trip."""
        return self.inquire(f"print({', '.join(expressions)})", _numbers(len(expressions)), "asking for its state")

    def transact(
        self,
        commands: str,
        shown: Sequence[str],
        doing: str,
        *,
        errors: int,
        expected: Sequence[float] = (),
        tolerance: float = 1e-9,
        anyway: bool = False,
    ) -> list[float]:
        """Commands, then the values of ``shown``, in one round trip.

        Place ``errors`` of ``shown`` is the error count; the first ones are compared with ``expected`` (relative
        ``tolerance``). Raises InstrumentError, with the error queue's own words where there are any.
        """
        self._prepare()
        values = self.inquire(f"{commands} print({','.join(shown)})", _numbers(len(shown)), doing, anyway=anyway)
        if values[errors] != 0:
            self.complain(self.errors(), doing, anyway)
        for name, value, wanted in zip(shown, values, expected, strict=False):
            if abs(value - wanted) > tolerance * max(abs(wanted), 1e-12):
                raise self.fault(f"has {name} = {value:g} after {doing}, although {wanted:g} was sent")
        return values

    def _prepare(self) -> None:
        if not self._prepared:
            # The mark is gone once the instrument has been switched off and on, and all its settings with it.
            self._session.write(f"format.asciiprecision=10 format.byteorder=format.LITTLEENDIAN {MARK}=1")
            self._prepared = True

    def require_settings_kept(self) -> None:
        """InstrumentError if the mark that was set when it was first configured is gone."""
        if self._prepared and self._session.query(f"print({MARK})").strip().startswith("nil"):
            raise self.restarted()

    def forget(self) -> None:
        """Formats and routines are sent again before they are used."""
        self._prepared = False
        self._routines.clear()

    def unpack(self, block: bytes, rows: int, columns: int) -> NDArray[np.float64]:
        """Numbers (rows, columns) of a REAL64 block: ``#0``, 8 bytes each, line feed. ValueError for anything else."""
        if not block.startswith(b"#0") or not block.endswith(b"\n"):
            raise ValueError(f"a damaged block of readings, {block[:8]!r} … {block[-2:]!r}")
        count = rows * columns
        return np.array(struct.unpack(f"<{count}d", block[2:-1]), dtype=np.float64).reshape(rows, columns)

    def _routine(self, body: str, arguments: str) -> str:
        """Define a Lua function once; its name."""
        known = self._routines.get(body)
        if known is None:
            self._prepare()
            self._loaded += 1  # a name is never used twice, so that nobody calls another routine by an old name
            known = f"hil_routine_{self._loaded}"
            self._session.write(f"loadandrunscript\nfunction {known}({arguments})\n{body}\nend\nendscript")
            self.check_errors("loading a measurement function")
            self._routines[body] = known
        return known

    # -- both channels together -----------------------------------------------------------------------------------

    def level_writer(self, ports: Sequence[str]) -> Callable[[Sequence[float]], None]:
        """Set the voltage levels of ``ports`` in one round trip; levels, outputs and the error queue are read back."""
        assignments = " ".join(f"{port}.source.levelv={{:.10g}}" for port in ports)
        shown = [f"{port}.source.levelv" for port in ports] + [f"{port}.source.output" for port in ports]
        message = f"{assignments} print({','.join(shown)},errorqueue.count)"
        count = len(ports)
        decode = _numbers(2 * count + 1)

        def write(levels: Sequence[float]) -> None:
            self._prepare()
            # The same set-points twice do no harm, and they are read back.
            values = self.inquire(message.format(*levels), decode, "setting levels")
            if values[-1] != 0:
                self.check_errors("setting levels")
            self.require_levels(ports, levels, values[:count], values[count : 2 * count])

        return write

    def condition_reader(self, ports: Sequence[str]) -> Callable[[], list[Condition]]:
        """Level, output and compliance of ``ports`` in one round trip."""
        shown = ",".join(f"{port}.source.levelv,{port}.source.output,{port}.source.compliance" for port in ports)
        message = f"print({shown})"

        def decode(reply: str) -> list[Condition]:
            parts = reply.split("\t")
            if len(parts) != 3 * len(ports):
                raise ValueError(f"{reply[:60]!r}")
            return [
                Condition(float(parts[k]), float(parts[k + 1]) != 0, not _truth(parts[k + 2])) for k in range(0, len(parts), 3)
            ]

        return lambda: self.inquire(message, decode, "looking at the sources")

    def delivery_reader(self, ports: Sequence[str]) -> Callable[[], list[Delivery]]:
        """Voltage at the terminals of ``ports``, measured, beside output and compliance, in one round trip."""
        shown = ",".join(f"{port}.source.output,{port}.source.compliance,{port}.measure.v()" for port in ports)
        message = f"print({MARK},{shown})"

        def decode(reply: str) -> list[Delivery] | None:
            mark, *parts = reply.split("\t")
            if mark.strip() == "nil":
                return None
            if len(parts) != 3 * len(ports):
                raise ValueError(f"{reply[:60]!r}")
            return [
                Delivery(float(parts[3 * k + 2]), self._voltage_error(port), float(parts[3 * k]) != 0, _truth(parts[3 * k + 1]))
                for k, port in enumerate(ports)
            ]

        def measure() -> list[Delivery]:
            self._prepare()
            found = self.inquire(message, decode, "measuring what the sources deliver")
            if found is None:
                raise self.restarted()
            return found

        return measure

    def _voltage_error(self, port: str) -> float:
        """Largest difference, V, between level and reading in the present range: source and measure accuracy, 1 year."""
        known = self.settings().get(f"{port}.source_range_V", self.voltage_ranges[-1])
        full_scale = float(known) if isinstance(known, int | float) else self.voltage_ranges[-1]
        return 4e-4 * full_scale + self.voltage_offsets[self.voltage_ranges.index(full_scale)]

    def acquisition(self, terminals: Sequence[tuple[str, str]]) -> Callable[[int], Acquired]:
        """Read ``terminals`` (port, ``volt`` | ``curr``), both channels overlapped, as one REAL64 block."""
        body = "\n".join(measuring(terminals))
        self._routine(body, "count")
        patience = self._session.link.timeout

        def read(samples: int) -> Acquired:
            duration = 2 * samples * _slowest(self, terminals)
            timeout = None if duration < 0.5 * patience else patience + 2 * duration
            return self._acquired(f"{self._routine(body, 'count')}({samples})", samples, len(terminals), timeout)

        return read

    def list_acquisition(
        self, ports: Sequence[str], terminals: Sequence[tuple[str, str]], dwell: float
    ) -> tuple[Callable[[NDArray[np.float64], int, bool], Acquired], Callable[[int], float]]:
        """Levels of ``ports`` (n, n_ports) from a list, ``dwell`` s and overlapped readings at each: one round trip a list."""
        lists = [f"list{position}" for position in range(len(ports))]
        body, arguments = "\n".join(listing(ports, lists, terminals, dwell)), ", ".join(["count", "home", *lists])
        self._routine(body, arguments)
        both = 2.0 if len(terminals) > len({port for port, _ in terminals}) else 1.0

        def seconds(samples: int) -> float:
            return dwell + samples * _slowest(self, terminals) * both

        def run(levels: NDArray[np.float64], samples: int, home: bool) -> Acquired:
            columns = [",".join(f"{level:.10g}" for level in column) for column in levels.T]
            call = f"{self._routine(body, arguments)}({samples},{int(home)},{','.join(f'{{{column}}}' for column in columns)})"
            rows = samples * len(levels)
            patience = self._session.link.timeout + 2 * len(levels) * seconds(samples)
            return self._acquired(call, rows, len(terminals), patience, repeat=False)

        return run, seconds

    def waveform_player(
        self, ports: Sequence[str], terminals: Sequence[tuple[str, str]]
    ) -> tuple[Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float], Acquired], float]:
        """Levels of ``ports`` at given times, readings that end at given times, one round trip; ends at 0 V."""
        lists = [f"list{position}" for position in range(len(ports))]
        body, arguments = "\n".join(playing(ports, lists, terminals)), ", ".join(["finish", "times", "reads", *lists])
        fetch = "\n".join(handing(terminals))
        for one, names in ((body, arguments), (fetch, "count")):
            self._routine(one, names)
        both = 2.0 if len(terminals) > len({port for port, _ in terminals}) else 1.0

        def lead() -> float:
            return both * _slowest(self, terminals) + READING_OVERHEAD

        def run(levels: NDArray[np.float64], begins: NDArray[np.float64], samples: NDArray[np.float64], end: float) -> Acquired:
            times = np.concatenate([begins, samples - lead()])
            reads = np.repeat([0, 1], [len(begins), len(samples)])
            order = np.argsort(times, kind="stable")
            columns = [times[order], reads[order], *levels.T]
            tables = ",".join("{" + ",".join(f"{value:.10g}" for value in column) + "}" for column in columns)
            call = f"{self._routine(body, arguments)}({end:.10g},{tables})"
            patience = self._session.link.timeout + 2 * end
            (late,) = self.inquire(in_lines(call), _numbers(1), "playing a waveform", timeout=patience, repeat=False)
            if late > LATEST:
                raise self.fault(
                    f"fell {late:.3g} s behind while it played a waveform, and went to 0 V; fix its `current_range` (autorange "
                    "takes its time), integrate for a shorter time (`nplc`), or take fewer samples"
                )
            return self._acquired(
                f"{self._routine(fetch, 'count')}({len(samples)})", len(samples), len(terminals), None, repeat=False
            )

        return run, lead()

    def _acquired(self, call: str, rows: int, columns: int, timeout: float | None, *, repeat: bool = True) -> Acquired:
        """Readings and overload flags (rows, columns) that ``call`` prints: readings first, then their statuses.

        ``repeat``: the call does nothing but read, so that it may be sent again.
        """

        def ask() -> NDArray[np.float64]:
            block = self._session.query_bytes(in_lines(call), 3 + 16 * columns * rows, timeout=timeout)
            return self.unpack(block, rows, 2 * columns)

        table = self._again(ask, "reading", repeat)
        values = table[:, :columns]
        status = np.nan_to_num(table[:, columns:]).astype(np.int64)
        return Acquired.of(values, (status & (IN_COMPLIANCE | OVER_TEMPERATURE)) != 0)

    def pulse(self, port: str, level: float, width: float, *, period: float, count: int = 1) -> None:
        """Voltage pulses from 0 V, run by the instrument itself; ends at 0 V whatever becomes of the host. Seconds, volts."""
        if not 0 < width < period:
            raise ConfigError(f"{self.name}.{port}: a pulse of {width:g} s does not fit into a period of {period:g} s")
        self.submodules[port].parameters["volt"].validate(level)
        body = (
            "for index = 1, count do\n"
            f"{port}.source.levelv = level delay(width)\n"
            f"{port}.source.levelv = 0 delay(period - width)\n"
            f"end\n{port}.source.levelv = 0\nprint({port}.source.levelv, errorqueue.count)"
        )
        name = self._routine(body, "level, width, period, count")
        patience = self._session.link.timeout + 2 * count * period
        call = f"{name}({level:.10g},{width:.10g},{period:.10g},{count})"
        _, errors = self.inquire(call, _numbers(2), "a pulse", timeout=patience, repeat=False)
        if errors != 0:
            self.check_errors("a pulse")


def _numbers(count: int) -> Callable[[str], list[float]]:
    """Decoder of ``count`` numbers that were printed; ValueError for anything else."""

    def decode(reply: str) -> list[float]:
        values = [float(part) for part in reply.split("\t")]
        if len(values) != count:
            raise ValueError(f"{reply[:60]!r}")
        return values

    return decode


def _truth(word: str) -> bool:
    if word.strip() not in ("true", "false"):
        raise ValueError(f"{word[:20]!r} is neither true nor false")
    return word.strip() == "true"


def _slowest(unit: Keithley2600B, terminals: Sequence[tuple[str, str]]) -> float:
    """Seconds of the slowest reading, as the channels are set now."""
    return max(_seconds_per_sample(unit, port) for port, _ in terminals)


def _seconds_per_sample(unit: Keithley2600B, port: str) -> float:
    known = unit.settings().get(f"{port}.nplc", 1.0)
    return float(known) / 50.0 if isinstance(known, int | float) else 0.5


class _Low(Keithley2600B):
    voltage_ranges = (0.1, 1.0, 6.0, 40.0)
    voltage_offsets = (0.4e-3, 0.6e-3, 2.8e-3, 20e-3)
    current_ranges = (100e-9, 1e-6, 10e-6, 100e-6, 1e-3, 10e-3, 100e-3, 1.0, 3.0)
    compliance_span = (10e-9, 3.0)
    spans = (40.4, 3.03)


class Keithley2602B(_Low):
    """Two channels, 40 V, 3 A, ranges from 100 nA. Manual: 2600BS-901-01."""

    concrete = True


class Keithley2636B(Keithley2600B):
    """Two channels, 200 V, 1.5 A, current measured from the 100 pA range. Manual: 2600BS-901-01."""

    concrete = True
    voltage_ranges = (0.2, 2.0, 20.0, 200.0)
    voltage_offsets = (0.6e-3, 0.95e-3, 10e-3, 100e-3)
    current_ranges = (100e-12, 1e-9, 10e-9, 100e-9, 1e-6, 10e-6, 100e-6, 1e-3, 10e-3, 100e-3, 1.0, 1.5)
    compliance_span = (100e-12, 1.5)
    spans = (202.0, 1.515)
