"""Keithley DAQ6510 data acquisition and multimeter system, SCPI.

Source: Model DAQ6510 Reference Manual (DAQ6510-901-01), chapter "SCPI command reference": :ROUTe:SCAN, :ROUTe:TERMinals?,
:SENSe[:function], :TRACe, :FORMat:ASCii:PRECision, :SYSTem:ERRor. Its input is 10 MOhm unless automatic impedance is chosen,
and then above 10 GOhm on the 100 mV, 1 V and 10 V ranges only. Overflow reads 9.9E37.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from qcodes.instrument import InstrumentChannel
from qcodes.parameters import Parameter
from qcodes.validators import Enum, Numbers

from hil.core.errors import ConfigError
from hil.core.types import Quantity
from instruments.base import ScpiInstrument, number_setting, refuse_unknown, smallest_range
from instruments.roles import Acquired
from instruments.visa import Link
from instruments.wiring import Setting

RANGES = {
    "volt": (0.1, 1.0, 10.0, 100.0, 1000.0),
    "curr": (10e-6, 100e-6, 1e-3, 10e-3, 100e-3, 1.0, 3.0),
}
MARK = 60
"""Event enable register of an instrument that we configured (errors of all kinds); 0 after it was switched off and on."""
HEADER = {"volt": "VOLT", "curr": "CURR"}
SETTINGS = ("range", "nplc", "auto_zero", "input_impedance")
Decode = Callable[[str], tuple[Any, int]]
_CHANNEL = re.compile(r"ch([12]\d\d)")


class DAQChannel(InstrumentChannel["KeithleyDAQ6510"]):
    """One channel of a scanner card, e.g. ``ch101``; read through the rear terminals."""

    def __init__(self, parent: "KeithleyDAQ6510", name: str) -> None:
        super().__init__(parent, name)
        self.unit = parent
        _add_readings(self, parent, name)

    def meter_quantities(self) -> Mapping[str, Quantity]:
        """``volt`` and, on the channels that can, ``curr``."""
        return {"volt": Quantity.VOLTAGE, "curr": Quantity.CURRENT}

    def configure_meter(self, parameter: str, settings: Mapping[str, Setting]) -> Sequence[str]:
        """Function, range, integration time, input impedance of this channel."""
        return self.unit.configure_port(self.short_name, parameter, settings)


class KeithleyDAQ6510(ScpiInstrument):
    """Front terminals as ``volt``/``curr``, scanner channels as ``ch101.volt``; many channels in one scan.

    Manual: DAQ6510-901-01.
    """

    concrete: ClassVar[bool] = True
    link: ClassVar[Link] = Link(identity=r"(?i)KEITHLEY.*MODEL DAQ6510")

    def __init__(self, name: str, address: str | None = None, **options: Any) -> None:
        super().__init__(name, address, **options)
        self._configured: dict[str, tuple[str, float]] = {}
        self._scan: tuple[str, ...] = ()
        self._count = 0
        _add_readings(self, self, "")
        self.nplc: Parameter[float, Any] = self.add_parameter(
            "nplc",
            label="Integration time",
            unit="PLC",
            vals=Numbers(0.0005, 12.0),
            get_cmd=":SENS:VOLT:NPLC?",
            get_parser=float,
            set_cmd=lambda value: self.confirm(f":SENS:VOLT:NPLC {value:g}", ":SENS:VOLT:NPLC?", value, "setting nplc"),
            docstring="of the voltage function at the front terminals",
        )
        self.input_impedance: Parameter[str, Any] = self.add_parameter(
            "input_impedance",
            label="Input impedance",
            get_cmd=":SENS:VOLT:INP?",
            get_parser=lambda text: "10M" if "10" in text else "auto",
            set_cmd=lambda word: self.exchange(f":SENS:VOLT:INP {_impedance(word)}", doing="choosing the input impedance"),
            vals=Enum("auto", "10M"),
            docstring="auto: above 10 GOhm up to the 10 V range",
        )

    def port(self, name: str) -> Any:
        """Scanner channels come into being when they are named."""
        if name and _CHANNEL.fullmatch(name) and name not in self.submodules:
            self.add_submodule(name, DAQChannel(self, name))
        return super().port(name)

    def meter_quantities(self) -> Mapping[str, Quantity]:
        """``volt`` and ``curr`` at the front terminals."""
        return {"volt": Quantity.VOLTAGE, "curr": Quantity.CURRENT}

    def configure_meter(self, parameter: str, settings: Mapping[str, Setting]) -> Sequence[str]:
        """Function, range, integration time, input impedance at the front terminals."""
        return self.configure_port("", parameter, settings)

    def configure_port(self, port: str, parameter: str, settings: Mapping[str, Setting]) -> Sequence[str]:
        """The same for any port; everything is read back. Checks that the terminals switch stands right."""
        refuse_unknown(settings, SETTINGS, f"{self.name}.{port or 'front'}.{parameter}")
        if not self._configured:
            self.require_scpi()
        self._check_terminals(port)
        head, channel = HEADER[parameter], _channel_list([port]) if port else ""
        also, only = (f", {channel}", f" {channel}") if port else ("", "")
        nplc = number_setting(settings, "nplc", 1.0) or 1.0
        self.nplc.validate(nplc)
        self.exchange(
            ":FORM ASC", ":FORM:ASC:PREC 10", f"*ESE {MARK}", f':SENS:FUNC "{head}"{also}', doing="choosing the function"
        )
        self.exchange(
            *(f":SENS:{head}:AVER OFF{also}", f":SENS:{head}:REL:STAT OFF{also}", f":CALC:{head}:MATH:STAT OFF{also}"),
            doing="switching filter, offset and mathematics off",
        )
        chosen = settings.get("range", 10.0 if parameter == "volt" else RANGES["curr"][-1])
        if chosen == "auto":
            self.exchange(f":SENS:{head}:RANG:AUTO ON{also}", doing="choosing autorange")
        else:
            chosen = smallest_range(RANGES[parameter], float(chosen), self.name)
            self.confirm(f":SENS:{head}:RANG {chosen:g}{also}", f":SENS:{head}:RANG?{only}", chosen, "setting the range")
        self.confirm(f":SENS:{head}:NPLC {nplc:g}{also}", f":SENS:{head}:NPLC?{only}", nplc, "setting nplc")
        if "auto_zero" in settings:
            self.exchange(f":SENS:{head}:AZER {'ON' if settings['auto_zero'] else 'OFF'}{also}", doing="setting autozero")
        impedance = str(settings.get("input_impedance", "auto"))
        if parameter == "volt":
            self.exchange(f":SENS:VOLT:INP {_impedance(impedance)}{also}", doing="choosing the input impedance")
        self._configured[port] = (parameter, nplc)
        self._scan, self._count = (), 0
        prefix = f"{port}." if port else ""
        self.note(**{f"{prefix}function": parameter, f"{prefix}range": chosen, f"{prefix}nplc": nplc,
                     f"{prefix}input_impedance": impedance if parameter == "volt" else None})  # fmt: skip
        return ()

    def _check_terminals(self, port: str) -> None:
        found = self.converse(":ROUT:TERM?", "asking for the terminals").strip().upper()
        wanted = "REAR" if port else "FRON"
        if not found.startswith(wanted):
            now = "front" if found.startswith("FRON") else "rear"
            side = "rear terminals (the cards)" if port else "front terminals"
            raise self.fault(
                f"has its terminals switch at {now}, but {port or 'the input'} is read through the {side}; press TERMINALS"
            )

    def acquisition(self, terminals: Sequence[tuple[str, str]]) -> Callable[[int], Acquired]:
        """Front: one reading or a buffer of them. Channels: a scan of all. One round trip."""
        ports = [port for port, _ in terminals]
        if len(set(ports)) < len(ports):
            raise ConfigError(f"{self.name}: one port is read in one quantity at a time: {ports}")
        if "" in ports and len(ports) > 1:
            raise ConfigError(f"{self.name}: front terminals and scanner channels are never read together; use one of them")
        one_sample = sum(self._configured.get(port, ("", 1.0))[1] for port in ports) / 50.0 * 2
        take = self._front if ports == [""] else self._scanned(ports)
        patience = self._session.link.timeout

        def read(samples: int) -> Acquired:
            duration = one_sample * samples
            timeout = None if duration < 0.5 * patience else patience + 2 * duration

            def decode(reply: str) -> tuple[Any, int]:
                text, mark = reply.split(";")
                values = np.array([float(part) for part in text.split(",")], dtype=np.float64)
                return values.reshape(samples, len(ports)), int(mark)

            values, mark = take(samples, decode, timeout)
            if mark != MARK:
                raise self.restarted()
            return Acquired.of(values)

        return read

    def _front(self, samples: int, decode: Decode, timeout: float | None) -> tuple[Any, int]:
        prefix = "" if self._count == samples else f":COUN {samples};"
        if samples == 1:
            found = self.inquire(f"{prefix}:READ?;*ESE?", decode, "reading", timeout=timeout)
        else:
            found = self.inquire(
                f'{prefix}:TRAC:CLE "defbuffer1";:TRAC:TRIG "defbuffer1";*WAI;:TRAC:DATA? 1, {samples}, "defbuffer1", READ;*ESE?',
                decode,
                "reading the buffer",
                timeout=timeout,
            )
        self._count = samples
        return found

    def _scanned(self, ports: Sequence[str]) -> Callable[[int, Decode, float | None], tuple[Any, int]]:
        channels = _channel_list(ports)

        def take(samples: int, decode: Decode, timeout: float | None) -> tuple[Any, int]:
            prefix = ""
            if self._scan != tuple(ports):
                prefix += f":COUN 1;:ROUT:SCAN:CRE {channels};"
            if self._scan != tuple(ports) or self._count != samples:
                prefix += f":ROUT:SCAN:COUN:SCAN {samples};"
            found = self.inquire(
                f'{prefix}:TRAC:CLE "defbuffer1";:INIT;*WAI;:TRAC:DATA? 1, {samples * len(ports)}, "defbuffer1", READ;*ESE?',
                decode,
                "scanning",
                timeout=timeout,
            )
            self._scan, self._count = tuple(ports), samples
            return found

        return take

    def require_settings_kept(self) -> None:
        """InstrumentError if the event enable register, set when it was configured, is back at its default."""
        if self._configured and self._session.query("*ESE?").strip() != str(MARK):
            raise self.restarted()

    def forget(self) -> None:
        """Scan list and counts are sent again before they are used."""
        self._scan, self._count = (), 0

    def read_one(self, port: str, parameter: str) -> float:
        """One reading of one port; NaN in overflow. Configures the port first where that has not been done."""
        if self._configured.get(port, ("", 0.0))[0] != parameter:
            self.configure_port(port, parameter, {})
        return float(self.acquisition([(port, parameter)])(1).values[0, 0])


def _add_readings(module: Any, unit: KeithleyDAQ6510, port: str) -> None:
    for parameter, symbol, label in (("volt", "V", "Voltage"), ("curr", "A", "Current")):
        module.add_parameter(
            parameter,
            label=label,
            unit=symbol,
            get_cmd=lambda p=parameter: unit.read_one(port, p),
            set_cmd=False,
            snapshot_get=False,
            docstring="one reading; NaN in overflow",
        )


def _channel_list(ports: Sequence[str]) -> str:
    return f"(@{','.join(port.removeprefix('ch') for port in ports)})"


def _impedance(word: str) -> str:
    if word not in ("auto", "10M"):
        raise ConfigError(f"input_impedance must be auto or 10M, not {word!r}")
    return "AUTO" if word == "auto" else "MOHM10"
