"""Measuring identical devices side by side: all driven, all settled, all read in one overlapped measurement where possible."""

from collections.abc import Callable, Sequence

import numpy as np

from hil.core.clock import Clock
from hil.core.types import FloatArray, SettlePolicy, SettleReport, Stimulus
from instruments.list_sweep import ListSweep, swept_values
from instruments.settling import require_settled
from instruments.terminals import Reader


def measure_rows(
    stimuli: Sequence[Sequence[Stimulus]],
    policy: SettlePolicy,
    samples: int,
    *,
    drive: Callable[[Sequence[tuple[int, Stimulus]]], None],
    settle: Callable[[tuple[int, ...], SettlePolicy], SettleReport],
    reader: Callable[[tuple[int, ...]], Reader],
    count: Callable[[], None],
    clock: Clock,
) -> FloatArray:
    """Means (n, n_replicas, n_outputs); NaN where an output was in overload.

    ``drive``, ``settle``, ``reader`` act on replicas by number; ``count`` is told of every relaxation. With a fixed
    ``policy.dwell`` only the first and the last row are judged, as the policy says.
    """
    replicas = tuple(range(len(stimuli[0]))) if stimuli else ()
    rows = []
    for number, row in enumerate(stimuli):
        drive(list(zip(replicas, row, strict=True)))
        count()
        if policy.dwell is not None:
            clock.sleep(policy.dwell)
        if policy.dwell is None or number in (0, len(stimuli) - 1):
            require_settled("row", settle(replicas, policy), policy, number, len(stimuli))
        values, overload = reader(replicas)(samples)
        mean = np.where(overload.any(axis=0), np.nan, values.mean(axis=0))
        rows.append(mean.reshape(len(replicas), -1))
    return np.array(rows, dtype=np.float64)


def measure_list(
    sweep: ListSweep,
    stimuli: Sequence[Sequence[Stimulus]],
    policy: SettlePolicy,
    samples: int,
    *,
    drive: Callable[[Sequence[tuple[int, Stimulus]]], None],
    settle: Callable[[tuple[int, ...], SettlePolicy], SettleReport],
) -> FloatArray:
    """Means (n, n_replicas, n_outputs) by the instrument's own lists, each of which ends at level 0; NaN in overload.

    The last and the first row are judged before anything is swept, as ``policy.dwell`` says.
    """
    replicas = tuple(range(len(stimuli[0])))
    for number in (len(stimuli) - 1, 0):
        drive(list(zip(replicas, stimuli[number], strict=True)))
        require_settled("row", settle(replicas, policy), policy, number, len(stimuli))
    values, _ = swept_values(stimuli)
    parts = []
    for rows, run in sweep.chunks(values, samples, home=True):
        acquired = run()
        shape = (rows.stop - rows.start, samples, len(replicas), -1)
        overload = acquired.overload.reshape(shape).any(axis=1)
        parts.append(np.where(overload, np.nan, acquired.values.reshape(shape).mean(axis=1)))
    return np.concatenate(parts)
