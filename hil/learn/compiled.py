"""Two loops over millions of elements an epoch, compiled: table look-up with slope, and Adam in place.

Written out in numpy, each makes about ten passes over memory; fused they make one. Imported only where single precision is.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Single = NDArray[np.floating[Any]]


@numba.njit(error_model="numpy", cache=True)
def _look_up(z: Single, table: Single, scale: np.float32, value: Single, slope: Single) -> None:
    cells = table.size - 1
    middle = np.float32(cells / 2)
    for k in range(z.size):
        position = z[k] * scale + middle
        inside = min(max(position, np.float32(0)), np.float32(cells))
        cell = min(int(inside), cells - 1)
        rise = table[cell + 1] - table[cell]
        value[k] = table[cell] + (inside - np.float32(cell)) * rise
        slope[k] = rise * scale if position == inside else np.float32(0)


@numba.njit(error_model="numpy", cache=True)
def _adam(
    theta: Single,
    gradient: Single,
    first: Single,
    second: Single,
    rate: np.float32,
    correction: np.float32,
    beta1: np.float32,
    beta2: np.float32,
    epsilon: np.float32,
) -> None:
    one = np.float32(1)
    for k in range(theta.size):
        g = gradient[k]
        m = beta1 * first[k] + (one - beta1) * g
        v = beta2 * second[k] + (one - beta2) * g * g
        first[k] = m
        second[k] = v
        theta[k] -= rate * m / (np.sqrt(v * correction) + epsilon)


def look_up(z: Single, table: Single, scale: np.float32) -> tuple[Single, Single]:
    """Value and slope at z (any shape) of a function that is straight between ``table`` points; held outside, slope 0."""
    flat = np.ascontiguousarray(z).reshape(-1)
    value, slope = np.empty_like(flat), np.empty_like(flat)
    _look_up(flat, table, scale, value, slope)
    return value.reshape(z.shape), slope.reshape(z.shape)


class SingleAdam:
    """Adam (Kingma and Ba, ICLR 2015, algorithm 1) on one flat single-precision vector, in place."""

    def __init__(self, size: int, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> None:
        self.first = np.zeros(size, dtype=np.float32)
        self.second = np.zeros(size, dtype=np.float32)
        self.count = 0
        self._betas = (beta1, beta2, epsilon)

    def step(self, theta: Single, gradient: Single, rate: float) -> None:
        """Update ``theta`` (n,) in place."""
        beta1, beta2, epsilon = self._betas
        self.count += 1
        _adam(
            theta,
            gradient,
            self.first,
            self.second,
            np.float32(rate / (1 - beta1**self.count)),
            np.float32(1 / (1 - beta2**self.count)),
            np.float32(beta1),
            np.float32(beta2),
            np.float32(epsilon),
        )
