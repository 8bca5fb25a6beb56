"""Drift is found by coming back to the base point, and taken out of the differences."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from formula_backend import FormulaBackend

from hil.core.errors import ConfigError
from hil.core.types import Channel, FloatArray, Kind, Quantity, SettlePolicy
from hil.learn.drift import Drift, with_visits
from hil.learn.feasible import FeasibleSet
from hil.learn.gradients.registry import gradient_estimator
from hil.learn.optimise import optimiser
from hil.learn.scale import Scale, Scaling
from hil.learn.tasks import Bindings, Task
from hil.learn.trainer import Trainer
from hil.learn.training_state import StopRule

NAMES = ("L1", "L2", "L3")
START = np.array([10.0, 12.0, 9.0])


def divider(values: Mapping[str, float | None]) -> float:
    lengths = np.array([values[name] for name in NAMES], dtype=np.float64)
    return float(5.0 * lengths[1] / lengths.sum())


def slopes() -> FloatArray:
    """Gradient of (V2 − 4 V)² by the three lengths at START, from the formula."""
    total = START.sum()
    of_output = 5.0 * (np.array([0.0, 1.0, 0.0]) / total - START[1] / total**2)
    return 2.0 * (5.0 * START[1] / total - 4.0) * of_output


def training(rate: float, method: str, every: int | None, noise: float = 0.0, seed: int = 0) -> tuple[Trainer, FormulaBackend]:
    """A trainer on a divider whose output rises by ``rate`` volts with every stimulus (one second each)."""
    controls = [Channel(name, Quantity.LENGTH, Kind.TUNE, 2.0, 100.0) for name in NAMES]

    def output(values: Mapping[str, float | None]) -> Sequence[float]:
        return [divider(values) + rate * len(on.applied)]

    on = FormulaBackend(controls, [Channel("V2", Quantity.VOLTAGE, Kind.SENSE)], output, noise=noise, seed=seed)
    on.open()
    scale = Scale.of(on.envelope, NAMES, Scaling.SI)
    step = np.full(3, 0.05)
    made = Trainer(
        on,
        Task.single({"V2": 4.0}),
        Bindings(on.capabilities.controls, START, np.ones(3, dtype=np.bool_), NAMES),
        scale,
        FeasibleSet.of(on.envelope, NAMES, START, scale.minimum, scale.maximum, step),
        START,
        gradient_estimator(method, step, scale.lower, scale.upper),
        optimiser("gradient_descent", 1e-9),
        stop=StopRule(max_steps=1),
        policy=SettlePolicy(),
        base_every=every,
    )
    return made, on


def gradient_of(made: Trainer) -> FloatArray:
    gradient: FloatArray = list(made.steps())[-1].gradient
    return gradient


@pytest.mark.parametrize("method", ["forward_difference", "central_difference"])
@pytest.mark.parametrize("every", [1, 2])
def test_a_drift_that_spoils_the_gradient_is_taken_out(method: str, every: int) -> None:
    rate = 2e-3
    still = gradient_of(training(0.0, method, None)[0])
    spoilt = gradient_of(training(rate, method, None)[0])
    made, on = training(rate, method, every)
    cured = gradient_of(made)
    error = np.abs(spoilt - still).max() / np.abs(still).max()
    left = np.abs(cured - still).max() / np.abs(still).max()
    assert error > 0.2, "the test needs a drift that matters"
    # What stays is that the whole network was elsewhere: the loss at the base moved by rate · 1 s.
    assert left < 0.01 * error + 2e-3
    assert np.abs(still - slopes()).max() < 0.02 * np.abs(slopes()).max()
    probes = 3 if method == "forward_difference" else 6
    assert len(on.applied) == 2 + probes + -(-probes // every)
    assert made.drift is not None
    assert made.drift.rate[0, 0] == pytest.approx(rate, rel=1e-9)


def test_every_step_reports_its_drift() -> None:
    made, _ = training(2e-3, "forward_difference", 1)
    first, second = list(made.steps())
    assert "drift" not in first.info
    assert second.info["drift"] == {"rate": {"V2": pytest.approx(2e-3)}, "std": {"V2": pytest.approx(0, abs=1e-12)}, "visits": 4}


def test_without_the_request_nothing_is_measured_twice() -> None:
    made, on = training(2e-3, "forward_difference", None)
    gradient_of(made)
    assert len(on.applied) == 2 + 3
    assert made.drift is None


def test_the_error_of_the_drift_is_honest() -> None:
    rng = np.random.default_rng(5)
    times, sigma, true = np.array([0.0, 3.0, 6.0, 9.0, 12.0]), 1e-3, 4e-4
    found = []
    for _ in range(2000):
        outputs = (true * times + sigma * rng.standard_normal(5))[:, None, None]
        found.append(Drift.fit(times, outputs, np.full((5, 1, 1), sigma)))
    rates = np.array([one.rate[0, 0] for one in found])
    assert rates.mean() == pytest.approx(true, abs=4 * rates.std() / np.sqrt(2000))
    # Never claimed smaller than the known noise makes it.
    assert min(one.std[0, 0] for one in found) == pytest.approx(rates.std(), rel=0.05)


def test_scatter_that_the_noise_does_not_explain_widens_the_error() -> None:
    times = np.arange(6.0)
    jumps = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])[:, None, None]
    assert Drift.fit(times, jumps, np.zeros((6, 1, 1))).std[0, 0] > 0.1


def test_no_time_is_no_drift() -> None:
    found = Drift.fit(np.full(3, 7.0), np.array([1.0, 2.0, 3.0])[:, None, None], np.zeros((3, 1, 1)))
    assert (found.rate[0, 0], found.value[0, 0]) == (0.0, 2.0)


def test_visits_follow_every_few_probes_and_the_last() -> None:
    rows, visits = with_visits(np.arange(5.0)[:, None], np.array([-1.0]), 2)
    assert rows[:, 0].tolist() == [0, 1, -1, 2, 3, -1, 4, -1]
    assert visits.tolist() == [False, False, True, False, False, True, False, True]


def test_the_state_holds_the_drift() -> None:
    made, _ = training(2e-3, "forward_difference", 1)
    list(made.steps())
    again, _ = training(2e-3, "forward_difference", 1)
    again.load_state_dict(made.state_dict())
    assert again.drift is not None
    assert made.drift is not None
    assert again.drift.packed() == made.drift.packed()
    with pytest.raises(ConfigError):
        again.load_state_dict({**made.state_dict(), "theta": [1.0]})
