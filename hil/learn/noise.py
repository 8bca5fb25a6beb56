"""How far a reading can be trusted: scatter within one visit to a set of weights, and between two visits to the same."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hil.core.types import FloatArray

VISITS = 3
"""Repeated visits needed before their scatter is believed."""
KEPT = 20
"""Repeated visits that are remembered; older ones may belong to a quieter or louder part of the network's range."""


class ReadingNoise:
    """Noise of the target outputs, learnt while training; all shapes (n_inputs, n_outputs) unless said otherwise.

    Readings in a row share whatever changes slowly, such as a pressure that wanders inside its band. Their scatter is
    then too small a measure, and only coming back to the same weights shows the rest.
    """

    def __init__(self) -> None:
        self._within: FloatArray | None = None
        self._changes: list[FloatArray] = []
        self._expected: list[FloatArray] = []

    def pool(self, noise: Sequence[FloatArray]) -> None:
        """Take the standard errors of all points of a plan together: those of single points are themselves uncertain."""
        if len(noise):
            self._within = np.sqrt(np.mean(np.square(noise), axis=0))

    def within(self, own: FloatArray) -> FloatArray:
        """Standard error of a reading of the usual number of samples, which by itself showed ``own``."""
        return own if self._within is None else self._within

    def repeated(self, first: FloatArray, first_noise: FloatArray, second: FloatArray, second_noise: FloatArray) -> None:
        """Learn from two visits to the same weights, with what each showed of its own noise."""
        self._changes = [*self._changes, np.abs(second - first)][-KEPT:]
        self._expected = [*self._expected, first_noise**2 + second_noise**2][-KEPT:]

    @property
    def between(self) -> FloatArray:
        """Scatter between visits, (n_outputs,), or 0 while fewer than three were repeated.

        From the median of |d|, which one stray reading does not move: var d = (1.4826 median|d|)² = s1² + s2² + 2 b².
        """
        if len(self._changes) < VISITS:
            return np.zeros(1)
        variance = (1.4826 * np.median(np.concatenate(self._changes), axis=0)) ** 2
        known = np.mean(np.concatenate(self._expected), axis=0)
        scatter: FloatArray = np.sqrt(np.maximum(variance - known, 0.0) / 2.0)
        return scatter

    def total(self, within: FloatArray) -> FloatArray:
        """Standard error that a reading really has."""
        result: FloatArray = np.hypot(within, self.between)
        return result

    def state_dict(self) -> dict[str, object]:
        """JSON."""
        return {
            "within": None if self._within is None else self._within.tolist(),
            "changes": [change.tolist() for change in self._changes],
            "expected": [expected.tolist() for expected in self._expected],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state_dict``."""
        self._within = None if state["within"] is None else np.array(state["within"], dtype=np.float64)
        self._changes = [np.array(change, dtype=np.float64) for change in state["changes"]]
        self._expected = [np.array(expected, dtype=np.float64) for expected in state["expected"]]
