"""A measured current-voltage curve with its uncertainty, and what can be said of it without a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import nan

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import ConfigError
from hil.core.types import BoolArray, FloatArray

BRANCHES = ("up", "down")


@dataclass(frozen=True, slots=True, eq=False)
class IVCurve:
    """Points in the order they were measured, (n,) each: V, A, standard error in A, seconds.

    ``branch`` is "up" or "down" per point, ``cycle`` counts sweeps from 0, ``limited`` marks points where the source was in
    compliance (kept, never fitted), ``sweep_rate`` is |dV/dt| in V/s (nan: unknown), ``source`` says where it came from.
    """

    voltage: FloatArray
    current: FloatArray
    current_std: FloatArray
    branch: NDArray[np.str_]
    cycle: NDArray[np.intp]
    limited: BoolArray
    time: FloatArray
    sweep_rate: float = nan
    source: str = ""
    repairs: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("current", "current_std", "branch", "cycle", "limited", "time"):
            if np.shape(getattr(self, name)) != np.shape(self.voltage):
                raise ConfigError(f"an I-V curve needs one {name} for each of its {len(self.voltage)} voltages")
        unknown = sorted(set(self.branch.tolist()) - set(BRANCHES))
        if unknown:
            raise ConfigError(f"branch {unknown[0]!r} of an I-V curve is neither 'up' nor 'down'")

    @classmethod
    def of(
        cls,
        voltage: Sequence[float] | FloatArray,
        current: Sequence[float] | FloatArray,
        current_std: Sequence[float] | FloatArray | None = None,
        *,
        source: str = "",
        sweep_rate: float = nan,
    ) -> "IVCurve":
        """From plain columns; branch and cycle are read off the direction of the sweep, time from ``sweep_rate``."""
        v, i = np.array(voltage, dtype=np.float64), np.array(current, dtype=np.float64)
        if v.ndim != 1 or v.shape != i.shape:
            raise ConfigError(f"an I-V curve needs as many currents as voltages, not {i.shape} and {v.shape}")
        std = np.zeros_like(v) if current_std is None else np.array(current_std, dtype=np.float64)
        branch, cycle = directions(v)
        steps = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(v)))]) if len(v) else v
        return cls(v, i, std, branch, cycle, np.zeros(len(v), dtype=np.bool_), steps / sweep_rate, sweep_rate, source)

    def __len__(self) -> int:
        return len(self.voltage)

    @property
    def usable(self) -> BoolArray:
        """Points that may be fitted: finite and not in compliance."""
        return np.isfinite(self.voltage) & np.isfinite(self.current) & ~self.limited

    def where(self, mask: BoolArray) -> "IVCurve":
        """The points that ``mask`` (n,) keeps."""
        names = ("voltage", "current", "current_std", "branch", "cycle", "limited", "time")
        return replace(self, **{name: getattr(self, name)[mask] for name in names})

    def select(self, branch: str | None = None, cycle: int | None = None) -> "IVCurve":
        """One branch and/or one cycle; ConfigError if there is none."""
        mask = np.ones(len(self), dtype=np.bool_)
        if branch is not None:
            mask &= self.branch == branch
        if cycle is not None:
            mask &= self.cycle == cycle
        if not mask.any():
            raise ConfigError(
                f"the curve {self.source or ''} has no point on branch {branch!r}, cycle {cycle}; it has branches "
                f"{sorted(set(self.branch.tolist()))} and cycles {sorted(set(self.cycle.tolist()))}"
            )
        return self.where(mask)

    def along(self, branch: str) -> "IVCurve":
        """One branch together with the turning points it starts from, which belong to both; ConfigError if there is none."""
        here = self.branch == branch
        start = np.zeros_like(here)
        start[:-1] = here[1:] & ~here[:-1]
        return self.where(here | start) if here.any() else self.select(branch)

    def averaged(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Mean over all usable points at each voltage: voltage (ascending, unique), current, standard error, (k,) each.

        Where a voltage was measured more than once the error comes from the scatter, otherwise from ``current_std``.
        """
        good = self.where(self.usable)
        voltage, inverse, count = np.unique(good.voltage, return_inverse=True, return_counts=True)
        mean = np.bincount(inverse, good.current) / np.maximum(count, 1)
        scatter = np.bincount(inverse, (good.current - mean[inverse]) ** 2) / np.maximum(count - 1, 1) / np.maximum(count, 1)
        told = np.bincount(inverse, good.current_std**2) / np.maximum(count, 1) ** 2
        return voltage, mean, np.sqrt(np.where(count > 1, np.maximum(scatter, told), told))

    def minus(self, blank: "IVCurve") -> "IVCurve":
        """This curve with that of a blank run (no device) subtracted, interpolated branch by branch.

        Raises ConfigError where the blank run does not reach: nothing is extrapolated.
        """
        current, variance = self.current.copy(), self.current_std**2
        for branch in sorted(set(self.branch.tolist())):
            mask = self.branch == branch
            voltage, mean, error = blank.along(branch).averaged()
            inside = (self.voltage[mask] >= voltage[0]) & (self.voltage[mask] <= voltage[-1])
            if not inside.all():
                outside = self.voltage[mask][~inside][0]
                raise ConfigError(
                    f"the blank run covers {voltage[0]:g} … {voltage[-1]:g} V on branch {branch!r}, but the curve has a point at "
                    f"{outside:g} V; measure the blank over the same range"
                )
            current[mask] -= np.interp(self.voltage[mask], voltage, mean)
            variance[mask] += np.interp(self.voltage[mask], voltage, error) ** 2
        return replace(
            self, current=current, current_std=np.sqrt(variance), repairs=(*self.repairs, f"blank {blank.source} subtracted")
        )

    def without_displacement(self, capacitance: float) -> "IVCurve":
        """This curve less C dV/dt (C in F, dV/dt = ± sweep rate by branch); ConfigError when the rate is unknown."""
        if not np.isfinite(self.sweep_rate):
            raise ConfigError("the displacement current needs a known sweep rate")
        shift = capacitance * self.sweep_rate * np.where(self.branch == "up", 1.0, -1.0)
        return replace(
            self, current=self.current - shift, repairs=(*self.repairs, f"displacement current of {capacitance:g} F removed")
        )


def directions(voltage: FloatArray) -> tuple[NDArray[np.str_], NDArray[np.intp]]:
    """Branch ("up" or "down") and cycle of every point of a sweep, (n,) each.

    A point belongs to the step that leads to it; the first one to the step that leaves it. A cycle ends where the sweep turns
    for the second time.
    """
    if len(voltage) < 2:
        return np.full(len(voltage), "up"), np.zeros(len(voltage), dtype=np.intp)
    step = np.sign(np.diff(voltage))
    moving = np.flatnonzero(step)
    if len(moving) == 0:
        return np.full(len(voltage), "up"), np.zeros(len(voltage), dtype=np.intp)
    # a repeated voltage keeps the direction of the step before it
    last = np.maximum.accumulate(np.where(step != 0, np.arange(len(step)), -1))
    step = np.where(last >= 0, step[np.maximum(last, 0)], step[moving[0]])
    sign = np.concatenate([step[:1], step])
    turns = np.concatenate([[0], np.cumsum(sign[1:] != sign[:-1])])
    return np.where(sign > 0, "up", "down"), (turns // 2).astype(np.intp)


def hysteresis_area(curve: IVCurve) -> float:
    """Area between the mean up and down branches over their common range, ∫|I_up - I_down| dV, in W."""
    up, down = (curve.along(branch).averaged() for branch in BRANCHES)
    low, high = max(up[0][0], down[0][0]), min(up[0][-1], down[0][-1])
    voltage = np.unique(np.concatenate([up[0], down[0]]))
    voltage = voltage[(voltage >= low) & (voltage <= high)]
    gap = np.abs(np.interp(voltage, up[0], up[1]) - np.interp(voltage, down[0], down[1]))
    return float(np.trapezoid(gap, voltage))


def rectification_ratio(curve: IVCurve, at: float | None = None) -> float:
    """|I(-V)| / |I(+V)| at V = ``at``, by default the largest voltage both signs reach; nan if one sign is missing."""
    voltage, current, _ = curve.averaged()
    reach = min(-voltage[0], voltage[-1]) if len(voltage) else 0.0
    level = reach if at is None else at
    if not 0 < level <= reach:
        return nan
    minus, plus = np.abs(np.interp([-level, level], voltage, current))
    return float(minus / plus) if plus > 0 else nan


def zero_current_voltage(curve: IVCurve) -> float:
    """Voltage at which the mean curve crosses I = 0, by linear interpolation nearest to V = 0; nan if it does not."""
    voltage, current, _ = curve.averaged()
    exact = voltage[current == 0]
    crossing = np.flatnonzero(current[:-1] * current[1:] < 0)
    slope = np.diff(current)[crossing] / np.diff(voltage)[crossing]
    roots = np.concatenate([exact, voltage[crossing] - current[crossing] / slope])
    return float(roots[np.argmin(np.abs(roots))]) if len(roots) else nan


def current_at_zero(curve: IVCurve) -> float:
    """Mean current at V = 0 by linear interpolation, A; nan if 0 V was not covered."""
    voltage, current, _ = curve.averaged()
    covered = len(voltage) and voltage[0] <= 0 <= voltage[-1]
    return float(np.interp(0.0, voltage, current)) if covered else nan


def displacement_capacitance(slow: IVCurve, fast: IVCurve) -> float:
    """Capacitance in F from the up-down gap at two sweep rates: gap = 2 C dV/dt + (what does not depend on the rate).

    Raises ConfigError unless both rates are known and differ.
    """
    rates = np.array([slow.sweep_rate, fast.sweep_rate])
    if not np.all(np.isfinite(rates)) or rates[0] == rates[1]:
        raise ConfigError("a displacement capacitance needs two curves with known, different sweep rates")
    gaps = []
    for curve in (slow, fast):
        up, down = (curve.along(branch).averaged() for branch in BRANCHES)
        low, high = max(up[0][0], down[0][0]), min(up[0][-1], down[0][-1])
        grid = np.linspace(low, high, 201)[20:-20]  # turning points are left out: there the current has not yet turned
        gaps.append(float(np.mean(np.interp(grid, up[0], up[1]) - np.interp(grid, down[0], down[1]))))
    return (gaps[1] - gaps[0]) / (2 * float(rates[1] - rates[0]))


def noise_floor(curve: IVCurve) -> float:
    """Standard deviation of one reading in A.

    From repeats of a voltage on the same branch where there are any, else from second differences along each branch (which are
    free of offset and slope; the variance of one is six times that of a reading).
    """
    good = curve.where(curve.usable)
    squares, freedom = 0.0, 0
    for branch in BRANCHES:
        part = good.where(good.branch == branch)
        _, inverse, count = np.unique(part.voltage, return_inverse=True, return_counts=True)
        if len(part) and count.max() > 1:
            mean = np.bincount(inverse, part.current) / count
            squares += float(np.sum((part.current - mean[inverse]) ** 2))
            freedom += int(np.sum(count - 1))
    if freedom:
        return float(np.sqrt(squares / freedom))
    seconds = [
        np.diff(part.current, 2)
        for branch in BRANCHES
        if len(part := good.where(good.branch == branch)) >= 3 and np.ptp(np.diff(part.voltage)) <= 1e-9 * np.ptp(part.voltage)
    ]
    if not seconds:
        return nan
    return float(np.sqrt(np.mean(np.concatenate(seconds) ** 2) / 6))
