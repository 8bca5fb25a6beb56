"""The source half of one 2600B channel: ranges, limits, operating area, output states, and what reaches the terminal."""

import numpy as np

from simulated_backend.virtual_bench.emulators.keithley_2600_datasheet import (
    OVERRANGE,
    Family,
    Range,
    range_for,
)
from simulated_backend.virtual_bench.ports import CurrentSource, ElectricalPort, Open, PlantView, Source, VoltageSource
from simulated_backend.virtual_bench.tsp_errors import ErrorQueue
from simulated_backend.virtual_bench.tsp_tree import as_number

AMPERES, VOLTS = 0, 1
"""smuX.OUTPUT_DCAMPS, smuX.OUTPUT_DCVOLTS."""
OFF_NORMAL, OFF_ZERO, OFF_HIGH_Z = 0, 1, 2

NOISE_CREST = 6.0
"""Peak to peak over standard deviation of Gaussian noise: the data sheets state the former."""
ACCURACY_SIGMAS = 2.0
"""A one-year accuracy limit is taken as two standard deviations, and no instrument is outside it."""


def drawn_errors(ranges: tuple[Range, ...], rng: np.random.Generator, *, source: bool) -> dict[float, tuple[float, float]]:
    """Full scale -> (gain error, offset) of one device, inside the data sheet's limits."""
    shares = np.clip(rng.standard_normal((len(ranges), 2)) / ACCURACY_SIGMAS, -1.0, 1.0)
    return {
        line.full_scale: (
            float(gain) * (line.source_gain if source else line.measure_gain),
            float(offset) * (line.source_offset if source else line.measure_offset),
        )
        for line, (gain, offset) in zip(ranges, shares, strict=True)
    }


class SourceHalf:
    """Settings of smuX.source.* and the drive of the terminal. Refused values go to the error queue, named by channel.

    The slow noise of the source (0.1 Hz to 10 Hz) is drawn anew whenever its level is programmed and stays until then.
    """

    def __init__(
        self,
        name: str,
        family: Family,
        plant: PlantView,
        port: ElectricalPort,
        errors: ErrorQueue,
        rng: np.random.Generator,
        *,
        interlock: bool,
        lead_resistance: float,
    ) -> None:
        self.name = name
        self.family = family
        self.port = port
        self._errors = errors
        self._rng = rng
        self._ideal = plant.ideal
        self._interlock = interlock
        self._lead_resistance = 0.0 if plant.ideal else lead_resistance
        self._volt_errors = drawn_errors(family.volts, rng, source=True)
        self._ampere_errors = drawn_errors(family.amperes, rng, source=True)
        self._driven: tuple[Source, bool] | None = None
        self.sourcing_ranges = tuple(line for line in family.amperes if line.programming)
        self.reset()

    def reset(self) -> None:
        """Power-on and smuX.reset() values; the output is off."""
        family = self.family
        self.func = VOLTS
        self.levels = {VOLTS: 0.0, AMPERES: 0.0}
        self.limits = {VOLTS: family.default_voltage_limit, AMPERES: family.default_current_limit}
        self.ranges = {VOLTS: family.volts[0], AMPERES: self.sourcing_ranges[0]}
        self.autorange = {VOLTS: 1, AMPERES: 1}
        self.lowranges = {VOLTS: family.volts[0].full_scale, AMPERES: self.sourcing_ranges[0].full_scale}
        self.limitp = 0.0
        self.output = 0
        self.offmode = OFF_NORMAL
        self.offfunc = VOLTS
        self.offlimiti = 1e-3
        self.offlimitv = 40.0
        self.highc = 0
        self.settling = 0
        self.sink = 0
        self.delay = 0.0
        self.outputenableaction = 0
        self.sense = 0
        self._deviation = 0.0
        self._stepped: tuple[float, float] | None = None
        self.drive()

    # ---- settings ---------------------------------------------------------------------------------------------------

    def _lines(self, func: int) -> tuple[Range, ...]:
        return self.family.volts if func == VOLTS else self.sourcing_ranges

    def refuse(self, code: int) -> None:
        """Queue an error that names this channel."""
        self._errors.add(code, prefix=f"{self.name.upper().replace('SMU', 'SMU ')}: ")

    def _allowed(self, func: int, line: Range, limit: float) -> bool:
        """Whether a range of ``func`` together with the complementary ``limit`` lies in the operating area."""
        volts, amperes = (line.full_scale, limit) if func == VOLTS else (limit, line.full_scale)
        for corner_volts, corner_amperes in self.family.area:
            if volts <= corner_volts * OVERRANGE and amperes <= corner_amperes * OVERRANGE:
                return True
        return False

    def _usable(self, func: int, line: Range, limit: float) -> bool:
        if not self._allowed(func, line, limit):
            self.refuse(5007)
            return False
        if func == VOLTS and line.full_scale > self.family.interlock_above and not self._interlock:
            self.refuse(802)
            return False
        return True

    def set_func(self, value: int) -> None:
        """Choose what is sourced."""
        self.func = value
        self.drive()

    def set_level(self, func: int, value: object) -> None:
        """smuX.source.levelv / leveli."""
        top = self._lines(func)[-1].full_scale * OVERRANGE
        level = as_number(value, self._errors, -top, top)
        if level is None:
            return
        line = self.ranges[func]
        if self.autorange[func]:
            line = range_for(self._lines(func), level, self.lowranges[func])
            if line is not self.ranges[func] and not self._usable(func, line, self.limits[1 - func]):
                return
        elif abs(level) > line.full_scale * OVERRANGE * (1.0 + 1e-12):
            self.refuse(5005)
            return
        self.ranges[func] = line
        self.levels[func] = level
        if func == self.func:
            self._draw_noise()
            self.drive()

    def _draw_noise(self) -> None:
        line = self.ranges[self.func]
        self._deviation = 0.0 if self._ideal else float(self._rng.standard_normal()) * line.noise / NOISE_CREST

    def set_limit(self, func: int, value: object) -> None:
        """smuX.source.limitv / limiti: the bipolar limit of the other quantity."""
        family = self.family
        low = family.minimum_voltage_limit if func == VOLTS else family.minimum_current_limit
        limit = as_number(value, self._errors, low, self._lines(func)[-1].full_scale * OVERRANGE)
        if limit is None:
            return
        if not self._allowed(1 - func, self.ranges[1 - func], limit):
            self.refuse(5007)
            return
        self.limits[func] = limit
        self.drive()

    def set_range(self, func: int, value: object) -> None:
        """smuX.source.rangev / rangei: fixes the range, the lowest that holds the value."""
        lines = self._lines(func)
        top = lines[-1].full_scale * OVERRANGE
        wanted = as_number(value, self._errors, -top, top)
        if wanted is None:
            return
        line = range_for(lines, wanted)
        if abs(self.levels[func]) > line.full_scale * OVERRANGE:
            self.refuse(5005)
            return
        if not self._usable(func, line, self.limits[1 - func]):
            return
        self.autorange[func] = 0
        self.ranges[func] = line
        self.drive()

    def full_scale(self, func: int) -> float:
        """The present source range."""
        return self.ranges[func].full_scale

    def autoranges(self, func: int) -> int:
        """Whether the source range follows the level."""
        return self.autorange[func]

    def set_autorange(self, func: int, value: int) -> None:
        """smuX.source.autorangev / autorangei."""
        self.autorange[func] = value
        if value:
            self.set_level(func, self.levels[func])

    def set_lowrange(self, func: int, value: object) -> None:
        """smuX.source.lowrangev / lowrangei: the lowest range that autorange chooses."""
        lines = self._lines(func)
        wanted = as_number(value, self._errors, 0.0, lines[-1].full_scale * OVERRANGE)
        if wanted is None:
            return
        self.lowranges[func] = range_for(lines, wanted).full_scale
        if self.autorange[func]:
            self.set_level(func, self.levels[func])

    def set_output(self, value: int) -> None:
        """smuX.source.output: off, on, or high impedance (2)."""
        if value == 1:
            if not self._usable(self.func, self.ranges[self.func], self.limits[1 - self.func]):
                return
            if self.output != 1 and self.autorange[self.func]:
                self.ranges[self.func] = range_for(self._lines(self.func), self.levels[self.func], self.lowranges[self.func])
        self.output = value
        self.drive()

    # ---- sweeps -----------------------------------------------------------------------------------------------------

    def take_range(self, func: int, level: float) -> bool:
        """Choose the range that holds ``level`` (autorange); False, with an error queued, if it may not be used."""
        line = range_for(self._lines(func), level, self.lowranges[func])
        if not self._usable(func, line, self.limits[1 - func]):
            return False
        self.ranges[func] = line
        return True

    def step(self, func: int, level: float, limits: dict[int, float]) -> None:
        """Drive a level of a sweep; the programmed (idle) level stays. A limit of 0 means the normal one."""
        self.func = func
        self._stepped = (level, limits[1 - func] or self.limits[1 - func])
        self._draw_noise()
        self.drive()

    def step_back(self) -> None:
        """Return to the programmed level."""
        if self._stepped is not None:
            self._stepped = None
            self._draw_noise()
            self.drive()

    def keep_step(self) -> None:
        """Make the last level of the sweep the programmed one."""
        if self._stepped is not None:
            self.levels[self.func] = self._stepped[0]
            self._stepped = None
            self.drive()

    @property
    def level(self) -> float:
        """What is sourced now: the sweep's level during one, the programmed level otherwise."""
        return self.levels[self.func] if self._stepped is None else self._stepped[0]

    # ---- the terminal -----------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """The output relay is closed."""
        return self.output == 1 or (self.output == 0 and self.offmode != OFF_HIGH_Z)

    @property
    def active_func(self) -> int:
        """What the terminal does now: the source function, or that of the output-off state."""
        if self.output == 1:
            return self.func
        return VOLTS if self.offmode == OFF_ZERO else self.offfunc

    def settling_time(self) -> float:
        """smuX.source.delay: a time, or (DELAY_AUTO, -1) the data sheet's output settling time of the range."""
        return self.delay if self.delay >= 0.0 else self.ranges[self.func].settling

    def _actual(self, func: int, level: float) -> float:
        """What the converter makes of ``level``: resolution always; gain, offset and slow noise unless the plant is ideal."""
        line = self.ranges[func]
        stepped = round(level / line.programming) * line.programming
        if self._ideal:
            return stepped
        gain, offset = (self._volt_errors if func == VOLTS else self._ampere_errors)[line.full_scale]
        return stepped * (1.0 + gain) + offset + self._deviation

    def _actual_limit(self, func: int, limit: float) -> float:
        """A limit has the accuracy of the source of its quantity, in the lowest range that holds it."""
        if self._ideal:
            return limit
        line = range_for(self._lines(func), limit)
        gain, offset = (self._volt_errors if func == VOLTS else self._ampere_errors)[line.full_scale]
        return max(limit * (1.0 + gain) + offset, 0.5 * limit)

    @property
    def output_resistance(self) -> float:
        """Both leads in 2-wire operation, ohm; 0 with remote sense. Load regulation (0.24 mohm in the 6 V range) is left out."""
        return 0.0 if self.sense == 1 else 2.0 * self._lead_resistance

    def _source(self) -> Source:
        if not self.connected:
            return Open()
        if self.output == 1:
            other = 1 - self.func
            limit = self._actual_limit(other, self.limits[other] if self._stepped is None else self._stepped[1])
            if self.func == VOLTS:
                return VoltageSource(self.port.stage.delivered(self._actual(VOLTS, self.level)), limit, self.output_resistance)
            return CurrentSource(self._actual(AMPERES, self.level), limit)
        if self.offmode == OFF_ZERO:
            limit = self.limits[AMPERES]
            if self.func == AMPERES:
                limit = max(abs(self.levels[AMPERES]), 0.1 * self.ranges[AMPERES].full_scale)
            return VoltageSource(self._actual(VOLTS, 0.0), limit, self.output_resistance)
        if self.offfunc == VOLTS:
            return VoltageSource(self._actual(VOLTS, 0.0), self.offlimiti, self.output_resistance)
        return CurrentSource(self._actual(AMPERES, 0.0), self.offlimitv)

    def drive(self) -> None:
        """Tell the terminal what to do, if that has changed.

        The voltmeter's input resistance loads the node where the channel does not hold the voltage itself.
        """
        source = self._source()
        loaded = isinstance(source, CurrentSource) and not self._ideal
        if self._driven != (source, loaded):
            self._driven = (source, loaded)
            self.port.set_load(self.family.input_resistance if loaded else float("inf"), 0.0)
            self.port.set_source(source)
