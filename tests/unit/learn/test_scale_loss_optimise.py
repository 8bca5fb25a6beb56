"""Scales, losses and optimisers against values worked out by hand."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.core.errors import ConfigError
from hil.core.safety import SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity
from hil.learn.loss import MeanSquaredError, SummedSquaredError
from hil.learn.optimise import Adam, GradientDescent, Momentum, optimiser
from hil.learn.scale import Scale, Scaling


def envelope(*ranges: tuple[float, float]) -> SafetyEnvelope:
    return SafetyEnvelope.of(
        Layout(tuple(Channel(f"L{k}", Quantity.LENGTH, Kind.TUNE, low, high) for k, (low, high) in enumerate(ranges)))
    )


@given(st.floats(0.0, 1.0), st.sampled_from(list(Scaling)))
def test_a_scale_and_its_inverse_agree_and_stay_inside(theta: float, scaling: Scaling) -> None:
    scale = Scale(np.array([2e-6]), np.array([1e-4]), scaling)
    coordinate = scale.lower + theta * (scale.upper - scale.lower)
    value = scale.to_si(coordinate)
    assert scale.minimum[0] <= value[0] <= scale.maximum[0]
    np.testing.assert_allclose(scale.to_theta(value), coordinate, rtol=1e-12, atol=1e-12)


def test_linear_and_logarithmic_middles_are_the_two_means() -> None:
    low, high = np.array([1e-6]), np.array([1e-4])
    assert Scale(low, high, Scaling.LINEAR).to_si(np.array([0.5]))[0] == pytest.approx(50.5e-6)
    assert Scale(low, high, Scaling.LOG).to_si(np.array([0.5]))[0] == pytest.approx(1e-5)
    assert Scale(low, high, Scaling.SI).to_si(np.array([3e-5]))[0] == 3e-5


def test_a_scale_needs_finite_limits_and_says_which_channel_has_none() -> None:
    open_ended = envelope((1e-6, 1e-4), (0.0, np.inf))
    with pytest.raises(ConfigError, match="'L1'"):
        Scale.of(open_ended, ["L0", "L1"], Scaling.LINEAR)
    with pytest.raises(ConfigError, match="lower limit above 0"):
        Scale.of(envelope((0.0, 1e-4)), ["L0"], Scaling.LOG)
    assert Scale.of(open_ended, ["L1"], Scaling.SI).upper[0] == np.inf


def test_a_tightened_envelope_tightens_the_scale() -> None:
    wide = envelope((1e-6, 1e-4))
    tight = SafetyEnvelope(wide.layout, np.array([2e-6]), np.array([5e-5]), wide.max_slew)
    scale = Scale.of(wide.narrowed(tight), ["L0"], Scaling.LINEAR)
    assert (scale.minimum[0], scale.maximum[0]) == (2e-6, 5e-5)


def test_the_summed_squared_error_of_a_batch_and_its_gradient() -> None:
    outputs, targets = np.array([[1.0, 2.0], [0.0, 4.0]]), np.array([[0.0, 2.0], [2.0, 1.0]])
    assert SummedSquaredError().value(outputs, targets) == 1.0 + 0.0 + 4.0 + 9.0
    assert MeanSquaredError().value(outputs, targets) == 14.0 / 4
    np.testing.assert_array_equal(SummedSquaredError().gradient(outputs, targets), [[2.0, 0.0], [-4.0, 6.0]])
    np.testing.assert_array_equal(MeanSquaredError().gradient(outputs, targets), [[0.5, 0.0], [-1.0, 1.5]])


@pytest.mark.parametrize("error", [0.0, 0.002, 0.1])
def test_the_standard_error_of_the_cost_is_what_drawn_readings_scatter_by(error: float) -> None:
    rng = np.random.default_rng(1)
    noise = np.array([[1e-3, 3e-3]])
    targets = np.zeros((1, 2))
    drawn = error + noise * rng.standard_normal((200_000, 1, 2))
    for loss in (SummedSquaredError(), MeanSquaredError()):
        predicted = loss.std(np.full((1, 2), error), noise, targets)
        assert predicted == pytest.approx(loss.value(drawn, targets).std(), rel=0.02)


def test_gradient_descent_and_momentum_by_hand() -> None:
    theta, gradient = np.array([1.0, 2.0]), np.array([0.5, -1.0])
    np.testing.assert_allclose(GradientDescent(0.1).step(theta, gradient), [0.95, 2.1], rtol=1e-15)
    ball = Momentum(0.1, beta=0.5)
    once = ball.step(theta, gradient)
    np.testing.assert_allclose(once, [0.95, 2.1], rtol=1e-15)
    # v = 0.5 * (0.5, -1) + (0.5, -1) = (0.75, -1.5)
    np.testing.assert_allclose(ball.step(once, gradient), [0.875, 2.25], rtol=1e-15)


def test_adam_by_hand() -> None:
    adam = Adam(0.1, beta1=0.9, beta2=0.99, epsilon=0.0)
    theta = np.array([1.0, -1.0])
    once = adam.step(theta, np.array([0.3, -7.0]))
    np.testing.assert_allclose(once, [0.9, -0.9], rtol=1e-14)  # the first step is the rate, whatever the gradient
    # g = (0.1, 7): m = 0.9·0.1·g1 + 0.1·g2, v = 0.99·0.01·g1² + 0.01·g2², corrected by 1-0.81 and 1-0.9801
    mean = np.array([0.09 * 0.3 + 0.1 * 0.1, 0.09 * -7.0 + 0.1 * 7.0]) / 0.19
    spread = np.sqrt(np.array([0.0099 * 0.09 + 0.01 * 0.01, 0.0099 * 49 + 0.01 * 49]) / 0.0199)
    np.testing.assert_allclose(adam.step(once, np.array([0.1, 7.0])), once - 0.1 * mean / spread, rtol=1e-13)


def test_adam_leaves_a_coordinate_without_gradient_alone() -> None:
    moved = Adam(0.1, epsilon=0.0).step(np.array([1.0, 1.0]), np.array([0.0, 1.0]))
    assert moved[0] == 1.0
    assert moved[1] == pytest.approx(0.9)


@pytest.mark.parametrize("name", ["gradient_descent", "momentum", "adam"])
def test_an_optimiser_continues_from_its_saved_state_bit_for_bit(name: str) -> None:
    gradients = np.random.default_rng(2).standard_normal((6, 3))
    through, first = optimiser(name, 0.05), optimiser(name, 0.05)
    theta = np.ones(3)
    for gradient in gradients:
        theta = through.step(theta, gradient)
    half = np.ones(3)
    for gradient in gradients[:3]:
        half = first.step(half, gradient)
    second = optimiser(name, 0.05)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for gradient in gradients[3:]:
        half = second.step(half, gradient)
    np.testing.assert_array_equal(half, theta)


@pytest.mark.parametrize(
    ("name", "rate", "options", "said"),
    [
        ("sgd", 0.1, {}, "gradient_descent, momentum, adam"),
        ("momentum", 0.1, {"nesterov": 1.0}, "nesterov"),
        ("momentum", 0.1, {"beta": 1.0}, "beta"),
        ("adam", 0.1, {"epsilon": -1.0}, "epsilon"),
        ("adam", 0.0, {}, "above 0"),
        ("adam", float("nan"), {}, "above 0"),
    ],
)
def test_a_wrong_optimiser_is_refused(name: str, rate: float, options: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        optimiser(name, rate, **options)
