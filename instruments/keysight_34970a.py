"""Keysight (Agilent) 34970A and DAQ970A data loggers with 20-channel multiplexers, SCPI.

Source: manual "34970A/34972A Command Reference" (34972-90001) and "DAQ970A Programming Guide" (DAQ970-90008): SENSe:VOLTage:DC,
INPut:IMPedance:AUTO and SENSe:ZERO:AUTO (on the DAQ970A both below SENSe:VOLTage:DC), ROUTe:SCAN, ROUTe:CHANnel:DELay:AUTO,
TRIGger:COUNt, READ?. A scan
runs in the order of the channel numbers, whatever the list says. The input is 10 MOhm unless automatic impedance is chosen, and
then above 10 GOhm up to the 10 V range. Overload reads 9.9E37.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from qcodes.instrument import InstrumentChannel
from qcodes.parameters import Parameter
from qcodes.validators import Numbers

from hil.core.errors import ConfigError
from hil.core.types import FloatArray, Quantity
from instruments.base import ScpiInstrument, number_setting, refuse_unknown, smallest_range
from instruments.roles import Acquired
from instruments.visa import Link
from instruments.wiring import Setting

RANGES = (0.1, 1.0, 10.0, 100.0, 300.0)
PLC = (0.02, 0.2, 1.0, 2.0, 10.0, 20.0, 100.0, 200.0)
SETTINGS = ("range", "nplc", "auto_zero", "input_impedance")
RELAY_TIME = 1 / 60  # s per channel
READING_LENGTH = 16  # characters
MARK = 60
"""Event enable register of a logger that we configured; 0 once it has been switched off and on."""
_CHANNEL = re.compile(r"ch([123](0[1-9]|1\d|20))")


class LoggerChannel(InstrumentChannel["KeysightLogger"]):
    """One channel of a multiplexer, e.g. ``ch101``."""

    def __init__(self, parent: "KeysightLogger", name: str) -> None:
        super().__init__(parent, name)
        self.unit = parent
        self.volt: Parameter[float, Any] = self.add_parameter(
            "volt",
            label="Voltage",
            unit="V",
            get_cmd=lambda: parent.read_one(name),
            set_cmd=False,
            snapshot_get=False,
            docstring="one reading; NaN in overload",
        )
        number = name.removeprefix("ch")
        self.nplc: Parameter[float, Any] = self.add_parameter(
            "nplc",
            label="Integration time",
            unit="PLC",
            vals=Numbers(PLC[0], PLC[-1]),
            get_cmd=f":SENS:VOLT:DC:NPLC? (@{number})",
            get_parser=float,
            set_cmd=lambda value: parent.set_nplc(name, value),
            docstring="one of the fixed integration times; the next larger is taken",
        )

    def meter_quantities(self) -> Mapping[str, Quantity]:
        """``volt``."""
        return {"volt": Quantity.VOLTAGE}

    def configure_meter(self, parameter: str, settings: Mapping[str, Setting]) -> Sequence[str]:
        """Range, integration time, input impedance of this channel."""
        return self.unit.configure_channel(self.short_name, settings)


class KeysightLogger(ScpiInstrument):
    """What the models share: channels as ``ch101.volt``, many of them in one scan."""

    link: ClassVar[Link]
    auto_zero: ClassVar[str]
    high_impedance: ClassVar[str]
    """Headers that the models do not share."""

    def __init__(self, name: str, address: str | None = None, **options: Any) -> None:
        super().__init__(name, address, **options)
        self._nplc: dict[str, float] = {}
        self._scan: tuple[tuple[str, ...], int] = ((), 0)

    def port(self, name: str) -> Any:
        """Channels come into being when they are named."""
        if name and _CHANNEL.fullmatch(name) and name not in self.submodules:
            self.add_submodule(name, LoggerChannel(self, name))
        return super().port(name)

    def set_nplc(self, port: str, wanted: float) -> float:
        """Choose the integration time; the one that was taken, PLC."""
        taken = min(one for one in PLC if one >= wanted * (1 - 1e-9))
        channel = f"(@{port.removeprefix('ch')})"
        self.confirm(f":SENS:VOLT:DC:NPLC {taken:g},{channel}", f":SENS:VOLT:DC:NPLC? {channel}", taken, "setting nplc")
        self._nplc[port] = taken
        return taken

    def configure_channel(self, port: str, settings: Mapping[str, Setting]) -> Sequence[str]:
        """DC volts, range, integration time, input impedance of one channel; read back."""
        where = f"{self.name}.{port}.volt"
        refuse_unknown(settings, SETTINGS, where)
        channel = f"(@{port.removeprefix('ch')})"
        nplc = number_setting(settings, "nplc", 1.0) or 1.0
        if not PLC[0] <= nplc <= PLC[-1]:
            raise ConfigError(f"{where}: nplc {nplc:g} is outside {PLC[0]:g} … {PLC[-1]:g}")
        impedance = settings.get("input_impedance", "auto")
        if impedance not in ("auto", "10M"):
            raise ConfigError(f"{where}: input_impedance must be auto or 10M, not {impedance!r}")
        chosen = settings.get("range", 10.0)
        if self.serial:
            self.exchange(":SYST:REM", doing="taking it out of local mode")  # where it refuses to read through this line
        # What is enabled outlives a power failure unless it is told not to, and would hide one.
        self.exchange("*PSC 1", f"*ESE {MARK}", f':SENS:FUNC "VOLT",{channel}', doing="choosing the function")
        self.exchange(f":CALC:SCAL:STAT OFF,{channel}", doing="switching scaling off")
        if chosen == "auto":
            self.exchange(f":SENS:VOLT:DC:RANG:AUTO ON,{channel}", doing="choosing autorange")
        else:
            chosen = smallest_range(RANGES, float(chosen), where)
            self.confirm(
                f":SENS:VOLT:DC:RANG {chosen:g},{channel}", f":SENS:VOLT:DC:RANG? {channel}", chosen, "setting the range"
            )
        taken = self.set_nplc(port, nplc)
        # A delay that was set by hand goes: the logger's own suits range and integration time.
        delay = f":ROUT:CHAN:DEL:AUTO ON,{channel}"
        self.confirm(delay, f":ROUT:CHAN:DEL:AUTO? {channel}", 1.0, "choosing its own channel delay")
        auto_zero = bool(settings.get("auto_zero", True))
        self.exchange(f"{self.auto_zero} {'ON' if auto_zero else 'OFF'},{channel}", doing="setting autozero")
        self.exchange(f"{self.high_impedance} {'ON' if impedance == 'auto' else 'OFF'},{channel}", doing="choosing the impedance")
        self._scan = ((), 0)
        self.note(**{f"{port}.range": chosen, f"{port}.nplc": taken, f"{port}.input_impedance": impedance})
        self.note(**{f"{port}.auto_zero": auto_zero})
        return () if taken == nplc else (f"{where}: integrates over {taken:g} line cycles, the next it has above {nplc:g}",)

    def acquisition(self, terminals: Sequence[tuple[str, str]]) -> Callable[[int], Acquired]:
        """A scan of all channels, as often as there are samples: one round trip."""
        ports = [port for port, _ in terminals]
        if len(set(ports)) < len(ports):
            raise ConfigError(f"{self.name}: a channel is read once per scan: {ports}")
        scanned = tuple(sorted(ports))
        order = [scanned.index(port) for port in ports]
        listed = f"(@{','.join(port.removeprefix('ch') for port in scanned)})"
        patience = self._session.link.timeout

        def decode(reply: str, samples: int) -> tuple[FloatArray, int]:
            text, mark = reply.split(";")
            values = np.array([float(part) for part in text.split(",")], dtype=np.float64)
            return values.reshape(samples, len(ports)), int(mark)

        def read(samples: int) -> Acquired:
            duration = samples * sum(2 * self._nplc.get(port, 1.0) / 50.0 + 2 * RELAY_TIME for port in ports)
            duration += self.sending(samples * len(ports) * READING_LENGTH)
            prefix = ""
            if self._scan != (scanned, samples):
                units = ":FORM:READ:UNIT OFF;:FORM:READ:CHAN OFF;:FORM:READ:TIME OFF;:FORM:READ:ALAR OFF;"
                prefix = f":ROUT:SCAN {listed};{units}:TRIG:SOUR IMM;:TRIG:COUN {samples};"
            timeout = None if duration < 0.5 * patience else patience + 2 * duration
            table, mark = self.inquire(f"{prefix}:READ?;*ESE?", lambda reply: decode(reply, samples), "scanning", timeout=timeout)
            if mark != MARK:
                raise self.restarted()
            self._scan = (scanned, samples)
            values = table[:, order]
            return Acquired.of(values)

        return read

    def require_settings_kept(self) -> None:
        """InstrumentError if the event enable register, set when it was configured, is back at its default."""
        if self._nplc and float(self._session.query("*ESE?")) != MARK:
            raise self.restarted()

    def forget(self) -> None:
        """The scan list is sent again before it is used."""
        self._scan = ((), 0)

    def read_one(self, port: str) -> float:
        """One reading of one channel; NaN in overload."""
        if port not in self._nplc:
            self.configure_channel(port, {})
        return float(self.acquisition([(port, "volt")])(1).values[0, 0])


class Keysight34970A(KeysightLogger):
    """6.5 digits, three slots of multiplexers. Manual: 34972-90001."""

    concrete: ClassVar[bool] = True
    link: ClassVar[Link] = Link(identity=r"(?i)(?:HEWLETT-PACKARD|AGILENT|KEYSIGHT).*34970A", baud_rate=9600)
    auto_zero = ":SENS:ZERO:AUTO"
    high_impedance = ":INP:IMP:AUTO"


class KeysightDAQ970A(KeysightLogger):
    """6.5 digits, three slots of multiplexers. Manual: DAQ970-90008."""

    concrete: ClassVar[bool] = True
    link: ClassVar[Link] = Link(identity=r"(?i)KEYSIGHT.*DAQ970A")
    auto_zero = ":SENS:VOLT:DC:ZERO:AUTO"
    high_impedance = ":SENS:VOLT:DC:IMP:AUTO"
