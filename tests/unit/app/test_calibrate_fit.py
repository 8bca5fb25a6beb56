"""Offsets, gains and ratios from readings that are known: values and standard errors."""

import numpy as np
import pytest

from hil.calibrate_fit import line, linear, ratio
from hil.core.types import FloatArray


def test_a_line_without_noise_is_found_exactly() -> None:
    x = np.array([0.0, 0.25, 0.5, 1.0])
    found = line(x, -3e-3 + 1.0002 * x)
    assert (found.offset, found.gain) == pytest.approx((-3e-3, 1.0002), abs=1e-12)
    assert found.offset_std < 1e-12


def test_standard_errors_are_what_repetition_shows() -> None:
    rng = np.random.default_rng(5)
    x = np.linspace(-0.5, 0.5, 11)
    fits = [line(x, 1e-3 + 0.999 * x + rng.normal(0.0, 1e-4, len(x))) for _ in range(2000)]
    offsets, gains = np.array([fit.offset for fit in fits]), np.array([fit.gain for fit in fits])
    assert np.std(offsets) == pytest.approx(np.mean([fit.offset_std for fit in fits]), rel=0.06)
    assert np.std(gains) == pytest.approx(np.mean([fit.gain_std for fit in fits]), rel=0.06)
    assert np.mean(offsets) == pytest.approx(1e-3, abs=4e-6)


def test_two_sources_that_always_move_together_share_their_effect() -> None:
    level = np.array([0.0, 0.5, 1.0, 0.5, 0.0])
    found, covariance, _ = linear(np.column_stack([level, level]), 2.0 + 4.0 * level)
    assert found == pytest.approx([2.0, 2.0, 2.0])
    assert np.all(np.isfinite(covariance))


LEVELS = np.array(
    [(0, 0), (0.1, 0.1), (0.2, 0.2), (0.1, 0.2), (0.2, 0.1), (-0.1, -0.1), (-0.2, -0.2), (-0.1, -0.2), (-0.2, -0.1)]
)


def pair(mismatch: float, noise: float, seed: int = 3, looks: int = 12) -> tuple[FloatArray, FloatArray]:
    """Currents of two devices of 50 uS that bend, each with its own offsets of voltage and current."""
    rng = np.random.default_rng(seed)

    def device(factor: float, levels: FloatArray, volt: float, ampere: float) -> FloatArray:
        clean = factor * 5e-5 * np.tanh(levels + volt) + ampere
        return np.asarray(clean + rng.normal(0.0, noise, (looks, len(levels))))

    return device(1.0, LEVELS[:, 0], 2e-4, 1e-8), device(1.0 + mismatch, LEVELS[:, 1], -3e-4, -2e-8)


def test_the_mismatch_is_free_of_offsets_of_voltage_and_current() -> None:
    found = ratio(*pair(0.004, 1e-15), LEVELS)
    assert found.ratio - 1.0 == pytest.approx(0.004, abs=1e-6)  # what is left goes with the square of the offsets
    assert (found.equal, found.swapped) == pytest.approx((1.004, 1.004), abs=1e-6)
    # No current is read at -(offset of voltage) - (offset of current) / conductance. The conductance is that of 100 mV.
    expected = (3e-4 + 2e-8 / (1.004 * 5e-5)) - (-2e-4 - 1e-8 / 5e-5)
    assert found.shift == pytest.approx(expected, rel=0.01)


def test_its_standard_error_is_what_repetition_shows() -> None:
    found = [ratio(*pair(-0.002, 2e-8, seed), LEVELS) for seed in range(300)]
    ratios = np.array([one.ratio for one in found])
    assert np.std(ratios) == pytest.approx(np.mean([one.ratio_std for one in found]), rel=0.12)
    assert np.mean(ratios) - 1.0 == pytest.approx(-0.002, abs=4 * np.std(ratios) / np.sqrt(len(ratios)))


def test_devices_that_exchange_their_strengths_with_their_roles_are_told_apart() -> None:
    first, second = pair(0.0, 1e-15)
    crossed = LEVELS[:, 0] != LEVELS[:, 1]
    second[:, crossed] *= 1.01
    found = ratio(first, second, LEVELS)
    assert found.swapped - found.equal == pytest.approx(0.01, rel=0.01)
