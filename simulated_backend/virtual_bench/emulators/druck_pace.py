"""Druck PACE6000 with two control modules, and PACE5000 with one.

Language: PACE Series SCPI Remote Communications Manual K0472 Revision A (headers are echoed, in their short forms, with the
module's number unless it is 1; a missing number means module 1; units are those of ``UNIT:PRES``, slews per second; at most
five errors are kept). Figures: PACE5000/6000 data sheet: precision 0.01 % of reading + 0.01 % of full scale, controller
stability 0.003 % of full scale, barometric reference 0.1 mbar, display 2 readings a second. Replies to one message hold 256
characters at the most (section 3.1 of the manual); at most 128 are taken in one message (what clients of others keep to).

The pneumatic port of module 1 is "a", of module 2 "b". Options: ``modules`` (1 or 2), ``module`` (gauge range of the
modules; the barometer option is fitted, so that there is an absolute range one bar larger), ``range`` (the range selected on
the front panel when it is switched on), ``supply`` and ``vacuum`` (what is connected behind, absolute Pa). Not imitated:
overshoot, the effort of the valves, volt-free contacts, the other units of the manual.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np

from hil.core.errors import ConfigError
from simulated_backend.virtual_bench.ports import PlantView, PressurePort
from simulated_backend.virtual_bench.scpi import ScpiEmulator, ScpiError, boolean, choice, number, quoted

UNITS: Mapping[str, float] = {
    "PA": 1.0,
    "HPA": 100.0,
    "KPA": 1e3,
    "MPA": 1e6,
    "MBAR": 100.0,
    "BAR": 1e5,
    "PSI": 6894.757293168,
    "MMHG": 133.322387415,
    "TORR": 133.322368421,
    "ATM": 101_325.0,
}
"""Pa per unit. The manual lists more (water and mercury columns at temperatures); this emulator knows these."""
FASTEST = 99_999_999.0
LONGEST_MESSAGE, LONGEST_REPLY = 128, 256
STABILITY = 0.5 * 3e-5
"""Standard deviation of the controlled pressure, of full scale: the data sheet's 0.003 % is taken as two of them."""
STABILITY_TIME = 2.0
"""s: correlation time of the controller's unrest (not in the data sheet; a controller's loop takes some seconds)."""


SENSOR_NOISE = 2e-6
"""Standard deviation of one reading as a fraction of full scale (below the display's seventh digit on the data sheet)."""
BAROMETER = 10.0
"""Pa: the limit of error that absolute ranges add."""
WITHIN = 1.0 / 3.0
"""A specified limit of error is taken as three standard deviations of a calibrated instrument."""
VENTED = 200.0
"""Pa: nearer than this to the atmosphere a vent counts as completed."""


@dataclass(slots=True)
class _Module:
    """Settings of one module. Pressures in Pa as its selected range counts them (gauge or absolute), slews in Pa/s."""

    port: PressurePort
    ranges: tuple[str, str, str]
    full_scale: float
    error: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Relative, Pa, and Pa more on absolute ranges: what its sensor shows too much."""
    unit: str = "MBAR"
    set_point: float = 0.0
    slew: float = 1e4
    slew_mode: str = "MAX"
    overshoot: bool = True
    in_limits: float = 0.01
    in_limits_time: float = 2.0
    resolution: int = 6
    output: bool = False
    sensed: str = ""
    controlled: str = ""
    vent: int = 0
    last: tuple[float, float] = (0.0, 0.0)


_OPTIONS: Mapping[str, object] = {
    "modules": 2,
    "module": "2.00barg",
    "range": "3.00bara",
    "supply": 4.0e5,
    "vacuum": 2.0e3,
}


class DruckPACE6000(ScpiEmulator):
    """One or two pressure controllers in one box."""

    models: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "DruckPACE6000": _OPTIONS,
        "DruckPACE5000": {**_OPTIONS, "modules": 1, "identity": "GE Druck,PACE5000 User Interface,10388797,02.02.14"},
    }
    identity = "GE Druck,PACE6000 User Interface,10388796,02.02.14"
    errors_kept = 5
    wrong_direction = (-200, "Query or command violation")

    def __init__(self, name: str, plant: PlantView, options: Mapping[str, object], rng: np.random.Generator) -> None:
        gauge = str(options["module"])
        full_scale = _bar(gauge) * 1e5
        ranges = (gauge, "BAROMETER", f"{_bar(gauge) + 1.0:.2f}bara")
        if options["range"] not in ranges[::2]:
            raise ConfigError(f"option 'range' of {name!r} must be {ranges[0]!r} or {ranges[2]!r}, not {options['range']!r}")
        if options["modules"] not in (1, 2):
            raise ConfigError(f"option 'modules' of {name!r} must be 1 or 2, not {options['modules']!r}")
        ports = "a" if options["modules"] == 1 else "ab"
        self._modules = [_Module(plant.pneumatic(name, port), ranges, full_scale) for port in ports]
        if not plant.ideal:
            for module in self._modules:
                draw = [WITHIN * float(rng.standard_normal()) for _ in range(3)]
                module.error = (draw[0] * 1e-4, draw[1] * 1e-4 * full_scale, draw[2] * BAROMETER)
                module.port.set_stability(STABILITY * full_scale, STABILITY_TIME)
        super().__init__(name, plant, options, rng)

    # Language ------------------------------------------------------------------------------------------------------

    def declare(self) -> None:
        """The commands of the manual's section 4 that a bench uses."""
        source, sense = "SOURce#[:PRESsure]", "SENSe#[:PRESsure]"
        amplitude = source + "[:LEVel][:IMMediate][:AMPLitude]"
        self._add(amplitude, "SOUR{}:PRES:LEV:IMM:AMPL", lambda m: _shown(m, m.set_point), self._set_point)
        self._add(amplitude + ":VENT", "SOUR{}:PRES:LEV:IMM:AMPL:VENT", lambda m: str(self._vent_state(m)), self._vent)
        self._add(source + ":SLEW", "SOUR{}:PRES:SLEW", _shown_slew, self._slew)
        self._add(source + ":SLEW:MODE", "SOUR{}:PRES:SLEW:MODE", lambda m: m.slew_mode, self._slew_mode)
        self._add(source + ":SLEW:OVERshoot[:STATe]", "SOUR{}:PRES:SLEW:OVER:STAT", lambda m: str(int(m.overshoot)), _overshoot)
        self._add(source + ":INLimits", "SOUR{}:PRES:INL", lambda m: f"{m.in_limits:.7f}", _in_limits)
        self._add(source + ":INLimits:TIME", "SOUR{}:PRES:INL:TIME", lambda m: f"{m.in_limits_time:.0f}", _in_limits_time)
        self._add(source + ":RANGe", "SOUR{}:PRES:RANG", lambda m: f'"{m.controlled}"', self._control_range)
        self._add(sense, "SENS{}:PRES", lambda m: _shown(m, self._measured(m)))
        self._add(sense + ":INLimits", "SENS{}:PRES:INL", self._in_limits_shown)
        self._add(sense + ":SLEW", "SENS{}:PRES:SLEW", lambda m: _shown(m, self._rate(m)))
        self._add(sense + ":BARometer", "SENS{}:PRES:BAR", lambda m: _shown(m, self._reading(m, "BAROMETER")))
        self._add(sense + ":RESolution", "SENS{}:PRES:RES", lambda m: str(m.resolution), _resolution)
        self._add(sense + ":RANGe", "SENS{}:PRES:RANG", lambda m: f'"{m.sensed}"', self._sense_range)
        self._add("OUTPut#[:STATe]", "OUTP{}:STAT", lambda m: str(int(m.output)), self._output)
        self._add("UNIT#[:PRESsure]", "UNIT{}:PRES", lambda m: m.unit, _unit)
        self._add("INSTrument:CATalog#[:ALL]", "INST:CAT{}:ALL", lambda m: ",".join(f'"{text}"' for text in m.ranges))
        self.tree.add(source + ":COMPensate#", query=self._supply)
        self.tree.add("SYSTem:ERRor", query=self._error)
        self.tree.add("SYSTem:VERSion", query=lambda _s, _p: ":SYST:VERS 1995.0")

    def _add(self, notation: str, echo: str, show: "Callable[[_Module], str]", change: "Change | None" = None) -> None:
        def query(suffixes: tuple[int, ...], parameters: list[str]) -> str:
            if parameters:
                raise ScpiError(-108)
            return f":{echo.format(_suffix(suffixes[0]))} {show(self._module(suffixes[0]))}"

        def command(suffixes: tuple[int, ...], parameters: list[str]) -> None:
            if change is not None:
                change(self._module(suffixes[0]), parameters)

        self.tree.add(notation, command if change is not None else None, query)

    def receive(self, message: bytes) -> bytes | None:
        """As any SCPI instrument, but not more than 128 characters at once."""
        if len(message) > LONGEST_MESSAGE:
            self.report(-223, "Too much data")
            return None
        reply = super().receive(message)
        if reply is not None and len(reply) > LONGEST_REPLY:
            self.report(-350, "Queue overflow")
            return None
        return reply

    def decorate(self, header: str, reply: str) -> str:
        """Common queries echo their header too."""
        return f"{header} {reply}"

    def reset(self) -> None:
        """Controllers off, everything at the manual's defaults; the selected ranges stay."""
        for module in self._modules:
            fresh = _Module(module.port, module.ranges, module.full_scale, module.error)
            fresh.sensed = fresh.controlled = module.controlled or str(self.options["range"])
            self._modules[self._modules.index(module)] = fresh
            module.port.hold()

    def power_on(self) -> None:
        """After switching on: as after *RST, on the range that was last selected on the front panel."""
        for module in self._modules:
            module.controlled = self._known_range(module, str(self.options["range"]))
        super().power_on()

    def _module(self, number: int) -> _Module:
        if not 1 <= number <= len(self._modules):
            raise ScpiError(-114)
        return self._modules[number - 1]

    def _error(self, _suffixes: tuple[int, ...], _parameters: list[str]) -> str:
        code, text = self.next_error()
        return f':SYST:ERR {code},"{text}"' if code else f":SYST:ERR 0, {text}"

    def _supply(self, suffixes: tuple[int, ...], _parameters: list[str]) -> str:
        module, which = self._module(suffixes[0]), suffixes[1]
        if which not in (1, 2):
            raise ScpiError(-114)
        absolute = self.number("supply" if which == 1 else "vacuum")
        value = absolute - self._reference(module.sensed)
        return f":SOUR{_suffix(suffixes[0])}:PRES:COMP{_suffix(which)} {_shown(module, value)}"

    # What commands do ----------------------------------------------------------------------------------------------

    def _set_point(self, module: _Module, parameters: list[str]) -> None:
        top = module.full_scale * 1.05 + self._span(module.controlled)
        bottom = -1.1e5 + self._span(module.controlled)
        scale = UNITS[module.unit]
        module.set_point = scale * _in_range(parameters, bottom / scale, top / scale)
        self._control(module)

    def _slew(self, module: _Module, parameters: list[str]) -> None:
        module.slew = UNITS[module.unit] * _in_range(parameters, 0.0, FASTEST)
        self._control(module)

    def _slew_mode(self, module: _Module, parameters: list[str]) -> None:
        module.slew_mode = _one_of(parameters, ("MAXimum", "LINear"))
        self._control(module)

    def _output(self, module: _Module, parameters: list[str]) -> None:
        module.output = boolean(parameters)
        module.vent = 0
        if module.output:
            self._control(module)
        else:
            module.port.hold()

    def _vent(self, module: _Module, parameters: list[str]) -> None:
        module.output = False
        if boolean(parameters):
            module.vent = 1
            module.port.set_target(None, inf)
        else:
            module.vent = 0
            module.port.hold()

    def _vent_state(self, module: _Module) -> int:
        if module.vent == 1 and abs(module.port.pressure() - self.plant.atmosphere) < VENTED:
            module.vent = 2
        return module.vent

    def _control_range(self, module: _Module, parameters: list[str]) -> None:
        chosen = self._known_range(module, quoted(parameters))
        if chosen == "BAROMETER":
            raise ScpiError(-221)
        module.set_point += self._reference(module.controlled) - self._reference(chosen)
        module.controlled = chosen

    def _sense_range(self, module: _Module, parameters: list[str]) -> None:
        module.sensed = self._known_range(module, quoted(parameters))

    def _control(self, module: _Module) -> None:
        """Send the outlet where the set-point, the slew and the supplies allow."""
        if not module.output:
            return
        relative, offset, barometer = module.error
        shown = module.set_point - offset - (barometer if module.controlled.endswith("a") else 0.0)
        target = shown / (1.0 + relative) + self._reference(module.controlled)
        target = min(max(target, self.number("vacuum")), self.number("supply"))
        if module.slew_mode == "LIN" and module.slew == 0.0:
            module.port.hold()
        else:
            module.port.set_target(target, module.slew if module.slew_mode == "LIN" else inf)

    # What is measured ----------------------------------------------------------------------------------------------

    def _measured(self, module: _Module) -> float:
        """One reading in Pa of the range that is sensed."""
        return self._reading(module, module.sensed)

    def _reading(self, module: _Module, selected: str) -> float:
        relative, offset, barometer = module.error
        if selected == "BAROMETER":
            return self.plant.atmosphere + barometer
        true = module.port.pressure() - self._reference(selected)
        noise = 0.0 if self.plant.ideal else SENSOR_NOISE * module.full_scale * float(self.rng.standard_normal())
        return self.broken.shown(true * (1.0 + relative) + offset + (barometer if selected.endswith("a") else 0.0) + noise)

    def _in_limits_shown(self, module: _Module) -> str:
        controlled = self._reading(module, module.controlled)
        inside = module.output and abs(controlled - module.set_point) <= 0.01 * module.in_limits * module.full_scale
        return f"{_shown(module, self._measured(module))}, {int(inside)}"

    def _rate(self, module: _Module) -> float:
        now, pressure = self.plant.clock.now(), module.port.pressure()
        before, then = module.last
        module.last = (now, pressure)
        return (pressure - then) / (now - before) if now > before else 0.0

    def _reference(self, selected: str) -> float:
        """Absolute pressure of the zero of a range, Pa."""
        return self.plant.atmosphere if selected.endswith("g") else 0.0

    def _span(self, selected: str) -> float:
        return 1e5 if selected.endswith("a") else 0.0

    def _known_range(self, module: _Module, text: str) -> str:
        if text not in module.ranges:
            raise ScpiError(-224)
        return text


Change = Callable[[_Module, list[str]], None]


def _bar(text: str) -> float:
    """Full scale in bar of a range name like 2.00barg; ConfigError for anything else."""
    number_text, found, rest = text.partition("bar")
    try:
        value = float(number_text)
    except ValueError:
        value = 0.0
    if not found or rest != "g" or not 0.0 < value <= 210.0:
        raise ConfigError(f"option 'module' of a PACE must be a gauge range like '2.00barg', not {text!r}")
    return value


def _suffix(module: int) -> str:
    return "" if module == 1 else str(module)


def _shown(module: _Module, pascal: float) -> str:
    return f"{pascal / UNITS[module.unit]:.7f}"


def _shown_slew(module: _Module) -> str:
    per_second = module.slew / UNITS[module.unit]
    return f"{min(per_second, FASTEST):.7f}"


def _in_range(parameters: list[str], minimum: float, maximum: float) -> float:
    try:
        return number(parameters, minimum, maximum)
    except ScpiError as error:
        raise (ScpiError(-222, " Parameter 1") if error.code == -222 else error) from None


def _one_of(parameters: list[str], notations: tuple[str, ...]) -> str:
    try:
        return choice(parameters, notations)
    except ScpiError as error:
        raise (ScpiError(207) if error.code == -224 else error) from None


def _overshoot(module: _Module, parameters: list[str]) -> None:
    module.overshoot = boolean(parameters)


def _resolution(module: _Module, parameters: list[str]) -> None:
    """Digits of the front panel; replies keep theirs."""
    module.resolution = round(_in_range(parameters, 4, 7))


def _in_limits(module: _Module, parameters: list[str]) -> None:
    module.in_limits = _in_range(parameters, 0.0, 100.0)


def _in_limits_time(module: _Module, parameters: list[str]) -> None:
    module.in_limits_time = round(_in_range(parameters, 2.0, 999.0))


def _unit(module: _Module, parameters: list[str]) -> None:
    module.unit = _one_of(parameters, tuple(UNITS))
