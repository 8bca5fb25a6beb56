"""The inside of a source-measure unit that speaks SCPI: one terminal with ranges, levels, limits, off states, and a meter.

Command languages stand in ``emulators/``; what they share is here: which range a level needs, what the converters make of it,
the operating area, what the terminal does while the output is off, and a reading of volts and amperes over one aperture.
Settings that cannot be kept raise ScpiError with the standard's numbers; instruments with numbers of their own catch that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, sqrt
from typing import NamedTuple

import numpy as np

from simulated_backend.virtual_bench.ports import CurrentSource, ElectricalPort, Open, PlantView, Sample, Source, VoltageSource
from simulated_backend.virtual_bench.scpi import ScpiError

VOLT, CURR = "VOLT", "CURR"
OTHER = {VOLT: CURR, CURR: VOLT}

NOISE_COUNTS = 5.0
"""Standard deviation of a reading at 1 NPLC in steps of the display resolution; it falls as 1/sqrt(NPLC)."""
NOISE_CREST = 6.0
"""Peak to peak over standard deviation of Gaussian noise: data sheets state the former for sources."""
ACCURACY_SIGMAS = 2.0
"""A one-year accuracy limit is taken as two standard deviations, and no specimen is outside it."""


@dataclass(frozen=True, slots=True)
class SmuRange:
    """One line of a data sheet, SI: full scale; source resolution, error (fraction, absolute) and noise (peak to peak, 0.1 Hz
    to 10 Hz); display resolution, error of the meter (fraction, absolute)."""

    full_scale: float
    programming: float
    source_gain: float
    source_offset: float
    noise: float
    display: float
    measure_gain: float
    measure_offset: float


@dataclass(frozen=True, slots=True)
class SmuData:
    """What a data sheet says of a model.

    ``area``: corners (V, A) of the operating area. ``overrange``: largest value over full scale. ``off_share``: current limit
    of the normal off state over the full scale of the current range. ``limited_by_range``: a fixed measuring range is a limit,
    too. ``least_limit``: smallest limit over the full scale of the range it falls into.
    """

    volts: tuple[SmuRange, ...]
    amperes: tuple[SmuRange, ...]
    area: tuple[tuple[float, float], ...]
    overrange: float = 1.05
    input_resistance: float = 10e9
    lead_resistance: float = 0.05
    off_share: float = 0.1
    limited_by_range: bool = False
    default_limits: tuple[float, float] = (21.0, 105e-6)

    def ranges(self, quantity: str) -> tuple[SmuRange, ...]:
        """Ranges of VOLT or CURR, smallest first."""
        return self.volts if quantity == VOLT else self.amperes


class SmuReading(NamedTuple):
    """One reading: V and A as shown (±inf beyond the range), whether the source was at its limit, s of the bench."""

    volts: float
    amperes: float
    limited: bool
    range_limited: bool
    time: float


class SourceMeter:
    """Settings and physics of one terminal; ``shown`` turns a value into what a broken display shows of it."""

    def __init__(
        self,
        data: SmuData,
        plant: PlantView,
        port: ElectricalPort,
        rng: np.random.Generator,
        shown: Callable[[float], float],
        line_frequency: float,
    ) -> None:
        self.data = data
        self.port = port
        self.line_frequency = line_frequency
        self._plant = plant
        self._rng = rng
        self._shown = shown
        self._source_errors = {quantity: self._drawn(quantity, source=True) for quantity in (VOLT, CURR)}
        self._meter_errors = {quantity: self._drawn(quantity, source=False) for quantity in (VOLT, CURR)}
        self.reset()

    def _drawn(self, quantity: str, *, source: bool) -> list[tuple[float, float]]:
        """Gain error and offset of every range of this specimen, inside the data sheet's limits."""
        lines = self.data.ranges(quantity)
        shares = np.clip(self._rng.standard_normal((len(lines), 2)) / ACCURACY_SIGMAS, -1.0, 1.0)
        if self._plant.ideal:
            shares = np.zeros_like(shares)
        return [
            (float(gain) * line.source_gain, float(offset) * line.source_offset)
            if source
            else (float(gain) * line.measure_gain, float(offset) * line.measure_offset)
            for line, (gain, offset) in zip(lines, shares, strict=True)
        ]

    def reset(self) -> None:
        """Volts at 0, autoranges on, output off in the normal off state."""
        self.func = VOLT
        self.levels = {VOLT: 0.0, CURR: 0.0}
        self.autorange = {VOLT: True, CURR: True}
        self.positions = {VOLT: self.fitting(VOLT, 0.0), CURR: self.fitting(CURR, 0.0)}
        self.limits = {VOLT: self.data.default_limits[0], CURR: self.data.default_limits[1]}
        self.sense_auto = {VOLT: True, CURR: True}
        self.sense_least = {VOLT: 0, CURR: 0}
        """Smallest range that autorange chooses."""
        self.sense_positions = {VOLT: len(self.data.volts) - 1, CURR: self.fitting(CURR, self.limits[CURR])}
        self.nplc = {VOLT: 1.0, CURR: 1.0}
        self.remote = False
        self.output = False
        self.off_mode = "NORM"
        self.protection = inf
        self.delay = 0.0
        self.connected = True
        self._deviation = 0.0
        self.drive()

    # Settings ------------------------------------------------------------------------------------------------------

    def fitting(self, quantity: str, value: float) -> int:
        """Position of the smallest range that holds ``value``; the largest if none does."""
        for position, line in enumerate(self.data.ranges(quantity)):
            if abs(value) <= line.full_scale * self.data.overrange * (1.0 + 1e-9):
                return position
        return len(self.data.ranges(quantity)) - 1

    def selected(self, quantity: str, value: float) -> int:
        """Position of the range that a command for ``value`` selects: the smallest that reaches it."""
        for position, line in enumerate(self.data.ranges(quantity)):
            if abs(value) <= line.full_scale * (1.0 + 1e-9):
                return position
        return self.fitting(quantity, value)

    def top(self, quantity: str) -> float:
        """The largest level of all."""
        return self.data.ranges(quantity)[-1].full_scale * self.data.overrange

    def full_scale(self, quantity: str) -> float:
        """Full scale of the source range of VOLT or CURR."""
        return self.data.ranges(quantity)[self.positions[quantity]].full_scale

    def sense_full_scale(self, quantity: str) -> float:
        """Full scale of the measuring range; that of the source where it is the source's quantity."""
        position = self.positions[quantity] if quantity == self.func else self.sense_positions[quantity]
        return self.data.ranges(quantity)[position].full_scale

    def _allow(self, quantity: str, position: int, limit: float) -> None:
        full = self.data.ranges(quantity)[position].full_scale
        volts, amperes = (full, limit) if quantity == VOLT else (limit, full)
        over = self.data.overrange * (1.0 + 1e-9)
        if not any(volts <= corner[0] * over and amperes <= corner[1] * over for corner in self.data.area):
            raise ScpiError(-221, "outside the operating area")

    def set_function(self, func: str) -> None:
        """Source VOLT or CURR; the output goes off when that changes."""
        if func != self.func:
            self.output = False
        self.func = func
        self.drive()

    def set_level(self, quantity: str, level: float) -> None:
        """Program a level; with autorange the range follows it."""
        position = self.fitting(quantity, level) if self.autorange[quantity] else self.positions[quantity]
        if abs(level) > self.data.ranges(quantity)[position].full_scale * self.data.overrange * (1.0 + 1e-9):
            raise ScpiError(-222, "the level is outside the source range")
        if quantity == self.func:
            self._allow(quantity, position, self.limits[OTHER[quantity]])
        self.positions[quantity] = position
        self.levels[quantity] = level
        if quantity == self.func:
            crest = self.data.ranges(quantity)[position].noise / NOISE_CREST
            self._deviation = 0.0 if self._plant.ideal else crest * float(self._rng.standard_normal())
            self.drive()

    def set_range(self, quantity: str, value: float) -> None:
        """Fix the source range to the one that holds ``value``."""
        position = self.selected(quantity, value)
        if abs(self.levels[quantity]) > self.data.ranges(quantity)[position].full_scale * self.data.overrange:
            raise ScpiError(-221, "the level is outside that range")
        if quantity == self.func:
            self._allow(quantity, position, self.limits[OTHER[quantity]])
        self.autorange[quantity] = False
        self.positions[quantity] = position
        self.drive()

    def set_autorange(self, quantity: str, on: bool) -> None:
        """Let the source range follow the level, or stay."""
        self.autorange[quantity] = on
        if on:
            self.positions[quantity] = self.fitting(quantity, self.levels[quantity])
            self.drive()

    def set_limit(self, quantity: str, limit: float) -> None:
        """Limit of VOLT or CURR while the other is sourced."""
        self._allow(OTHER[quantity], self.positions[OTHER[quantity]], limit)
        self.limits[quantity] = limit
        self.drive()

    def set_protection(self, volts: float, steps: tuple[float, ...] = ()) -> None:
        """The terminal never stands above ``volts``, whatever is sourced; of ``steps`` the next lower is taken, inf beyond the
        last."""
        if not steps:
            self.protection = volts
        elif abs(volts) > steps[-1]:
            self.protection = inf
        else:
            self.protection = max((step for step in steps if step <= abs(volts)), default=steps[0])
        self.drive()

    def set_sense_range(self, quantity: str, value: float) -> None:
        """Fix a measuring range."""
        self.sense_auto[quantity] = False
        self.sense_positions[quantity] = self.selected(quantity, value)
        self.drive()

    def set_sense_auto(self, quantity: str, on: bool) -> None:
        """Let a measuring range follow what is measured, or stay."""
        self.sense_auto[quantity] = on
        self.drive()

    def set_output(self, on: bool) -> None:
        """Output relay and source on, or off in the way ``off_mode`` says."""
        if on:
            self._allow(self.func, self.positions[self.func], self.limits[OTHER[self.func]])
        self.output = on
        self.drive()

    # The terminal --------------------------------------------------------------------------------------------------

    def _actual(self, quantity: str, level: float) -> float:
        """What the converter makes of ``level``."""
        position = self.positions[quantity]
        line = self.data.ranges(quantity)[position]
        gain, offset = self._source_errors[quantity][position]
        return round(level / line.programming) * line.programming * (1.0 + gain) + offset + self._deviation

    def limit_in_force(self) -> tuple[float, bool]:
        """The limit of the complementary quantity, and whether it comes from a fixed measuring range."""
        quantity = OTHER[self.func]
        limit, by_range = self.limits[quantity], False
        if self.data.limited_by_range and not self.sense_auto[quantity]:
            ceiling = self.sense_full_scale(quantity) * self.data.overrange
            limit, by_range = (ceiling, True) if ceiling < limit else (limit, False)
        gain, offset = self._source_errors[quantity][self.fitting(quantity, limit)]
        return max(limit * (1.0 + gain) + offset, 0.5 * limit), by_range

    def _source(self) -> Source:
        leads = 0.0 if self.remote or self._plant.ideal else 2.0 * self.data.lead_resistance
        if not self.connected or (not self.output and self.off_mode == "HIMP"):
            return Open()
        if self.output:
            limit, _ = self.limit_in_force()
            level = self._actual(self.func, self.levels[self.func])
            if self.func == VOLT:
                held = min(max(self.port.stage.delivered(level), -self.protection), self.protection)
                return VoltageSource(held, limit, leads)
            return CurrentSource(level, min(limit, self.protection))
        if self.off_mode == "GUAR":
            return CurrentSource(self._actual(CURR, 0.0), self.limits[VOLT])
        share = self.data.off_share * self.sense_full_scale(CURR)
        limit = max(self.limits[CURR], share) if self.off_mode == "ZERO" else share
        return VoltageSource(self._actual(VOLT, 0.0), limit, leads)

    def drive(self) -> None:
        """Tell the terminal what to do. The voltmeter loads the node where the unit does not hold the voltage itself."""
        source = self._source()
        loaded = self.connected and isinstance(source, CurrentSource) and not self._plant.ideal
        self.port.set_load(self.data.input_resistance if loaded else inf, 0.0)
        self.port.set_source(source)

    def tripped(self) -> bool:
        """Whether the source is at its limit now."""
        return self.output and self._plant.observe([self.port], 0.0)[0][0].limited

    # The meter -----------------------------------------------------------------------------------------------------

    def _autorange(self, quantity: str, value: float) -> None:
        if self.sense_auto[quantity] and quantity != self.func:
            self.sense_positions[quantity] = max(self.fitting(quantity, value), self.sense_least[quantity])

    def show(self, quantity: str, true: float, nplc: float) -> float:
        """What the display makes of a true value on the measuring range in use; ±inf beyond its end."""
        position = self.positions[quantity] if quantity == self.func else self.sense_positions[quantity]
        line = self.data.ranges(quantity)[position]
        gain, offset = self._meter_errors[quantity][position]
        value = true * (1.0 + gain) + offset
        if not self._plant.ideal:
            value += NOISE_COUNTS * line.display / sqrt(nplc) * float(self._rng.standard_normal())
        if abs(value) > line.full_scale * self.data.overrange * 1.01:
            return inf if value > 0.0 else -inf
        return self._shown(round(value / line.display) * line.display)

    def measure(self, nplc: float, conversions: float = 1.0) -> SmuReading:
        """Integrate over ``nplc`` line cycles; ``conversions`` apertures pass in all (autozero and the like)."""
        aperture = nplc / self.line_frequency
        sample = self._plant.observe([self.port], aperture)[0][0]
        if conversions > 1.0:
            self._plant.clock.advance((conversions - 1.0) * aperture)
        return self.judge(sample, nplc)

    def judge(self, sample: Sample, nplc: float) -> SmuReading:
        """What the unit makes of a true value that was integrated over ``nplc`` line cycles."""
        volts, amperes = (sample.voltage, sample.current) if self.connected else (0.0, 0.0)
        self._autorange(VOLT, volts)
        self._autorange(CURR, amperes)
        limited = self.output and sample.limited
        return SmuReading(
            self.show(VOLT, volts, nplc),
            self.show(CURR, amperes, nplc),
            limited,
            limited and self.limit_in_force()[1],
            self._plant.clock.now(),
        )
