"""What a training is stopped by, how it ends, and the one point it stands on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from hil.core.types import FloatArray


class Ending(StrEnum):
    """Why a training ended."""

    CONVERGED = "converged"
    EXHAUSTED = "exhausted"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class StopRule:
    """When to stop: the loss is below ``loss_below``; ``max_steps`` updates were made; or it stalled.

    Stalled: no update moves a weight any more, or, with ``patience``, the best loss fell by less than 0.1 % over that
    many steps. Without ``loss_below`` training runs to ``max_steps``.
    """

    loss_below: float | None = None
    max_steps: int = 200
    patience: int | None = None


@dataclass(frozen=True)
class Point:
    """One evaluated set of weights: coordinates (n,), outputs (n_inputs, n_outputs), the loss.

    ``noise``: standard error of the outputs as far as it is known; ``own``: what these very readings showed of it.
    """

    theta: FloatArray
    outputs: FloatArray
    noise: FloatArray
    own: FloatArray
    loss: float
    loss_std: float
    time: float
    remeasured: bool = False

    def packed(self) -> dict[str, object]:
        """As JSON."""
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in asdict(self).items()}

    @classmethod
    def unpacked(cls, packed: Mapping[str, Any]) -> "Point":
        """From ``packed``."""
        theta, outputs, noise, own = (np.array(packed[name], dtype=np.float64) for name in ("theta", "outputs", "noise", "own"))
        return cls(theta, outputs, noise, own, packed["loss"], packed["loss_std"], packed["time"], packed["remeasured"])
