"""Keithley 2450: a source-measure unit with one channel and a touch screen, in its SCPI command set.

Language: Model 2450 reference manual 2450-901-01, section 6 (SCPI command reference: settings per function, source limits
ILIMit and VLIMit with TRIPped?, output-off states per function, LIST and SWEep commands, TRIGger:BLOCk, TRACe with source
elements) and section 8 for the bits of the source status. Figures: data sheet 1KW-60904, one year, 23 °C ± 5 °C, 1 PLC.

Port: "" is the terminals chosen by ``terminals`` (FRON or REAR); the other side has no wires. Sweeps are built into the
trigger model; of its blocks those that need no second instrument are obeyed. Not imitated: TSP, the 2400 command set, digital
lines, limits of readings, user filters, charge and contact checks, the time that changing a range takes.
"""

from collections.abc import Callable, Mapping
from math import inf, isfinite, isinf
from typing import ClassVar

import numpy as np

from hil.core.errors import ConfigError
from simulated_backend.virtual_bench.emulators.keithley_2450_buffers import SourceBuffers, SourceRecord
from simulated_backend.virtual_bench.emulators.keithley_2450_trigger import SourceConfiguration, TriggerModel
from simulated_backend.virtual_bench.ports import PlantView
from simulated_backend.virtual_bench.scpi import ScpiEmulator, ScpiError, boolean, choice, number, quoted
from simulated_backend.virtual_bench.smu import CURR, OTHER, VOLT, SmuData, SmuRange, SmuReading, SourceMeter

NAMES = {VOLT: "VOLTage", CURR: "CURRent"}
LIMITS = {VOLT: "ILIMit", CURR: "VLIMit"}
UNITS = {VOLT: "Volt DC", CURR: "Amp DC", "RES": "Ohm"}
STAT_LIMIT, STAT_SENSE, STAT_OUTPUT = 32, 64, 128
"""Bits of a reading's source status."""
PROTECTIONS = {"NONE": inf, **{f"PROT{volts}": float(volts) for volts in (2, 5, 10, 20, 40, 60, 80, 100, 120, 140, 160, 180)}}
AUTOZERO_FACTOR = 3.0
"""With autozero on, a reading is made of three conversions: signal, reference, zero."""
FILTERED = 10  # readings that the averaging filter waits for
NOT_A_NUMBER, OVERFLOW = 9.91e37, 9.9e37

DATA = SmuData(
    volts=(
        SmuRange(20e-3, 500e-9, 1e-3, 200e-6, 6e-6, 10e-9, 1e-3, 150e-6),
        SmuRange(200e-3, 5e-6, 1.5e-4, 200e-6, 6e-6, 100e-9, 1.2e-4, 200e-6),
        SmuRange(2.0, 50e-6, 2e-4, 300e-6, 60e-6, 1e-6, 1.2e-4, 300e-6),
        SmuRange(20.0, 500e-6, 1.5e-4, 2.4e-3, 600e-6, 10e-6, 1.5e-4, 1e-3),
        SmuRange(200.0, 5e-3, 1.5e-4, 24e-3, 6e-3, 100e-6, 1.5e-4, 10e-3),
    ),
    amperes=(
        SmuRange(10e-9, 500e-15, 1e-3, 100e-12, 3e-12, 10e-15, 1e-3, 50e-12),
        SmuRange(100e-9, 5e-12, 6e-4, 150e-12, 3e-12, 100e-15, 6e-4, 100e-12),
        SmuRange(1e-6, 50e-12, 2.5e-4, 400e-12, 30e-12, 1e-12, 2.5e-4, 300e-12),
        SmuRange(10e-6, 500e-12, 2.5e-4, 1.5e-9, 240e-12, 10e-12, 2.5e-4, 700e-12),
        SmuRange(100e-6, 5e-9, 2e-4, 15e-9, 2.4e-9, 100e-12, 2e-4, 6e-9),
        SmuRange(1e-3, 50e-9, 2e-4, 150e-9, 30e-9, 1e-9, 2e-4, 60e-9),
        SmuRange(10e-3, 500e-9, 2e-4, 1.5e-6, 240e-9, 10e-9, 2e-4, 600e-9),
        SmuRange(100e-3, 5e-6, 2.5e-4, 15e-6, 600e-9, 100e-9, 2.5e-4, 6e-6),
        SmuRange(1.0, 50e-6, 6.7e-4, 900e-6, 18e-6, 1e-6, 3e-4, 500e-6),
    ),
    area=((20.0, 1.0), (200.0, 0.1)),
)
LEAST_SHARE = 1e-3
LEAST_LIMIT = {CURR: 1e-9, VOLT: 20e-3}
INTERLOCK_ABOVE = 42.0


class Keithley2450(ScpiEmulator):
    """The source-measure unit."""

    models: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "Keithley2450": {"terminals": "FRON", "line_frequency": 50.0, "interlock": True, "command_set": "SCPI"}
    }
    identity = "KEITHLEY INSTRUMENTS,MODEL 2450,04096331,1.7.12b"
    errors_kept = 32

    def __init__(self, name: str, plant: PlantView, options: Mapping[str, object], rng: np.random.Generator) -> None:
        if options["terminals"] not in ("FRON", "REAR"):
            raise ConfigError(f"option 'terminals' of {name!r} must be FRON or REAR, not {options['terminals']!r}")
        self.name, self.options = name, options  # an option that cannot be is told with its instrument
        port = plant.electrical(name, "")
        self._smu = SourceMeter(DATA, plant, port, rng, self._shown, self.number("line_frequency"))
        self._buffers = SourceBuffers()
        self._trigger = TriggerModel(self)
        super().__init__(name, plant, options, rng)

    # Language ------------------------------------------------------------------------------------------------------

    def declare(self) -> None:
        """The commands of the manual that this emulator obeys."""
        add, smu = self.tree.add, self._smu
        add("SOURce#:FUNCtion[:MODE]", self._set_source, lambda _s, _p: smu.func)
        add("[:SENSe#]:FUNCtion[:ON]", self._set_function, lambda _s, _p: f'"{self._function}"')
        for quantity in (VOLT, CURR):
            self._declare_source(quantity, f"SOURce#:{NAMES[quantity]}")
            self._declare_sense(quantity, f"[:SENSe#]:{NAMES[quantity]}[:DC]")
        self._declare_sense("RES", "[:SENSe#]:RESistance")
        add("SOURce#:VOLTage:PROTection[:LEVel]", lambda _s, p: smu.set_protection(PROTECTIONS[choice(p, tuple(PROTECTIONS))]),
            lambda _s, _p: next(word for word, volts in PROTECTIONS.items() if volts == smu.protection))  # fmt: skip
        add("[:SENSe#]:COUNt", self._set_count, lambda _s, _p: str(self._count))
        add("[:SENSe#]:AZERo:ONCE", lambda _s, _p: None)
        add("OUTPut#[:STATe]", self._set_output, lambda _s, _p: str(int(smu.output)))
        add("OUTPut#:INTerlock:TRIPped", query=lambda _s, _p: str(int(bool(self.options["interlock"]))))
        add("ROUTe:TERMinals", self._set_terminals, lambda _s, _p: self._terminals)
        add("READ", query=self._read)
        add("MEASure", query=self._read)
        for quantity, name in (*NAMES.items(), ("RES", "RESistance")):
            add(f"MEASure:{name}[:DC]", query=self._measuring(quantity))
        add("FETCh", query=lambda _s, p: self._buffers.latest(*self._buffers.wanted(p)))
        add("TRACe:TRIGger", self._fill)
        self._buffers.declare(self.tree)
        self._trigger.declare(self.tree)
        add("ABORt", lambda _s, _p: None)
        add("SYSTem:ERRor[:NEXT]", query=self._error)
        add("SYSTem:ERRor:COUNt", query=lambda _s, _p: str(len(self.errors)))
        add("SYSTem:EVENtlog:NEXT", query=self._error)
        add("SYSTem:CLEar", lambda _s, _p: self.errors.clear())
        add("SYSTem:VERSion", query=lambda _s, _p: "1999.0")
        add("SYSTem:LFRequency", query=lambda _s, _p: f"{smu.line_frequency:G}")
        add("SYSTem:BEEPer[:IMMediate]", lambda _s, _p: None)
        for ignored in ("STATus:PRESet", "STATus:CLEar", "DISPlay:CLEar", "DISPlay:SCReen"):
            add(ignored, lambda _s, _p: None)
        self._common["*LANG?"] = lambda _s, _p: str(self.options["command_set"])

    def _declare_source(self, quantity: str, root: str) -> None:
        add, smu, other = self.tree.add, self._smu, OTHER[quantity]
        top = smu.top(quantity)
        limit = f"{root}:{LIMITS[quantity]}[:LEVel]"

        def set_delay(_s: tuple[int, ...], p: list[str]) -> None:
            self._delay[quantity], self._auto_delay[quantity] = number(p, 0.0, 1e4, 0.0), False

        def set_auto_delay(_s: tuple[int, ...], p: list[str]) -> None:
            self._auto_delay[quantity] = boolean(p)

        def set_limit(_s: tuple[int, ...], p: list[str]) -> None:
            smu.set_limit(other, number(p, LEAST_LIMIT[other], smu.top(other), LEAST_LIMIT[other]))
            self._raise_limit(other)

        def set_read_back(_s: tuple[int, ...], p: list[str]) -> None:
            self._read_back[quantity] = boolean(p)

        def set_off_state(_s: tuple[int, ...], p: list[str]) -> None:
            self._off_state[quantity] = choice(p, ("NORMal", "HIMPedance", "ZERO", "GUARd"))
            smu.off_mode = self._off_state[smu.func]
            smu.drive()

        add(f"{root}[:LEVel][:IMMediate][:AMPLitude]", lambda _s, p: self.set_level(quantity, number(p, -top, top, 0.0)),
            lambda _s, _p: f"{smu.levels[quantity]:.6E}")  # fmt: skip
        add(f"{root}:RANGe", lambda _s, p: smu.set_range(quantity, number(p, -top, top)),
            lambda _s, _p: f"{smu.full_scale(quantity):G}")  # fmt: skip
        add(f"{root}:RANGe:AUTO", lambda _s, p: smu.set_autorange(quantity, boolean(p)),
            lambda _s, _p: str(int(smu.autorange[quantity])))  # fmt: skip
        add(limit, set_limit, lambda _s, _p: f"{smu.limits[other]:.6E}")
        add(f"{limit}:TRIPped", query=lambda _s, _p: str(int(smu.func == quantity and smu.tripped())))
        add(f"{root}:DELay", set_delay, lambda _s, _p: f"{self._delay[quantity]:G}")
        add(f"{root}:DELay:AUTO", set_auto_delay, lambda _s, _p: str(int(self._auto_delay[quantity])))
        add(f"{root}:READ:BACK", set_read_back, lambda _s, _p: str(int(self._read_back[quantity])))
        add(f"OUTPut#:{NAMES[quantity]}:SMODe", set_off_state, lambda _s, _p: self._off_state[quantity])
        add(f"SOURce#:LIST:{NAMES[quantity]}", lambda _s, p: self._set_list(quantity, p, []),
            lambda _s, _p: ",".join(f"{one.level:.6E}" for one in self._trigger.list_of(quantity)))  # fmt: skip
        add(f"SOURce#:LIST:{NAMES[quantity]}:APPend", lambda _s, p: self._set_list(quantity, p, self._trigger.list_of(quantity)))
        add(f"SOURce#:LIST:{NAMES[quantity]}:POINts", query=lambda _s, _p: str(len(self._trigger.list_of(quantity))))
        add(f"SOURce#:SWEep:{NAMES[quantity]}:LINear", lambda _s, p: self._sweep_linear(quantity, p))
        add(f"SOURce#:SWEep:{NAMES[quantity]}:LIST", lambda _s, p: self._sweep_list(quantity, p))

    def _declare_sense(self, quantity: str, root: str) -> None:
        add, smu = self.tree.add, self._smu

        def set_nplc(_s: tuple[int, ...], p: list[str]) -> None:
            self._nplc[quantity] = number(p, 0.01, 10.0, 1.0)

        def set_autozero(_s: tuple[int, ...], p: list[str]) -> None:
            self._autozero[quantity] = boolean(p)

        def set_remote(_s: tuple[int, ...], p: list[str]) -> None:
            smu.remote = boolean(p)
            smu.drive()

        def set_filter(_s: tuple[int, ...], p: list[str]) -> None:
            self._averaging[quantity] = boolean(p)

        def set_relative(_s: tuple[int, ...], p: list[str]) -> None:
            self._relative[quantity] = boolean(p)

        add(f"{root}:AVERage[:STATe]", set_filter, lambda _s, _p: str(int(self._averaging[quantity])))
        add(f"{root}:RELative:STATe", set_relative, lambda _s, _p: str(int(self._relative[quantity])))
        add(f"{root}:RELative", lambda _s, p: self._zero.update({quantity: number(p, -1e9, 1e9)}))
        name = NAMES.get(quantity, "RESistance")
        add(f"CALCulate#:{name}[:DC]:MATH:STATe", lambda _s, p: (boolean(p) and None) or None, lambda _s, _p: "0")
        add(f"{root}:NPLCycles", set_nplc, lambda _s, _p: f"{self._nplc[quantity]:G}")
        add(f"{root}:AZERo[:STATe]", set_autozero, lambda _s, _p: str(int(self._autozero[quantity])))
        add(f"{root}:RSENse", set_remote, lambda _s, _p: str(int(smu.remote)))
        if quantity == "RES":
            return
        top = smu.top(quantity)

        def set_range(_s: tuple[int, ...], p: list[str]) -> None:
            smu.set_sense_range(quantity, number(p, -top, top))
            self._raise_limit(quantity)

        add(f"{root}:RANGe[:UPPer]", set_range, lambda _s, _p: f"{smu.sense_full_scale(quantity):G}")
        add(f"{root}:RANGe:AUTO", lambda _s, p: smu.set_sense_auto(quantity, boolean(p)),
            lambda _s, _p: str(int(smu.sense_auto[quantity])))  # fmt: skip

    # Settings ------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """The defaults: 0 V, output off in the normal state, amperes measured, source read back."""
        self._smu.reset()
        self._function = "CURR:DC"
        self._count = 1
        self._delay = {VOLT: 0.0, CURR: 0.0}
        self._auto_delay = {VOLT: True, CURR: True}
        self._read_back = {VOLT: True, CURR: True}
        self._off_state = {VOLT: "NORM", CURR: "NORM"}
        self._nplc = {VOLT: 1.0, CURR: 1.0, "RES": 1.0}
        self._autozero = {VOLT: True, CURR: True, "RES": True}
        self._averaging: dict[str, bool] = {VOLT: False, CURR: False, "RES": False}
        self._relative: dict[str, bool] = {VOLT: False, CURR: False, "RES": False}
        self._zero: dict[str, float] = {VOLT: 0.0, CURR: 0.0, "RES": 0.0}
        self._buffers.reset()
        self._trigger.reset()
        self._terminals = "FRON"
        self._connect()

    def _raise_limit(self, quantity: str) -> None:
        """A limit below a thousandth of a fixed measuring range is changed to that, with a warning in the event log alone."""
        least = LEAST_SHARE * self._smu.sense_full_scale(quantity)
        if quantity != self._smu.func and not self._smu.sense_auto[quantity] and self._smu.limits[quantity] < least:
            self._smu.set_limit(quantity, least)

    def redrive(self) -> None:
        """The output stage has changed."""
        self._smu.drive()

    def _connect(self) -> None:
        self._smu.connected = self._terminals == self.options["terminals"]
        self._smu.drive()

    def _set_terminals(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        self._terminals = choice(parameters, ("FRONt", "REAR"))
        self._smu.set_output(False)
        self._connect()

    def _set_source(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        func = choice(parameters, ("VOLTage", "CURRent"))
        self._smu.off_mode = self._off_state[func]
        self._smu.set_function(func)

    def _set_function(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        word = quoted(parameters).upper().removesuffix(":DC")
        short = {"VOLTAGE": VOLT, "CURRENT": CURR, "RESISTANCE": "RES"}.get(word, word)
        if short not in self._nplc:
            raise ScpiError(-224)
        self._function = "RES" if short == "RES" else f"{short}:DC"

    def _set_count(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        self._count = round(number(parameters, 1, 300_000, 1))

    def set_level(self, quantity: str, level: float) -> None:
        """Program a level; high voltages need the interlock."""
        if quantity == VOLT and abs(level) > INTERLOCK_ABOVE and not self.options["interlock"]:
            raise ScpiError(-221, "the interlock limits the output to 42 V")
        self._smu.set_level(quantity, level)

    def _set_output(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        self.set_output(boolean(parameters))

    def set_output(self, on: bool) -> None:
        """Output on or off; the source delay passes after switching on."""
        self._smu.set_output(on)

    # Sweeps --------------------------------------------------------------------------------------------------------

    def configuration(self, quantity: str, level: float) -> SourceConfiguration:
        """The present source settings with another level, as a source configuration list stores them."""
        smu = self._smu
        if abs(level) > smu.top(quantity):
            raise ScpiError(-222)
        return SourceConfiguration(
            quantity, level, smu.autorange[quantity], smu.full_scale(quantity), smu.limits[OTHER[quantity]]
        )

    def recall(self, stored: SourceConfiguration) -> None:
        """Make a stored source configuration the present one; the output stays as it is."""
        smu = self._smu
        if smu.func != stored.quantity:
            self._smu.set_function(stored.quantity)
        if smu.limits[OTHER[stored.quantity]] != stored.limit:
            smu.set_limit(OTHER[stored.quantity], stored.limit)
        if stored.autorange:
            smu.set_autorange(stored.quantity, True)
        elif smu.full_scale(stored.quantity) != stored.full_scale:
            smu.levels[stored.quantity] = 0.0
            smu.set_range(stored.quantity, stored.full_scale)
        self.set_level(stored.quantity, stored.level)

    def _set_list(self, quantity: str, parameters: list[str], before: list[SourceConfiguration]) -> None:
        if not 1 <= len(parameters) <= 100:
            raise ScpiError(-109 if not parameters else -108, "a list takes 100 values at a time")
        top = self._smu.top(quantity)
        values = [self.configuration(quantity, number([text], -top, top)) for text in parameters]
        self._trigger.keep_list(quantity, [*before, *values])

    def _sweep_linear(self, quantity: str, parameters: list[str]) -> None:
        """Start, stop, points, delay, count, range mode, fail abort, dual, buffer: a trigger model of a staircase."""
        if len(parameters) < 3:
            raise ScpiError(-109)
        top = self._smu.top(quantity)
        start, stop = (number([text], -top, top) for text in parameters[:2])
        points = round(number(parameters[2:3], 2, 1e6))
        dual = len(parameters) > 7 and boolean(parameters[7:8])
        levels = [float(level) for level in np.linspace(start, stop, points)]
        if dual:
            levels += levels[-2::-1]
        self._trigger.keep_list(quantity, [self.configuration(quantity, level) for level in levels], sweep=True)
        buffer = quoted(parameters[8:9]) if len(parameters) > 8 else "defbuffer1"
        self._trigger.sweep(quantity, parameters[3:4], parameters[4:5], parameters[6:7], self._buffers.known(buffer), 1, True)

    def _sweep_list(self, quantity: str, parameters: list[str]) -> None:
        """Start index, delay, count, fail abort, buffer: a trigger model of the list."""
        first = round(number(parameters[:1] or ["1"], 1, 1e6))
        if first > len(self._trigger.list_of(quantity)):
            raise ScpiError(-221, "the list is shorter")
        buffer = quoted(parameters[4:5]) if len(parameters) > 4 else "defbuffer1"
        self._trigger.sweep(
            quantity, parameters[1:2], parameters[2:3], parameters[3:4], self._buffers.known(buffer), first, False
        )

    # Measuring -----------------------------------------------------------------------------------------------------

    def _shown(self, value: float) -> float:
        return self.broken.shown(value)

    def clear_buffer(self, name: str) -> None:
        """Empty a buffer."""
        self._buffers.clear(self._buffers.known(name))

    def measure(self, buffer: str, count: int) -> bool:
        """Take readings into a buffer; whether the source was at its limit in any of them."""
        taken = [self._one() for _ in range(count)]
        for record in taken:
            self._buffers.store(buffer, record)
        return any(record.source_status & STAT_LIMIT for record in taken)

    def settle(self) -> None:
        """The source delay passes."""
        if not self._auto_delay[self._smu.func]:
            self.plant.clock.advance(self._delay[self._smu.func])

    def _one(self) -> SourceRecord:
        smu = self._smu
        function = self._function.removesuffix(":DC")
        conversions = (AUTOZERO_FACTOR if self._autozero[function] else 1.0) * (FILTERED if self._averaging[function] else 1)
        reading = smu.measure(self._nplc[function], conversions)
        value = self._value(function, reading) - (self._zero[function] if self._relative[function] else 0.0)
        measured = reading.volts if smu.func == VOLT else reading.amperes
        source = _sent(measured) if self._read_back[smu.func] else smu.levels[smu.func]
        if not smu.output:
            value = NOT_A_NUMBER
        status = (STAT_LIMIT if reading.limited else 0) | (STAT_OUTPUT if smu.output else 0) | (STAT_SENSE if smu.remote else 0)
        return SourceRecord(
            value, 0, reading.time, 8 if self._terminals == "FRON" else 0, source, status, UNITS[function], UNITS[smu.func]
        )

    @staticmethod
    def _value(function: str, reading: SmuReading) -> float:
        if function != "RES":
            return _sent(reading.volts if function == VOLT else reading.amperes)
        if not isfinite(reading.volts) or not isfinite(reading.amperes) or reading.amperes == 0.0:
            return OVERFLOW
        return reading.volts / reading.amperes

    def _read(self, _s: tuple[int, ...], parameters: list[str]) -> str:
        name, elements = self._buffers.wanted(parameters)
        self.measure(name, self._count)
        return self._buffers.latest(name, elements)

    def _measuring(self, quantity: str) -> Callable[[tuple[int, ...], list[str]], str]:
        def measure(suffixes: tuple[int, ...], parameters: list[str]) -> str:
            self._function = "RES" if quantity == "RES" else f"{quantity}:DC"
            return self._read(suffixes, parameters)

        return measure

    def _fill(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        self.measure(self._buffers.known(quoted(parameters)) if parameters else "defbuffer1", self._count)

    def _error(self, _s: tuple[int, ...], _p: list[str]) -> str:
        code, text = self.next_error()
        return f'{code},"{text};1;{self.plant.clock.now():.3f}"' if code else '0,"No error;0;0 0"'


def _sent(value: float) -> float:
    """Infinities as they are sent."""
    if isinf(value):
        return OVERFLOW if value > 0.0 else -OVERFLOW
    return value
