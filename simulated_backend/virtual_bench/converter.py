"""What a meter makes of a true value: range, overrange, gain and offset error, noise, resolution."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

LIMIT = 1.0 / 3.0
"""A specified limit of error is taken as three standard deviations of a calibrated instrument."""


@dataclass(frozen=True, slots=True)
class Range:
    """One range of a meter, in its unit: limits of error (fraction of reading, absolute), rms noise of 1 PLC, resolution.

    ``top`` is the largest value it can still show.
    """

    full_scale: float
    top: float
    of_reading: float
    offset: float
    noise: float
    resolution: float


class Converter:
    """The ranges of one function of one meter, with the errors this specimen happens to have (none when ``ideal``)."""

    def __init__(self, ranges: Sequence[Range], rng: np.random.Generator, ideal: bool) -> None:
        self.ranges = tuple(ranges)
        self._rng = rng
        self._ideal = ideal
        size = 0.0 if ideal else LIMIT
        self._gain = [1.0 + size * one.of_reading * float(rng.standard_normal()) for one in ranges]
        self._offset = [size * one.offset * float(rng.standard_normal()) for one in ranges]

    def fitting(self, value: float) -> int:
        """Position of the smallest range that shows ``value``, or of the largest."""
        for position, one in enumerate(self.ranges):
            if abs(value) <= one.top:
                return position
        return len(self.ranges) - 1

    def selected(self, full_scale: float) -> int:
        """Position of the range that a command for ``full_scale`` selects: the smallest that reaches it."""
        for position, one in enumerate(self.ranges):
            if abs(full_scale) <= one.full_scale * (1.0 + 1e-9):
                return position
        return len(self.ranges) - 1

    def read(self, true: float, position: int, noise_factor: float) -> float:
        """What is shown: rounded to the resolution; ±inf beyond the top of the range. ``noise_factor`` multiplies the noise."""
        one = self.ranges[position]
        value = true * self._gain[position] + self._offset[position]
        if not self._ideal:
            value += one.noise * noise_factor * float(self._rng.standard_normal())
        if abs(value) > one.top:
            return inf if value > 0.0 else -inf
        return round(value / one.resolution) * one.resolution
