"""Keithley 2400 source-measure unit.

Language: Series 2400 SourceMeter user's manual 2400S-900-01, section 18 (SCPI: settings per function, compliance under
SENSe:PROTection, source modes FIXed, LIST and SWEep with arm and trigger counts, FORMat:ELEMents, TRACe) and appendix B (error
numbers: +803 not permitted with the output off, +824 cannot exceed compliance range; a trigger that cannot come is -214 here).

Port: "" (two or four wires). A fixed measuring range is a limit, too ("range compliance"); a compliance below a thousandth of a
fixed measuring range is not taken, without any message. What the manual leaves open is decided like this: after a sweep the
source stays at its last point until its mode is FIXed again, and a level sent meanwhile waits for that. Overflow reads
+9.9E37, what was not measured +9.91E37. Not imitated: ohms with automatic source, CALCulate 1 and 2, trigger links, source
memory, digital lines, contact check.
"""

from collections.abc import Mapping
from math import isfinite, log10, nan
from typing import ClassVar

import numpy as np

from simulated_backend.virtual_bench.emulators.keithley_2400_buffer import ELEMENTS, Reading, Store
from simulated_backend.virtual_bench.emulators.keithley_2400_datasheet import DATA
from simulated_backend.virtual_bench.ports import PlantView
from simulated_backend.virtual_bench.scpi import Handler, ScpiEmulator, ScpiError, boolean, choice, keyword, number, quoted
from simulated_backend.virtual_bench.smu import CURR, VOLT, SourceMeter

NAMES = {VOLT: "VOLTage", CURR: "CURRent"}
AUTOZERO_FACTOR = 3.0
"""With autozero on, a reading is made of three conversions: signal, reference, zero."""
FILTERED = 10  # readings that the filter waits for
OVERFLOW_BIT, LIMIT_BIT, VOLT_BIT, CURR_BIT = 0, 3, 11, 12
SOURCE_VOLT_BIT, SOURCE_CURR_BIT, RANGE_LIMIT_BIT, REMOTE_BIT = 14, 15, 16, 22
"""Bits of a reading's status element."""
LEAST_SHARE = 1e-3
"""Smallest compliance over the full scale of the measuring range."""
LONGEST_LIST, LONGEST_COMMAND = 2500, 100
"""The former is the largest product of arm and trigger count, too."""
ARM_SOURCES = ("IMMediate", "TLINk", "TIMer", "MANual", "BUS", "NSTest", "PSTest", "BSTest")
OUTPUT_OFF, BEYOND_COMPLIANCE = 803, 824
PROTECTIONS = (20.0, 40.0, 60.0, 80.0, 100.0, 120.0, 160.0)


class Keithley2400(ScpiEmulator):
    """The source-measure unit."""

    models: ClassVar[Mapping[str, Mapping[str, object]]] = {"Keithley2400": {"line_frequency": 50.0, "interlock": True}}
    identity = "KEITHLEY INSTRUMENTS INC.,MODEL 2400,1234567,C33   Mar 31 2015 09:32:39/A02  /K/J"

    def __init__(self, name: str, plant: PlantView, options: Mapping[str, object], rng: np.random.Generator) -> None:
        self.name, self.options = name, options  # an option that cannot be is told with its instrument
        port = plant.electrical(name, "")
        self._smu = SourceMeter(DATA, plant, port, rng, self._shown, self.number("line_frequency"))
        self._store = Store()
        super().__init__(name, plant, options, rng)

    def _shown(self, value: float) -> float:
        return self.broken.shown(value)

    # Language ------------------------------------------------------------------------------------------------------

    def declare(self) -> None:
        """The commands of the manual that this emulator obeys."""
        add, smu = self.tree.add, self._smu
        add("SOURce#:FUNCtion[:MODE]", self._set_source, lambda _s, _p: smu.func)
        add("SOURce#:DELay", self._set_delay, lambda _s, _p: f"{self._delay:.5f}")
        self._flag("SOURce#:DELay:AUTO", "_auto_delay")
        self._flag("SOURce#:CLEar:AUTO", "_auto_off")
        add("SOURce#:CLEar[:IMMediate]", lambda _s, _p: smu.set_output(False))
        add("SOURce#:SWEep:SPACing", self._word("_spacing", ("LINear", "LOGarithmic")), lambda _s, _p: self._spacing)
        add("SOURce#:SWEep:DIRection", self._word("_direction", ("UP", "DOWN")), lambda _s, _p: self._direction)
        add("SOURce#:SWEep:RANGing", self._word("_ranging", ("BEST", "AUTO", "FIXed")), lambda _s, _p: self._ranging)
        add("SOURce#:SWEep:CABort", self._word("_abort", ("NEVer", "EARLy", "LATE")), lambda _s, _p: self._abort)
        add("SOURce#:SWEep:POINts", self._set_points, lambda _s, _p: str(self._points))
        for quantity in (VOLT, CURR):
            self._declare_source(quantity, f"SOURce#:{NAMES[quantity]}")
            self._declare_sense(quantity, f"[:SENSe#]:{NAMES[quantity]}[:DC]")
        add("SOURce#:VOLTage:PROTection[:LEVel]", lambda _s, p: smu.set_protection(number(p, -210.0, 210.0), PROTECTIONS),
            lambda _s, _p: f"{min(smu.protection, 210.0):.6E}")  # fmt: skip
        functions = "[:SENSe#]:FUNCtion"
        add(f"{functions}[:ON]", self._set_functions, lambda _s, _p: ",".join(f'"{one}:DC"' for one in self._functions))
        add(f"{functions}:OFF", self._drop_functions)
        add(f"{functions}[:ON]:ALL", lambda _s, _p: self._functions.extend(q for q in (VOLT, CURR) if q not in self._functions))
        add(f"{functions}:OFF:ALL", lambda _s, _p: self._functions.clear())
        self._flag(f"{functions}:CONCurrent", "_concurrent")
        self._flag("[:SENSe#]:AVERage[:STATe]", "_averaging")
        add("OUTPut#[:STATe]", self._set_output, lambda _s, _p: str(int(smu.output)))
        add("OUTPut#:SMODe", self._set_off_mode, lambda _s, _p: smu.off_mode)
        self._flag("OUTPut#:INTerlock:STATe", "_interlock_used")
        add("OUTPut#:INTerlock:TRIPped", query=lambda _s, _p: str(int(self._permits)))
        add("SYSTem:RSENse", self._set_remote, lambda _s, _p: str(int(smu.remote)))
        add("SYSTem:AZERo[:STATe]", self._set_autozero, lambda _s, _p: str(int(self._autozero)))
        add("SYSTem:LFRequency", query=lambda _s, _p: f"{smu.line_frequency:.2f}")
        add("SYSTem:TIME:RESet", lambda _s, _p: self._restart_time())
        add("SYSTem:ERRor[:NEXT]", query=self._error)
        add("SYSTem:ERRor:COUNt", query=lambda _s, _p: str(len(self.errors)))
        add("SYSTem:CLEar", lambda _s, _p: self.errors.clear())
        add("SYSTem:VERSion", query=lambda _s, _p: "1996.0")
        add("FORMat:ELEMents", self._set_elements, lambda _s, _p: ",".join(self._store.elements))
        add("FORMat[:DATA]", lambda _s, p: choice(p, ("ASCii",)) and None, lambda _s, _p: "ASC")
        add("TRIGger[:SEQuence]:COUNt", self._count("_trigger_count"), lambda _s, _p: str(self._trigger_count))
        add("ARM[:SEQuence]:COUNt", self._count("_arm_count"), lambda _s, _p: str(self._arm_count))
        add("TRIGger[:SEQuence]:DELay", self._set_trigger_delay, lambda _s, _p: f"{self._trigger_delay:.4f}")
        add(
            "TRIGger[:SEQuence]:SOURce",
            self._word("_trigger_source", ("IMMediate", "TLINk")),
            lambda _s, _p: self._trigger_source,
        )
        add("ARM[:SEQuence]:SOURce", self._word("_arm_source", ARM_SOURCES), lambda _s, _p: self._arm_source)
        add("TRIGger:CLEar", lambda _s, _p: None)
        add("INITiate[:IMMediate]", lambda _s, _p: self._run())
        add("ABORt", lambda _s, _p: None)
        add("READ", query=lambda _s, _p: self._read())
        add("FETCh", query=lambda _s, _p: self._store.fetch())
        for name, function in (("VOLTage", VOLT), ("CURRent", CURR)):
            self._declare_measurement(name, function)
        add("MEASure", query=lambda _s, _p: self._read())
        self._store.declare(self.tree)
        for ignored in ("STATus:PRESet", "STATus:MEASurement:ENABle", "STATus:QUEue:CLEar", "DISPlay:ENABle", "DISPlay:DIGits",
                        "SYSTem:BEEPer[:IMMediate]", "SYSTem:BEEPer:STATe"):  # fmt: skip
            add(ignored, lambda _s, _p: None)

    def _declare_measurement(self, name: str, function: str) -> None:
        self.tree.add(f"MEASure:{name}[:DC]", query=lambda _s, _p: self._measure(function))
        self.tree.add(f"CONFigure:{name}[:DC]", lambda _s, _p: self._configure(function))

    def _flag(self, notation: str, attribute: str) -> None:
        self.tree.add(
            notation,
            lambda _s, p: setattr(self, attribute, boolean(p)),
            lambda _s, _p: str(int(bool(getattr(self, attribute)))),
        )

    def _word(self, attribute: str, words: tuple[str, ...]) -> Handler:
        return lambda _s, p: setattr(self, attribute, choice(p, words))

    def _count(self, attribute: str) -> Handler:
        def set_count(_s: tuple[int, ...], p: list[str]) -> None:
            other = self._arm_count if attribute == "_trigger_count" else self._trigger_count
            setattr(self, attribute, round(number(p, 1, LONGEST_LIST // other, 1)))

        return set_count

    def _declare_source(self, quantity: str, root: str) -> None:
        add, smu = self.tree.add, self._smu
        top = smu.top(quantity)

        def set_level(_s: tuple[int, ...], p: list[str]) -> None:
            self._set_level(quantity, number(p, -top, top, 0.0))

        def set_mode(_s: tuple[int, ...], p: list[str]) -> None:
            self._mode[quantity] = choice(p, ("FIXed", "LIST", "SWEep"))
            if self._mode[quantity] == "FIX":
                smu.set_level(quantity, self._fixed[quantity])

        def set_sweep(which: str) -> Handler:
            return lambda _s, p: self._set_sweep(quantity, which, number(p, -top, top, 0.0))

        def swept(which: str) -> Handler:
            return lambda _s, _p: f"{self._sweep[quantity][which]:.6E}"

        def set_list(p: list[str], before: list[float]) -> None:
            if not 1 <= len(p) <= LONGEST_COMMAND or len(before) + len(p) > LONGEST_LIST:
                raise ScpiError(-223 if p else -109)
            self._lists[quantity] = [*before, *(number([text], -top, top) for text in p)]

        add(f"{root}[:LEVel][:IMMediate][:AMPLitude]", set_level, lambda _s, _p: f"{self._fixed[quantity]:.6E}")
        add(f"{root}:MODE", set_mode, lambda _s, _p: self._mode[quantity])
        add(f"{root}:RANGe", lambda _s, p: smu.set_range(quantity, number(p, -top, top)),
            lambda _s, _p: f"{smu.full_scale(quantity):.6E}")  # fmt: skip
        add(f"{root}:RANGe:AUTO", lambda _s, p: smu.set_autorange(quantity, boolean(p)),
            lambda _s, _p: str(int(smu.autorange[quantity])))  # fmt: skip
        for which in ("STARt", "STOP", "STEP"):
            short = which.rstrip("t").upper()
            add(f"{root}:{which}", set_sweep(short), swept(short))
        add(f"SOURce#:LIST:{NAMES[quantity]}", lambda _s, p: set_list(p, []),
            lambda _s, _p: ",".join(f"{level:.6E}" for level in self._lists[quantity]))  # fmt: skip
        add(f"SOURce#:LIST:{NAMES[quantity]}:APPend", lambda _s, p: set_list(p, self._lists[quantity]))
        add(f"SOURce#:LIST:{NAMES[quantity]}:POINts", query=lambda _s, _p: str(len(self._lists[quantity])))

    def _declare_sense(self, quantity: str, root: str) -> None:
        add, smu = self.tree.add, self._smu
        top = smu.top(quantity)

        def set_range(_s: tuple[int, ...], p: list[str]) -> None:
            wanted = number(p, -top, top)
            full = DATA.ranges(quantity)[smu.selected(quantity, wanted)].full_scale
            if quantity != smu.func and full > DATA.ranges(quantity)[smu.fitting(quantity, smu.limits[quantity])].full_scale:
                raise ScpiError(BEYOND_COMPLIANCE, "")
            smu.set_sense_range(quantity, wanted)

        def set_protection(_s: tuple[int, ...], p: list[str]) -> None:
            wanted = abs(number(p, -top, top))
            full = DATA.ranges(quantity)[0].full_scale if smu.sense_auto[quantity] else smu.sense_full_scale(quantity)
            if wanted >= LEAST_SHARE * full * (1.0 - 1e-9):
                smu.set_limit(quantity, wanted)

        def set_nplc(_s: tuple[int, ...], p: list[str]) -> None:
            self._nplc = number(p, 0.01, 10.0, 1.0)

        def tripped(_s: tuple[int, ...], _p: list[str]) -> str:
            return str(int(quantity != smu.func and smu.tripped()))

        add(f"{root}:RANGe[:UPPer]", set_range, lambda _s, _p: f"{smu.sense_full_scale(quantity):.6E}")
        add(f"{root}:RANGe:AUTO", lambda _s, p: smu.set_sense_auto(quantity, boolean(p)),
            lambda _s, _p: str(int(smu.sense_auto[quantity])))  # fmt: skip
        add(f"{root}:PROTection[:LEVel]", set_protection, lambda _s, _p: f"{smu.limits[quantity]:.6E}")
        add(f"{root}:PROTection:TRIPped", query=tripped)
        add(f"{root}:NPLCycles", set_nplc, lambda _s, _p: f"{self._nplc:.2f}")

    # Settings ------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """The defaults of *RST: 0 V fixed, 105 uA, output off, amperes measured, all elements sent."""
        self._smu.reset()
        self._fixed = {VOLT: 0.0, CURR: 0.0}
        self._mode = {VOLT: "FIX", CURR: "FIX"}
        self._sweep = {quantity: {"STAR": 0.0, "STOP": 0.0, "STEP": 0.0} for quantity in (VOLT, CURR)}
        self._lists: dict[str, list[float]] = {VOLT: [], CURR: []}
        self._spacing, self._direction, self._ranging, self._abort = "LIN", "UP", "BEST", "NEV"
        self._points = 2500
        self._functions = [CURR]
        self._concurrent, self._averaging = True, False
        self._nplc = 1.0
        self._delay, self._auto_delay, self._auto_off = 0.0, True, False
        self._trigger_delay = 0.0
        self._trigger_count = self._arm_count = 1
        self._trigger_source = self._arm_source = "IMM"
        self._autozero = True
        self._interlock_used = False
        self._store.reset()
        self._restart_time()

    def redrive(self) -> None:
        """The output stage has changed."""
        self._smu.drive()

    @property
    def _permits(self) -> bool:
        """Whether the interlock lets the output be switched on."""
        return bool(self.options["interlock"])

    def _restart_time(self) -> None:
        self._time_zero = self.plant.clock.now()

    def _set_source(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        self._smu.set_function(choice(parameters, ("VOLTage", "CURRent")))

    def _set_delay(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        self._delay, self._auto_delay = number(parameters, 0.0, 999.9999, 0.0), False

    def _set_trigger_delay(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        self._trigger_delay = number(parameters, 0.0, 999.9999, 0.0)

    def _set_autozero(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        if parameters and parameters[0].upper() == "ONCE":
            return
        self._autozero = boolean(parameters)

    def _set_points(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        self._points = round(number(parameters, 2, LONGEST_LIST, LONGEST_LIST))

    def _set_sweep(self, quantity: str, which: str, value: float) -> None:
        self._sweep[quantity][which] = value
        span = self._sweep[quantity]["STOP"] - self._sweep[quantity]["STAR"]
        if which == "STEP" and value != 0.0:
            self._points = round(abs(span / value)) + 1

    def _set_level(self, quantity: str, level: float) -> None:
        if self._mode[quantity] == "FIX":
            self._smu.set_level(quantity, level)
        self._fixed[quantity] = level

    def _set_functions(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        named = []
        for text in parameters:
            word = quoted([text]).upper().removesuffix(":DC")
            named.append(keyword(word, ("VOLTage", "CURRent")))
        if not named:
            raise ScpiError(-109)
        self._functions = list(dict.fromkeys([*self._functions, *named])) if self._concurrent else named[:1]

    def _drop_functions(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        for text in parameters:
            word = keyword(quoted([text]).upper().removesuffix(":DC"), ("VOLTage", "CURRent"))
            self._functions = [one for one in self._functions if one != word]

    def _set_output(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        on = boolean(parameters)
        if on and self._interlock_used and not self._permits:
            raise ScpiError(802, "")
        self._smu.set_output(on)

    def _set_off_mode(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        self._smu.off_mode = choice(parameters, ("HIMPedance", "NORMal", "ZERO", "GUARd"))
        self._smu.drive()

    def _set_remote(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        self._smu.remote = boolean(parameters)
        self._smu.drive()

    def _set_elements(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        chosen = {keyword(text, ELEMENTS) for text in parameters}
        if not chosen:
            raise ScpiError(-109)
        self._store.choose(chosen)

    # Measuring -----------------------------------------------------------------------------------------------------

    def _levels(self) -> list[float] | None:
        """Levels of the sweep that is armed, None in fixed mode."""
        func = self._smu.func
        if self._mode[func] == "FIX":
            return None
        if self._mode[func] == "LIST":
            return self._lists[func]
        start, stop = self._sweep[func]["STAR"], self._sweep[func]["STOP"]
        if self._spacing == "LOG":
            if start * stop <= 0.0:
                raise ScpiError(-221)
            sign = 1.0 if start > 0.0 else -1.0
            levels = [sign * 10.0**x for x in np.linspace(log10(abs(start)), log10(abs(stop)), self._points)]
        else:
            levels = [float(level) for level in np.linspace(start, stop, self._points)]
        return levels if self._direction == "UP" else levels[::-1]

    def _choose_range(self, levels: list[float]) -> None:
        """A source range for all levels of a sweep, or for each of them its own."""
        if self._ranging == "AUTO":
            self._smu.set_autorange(self._smu.func, True)
        else:
            self._smu.set_range(self._smu.func, max(abs(level) for level in levels))

    def _run(self) -> None:
        """As many source-delay-measure cycles as arm and trigger count; a sweep goes round when they are more than its points."""
        smu = self._smu
        if {self._arm_source, self._trigger_source} != {"IMM"}:
            raise ScpiError(-214)
        if not smu.output:
            if not self._auto_off:
                raise ScpiError(OUTPUT_OFF, "")
            smu.set_output(True)
        levels = self._levels()
        if levels is not None and not levels:
            raise ScpiError(-221)
        if levels is not None and self._ranging != "FIX":
            self._choose_range(levels)
        taken: list[Reading] = []
        for turn in range(self._arm_count * self._trigger_count):
            if self._trigger_delay > 0.0:
                self.plant.clock.advance(self._trigger_delay)
            if levels is not None:
                smu.set_level(smu.func, levels[turn % len(levels)])
            if not self._auto_delay and self._delay > 0.0:
                self.plant.clock.advance(self._delay)
            taken.append(self._one())
            if self._abort != "NEV" and taken[-1].status >> LIMIT_BIT & 1:
                break
        self._store.take(taken)
        if self._auto_off:
            smu.set_output(False)

    def _one(self) -> Reading:
        smu = self._smu
        found = smu.measure(self._nplc, (AUTOZERO_FACTOR if self._autozero else 1.0) * (FILTERED if self._averaging else 1))
        measured = {VOLT: found.volts, CURR: found.amperes}
        status = 1 << (SOURCE_VOLT_BIT if smu.func == VOLT else SOURCE_CURR_BIT)
        values: dict[str, float] = {}
        for quantity, bit in ((VOLT, VOLT_BIT), (CURR, CURR_BIT)):
            if quantity in self._functions:
                values[quantity] = measured[quantity]
                status |= 1 << bit
                if not isfinite(measured[quantity]):
                    status |= 1 << OVERFLOW_BIT
            else:
                values[quantity] = smu.levels[quantity] if quantity == smu.func else nan
        if found.limited:
            status |= 1 << (RANGE_LIMIT_BIT if found.range_limited else LIMIT_BIT)
        if smu.remote:
            status |= 1 << REMOTE_BIT
        return Reading(values[VOLT], values[CURR], found.time - self._time_zero, status)

    def _read(self) -> str:
        self._run()
        return self._store.fetch()

    def _configure(self, function: str) -> None:
        self._functions = [function]
        self._trigger_count = self._arm_count = 1
        self._smu.set_sense_auto(function, True)
        if function != self._smu.func:
            self._mode[self._smu.func] = "FIX"

    def _measure(self, function: str) -> str:
        self._configure(function)
        self._smu.set_output(True)
        return self._read()

    def _error(self, _s: tuple[int, ...], _p: list[str]) -> str:
        code, text = self.next_error()
        known = {802: "OUTPUT blocked by interlock", 803: "Not permitted with OUTPUT off", 824: "Cannot exceed compliance range"}
        return f'{code:+d},"{known.get(code, text)}"' if code else '0,"No error"'
