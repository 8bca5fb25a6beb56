"""From a measured curve to an activation: nothing is extrapolated or repaired in silence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.core.errors import ConfigError, LimitExceededError
from hil.core.types import FloatArray
from hil.learn.activation import Activation, Outside
from hil.learn.iv_curve import IVCurve

GRID = np.linspace(-1, 1, 41)


def sinh(v: FloatArray) -> FloatArray:
    return np.sinh(2.5 * v) / np.sinh(2.5)


def both_ways(noise: float = 0.0) -> IVCurve:
    voltage = np.concatenate([GRID, GRID[-2::-1]])
    current = sinh(voltage) + np.random.default_rng(0).normal(0, noise, len(voltage)) if noise else sinh(voltage)
    return IVCurve.of(voltage, current, np.full(len(voltage), noise), source="run 3")


def test_values_and_slopes_follow_the_device() -> None:
    activation = Activation.from_curve(both_ways())
    v = np.linspace(-0.95, 0.95, 77)
    np.testing.assert_allclose(activation(v), sinh(v), atol=2e-4)
    np.testing.assert_allclose(activation.slope(v), 2.5 * np.cosh(2.5 * v) / np.sinh(2.5), rtol=0.03)
    assert activation.range == (-1.0, 1.0)
    assert activation.repairs == ()


@given(st.lists(st.floats(0, 1), min_size=5, max_size=30))
def test_the_interpolant_rises_wherever_the_points_do(steps: list[float]) -> None:
    current = np.cumsum(steps)
    activation = Activation(np.arange(len(current), dtype=float), current)
    fine = activation(np.linspace(0, len(current) - 1, 400))
    assert np.all(np.diff(fine) >= -1e-12 * max(1.0, float(current[-1])))


def test_slope_is_the_derivative_of_the_value() -> None:
    activation = Activation.from_curve(both_ways())
    v, h = np.linspace(-0.9, 0.9, 31) + 0.003, 1e-6
    np.testing.assert_allclose(activation.slope(v), (activation(v + h) - activation(v - h)) / (2 * h), rtol=1e-6)


def test_outside_is_clipped_with_no_slope_continued_or_refused() -> None:
    v = np.array([-2.0, 0.0, 2.0])
    clip = Activation.from_curve(both_ways(), outside=Outside.CLIP)
    np.testing.assert_allclose(clip(v)[[0, 2]], [-1, 1])
    assert clip.slope(v)[0] == clip.slope(v)[2] == 0.0
    assert clip.slope(np.array([1.0]))[0] > 0
    linear = Activation.from_curve(both_ways(), outside=Outside.LINEAR)
    np.testing.assert_allclose(linear(v)[2], 1 + linear.slope(np.array([1.0]))[0])
    with pytest.raises(LimitExceededError, match=r"-2 V lies outside the measured range -1 … 1 V"):
        Activation.from_curve(both_ways(), outside=Outside.RAISE)(v)
    with pytest.raises(LimitExceededError, match="not finite"):
        clip(np.array([np.nan]))


def test_points_in_compliance_and_nan_are_left_out_and_told() -> None:
    curve = both_ways()
    current, limited = curve.current.copy(), curve.voltage > 0.8
    current[3] = np.nan
    cut = IVCurve(curve.voltage, current, curve.current_std, curve.branch, curve.cycle, limited, curve.time, source="run 4")
    activation = Activation.from_curve(cut, branch="up")
    assert activation.range[1] == pytest.approx(0.8)
    assert activation.repairs == ("1 points that are not finite left out", "7 points in compliance left out")


def test_a_missing_branch_is_refused_for_the_mean_but_not_for_the_other() -> None:
    up_only = IVCurve.of(GRID, sinh(GRID), source="run 5")
    with pytest.raises(ConfigError, match=r"run 5.*only \['up'\] branch"):
        Activation.from_curve(up_only)
    assert Activation.from_curve(up_only, branch="up").range == (-1.0, 1.0)
    with pytest.raises(ConfigError, match="no point on branch 'down'"):
        Activation.from_curve(up_only, branch="down")
    with pytest.raises(ConfigError, match="choose 'up', 'down' or 'mean'"):
        Activation.from_curve(up_only, branch="left")


def test_too_few_points_are_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match=r"run 6: 3 usable voltages.*at least 5"):
        Activation.from_curve(IVCurve.of([0, 1, 2], [0, 1, 2], source="run 6"), branch="up")


def test_noise_against_the_slope_is_repaired_and_told_but_a_real_drop_is_refused() -> None:
    rng = np.random.default_rng(3)
    voltage = np.tile(np.linspace(-1, 1, 201), 2)
    noisy = IVCurve.of(voltage, 0.05 * voltage + rng.normal(0, 0.002, len(voltage)), np.full(len(voltage), 0.002), source="run 8")
    activation = Activation.from_curve(noisy, branch="up")
    assert np.all(np.diff(activation(np.linspace(-1, 1, 999))) >= 0)
    assert any("to make the current rise" in note for note in activation.repairs)
    with pytest.raises(ConfigError, match="the current falls above"):
        Activation.from_curve(noisy, branch="up", monotone="require")
    dip = IVCurve.of(GRID, GRID - 1.5 * np.exp(-(((GRID - 0.3) / 0.1) ** 2)), np.full(41, 0.001), source="run 9")
    with pytest.raises(ConfigError, match=r"run 9: the current falls near .* standard errors"):
        Activation.from_curve(dip, branch="up")
    assert Activation.from_curve(dip, branch="up", monotone="allow").slope(np.array([0.25]))[0] < 0


def test_bad_points_are_refused() -> None:
    with pytest.raises(ConfigError, match="rise strictly"):
        Activation(np.array([0.0, 1, 1, 2, 3]), np.arange(5.0))
    with pytest.raises(ConfigError, match="not finite"):
        Activation(np.arange(5.0), np.array([0, 1, np.nan, 2, 3]))
    with pytest.raises(ConfigError, match="at least 5 points"):
        Activation(np.arange(4.0), np.arange(4.0))
