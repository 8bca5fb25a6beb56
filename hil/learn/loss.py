"""Losses: how far the outputs are from their targets, with the standard error that the readings leave."""

from typing import Protocol

import numpy as np

from hil.core.types import FloatArray


class Loss(Protocol):
    """Shapes: outputs (..., n_inputs, n_outputs), targets (n_inputs, n_outputs), results (...,)."""

    def value(self, outputs: FloatArray, targets: FloatArray) -> FloatArray:
        """The cost, in the squared unit of the outputs."""
        ...

    def std(self, outputs: FloatArray, noise: FloatArray, targets: FloatArray) -> FloatArray:
        """Standard error of the cost, for outputs with standard errors ``noise`` (shape of ``outputs`` or ``targets``)."""
        ...

    def gradient(self, outputs: FloatArray, targets: FloatArray) -> FloatArray:
        """Derivative of the cost by every output, (..., n_inputs, n_outputs)."""
        ...


class SummedSquaredError:
    """C = Σ (V - V^D)² over all inputs and outputs (Conte et al., the cost of their finite-difference training)."""

    def value(self, outputs: FloatArray, targets: FloatArray) -> FloatArray:
        """C, (...,)."""
        result: FloatArray = np.sum((outputs - targets) ** 2, axis=(-2, -1))
        return result

    def std(self, outputs: FloatArray, noise: FloatArray, targets: FloatArray) -> FloatArray:
        """√Σ(4 e² σ² + 2 σ⁴): exact for independent normal errors σ of the outputs, also where e = 0."""
        error = outputs - targets
        result: FloatArray = np.sqrt(np.sum(4.0 * error**2 * noise**2 + 2.0 * noise**4, axis=(-2, -1)))
        return result

    def gradient(self, outputs: FloatArray, targets: FloatArray) -> FloatArray:
        """2 (V - V^D)."""
        result: FloatArray = 2.0 * (outputs - targets)
        return result


class MeanSquaredError:
    """The summed squared error divided by the number of inputs times outputs."""

    def __init__(self) -> None:
        self._sum = SummedSquaredError()

    def value(self, outputs: FloatArray, targets: FloatArray) -> FloatArray:
        """Mean of (V - V^D)², (...,)."""
        return self._sum.value(outputs, targets) / np.size(targets)

    def std(self, outputs: FloatArray, noise: FloatArray, targets: FloatArray) -> FloatArray:
        """Standard error of that mean, (...,)."""
        return self._sum.std(outputs, noise, targets) / np.size(targets)

    def gradient(self, outputs: FloatArray, targets: FloatArray) -> FloatArray:
        """2 (V - V^D) / (n_inputs n_outputs)."""
        return self._sum.gradient(outputs, targets) / np.size(targets)
