"""Measuring identical devices side by side: all driven, all settled, all read in one overlapped measurement where possible."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hil.core.clock import Clock
from hil.core.types import BoolArray, FloatArray, SettlePolicy, SettleReport, Stimulus
from instruments.list_sweep import ListSweep, swept_values
from instruments.settling import require_settled
from instruments.terminals import Read


@dataclass(frozen=True)
class RowBench:
    """A bench by the numbers of its replicas. ``drive``: brings every replica to its stimulus. ``ahead``: asks whether
    a list of so many rows may run, s for each."""

    drive: Callable[..., None]
    ahead: Callable[[Sequence[Sequence[Stimulus]], float], None]
    settle: Callable[[tuple[int, ...], SettlePolicy], SettleReport]
    reader: Callable[[tuple[int, ...]], Read]
    clock: Clock

    def require_settled(self, policy: SettlePolicy, number: int, rows: Sequence[Sequence[Stimulus]]) -> None:
        """NotSettledError where row ``number`` does not become steady in time."""
        require_settled("row", self.settle(tuple(range(len(rows[number]))), policy), policy, number, len(rows))


@dataclass(frozen=True)
class Block:
    """Readings of some rows that nobody has verified yet: means, std, overload (n, n_replicas, n_outputs), time (n,).

    A mean is nan where the output was in overload; the standard error is nan where a single sample does not tell it.
    """

    rows: slice
    means: FloatArray
    std: FloatArray
    overload: BoolArray
    time: FloatArray

    @classmethod
    def of(cls, rows: slice, values: FloatArray, overload: BoolArray, time: FloatArray) -> "Block":
        """From all samples, (n, samples, n_replicas, n_outputs)."""
        lost = np.asarray(overload.any(axis=1), dtype=np.bool_)
        samples = values.shape[1]
        spread = values.std(axis=1, ddof=1) / np.sqrt(samples) if samples > 1 else np.full(lost.shape, np.nan)
        return cls(rows, np.where(lost, np.nan, values.mean(axis=1)), spread, lost, time)


def measure_rows(stimuli: Sequence[Sequence[Stimulus]], policy: SettlePolicy, samples: int, bench: RowBench) -> Iterator[Block]:
    """One block a row. With a fixed ``policy.dwell`` only the first and the last row are judged, as the policy says."""
    for number, row in enumerate(stimuli):
        bench.drive(*row)
        if policy.dwell is not None:
            bench.clock.sleep(policy.dwell)
        if policy.dwell is None or number in (0, len(stimuli) - 1):
            bench.require_settled(policy, number, stimuli)
        values, overload = bench.reader(tuple(range(len(row))))(samples)
        shape = (1, samples, len(row), -1)
        now = np.array([bench.clock.now()])
        yield Block.of(slice(number, number + 1), values.reshape(shape), overload.reshape(shape), now)


def measure_list(
    sweep: ListSweep, stimuli: Sequence[Sequence[Stimulus]], policy: SettlePolicy, samples: int, bench: RowBench
) -> Iterator[Block]:
    """One block a list that the instrument runs by itself, each of which ends at level 0.

    The last and the first row are judged before anything is swept, as ``policy.dwell`` says.
    """
    for number in (len(stimuli) - 1, 0):
        bench.drive(*stimuli[number])
        bench.require_settled(policy, number, stimuli)
    values, _ = swept_values(stimuli)
    for rows, run in sweep.chunks(values, samples, home=True):
        bench.ahead(stimuli[rows], sweep.seconds(samples))
        begun = bench.clock.now()
        acquired = run()
        count = rows.stop - rows.start
        shape = (count, samples, len(stimuli[0]), -1)
        time = begun + (np.arange(count) + 1.0) * (bench.clock.now() - begun) / count
        yield Block.of(rows, acquired.values.reshape(shape), acquired.overload.reshape(shape), time)
