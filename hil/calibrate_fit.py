"""From readings of a calibration to offsets, gains and ratios with standard errors. Arithmetic only.

The model of every source and meter is y = offset + gain * x, as in ``instruments.calibration``.
"""

from dataclasses import dataclass

import numpy as np

from hil.core.types import FloatArray


@dataclass(frozen=True)
class Line:
    """y = offset + gain * x by least squares; standard errors from what the points leave, ``residual`` their deviation."""

    offset: float
    gain: float
    offset_std: float
    gain_std: float
    residual: float


def line(x: FloatArray, y: FloatArray) -> Line:
    """Through three points or more, (n,) each."""
    found, covariance, residual = linear(x[:, None], y)
    deviations = np.sqrt(np.diag(covariance))
    return Line(float(found[0]), float(found[1]), float(deviations[0]), float(deviations[1]), residual)


def linear(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Least squares of y (n,) on 1 and the columns of x (n, m): coefficients (1 + m,), their covariance, deviation of a point.

    Columns that the others hold already leave their part to them (smallest coefficients of all that fit).
    """
    design = np.column_stack([np.ones(len(x)), x])
    found, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    free = max(1, len(y) - int(rank))
    left = y - design @ found
    variance = float(left @ left) / free
    covariance: FloatArray = variance * np.linalg.pinv(design.T @ design)
    return np.asarray(found, dtype=np.float64), covariance, float(np.sqrt(variance))


@dataclass(frozen=True)
class Ratio:
    """I_B / I_A at equal voltages, and V0_B - V0_A, the difference of the voltages (V) at which no current is read."""

    ratio: float
    ratio_std: float
    equal: float
    swapped: float
    shift: float
    shift_std: float


def ratio(first: FloatArray, second: FloatArray, levels: FloatArray) -> Ratio:
    """``first``, ``second``: currents (looks, rows) of A and B, ``levels``: voltages (rows, 2) of A and B.

    Currents at +V and -V are halved differences, so that offsets of voltage and current drop out: I(V) - I(-V) over two. B is
    compared with A at the same voltage, in the rows where both have it and in those where they have exchanged their roles.
    Standard errors from the spread over the looks, which go through the rows up and down in turn.
    """
    odd_a, odd_b = _odd(first, levels), _odd(second, levels)
    same = levels[:, 0] == levels[:, 1]
    equal, crossed = [], []
    for position, (one, other) in enumerate(levels):
        if one <= 0.0:
            continue
        if same[position]:
            equal.append((odd_a[:, position], odd_b[:, position]))
        else:
            swapped = np.flatnonzero((levels[:, 0] == other) & (levels[:, 1] == one))
            crossed += [(odd_a[:, position], odd_b[:, partner]) for partner in swapped]
    each = np.array([_quotient(equal), _quotient(crossed)]) if crossed else np.array([_quotient(equal)])
    together = _quotient([*equal, *crossed])
    zero = _zero(second, levels[:, 1], odd_b) - _zero(first, levels[:, 0], odd_a)
    looks = np.sqrt(len(together))
    return Ratio(
        float(together.mean()),
        float(together.std(ddof=1) / looks),
        float(each[0].mean()),
        float(each[-1].mean()),
        float(zero.mean()),
        float(zero.std(ddof=1) / looks),
    )


def _odd(currents: FloatArray, levels: FloatArray) -> FloatArray:
    """Half the difference to the row in which both devices have the opposite voltage, (looks, rows)."""
    opposite = [int(np.flatnonzero(np.all(levels == -row, axis=1))[0]) for row in levels]
    return 0.5 * (currents - currents[:, opposite])


def _quotient(pairs: list[tuple[FloatArray, FloatArray]]) -> FloatArray:
    """Per look: B over A by least squares through 0, sum(a b) / sum(a a); weights a from the mean of all looks, without noise."""
    weights = [one.mean() for one, _ in pairs]
    above = sum(weight * other for weight, (_, other) in zip(weights, pairs, strict=True))
    below = sum(weight * one for weight, (one, _) in zip(weights, pairs, strict=True))
    return np.asarray(above / below, dtype=np.float64)


def _zero(currents: FloatArray, levels: FloatArray, odd: FloatArray) -> FloatArray:
    """Per look: voltage at which no current is read, -I(0) over the conductance at the smallest voltage."""
    at_rest = currents[:, levels == 0.0].mean(axis=1)
    smallest = levels == levels[levels > 0.0].min()
    conductance = (odd[:, smallest] / levels[smallest]).mean()
    return np.asarray(-at_rest / conductance, dtype=np.float64)
