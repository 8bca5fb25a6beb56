"""Gradient estimators on formulas: no backend in sight."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from hil.learn.gradients.base import Evaluations, GradientEstimate
from hil.learn.gradients.central_difference import CentralDifference
from hil.learn.gradients.forward_difference import ForwardDifference
from hil.learn.gradients.registry import gradient_estimator, names

LOWER, UPPER = np.full(3, -10.0), np.full(3, 10.0)
numbers = st.floats(-4.0, 4.0)
vectors = st.lists(numbers, min_size=3, max_size=3).map(np.array)


def answered(
    method: str, step: float, theta: FloatArray, cost: Callable[[FloatArray], float], std: float = 0.0
) -> tuple[GradientEstimate, FloatArray]:
    """The gradient a method finds for ``cost``, and all its probes."""
    plan = gradient_estimator(method, np.full(len(theta), step), LOWER, UPPER).estimate(theta, np.random.default_rng(0))
    seen = []
    try:
        probes = next(plan)
        while True:
            seen.append(probes.points)
            count = len(probes.points)
            losses = np.array([cost(point) for point in probes.points])
            probes = plan.send(Evaluations(losses, np.full(count, std), np.zeros((count, 1, 1)), np.zeros(count)))
    except StopIteration as done:
        return done.value, np.concatenate(seen)


@given(st.lists(vectors, min_size=3, max_size=3).map(np.array), vectors, vectors, st.floats(1e-3, 1.0))
def test_central_differences_are_exact_on_quadratics(
    matrix: FloatArray, linear: FloatArray, theta: FloatArray, step: float
) -> None:
    exact = (matrix + matrix.T) @ theta + linear
    found, probes = answered("central_difference", step, theta, lambda w: float(w @ matrix @ w + linear @ w))
    np.testing.assert_allclose(found.value, exact, rtol=1e-8, atol=2e-13 * 1e3 / step)
    assert len(probes) == 6


@given(vectors, st.floats(1e-3, 1.0))
def test_forward_differences_miss_a_quadratic_by_half_the_step_times_its_curvature(theta: FloatArray, step: float) -> None:
    curvature = np.array([2.0, 6.0, 10.0])
    found, probes = answered("forward_difference", step, theta, lambda w: float(0.5 * curvature @ w**2))
    np.testing.assert_allclose(found.value, curvature * theta + 0.5 * step * curvature, rtol=1e-8, atol=1e-13 * 1e3 / step)
    np.testing.assert_array_equal(probes[0], theta)
    assert len(probes) == 4


@pytest.mark.parametrize("method", ["forward_difference", "central_difference"])
@given(theta=st.lists(st.floats(-10.0, 10.0), min_size=3, max_size=3).map(np.array), step=st.floats(1e-6, 9.0))
def test_no_probe_leaves_the_limits(method: str, theta: FloatArray, step: float) -> None:
    _, probes = answered(method, step, theta, lambda w: float(w.sum()))
    assert np.all((probes >= LOWER) & (probes <= UPPER))


@pytest.mark.parametrize("method", ["forward_difference", "central_difference"])
@pytest.mark.parametrize("corner", [LOWER, UPPER])
def test_on_a_limit_a_linear_cost_still_has_its_gradient(method: str, corner: FloatArray) -> None:
    slope = np.array([1.0, -2.0, 3.0])
    found, _ = answered(method, 0.5, corner, lambda w: float(slope @ w))
    np.testing.assert_allclose(found.value, slope, rtol=1e-12)


@pytest.mark.parametrize(("method", "width"), [("forward_difference", 0.1), ("central_difference", 0.2)])
def test_the_reported_std_is_that_of_a_difference_of_two_readings(method: str, width: float) -> None:
    found, _ = answered(method, 0.1, np.zeros(3), lambda w: 0.0, std=0.01)
    np.testing.assert_allclose(found.std, np.sqrt(2) * 0.01 / width)


@pytest.mark.parametrize("kind", [ForwardDifference, CentralDifference])
@pytest.mark.parametrize("step", [0.0, -1.0, np.nan, np.inf])
def test_a_step_that_is_none_is_refused(kind: type[ForwardDifference] | type[CentralDifference], step: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and finite"):
        kind(np.full(3, step), LOWER, UPPER)


def test_a_step_wider_than_half_the_range_is_refused_and_the_weight_is_numbered() -> None:
    with pytest.raises(ConfigError, match="weight number 2"):
        gradient_estimator("central_difference", np.array([1.0, 11.0, 1.0]), LOWER, UPPER)


def test_the_registry_names_what_there_is() -> None:
    assert {"forward_difference", "central_difference"} <= set(names())
    with pytest.raises(ConfigError, match="central_difference, forward_difference"):
        gradient_estimator("backward", np.ones(3), LOWER, UPPER)
    with pytest.raises(ConfigError, match="radius"):
        gradient_estimator("forward_difference", np.ones(3), LOWER, UPPER, radius=1.0)
