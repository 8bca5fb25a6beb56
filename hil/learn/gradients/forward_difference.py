"""Forward differences, one coordinate at a time: n probes beside the base point."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from hil.core.types import FloatArray
from hil.learn.gradients.base import FiniteSteps, GradientEstimate, Plan, Probes


@final
@dataclass(frozen=True)
class ForwardDifference(FiniteSteps):
    """∂C/∂w_i ≈ (C(w + Δw e_i) - C(w)) / Δw, as in Conte et al.; error ½ Δw ∂²C/∂w_i².

    Departure from the paper: where w_i + Δw would leave the allowed range the step is taken the other way. Near the
    target the descent stalls where C(w + Δw) = C(w), which leaves a cost of about ¼ (Δw ∂V/∂w)².
    """

    name: ClassVar[str] = "forward_difference"

    def estimate(self, theta: FloatArray, rng: np.random.Generator) -> Plan:
        """One round: the base point first, then every coordinate moved in turn."""
        moved = np.where(theta + self.step <= self.upper, theta + self.step, theta - self.step)
        points = np.tile(theta, (len(theta) + 1, 1))
        np.fill_diagonal(points[1:], moved)
        answer = yield Probes(points)
        change = moved - theta
        return GradientEstimate(
            (answer.losses[1:] - answer.losses[0]) / change, np.hypot(answer.std[1:], answer.std[0]) / np.abs(change)
        )
