"""Going on where the backend did not keep its state: the base point first, and what happens when it has moved."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from formula_backend import FormulaBackend

from hil.core.types import Channel, Kind, Quantity, SettlePolicy
from hil.learn.feasible import FeasibleSet
from hil.learn.gradients.registry import gradient_estimator
from hil.learn.optimise import optimiser
from hil.learn.scale import Scale, Scaling
from hil.learn.tasks import Bindings, Task
from hil.learn.trainer import Trainer
from hil.learn.training_state import StopRule

NAMES = ("L1", "L2")


def made(
    shift: float, keep: Callable[[Mapping[str, object]], None] | None = None, every: int | None = None
) -> tuple[Trainer, FormulaBackend]:
    def output(values: Mapping[str, float | None]) -> Sequence[float]:
        one, two = (values[name] or 0.0 for name in NAMES)
        return [5.0 * two / (one + two) + shift]

    controls = [Channel(name, Quantity.LENGTH, Kind.TUNE, 2.0, 100.0) for name in NAMES]
    on = FormulaBackend(controls, [Channel("V2", Quantity.VOLTAGE, Kind.SENSE)], output, noise=1e-4, seed=3)
    on.open()
    scale, step, start = Scale.of(on.envelope, NAMES, Scaling.SI), np.full(2, 0.5), np.array([10.0, 10.0])
    return Trainer(
        on,
        Task.single({"V2": 4.0}),
        Bindings(on.capabilities.controls, start, np.ones(2, dtype=np.bool_), NAMES),
        scale,
        FeasibleSet.of(on.envelope, NAMES, start, scale.minimum, scale.maximum, step),
        start,
        gradient_estimator("forward_difference", step, scale.lower, scale.upper),
        optimiser("gradient_descent", 5.0),
        stop=StopRule(max_steps=3),
        policy=SettlePolicy(),
        samples=5,
        block=1,
        base_every=every,
        checkpoint=keep,
    ), on


@pytest.fixture(scope="module")
def inside_a_plan() -> dict[str, Any]:
    """The state after the first of two probes of the second gradient."""
    states: list[str] = []
    training, _ = made(0.0, lambda state: states.append(json.dumps(state)))
    list(training.steps())
    found = [json.loads(text) for text in states]
    chosen: dict[str, Any] = next(state for state in found if state["step"] == 1 and state["plan"] and len(state["plan"][0]) == 1)
    return chosen


def test_a_point_that_stayed_keeps_the_probes(inside_a_plan: dict[str, Any]) -> None:
    training, on = made(0.0)
    training.load_state_dict(inside_a_plan)
    moved = training.revisit()
    assert moved is not None
    assert not moved.significant
    np.testing.assert_array_equal(on.applied[0].values, np.clip(training.scale.to_si(training.theta), 2.0, 100.0))
    assert len(on.applied) == 1
    next(step for step in training.steps() if step.step == 2)
    assert len(on.applied) == 1 + 1 + 1  # the other probe, and the next base point
    assert training.history[1] == inside_a_plan["history"][1]


def test_a_point_that_moved_is_said_and_its_probes_are_measured_again(inside_a_plan: dict[str, Any]) -> None:
    saved: list[Mapping[str, object]] = []
    training, on = made(0.05, saved.append)
    training.load_state_dict(inside_a_plan)
    moved = training.revisit()
    assert moved is not None
    assert moved.significant
    facts = moved.facts(("V2",))
    assert facts["moved"]["V2"] == pytest.approx(0.05, abs=1e-3)
    assert abs(facts["moved"]["V2"]) > facts["explained_by_noise"]["V2"]
    assert saved[-1]["plan"] == []
    next(step for step in training.steps() if step.step == 2)
    assert len(on.applied) == 1 + 2 + 1


def test_a_line_through_two_clocks_is_not_drawn(inside_a_plan: dict[str, Any]) -> None:
    training, _ = made(0.0, every=1)
    training.load_state_dict(inside_a_plan)
    training.revisit()
    assert training.state_dict()["plan"] == []


def test_before_anything_was_measured_there_is_nothing_to_compare() -> None:
    training, on = made(0.0)
    fresh = training.state_dict()
    training.load_state_dict(json.loads(json.dumps(fresh)))
    assert training.revisit() is None
    assert on.applied == []
