"""I-V curves: directions, averages, and the figures computed from them, against known devices."""

import numpy as np
import pytest

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from hil.learn.iv_curve import (
    IVCurve,
    current_at_zero,
    directions,
    displacement_capacitance,
    hysteresis_area,
    noise_floor,
    rectification_ratio,
    zero_current_voltage,
)


def cyclic(points: int = 41, cycles: int = 1, top: float = 1.0) -> FloatArray:
    up = np.linspace(-top, top, points)
    return np.concatenate(
        [np.concatenate([up, up[-2::-1]]) if k == 0 else np.concatenate([up[1:], up[-2::-1]]) for k in range(cycles)]
    )


def test_a_cyclic_sweep_is_told_apart_into_branches_and_cycles() -> None:
    branch, cycle = directions(np.array([0.0, 1.0, 2.0, 1.0, 0.0, 1.0, 2.0, 1.0, 0.0]))
    assert branch.tolist() == ["up", "up", "up", "down", "down", "up", "up", "down", "down"]
    assert cycle.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_directions_of_short_and_constant_lists() -> None:
    assert directions(np.array([]))[0].tolist() == []
    assert directions(np.array([1.0]))[0].tolist() == ["up"]
    assert directions(np.array([1.0, 1.0]))[0].tolist() == ["up", "up"]
    assert directions(np.array([1.0, 1.0, 0.5, 0.5]))[0].tolist() == ["down"] * 4


def test_repeats_are_averaged_with_the_error_of_the_mean() -> None:
    curve = IVCurve.of([0, 1, 0, 1, 0, 1], [0.0, 1.0, 0.2, 1.2, 0.4, 1.4])
    voltage, mean, error = curve.averaged()
    np.testing.assert_allclose(voltage, [0, 1])
    np.testing.assert_allclose(mean, [0.2, 1.2])
    np.testing.assert_allclose(error, np.full(2, 0.2 / np.sqrt(3)))


def test_single_points_keep_the_error_they_were_told() -> None:
    assert IVCurve.of([0, 1], [0, 1], [0.1, 0.2]).averaged()[2].tolist() == [0.1, 0.2]


def test_compliance_and_nan_are_never_averaged() -> None:
    curve = IVCurve.of([0, 1, 2, 3], [0.0, 1.0, np.nan, 2.5])
    limited = curve.limited.copy()
    limited[3] = True
    cut = IVCurve(curve.voltage, curve.current, curve.current_std, curve.branch, curve.cycle, limited, curve.time, source="run 7")
    assert cut.averaged()[0].tolist() == [0, 1]


def test_figures_of_a_resistor_with_an_offset() -> None:
    voltage = cyclic()
    curve = IVCurve.of(voltage, (voltage - 0.1) / 1e3)
    assert zero_current_voltage(curve) == pytest.approx(0.1)
    assert current_at_zero(curve) == pytest.approx(-1e-4)
    assert hysteresis_area(curve) == pytest.approx(0.0, abs=1e-18)
    assert rectification_ratio(curve) == pytest.approx(1.1 / 0.9)
    assert rectification_ratio(curve, at=0.5) == pytest.approx(0.6 / 0.4)


def test_figures_that_do_not_exist_are_nan() -> None:
    curve = IVCurve.of([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert np.isnan(zero_current_voltage(curve))
    assert np.isnan(current_at_zero(curve))
    assert np.isnan(rectification_ratio(curve))


def test_hysteresis_area_of_a_parallelogram() -> None:
    voltage = cyclic()
    branch, _ = directions(voltage)
    curve = IVCurve.of(voltage, voltage + np.where(branch == "up", 0.1, -0.1))
    # the turning point belongs to both branches, so the last half step of the parallelogram closes to a point
    assert hysteresis_area(curve) == pytest.approx(0.2 * (2.0 - 0.05 / 2))


def test_displacement_capacitance_separates_from_true_hysteresis_and_is_removed() -> None:
    voltage, capacitance = cyclic(201), 1e-10
    branch, _ = directions(voltage)
    sign = np.where(branch == "up", 1.0, -1.0)
    curves = [
        IVCurve.of(voltage, voltage * 1e-11 + sign * (capacitance * rate + 2e-12), sweep_rate=rate, source=f"{rate} V/s")
        for rate in (0.1, 0.4)
    ]
    assert displacement_capacitance(*curves) == pytest.approx(capacitance, rel=1e-9)
    corrected = curves[1].without_displacement(capacitance)
    np.testing.assert_allclose(corrected.current, voltage * 1e-11 + sign * 2e-12, atol=1e-22)
    assert "1e-10 F removed" in corrected.repairs[0]
    with pytest.raises(ConfigError, match="different sweep rates"):
        displacement_capacitance(curves[0], curves[0])
    with pytest.raises(ConfigError, match="known sweep rate"):
        IVCurve.of(voltage, voltage).without_displacement(1e-10)


def test_noise_floor_from_repeats_and_from_neighbours() -> None:
    rng = np.random.default_rng(1)
    repeats = np.tile(np.linspace(0, 1, 21), 200)
    assert noise_floor(IVCurve.of(repeats, 3 * repeats + rng.normal(0, 0.01, len(repeats)))) == pytest.approx(0.01, rel=0.05)
    once = np.linspace(0, 1, 4001)
    assert noise_floor(IVCurve.of(once, np.sin(once) + rng.normal(0, 0.01, len(once)))) == pytest.approx(0.01, rel=0.05)
    assert np.isnan(noise_floor(IVCurve.of([0.0, 1.0], [0.0, 1.0])))


def test_a_blank_run_is_subtracted_inside_its_range_only() -> None:
    voltage = cyclic(11)
    curve = IVCurve.of(voltage, 2 * voltage + 0.3, source="device")
    blank = IVCurve.of(voltage, np.full(len(voltage), 0.3), np.full(len(voltage), 0.01), source="blank")
    difference = curve.minus(blank)
    np.testing.assert_allclose(difference.current, 2 * voltage, atol=1e-15)
    assert np.all(difference.current_std > 0)
    with pytest.raises(ConfigError, match=r"blank run covers -0\.5 … 0\.5 V on branch .down.*a point at 0\.8 V"):
        curve.minus(IVCurve.of(cyclic(11, top=0.5), np.zeros(21)))


def test_bad_columns_are_refused() -> None:
    with pytest.raises(ConfigError, match="as many currents as voltages"):
        IVCurve.of([0, 1], [0])
    curve = IVCurve.of([0.0, 1.0], [0.0, 1.0])
    with pytest.raises(ConfigError, match="one current_std for each"):
        IVCurve(curve.voltage, curve.current, np.zeros(3), curve.branch, curve.cycle, curve.limited, curve.time)
    with pytest.raises(ConfigError, match="neither 'up' nor 'down'"):
        IVCurve(
            curve.voltage, curve.current, curve.current_std, np.array(["up", "sideways"]), curve.cycle, curve.limited, curve.time
        )
    with pytest.raises(ConfigError, match="no point on branch 'down'"):
        curve.select("down")
