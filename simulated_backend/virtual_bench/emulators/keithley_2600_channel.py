"""One 2600B channel (smua or smub) and the tables that scripts see of it."""

from collections.abc import Callable
from functools import partial

import numpy as np

from simulated_backend.virtual_bench.emulators.keithley_2600_buffers import (
    DEDICATED_CAPACITY,
    ReadingBuffer,
    buffer_namespace,
)
from simulated_backend.virtual_bench.emulators.keithley_2600_datasheet import OVERRANGE, Family
from simulated_backend.virtual_bench.emulators.keithley_2600_meter import QUANTITIES, MeterHalf
from simulated_backend.virtual_bench.emulators.keithley_2600_schedule import Job, Schedule, Work
from simulated_backend.virtual_bench.emulators.keithley_2600_source import AMPERES, VOLTS, SourceHalf
from simulated_backend.virtual_bench.emulators.keithley_2600_trigger import EventBus, TriggerModel
from simulated_backend.virtual_bench.ports import PlantView
from simulated_backend.virtual_bench.tsp_errors import ErrorQueue
from simulated_backend.virtual_bench.tsp_status import Register
from simulated_backend.virtual_bench.tsp_tree import Namespace, as_choice, as_number

VLMT, ILMT, ROF, BAV = 1, 2, 128, 256
"""Bits of status.measurement.instrument.smuX."""

LARGEST_BUFFER = 1_000_000

CONSTANTS: dict[str, object] = {
    "OUTPUT_DCAMPS": 0, "OUTPUT_DCVOLTS": 1, "OUTPUT_OFF": 0, "OUTPUT_ON": 1, "OUTPUT_HIGH_Z": 2,
    "OUTPUT_NORMAL": 0, "OUTPUT_ZERO": 1, "SENSE_LOCAL": 0, "SENSE_REMOTE": 1, "SENSE_CALA": 3,
    "AUTORANGE_OFF": 0, "AUTORANGE_ON": 1, "AUTORANGE_FOLLOW_LIMIT": 2,
    "AUTOZERO_OFF": 0, "AUTOZERO_ONCE": 1, "AUTOZERO_AUTO": 2, "FILTER_OFF": 0, "FILTER_ON": 1,
    "FILTER_MOVING_AVG": 0, "FILTER_REPEAT_AVG": 1, "FILTER_MEDIAN": 2, "REL_OFF": 0, "REL_ON": 1,
    "DELAY_OFF": 0, "DELAY_AUTO": -1, "DISABLE": 0, "ENABLE": 1, "ASYNC": 2,
    "SOURCE_IDLE": 0, "SOURCE_HOLD": 1, "LIMIT_AUTO": 0, "SETTLE_SMOOTH": 0, "SETTLE_FAST_RANGE": 1,
    "SETTLE_FAST_POLARITY": 2, "SETTLE_DIRECT_IRANGE": 3, "SETTLE_SMOOTH_100NA": 4, "SETTLE_FAST_ALL": 128,
    "OE_NONE": 0, "OE_OUTPUT_OFF": 1,
}  # fmt: skip


class Channel:
    """Source half, meter half, trigger model and buffers of one channel."""

    def __init__(
        self,
        index: int,
        name: str,
        instrument: str,
        family: Family,
        plant: PlantView,
        schedule: Schedule,
        bus: EventBus,
        errors: ErrorQueue,
        status: Register,
        rng: np.random.Generator,
        *,
        line_frequency: float,
        interlock: bool,
        lead_resistance: float,
        numbers: Callable[[object], tuple[float, ...]],
    ) -> None:
        self.name = name
        self._plant = plant
        self._schedule = schedule
        self._errors = errors
        self._status = status
        self._numbers = numbers
        port = plant.electrical(instrument, name)
        self.source = SourceHalf(name, family, plant, port, errors, rng, interlock=interlock, lead_resistance=lead_resistance)
        self.meter = MeterHalf(self.source, plant, errors, rng, line_frequency)
        self.trigger = TriggerModel(index, self.source, self.meter, bus, errors)
        self.buffers = tuple(ReadingBuffer(name, DEDICATED_CAPACITY, collect=False) for _ in range(2))
        self._job: Job | None = None
        self.sweeping = False

    def reset(self) -> None:
        """smuX.reset(): work abandoned, settings at their defaults, output off, buffers cleared."""
        self.abort()
        self.source.reset()
        self.meter.reset()
        self.trigger.reset()
        for buffer in self.buffers:
            buffer.clear()
            buffer.appendmode = buffer.collectsourcevalues = buffer.collecttimestamps = 0
        self._report()

    def abort(self) -> None:
        """smuX.abort(): abandon an overlapped measurement or a sweep."""
        if self._job is not None:
            self._schedule.stop(self._job)
            self._job = None
        self.sweeping = False

    # ---- measuring --------------------------------------------------------------------------------------------------

    def _work(self, work: Work) -> Work:
        try:
            yield from work
        finally:
            self._job = None
            self.sweeping = False
            self._report()

    def _begin(self, work: Work) -> Job | None:
        if self._job is not None:
            self.source.refuse(5045)
            return None
        job = self._schedule.start(self._work(work))
        if not job.done:
            self._job = job
        return job

    def _report(self) -> None:
        source, meter = self.source, self.meter
        self._status.set_condition(VLMT, meter.limited and source.func == AMPERES)
        self._status.set_condition(ILMT, meter.limited and source.func == VOLTS)
        self._status.set_condition(ROF, meter.overflowed)
        self._status.set_condition(BAV, any(buffer.records for buffer in self.buffers))

    def measure(self, quantities: tuple[str, ...], targets: tuple[object, ...], *, overlapped: bool) -> object:
        """measure.v() and its like: the last reading(s), or None when overlapped or refused."""
        found = tuple(target if isinstance(target, ReadingBuffer) else None for target in targets[: len(quantities)])
        padded = found + (None,) * (len(quantities) - len(found))
        if overlapped and any(target is None for target in padded):
            self._errors.add(1400, len(quantities))
            return None
        if any(target is not None and target.owner != self.name for target in padded):
            self._errors.add(1401, 1)
            return None
        job = self._begin(self.meter.work(quantities, padded, self.meter.count))
        if job is None or overlapped:
            return None
        self._schedule.finish(job)
        return tuple(self.meter.last[quantity] for quantity in quantities)

    def measure_and_step(self, quantities: tuple[str, ...], level: object, targets: tuple[object, ...]) -> object:
        """measureYandstep(level): measure, then program the next level."""
        result = self.measure(quantities, targets, overlapped=False)
        self.source.set_level(self.source.func, level)
        return result

    def initiate(self) -> None:
        """smuX.trigger.initiate(): start the sweep; it runs overlapped."""
        if self._job is not None:
            self.source.refuse(5045)
        elif self.trigger.ready():
            self.sweeping = True
            self._begin(self.trigger.work())

    def compliance(self) -> bool:
        """smuX.source.compliance: looks at the terminal now and brings the status registers up to date."""
        sample = self._plant.observe([self.source.port], 0.0)[0][0]
        self.meter.limited = sample.limited and self.source.connected
        self._report()
        return self.meter.limited

    # ---- what scripts see -------------------------------------------------------------------------------------------

    def namespace(self, build: Callable[[Namespace], object]) -> Namespace:
        """The table smuX; ``build`` makes the Lua table of a new buffer."""
        space = Namespace(self.name, handle=self)
        space.constants.update(CONSTANTS)
        space.functions["reset"] = lambda *_: self.reset()
        space.functions["abort"] = lambda *_: self.abort()
        space.functions["makebuffer"] = lambda size=None, *_: self._make_buffer(size, build)
        space.functions["savebuffer"] = lambda *_: None
        for number, buffer in enumerate(self.buffers, start=1):
            title = f"nvbuffer{number}"
            space.children[title] = buffer_namespace(f"{self.name}.{title}", buffer, self._errors)
        for letters in (*QUANTITIES, "iv"):
            quantities = ("i", "v") if letters == "iv" else (letters,)
            space.functions[f"measure{letters}andstep"] = lambda level=None, *targets, q=quantities: self.measure_and_step(
                q, level, targets
            )
        source = self.source
        space.choice("sense", source, "sense", self._errors, (0, 1, 3), source.drive)
        self._source_table(space.child("source"))
        self._measure_table(space.child("measure"))
        space.children["trigger"] = self.trigger.namespace(f"{self.name}.trigger", self.initiate, self._numbers)
        return space

    def _make_buffer(self, size: object, build: Callable[[Namespace], object]) -> object:
        capacity = as_number(size, self._errors, 1, LARGEST_BUFFER)
        if capacity is None:
            return None
        return build(buffer_namespace("buffer", ReadingBuffer(self.name, int(capacity), collect=True), self._errors))

    def _source_table(self, space: Namespace) -> None:
        source, errors = self.source, self._errors
        for func, letter in ((VOLTS, "v"), (AMPERES, "i")):
            space.entry(f"level{letter}", source, "levels", func, partial(source.set_level, func))
            space.entry(f"limit{letter}", source, "limits", func, partial(source.set_limit, func))
            space.entry(f"lowrange{letter}", source, "lowranges", func, partial(source.set_lowrange, func))
            space.attribute(f"range{letter}", partial(source.full_scale, func), partial(source.set_range, func))
            self._switch(
                space, f"autorange{letter}", partial(source.autoranges, func), partial(source.set_autorange, func), (0, 1)
            )
        self._switch(space, "func", lambda: source.func, source.set_func, (0, 1))
        self._switch(space, "output", lambda: source.output, source.set_output, (0, 1, 2))
        space.choice("offmode", source, "offmode", errors, (0, 1, 2), source.drive)
        space.choice("offfunc", source, "offfunc", errors, (0, 1), source.drive)
        top_volts, top_amperes = source.family.volts[-1].full_scale, source.family.amperes[-1].full_scale
        space.number(
            "offlimiti", source, "offlimiti", errors, source.family.minimum_current_limit, top_amperes, after=source.drive
        )
        space.number("offlimitv", source, "offlimitv", errors, source.family.minimum_voltage_limit, top_volts, after=source.drive)
        space.number("limitp", source, "limitp", errors, 0.0, top_volts * top_amperes * OVERRANGE)
        space.choice("highc", source, "highc", errors, (0, 1))
        space.choice("settling", source, "settling", errors, (0, 1, 2, 3, 4, 128))
        space.choice("sink", source, "sink", errors, (0, 1))
        space.choice("outputenableaction", source, "outputenableaction", errors, (0, 1))
        space.number("delay", source, "delay", errors, -1.0, 1e4)
        space.attribute("compliance", self.compliance)

    def _measure_table(self, space: Namespace) -> None:
        meter, errors = self.meter, self._errors
        for func, letter in ((VOLTS, "v"), (AMPERES, "i")):
            space.entry_choice(f"autorange{letter}", meter, "autorange", func, errors, (0, 1, 2))
            space.entry(f"lowrange{letter}", meter, "lowranges", func, partial(meter.set_lowrange, func))
            space.attribute(f"range{letter}", partial(meter.full_scale, func), partial(meter.set_range, func))
        space.number("nplc", meter, "nplc", errors, 0.001, 25.0)
        space.number("count", meter, "count", errors, 1, LARGEST_BUFFER, integer=True)
        space.number("interval", meter, "interval", errors, 0.0, 1.0)
        space.number("delay", meter, "delay", errors, -1.0, 1e4)
        space.number("delayfactor", meter, "delayfactor", errors, 0.0, 1e3)
        space.number("highcrangedelayfactor", meter, "highcrangedelayfactor", errors, 1.0, 99.0)
        space.choice("autozero", meter, "autozero", errors, (0, 1, 2))
        averaging = space.child("filter")
        averaging.choice("enable", meter, "filter_enable", errors, (0, 1))
        averaging.choice("type", meter, "filter_type", errors, (0, 1, 2))
        averaging.number("count", meter, "filter_count", errors, 1, 100, integer=True)
        rel = space.child("rel")
        for quantity in QUANTITIES:
            rel.entry_choice(f"enable{quantity}", meter, "rel_enable", quantity, errors, (0, 1))
            rel.entry(f"level{quantity}", meter, "rel_level", quantity, partial(self._set_rel, quantity))
        for letters in (*QUANTITIES, "iv"):
            quantities = ("i", "v") if letters == "iv" else (letters,)
            space.functions[letters] = lambda *targets, q=quantities: self.measure(q, targets, overlapped=False)
            space.functions[f"overlapped{letters}"] = lambda *targets, q=quantities: self.measure(q, targets, overlapped=True)

    def _set_rel(self, quantity: str, value: object) -> None:
        level = as_number(value, self._errors)
        if level is not None:
            self.meter.rel_level[quantity] = level

    def _switch(
        self, space: Namespace, name: str, get: Callable[[], object], put: Callable[[int], None], allowed: tuple[int, ...]
    ) -> None:
        def checked(value: object) -> None:
            choice = as_choice(value, self._errors, allowed)
            if choice is not None:
                put(choice)

        space.attribute(name, get, checked)
