"""A device's I-V curve as the activation of a neuron, with its slope and a declared behaviour outside the measured range."""

from enum import StrEnum

import numpy as np

from hil.core.errors import ConfigError, LimitExceededError
from hil.core.types import FloatArray
from hil.learn.iv_curve import IVCurve

MINIMUM_POINTS = 5


class Outside(StrEnum):
    """Beyond the measured range: refuse; hold the end value (slope 0); or go on with the end slope."""

    RAISE = "raise"
    CLIP = "clip"
    LINEAR = "linear"


class Activation:
    """Monotone-preserving cubic through points (V, A); ``slope`` is its exact derivative in S.

    The interpolant is that of Fritsch and Carlson, SIAM J. Numer. Anal. 17, 238 (1980): it has no extremum between two points
    that the points do not have. ``repairs`` tells what was changed on the way from the measured curve.
    """

    def __init__(
        self, voltage: FloatArray, current: FloatArray, outside: Outside = Outside.CLIP, repairs: tuple[str, ...] = ()
    ) -> None:
        from scipy.interpolate import PchipInterpolator  # every command would wait for it, and few need it

        v, i = np.array(voltage, dtype=np.float64), np.array(current, dtype=np.float64)
        if v.shape != i.shape or v.ndim != 1 or len(v) < MINIMUM_POINTS:
            raise ConfigError(f"an activation needs at least {MINIMUM_POINTS} points (V, A), not {v.shape} and {i.shape}")
        if not (np.all(np.isfinite(v)) and np.all(np.isfinite(i))):
            raise ConfigError("an activation cannot be made from points that are not finite")
        if np.any(np.diff(v) <= 0):
            raise ConfigError("the voltages of an activation must rise strictly")
        self.voltage, self.current, self.outside, self.repairs = v, i, Outside(outside), repairs
        # the harmonic mean of two slopes divides by them: a vanishing slope rightly gives 1/inf = 0
        with np.errstate(over="ignore", divide="ignore"):
            self._spline = PchipInterpolator(v, i)
        self._derivative = self._spline.derivative()

    @classmethod
    def from_curve(
        cls,
        curve: IVCurve,
        branch: str = "mean",
        outside: Outside = Outside.CLIP,
        *,
        monotone: str = "repair",
        significance: float = 5.0,
    ) -> "Activation":
        """From a measured curve: ``branch`` "up", "down" or "mean" of both.

        Points in compliance and points that are not finite are left out and reported. ``monotone``: "require" a rising
        current, "repair" drops that stay within ``significance`` standard errors (isotonic regression, reported; larger ones
        are refused), or "allow" them (a device may have a negative slope). Raises ConfigError with what is missing.
        """
        repairs = list(curve.repairs)
        bad = int(np.sum(~np.isfinite(curve.current) | ~np.isfinite(curve.voltage)))
        if bad:
            repairs.append(f"{bad} points that are not finite left out")
        cut = int(np.sum(curve.limited))
        if cut:
            repairs.append(f"{cut} points in compliance left out")
        if branch not in ("up", "down", "mean"):
            raise ConfigError(f"branch {branch!r}: choose 'up', 'down' or 'mean'")
        if branch == "mean":
            voltage, current, error = _mean_of_branches(curve)
        else:
            voltage, current, error = curve.along(branch).averaged()
        if len(voltage) < MINIMUM_POINTS:
            lost = f" ({'; '.join(repairs)})" if repairs else ""
            raise ConfigError(
                f"curve {curve.source}: {len(voltage)} usable voltages on branch {branch!r}{lost}, at least {MINIMUM_POINTS} "
                "are needed; measure more points or raise the compliance limit"
            )
        if monotone == "repair":
            current, note = _monotone(voltage, current, error, significance, curve.source)
            repairs += note
        elif monotone == "require" and np.any(np.diff(current) < 0):
            where = voltage[:-1][np.diff(current) < 0][0]
            raise ConfigError(f"curve {curve.source}: the current falls above {where:g} V; use monotone='allow' if it should")
        return cls(voltage, current, outside, tuple(repairs))

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest measured voltage, V."""
        return float(self.voltage[0]), float(self.voltage[-1])

    def __call__(self, voltage: FloatArray) -> FloatArray:
        """Current in A at ``voltage`` (any shape), V; LimitExceededError outside the range if so declared."""
        v = np.asarray(voltage, dtype=np.float64)
        inside = self._inside(v)
        result: FloatArray = self._spline(inside)
        if self.outside is Outside.LINEAR:
            result = result + self._derivative(inside) * (v - inside)
        return result

    def slope(self, voltage: FloatArray) -> FloatArray:
        """dI/dV in S; 0 where the drive is clipped."""
        v = np.asarray(voltage, dtype=np.float64)
        inside = self._inside(v)
        result: FloatArray = self._derivative(inside)
        return np.where(v == inside, result, 0.0) if self.outside is Outside.CLIP else result

    def _inside(self, v: FloatArray) -> FloatArray:
        low, high = self.range
        if not np.all(np.isfinite(v)):
            raise LimitExceededError("an activation was asked for a voltage that is not finite")
        if self.outside is Outside.RAISE and np.any((v < low) | (v > high)):
            worst = v[(v < low) | (v > high)].flat[0]
            raise LimitExceededError(f"{worst:g} V lies outside the measured range {low:g} … {high:g} V of the activation")
        return np.clip(v, low, high)


def _mean_of_branches(curve: IVCurve) -> tuple[FloatArray, FloatArray, FloatArray]:
    present = sorted(set(curve.where(curve.usable).branch.tolist()))
    if present != ["down", "up"]:
        raise ConfigError(
            f"curve {curve.source}: the mean of both branches was asked for, but only {present or 'no'} branch has usable "
            "points; measure both directions or choose a branch"
        )
    up, down = (curve.along(branch).averaged() for branch in ("up", "down"))
    low, high = max(up[0][0], down[0][0]), min(up[0][-1], down[0][-1])
    voltage = np.unique(np.concatenate([up[0], down[0]]))
    voltage = voltage[(voltage >= low) & (voltage <= high)]
    currents = [np.interp(voltage, part[0], part[1]) for part in (up, down)]
    errors = [np.interp(voltage, part[0], part[2]) for part in (up, down)]
    return voltage, (currents[0] + currents[1]) / 2, np.hypot(errors[0], errors[1]) / 2


def _monotone(
    voltage: FloatArray, current: FloatArray, error: FloatArray, significance: float, source: str
) -> tuple[FloatArray, list[str]]:
    from scipy.optimize import isotonic_regression

    if not np.any(np.diff(current) < 0):
        return current, []
    weights = 1 / np.maximum(error, np.max(error) * 1e-3 if np.any(error > 0) else 1.0) ** 2
    fitted = np.asarray(isotonic_regression(current, weights=weights).x, dtype=np.float64)
    change = np.abs(fitted - current)
    allowed = significance * error + 1e-9 * float(np.ptp(current))
    if np.any(change > allowed):
        worst = int(np.argmax(change - allowed))
        raise ConfigError(
            f"curve {source}: the current falls near {voltage[worst]:g} V by more than {significance:g} standard errors "
            f"({change[worst]:.3g} A against {error[worst]:.3g} A); it is a property of the device or a fault, not noise: "
            "use monotone='allow' to keep it, or measure again"
        )
    return fitted, [f"{int(np.sum(change > 0))} points moved by up to {change.max():.3g} A to make the current rise"]
