"""Bringing sources that are on to their levels: the one place from which levels leave, but for the way home."""

from collections.abc import Callable, Sequence

import numpy as np

from hil.core.clock import Clock
from hil.core.safety import SafetyEnvelope
from hil.core.types import BoolArray, FloatArray
from instruments.following import Following
from instruments.mixer_controls import exchange, is_mixed
from instruments.ramp_order import ordered_ramp
from instruments.terminals import Drive, Movers, Output

Writer = tuple[Callable[[Sequence[float]], None], list[int]]
"""Sends levels to one instrument, and whose they are."""


class Ramper:
    """Moves drives along ramps that the envelope has checked. ``period``: s between the points of a ramp.

    ``order``: positions of controls in groups that ramp one after the other. ``watch``: is told the time (s of the clock) at
    every point, and raises where the bench does not permit to go on.
    """

    def __init__(
        self,
        envelope: SafetyEnvelope,
        clock: Clock,
        period: float,
        order: Sequence[Sequence[int]],
        watch: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._envelope, self._clock, self._period, self._order, self._watch = envelope, clock, period, order, watch
        self._following = Following(envelope, clock, period, watch)
        self._moved_at = -np.inf

    def check(self, rows: Sequence[Sequence[Drive]], movers: Movers) -> None:
        """LimitExceededError where pressures that stand have drifted apart; looks at them."""
        for drives in rows:
            self._following.check(drives, movers)

    def go(self, targets: Sequence[tuple[Sequence[Drive], FloatArray]], movers: Movers, now: float) -> None:
        """Bring the drives of every replica to its values (n_controls,), all together. ``now``: s of the clock.

        Liquids are exchanged first. Drives that are off, or stand there already, are left alone.
        """
        moving, mixed = list[Drive](), list[tuple[Drive, float]]()
        columns: list[tuple[int, int]] = []
        starts = []
        for row, (drives, values) in enumerate(targets):
            start = values.copy()
            for position, drive in enumerate(drives):
                target = float(values[position])
                if drive.output is not Output.ON or (drive.on_course and drive.commanded == target):
                    continue
                if is_mixed(drive):
                    mixed.append((drive, target))
                else:
                    start[position] = drive.level
                    moving.append(drive)
                    columns.append((row, position))
            starts.append(start)
        if mixed:
            exchange(mixed)
            now = self._clock.now()
        if moving:
            ramps = [
                ordered_ramp(self._envelope, start, values, self._period, self._order, _on(drives))
                for start, (drives, values) in zip(starts, targets, strict=True)
            ]
            self._move([drives for drives, _ in targets], moving, columns, ramps, movers, now)

    def _move(
        self,
        rows: Sequence[Sequence[Drive]],
        moving: Sequence[Drive],
        columns: Sequence[tuple[int, int]],
        ramps: Sequence[FloatArray],
        movers: Movers,
        now: float,
    ) -> None:
        if (early := max(0.0, self._period - (now - self._moved_at))) > 0:
            self._clock.sleep(early)
        writers = movers.writers(moving)
        count = max(len(points) for points in ramps)
        unsure = [not drive.on_course for drive in moving]
        for step in range(count):
            if step:
                self._clock.sleep(self._period)
            self._watch(now + early + step * self._period)
            if any(drive.is_pressure for drive in moving):
                for drives, points in zip(rows, ramps, strict=True):
                    now += self._following.wait(drives, points[min(step, len(points) - 1)], movers)
            row = [float(ramps[r][min(step, len(ramps[r]) - 1), c]) for r, c in columns]
            for write, positions in _narrowing(writers, moving, row) if self._envelope.edges else writers:
                if all(moving[p].commanded == row[p] and not (unsure[p] and step == count - 1) for p in positions):
                    continue  # its turn to move is over, or still to come
                for position in positions:
                    # Before the write: after a failure the terminal may be at either end of this step.
                    moving[position].on_course = False
                    moving[position].in_limits &= not moving[position].is_pressure
                    moving[position].lowest = min(moving[position].lowest, row[position])
                    moving[position].highest = max(moving[position].highest, row[position])
                    moving[position].arrived &= not moving[position].is_pressure
                write([row[position] for position in positions])
                for position in positions:
                    moving[position].level = moving[position].commanded = row[position]
        for drive in moving:
            drive.on_course = True
        # Counted instead of asked, because asking costs a round trip on a virtual bench.
        self._moved_at = now + early + (count - 1) * self._period


def _narrowing(writers: Sequence[Writer], moving: Sequence[Drive], row: Sequence[float]) -> list[Writer]:
    """Who goes up from the lowest, who goes down from the highest: the one told first never widens a difference beyond both
    what it was and what it will be."""

    def place(writer: Writer) -> float:
        return min(moving[p].level if row[p] > moving[p].level else -moving[p].level for p in writer[1])

    return sorted(writers, key=place)


def _on(drives: Sequence[Drive]) -> BoolArray:
    return np.array([drive.output is Output.ON for drive in drives], dtype=np.bool_)
