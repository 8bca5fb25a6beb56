"""Losses of a network with digital outputs: value and gradient by the output pre-activations, averaged over the batch."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import RealArray


class OutputLoss(Protocol):
    """outputs, targets: (n, n_outputs); one-hot targets for classes."""

    def __call__(self, outputs: RealArray, targets: RealArray) -> tuple[float, RealArray]:
        """Mean loss and its gradient by ``outputs``; ``outputs`` may be used as scratch space."""
        ...


def cross_entropy(outputs: RealArray, targets: RealArray) -> tuple[float, RealArray]:
    """Softmax followed by the mean negative log-likelihood; gradient (softmax - target)/n."""
    outputs -= outputs.max(axis=1, keepdims=True)
    right = np.einsum("ij,ij->i", outputs, targets)
    np.exp(outputs, out=outputs)
    total = outputs.sum(axis=1, keepdims=True)
    value = float(np.mean(np.log(total[:, 0]) - right))
    outputs /= total
    outputs -= targets
    outputs /= outputs.dtype.type(len(outputs))
    return value, outputs


def squared_error(outputs: RealArray, targets: RealArray) -> tuple[float, RealArray]:
    """Half the squared distance, averaged over the batch; gradient (output - target)/n."""
    outputs -= targets
    value = float(0.5 * np.einsum("ij,ij->", outputs, outputs) / len(outputs))
    outputs /= outputs.dtype.type(len(outputs))
    return value, outputs


LOSSES: Mapping[str, OutputLoss] = {"cross_entropy": cross_entropy, "squared_error": squared_error}


def output_loss(name: str) -> OutputLoss:
    """By name; ConfigError names the losses there are."""
    try:
        return LOSSES[name]
    except KeyError:
        raise ConfigError(f"there is no loss {name!r}; known: {', '.join(LOSSES)}") from None
