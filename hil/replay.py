"""Go on with a procedure by running it once more from its beginning, and telling it again what it was told.

A procedure that asks the same questions whenever it is given the same answers (``REPEATABLE = True`` in its module) needs no
state of its own. Its answers are the readings on record, the times it asked for, and what it computed with
``lab.continuity.computed``; everything it had put on record by then is left out. Where the answers end, it stands where it stood,
and the measurement goes on: in a simulation with the captured state of the devices; on a bench after a second look at the last
point, which says how far it has moved.
"""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from hil.core.clock import Clock
from hil.core.errors import ConfigError
from hil.core.events import Event, EventStream, Warned
from hil.core.lab import Lab
from hil.core.outcome import Summary
from hil.core.recollection import Row
from hil.core.types import Readings, SettlePolicy, Stimulus
from hil.keeping import Keeper
from hil.record.kept import Kept

LOOKS = 4
"""Samples of the last point that are taken after an interruption, at least: their scatter tells what noise explains."""


class Replay:
    """One run of a repeatable procedure. ``keeper`` saves its state, ``kept`` is what was measured before."""

    def __init__(self, lab: Lab, keeper: Keeper, kept: Kept | None) -> None:
        state: Mapping[str, Any] = keeper.state or {}
        self._backend, self._keeper, self._inner = lab.backend, keeper, lab
        self._captures = lab.backend.capabilities.can_capture
        self._asides: list[list[int]] = [list(one) for one in state.get("asides", ())]
        self._kept = None if kept is None else kept.without(self._asides)
        self._position = 0
        self._computed: list[Any] = list(state.get("computed", ()))
        self._computed_asked = 0
        self._specimen: int | None = state.get("specimen")
        self._revisits: list[object] = list(state.get("revisits", ()))
        self._clock = _Clock(lab.clock, self, list(state.get("clock", ())))
        self._events = _Events(lab.events, int(state.get("emitted", 0)))
        self._last: tuple[Row, Readings] | None = None
        self._present = keeper.state is None
        self._looking: list[Readings] | None = None
        self._unbroken = 0
        self._barred = ""

    def __call__(self, run: Callable[[Any, Lab], Summary], settings: Any, *, hold: bool = False) -> Summary:
        """Run the procedure; raises what it raises. ``hold``: its set-points are to stand when it is over."""
        lab = replace(
            self._inner,
            clock=self._clock,
            events=self._events,
            exchange=None if self._inner.exchange is None else self._exchange,
            continuity=self,
        )
        backend = self._backend
        backend.recollection = self
        backend.observers.append(self._saw)
        backend.trace_observers.append(self._saw)
        try:
            summary = run(settings, lab)
        finally:
            backend.recollection = None
            backend.observers.remove(self._saw)
            backend.trace_observers.remove(self._saw)
        if hold and not (self._present or self._captures) and self._last is not None:
            # There was nothing left to measure, so that nothing stands yet.
            backend.apply(self._last[0][0])
        revisits = {"revisits": self._revisits} if self._revisits else {}
        return replace(summary, results={**summary.results, **revisits})

    # -- answers --------------------------------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        """Whether there are answers left."""
        return self._kept is not None and self._position < len(self._kept)

    def recall(self, rows: Sequence[Row], policy: SettlePolicy | None, samples: int) -> Readings | None:
        """See ``hil.core.recollection``."""
        known = None
        if self.active and self._kept is not None:
            if not rows:  # a waveform that nobody read: it came before what is on record
                return self._kept.rows(self._position, self._position)[0]
            known = self._next(rows, whole=policy is None)
        if known is None or len(known) < len(rows) * len(rows[0]):
            self._arrive(policy, samples)
        return known

    def _next(self, rows: Sequence[Row], *, whole: bool) -> Readings | None:
        if self._kept is None:
            return None
        width = len(rows[0])
        count = min(len(rows), (len(self._kept) - self._position) // width)
        readings, applied, connected = self._kept.rows(self._position, self._position + count * width)
        asked = [stimulus for row in rows[:count] for stimulus in row]
        if width == 1:
            # The plain verbs do not say that it was the first.
            readings = replace(readings, replica=())
        names = self._backend.capabilities.replicas * count if width > 1 else ()
        same = count > 0 and readings.replica == names and (count == len(rows) or not whole)
        if not same or not (
            np.array_equal(applied, [stimulus.values for stimulus in asked])
            and np.array_equal(connected, [stimulus.connected for stimulus in asked])
        ):
            raise ConfigError(
                f"the procedure asks for something else than it did before the interruption (reading {self._position}): the "
                "program, or a library it computes with, is no longer the same; go on with the old one, or begin a new run"
            )
        self._position += count * width
        # Nobody looks once more at a sample of a waveform, which stood for a moment only.
        self._last = None if whole else (rows[count - 1], readings.part(slice(-width, None)))
        return readings

    def _arrive(self, policy: SettlePolicy | None, samples: int) -> None:
        """From here on everything is measured."""
        if self._present:
            return
        self._present = True
        if self._captures or self._last is None or policy is None:
            return
        row, before = self._last
        first = self._keeper.readings
        self._looking = []
        count = max(samples, LOOKS)
        try:
            if len(row) > 1:
                self._backend.measure_replicas([row], policy, count)
            else:
                self._backend.measure(row, policy, count)
            now = Readings.joined(self._looking)
        finally:
            self._looking = None
        self._asides.append([first, len(now)])
        self._tell(before, now, samples, count)
        self._save()

    def _tell(self, before: Readings, now: Readings, samples: int, count: int) -> None:
        """How far the last point has moved since it was measured."""
        moved = now.values - before.values
        earlier = np.where(np.isfinite(before.std), before.std, now.std * np.sqrt(count / samples))
        noise = 4.0 * np.hypot(earlier, now.std)
        outputs = self._backend.capabilities.outputs
        found: dict[str, dict[str, float | None]] = {"moved": {}, "explained_by_noise": {}}
        words = []
        for place in range(len(now)):
            for column, channel in enumerate(outputs):
                name = f"{channel.name} of {now.replica[place]}" if now.replica else channel.name
                change, explained = float(moved[place, column]), float(noise[place, column])
                found["moved"][name] = change if np.isfinite(change) else None
                found["explained_by_noise"][name] = explained if np.isfinite(explained) else None
                words.append(f"{name} by {change:.3g} {channel.quantity.value}")
        significant = bool(np.any(np.abs(moved) > noise))
        self._revisits.append({**found, "significant": significant})
        meaning = "more than its noise explains" if significant else "as much as its noise explains"
        self._inner.events.warn(f"resumed: since the interruption the last point moved {', '.join(words)}; {meaning}")

    # -- what the procedure is given ------------------------------------------------------------------------------

    @contextmanager
    def unbroken(self, final: str = "") -> Generator[None]:
        """See ``hil.core.lab.Continuity``."""
        if self._captures or self.active:
            yield
            return
        if final:
            self._barred = final
            self._save()
        self._unbroken += 1
        try:
            yield
        finally:
            self._unbroken -= 1
        self._barred = ""
        self._save()

    def computed(self, compute: Callable[[], Any]) -> Any:
        """See ``hil.core.lab.Continuity``."""
        self._computed_asked += 1
        if self._computed_asked > len(self._computed):
            # What comes back from the file is what is given now, so that both runs go on with the same.
            self._computed.append(json.loads(json.dumps(compute())))
            self._save()
        return self._computed[self._computed_asked - 1]

    def _exchange(self, specimen: int) -> None:
        if not self.active and self._inner.exchange is not None:
            self._inner.exchange(specimen)
        self._specimen = specimen

    # -- state ----------------------------------------------------------------------------------------------------

    def _saw(self, stimuli: Sequence[Stimulus], readings: Readings) -> None:
        del stimuli
        if self._looking is not None:
            self._looking.append(readings)
        else:
            self._save()

    def _save(self) -> None:
        if self._unbroken:
            self._keeper.between_blocks()
            return
        self._keeper.save(
            {
                "clock": self._clock.answers,
                "computed": self._computed,
                "emitted": max(self._events.count, self._events.known),
                "specimen": self._specimen,
                "asides": self._asides,
                "revisits": self._revisits,
                "barred": self._barred,
            }
        )


def remount(exchange: Callable[[int], None] | None, saved: Mapping[str, Any]) -> None:
    """Mount the specimen that the ``saved`` run had mounted, before the state of its devices comes back."""
    specimen = (saved["state"] or {}).get("specimen")
    if exchange is not None and specimen is not None:
        exchange(specimen)


class _Clock:
    """The clock of a lab, that says again what it said."""

    def __init__(self, clock: Clock, replay: Replay, answers: list[float]) -> None:
        self._inner, self._replay = clock, replay
        self.answers = answers
        self._asked = 0

    def now(self) -> float:
        """Seconds, as they were then."""
        self._asked += 1
        if self._asked > len(self.answers):
            self.answers.append(self._inner.now())
        return self.answers[self._asked - 1]

    def sleep(self, seconds: float) -> None:
        """What was waited for need not be waited for again."""
        if not self._replay.active:
            self._inner.sleep(seconds)


class _Events(EventStream):
    """The events of a lab without the first ``known`` ones, which are on record; warnings are told once anyway."""

    def __init__(self, events: EventStream, known: int) -> None:
        super().__init__()
        self._inner = events
        self.warnings = events.warnings
        self.known = known
        self.count = 0

    def emit(self, event: Event) -> None:
        """Deliver ``event`` unless it was delivered before the interruption."""
        if isinstance(event, Warned):
            self._inner.emit(event)
            return
        self.count += 1
        if self.count > self.known:
            self._inner.emit(event)
