"""Activations of a layer: mathematical functions, tabulated device curves, or devices measured as they are driven.

A device neuron is driven with v = clip(gain · z, -1, 1) · v_max for the pre-activation z and answers I/i_max; its slope by z is
gain · v_max/i_max · dI/dV, and zero where the drive is clipped (keeping the end slope there ruins the training of a device whose
curve is steep at its ends).
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import RealArray
from hil.learn.activation import Activation
from hil.learn.slope import SlopeMeter


class Neurons(Protocol):
    """Activation of every element of a pre-activation array z of any shape."""

    def activate(self, z: RealArray) -> RealArray:
        """Activations alone."""
        ...

    def respond(self, z: RealArray) -> tuple[RealArray, RealArray]:
        """Activations and their slopes by z, measured or computed together."""
        ...


class Tanh:
    """Hyperbolic tangent, the usual baseline."""

    def activate(self, z: RealArray) -> RealArray:
        """tanh z."""
        return np.tanh(z)

    def respond(self, z: RealArray) -> tuple[RealArray, RealArray]:
        """tanh z and 1 - tanh² z."""
        a = np.tanh(z)
        return a, 1 - a * a


class ReLU:
    """Rectified linear unit."""

    def activate(self, z: RealArray) -> RealArray:
        """max(z, 0)."""
        return np.maximum(z, 0)

    def respond(self, z: RealArray) -> tuple[RealArray, RealArray]:
        """max(z, 0) and its slope, 0 at and below 0."""
        return np.maximum(z, 0), (z > 0).astype(z.dtype)


@dataclass(frozen=True, slots=True)
class Drive:
    """How a pre-activation becomes a voltage and a current becomes an activation: ``v_max`` in V, ``i_max`` in A."""

    gain: float
    v_max: float
    i_max: float

    def __post_init__(self) -> None:
        for name in ("gain", "v_max", "i_max"):
            value = getattr(self, name)
            if not (value > 0 and np.isfinite(value)):
                raise ConfigError(f"device neurons: {name} must be above 0, not {value}")

    def voltage(self, z: RealArray) -> RealArray:
        """Voltage for each pre-activation, clipped to ± v_max."""
        clipped: RealArray = np.clip(self.gain * z, -1.0, 1.0) * self.v_max
        return clipped

    def factor(self, z: RealArray) -> RealArray:
        """d activation/dz = factor · dI/dV: 0 where the drive is clipped."""
        return np.where(np.abs(self.gain * z) <= 1.0, self.gain * self.v_max / self.i_max, 0.0)


@dataclass(slots=True)
class DeviceNeurons:
    """Neurons whose activations and slopes are readings; a whole batch of a layer is one sweep of the meter.

    ``readings`` counts the points measured. Without slopes (inference) the same meter is used and its slope ignored.
    """

    meter: SlopeMeter
    drive: Drive
    readings: int = field(default=0)

    def activate(self, z: RealArray) -> RealArray:
        """Measured activations."""
        return self.respond(z)[0]

    def respond(self, z: RealArray) -> tuple[RealArray, RealArray]:
        """Measured activations and measured slopes."""
        flat = np.asarray(z, dtype=np.float64).ravel()
        measured = self.meter.measure(np.asarray(self.drive.voltage(flat), dtype=np.float64))
        self.readings += flat.size * self.meter.readings_per_point
        activation = (measured.current / self.drive.i_max).reshape(z.shape)
        return activation, (measured.slope * self.drive.factor(flat)).reshape(z.shape)


class TabulatedNeurons:
    """A device curve on a uniform grid of ``cells`` cells, straight inside each: for data sets of MNIST's size.

    Value and slope belong to the same piecewise-straight function, so that the gradient is exactly that of the loss. Single
    precision arrays go through a compiled kernel, all others through numpy.
    """

    def __init__(self, activation: Activation, drive: Drive, cells: int = 4096) -> None:
        if cells < 2:
            raise ConfigError(f"a table needs at least 2 cells, not {cells}")
        grid = np.linspace(-drive.v_max, drive.v_max, cells + 1)
        self.table: RealArray = activation(grid) / drive.i_max
        self.drive = drive
        self._single = self.table.astype(np.float32)

    def activate(self, z: RealArray) -> RealArray:
        """Activations by linear interpolation."""
        return self.respond(z)[0]

    def respond(self, z: RealArray) -> tuple[RealArray, RealArray]:
        """Activations and slopes; the slope is 0 where the drive is clipped."""
        cells = len(self.table) - 1
        scale = self.drive.gain * cells / 2
        if z.dtype == np.float32:
            from hil.learn.compiled import look_up

            return look_up(z, self._single, np.float32(scale))
        position = z * scale + cells / 2
        inside = np.clip(position, 0.0, cells)
        cell = np.minimum(inside.astype(np.intp), cells - 1)
        rise = self.table[cell + 1] - self.table[cell]
        return self.table[cell] + (inside - cell) * rise, np.where(position == inside, rise * scale, 0.0)
