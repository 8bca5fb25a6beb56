"""Keysight (Agilent) 34970A and DAQ970A data loggers with 34901A/DAQM901A multiplexers of twenty channels in slots 1 to 3.

Language: 34970A/34972A command reference 34972-90001 and DAQ970A programming guide DAQ970-90008 (CONFigure and SENSe with
channel lists; INPut:IMPedance:AUTO and SENSe:ZERO:AUTO, on the DAQ970A both below SENSe:VOLTage; ROUTe:SCAN: a scan runs in
the order of the channel numbers; TRIGger:COUNt sweeps; readings kept until the next INITiate; FETCh? waits; R? sends a block of
definite length; overload +9.90000000E+37). Figures: data sheets 5965-5290EN and 5992-3168EN: DC volts, one year, 23 °C ± 5 °C,
(% of reading + % of range) per range, 20 % overrange (none at 300 V), input over 10 Gohm up to 10 V when chosen, 10 Mohm
otherwise, bias current below 30 pA; rms noise by integration time; 34901A: 60 channels per second.

Ports: "ch101" … "ch120", "ch201" …, "ch301" …; nothing is connected to the meter between scans. Not imitated: functions other
than DC volts, the current channels 21 and 22, alarms, monitoring, scaling, isolation of the relays.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf, isinf, sqrt
from typing import ClassVar

import numpy as np

from simulated_backend.virtual_bench.converter import LIMIT, Converter, Range
from simulated_backend.virtual_bench.ports import ElectricalPort, PlantView
from simulated_backend.virtual_bench.scpi import ScpiEmulator, ScpiError, boolean, channel_list, choice, number, quoted

HIGH_RESISTANCE, LOW_RESISTANCE = 10e9, 10e6
BIAS_LIMIT = 30e-12
HIGH_RESISTANCE_UP_TO = 10.0
RELAY_TIME = 1.0 / 60.0
AUTOZERO_FACTOR = 2.0
AUTOZERO_FROM = 1.0
"""PLC from which every reading is followed by one of the internal zero."""
NOISE = 1e-6
"""Rms noise at 1 PLC as a fraction of range; it falls as 1/sqrt(PLC)."""
PLC = (0.02, 0.2, 1.0, 2.0, 10.0, 20.0, 100.0, 200.0)
CHANNELS = tuple(100 * slot + channel for slot in (1, 2, 3) for channel in range(1, 21))
FULL_SCALES = (0.1, 1.0, 10.0, 100.0, 300.0)
ACCURACY = {
    "34970A": ((50e-6, 40e-6), (40e-6, 7e-6), (35e-6, 5e-6), (45e-6, 6e-6), (45e-6, 30e-6)),
    "DAQ970A": ((50e-6, 60e-6), (35e-6, 6e-6), (30e-6, 4e-6), (40e-6, 6e-6), (40e-6, 20e-6)),
}
"""(fraction of reading, fraction of range) of every range."""
RESOLUTION = 3e-7
"""Of range, at 10 PLC and more; below 1 PLC it is coarser by the noise."""


@dataclass(frozen=True, slots=True)
class _Settings:
    """How one channel is measured."""

    configured: bool = False
    auto: bool = True
    position: int = len(FULL_SCALES) - 1
    nplc: float = 1.0
    high_impedance: bool = False
    autozero: bool = True
    own_delay: bool = True
    delay: float = 0.0
    scaled: bool = False
    gain: float = 1.0
    offset: float = 0.0


class Keysight34970A(ScpiEmulator):
    """The logger and its cards."""

    models: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "Keysight34970A": {"identity": "HEWLETT-PACKARD,34970A,0,13-2-2", "line_frequency": 50.0},
        "KeysightDAQ970A": {
            "identity": "Keysight Technologies,DAQ970A,MY58001234,A.03.02-01.00-03.01-00.02-02-01",
            "line_frequency": 50.0,
        },
    }
    identity = ""
    errors_kept = 10
    _forgets = False

    def __init__(self, name: str, plant: PlantView, options: Mapping[str, object], rng: np.random.Generator) -> None:
        self._cards: dict[int, ElectricalPort] = {channel: plant.electrical(name, f"ch{channel}") for channel in CHANNELS}
        model = "DAQ970A" if "DAQ970A" in str(options["identity"]) else "34970A"
        ranges = [
            Range(full, full * (1.0 if full == 300.0 else 1.2), reading, offset * full, NOISE * full, RESOLUTION * full)
            for full, (reading, offset) in zip(FULL_SCALES, ACCURACY[model], strict=True)
        ]
        self._bias = 0.0 if plant.ideal else LIMIT * BIAS_LIMIT * float(rng.standard_normal())
        self._converter = Converter(ranges, rng, plant.ideal)
        super().__init__(name, plant, options, rng)

    # Language ------------------------------------------------------------------------------------------------------

    def declare(self) -> None:
        """The commands of the manuals that this emulator obeys."""
        add = self.tree.add
        volts = "[:SENSe]:VOLTage[:DC]"
        add("CONFigure[:VOLTage][:DC]", self._configure)
        add("MEASure[:VOLTage][:DC]", query=self._measure)
        add("[:SENSe]:FUNCtion", self._set_function, lambda _s, p: ",".join(['"VOLT"'] * len(self._wanted(p)[0])))
        self._setting(f"{volts}:RANGe", self._set_range, lambda s: f"{FULL_SCALES[s.position]:+.8E}")
        self._setting(f"{volts}:RANGe:AUTO", lambda s, p: replace(s, auto=boolean(p)), lambda s: str(int(s.auto)))
        self._setting(f"{volts}:NPLC", lambda s, p: replace(s, nplc=_nplc(p)), lambda s: f"{s.nplc:+.8E}")
        new = "DAQ970A" in str(self.options["identity"])
        zero, impedance = (
            (f"{volts}:ZERO:AUTO", f"{volts}:IMPedance:AUTO") if new else ("[:SENSe]:ZERO:AUTO", "INPut:IMPedance:AUTO")
        )
        self._setting(zero, lambda s, p: replace(s, autozero=boolean(p)), lambda s: str(int(s.autozero)))
        self._setting(impedance, lambda s, p: replace(s, high_impedance=boolean(p)), lambda s: str(int(s.high_impedance)))
        self._setting(
            "ROUTe:CHANnel:DELay",
            lambda s, p: replace(s, own_delay=False, delay=number(p, 0.0, 60.0, 0.0)),
            lambda s: f"{s.delay:+.8E}",
        )
        self._setting("ROUTe:CHANnel:DELay:AUTO", lambda s, p: replace(s, own_delay=boolean(p)), lambda s: str(int(s.own_delay)))
        self._setting("CALCulate:SCALe:STATe", lambda s, p: replace(s, scaled=boolean(p)), lambda s: str(int(s.scaled)))
        self._setting("CALCulate:SCALe:GAIN", lambda s, p: replace(s, gain=number(p, -1e15, 1e15)), lambda s: f"{s.gain:+.8E}")
        self._setting(
            "CALCulate:SCALe:OFFSet", lambda s, p: replace(s, offset=number(p, -1e15, 1e15)), lambda s: f"{s.offset:+.8E}"
        )
        self._common["*PSC"] = lambda _s, p: setattr(self, "_forgets", boolean(p))
        self._common["*PSC?"] = lambda _s, _p: str(int(self._forgets))
        add("ROUTe:SCAN", self._set_scan, lambda _s, _p: self._listed())
        add("ROUTe:SCAN:SIZE", query=lambda _s, _p: f"+{len(self._scan)}")
        add("ROUTe:CLOSe", lambda _s, p: self._close(self._one(p)), lambda _s, p: self._states(p))
        add("ROUTe:OPEN", self._open)
        add("TRIGger:COUNt", self._set_count, lambda _s, _p: f"{float(self._count):+.8E}")
        add("TRIGger:SOURce", self._set_trigger, lambda _s, _p: self._trigger)
        add("TRIGger:TIMer", self._set_timer, lambda _s, _p: f"{self._timer:+.8E}")
        add("INITiate", lambda _s, _p: self._run())
        add("FETCh", query=lambda _s, _p: self._fetch())
        add("READ", query=lambda _s, _p: self._read())
        add("ABORt", lambda _s, _p: None)
        add("DATA:REMove", query=self._remove)
        add("R", query=self._remove_at_most)
        add("DATA:POINts", query=lambda _s, _p: f"+{len(self._readings)}")
        add("FORMat:READing:UNIT", lambda _s, p: setattr(self, "_units", boolean(p)), lambda _s, _p: str(int(self._units)))
        add("FORMat:READing:CHANnel", lambda _s, p: setattr(self, "_named", boolean(p)), lambda _s, _p: str(int(self._named)))
        for word in ("ALARm", "TIME"):
            add(f"FORMat:READing:{word}", lambda _s, p: _refuse() if boolean(p) else None, lambda _s, _p: "0")
        add("INSTrument:DMM[:STATe]", lambda _s, p: (boolean(p) and None) or None, lambda _s, _p: "1")
        add("SYSTem:CTYPe", query=self._card)
        add("SYSTem:ERRor[:NEXT]", query=self._error)
        add("SYSTem:VERSion", query=lambda _s, _p: "1994.0")
        add("SYSTem:CPON", lambda _s, _p: self._close(None))
        for ignored in ("STATus:PRESet", "SYSTem:REMote", "SYSTem:LOCal"):
            add(ignored, lambda _s, _p: None)
        add("DISPlay[:STATe]", lambda _s, p: (boolean(p) and None) or None)

    def _setting(
        self, notation: str, change: Callable[[_Settings, list[str]], _Settings], show: Callable[[_Settings], str]
    ) -> None:
        """A setting of the channels in a list behind the value; of the scan list where none is given."""

        def command(_s: tuple[int, ...], parameters: list[str]) -> None:
            channels, values = self._wanted(parameters)
            for channel in channels:
                self._settings[channel] = change(self._settings[channel], values)
            self._connect()

        def query(_s: tuple[int, ...], parameters: list[str]) -> str:
            return ",".join(show(self._settings[channel]) for channel in self._wanted(parameters)[0])

        self.tree.add(notation, command, query)

    def _wanted(self, parameters: list[str]) -> tuple[list[int], list[str]]:
        if parameters and parameters[-1].startswith("(@"):
            return [self._known(channel) for channel in channel_list(parameters[-1])], parameters[:-1]
        return list(self._scan), parameters

    def _known(self, channel: int) -> int:
        if channel not in self._cards:
            raise ScpiError(-222, f"channel {channel} is not on a card")
        return channel

    # Settings ------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """The factory state: no scan list, all channels open, 10 Mohm."""
        self._settings = dict.fromkeys(CHANNELS, _Settings())
        self._scan: list[int] = []
        self._count = 1
        self._trigger = "IMM"
        self._timer = 10.0
        self._units = self._named = False
        self._readings: list[tuple[float, int]] = []
        self._close(None)

    def power_on(self) -> None:
        """What is enabled in the status registers stays, unless *PSC 1 was sent."""
        kept = 0 if self._forgets else self.event_enable
        super().power_on()
        self.event_enable = kept

    def _configure(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        """Range, resolution, channels: presets of these channels and of the trigger; they become the scan list."""
        channels, values = self._wanted(parameters)
        word = values[0].upper() if values else "AUTO"
        auto = word in ("AUTO", "DEF", "DEFAULT")
        position = len(FULL_SCALES) - 1 if auto else self._converter.selected(number(values[:1], -300.0, 300.0))
        nplc = 1.0
        if len(values) > 1 and values[1].upper() not in ("DEF", "DEFAULT", "MIN", "MAX"):
            share = number(values[1:2], 1e-9, 300.0) / FULL_SCALES[position]
            nplc = 10.0 if share < 1e-6 else 1.0 if share < 1e-5 else 0.2
        for channel in channels:
            self._settings[channel] = _Settings(True, auto, position, nplc)
        self._scan = sorted(set(channels))
        self._trigger, self._count, self._named = "IMM", 1, False
        self._connect()

    def _set_function(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        channels, values = self._wanted(parameters)
        if quoted(values).upper() not in ("VOLT", "VOLTAGE", "VOLT:DC", "VOLTAGE:DC"):
            raise ScpiError(-241, "only DC volts is imitated")
        for channel in channels:
            self._settings[channel] = replace(self._settings[channel], configured=True)

    def _set_range(self, settings: _Settings, values: list[str]) -> _Settings:
        return replace(settings, auto=False, position=self._converter.selected(number(values, -300.0, 300.0, 300.0)))

    def _set_scan(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        if not parameters:
            raise ScpiError(-109)
        self._scan = sorted({self._known(channel) for channel in channel_list(parameters[0])})
        for channel in self._scan:
            self._settings[channel] = replace(self._settings[channel], configured=True)
        self._readings = []

    def _set_count(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        self._count = round(number(parameters, 1, 50_000, 1))

    def _set_trigger(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        wanted = choice(parameters, ("IMMediate", "TIMer", "BUS", "EXTernal", "ALARm1", "ALARm2", "ALARm3", "ALARm4"))
        if wanted not in ("IMM", "TIM"):
            raise ScpiError(-221, "not imitated")
        self._trigger = wanted

    def _set_timer(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        self._timer = number(parameters, 0.0, 359_999.0, 0.0)

    def _listed(self) -> str:
        text = f"(@{','.join(map(str, self._scan))})"
        return f"#2{len(text):02d}{text}"

    # Relays --------------------------------------------------------------------------------------------------------

    def _one(self, parameters: list[str]) -> int:
        channels = channel_list(parameters[0]) if parameters else []
        if len(channels) != 1:
            raise ScpiError(-221, "the meter takes one channel at a time")
        return self._known(channels[0])

    def _states(self, parameters: list[str]) -> str:
        return ",".join(str(int(channel == self._closed)) for channel in self._wanted(parameters)[0])

    def _open(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        if self._closed in self._wanted(parameters)[0]:
            self._close(None)

    def _close(self, channel: int | None) -> None:
        self._closed: int | None = None
        self._connect()
        if channel is not None:
            self._closed = channel
            self._connect()
            self.plant.clock.advance(RELAY_TIME)

    def _connect(self) -> None:
        """The meter's input on the closed channel, nothing on the others."""
        for channel, port in self._cards.items():
            if channel != self._closed or self.plant.ideal:
                port.set_load(inf, 0.0)
                continue
            settings = self._settings[channel]
            high = settings.high_impedance and FULL_SCALES[settings.position] <= HIGH_RESISTANCE_UP_TO
            port.set_load(HIGH_RESISTANCE if high else LOW_RESISTANCE, self._bias)

    # Measuring -----------------------------------------------------------------------------------------------------

    def _reading(self, channel: int) -> float:
        port = self._cards[channel]
        if self._settings[channel].auto:
            self._autorange(channel, port)
        settings = self._settings[channel]
        aperture = settings.nplc / self.number("line_frequency")
        true = self.plant.observe([port], aperture)[0][0].voltage
        if settings.autozero and settings.nplc >= AUTOZERO_FROM:
            self.plant.clock.advance((AUTOZERO_FACTOR - 1.0) * aperture)
        value = self._converter.read(true, settings.position, 1.0 / sqrt(settings.nplc))
        if isinf(value):
            value = 9.9e37 if value > 0.0 else -9.9e37
        elif settings.scaled:
            value = settings.gain * value + settings.offset
        return self.broken.shown(value)

    def _autorange(self, channel: int, port: ElectricalPort) -> None:
        """Step to the range that fits; changing it may change the input resistance, and with it the voltage."""
        for _ in FULL_SCALES:
            fitting = self._converter.fitting(self.plant.observe([port], 0.0)[0][0].voltage)
            if fitting == self._settings[channel].position:
                return
            self._settings[channel] = replace(self._settings[channel], position=fitting)
            self._connect()

    def _run(self) -> None:
        """All sweeps of the scan list; the readings of the run before are gone."""
        if not self._scan:
            raise ScpiError(-221, "the scan list is empty")
        self._readings = []
        start = self.plant.clock.now()
        for sweep in range(self._count):
            if self._trigger == "TIM":
                self.plant.clock.advance(max(0.0, start + sweep * self._timer - self.plant.clock.now()))
            for channel in self._scan:
                self._close(channel)
                if not self._settings[channel].own_delay:
                    self.plant.clock.advance(self._settings[channel].delay)
                self._readings.append((self._reading(channel), channel))
        self._close(None)

    def trigger(self) -> None:
        """*TRG starts what INITiate starts."""
        self._run()

    def _fetch(self) -> str:
        if not self._readings:
            raise ScpiError(-230)
        return self._told(self._readings)

    def _told(self, readings: list[tuple[float, int]]) -> str:
        unit = " VDC" if self._units else ""
        return ",".join(f"{value:+.8E}{unit}" + (f",{channel}" if self._named else "") for value, channel in readings)

    def _remove(self, _s: tuple[int, ...], parameters: list[str]) -> str:
        """The oldest readings, which are not kept any longer."""
        count = round(number(parameters, 1, 50_000))
        if count > len(self._readings):
            raise ScpiError(-222, "there are not so many readings")
        taken, self._readings = self._readings[:count], self._readings[count:]
        return self._told(taken)

    def _remove_at_most(self, _s: tuple[int, ...], parameters: list[str]) -> str:
        """The oldest readings, as many as there are, as a block of definite length; ``#10`` when there are none."""
        wanted = round(number(parameters, 1, 100_000)) if parameters else len(self._readings)
        count = min(wanted, len(self._readings))
        text = self._remove((), [str(count)]) if count else ""
        return f"#{len(str(len(text)))}{len(text)}{text}"

    def _read(self) -> str:
        self._run()
        return self._fetch()

    def _measure(self, suffixes: tuple[int, ...], parameters: list[str]) -> str:
        self._configure(suffixes, parameters)
        return self._read()

    def _card(self, _s: tuple[int, ...], parameters: list[str]) -> str:
        slot = round(number(parameters, 100, 300))
        if slot not in (100, 200, 300):
            raise ScpiError(-222)
        return "HEWLETT-PACKARD,34901A,0,2.3"

    def _error(self, _s: tuple[int, ...], _p: list[str]) -> str:
        code, text = self.next_error()
        return f'{code:+d},"{text}"'


def _nplc(values: list[str]) -> float:
    """The integration time that is chosen: one of the fixed ones, the next larger."""
    wanted = number(values, PLC[0], PLC[-1], 1.0)
    return min(one for one in PLC if one >= wanted * (1.0 - 1e-9))


def _refuse() -> None:
    raise ScpiError(-221, "not imitated")
