"""Keithley 6517B electrometer: volts and amperes, and its built-in voltage source.

Language: 6517B reference manual 6517B-901-01, section 14 (data string of reading, status letter, unit, time stamp, reading
number, channel; overflow +9.9E37, zero check +9.91E37). Figures: specification SPEC-6517BC: accuracies and resolutions of
all ranges, input > 200 Tohm (1 Mohm with zero check on), bias < 3 fA, voltage burden by range, source 0-100 V at 10 mA and
0-1000 V at 1 mA. Noise is not specified per reading: one and a half counts at 1 PLC are taken.

Ports: "" is the input, "vsource" the source. Over the serial line messages may end in LF, CR or both; replies end as the
option ``terminator`` says. A run that no trigger starts, or that has no end, is error -214 here. Not imitated: ohms, coulombs,
humidity, temperature, the math, limits, what the median filter does.
"""

from collections.abc import Mapping, Sequence
from math import inf, isinf, sqrt
from typing import ClassVar, Literal

import numpy as np

from hil.core.errors import ConfigError
from simulated_backend.virtual_bench.converter import LIMIT, Converter
from simulated_backend.virtual_bench.emulators.keithley_6517b_datasheet import (
    AMPERE_RANGES,
    BIAS_LIMIT,
    BURDENS,
    INPUT_RESISTANCE,
    OVERRANGE,
    VOLT_RANGES,
    ZERO_CHECK_RESISTANCE,
)
from simulated_backend.virtual_bench.ports import Open, PlantView, VoltageSource
from simulated_backend.virtual_bench.scpi import ScpiEmulator, ScpiError, boolean, choice, keyword, number, quoted

LONGEST_BUFFER = 50_000
ELEMENTS = ("READing", "STATus", "RNUMber", "UNITs", "TSTamp", "CHANnel", "ETEMperature", "HUMidity", "VSOurce")
DEFAULT_ELEMENTS = ("READ", "STAT", "RNUM", "UNIT", "TST", "CHAN")
STORABLE = ("TSTamp", "HUMidity", "CHANnel", "ETEMperature", "VSOurce")
DEFAULT_STORED = ("TST", "HUM", "CHAN", "ETEM", "VSO")
TERMINATORS: Mapping[object, bytes] = {"lf": b"\n", "cr": b"\r", "crlf": b"\r\n"}

ARM_LAYER, SCAN_LAYER, TRIGGER_LAYER = "ARM[:SEQuence][:LAYer]", "ARM[:SEQuence]:LAYer2", "TRIGger[:SEQuence]"
LAYERS: tuple[str, ...] = (ARM_LAYER, SCAN_LAYER, TRIGGER_LAYER)
CONTROL_SOURCES = ("IMMediate", "HOLD", "MANual", "BUS", "TLINk", "EXTernal", "TIMer")

Function = Literal["VOLT", "CURR"]


class _Channel:
    """Settings of one measuring function."""

    def __init__(self, converter: Converter) -> None:
        self.converter = converter
        self.clear()

    def clear(self) -> None:
        """The defaults."""
        self.auto = True
        self.position = len(self.converter.ranges) - 1
        self.nplc = 1.0
        self.averaging = self.median = self.relative = False
        self.reference = 0.0
        self.count = 10
        self.guard = False


class Keithley6517B(ScpiEmulator):
    """The electrometer."""

    models: ClassVar[Mapping[str, Mapping[str, object]]] = {"Keithley6517B": {"terminator": "lf", "line_frequency": 50.0}}
    transport = "serial"
    identity = "KEITHLEY INSTRUMENTS INC.,MODEL 6517B,1234567,A13/700x"

    def __init__(self, name: str, plant: PlantView, options: Mapping[str, object], rng: np.random.Generator) -> None:
        if options["terminator"] not in TERMINATORS:
            raise ConfigError(f"option 'terminator' of {name!r} must be lf, cr or crlf, not {options['terminator']!r}")
        self.terminator = TERMINATORS[options["terminator"]]
        self._input = plant.electrical(name, "")
        self._source = plant.electrical(name, "vsource")
        ideal = plant.ideal
        self._bias = 0.0 if ideal else LIMIT * BIAS_LIMIT * float(rng.standard_normal())
        self._burden_share = 0.0 if ideal else LIMIT * float(rng.standard_normal())
        """Of the limit of its range, the same share on all."""
        self._channels: dict[str, _Channel] = {
            "VOLT": _Channel(Converter(VOLT_RANGES, rng, ideal)),
            "CURR": _Channel(Converter(AMPERE_RANGES, rng, ideal)),
        }
        self._function = "VOLT"
        super().__init__(name, plant, options, rng)

    # Language ------------------------------------------------------------------------------------------------------

    def declare(self) -> None:
        """The commands of the manual's section 14 that this emulator obeys."""
        add = self.tree.add
        add("[:SENSe#]:FUNCtion[:ON]", self._set_function, lambda _s, _p: f'"{self._function}:DC"')
        for function, name in (("VOLT", "VOLTage"), ("CURR", "CURRent")):
            self._declare_function(function, f"[:SENSe#]:{name}[:DC]")
        add("SYSTem:ZCHeck[:STATe]", self._set_zero_check, lambda _s, _p: str(int(self._zero_check)))
        add("SYSTem:ERRor[:NEXT]", query=self._error)
        add("SYSTem:PRESet", lambda _s, _p: self.reset())
        add("SYSTem:VERSion", query=lambda _s, _p: "1996.0")
        add("SYSTem:LSYNc[:STATe]", self._set_line_sync, lambda _s, _p: str(int(self._line_sync)))
        add("SYSTem:TSTamp:TYPE", lambda _s, p: choice(p, ("RELative",)) and None, lambda _s, _p: "REL")
        add("SYSTem:TSTamp:RELative:RESet", lambda _s, _p: self._restart_stamp())
        add("SYSTem:RNUMber:RESet", lambda _s, _p: self._restart_numbers())
        add("STATus:PRESet", lambda _s, _p: None)
        add("FORMat:ELEMents", self._set_elements, lambda _s, _p: ",".join(self._elements))
        add("FORMat[:DATA]", lambda _s, p: choice(p, ("ASCii",)) and None, lambda _s, _p: "ASC")
        add("INITiate[:IMMediate]", lambda _s, _p: self._measure())
        add("INITiate:CONTinuous", self._set_continuous, lambda _s, _p: str(int(self._continuous)))
        add("ABORt", lambda _s, _p: None)
        add("READ", query=lambda _s, _p: self._read())
        add("FETCh", query=lambda _s, _p: self._fetch())
        add("[:SENSe#]:DATA[:LATest]", query=lambda _s, _p: self._fetch())
        add("[:SENSe#]:DATA:FRESh", query=lambda _s, _p: self._read())
        add("MEASure", query=lambda _s, _p: self._read())
        for function, name in (("VOLT", "VOLTage"), ("CURR", "CURRent")):
            self._declare_configuration(function, name)
        add("TRIGger[:SEQuence]:COUNt", self._set_count, lambda _s, _p: str(self._count))
        for layer in LAYERS:
            self._declare_layer(layer)
        add("TRACe:POINts", self._set_points, lambda _s, _p: str(self._points))
        add("TRACe:FEED:CONTrol", self._set_feed, lambda _s, _p: "NEXT" if self._filling else "NEV")
        add("TRACe:FEED", lambda _s, p: choice(p, ("SENSe",)) and None, lambda _s, _p: "SENS1")
        add("TRACe:ELEMents", self._set_stored, lambda _s, _p: ",".join(self._stored) or "NONE")
        add("TRACe:CLEar", lambda _s, _p: self._buffer.clear())
        add("TRACe:DATA", query=lambda _s, _p: self._dump())
        add("SOURce#:VOLTage[:LEVel][:IMMediate][:AMPLitude]", self._set_level, lambda _s, _p: f"{self._level:+.6E}")
        add("SOURce#:VOLTage:RANGe", self._set_source_range, lambda _s, _p: f"{self._source_range:+.6E}")
        add("OUTPut#[:STATe]", self._set_output, lambda _s, _p: str(int(self._output)))

    def _declare_layer(self, layer: str) -> None:
        def set_source(_s: tuple[int, ...], p: list[str]) -> None:
            self._sources[layer] = choice(p, CONTROL_SOURCES)

        def set_count(_s: tuple[int, ...], p: list[str]) -> None:
            self._counts[layer] = inf if p[:1] == ["INF"] else round(number(p, 1, 99_999, 1))

        def set_delay(_s: tuple[int, ...], p: list[str]) -> None:
            self._delays[layer] = number(p, 0.0, 999_999.999, 0.0)

        self.tree.add(f"{layer}:SOURce", set_source, lambda _s, _p: self._sources[layer])
        if layer != TRIGGER_LAYER:
            self.tree.add(f"{layer}:COUNt", set_count, lambda _s, _p: f"{self._counts[layer]:g}")
        if layer != ARM_LAYER:
            self.tree.add(f"{layer}:DELay", set_delay, lambda _s, _p: f"{self._delays[layer]:.6f}")

    def _declare_function(self, function: str, root: str) -> None:
        channel = self._channels[function]

        def set_range(_s: tuple[int, ...], p: list[str]) -> None:
            channel.position = channel.converter.selected(number(p, -OVERRANGE * channel.converter.ranges[-1].full_scale, inf))
            channel.auto = False
            self._connect()

        def set_auto(_s: tuple[int, ...], p: list[str]) -> None:
            channel.auto = boolean(p)
            self._connect()

        def set_nplc(_s: tuple[int, ...], p: list[str]) -> None:
            channel.nplc = number(p, 0.01, 10.0, 1.0)

        def set_averaging(_s: tuple[int, ...], p: list[str]) -> None:
            channel.averaging = boolean(p)

        def set_median(_s: tuple[int, ...], p: list[str]) -> None:
            channel.median = boolean(p)

        def set_count(_s: tuple[int, ...], p: list[str]) -> None:
            channel.count = round(number(p, 1, 100, 10))

        def set_relative(_s: tuple[int, ...], p: list[str]) -> None:
            channel.relative = boolean(p)

        def set_reference(_s: tuple[int, ...], p: list[str]) -> None:
            channel.reference = number(p, -210.0, 210.0, 0.0)

        def set_guard(_s: tuple[int, ...], p: list[str]) -> None:
            channel.guard = boolean(p)

        add = self.tree.add
        ranges = channel.converter.ranges
        add(root + ":RANGe[:UPPer]", set_range, lambda _s, _p: f"{ranges[channel.position].full_scale:+.6E}")
        add(root + ":RANGe:AUTO", set_auto, lambda _s, _p: str(int(channel.auto)))
        add(root + ":NPLCycles", set_nplc, lambda _s, _p: f"{channel.nplc:+.6E}")
        add(root + ":AVERage[:STATe]", set_averaging, lambda _s, _p: str(int(channel.averaging)))
        add(root + ":MEDian[:STATe]", set_median, lambda _s, _p: str(int(channel.median)))
        add(root + ":REFerence:STATe", set_relative, lambda _s, _p: str(int(channel.relative)))
        add(root + ":REFerence", set_reference, lambda _s, _p: f"{channel.reference:+.6E}")
        add(root + ":AVERage:COUNt", set_count, lambda _s, _p: str(channel.count))
        add(root + ":AVERage:TCONtrol", lambda _s, p: choice(p, ("REPeat",)) and None, lambda _s, _p: "REP")
        if function == "VOLT":
            add(root + ":GUARd", set_guard, lambda _s, _p: str(int(channel.guard)))

    def _declare_configuration(self, function: str, name: str) -> None:
        def configure(_s: tuple[int, ...], _p: list[str]) -> None:
            self._channels[function].clear()
            self._function = function
            self._connect()

        def measure(suffixes: tuple[int, ...], parameters: list[str]) -> str:
            configure(suffixes, parameters)
            return self._read()

        self.tree.add(f"CONFigure:{name}[:DC]", configure)
        self.tree.add(f"MEASure:{name}[:DC]", query=measure)

    # Settings ------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """The defaults: volts, autorange, zero check on, source in standby."""
        self._function = "VOLT"
        for channel in self._channels.values():
            channel.clear()
        self._zero_check = True
        self._line_sync = False
        self._continuous = False
        self._elements = list(DEFAULT_ELEMENTS)
        self._stored = list(DEFAULT_STORED)
        self._count = 1
        self._sources = dict.fromkeys(LAYERS, "IMM")
        self._counts: dict[str, float] = dict.fromkeys(LAYERS, 1)
        self._delays = dict.fromkeys(LAYERS, 0.0)
        self._points, self._filling = 100, False
        self._buffer: list[str] = []
        self._latest: list[str] = []
        self._level, self._source_range, self._output = 0.0, 100.0, False
        self._restart_stamp()
        self._restart_numbers()
        self._connect()
        self._drive()

    def _connect(self) -> None:
        """Put the input's present physics onto its node."""
        if self._zero_check:
            self._input.set_source(Open())
            self._input.set_load(ZERO_CHECK_RESISTANCE, self._bias)
        elif self._function == "VOLT":
            self._input.set_source(Open())
            self._input.set_load(inf if self.plant.ideal else INPUT_RESISTANCE, self._bias)
        else:
            channel = self._channels["CURR"]
            limit = channel.converter.ranges[-1 if channel.auto else channel.position].top
            self._input.set_source(VoltageSource(self._burden_share * BURDENS[channel.position], limit))
            self._input.set_load(inf if self.plant.ideal else INPUT_RESISTANCE, self._bias)

    def _drive(self) -> None:
        if self._output:
            self._source.set_source(VoltageSource(self._level, 10e-3 if self._source_range <= 100.0 else 1e-3))
        else:
            self._source.set_source(VoltageSource(0.0, 1e-3))

    def _set_function(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        name = quoted(parameters).upper().removesuffix(":DC")
        self._function = keyword(name, ("VOLTage", "CURRent"))
        self._connect()

    def _set_zero_check(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        self._zero_check = boolean(parameters)
        self._connect()

    def _set_line_sync(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        self._line_sync = boolean(parameters)

    def _set_continuous(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        self._continuous = boolean(parameters)

    def _set_elements(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        if not parameters:
            raise ScpiError(-109)
        chosen = {keyword(text, ELEMENTS) for text in parameters}
        order = ["".join(letter for letter in name if not letter.islower()) for name in ELEMENTS]
        self._elements = [name for name in order if name in chosen]

    def _set_stored(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        """What the buffer keeps beside each reading."""
        names = {keyword(text, (*STORABLE, "NONE")) for text in parameters}
        if not names:
            raise ScpiError(-109)
        self._stored = [] if "NONE" in names else [name for name in DEFAULT_STORED if name in names]
        self._buffer.clear()

    def _set_count(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        self._count = round(number(parameters, 1, 99_999, 1))

    def _set_points(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        self._points = round(number(parameters, 1, LONGEST_BUFFER, 100))
        self._buffer.clear()

    def _set_feed(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        self._filling = choice(parameters, ("NEXT", "NEVer")) == "NEXT"
        self._buffer.clear()

    def _set_level(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        top = self._source_range
        self._level = number(parameters, -top, top, 0.0)
        self._drive()

    def _set_source_range(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        self._source_range = 100.0 if abs(number(parameters, -1000.0, 1000.0, 100.0)) <= 100.0 else 1000.0
        self._level = min(max(self._level, -self._source_range), self._source_range)
        self._drive()

    def _set_output(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        self._output = boolean(parameters)
        self._drive()

    def _restart_stamp(self) -> None:
        self._stamp_zero = self.plant.clock.now()

    def _restart_numbers(self) -> None:
        self._number = 0

    # Measuring -----------------------------------------------------------------------------------------------------

    def _measure(self) -> None:
        """Take as many readings as the trigger layer counts."""
        if set(self._sources.values()) != {"IMM"} or inf in self._counts.values():
            raise ScpiError(-214)  # nobody will ever trigger it, or it will never come to an end
        taken = [self._one() for _ in range(self._count * round(self._counts[ARM_LAYER] * self._counts[SCAN_LAYER]))]
        self._latest = [sent for sent, _ in taken]
        if self._filling:
            self._buffer.extend(kept for _, kept in taken[: self._points - len(self._buffer)])
            self._filling = len(self._buffer) < self._points

    def _one(self) -> tuple[str, str]:
        """One reading as it is sent, and as the buffer will send it."""
        channel = self._channels[self._function]
        volts = self._function == "VOLT"
        if delay := self._delays[SCAN_LAYER] + self._delays[TRIGGER_LAYER]:
            self.plant.clock.advance(delay)
        averaged = channel.count if channel.averaging else 1
        aperture = channel.nplc * averaged / self.number("line_frequency")
        sample = self.plant.observe([self._input], aperture)[0][0]
        true = sample.voltage if volts else -sample.current
        if channel.auto and channel.position != (fitting := channel.converter.fitting(true)):
            channel.position = fitting
            self._connect()
        value = channel.converter.read(true, channel.position, 1.0 / sqrt(channel.nplc * averaged))
        status = "N"
        if self._zero_check:
            value, status = 9.91e37, "Z"
        elif isinf(value) or (sample.limited and not volts):
            value, status = (9.9e37 if value > 0 else -9.9e37), "O"
        elif channel.relative:
            value -= channel.reference
        value = self.broken.shown(value)
        unit = "VDC" if volts else "ADC"
        sent = self._string(value, status, unit, self._elements)
        stored = [name for name in self._elements if name not in DEFAULT_STORED or name in self._stored]
        kept = self._string(value, status, unit, stored)
        self._number += 1
        return sent, kept

    def _string(self, value: float, status: str, unit: str, chosen: Sequence[str]) -> str:
        with_units = "UNIT" in chosen
        parts = []
        if "READ" in chosen:
            parts.append(f"{value:+.6E}" + (status if "STAT" in chosen else "") + (unit if with_units else ""))
        elif "STAT" in chosen:
            parts.append(status)
        if "TST" in chosen:
            parts.append(f"{self.plant.clock.now() - self._stamp_zero:+015.6f}" + ("secs" if with_units else ""))
        if "RNUM" in chosen:
            parts.append(f"{self._number:+06d}" + ("RDNG#" if with_units else ""))
        if "CHAN" in chosen:
            parts.append("000" + ("INTCHAN" if with_units else ""))
        if "ETEM" in chosen:
            parts.append("+9999.99" + ("Cexttemp" if with_units else ""))
        if "HUM" in chosen:
            parts.append("+999.99" + ("hum" if with_units else ""))
        if "VSO" in chosen:
            parts.append(f"{self._level if self._output else 0.0:+010.3f}" + ("Vsrc" if with_units else ""))
        return ",".join(parts)

    def _read(self) -> str:
        self._measure()
        return ",".join(self._latest)

    def _fetch(self) -> str:
        if not self._latest:
            raise ScpiError(-230)
        return ",".join(self._latest)

    def _dump(self) -> str:
        if not self._buffer:
            raise ScpiError(-230)
        return ",".join(self._buffer)

    def _error(self, _suffixes: tuple[int, ...], _parameters: list[str]) -> str:
        code, text = self.next_error()
        return f'{code:+d},"{text}"' if code else '0,"No error"'
