"""The set of weights that may be applied: limits of every channel, and limits across edges."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hil.core.safety import SafetyEnvelope
from hil.core.types import FloatArray


@dataclass(frozen=True, slots=True)
class _Pair:
    """|plus - minus| ≤ maximum; a position of None is a fixed value (``offset``, what the fixed side contributes)."""

    edge: str
    plus: int | None
    minus: int | None
    offset: float
    maximum: float


@dataclass(frozen=True)
class FeasibleSet:
    """Weights (n,) in SI that the envelope allows while everything else stays as applied: a convex set.

    ``names`` (n,), ``minimum``, ``maximum`` (n,). Edge limits are drawn in by ``margin`` (n,), the largest move of a probe,
    so that a probe of one weight from a point inside the set keeps them too; limits of channels are not, because
    estimators turn round at them.
    """

    names: tuple[str, ...]
    minimum: FloatArray
    maximum: FloatArray
    pairs: tuple[_Pair, ...]

    @classmethod
    def of(
        cls,
        envelope: SafetyEnvelope,
        names: Sequence[str],
        applied: FloatArray,
        minimum: FloatArray,
        maximum: FloatArray,
        margin: FloatArray,
    ) -> "FeasibleSet":
        """``applied`` (n_controls,) holds the value of every control that is not trained."""
        weight = {name: position for position, name in enumerate(names)}
        pairs = []
        for limit in envelope.edges:
            plus = weight.get(limit.plus)
            minus = None if limit.minus is None else weight.get(limit.minus)
            if plus is None and minus is None:
                continue
            offset = 0.0 if plus is not None else applied[envelope.layout.index(limit.plus)]
            if minus is None and limit.minus is not None:
                offset -= applied[envelope.layout.index(limit.minus)]
            reserve = max(margin[position] for position in (plus, minus) if position is not None)
            pairs.append(_Pair(limit.edge, plus, minus, float(offset), max(limit.maximum - reserve, 0.0)))
        return cls(tuple(names), np.asarray(minimum), np.asarray(maximum), tuple(pairs))

    def project(self, weights: FloatArray) -> tuple[FloatArray, tuple[str, ...]]:
        """A point of the set close to ``weights`` (n,), and the names of the channels and edges whose limits hold it there.

        Weights inside come back unchanged. Limits across edges are met by turns, both ends moving by half.
        """
        point = np.clip(weights, self.minimum, self.maximum)
        active = [name for name, before, after in zip(self.names, weights, point, strict=True) if before != after]
        for _ in range(200):
            moved = False
            for pair in self.pairs:
                excess = self._excess(pair, point)
                if excess == 0.0:
                    continue
                moved = True
                if pair.edge not in active:
                    active.append(pair.edge)
                share = 0.5 if pair.plus is not None and pair.minus is not None else 1.0
                if pair.plus is not None:
                    point[pair.plus] -= share * excess
                if pair.minus is not None:
                    point[pair.minus] += share * excess
            point = np.clip(point, self.minimum, self.maximum)
            if not moved:
                break
        return point, tuple(active)

    def _excess(self, pair: _Pair, point: FloatArray) -> float:
        difference = pair.offset
        if pair.plus is not None:
            difference += point[pair.plus]
        if pair.minus is not None:
            difference -= point[pair.minus]
        beyond = abs(difference) - pair.maximum
        # A rounding of the difference is no excess; the envelope's own check is as lenient.
        return float(np.sign(difference) * beyond) if beyond > 1e-12 * pair.maximum else 0.0
