"""The remote trigger model of one 2600B channel, its events, and the trigger timers: sweeps and pulses.

Source: reference manual, "Triggering": arm layer, then count times (source action, measure action, end of pulse), then
end of sweep. A stimulus of 0 does not wait. Not imitated: asynchronous measurement, endless counts, blenders, digital I/O.
"""

from collections.abc import Callable
from functools import partial

from simulated_backend.virtual_bench.emulators.keithley_2600_buffers import ReadingBuffer
from simulated_backend.virtual_bench.emulators.keithley_2600_datasheet import OVERRANGE
from simulated_backend.virtual_bench.emulators.keithley_2600_meter import MeterHalf
from simulated_backend.virtual_bench.emulators.keithley_2600_schedule import Await, Schedule, Wait, Work
from simulated_backend.virtual_bench.emulators.keithley_2600_source import AMPERES, VOLTS, SourceHalf
from simulated_backend.virtual_bench.tsp_errors import ErrorQueue
from simulated_backend.virtual_bench.tsp_tree import Namespace

CHANNEL_EVENTS = (
    "SWEEPING", "ARMED", "SOURCE_COMPLETE", "MEASURE_COMPLETE", "PULSE_COMPLETE", "SWEEP_COMPLETE", "IDLE",
)  # fmt: skip
TIMERS = 8
_COMMAND_EVENT = 1
_FIRST_TIMER_EVENT = 10
_FIRST_CHANNEL_EVENT = 100
_DETECTORS = ("arm", "source", "measure", "endpulse")


class Detector:
    """An event detector: latched when its stimulus happens, cleared when it lets the work go on."""

    def __init__(self) -> None:
        self.stimulus = 0
        self.detected = False

    def set(self) -> None:
        """Behave as if the event had happened."""
        self.detected = True

    def take(self) -> bool:
        """Whether the event has happened; forgets it."""
        happened = self.detected
        self.detected = False
        return happened


class Timer:
    """trigger.timer[N]: ``count`` events, ``delay`` apart, after its stimulus; at once too with ``passthrough``."""

    def __init__(self, event: int) -> None:
        self.event = event
        self.reset()

    def reset(self) -> None:
        """Defaults of the manual."""
        self.delay = 1e-5
        self.count = 1
        self.stimulus = 0
        self.passthrough = False

    def set_passthrough(self, value: object) -> None:
        """True: the stimulus itself is passed on at once."""
        self.passthrough = bool(value)


class EventBus:
    """Carries events to the detectors and timers of the instrument."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self.detectors: list[Detector] = []
        self.timers = [Timer(_FIRST_TIMER_EVENT + index) for index in range(TIMERS)]

    def emit(self, event: int) -> None:
        """An event happens now."""
        for detector in self.detectors:
            if detector.stimulus == event:
                detector.detected = True
        for timer in self.timers:
            if timer.stimulus == event:
                if timer.passthrough:
                    self.emit(timer.event)
                for number in range(1, timer.count + 1):
                    self._schedule.later(number * timer.delay, partial(self.emit, timer.event))

    def command(self) -> None:
        """``*TRG``."""
        self.emit(_COMMAND_EVENT)

    def namespace(self, errors: ErrorQueue) -> Namespace:
        """The table ``trigger``."""
        space = Namespace("trigger")
        space.constants["EVENT_ID"] = _COMMAND_EVENT
        space.functions["clear"] = lambda *_: None
        timers = {}
        for number, timer in enumerate(self.timers, start=1):
            entry = Namespace(f"trigger.timer[{number}]")
            entry.constants["EVENT_ID"] = timer.event
            entry.number("delay", timer, "delay", errors, 8e-6, 1e5)
            entry.number("count", timer, "count", errors, 1, 1e6, integer=True)
            entry.number("stimulus", timer, "stimulus", errors, 0, integer=True)
            entry.attribute("passthrough", partial(getattr, timer, "passthrough"), timer.set_passthrough)
            entry.functions["reset"] = lambda *_, t=timer: t.reset()
            entry.functions["clear"] = lambda *_: None
            timers[number] = entry
        space.child("timer").numbered = timers
        return space


class TriggerModel:
    """smuX.trigger.*: what a sweep does, and ``work()`` that does it."""

    def __init__(self, index: int, source: SourceHalf, meter: MeterHalf, bus: EventBus, errors: ErrorQueue) -> None:
        self._source = source
        self._meter = meter
        self._bus = bus
        self._errors = errors
        self.events = {name: _FIRST_CHANNEL_EVENT * (index + 1) + number for number, name in enumerate(CHANNEL_EVENTS)}
        self.detectors = {name: Detector() for name in _DETECTORS}
        bus.detectors.extend(self.detectors.values())
        self.reset()

    def reset(self) -> None:
        """Defaults of the manual."""
        self.count = 1
        self.arm_count = 1
        self.autoclear = 0
        self.source_action = 0
        self.measure_action = 0
        self.endpulse_action = 1
        self.endsweep_action = 0
        self.limits = {VOLTS: 0.0, AMPERES: 0.0}
        self.func = VOLTS
        self.steps: tuple[float, ...] = ()
        self.quantities: tuple[str, ...] = ()
        self.targets: tuple[ReadingBuffer | None, ...] = ()
        for detector in self.detectors.values():
            detector.stimulus = 0
            detector.detected = False

    def set_steps(self, func: int, steps: tuple[float, ...]) -> None:
        """The levels of the sweep (V or A); an error is queued if one does not fit the instrument."""
        lines = self._source.family.volts if func == VOLTS else self._source.sourcing_ranges
        top = lines[-1].full_scale * OVERRANGE
        if not steps:
            self._errors.add(1400, 1)
        elif any(not -top <= step <= top for step in steps):
            self._errors.add(1101 if max(steps) > top else 1102)
        else:
            self.func, self.steps = func, steps

    def ready(self) -> bool:
        """Whether the configuration can run; otherwise an error is queued."""
        source = self._source
        if self.source_action and not self.steps:
            self._errors.add(5038, prefix=f"{source.name}: ")
            return False
        if self.measure_action and not self.quantities:
            self._errors.add(5038, prefix=f"{source.name}: ")
            return False
        if self.source_action:
            if self.endpulse_action == 0 and source.autorange[self.func]:
                source.refuse(5028)
                return False
            top = max(abs(step) for step in self.steps)
            if source.autorange[self.func]:
                return source.take_range(self.func, top)
            if top > source.ranges[self.func].full_scale * OVERRANGE:
                source.refuse(5005)
                return False
        return True

    def work(self) -> Work:
        """The sweep, from arm to idle."""
        source, meter = self._source, self._meter
        for target in self.targets:
            if target is not None and not target.appendmode and self.measure_action:
                target.clear()
        for detector in self.detectors.values():
            detector.detected = False
        try:
            for _ in range(self.arm_count):
                self._emit("SWEEPING")
                yield from self._passed("arm")
                self._emit("ARMED")
                for step in range(self.count):
                    if self.source_action:
                        yield from self._passed("source")
                        source.step(self.func, self.steps[step % len(self.steps)], self.limits)
                        yield Wait(source.settling_time())
                        self._emit("SOURCE_COMPLETE")
                    if self.measure_action:
                        yield from self._passed("measure")
                        yield from meter.work(self.quantities, self.targets, meter.count, fresh=False)
                        self._emit("MEASURE_COMPLETE")
                    yield from self._passed("endpulse")
                    if self.endpulse_action == 0:
                        source.step_back()
                        self._emit("PULSE_COMPLETE")
                self._emit("SWEEP_COMPLETE")
        finally:
            if self.endsweep_action == 0:
                source.step_back()
            else:
                source.keep_step()
        self._emit("IDLE")

    def _passed(self, name: str) -> Work:
        detector = self.detectors[name]
        if detector.stimulus:
            yield Await(detector.take)

    def _emit(self, name: str) -> None:
        self._bus.emit(self.events[name])

    # ---- what scripts see -------------------------------------------------------------------------------------------

    def namespace(self, name: str, initiate: Callable[[], None], numbers: Callable[[object], tuple[float, ...]]) -> Namespace:
        """The table smuX.trigger; ``numbers`` reads a Lua list."""
        errors = self._errors
        space = Namespace(name)
        space.constants.update({f"{event}_EVENT_ID": number for event, number in self.events.items()})
        space.number("count", self, "count", errors, 1, 1e6, integer=True)
        space.choice("autoclear", self, "autoclear", errors, (0, 1))
        space.functions["initiate"] = lambda *_: initiate()
        for stage, detector in self.detectors.items():
            table = space.child(stage)
            table.number("stimulus", detector, "stimulus", errors, 0, integer=True)
            table.functions["set"] = lambda *_, d=detector: d.set()
        space.child("arm").number("count", self, "arm_count", errors, 1, 1e6, integer=True)
        source = space.child("source")
        source.choice("action", self, "source_action", errors, (0, 1))
        for func, letter in ((VOLTS, "v"), (AMPERES, "i")):
            source.functions[f"list{letter}"] = lambda values=None, *_, f=func: self.set_steps(f, numbers(values))
            source.functions[f"linear{letter}"] = lambda *args, f=func: self._spaced(f, args, logarithmic=False)
            source.functions[f"log{letter}"] = lambda *args, f=func: self._spaced(f, args, logarithmic=True)
            source.entry(f"limit{letter}", self, "limits", func, partial(self._set_limit, func))
        measure = space.child("measure")
        measure.choice("action", self, "measure_action", errors, (0, 1))
        for quantity in ("v", "i", "r", "p"):
            measure.functions[quantity] = lambda *targets, q=quantity: self._measures((q,), targets)
        measure.functions["iv"] = lambda *targets: self._measures(("i", "v"), targets)
        space.child("endpulse").choice("action", self, "endpulse_action", errors, (0, 1))
        space.child("endsweep").choice("action", self, "endsweep_action", errors, (0, 1))
        return space

    def _measures(self, quantities: tuple[str, ...], targets: tuple[object, ...]) -> None:
        found = tuple(target for target in targets if isinstance(target, ReadingBuffer))
        if len(found) != len(quantities):
            self._errors.add(1400, len(quantities))
        else:
            self.quantities, self.targets = quantities, found

    def _spaced(self, func: int, arguments: tuple[object, ...], *, logarithmic: bool) -> None:
        numbers = [float(value) for value in arguments if isinstance(value, int | float)]
        if len(numbers) < 3 or numbers[2] < 1:
            self._errors.add(1400, 3)
            return
        first, last, points = numbers[0], numbers[1], int(numbers[2])
        parts = [index / (points - 1) if points > 1 else 0.0 for index in range(points)]
        if not logarithmic:
            self.set_steps(func, tuple(first + (last - first) * part for part in parts))
            return
        asymptote = numbers[3] if len(numbers) > 3 else 0.0
        low, high = first - asymptote, last - asymptote
        if low * high <= 0.0:
            self._errors.add(1401, 1)
            return
        self.set_steps(func, tuple(asymptote + low * (high / low) ** part for part in parts))

    def _set_limit(self, func: int, value: object) -> None:
        source = self._source
        if value == 0:  # LIMIT_AUTO: the normal limit holds
            self.limits[func] = 0.0
            return
        lines = source.family.volts if func == VOLTS else source.sourcing_ranges
        if not isinstance(value, int | float) or not 0 < value <= lines[-1].full_scale * OVERRANGE:
            self._errors.add(1101)
        else:
            self.limits[func] = float(value)
