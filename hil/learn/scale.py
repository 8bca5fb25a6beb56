"""Between the coordinates a trainer walks in and the SI values of the channels it sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from hil.core.errors import ConfigError
from hil.core.safety import SafetyEnvelope
from hil.core.types import FloatArray


class Scaling(StrEnum):
    """SI: coordinates are the SI values themselves. LINEAR, LOG: θ ∈ [0, 1] across the range of each channel."""

    SI = "si"
    LINEAR = "linear"
    LOG = "log"


@dataclass(frozen=True)
class Scale:
    """One map for all trained channels, in their order. minimum, maximum: (n,), SI; coordinates θ: (..., n).

    LINEAR: w = minimum + θ (maximum - minimum).  LOG: w = minimum (maximum / minimum)^θ.  SI: w = θ, which makes a
    step an SI step and a learning rate of plain gradient descent a weight²/loss, so that a paper is repeated exactly.
    With LINEAR and LOG one step size serves volts, pascals, moles and metres, and θ ∈ [0, 1] is the allowed range.
    """

    minimum: FloatArray
    maximum: FloatArray
    scaling: Scaling = Scaling.LINEAR

    @classmethod
    def of(cls, envelope: SafetyEnvelope, names: Sequence[str], scaling: Scaling) -> "Scale":
        """The scale of the named channels: their own ranges, as tightened by the envelope.

        Raises ConfigError, naming the channel, where a range is infinite or reaches 0 although the scaling needs it.
        """
        positions = envelope.layout.indices(names)
        low = np.maximum(envelope.layout.array("minimum"), envelope.minimum)[positions]
        high = np.minimum(envelope.layout.array("maximum"), envelope.maximum)[positions]
        for name, start, stop in zip(names, low, high, strict=True):
            if scaling is not Scaling.SI and not (np.isfinite(start) and np.isfinite(stop) and start < stop):
                raise ConfigError(
                    f"channel {name!r} ranges over {start:g} … {stop:g}; θ scaling needs two finite limits, the lower one "
                    "first: set them in the bench file, or train with `gradient.scaling: si`"
                )
            if scaling is Scaling.LOG and not start > 0:
                raise ConfigError(f"channel {name!r} may go down to {start:g}; logarithmic scaling needs a lower limit above 0")
        return cls(low, high, scaling)

    @property
    def lower(self) -> FloatArray:
        """Smallest coordinates, (n,)."""
        return self.minimum if self.scaling is Scaling.SI else np.zeros_like(self.minimum)

    @property
    def upper(self) -> FloatArray:
        """Largest coordinates, (n,)."""
        return self.maximum if self.scaling is Scaling.SI else np.ones_like(self.maximum)

    def to_si(self, theta: FloatArray) -> FloatArray:
        """SI values of coordinates (..., n). The ends of the range are met exactly, never passed by a rounding."""
        if self.scaling is Scaling.SI:
            return np.array(theta, dtype=np.float64)
        if self.scaling is Scaling.LINEAR:
            values = self.minimum + np.asarray(theta) * (self.maximum - self.minimum)
        else:
            values = self.minimum * (self.maximum / self.minimum) ** np.asarray(theta)
        inside = (np.asarray(theta) >= 0.0) & (np.asarray(theta) <= 1.0)
        result: FloatArray = np.where(inside, np.clip(values, self.minimum, self.maximum), values)
        return result

    def to_theta(self, values: FloatArray) -> FloatArray:
        """Coordinates of SI values (..., n)."""
        if self.scaling is Scaling.SI:
            return np.array(values, dtype=np.float64)
        if self.scaling is Scaling.LINEAR:
            theta: FloatArray = (np.asarray(values) - self.minimum) / (self.maximum - self.minimum)
            return theta
        logs: FloatArray = np.log(np.asarray(values) / self.minimum) / np.log(self.maximum / self.minimum)
        return logs
