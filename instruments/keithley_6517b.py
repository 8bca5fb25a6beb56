"""Keithley 6517B electrometer, SCPI, usually on a serial line.

Source: Model 6517B Electrometer Reference Manual (6517B-901-01), sections 11 (RS-232: commands are obeyed after a line feed)
and 14 (SCPI reference: FORMat, INITiate, SENSe with its filters, SYSTem:ZCHeck, TRACe, the three layers of TRIGger). Overflow
reads +9.9E37, zero check +9.91E37; buffer elements must match the format's (error +313).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from qcodes.parameters import Parameter
from qcodes.validators import Bool, Numbers

from hil.core.errors import ConfigError
from hil.core.types import Quantity
from instruments.base import ScpiInstrument, number_setting, refuse_unknown, smallest_range
from instruments.roles import Acquired
from instruments.visa import Link
from instruments.wiring import Setting

RANGES = {
    "volt": (2.0, 20.0, 200.0),
    "curr": (2e-11, 2e-10, 2e-9, 2e-8, 2e-7, 2e-6, 2e-5, 2e-4, 2e-3, 2e-2),
}
HEADER = {"volt": "VOLT", "curr": "CURR"}
LONGEST_BUFFER = 10_000
READING_LENGTH = 15
"""Characters of one bare reading."""


class Keithley6517B(ScpiInstrument):
    """Reads volts (over 200 TOhm, under 3 fA) or amperes. Zero check goes off when it is configured. Manual: 6517B-901-01."""

    concrete: ClassVar[bool] = True
    link: ClassVar[Link] = Link(identity=r"(?i)KEITHLEY.*MODEL 6517", baud_rate=9600)

    def __init__(self, name: str, address: str | None = None, **options: Any) -> None:
        super().__init__(name, address, **options)
        self._count = 0
        self._nplc = 1.0
        self._measures = ""
        for parameter, unit, label in (("volt", "V", "Voltage"), ("curr", "A", "Current")):
            self.add_parameter(parameter, label=label, unit=unit, get_cmd=lambda p=parameter: self._one(p), set_cmd=False,
                               snapshot_get=False, docstring="one reading; NaN in overflow")  # fmt: skip
        self.zero_check: Parameter[bool, Any] = self.add_parameter(
            "zero_check",
            label="Zero check",
            vals=Bool(),
            get_cmd=":SYST:ZCH?",
            get_parser=lambda text: int(float(text)) == 1,
            set_cmd=lambda on: self.exchange(f":SYST:ZCH {'ON' if on else 'OFF'}", doing="switching zero check"),
            docstring="on: the input is shunted and reads 9.91E37",
        )
        self.nplc: Parameter[float, Any] = self.add_parameter(
            "nplc",
            label="Integration time",
            unit="PLC",
            vals=Numbers(0.01, 10.0),
            get_cmd=":SENS:VOLT:NPLC?",
            get_parser=float,
            set_cmd=lambda value: self.confirm(f":SENS:VOLT:NPLC {value:g}", ":SENS:VOLT:NPLC?", value, "setting nplc"),
            docstring="of the voltage function",
        )

    def meter_quantities(self) -> Mapping[str, Quantity]:
        """``volt`` or ``curr``; one of them at a time."""
        return {"volt": Quantity.VOLTAGE, "curr": Quantity.CURRENT}

    def configure_meter(self, parameter: str, settings: Mapping[str, Setting]) -> Sequence[str]:
        """Function, fixed range, integration time, guard, single-shot triggering, bare readings; then zero check off.

        Filters go off: one would make a reading out of up to a hundred conversions, and of those from before the last step.
        """
        known = ("range", "nplc", "guard") if parameter == "volt" else ("range", "nplc")
        refuse_unknown(settings, known, f"{self.name}.{parameter}")
        if self._measures not in ("", parameter):
            raise ConfigError(f"{self.name} measures {self._measures} for another output, and one of the two at a time; keep one")
        self._measures = parameter
        head = HEADER[parameter]
        self._nplc = number_setting(settings, "nplc", 1.0) or 1.0
        self.nplc.validate(self._nplc)
        self.exchange(":INIT:CONT OFF", ":ABOR", f":SENS:FUNC '{head}'", doing="choosing the function")
        self.exchange(
            *(":ARM:SOUR IMM", ":ARM:COUN 1", ":ARM:LAY2:SOUR IMM", ":ARM:LAY2:COUN 1", ":ARM:LAY2:DEL 0"),
            *(":TRIG:SOUR IMM", ":TRIG:DEL 0"),
            doing="preparing the triggers",
        )
        self.exchange(
            *(f":SENS:{head}:AVER OFF", f":SENS:{head}:MED OFF", f":SENS:{head}:REF:STAT OFF"),
            doing="switching filters and offset off",
        )
        self.exchange(":FORM:ELEM READ", ":TRAC:ELEM NONE", doing="choosing bare readings")
        self.confirm(f":SENS:{head}:NPLC {self._nplc:g}", f":SENS:{head}:NPLC?", self._nplc, "setting nplc")
        chosen = settings.get("range", RANGES[parameter][-1])
        if chosen == "auto":
            self.exchange(f":SENS:{head}:RANG:AUTO ON", doing="choosing autorange")
        else:
            chosen = smallest_range(RANGES[parameter], float(chosen), self.name)
            self.exchange(f":SENS:{head}:RANG:AUTO OFF", doing="fixing the range")
            self.confirm(f":SENS:{head}:RANG {chosen:g}", f":SENS:{head}:RANG?", chosen, "setting the range", tolerance=0.06)
        self._count = 0
        if "guard" in settings:
            on = int(bool(settings["guard"]))
            self.confirm(f":SENS:VOLT:GUAR {on}", ":SENS:VOLT:GUAR?", on, "driving the inner shield of the cable")
            self.note(guard=bool(on))
        self.exchange(":SYST:ZCH OFF", doing="leaving zero check")
        self.note(function=parameter, range=chosen, nplc=self._nplc, zero_check=False)
        return ()

    def acquisition(self, terminals: Sequence[tuple[str, str]]) -> Callable[[int], Acquired]:
        """One reading through ``:READ?``, several through the buffer: one round trip either way."""
        if len(terminals) != 1:
            raise ConfigError(f"{self.name} reads one quantity at a time, not {[parameter for _, parameter in terminals]}")
        patience = self._session.link.timeout

        def read(samples: int) -> Acquired:
            def decode(text: str) -> Acquired:
                # Bare readings, as it was configured: after it was switched off and on it adds units and times to them.
                values = np.array([float(part) for part in text.split(",")], dtype=np.float64).reshape(samples, 1)
                return Acquired.of(values)

            if samples > LONGEST_BUFFER:
                raise ConfigError(f"{self.name} stores {LONGEST_BUFFER} readings at the most, not {samples}")
            duration = samples * self._nplc / 50.0 * 4 + self.sending(samples * READING_LENGTH)
            timeout = None if duration < 0.5 * patience else patience + duration
            if samples == 1:
                prefix = "" if self._count == 1 else ":TRIG:COUN 1;"
                found = self.inquire(f"{prefix}:READ?", decode, "reading", timeout=timeout)
            else:
                found = self.inquire(
                    f":TRAC:CLE;:TRAC:POIN {samples};:TRIG:COUN {samples};:TRAC:FEED SENS;:TRAC:FEED:CONT NEXT;"
                    ":INIT;*WAI;:TRAC:DATA?",
                    decode,
                    "reading the buffer",
                    timeout=timeout,
                )
            self._count = samples
            return found

        return read

    def _one(self, parameter: str) -> float:
        if self._settings.get("function") != parameter:
            self.configure_meter(parameter, {})
        return float(self.acquisition([("", parameter)])(1).values[0, 0])

    def require_settings_kept(self) -> None:
        """InstrumentError if zero check, which goes off when it is configured and on with the power, is on."""
        if self._settings.get("zero_check") is False and self._session.query(":SYST:ZCH?").strip() != "0":
            raise self.restarted()

    def forget(self) -> None:
        """The trigger count is sent again before it is used."""
        self._count = 0
