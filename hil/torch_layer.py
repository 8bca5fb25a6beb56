"""A layer of device neurons inside a PyTorch model (optional: the extra ``torch``).

Forward answers what the neurons answer, backward multiplies by the slopes that were answered at the same drive: measured
ones when the neurons are measured. Nothing is differentiated twice.
"""

from typing import Any

import numpy as np

from hil.core.errors import ConfigError
from hil.learn.neurons import Neurons

try:
    import torch
except ImportError as error:
    raise ConfigError("hil.torch_layer needs PyTorch; pip install 'memristor-hil[torch]'") from error

__all__ = ["DeviceActivation", "device_activation"]


class _Measured(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: torch.Tensor, neurons: Neurons) -> torch.Tensor:
        value, slope = neurons.respond(z.detach().cpu().numpy())
        ctx.save_for_backward(torch.from_numpy(np.ascontiguousarray(slope)).to(z))
        return torch.from_numpy(np.ascontiguousarray(value)).to(z)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[torch.Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grad_outputs[0] * slope, None


def device_activation(z: torch.Tensor, neurons: Neurons) -> torch.Tensor:
    """Activation of every element of ``z`` (any shape, dtype and device) by ``neurons``, with their slopes as gradient."""
    result: torch.Tensor = _Measured.apply(z, neurons)  # type: ignore[no-untyped-call] # torch leaves `apply` untyped
    return result


class DeviceActivation(torch.nn.Module):
    """``device_activation`` as a module: put it where ``torch.nn.Tanh()`` stood. It has no parameters of its own."""

    def __init__(self, neurons: Neurons) -> None:
        super().__init__()
        self.neurons = neurons

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Activations, the shape of ``z``."""
        return device_activation(z, self.neurons)
