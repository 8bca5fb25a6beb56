"""Central differences, one coordinate at a time: 2n probes."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from hil.core.types import FloatArray
from hil.learn.gradients.base import FiniteSteps, GradientEstimate, Plan, Probes


@final
@dataclass(frozen=True)
class CentralDifference(FiniteSteps):
    """∂C/∂w_i ≈ (C(w + Δw e_i) - C(w - Δw e_i)) / 2Δw; exact on quadratics, error Δw²/6 ∂³C/∂w_i³ otherwise.

    Closer than Δw to a limit the outer probe stands on the limit; the difference is then no longer centred, and its
    error is that of a one-sided difference.
    """

    name: ClassVar[str] = "central_difference"

    def estimate(self, theta: FloatArray, rng: np.random.Generator) -> Plan:
        """One round: for every coordinate the point above and the point below it."""
        above = np.minimum(theta + self.step, self.upper)
        below = np.maximum(theta - self.step, self.lower)
        points = np.tile(theta, (2 * len(theta), 1))
        np.fill_diagonal(points[0::2], above)
        np.fill_diagonal(points[1::2], below)
        answer = yield Probes(points)
        change = above - below
        return GradientEstimate(
            (answer.losses[0::2] - answer.losses[1::2]) / change, np.hypot(answer.std[0::2], answer.std[1::2]) / change
        )
