"""Layers of digital weights with device activations: the chain rule is exact for every kind of neuron."""

import numpy as np
import pytest

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from hil.learn.activation import Activation
from hil.learn.layered_network import LayeredNetwork
from hil.learn.minibatch import Recipe, accuracy, one_hot, train
from hil.learn.neurons import DeviceNeurons, Drive, Neurons, ReLU, TabulatedNeurons, Tanh
from hil.learn.output_loss import cross_entropy, output_loss, squared_error
from hil.learn.schedule import schedule
from hil.learn.slope import CurveSlope

GRID = np.linspace(-2.0, 2.0, 401)
CURVE = Activation(GRID, 1e-6 * np.tanh(0.92 * GRID) / np.tanh(1.84))
DRIVE = Drive(gain=0.5, v_max=2.0, i_max=1e-6)


def data(n: int = 40, rng: int = 0) -> tuple[FloatArray, FloatArray]:
    generator = np.random.default_rng(rng)
    return generator.normal(size=(n, 4)), one_hot(generator.integers(0, 3, n), np.arange(3))


@pytest.mark.parametrize("loss", [cross_entropy, squared_error], ids=["cross_entropy", "squared_error"])
@pytest.mark.parametrize(
    "neurons",
    [Tanh(), ReLU(), TabulatedNeurons(CURVE, DRIVE), DeviceNeurons(CurveSlope(CURVE), DRIVE)],
    ids=["tanh", "relu", "tabulated", "device"],
)
def test_the_gradient_is_that_of_the_loss(neurons: Neurons, loss: object) -> None:
    assert callable(loss)
    x, y = data()
    network = LayeredNetwork([4, 5, 3, 3], np.random.default_rng(2))
    _, gradient = network.gradient(x, y, neurons, loss)
    numeric = np.zeros_like(gradient)
    for k in range(len(gradient)):
        values = []
        for step in (1e-6, -2e-6):
            network.theta[k] += step
            values.append(loss(network.forward(x, neurons), y)[0])
        network.theta[k] += 1e-6
        numeric[k] = (values[0] - values[1]) / 2e-6
    # a kink of the table inside ± 1e-6 of a pre-activation may show; the spline and tanh have none
    np.testing.assert_allclose(gradient, numeric, atol=2e-5)


def test_single_and_double_precision_agree() -> None:
    table = TabulatedNeurons(CURVE, DRIVE)
    z = np.random.default_rng(0).normal(size=(50, 7)) * 2
    single, double = table.respond(z.astype(np.float32)), table.respond(z)
    assert single[0].dtype == np.float32
    np.testing.assert_allclose(single[0], double[0], atol=2e-6)
    np.testing.assert_allclose(single[1], double[1], atol=2e-3)


def test_a_clipped_drive_has_no_slope_and_the_table_follows_the_curve() -> None:
    z = np.array([-5.0, -1.0, 0.3, 1.9, 2.1, 5.0])
    for neurons in (TabulatedNeurons(CURVE, DRIVE), DeviceNeurons(CurveSlope(CURVE), DRIVE)):
        value, slope = neurons.respond(z)
        np.testing.assert_allclose(value, CURVE(np.clip(z, -2, 2)) / 1e-6, atol=1e-5)
        assert slope[0] == slope[4] == slope[5] == 0.0
        np.testing.assert_allclose(slope[1:4], CURVE.slope(z[1:4]) / 1e-6, rtol=2e-3)


def test_readings_are_counted() -> None:
    neurons = DeviceNeurons(CurveSlope(CURVE), DRIVE)
    neurons.meter.readings_per_point = 4
    neurons.respond(np.zeros((10, 2)))
    assert neurons.readings == 80


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rate_schedule", ["constant", "linear", "cosine"])
def test_training_learns_and_repeats_exactly(dtype: type, rate_schedule: str) -> None:
    generator = np.random.default_rng(1)
    centres = generator.normal(size=(3, 4)) * 3
    labels = generator.integers(0, 3, 150)
    x, y = centres[labels] + generator.normal(size=(150, 4)), one_hot(labels, np.arange(3))
    results = []
    for _ in range(2):
        network = LayeredNetwork([4, 6, 3], np.random.default_rng(3), dtype)
        recipe = Recipe(30, 16, 0.02, schedule=rate_schedule)
        losses = [done.loss for done in train(network, TabulatedNeurons(CURVE, DRIVE), x, y, recipe, np.random.default_rng(4))]
        assert losses[-1] < 0.5 * losses[0]
        assert accuracy(network.forward(x.astype(dtype), TabulatedNeurons(CURVE, DRIVE)), y) > 0.9
        results.append(network.theta.copy())
    np.testing.assert_array_equal(results[0], results[1])


def test_plain_descent_with_a_schedule_scales_each_step() -> None:
    x, y = data(8)
    one, two = (LayeredNetwork([4, 2, 3], np.random.default_rng(3)) for _ in range(2))
    recipe = Recipe(1, 8, 0.1, optimiser="gradient_descent", loss="squared_error")
    start = one.theta.copy()
    list(train(one, Tanh(), x, y, recipe, np.random.default_rng(0)))
    _, gradient = two.gradient(x, y, Tanh(), squared_error)
    np.testing.assert_allclose(one.theta, start - 0.1 * gradient, rtol=1e-10)
    assert [schedule("linear")(f) for f in (0.0, 0.5, 1.0)] == [1.0, 0.5, 0.0]


def test_dropout_keeps_the_mean_and_changes_the_path() -> None:
    x, y = data(64)
    paths = []
    for dropout in (0.0, 0.5):
        network = LayeredNetwork([4, 5, 3], np.random.default_rng(3))
        list(train(network, Tanh(), x, y, Recipe(3, 8, 0.01, dropout=dropout), np.random.default_rng(0)))
        paths.append(network.theta.copy())
    assert not np.allclose(paths[0], paths[1])


def test_what_does_not_fit_is_refused() -> None:
    rng = np.random.default_rng(0)
    x, y = data()
    network = LayeredNetwork([4, 2, 3], rng)
    with pytest.raises(ConfigError, match="cannot learn inputs"):
        next(train(network, Tanh(), x[:, :3], y, Recipe(1, 8, 0.1), rng))
    bad = x.copy()
    bad[3, 1] = np.nan
    with pytest.raises(ConfigError, match="not finite"):
        next(train(network, Tanh(), bad, y, Recipe(1, 8, 0.1), rng))
    with pytest.raises(ConfigError, match="at least an input and an output"):
        LayeredNetwork([4], rng)
    for wrong in (
        {"epochs": -1},
        {"batch": 0},
        {"dropout": 1.0},
        {"learning_rate": 0.0},
        {"loss": "hinge"},
        {"schedule": "warm"},
    ):
        settings: dict[str, object] = {"epochs": 1, "batch": 1, "learning_rate": 0.1, **wrong}
        with pytest.raises(ConfigError):
            Recipe(**settings)
    with pytest.raises(ConfigError, match="known: cross_entropy, squared_error"):
        output_loss("hinge")
    with pytest.raises(ConfigError, match="gain must be above 0"):
        Drive(0.0, 1.0, 1.0)
    with pytest.raises(ConfigError, match="at least 2 cells"):
        TabulatedNeurons(CURVE, DRIVE, cells=1)
