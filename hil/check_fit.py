"""What readings at small voltages say: how well every device conducts, or which one device, leak or lead explains all."""

from collections.abc import Callable, Mapping, Sequence
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
EDGES = tuple(np.linspace(-LARGEST, LARGEST, 11))
LEAKS = tuple(np.linspace(-34.0, -4.0, 11))
"""Logarithms of factors of one edge, and of conductances (S) of one leak, of which the best begins the search."""
SHARE_LEFT = 0.1
"""Of the tolerance: what may be left where one thing alone is said to explain every reading."""


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
        largest = np.abs(self._predicted(twin(np.ones(n_edges)))).max(axis=0)
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
        return Fit(np.exp(best.x), np.sqrt(np.diag(covariance)), self._left_by(self._twin(np.exp(best.x))))

    def single_edges(self, tolerance: float) -> dict[int, float]:
        """Edge -> factor, for each edge that alone, the others as the twin says, explains every reading within ``tolerance``."""

        def only(edge: int) -> Callable[[float], Twin]:
            return lambda logarithm: self._twin(np.exp(logarithm * np.eye(self._n_edges)[edge]))

        found = {edge: self._alone(only(edge), EDGES, tolerance) for edge in range(self._n_edges)}
        return {edge: factor for edge, factor in found.items() if factor is not None}

    def single_leaks(self, leaking: Mapping[str, Callable[[float], Twin]], tolerance: float) -> dict[str, float]:
        """Node -> conductance (S) to elsewhere, for each node whose leak alone explains every reading; ``leaking``: the twin
        with such a conductance, by node."""

        def at(node: str) -> Callable[[float], Twin]:
            return lambda logarithm: leaking[node](np.exp(logarithm))

        found = {node: self._alone(at(node), LEAKS, tolerance) for node in leaking}
        return {node: conductance for node, conductance in found.items() if conductance is not None}

    def explains(self, twin: Twin, tolerance: float) -> bool:
        """Whether ``twin``, just as it is, explains every reading within ``tolerance``."""
        return float(self._left_by(twin).max()) <= SHARE_LEFT * tolerance

    def _alone(self, twin: Callable[[float], Twin], grid: Sequence[float], tolerance: float) -> float | None:
        """exp(x) of the one unknown x that explains every reading best, None where it does not explain them."""
        from scipy.optimize import least_squares

        def residual(x: FloatArray) -> FloatArray:
            return (self._difference(twin(float(x[0]))) / self._sigma).ravel()

        start = min(grid, key=lambda x: float((residual(np.array([x])) ** 2).sum()))
        bounds = (min(grid), max(grid))
        best = least_squares(residual, [start], bounds=bounds, diff_step=STEP, max_nfev=30)
        logarithm = float(best.x[0])
        return float(np.exp(logarithm)) if self.explains(twin(logarithm), tolerance) else None

    def _predicted(self, twin: Twin) -> FloatArray:
        predicted = twin.predict(self._stimuli)
        signals: FloatArray = predicted[1:] - predicted[0]
        return signals

    def _difference(self, twin: Twin) -> FloatArray:
        left: FloatArray = self._signal - self._predicted(twin)
        return left

    def _residual(self, logarithms: FloatArray) -> FloatArray:
        weighted: FloatArray = self._difference(self._twin(np.exp(logarithms))) / self._sigma
        return weighted.ravel()

    def _left_by(self, twin: Twin) -> FloatArray:
        beyond = np.abs(self._difference(twin)) - 3.0 * self._sigma
        left: FloatArray = np.maximum(beyond, 0.0) / self._scale
        return left
