"""Measured slopes on a small matched pair whose truth is known."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from hil.core.backend import Backend
from hil.core.errors import CapabilityError, ConfigError
from hil.core.safety import SafetyEnvelope
from hil.core.types import (
    Capabilities,
    Channel,
    Determinism,
    FloatArray,
    Kind,
    Layout,
    Quantity,
    Reading,
    SettlePolicy,
    SettleReport,
    Stimulus,
)
from hil.learn.activation import Activation
from hil.learn.error_budget import best_delta, error_budget
from hil.learn.slope import CurveSlope, Probe, SequentialSlope, SlopeMeter, TwoDeviceSlope

U = 1.84


def law(v: FloatArray) -> FloatArray:
    return np.tanh(U * v) / np.tanh(U)


def slope(v: FloatArray) -> FloatArray:
    return U / np.tanh(U) / np.cosh(U * v) ** 2


class Pair(Backend):
    """Two tanh devices with gains of their own; ``drift`` (1/s) is common to both, one second a reading."""

    def __init__(
        self,
        gains: tuple[float, float] = (1.0, 1.0),
        noise: float = 0.0,
        drift: float = 0.0,
        *,
        replicas: bool = True,
        together: bool = True,
    ) -> None:
        controls = Layout((Channel("V", Quantity.VOLTAGE, Kind.DRIVE, -1.0, 1.0),))
        outputs = Layout((Channel("I", Quantity.CURRENT, Kind.SENSE),))
        names = ("A", "B") if replicas else ()
        capabilities = Capabilities(
            controls, outputs, Determinism.SEEDED, replicas=names, simultaneous=(("A", "B"),) if replicas and together else ()
        )
        super().__init__("pair", capabilities, SafetyEnvelope.of(controls))
        self.gains, self.noise, self.drift, self.now = np.array(gains), noise, drift, 0.0
        self.rng, self.v = np.random.default_rng(7), 0.0

    def _currents(self, v: FloatArray) -> FloatArray:
        self.now += 1.0
        return self.gains * law(v) * (1 + self.drift * self.now) + self.rng.normal(0, self.noise, 2)

    def _measure_replicas(self, stimuli: Sequence[Sequence[Stimulus]], policy: SettlePolicy, samples: int) -> FloatArray:
        rows = [
            np.mean([self._currents(np.array([s.values[0] for s in row])) for _ in range(samples)], axis=0) for row in stimuli
        ]
        return np.array(rows)[:, :, None]

    def _open(self) -> None: ...
    def _close(self) -> None: ...
    def _make_safe(self) -> None: ...
    def _apply(self, stimulus: Stimulus) -> None:
        self.v = float(stimulus.values[0])

    def _settle(self, policy: SettlePolicy) -> SettleReport:
        return SettleReport(True, 0.0, 0.0)

    def _read(self, samples: int) -> Reading:
        value = np.mean([self._currents(np.full(2, self.v))[0] for _ in range(samples)])
        return Reading(np.array([value]), np.zeros(1), np.zeros(1, dtype=np.bool_), self.now)

    def snapshot(self) -> Mapping[str, object]:
        return {}


POINTS = np.linspace(-0.9, 0.9, 61)
POLICY = SettlePolicy()


def rmse(meter: SlopeMeter, points: FloatArray = POINTS) -> float:
    return float(np.sqrt(np.mean((meter.measure(points).slope - slope(points)) ** 2)) / np.mean(slope(points)))


def test_an_ideal_pair_is_wrong_by_its_truncation_only() -> None:
    with Pair() as pair:
        centred = TwoDeviceSlope(Probe(pair, POLICY, 0.05))
        plain = TwoDeviceSlope(Probe(pair, POLICY, 0.05), centred=False)
        reading = centred.measure(POINTS)
        np.testing.assert_allclose(reading.slope, (law(POINTS + 0.025) - law(POINTS - 0.025)) / 0.05, rtol=1e-12)
        np.testing.assert_allclose(plain.measure(POINTS).slope, (law(POINTS + 0.05) - law(POINTS)) / 0.05, rtol=1e-12)
        np.testing.assert_allclose(plain.measure(POINTS).current, law(POINTS))
        assert rmse(centred) < 0.1 * rmse(plain)
        assert centred.readings_per_point == plain.readings_per_point == 2


def test_a_pair_at_the_edge_of_the_range_moves_inwards() -> None:
    with Pair() as pair:
        edge = TwoDeviceSlope(Probe(pair, POLICY, 0.1)).measure(np.array([-1.0, 1.0])).slope
        np.testing.assert_allclose(edge, (law(np.array([-0.9, 1.0])) - law(np.array([-1.0, 0.9]))) / 0.1, rtol=1e-9)


def test_swapping_and_nulling_cancel_a_mismatch_of_gain_that_the_plain_pair_amplifies() -> None:
    with Pair(gains=(0.98, 1.02)) as pair:
        probe = Probe(pair, POLICY, 0.05)
        plain, null, swap = (
            TwoDeviceSlope(probe),
            TwoDeviceSlope(probe, null=True),
            TwoDeviceSlope(probe, swap=True),
        )
        assert rmse(plain) > 0.5
        assert rmse(null) < 0.03
        assert rmse(swap) < 0.002
        assert null.readings_per_point == swap.readings_per_point == 4
        np.testing.assert_allclose(swap.measure(POINTS).current, law(POINTS), atol=2e-3)
        with pytest.raises(ConfigError, match="choose `null` or `swap`"):
            TwoDeviceSlope(probe, null=True, swap=True)


def test_common_drift_spoils_one_device_at_two_times_but_not_the_pair() -> None:
    point = np.array([0.5])
    with Pair(drift=0.005) as one, Pair(drift=0.005) as two:
        sequential = rmse(SequentialSlope(Probe(one, POLICY, 0.05), repeats=2), point)
        assert sequential > 5 * rmse(TwoDeviceSlope(Probe(two, POLICY, 0.05), swap=True), point)


@pytest.mark.parametrize(("swap", "null", "factor"), [(False, False, np.sqrt(2)), (True, False, 1.0), (False, True, 2.0)])
def test_the_standard_error_told_is_the_scatter_seen(swap: bool, null: bool, factor: float) -> None:
    with Pair(noise=0.002) as pair:
        meter = TwoDeviceSlope(Probe(pair, POLICY, 0.05, noise=0.002), swap=swap, null=null)
        readings = meter.measure(np.full(4000, 0.3))
        assert readings.std[0] == pytest.approx(factor * 0.002 / 0.05)
        assert np.std(readings.slope) == pytest.approx(readings.std[0], rel=0.05)


def test_sequential_repeats_and_samples_lower_the_noise() -> None:
    with Pair(noise=0.002) as pair:
        meter = SequentialSlope(Probe(pair, POLICY, 0.05, samples=2, noise=0.002), repeats=3)
        readings = meter.measure(np.full(2000, 0.3))
        assert meter.readings_per_point == 12
        assert readings.std[0] == pytest.approx(np.sqrt(2 / 6) * 0.002 / 0.05)
        assert np.std(readings.slope) == pytest.approx(readings.std[0], rel=0.06)


def test_a_curve_gives_slopes_without_measuring() -> None:
    grid = np.linspace(-1, 1, 81)
    readings = CurveSlope(Activation(grid, law(grid))).measure(POINTS)
    np.testing.assert_allclose(readings.slope, slope(POINTS), rtol=0.02)
    np.testing.assert_allclose(readings.current, law(POINTS), atol=1e-4)


def test_what_the_backend_cannot_do_is_refused_before_anything_is_measured() -> None:
    with Pair(replicas=False) as single, pytest.raises(CapabilityError, match="needs a pair of replicas"):
        TwoDeviceSlope(Probe(single, POLICY, 0.05))
    with Pair(together=False) as apart, pytest.raises(CapabilityError, match="cannot be read at the same moment"):
        TwoDeviceSlope(Probe(apart, POLICY, 0.05))
    with Pair() as pair:
        for delta in (0.0, -0.1, 2.0, float("nan")):
            with pytest.raises(ConfigError, match="must lie between 0 and the range of 'V'"):
                Probe(pair, POLICY, delta)
        with pytest.raises(ConfigError, match="no channel 'X'"):
            Probe(pair, POLICY, 0.05, control="X")
        with pytest.raises(ConfigError, match="repeats must be 1"):
            SequentialSlope(Probe(pair, POLICY, 0.05), repeats=0)


def test_the_budget_foretells_what_is_measured() -> None:
    grid = np.linspace(-1, 1, 401)
    activation = Activation(grid, law(grid))
    rng = np.random.default_rng(5)
    for centred, swap, mismatch in ((False, False, 0.002), (True, False, 0.02), (True, True, 0.02)):
        squares = []
        for _ in range(60):
            gains = tuple(1 + mismatch * rng.standard_normal(2))
            with Pair(gains=(gains[0], gains[1]), noise=0.002) as pair:
                pair.rng = rng
                squares.append(rmse(TwoDeviceSlope(Probe(pair, POLICY, 0.05), centred=centred, swap=swap)) ** 2)
        told = error_budget(activation, POINTS, 0.05, mismatch=mismatch, noise=0.002, centred=centred, swap=swap)
        assert np.sqrt(np.mean(squares)) == pytest.approx(told.total, rel=0.15)


def test_the_best_spacing_balances_noise_against_truncation() -> None:
    grid = np.linspace(-1, 1, 401)
    activation = Activation(grid, law(grid))
    best = best_delta(activation, POINTS, mismatch=0.0, noise=0.002)
    for delta in (best.delta / 2, best.delta * 2):
        assert error_budget(activation, POINTS, delta, mismatch=0.0, noise=0.002).total > best.total
    assert best_delta(activation, POINTS, mismatch=0.0, noise=0.02).delta > best.delta
    assert set(best.as_dict()) == {"mismatch", "noise", "truncation", "total"}
    flat = Activation(grid, np.zeros_like(grid))
    with pytest.raises(ConfigError, match="no slope"):
        error_budget(flat, POINTS, 0.05, mismatch=0.0, noise=0.0)
    with pytest.raises(ConfigError, match="above 0 V"):
        error_budget(activation, POINTS, 0.0, mismatch=0.0, noise=0.0)
