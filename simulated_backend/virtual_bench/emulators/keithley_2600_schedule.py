"""Work of several channels at the same time: overlapped measurements and sweeps run together in the plant's time.

Each piece of work is a generator that says what it needs next: to wait, to measure at its terminal, or an event. The
schedule lets time pass up to the next moment at which something ends; terminals that measure during the same stretch
are observed together, so two channels started together see the same moment of the network.
"""

import heapq
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from math import inf

from simulated_backend.virtual_bench.ports import ElectricalPort, PlantView, Sample

_INSTANT = 1e-12


@dataclass(frozen=True, slots=True)
class Wait:
    """Let time pass (s)."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Measure:
    """``count`` means over ``aperture`` s, one after the other."""

    port: ElectricalPort
    aperture: float
    count: int = 1


@dataclass(frozen=True, slots=True)
class Await:
    """Wait until ``happened()``."""

    happened: Callable[[], bool]


Request = Wait | Measure | Await
Work = Generator[Request, list[Sample], None]


@dataclass
class Job:
    """A piece of work under way."""

    work: Work
    request: Request | None = None
    remaining: float = 0.0
    elapsed: float = 0.0
    volt_seconds: float = 0.0
    ampere_seconds: float = 0.0
    samples: list[Sample] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Nothing is left to do."""
        return self.request is None

    def proceed(self, samples: list[Sample] | None) -> None:
        """Go on to the next request that takes time."""
        while True:
            try:
                self.request = next(self.work) if samples is None else self.work.send(samples)
            except StopIteration:
                self.request = None
                return
            self.samples, self.elapsed, self.volt_seconds, self.ampere_seconds = [], 0.0, 0.0, 0.0
            match self.request:
                case Wait(seconds):
                    self.remaining = seconds
                case Measure(_, aperture):
                    self.remaining = aperture
                    return
                case Await():
                    self.remaining = inf
                    return
            if self.remaining > _INSTANT:
                return
            samples = []


class Schedule:
    """All work under way in one instrument, and the events that trigger it."""

    def __init__(self, plant: PlantView) -> None:
        self._plant = plant
        self._jobs: list[Job] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0

    @property
    def busy(self) -> bool:
        """Work is under way."""
        return bool(self._jobs)

    def start(self, work: Work) -> Job:
        """Begin a piece of work; it goes on whenever time passes."""
        job = Job(work)
        job.proceed(None)
        if not job.done:
            self._jobs.append(job)
        return job

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Call ``action`` in ``seconds`` (a trigger timer)."""
        self._serial += 1
        heapq.heappush(self._due, (self._plant.clock.now() + seconds, self._serial, action))

    def finish(self, job: Job) -> bool:
        """Let time pass until ``job`` is done; False when it waits for an event that cannot come."""
        while not job.done:
            if not self._step(inf):
                return False
        return True

    def finish_all(self) -> bool:
        """Let time pass until all work is done; False when it waits for an event that cannot come."""
        while self._jobs:
            if not self._step(inf):
                return False
        return True

    def pass_time(self, seconds: float) -> None:
        """Let ``seconds`` pass; work under way goes on meanwhile."""
        if not self._jobs and not self._due:
            if seconds > 0.0:
                self._plant.clock.advance(seconds)
            return
        end = self._plant.clock.now() + seconds
        while (left := end - self._plant.clock.now()) > _INSTANT:
            self._step(left)

    def stop(self, job: Job) -> None:
        """Abandon a piece of work."""
        job.work.close()
        job.request = None
        self._jobs = [other for other in self._jobs if other is not job]

    def clear(self) -> None:
        """Abandon everything."""
        for job in list(self._jobs):
            self.stop(job)
        self._due.clear()

    def _step(self, limit: float) -> bool:
        """Pass time up to the next end of something, at most ``limit``; False if nothing can ever end."""
        if self._together(limit):
            return True
        for job in self._jobs:
            if isinstance(job.request, Await) and job.request.happened():
                self._deliver(job, [])
                return True
        step = min([limit, *(job.remaining for job in self._jobs)])
        if self._due:
            step = min(step, max(self._due[0][0] - self._plant.clock.now(), 0.0))
        if step == inf:
            return False
        measuring = [job for job in self._jobs if isinstance(job.request, Measure)]
        if measuring:
            ports = [job.request.port for job in measuring if isinstance(job.request, Measure)]
            for job, sample in zip(measuring, self._plant.observe(ports, step)[0], strict=True):
                job.volt_seconds += sample.voltage * step
                job.ampere_seconds += sample.current * step
                job.elapsed += step
                if job.remaining - step <= _INSTANT:
                    span = job.elapsed
                    means = (job.volt_seconds / span, job.ampere_seconds / span) if span > 0.0 else sample[:2]
                    job.samples.append(Sample(*means, sample.limited))
        elif step > 0.0:
            self._plant.clock.advance(step)
        for job in list(self._jobs):
            job.remaining -= step
            if job.remaining <= _INSTANT:
                self._ended(job)
        while self._due and self._due[0][0] <= self._plant.clock.now() + _INSTANT:
            heapq.heappop(self._due)[2]()
        return True

    def _together(self, limit: float) -> bool:
        """The common case in one call of the plant: all work under way starts the same series of apertures."""
        if not self._jobs or self._due:
            return False
        first = self._jobs[0].request
        if not isinstance(first, Measure) or first.aperture * first.count > limit + _INSTANT:
            return False
        ports: list[ElectricalPort] = []
        for job in self._jobs:
            request = job.request
            if (
                not isinstance(request, Measure)
                or (request.aperture, request.count) != (first.aperture, first.count)
                or job.elapsed
                or job.samples
            ):
                return False
            ports.append(request.port)
        rows = self._plant.observe(ports, first.aperture, first.count)
        for index, job in enumerate(list(self._jobs)):
            self._deliver(job, [row[index] for row in rows])
        return True

    def _ended(self, job: Job) -> None:
        if isinstance(job.request, Measure) and len(job.samples) < job.request.count:
            job.remaining, job.elapsed = job.request.aperture, 0.0
            job.volt_seconds = job.ampere_seconds = 0.0
            return
        self._deliver(job, job.samples)

    def _deliver(self, job: Job, samples: list[Sample]) -> None:
        job.proceed(samples)
        if job.done:
            self._jobs = [other for other in self._jobs if other is not job]
