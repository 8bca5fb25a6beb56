"""Layers of digital weights with physical (or mathematical) activations between them, and the hybrid chain rule.

Forward, activations are whatever the neurons answer; backward, the error passes through the digital weights and through the
slopes that the neurons answered at the same drive (Acharya et al.): nothing about the device is modelled.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from hil.core.errors import ConfigError
from hil.core.types import RealArray
from hil.learn.neurons import Neurons
from hil.learn.output_loss import OutputLoss


class LayeredNetwork:
    """``sizes`` (inputs, hidden …, outputs). All parameters are views of one flat vector ``theta`` (n_parameters,).

    Weights start normal with standard deviation 1/√fan-in (LeCun et al., Efficient BackProp, 1998), biases at 0. The last layer
    is linear: its loss brings the output function.
    """

    def __init__(self, sizes: Sequence[int], rng: np.random.Generator, dtype: DTypeLike = np.float64) -> None:
        if len(sizes) < 2 or min(sizes) < 1:
            raise ConfigError(f"a network needs at least an input and an output layer of size 1 or more, not {list(sizes)}")
        self.sizes = tuple(sizes)
        pairs = list(zip(self.sizes, self.sizes[1:], strict=False))
        self.theta: RealArray = np.zeros(sum(a * b + b for a, b in pairs), dtype=dtype)
        self.weights, self.biases = self._views(self.theta)
        for weight in self.weights:
            weight[:] = rng.standard_normal(weight.shape) / np.sqrt(weight.shape[0])

    def _views(self, flat: RealArray) -> tuple[list[RealArray], list[RealArray]]:
        weights, biases, at = [], [], 0
        for a, b in zip(self.sizes, self.sizes[1:], strict=False):
            weights.append(flat[at : at + a * b].reshape(a, b))
            biases.append(flat[at + a * b : at + a * b + b])
            at += a * b + b
        return weights, biases

    def forward(self, x: RealArray, neurons: Neurons) -> RealArray:
        """Output pre-activations for inputs x (n, n_inputs): (n, n_outputs)."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = neurons.activate(x @ weight + bias).astype(self.theta.dtype, copy=False)
        return x @ self.weights[-1] + self.biases[-1]

    def gradient(
        self, x: RealArray, targets: RealArray, neurons: Neurons, loss: OutputLoss, out: RealArray | None = None
    ) -> tuple[float, RealArray]:
        """Mean loss over the batch and its gradient by ``theta`` (n_parameters,), by the hybrid chain rule."""
        flat = np.empty_like(self.theta) if out is None else out
        weights, biases = self._views(flat)
        activations, slopes = [x], []
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            z = activations[-1] @ weight
            z += bias
            activation, slope = neurons.respond(z)
            activations.append(activation.astype(self.theta.dtype, copy=False))
            slopes.append(slope.astype(self.theta.dtype, copy=False))
        outputs = activations[-1] @ self.weights[-1]
        outputs += self.biases[-1]
        value, error = loss(outputs, targets)
        for k in range(len(self.weights) - 1, -1, -1):
            np.matmul(activations[k].T, error, out=weights[k])
            error.sum(axis=0, out=biases[k])
            if k:
                error = error @ self.weights[k].T
                error *= slopes[k - 1]
        return value, flat
