"""The training loop on the smallest possible backend."""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest
from formula_backend import FormulaBackend
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.core.errors import BackendError, ConfigError
from hil.core.safety import EdgeLimit
from hil.core.types import Channel, Kind, Quantity, SettlePolicy
from hil.learn.feasible import FeasibleSet
from hil.learn.gradients.registry import gradient_estimator
from hil.learn.optimise import optimiser
from hil.learn.scale import Scale, Scaling
from hil.learn.tasks import Bindings, Task
from hil.learn.trainer import Trainer
from hil.learn.training_state import Ending, StopRule

Formula = Callable[[Mapping[str, float | None]], Sequence[float]]


def divider(values: Mapping[str, float | None]) -> Sequence[float]:
    """Two resistors proportional to L1 and L2 between V1 and 0 V."""
    V, one, two = values["V1"], values["L1"], values["L2"]
    assert V is not None
    assert one is not None
    assert two is not None
    return [V * two / (one + two)]


def backend(formula: Formula = divider, *, edges: Sequence[EdgeLimit] = (), **options: Any) -> FormulaBackend:
    controls = [
        Channel("V1", Quantity.VOLTAGE, Kind.DRIVE, -5.0, 5.0),
        Channel("L1", Quantity.LENGTH, Kind.TUNE, 2.0, 100.0),
        Channel("L2", Quantity.LENGTH, Kind.TUNE, 2.0, 100.0),
    ]
    made = FormulaBackend(controls, [Channel("V2", Quantity.VOLTAGE, Kind.SENSE)], formula, edges=edges, **options)
    made.open()
    return made


def trainer(
    on: FormulaBackend,
    *,
    target: float = 4.0,
    task: Task | None = None,
    method: str = "forward_difference",
    optimise: str = "gradient_descent",
    rate: float = 10.0,
    step: float = 0.01,
    scaling: Scaling = Scaling.SI,
    start: Sequence[float] = (10.0, 10.0),
    stop: StopRule | None = None,
    **options: Any,
) -> Trainer:
    names = ("L1", "L2")
    scale = Scale.of(on.envelope, names, scaling)
    applied = np.array([5.0, 0.0, 0.0])
    controls = on.capabilities.controls
    return Trainer(
        on,
        task or Task.single({"V2": target}),
        Bindings(controls, applied, np.array([True, False, False]), names),
        scale,
        FeasibleSet.of(on.envelope, names, applied, scale.minimum, scale.maximum, np.full(2, step)),
        np.array(start),
        gradient_estimator(method, np.full(2, step), scale.lower, scale.upper),
        optimiser(optimise, rate),
        stop=stop or StopRule(loss_below=1e-6, max_steps=100),
        policy=SettlePolicy(),
        **options,
    )


def test_the_divider_reaches_its_target_and_says_so() -> None:
    on = backend()
    training = trainer(on)
    steps = list(training.steps())
    final = training.finish()
    assert training.ending is Ending.CONVERGED
    assert final.loss < 1e-6
    assert abs(divider({"V1": 5.0, **training.weights})[0] - 4.0) < 1e-3  # judged by the formula, not by what was read
    assert training.history == [done.loss for done in steps]
    assert [done.step for done in steps] == list(range(len(steps)))
    assert training.history[0] == pytest.approx(1.5**2)
    assert np.isnan(steps[0].gradient).all()


def test_no_point_is_measured_twice() -> None:
    on = backend()
    training = trainer(on)
    done = list(training.steps())[-1]
    training.finish()
    # the base point of the start, and for every update two probes and the new base point
    assert on.relaxations == len(on.applied) == 1 + 3 * done.step == done.relaxations
    rows = [tuple(stimulus.values) for stimulus in on.applied]
    assert len(set(rows)) == len(rows)


def test_plain_si_steps_repeat_the_paper_by_hand() -> None:
    on = backend()
    training = trainer(on, rate=3.0)
    _, first = islice(training.steps(), 2)

    def cost(one: float, two: float) -> float:
        return (5.0 * two / (one + two) - 4.0) ** 2

    expected = [10 - 3 * (cost(10.01, 10) - cost(10, 10)) / 0.01, 10 - 3 * (cost(10, 10.01) - cost(10, 10)) / 0.01]
    np.testing.assert_allclose(list(first.weights.values()), expected, rtol=1e-9)


@pytest.mark.parametrize("method", ["forward_difference", "central_difference"])
@pytest.mark.parametrize(("optimise", "rate"), [("gradient_descent", 0.001), ("momentum", 1e-4), ("adam", 0.02)])
@pytest.mark.parametrize("scaling", [Scaling.LINEAR, Scaling.LOG])
def test_every_method_trains_in_scaled_coordinates(method: str, optimise: str, rate: float, scaling: Scaling) -> None:
    training = trainer(
        backend(), method=method, optimise=optimise, rate=rate, step=1e-5, scaling=scaling, stop=StopRule(1e-6, 400)
    )
    losses = [done.loss for done in training.steps()]
    assert training.ending is Ending.CONVERGED
    assert losses[-1] < 1e-6


def test_the_first_loss_may_already_be_good_enough() -> None:
    on = backend()
    training = trainer(on, target=2.5)
    assert [done.step for done in training.steps()] == [0]
    assert training.ending is Ending.CONVERGED
    assert on.relaxations == 1


@pytest.mark.parametrize(("target", "ending"), [(6.0, Ending.STALLED), (4.0, Ending.EXHAUSTED)])
def test_without_success_the_best_weights_found_are_applied_and_reported(target: float, ending: Ending) -> None:
    on = backend()
    # this momentum overshoots 4 V and swings back; 6 V is out of reach and ends with every weight on a limit
    training = trainer(on, target=target, optimise="momentum", rate=30.0, stop=StopRule(1e-9, 25 if target == 6.0 else 7))
    steps = list(training.steps())
    final = training.finish()
    assert training.ending is ending
    best = min(steps, key=lambda done: done.loss)
    assert (best.step < steps[-1].step) == (ending is Ending.EXHAUSTED)
    assert final.loss == best.loss
    assert training.weights_at(final.theta) == best.weights
    assert list(on.applied[-1].values[1:]) == list(best.weights.values())


def test_weights_stop_at_their_limits_and_the_step_says_which() -> None:
    training = trainer(backend(), target=4.99, rate=1e4, stop=StopRule(1e-6, 50))
    steps = list(training.steps())
    for done in steps:
        assert all(2.0 <= value <= 100.0 for value in done.weights.values())
    assert steps[1].info["limits"] == ["L1", "L2"]
    assert training.ending is Ending.STALLED
    assert "limits of L1, L2" in training.reason
    assert steps[-1].weights == {"L1": 2.0, "L2": 100.0}


def test_an_edge_limit_holds_for_every_stimulus() -> None:
    limit = EdgeLimit("a", "L2", "L1", 6.0)
    on = backend(edges=[limit])
    training = trainer(on, rate=30.0, stop=StopRule(1e-6, 40))
    steps = list(training.steps())  # a probe beyond the limit would be refused by the backend itself
    reached = max(abs(done.weights["L2"] - done.weights["L1"]) for done in steps)
    assert 5.9 < reached <= 6.0
    assert any("a" in done.info["limits"] for done in steps)


def test_a_zero_gradient_ends_the_training_and_names_the_clamp() -> None:
    said: list[str] = []

    def clamped(values: Mapping[str, float | None]) -> Sequence[float]:
        said.append("clamped: edge 'a' stands on its floor")
        return [1.0]

    training = trainer(backend(clamped), warnings=lambda: said)
    steps = list(training.steps())
    assert training.ending is Ending.STALLED
    assert "clamped" in training.reason
    assert steps[0].info["newly_clamped"]
    quiet = trainer(backend(lambda values: [1.0]))
    list(quiet.steps())
    assert "no weight changes the loss" in quiet.reason
    assert (training.clamped, quiet.clamped) == (True, False)


def test_patience_ends_what_no_longer_improves() -> None:
    training = trainer(backend(), target=6.0, rate=0.0001, stop=StopRule(1e-6, 1000, patience=5))
    steps = list(training.steps())
    assert training.ending is Ending.STALLED
    assert steps[-1].step < 20


def test_without_a_wanted_loss_all_steps_are_made() -> None:
    training = trainer(backend(), stop=StopRule(None, 7))
    assert [done.step for done in training.steps()] == list(range(8))
    assert training.ending is Ending.EXHAUSTED


# -- noise ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_noisy_backend_stops_where_noise_alone_would_explain_the_cost(seed: int) -> None:
    noise = 5e-3
    on = backend(noise=noise, seed=seed)
    training = trainer(on, step=0.3, method="central_difference", samples=4, stop=StopRule(1e-9, 200))
    steps = list(training.steps())
    final = training.finish()
    assert training.ending is Ending.CONVERGED
    assert final.remeasured
    assert on.samples_read[-1] == 20
    floor = training.threshold(final)
    assert 1e-9 < final.loss < floor
    assert steps[-1].info["loss_floor"] == floor
    error = noise / np.sqrt(20)
    # σ² + 4 √2 σ² of twenty readings, as far as twenty readings tell their own σ and few visits the rest
    assert 0.3 < floor / (error**2 * (1 + 4 * np.sqrt(2))) < 6.0
    assert abs(divider({"V1": 5.0, **training.weights})[0] - 4.0) < 6 * error


@pytest.mark.parametrize("seed", range(5))
def test_what_wanders_between_visits_counts_as_noise_though_no_single_visit_shows_it(seed: int) -> None:
    wander = 3e-3
    on = backend(noise=1e-5, wander=wander, seed=seed)
    training = trainer(on, step=0.3, method="central_difference", samples=4, stop=StopRule(1e-12, 200))
    list(training.steps())
    final = training.finish()
    assert training.ending is Ending.CONVERGED
    assert 0.2 < training.threshold(final) / (wander**2 * (1 + 4 * np.sqrt(2))) < 5.0
    assert abs(divider({"V1": 5.0, **training.weights})[0] - 4.0) < 6 * wander


def test_a_lucky_reading_is_not_convergence() -> None:
    luck = iter([[4.0]])

    def lucky(values: Mapping[str, float | None]) -> Sequence[float]:
        # the very first reading happens to stand on the target; every later one tells the truth
        return next(luck, None) or divider(values)

    on = backend(lucky, noise=1e-6)
    training = trainer(on, samples=2, stop=StopRule(1e-6, 100))
    steps = list(training.steps())
    assert on.samples_read[:2] == [2, 20]
    assert steps[0].loss == pytest.approx(1.5**2, rel=1e-4)
    assert steps[-1].step > 3
    assert training.ending is Ending.CONVERGED
    assert abs(divider({"V1": 5.0, **training.weights})[0] - 4.0) < 1.1e-3


def test_an_exact_backend_is_not_measured_again() -> None:
    on = backend()
    training = trainer(on)
    list(training.steps())
    training.finish()
    assert set(on.samples_read) == {1}


def test_an_overloaded_reading_does_not_train() -> None:
    with pytest.raises(BackendError, match=r"'V2' read nan at stimulus 1 of 1"):
        list(trainer(backend(lambda values: [np.nan])).steps())


def test_a_start_outside_the_limits_is_refused_before_anything_is_applied() -> None:
    on = backend()
    with pytest.raises(ConfigError, match="L1"):
        trainer(on, start=(1.0, 10.0))
    assert on.applied == []


def test_an_update_that_is_not_finite_is_refused() -> None:
    with (
        pytest.raises(ConfigError, match="lower the learning rate"),
        np.errstate(over="ignore"),
    ):
        list(trainer(backend(), rate=1e308, target=1e3).steps())


# -- batches ----------------------------------------------------------------------------------------------------


def test_a_batch_is_summed_over_its_inputs() -> None:
    inputs = np.array([[1.0], [2.0], [5.0]])
    task = Task(("V1",), inputs, ("V2",), 0.8 * inputs)
    on = backend()
    training = trainer(on, task=task, stop=StopRule(1e-6, 100))
    steps = list(training.steps())
    assert steps[0].loss == pytest.approx(sum((0.5 * v - 0.8 * v) ** 2 for v in (1.0, 2.0, 5.0)))
    assert set(steps[0].outputs) == {"V2[0]", "V2[1]", "V2[2]"}
    assert training.ending is Ending.CONVERGED
    assert [stimulus.values[0] for stimulus in on.applied[:3]] == [1.0, 2.0, 5.0]
    assert training.weights["L2"] / training.weights["L1"] == pytest.approx(4.0, rel=2e-3)


# -- resume -----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    cut=st.integers(0, 60),
    optimise=st.sampled_from([("gradient_descent", 5.0), ("momentum", 1.0), ("adam", 0.5)]),
    method=st.sampled_from(["forward_difference", "central_difference"]),
    block=st.sampled_from([None, 1, 2]),
)
def test_a_resumed_training_is_the_uninterrupted_one(
    cut: int, optimise: tuple[str, float], method: str, block: int | None
) -> None:
    noise, rule = 1e-3, StopRule(1e-5, 12)
    kind, rate = optimise

    def make(on: FormulaBackend, keep: Callable[[Mapping[str, object]], None] | None = None) -> Trainer:
        return trainer(on, optimise=kind, rate=rate, method=method, step=0.5, samples=3, stop=rule, block=block, checkpoint=keep)

    whole_on = backend(noise=noise, seed=7)
    saved: list[str] = []
    whole = make(whole_on, lambda state: saved.append(json.dumps([state, whole_on.capture_state()])))
    whole_steps = list(whole.steps())
    whole_final = whole.finish()

    state, device = json.loads(saved[min(cut, len(saved) - 1)])
    on = backend(noise=noise, seed=999)
    on.restore_state(device)
    second = make(on)
    second.load_state_dict(state)
    rest = list(second.steps())
    final = second.finish()
    assert second.history == whole.history
    np.testing.assert_array_equal(second.theta, whole.theta)
    assert (second.ending, second.reason, second.step) == (whole.ending, whole.reason, whole.step)
    assert final.loss == whole_final.loss
    assert [done.loss for done in rest] == [done.loss for done in whole_steps][len(whole_steps) - len(rest) :]


def test_a_state_of_another_network_is_refused() -> None:
    training = trainer(backend())
    state = training.state_dict()
    with pytest.raises(ConfigError, match="3 weights"):
        training.load_state_dict({**state, "theta": [0.1, 0.2, 0.3]})


def test_stopping_to_iterate_and_going_on_is_the_same_training() -> None:
    halted, through = trainer(backend()), trainer(backend())
    for done in halted.steps():
        if done.step == 2:
            break
    list(halted.steps())
    list(through.steps())
    assert halted.history == through.history
    assert halted.weights == through.weights
