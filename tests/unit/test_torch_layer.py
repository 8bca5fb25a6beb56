"""A device layer inside a PyTorch model: the gradient that arrives is the slope that was answered."""

import numpy as np
import pytest

from hil.learn.families import family_activation
from hil.learn.neurons import Drive, TabulatedNeurons

torch = pytest.importorskip("torch", reason="PyTorch is an optional extra")


def neurons() -> TabulatedNeurons:
    return TabulatedNeurons(family_activation("tanh"), Drive(0.5, 1.0, 1.0))


def test_forward_and_backward_are_what_the_neurons_answer() -> None:
    from hil.torch_layer import device_activation

    z = torch.linspace(-3.0, 3.0, 41, dtype=torch.float64, requires_grad=True)
    out = device_activation(z, neurons())
    out.sum().backward()
    value, slope = neurons().respond(z.detach().numpy())
    np.testing.assert_array_equal(out.detach().numpy(), value)
    np.testing.assert_array_equal(z.grad.numpy(), slope)
    assert np.all(slope[np.abs(z.detach().numpy()) > 2.0] == 0.0)


def test_a_model_with_device_layers_learns_what_a_line_cannot() -> None:
    from hil.torch_layer import DeviceActivation

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 8), DeviceActivation(neurons()), torch.nn.Linear(8, 1))
    x = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    y = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.01
    assert model(x).dtype == torch.float32
