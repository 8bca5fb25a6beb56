"""What a gradient estimator is: it says where to measure, is told what came out, and returns a gradient.

An estimator is one file in this folder (or an entry point ``memristor_hil.gradients``) with one final class. It is pure:
it never sees a backend, so the same code works on a simulated network and on a bench, and can be tested on a formula.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import FloatArray


@dataclass(frozen=True, slots=True)
class Probes:
    """Coordinates at which the loss is wanted, (n_points, n). A point the trainer has just measured is not measured again."""

    points: FloatArray


@dataclass(frozen=True, slots=True)
class Evaluations:
    """What came out at each probe, in order.

    losses, std: (n_points,), the std being the standard error of the loss; outputs: (n_points, n_inputs, n_outputs);
    times: (n_points,) seconds of the backend's clock, of the last reading that belongs to the point.
    """

    losses: FloatArray
    std: FloatArray
    outputs: FloatArray
    times: FloatArray


@dataclass(frozen=True, slots=True)
class GradientEstimate:
    """Gradient of the loss by the coordinates, and its standard error: (n,) each."""

    value: FloatArray
    std: FloatArray


Plan = Generator[Probes, Evaluations, GradientEstimate]


class GradientEstimator(Protocol):
    """Built from ``step``, ``lower``, ``upper`` (n,) and the method's own options."""

    name: ClassVar[str]

    def estimate(self, theta: FloatArray, rng: np.random.Generator) -> Plan:
        """Yield probes, all inside the limits, receive evaluations, return the gradient at ``theta`` (n,)."""
        ...


@dataclass(frozen=True)
class FiniteSteps:
    """A step for every coordinate, (n,) or one for all, between the limits ``lower`` and ``upper`` (n,); see ``checked_step``."""

    step: FloatArray
    lower: FloatArray
    upper: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", checked_step(self.step, self.lower, self.upper))


def checked_step(step: FloatArray | float, lower: FloatArray, upper: FloatArray) -> FloatArray:
    """``step`` as (n,); ConfigError unless it is above 0 and twice of it fits between the limits of every coordinate."""
    array = np.broadcast_to(np.asarray(step, dtype=np.float64), np.shape(lower)).copy()
    if not (np.all(np.isfinite(array)) and np.all(array > 0)):
        raise ConfigError(f"a finite-difference step must be above 0 and finite, not {step}")
    too_wide = 2.0 * array > np.asarray(upper) - np.asarray(lower)
    if np.any(too_wide):
        first = int(np.argmax(too_wide))
        raise ConfigError(
            f"a finite-difference step of {array[first]:g} does not fit twice into the range {lower[first]:g} … {upper[first]:g} "
            f"of weight number {first + 1}; make the step smaller or the range wider"
        )
    return array
