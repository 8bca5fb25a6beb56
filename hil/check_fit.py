"""How well every device of a network conducts, from readings at small voltages; all at once, or one that explains all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hil.core.twin import Twin
from hil.core.types import BoolArray, FloatArray, Stimulus

MODEL_ERROR = 0.01
"""Of the largest expected signal of a kind: what leads, meters and the law may be off by without any device being wrong."""
PRIOR = 2.0
"""Standard deviation of the logarithm of a conductance before anything is measured: a factor of seven either way."""
LARGEST = 10.0
"""Largest logarithm of a factor that is looked for: a wire that is broken conducts as good as nothing."""
STEP = 1e-3
STARTS = (0.0, -3.0, 3.0)
"""Logarithms from which one edge is searched: there and far away."""


@dataclass(frozen=True)
class Measured:
    """One replica's readings of the stimuli: values, std (n, n_outputs), overload (n_outputs,)."""

    name: str
    values: FloatArray
    std: FloatArray
    overload: BoolArray


@dataclass(frozen=True)
class Fit:
    """Conductances over the twin's and the standard deviations of their logarithms, (n_edges,); and (n, n_outputs): what is
    left unexplained beyond three standard deviations, as a share of the largest expected signal."""

    factors: FloatArray
    uncertainty: FloatArray
    left: FloatArray


class Fitter:
    """Least squares on the logarithms x of the conductances: sum(((y - m(x)) / sigma)^2) + sum((x / PRIOR)^2).

    y, m: differences to 0 V, measured and as ``twin(factors)`` predicts. ``stimuli`` begin and end at 0 V.
    """

    def __init__(self, twin: Callable[[FloatArray], Twin], n_edges: int, stimuli: Sequence[Stimulus], measured: Measured) -> None:
        self._twin, self._n_edges, self._stimuli = twin, n_edges, list(stimuli[:-1])
        usable = ~measured.overload
        ends = measured.values[[0, -1]]
        self._signal = np.where(usable, measured.values[1:-1] - ends.mean(axis=0), 0.0)
        largest = np.abs(self._model(np.zeros(n_edges))).max(axis=0)
        self._scale = np.where(largest > 0.0, largest, np.inf)
        drift = np.where(usable, np.abs(ends[1] - ends[0]), 0.0)
        noise = measured.std[1:-1] ** 2 + measured.std[0] ** 2
        self._sigma = np.where(usable, np.sqrt(noise + drift**2 + (MODEL_ERROR * self._scale) ** 2), np.inf)

    def all_edges(self) -> Fit:
        """Every edge free; the covariance is that of the linearised problem at the minimum, (J'J)^-1."""
        from scipy.optimize import least_squares

        def residual(logarithms: FloatArray) -> FloatArray:
            return np.concatenate([self._residual(logarithms), logarithms / PRIOR])

        best = least_squares(residual, np.zeros(self._n_edges), bounds=(-LARGEST, LARGEST), diff_step=STEP)
        covariance = np.linalg.inv(best.jac.T @ best.jac)
        return Fit(np.exp(best.x), np.sqrt(np.diag(covariance)), self._left(best.x))

    def single_edges(self, tolerance: float) -> dict[int, float]:
        """Edge -> factor, for each edge that alone, the others as the twin says, explains every reading within ``tolerance``."""
        from scipy.optimize import least_squares

        found = {}
        for edge in range(self._n_edges):

            def only(x: FloatArray, edge: int = edge) -> FloatArray:
                logarithms = np.zeros(self._n_edges)
                logarithms[edge] = x[0]
                return logarithms

            def residual(x: FloatArray, only: Callable[[FloatArray], FloatArray] = only) -> FloatArray:
                return self._residual(only(x))

            tries = [
                least_squares(residual, [start], bounds=(-LARGEST, LARGEST), diff_step=STEP, max_nfev=30) for start in STARTS
            ]
            best = min(tries, key=lambda one: float(one.cost))
            if float(self._left(only(best.x)).max()) <= 0.1 * tolerance:
                found[edge] = float(np.exp(best.x[0]))
        return found

    def _model(self, logarithms: FloatArray) -> FloatArray:
        predicted = self._twin(np.exp(logarithms)).predict(self._stimuli)
        signals: FloatArray = predicted[1:] - predicted[0]
        return signals

    def _residual(self, logarithms: FloatArray) -> FloatArray:
        weighted: FloatArray = (self._signal - self._model(logarithms)) / self._sigma
        return weighted.ravel()

    def _left(self, logarithms: FloatArray) -> FloatArray:
        beyond = np.abs(self._signal - self._model(logarithms)) - 3.0 * self._sigma
        left: FloatArray = np.maximum(beyond, 0.0) / self._scale
        return left
