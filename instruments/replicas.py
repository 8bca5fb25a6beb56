"""Measuring identical devices side by side: all driven, all settled, all read in one overlapped measurement where possible."""

from collections.abc import Callable, Sequence

import numpy as np

from hil.core.clock import Clock
from hil.core.errors import NotSettledError
from hil.core.types import FloatArray, SettlePolicy, SettleReport, Stimulus
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
            report = settle(replicas, policy)
            if not report.settled:
                raise NotSettledError(
                    f"row {number + 1} of {len(stimuli)}: outputs still moved by {report.residual:g} in {policy.window:g} s "
                    f"after {report.elapsed:g} s (tolerance {policy.tolerance:g}); allow a longer `settle.timeout`"
                )
        values, overload = reader(replicas)(samples)
        mean = np.where(overload.any(axis=0), np.nan, values.mean(axis=0))
        rows.append(mean.reshape(len(replicas), -1))
    return np.array(rows, dtype=np.float64)
