"""How long channels are away from their safe states: from before a value leaves for them until they are known to be back.

Counted so that the plant never sees more than is allowed. A channel is away from the moment before the first write of whatever
brings it away, ramps of other channels and instruments included, and until a write that brings it back has been answered. What
its way home takes belongs to its time: it has to be back when the time is over. Nobody waits beyond that moment.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import inf, isfinite
from typing import TypeVar

import numpy as np

from hil.core.clock import Clock
from hil.core.errors import LimitExceededError
from hil.core.hydrostatics import DEFAULT_EMERGENCY_SLEW
from hil.core.safety import SafetyEnvelope
from hil.core.types import Channel, FloatArray, Quantity, Readings, SafeAction, SettlePolicy, Stimulus, Waveform
from hil.core.waveforms import moved

T = TypeVar("T")
OVERDUE = 1e-3
"""s: a wait that a dwell limit cuts short ends so much later, beyond doubt."""


class DwellWatch:
    """How long channels have been away from their safe states. ``now``: seconds of the backend's clock.

    A channel is away while it is connected and, where its safe state is a level or the ambient pressure, stands elsewhere.
    Replicas, identical devices that are driven each with a stimulus of its own, are counted each by itself; the verbs of a
    single device are those of the first.
    """

    def __init__(self, envelope: SafetyEnvelope, now: Callable[[], float], replicas: Sequence[str] = ()) -> None:
        limits = np.full(len(envelope.layout), inf) if envelope.max_dwell is None else envelope.max_dwell
        channels = envelope.layout.channels
        self._now = now
        self._source = envelope.source
        self._limits = [
            (position, channel, float(limits[position]))
            for position, channel in enumerate(channels)
            if np.isfinite(limits[position]) and channel.safe.action is not SafeAction.NONE
        ]
        self._limit_of = {channel.name: limit for _, channel, limit in self._limits}
        self._rest = np.array([channel.safe.value for channel in channels], dtype=np.float64)
        self._pace = np.array([_pace(channel) for channel in channels], dtype=np.float64)
        self._pressures = {place for place, channel in enumerate(channels) if channel.quantity is Quantity.PRESSURE}
        self.order([range(len(channels))])
        self._replicas = tuple(replicas) or ("",)
        self._since: dict[tuple[str, str], float] = {}
        self._home: dict[str, FloatArray] = {}
        self._seen: dict[str, float] = {}
        self._marked: float | None = None
        self._homeward = False

    @property
    def shortest(self) -> float:
        """The shortest of all limits, s; inf without any."""
        return min((limit for _, _, limit in self._limits), default=inf)

    def order(self, groups: Sequence[Sequence[int]]) -> None:
        """Positions of controls that go home one group after the other; in each of them pressures follow the others."""
        self._groups = [
            [place for place in group if (place in self._pressures) is pressures]
            for group in groups
            for pressures in (False, True)
        ]

    # -- what happens -------------------------------------------------------------------------------------------------

    def begin(self, row: Sequence[Stimulus]) -> None:
        """The first write of these (to the first replica and those after it) is about to leave: what they bring away is away."""
        if not self._limits:
            return
        now = self._now()
        for replica, stimulus in zip(self._replicas, row, strict=False):
            ways = self._ways(stimulus)
            self._seen[replica] = now
            self._home[replica] = np.fmax(self._home[replica], ways) if replica in self._home else ways
            for position, channel, _ in self._limits:
                if is_away(channel, float(stimulus.values[position]), bool(stimulus.connected[position])):
                    self._since.setdefault((replica, channel.name), now)

    def arrived(self, row: Sequence[Stimulus]) -> None:
        """These stand at the terminals (of the first replica and those after it) now."""
        for replica, stimulus in zip(self._replicas, row, strict=False):
            self.note(stimulus, None, replica)

    def judge(self, stimuli: Sequence[Stimulus], readings: Readings) -> None:
        """``note`` and ``check`` at every reading."""
        names = readings.replica or self._replicas[:1] * len(readings)
        for stimulus, time, replica in zip(stimuli, readings.time, names, strict=True):
            self.note(stimulus, float(time), replica)
            self.check(float(time))

    def note(self, stimulus: Stimulus, at: float | None = None, replica: str = "") -> None:
        """``stimulus`` is known to stand at the terminals (of ``replica``) now, or ``at``.

        What it has away without a word has been so since whatever was known before.
        """
        if not self._limits:
            return
        time = self._now() if at is None else at
        before = self._seen.get(replica, time if self._marked is None else self._marked)
        for position, channel, _ in self._limits:
            if is_away(channel, float(stimulus.values[position]), bool(stimulus.connected[position])):
                self._since.setdefault((replica, channel.name), min(before, time))
            else:
                self._since.pop((replica, channel.name), None)
        self._seen[replica] = time
        self._home[replica] = self._ways(stimulus)

    def mark(self) -> None:
        """What is noted next, without ``begin``, stands since now at the earliest."""
        if self._limits:
            self._seen.clear()
            self._marked = self._now()

    @contextmanager
    def homeward(self) -> Generator[None]:
        """On the way to the safe state nobody is held up; at its end every channel is there."""
        before, self._homeward = self._homeward, True
        try:
            yield
            self._since.clear()
            self._home.clear()
            self._seen.clear()
            self._marked = None
        finally:
            self._homeward = before

    # -- what is allowed ----------------------------------------------------------------------------------------------

    def check(self, at: float | None = None) -> None:
        """LimitExceededError for a channel that has been away for too long now, or will have been ``at``."""
        if not self._since or self._homeward:
            return
        time, home = self._now() if at is None else at, self._way_home()
        if time + home <= min(since + self._limit_of[name] for (_, name), since in self._since.items()):
            return
        for _, channel, limit in self._limits:
            begun = min((since for (_, name), since in self._since.items() if name == channel.name), default=None)
            if begun is not None:
                self._judge(channel, time - begun, limit, home)

    def check_wait(self, seconds: float) -> None:
        """LimitExceededError, before anybody waits, for a channel that will have been away for too long in ``seconds``."""
        if self._since and not self._homeward:
            self.check(self._now() + seconds)

    def ahead(self, rows: Sequence[Sequence[Stimulus]], seconds: float) -> None:
        """``begin`` and ``check_wait`` of a list that an instrument runs by itself, ``seconds`` for each of its rows."""
        if self._limits:
            for row in rows:
                self.begin(row)
            self.check_wait(seconds * len(rows))

    def foreseen(self, read: Callable[[int], T]) -> Callable[[int], T]:
        """``read``, which takes so many samples, refused where it would last too long, judged by those before it."""
        if not self._limits:
            return read
        each = 0.0

        def watched(samples: int) -> T:
            nonlocal each
            self.check_wait(each * samples)
            begun = self._now()
            found = read(samples)
            each = max(each, (self._now() - begun) / samples)
            return found

        return watched

    def within(self, policy: SettlePolicy) -> SettlePolicy:
        """``policy`` with a wait that ends when the first channel will have been away for too long, so that ``check`` tells."""
        if not self._since:
            return policy
        due = min(since + self._limit_of[name] for (_, name), since in self._since.items())
        left = due - self._way_home() - self._now()
        return replace(policy, timeout=min(policy.timeout, max(left, 0.0) + OVERDUE))

    def check_plan(self, waveform: Waveform) -> None:
        """LimitExceededError, before anything is applied, for a waveform that keeps a channel away for too long."""
        if not self._limits:
            return
        lengths, moving, now = np.diff(np.append(waveform.times, waveform.end)), moved(waveform), self._now()
        for position, channel, limit in self._limits:
            # What moves comes to its rest before and after; what does not, has its time counted on, and its way home is to come.
            since = now if moving[position] else self._since.get((self._replicas[0], channel.name), now)
            spent, home = now - since, 0.0 if moving[position] else self._way_home()
            for values, connected, length in zip(waveform.values, waveform.connected, lengths, strict=True):
                away = is_away(channel, float(values[position]), bool(connected[position]))
                spent = spent + float(length) if away else 0.0
                self._judge(channel, spent, limit, home if away else 0.0)

    def _judge(self, channel: Channel, spent: float, limit: float, home: float = 0.0) -> None:
        if spent + home > limit:
            where = f" (set in {self._source})" if self._source else ""
            way = f" and {home:.3g} s on the way there" if home else ""
            raise LimitExceededError(
                f"channel {channel.name!r}: {spent:g} s away from its safe state{way} is more than its dwell limit of {limit:g} s"
                f"{where}; shorten the settling, or let it rest in between"
            )

    def _ways(self, stimulus: Stimulus) -> FloatArray:
        """Seconds of the way home of every channel, (n_controls,)."""
        distance = np.where(stimulus.connected & (self._pace > 0.0), np.abs(stimulus.values - self._rest), 0.0)
        return np.asarray(distance * self._pace, dtype=np.float64)

    def _way_home(self) -> float:
        """Seconds until all are home: groups one after the other, everybody of a group beside the others."""
        if not self._home:
            return 0.0
        longest = np.max(list(self._home.values()), axis=0)
        return float(sum(np.max(longest[group], initial=0.0) for group in self._groups if group))


class WatchedClock:
    """The clock of a backend, on which nobody waits for longer than a channel may be away."""

    def __init__(self, clock: Clock, watch: DwellWatch) -> None:
        self._clock, self._watch = clock, watch

    def now(self) -> float:
        """Seconds of the clock inside."""
        return self._clock.now()

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass; LimitExceededError, at once, where a channel would be away for too long at their end."""
        self._watch.check_wait(seconds)
        self._clock.sleep(seconds)


def is_away(channel: Channel, value: float, connected: bool) -> bool:
    """Whether ``channel`` at ``value`` (SI) counts as away from its safe state; see ``DwellWatch``."""
    if channel.safe.action in (SafeAction.LEVEL, SafeAction.VENT):
        return connected and abs(value - channel.safe.value) > channel.resolution
    return connected


def _pace(channel: Channel) -> float:
    """Seconds per unit of the way to the safe state; 0 where it is left in one step."""
    if channel.safe.action not in (SafeAction.LEVEL, SafeAction.VENT):
        return 0.0
    for slew in (channel.emergency_slew, channel.max_slew):
        if isfinite(slew) and slew > 0.0:
            return 1.0 / slew
    return 1.0 / DEFAULT_EMERGENCY_SLEW if channel.quantity is Quantity.PRESSURE else 0.0
