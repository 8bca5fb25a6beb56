"""What a measured slope is wrong by, term by term, and the spacing that makes the whole least.

For a pair with gains 1 + ε_A, 1 + ε_B (standard deviation ``mismatch``) and reading noise s the error of
[I_B(V + δ) - I_A(V)]/δ is, in quadrature: mismatch √2 ε|I|/δ, noise √2 s/δ, truncation ½ δ|I''|; centring turns the last into
δ²|I'''|/24, a swap turns the first into ε|I'|/√2 (the mean gain of the pair) and halves the variance of the noise.
"""

from dataclasses import dataclass

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from hil.learn.activation import Activation


@dataclass(frozen=True, slots=True)
class ErrorBudget:
    """Root-mean-square errors over the points, each relative to the mean slope; ``total`` their quadrature sum."""

    delta: float
    mismatch: float
    noise: float
    truncation: float

    @property
    def total(self) -> float:
        """Quadrature sum of the three terms."""
        return float(np.sqrt(self.mismatch**2 + self.noise**2 + self.truncation**2))

    def as_dict(self) -> dict[str, float]:
        """For the summary."""
        return {"mismatch": self.mismatch, "noise": self.noise, "truncation": self.truncation, "total": self.total}


def error_budget(
    activation: Activation,
    voltages: FloatArray,
    delta: float,
    *,
    mismatch: float,
    noise: float,
    centred: bool = True,
    swap: bool = False,
    pair: bool = True,
    samples: int = 1,
) -> ErrorBudget:
    """Budget at ``voltages`` (n,), V, for spacing ``delta`` (V), relative ``mismatch`` sd and reading ``noise`` sd (A).

    ``pair`` False is one device read twice: no mismatch between the two readings, the device's own gain stays.
    Truncation is not estimated from a power series but from the curve itself: its exact difference quotient against its slope.
    """
    if not delta > 0:
        raise ConfigError(f"delta must be above 0 V, not {delta}")
    low, high = activation.range
    lower = np.clip(voltages - (delta / 2 if centred else 0.0), low, high - delta)
    slope = activation.slope(voltages)
    mean = float(np.mean(np.abs(slope)))
    if mean == 0:
        raise ConfigError("the curve has no slope at the voltages asked for")
    truncation = (activation(lower + delta) - activation(lower)) / delta - slope
    if pair and not swap:
        gain_error = np.sqrt(2.0) * mismatch * np.abs(activation(voltages)) / delta
    else:
        gain_error = mismatch * np.abs(slope) / (np.sqrt(2.0) if swap else 1.0)
    readings = samples * (2 if swap else 1)
    return ErrorBudget(
        delta, _rms(gain_error) / mean, float(np.sqrt(2.0 / readings) * noise / delta / mean), _rms(truncation) / mean
    )


def best_delta(
    activation: Activation, voltages: FloatArray, *, mismatch: float, noise: float, centred: bool = True, swap: bool = False
) -> ErrorBudget:
    """The budget with the smallest total over spacings from 0.1 % to 50 % of the measured range, 1 % apart."""
    low, high = activation.range
    spacings = np.geomspace(1e-3, 0.5, 625) * (high - low)
    budgets = [
        error_budget(activation, voltages, float(d), mismatch=mismatch, noise=noise, centred=centred, swap=swap) for d in spacings
    ]
    return min(budgets, key=lambda budget: budget.total)


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
