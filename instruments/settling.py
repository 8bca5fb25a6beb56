"""Waiting until outputs are flat, judged by what is read and by nothing else."""

from collections.abc import Callable, Sequence

import numpy as np

from hil.core.clock import Clock
from hil.core.errors import NotSettledError
from hil.core.types import FloatArray, Layout, SettlePolicy, SettleReport


def until_in_limits(
    look: Callable[[], list[str]],
    clock: Clock,
    policy: SettlePolicy,
    begin: float,
    warn: Callable[[str], None],
    watch: Callable[[float], None],
) -> SettleReport | None:
    """Wait until ``look`` names no source that is out of limits; a report where the time-out came first, else None.

    ``watch``: is told the time (s of ``clock``) before every wait for the next look, and raises where nobody may go on.
    """
    while late := look():
        now = clock.now()
        elapsed = now - begin
        if elapsed >= policy.timeout:
            names = ", ".join(repr(name) for name in late)
            warn(f"not in limits after {elapsed:g} s: {names}")
            return SettleReport(False, elapsed, np.inf)
        watch(now)
        # Asking ever less often costs a tenth of the time at the most.
        clock.sleep(max(policy.window, 0.1 * elapsed))
    return None


def until_flat(
    read: Callable[[], FloatArray],
    outputs: Layout,
    clock: Clock,
    policy: SettlePolicy,
    begin: float,
    watch: Callable[[float], None],
) -> tuple[SettleReport, list[FloatArray]]:
    """Wait until no output moves by the tolerance over two windows in a row; the report, and the last three readings.

    Two, because one window can fall on a turning point. ``read``: (n_replicas * n_outputs,), in the order of ``outputs``.
    ``begin``: when settling began, s of ``clock``. ``watch``: see ``until_in_limits``.
    """
    history = [read()]
    flat = 0
    while True:
        clock.sleep(policy.window)
        history.append(read())
        residual, most = _change(history[-2], history[-1], outputs, policy)
        flat = flat + 1 if residual < policy.tolerance else 0
        if len(history) == 2 and policy.timeout > 2 * policy.window:
            continue  # nothing can be decided yet
        del history[:-3]
        now = clock.now()
        elapsed = now - begin
        if flat >= 2 or elapsed >= policy.timeout:
            moved = outputs.channels[most % len(outputs)] if len(outputs) else None
            return SettleReport(flat >= 2, elapsed, residual, moved), history
        watch(now)


class Noise:
    """What one reading of each output is worth: learnt from the steady windows of every settling, pooled."""

    def __init__(self, outputs: int) -> None:
        self._variance = np.full(outputs, np.nan)

    def learn(self, flat: Sequence[FloatArray]) -> None:
        """Readings of outputs that were steady, (n_outputs,) each. Slow drift counts as noise: the estimate errs upwards."""
        variance = np.var(flat, axis=0, ddof=1)
        old = self._variance
        self._variance = np.where(np.isfinite(old), old + 0.05 * (variance - old), variance)

    @property
    def single(self) -> FloatArray:
        """Standard deviation of one reading, (n_outputs,); 0 before anything was learnt."""
        return np.asarray(np.nan_to_num(np.sqrt(self._variance)))

    def judge(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and its standard error, (n_outputs,), of values (samples, n_outputs)."""
        samples = len(values)
        if samples == 1:
            return values[0], self.single
        return values.mean(axis=0), np.nan_to_num(values.std(axis=0, ddof=1) / np.sqrt(samples))


def require_settled(what: str, report: SettleReport, policy: SettlePolicy, number: int, total: int) -> None:
    """NotSettledError naming ``what`` (a stimulus, a row) by its number from 0, unless it settled."""
    if not report.settled and np.isinf(report.residual) and report.moved is None:
        raise NotSettledError(
            f"{what} {number + 1} of {total}: a source was not in its limits after {report.elapsed:g} s; allow a longer "
            "`settle.timeout`, or look at supplies and leaks"
        )
    if not report.settled:
        raise NotSettledError(f"{what} {number + 1} of {total}: {report.trouble(policy)}")


def _change(before: FloatArray, after: FloatArray, outputs: Layout, policy: SettlePolicy) -> tuple[float, int]:
    """Largest change, and of which output; one that is in overload both times is steady as far as anybody can tell."""
    difference = after - before
    difference[np.isnan(before) & np.isnan(after)] = 0.0
    difference[np.isnan(difference)] = np.inf
    difference = policy.changes(outputs, difference)
    most = int(np.argmax(difference)) if len(difference) else 0
    return float(np.max(difference, initial=0.0)), most
