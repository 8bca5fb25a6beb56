"""What a training is stopped by, how it ends, and the one point it stands on."""

from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True)
class Moved:
    """How far one point moved between two visits: ``change`` and its standard error, (n_inputs, n_outputs)."""

    change: FloatArray
    std: FloatArray
    loss_before: float
    loss_now: float

    @classmethod
    def between(cls, before: Point, now: Point) -> "Moved":
        """From a first and a second visit to the same coordinates."""
        return cls(now.outputs - before.outputs, np.hypot(before.noise, now.noise), before.loss, now.loss)

    @property
    def significant(self) -> bool:
        """Whether any output moved by more than 4 standard errors."""
        return bool(np.any(np.abs(self.change) > 4.0 * self.std))

    def facts(self, names: Sequence[str]) -> dict[str, Any]:
        """As JSON: the largest move of each output over all inputs, 4 standard errors of it, and the loss."""
        worst = np.argmax(np.abs(self.change), axis=0)
        columns = np.arange(len(names))
        return {
            "moved": dict(zip(names, self.change[worst, columns].tolist(), strict=True)),
            "explained_by_noise": dict(zip(names, (4.0 * self.std[worst, columns]).tolist(), strict=True)),
            "loss_before": self.loss_before,
            "loss_now": self.loss_now,
            "significant": self.significant,
        }
