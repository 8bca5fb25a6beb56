"""The measuring half of one 2600B channel: ranges, integration, filter, rel, accuracy, noise, buffers, compliance."""

from collections import deque
from collections.abc import Callable, Sequence
from math import copysign
from statistics import median

import numpy as np

from simulated_backend.virtual_bench.emulators import keithley_2600_buffers as buffers
from simulated_backend.virtual_bench.emulators.keithley_2600_buffers import ReadingBuffer, Record
from simulated_backend.virtual_bench.emulators.keithley_2600_datasheet import OVERRANGE, Range, derating, range_for
from simulated_backend.virtual_bench.emulators.keithley_2600_schedule import Measure, Wait, Work
from simulated_backend.virtual_bench.emulators.keithley_2600_source import AMPERES, VOLTS, SourceHalf, drawn_errors
from simulated_backend.virtual_bench.ports import PlantView, Sample
from simulated_backend.virtual_bench.tsp_errors import ErrorQueue
from simulated_backend.virtual_bench.tsp_tree import as_number

OVERFLOW = 9.91e37
"""What an overflowing reading is replaced by (with its sign)."""
NOISE_COUNTS = 5.0
"""Standard deviation of a reading at 1 NPLC in steps of the display resolution; falls as 1/sqrt(NPLC). The data sheets
state no measuring noise at or above 1 NPLC; below it their derating table is taken as three standard deviations."""

REPEAT_AVERAGE, MOVING_AVERAGE, MEDIAN = 1, 0, 2
QUANTITIES = ("v", "i", "r", "p")
_FUNCTION_NAMES = {"v": "Voltage", "i": "Current", "r": "Ohms", "p": "Watts"}


class MeterHalf:
    """Settings of smuX.measure.* and the making of readings. ``line_frequency`` in Hz."""

    def __init__(
        self, source: SourceHalf, plant: PlantView, errors: ErrorQueue, rng: np.random.Generator, line_frequency: float
    ) -> None:
        self.source = source
        self.line_frequency = line_frequency
        self._plant = plant
        self._errors = errors
        self._rng = rng
        self.shown: Callable[[float], float] = float
        family = source.family
        self._lines = {VOLTS: family.volts, AMPERES: family.amperes}
        self._error_terms = {
            VOLTS: drawn_errors(family.volts, rng, source=False),
            AMPERES: drawn_errors(family.amperes, rng, source=False),
        }
        self.reset()

    def reset(self) -> None:
        """Power-on and smuX.reset() values."""
        self.nplc = 1.0
        self.count = 1
        self.interval = 0.0
        self.delay = -1.0 if self.source.family.auto_measure_delay else 0.0
        self.delayfactor = 1.0
        self.highcrangedelayfactor = 10.0
        self.autozero = 2
        self.autorange = {VOLTS: 1, AMPERES: 1}
        self.ranges = {VOLTS: self._lines[VOLTS][0], AMPERES: self._lines[AMPERES][0]}
        self.lowranges = {VOLTS: self._lines[VOLTS][0].full_scale, AMPERES: self._lines[AMPERES][0].full_scale}
        self.filter_enable = 0
        self.filter_type = REPEAT_AVERAGE
        self.filter_count = 1
        self.rel_enable: dict[str, int] = dict.fromkeys(QUANTITIES, 0)
        self.rel_level: dict[str, float] = dict.fromkeys(QUANTITIES, 0.0)
        self.limited = False
        self.overflowed = False
        self._history: dict[str, deque[float]] = {quantity: deque() for quantity in QUANTITIES}
        self.last: dict[str, float] = {}

    # ---- settings ---------------------------------------------------------------------------------------------------

    def active_range(self, func: int) -> Range:
        """The range in use: that of the source for the quantity being sourced, the meter's own otherwise."""
        return self.source.ranges[func] if func == self.source.func else self.ranges[func]

    def full_scale(self, func: int) -> float:
        """The range in use."""
        return self.active_range(func).full_scale

    def set_range(self, func: int, value: object) -> None:
        """smuX.measure.rangev / rangei: fixes the range, the lowest that holds the value."""
        lines = self._lines[func]
        top = lines[-1].full_scale * OVERRANGE
        wanted = as_number(value, self._errors, -top, top)
        if wanted is not None:
            self.autorange[func] = 0
            self.ranges[func] = range_for(lines, wanted)

    def set_lowrange(self, func: int, value: object) -> None:
        """smuX.measure.lowrangev / lowrangei: the lowest range that autorange chooses."""
        lines = self._lines[func]
        wanted = as_number(value, self._errors, 0.0, lines[-1].full_scale * OVERRANGE)
        if wanted is not None:
            self.lowranges[func] = range_for(lines, wanted).full_scale

    @property
    def aperture(self) -> float:
        """Integration time of one conversion, s."""
        return self.nplc / self.line_frequency

    def settling_time(self) -> float:
        """smuX.measure.delay: a time, or (DELAY_AUTO, -1) the data sheet's settling time of the current range."""
        if self.delay >= 0.0:
            return self.delay
        seconds = self.active_range(AMPERES).settling * self.delayfactor
        return seconds * self.highcrangedelayfactor if self.source.highc else seconds

    # ---- readings ---------------------------------------------------------------------------------------------------

    def work(self, quantities: Sequence[str], targets: Sequence[ReadingBuffer | None], count: int, *, fresh: bool = True) -> Work:
        """``count`` readings of ``quantities`` at the same moments into ``targets``; ``last`` holds the newest.

        ``fresh``: buffers that do not append are cleared first.
        """
        if fresh:
            for target in targets:
                if target is not None and not target.appendmode:
                    target.clear()
        yield Wait(self.settling_time())
        aperture = self.aperture
        repeats = self.filter_count if self.filter_enable and self.filter_type == REPEAT_AVERAGE else 1
        port = self.source.port
        if repeats == 1 and self.interval <= aperture:
            start = self._plant.clock.now()
            samples = yield Measure(port, aperture, count)
            for index, sample in enumerate(samples):
                self._take([sample], quantities, targets, start + index * aperture)
            return
        for index in range(count):
            start = self._plant.clock.now()
            self._take((yield Measure(port, aperture, repeats)), quantities, targets, start)
            if index + 1 < count:
                yield Wait(max(self.interval - (self._plant.clock.now() - start), 0.0))

    def _take(
        self, samples: Sequence[Sample], quantities: Sequence[str], targets: Sequence[ReadingBuffer | None], time: float
    ) -> None:
        self.overflowed = False
        self.limited = samples[-1].limited and self.source.connected
        need_volts = quantities != ("i",)
        need_amperes = quantities != ("v",)
        volts = sum([self._volts(sample) for sample in samples]) / len(samples) if need_volts else 0.0
        amperes = sum([self._amperes(sample) for sample in samples]) / len(samples) if need_amperes else 0.0
        for quantity, target in zip(quantities, targets, strict=True):
            if quantity == "v":
                value = volts
            elif quantity == "i":
                value = amperes
            elif abs(volts) >= OVERFLOW or abs(amperes) >= OVERFLOW or (quantity == "r" and amperes == 0.0):
                value = OVERFLOW
                self.overflowed = True
            else:
                value = volts / amperes if quantity == "r" else volts * amperes
            if abs(value) < OVERFLOW:
                value = self._filtered(quantity, value)
                if self.rel_enable[quantity]:
                    value -= self.rel_level[quantity]
            self.last[quantity] = value
            if target is not None:
                self._store(target, quantity, value, time)

    def _filtered(self, quantity: str, value: float) -> float:
        if not self.filter_enable or self.filter_type == REPEAT_AVERAGE:
            return value
        history = self._history[quantity]
        history.append(value)
        while len(history) > self.filter_count:
            history.popleft()
        return median(history) if self.filter_type == MEDIAN else sum(history) / len(history)

    def _volts(self, sample: Sample) -> float:
        if not self.source.connected:
            return self._reading(VOLTS, 0.0)
        terminal = sample.voltage
        if self.source.active_func == VOLTS:
            terminal += sample.current * self.source.output_resistance
        return self._reading(VOLTS, terminal)

    def _amperes(self, sample: Sample) -> float:
        return self._reading(AMPERES, sample.current if self.source.connected else 0.0)

    def _reading(self, func: int, true: float) -> float:
        line = self.active_range(func)
        if func != self.source.func and self.autorange[func]:
            line = range_for(self._lines[func], true, self.lowranges[func])
            self.ranges[func] = line
        value = true
        if not self._plant.ideal:
            gain, offset = self._error_terms[func][line.full_scale]
            noise = NOISE_COUNTS * line.display / self.nplc**0.5
            extra = derating(self.nplc, func == AMPERES)
            if extra:
                noise += extra * line.full_scale / 3.0
            value = true * (1.0 + gain) + offset + noise * float(self._rng.standard_normal())
        if abs(value) > line.full_scale * (OVERRANGE + 0.01):
            self.overflowed = True
            return copysign(OVERFLOW, value)
        return self.shown(round(value / line.display) * line.display)

    def status_bits(self, quantity: str) -> int:
        """The buffer status of a reading made now."""
        source = self.source
        bits = buffers.COMPLIANCE if self.limited else 0
        funcs = {"v": (VOLTS,), "i": (AMPERES,)}.get(quantity, (VOLTS, AMPERES))
        if any(self.autorange[func] and func != source.func for func in funcs):
            bits |= buffers.AUTORANGE_MEASURE
        if source.autorange[source.func]:
            bits |= buffers.AUTORANGE_SOURCE
        if source.sense == 1:
            bits |= buffers.FOUR_WIRE
        if self.rel_enable[quantity]:
            bits |= buffers.RELATIVE
        if self.filter_enable:
            bits |= buffers.FILTERED
        return bits

    def _store(self, target: ReadingBuffer, quantity: str, value: float, time: float) -> None:
        source = self.source
        measured = AMPERES if quantity == "i" else VOLTS
        resolution = target.timestampresolution
        stored = target.append(
            Record(
                value,
                self.status_bits(quantity),
                round(time / resolution) * resolution,
                source.level,
                self.active_range(measured).full_scale,
                source.ranges[source.func].full_scale,
                _FUNCTION_NAMES[quantity],
                "Voltage" if source.func == VOLTS else "Current",
                "On" if source.output == 1 else "Off",
            )
        )
        if not stored:
            self._errors.add(-225, "(reading buffer full)")
