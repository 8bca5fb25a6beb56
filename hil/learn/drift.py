"""Drift between probes: seen by coming back to the base point, estimated as linear in time, and taken out of the differences.

A finite difference compares outputs that were read at different times. When everything moves by r per second meanwhile, a
difference over a step h that took t seconds is wrong by r·t/h, however long one averages. Coming back to the base point
between the probes shows r itself: a straight line through the visits by least squares (any textbook of regression), one for
each output and input.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hil.core.types import BoolArray, FloatArray


@dataclass(frozen=True)
class Drift:
    """A straight line through visits to one point: ``rate`` per second, its standard error, the value at ``time``.

    rate, std, value: (n_inputs, n_outputs); ``visits`` made, the first included.
    """

    rate: FloatArray
    std: FloatArray
    value: FloatArray
    time: float
    visits: int

    @classmethod
    def fit(cls, times: FloatArray, outputs: FloatArray, noise: FloatArray) -> "Drift":
        """From visits at ``times`` (m,); outputs, noise: (m, n_inputs, n_outputs). The line's value is that at the first visit.

        Its error is the larger of what the noise explains and what the scatter around the line shows. Where no time passed
        between the visits there is no drift, and the value is their mean.
        """
        since = times - times.mean()
        spread = float(np.sum(since**2))
        mean: FloatArray = outputs.mean(axis=0)
        if spread == 0.0:
            return cls(np.zeros_like(mean), np.zeros_like(mean), mean, float(times[0]), len(times))
        rate: FloatArray = np.tensordot(since, outputs, axes=1) / spread
        known = np.tensordot(since**2, noise**2, axes=1) / spread**2
        left = outputs - mean - since[:, None, None] * rate
        seen = np.sum(left**2, axis=0) / (spread * (len(times) - 2)) if len(times) > 2 else np.zeros_like(mean)
        value: FloatArray = mean + since[0] * rate
        return cls(rate, np.sqrt(np.maximum(known, seen)), value, float(times[0]), len(times))

    def removed(self, outputs: FloatArray, noise: FloatArray, times: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Outputs (n, n_inputs, n_outputs) read at ``times`` (n,) as they would have been at the first visit, and their noise."""
        since = (times - self.time)[:, None, None]
        return outputs - since * self.rate, np.hypot(noise, since * self.std)

    def packed(self) -> dict[str, object]:
        """As JSON."""
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in asdict(self).items()}

    @classmethod
    def unpacked(cls, packed: Mapping[str, Any]) -> "Drift":
        """From ``packed``."""
        rate, std, value = (np.array(packed[name], dtype=np.float64) for name in ("rate", "std", "value"))
        return cls(rate, std, value, packed["time"], packed["visits"])

    def facts(self, names: Sequence[str]) -> dict[str, Any]:
        """As JSON: for every output the fastest drift over all inputs, per second, and its standard error."""
        fastest = np.argmax(np.abs(self.rate), axis=0)
        columns = np.arange(len(names))
        return {
            "rate": dict(zip(names, self.rate[fastest, columns].tolist(), strict=True)),
            "std": dict(zip(names, self.std[fastest, columns].tolist(), strict=True)),
            "visits": self.visits,
        }


def with_visits(points: FloatArray, base: FloatArray, every: int) -> tuple[FloatArray, BoolArray]:
    """``points`` (n, k) with ``base`` (k,) put in after each ``every`` of them and at the end; and which rows those are."""
    rows: list[FloatArray] = []
    visits: list[bool] = []
    for number, point in enumerate(points, start=1):
        rows.append(point)
        visits.append(False)
        if number % every == 0 or number == len(points):
            rows.append(base)
            visits.append(True)
    return np.array(rows).reshape(-1, len(base)), np.array(visits, dtype=np.bool_)
