"""The procedure: from protocol fields to a summary, on the smallest possible backend."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from formula_backend import FormulaBackend
from pydantic import ValidationError

from hil.core.clock import SteppedClock
from hil.core.errors import CapabilityError, ConfigError, LimitExceededError
from hil.core.events import Event, EventStream, Progress, StepDone
from hil.core.lab import Lab
from hil.core.outcome import Outcome
from hil.core.safety import EdgeLimit
from hil.core.types import Channel, FloatArray, Kind, Quantity, Stimulus
from hil.procedures import registry, train_network
from hil.procedures.train_network import Settings

DIVIDER: dict[str, Any] = {
    "format": "hil-protocol/1",
    "procedure": "train_network",
    "bench": "benches/divider.yaml",
    "apply": {"V1": "5 V", "V3": "0 V"},
    "targets": {"V2": "4 V"},
    "weights": "length",
    "weight_sets": {
        "length": {"start": "10 um", "step": "0.01 um", "learning_rate": "10 um^2/V^2"},
        "pressure": {"start": "1 bar", "step": "1 mbar", "learning_rate": "3e-4 bar^2/V^2"},
        "radius_ratio": {"start": 4, "step": 0.001, "learning_rate": "0.3 V^-2", "fixed_radius": "base"},
    },
    "gradient": {"method": "forward_difference", "scaling": "si"},
    "stop": {"loss_below": "1e-6 V^2", "max_steps": 60},
}


def settings(**changes: Any) -> Settings:
    return Settings.model_validate({**DIVIDER, **changes})


def resistors(values: Mapping[str, float | None]) -> Sequence[float]:
    """Lengths as resistances; a pressure raises the output by 10 V a bar of difference."""
    one, two = values.get("length.a") or 1e-5, values.get("length.b") or 1e-5
    top, low = values["V1"] or 0.0, values["V3"] or 0.0
    push = ((values.get("P2") or 0.0) - (values.get("P1") or 0.0)) * 1e-4
    return [low + (top - low) * two / (one + two) + push, -1.0]


class Nobody:
    """A twin that nobody may ask."""

    def predict(self, stimuli: Sequence[Stimulus]) -> FloatArray:
        raise NotImplementedError

    def vjp(self, stimuli: Sequence[Stimulus], cotangent: FloatArray) -> FloatArray:
        raise NotImplementedError


VOLTS = [Channel("V1", Quantity.VOLTAGE, Kind.DRIVE, 0.0, 5.0), Channel("V3", Quantity.VOLTAGE, Kind.DRIVE, 0.0, 5.0)]
PASCALS = [Channel(name, Quantity.PRESSURE, Kind.DRIVE, 0.9e5, 1.1e5) for name in ("P1", "P2")]
LENGTHS = [Channel(f"length.{edge}", Quantity.LENGTH, Kind.TUNE, 2e-6, 1e-4, edge=edge) for edge in "ab"]
RATIOS = [
    Channel(f"radius_ratio.{edge}", Quantity.RATIO, Kind.TUNE, 1.25, 16.0, edge=edge, parameter=f"radius_ratio_fixed_{which}")
    for edge, which in (("a", "base"), ("b", "tip"))
]


class Bench:
    """A lab around the formula backend, with everything it was told."""

    def __init__(self, controls: Sequence[Channel] = (*VOLTS, *PASCALS, *LENGTHS, *RATIOS), **options: Any) -> None:
        outputs = [Channel("V2", Quantity.VOLTAGE, Kind.SENSE), Channel("I3", Quantity.CURRENT, Kind.SENSE)]
        self.backend = FormulaBackend(controls, outputs, resistors, **options)
        self.backend.open()
        self.events: list[Event] = []
        self.lab = Lab(self.backend, Nobody(), SteppedClock(), EventStream(listeners=[self.events.append]), seed=3)

    def applied(self, name: str) -> list[float | None]:
        """What one control was given in every stimulus, None where it was left alone."""
        place = self.backend.capabilities.controls.index(name)
        return [float(s.values[place]) if s.connected[place] else None for s in self.backend.applied]


def test_the_divider_is_trained_and_the_summary_is_what_is_applied() -> None:
    bench = Bench()
    summary = train_network.run(settings(), bench.lab)
    assert summary.outcome is Outcome.CONVERGED
    assert summary.loss is not None
    assert summary.loss < 1e-6
    assert summary.loss == summary.loss_history[-1]
    assert len(summary.loss_history) == summary.steps + 1
    one, two = summary.weights["length.a"], summary.weights["length.b"]
    assert abs(5 * two / (one + two) - 4.0) < 1e-3
    assert summary.outputs["V2"] == pytest.approx(4.0, abs=1e-3)
    assert (bench.applied("length.a")[-1], bench.applied("length.b")[-1]) == (one, two)
    assert set(bench.applied("V1")) == {5.0}
    steps = [event for event in bench.events if isinstance(event, StepDone)]
    assert [done.loss for done in steps] == list(summary.loss_history)
    assert [event.done for event in bench.events if isinstance(event, Progress)] == list(range(summary.steps + 1))


def test_controls_that_are_not_trained_get_what_the_protocol_says_or_are_left_alone() -> None:
    bench = Bench()
    train_network.run(settings(apply={"V1": "5 V", "V3": "0 V", "P2": "1.01 bar"}, stop={"max_steps": 1}), bench.lab)
    assert set(bench.applied("P1")) == {1e5}  # the start of its kind
    assert set(bench.applied("P2")) == {1.01e5}  # what is applied goes before that
    assert set(bench.applied("radius_ratio.a")) == {None}  # a device keeps its own property


def test_a_radius_ratio_is_trained_only_where_the_right_radius_stays() -> None:
    bench = Bench()
    summary = train_network.run(settings(weights="radius_ratio", stop={"max_steps": 0}), bench.lab)
    assert list(summary.weights) == ["radius_ratio.a"]
    assert settings().tuned_as() == {"radius_ratio": "radius_ratio_fixed_base"}


def test_weights_the_bench_does_not_have_are_refused_before_anything_is_applied() -> None:
    bench = Bench([*VOLTS, *PASCALS])
    for call in (train_network.run, train_network.plan):
        with pytest.raises(CapabilityError, match=r"'length'.*can train: pressure; .*--set weights=pressure"):
            call(settings(), bench.lab)
    with pytest.raises(CapabilityError, match="can train: none"):
        train_network.run(settings(), Bench(VOLTS).lab)
    assert bench.backend.applied == []


def test_two_kinds_train_together_each_with_its_own_step_and_rate() -> None:
    bench = Bench()
    summary = train_network.run(settings(weights=["length", "pressure"], stop={"max_steps": 1}), bench.lab)
    assert list(summary.weights) == ["length.a", "length.b", "P1", "P2"]
    moved = {name: value for name, value in summary.weights.items() if value not in (1e-5, 1e5)}
    assert len(moved) == 4
    first = bench.backend.applied[1:5]
    assert first[0].values[4] == pytest.approx(1.001e-5)
    assert first[2].values[2] == pytest.approx(1.001e5)


def test_an_unreachable_target_is_no_success() -> None:
    bench = Bench()
    summary = train_network.run(settings(targets={"V2": "6 V"}, stop={"loss_below": "1e-6 V^2", "max_steps": 5}), bench.lab)
    assert summary.outcome is Outcome.NOT_CONVERGED
    assert summary.loss == min(summary.loss_history)
    errors = summary.results["errors"]
    assert isinstance(errors, dict)
    assert errors["V2"] == pytest.approx(summary.outputs["V2"] - 6.0)


def test_without_a_wanted_loss_a_run_that_made_its_steps_is_done() -> None:
    assert train_network.run(settings(stop={"max_steps": 2}), Bench().lab).outcome is Outcome.DONE


def test_a_noisy_bench_reports_the_floor_it_stopped_at() -> None:
    bench = Bench(noise=2e-3, seed=5)
    summary = train_network.run(settings(samples=5), bench.lab)
    assert summary.outcome is Outcome.CONVERGED
    assert summary.loss_floor is not None
    assert summary.loss is not None
    assert 1e-6 < summary.loss < summary.loss_floor or summary.loss < 1e-6
    assert summary.results["final_samples"] == 20
    assert bench.backend.samples_read[-1] == 20
    assert abs(resistors({"V1": 5.0, "V3": 0.0, **summary.weights})[0] - 4.0) < 5e-3


def test_a_weight_held_at_its_limit_is_reported_once() -> None:
    bench = Bench()
    fast = {"length": {**DIVIDER["weight_sets"]["length"], "learning_rate": "1e3 um^2/V^2"}}
    summary = train_network.run(settings(targets={"V2": "4.99 V"}, weight_sets=fast), bench.lab)
    assert summary.weights["length.a"] == 2e-6
    assert len([text for text in bench.lab.events.warnings if "length.a hold" in text]) == 1


# -- batches ----------------------------------------------------------------------------------------------------

REGRESSION: dict[str, Any] = {
    "apply": {"V3": "0.4 V"},
    "inputs": {"V1": {"from": "0 V", "to": "1 V", "points": 11}},
    "held_out": {"V1": {"from": "0.05 V", "to": "0.95 V", "points": 10}},
    "targets": {"V2": {"slope": 0.3, "offset": "0.28 V"}},  # two lengths as 7 to 3 between V1 and 0.4 V do exactly this
    "results_reference": "0.5 V",
    "stop": {"loss_below": "1e-8 V^2", "max_steps": 400},
    "weight_sets": {"length": {"start": "10 um", "step": "0.01 um", "learning_rate": "20 um^2/V^2"}},
}


def test_a_straight_line_is_learnt_and_judged_on_inputs_it_never_saw() -> None:
    bench = Bench()
    summary = train_network.run(settings(**REGRESSION), bench.lab)
    assert summary.outcome is Outcome.CONVERGED
    training, held_out = summary.results["rms_training"], summary.results["rms_held_out"]
    assert isinstance(training, float)
    assert training == pytest.approx(np.sqrt(summary.loss_history[-1] / 11) / 0.5, rel=1e-9)
    one, two = summary.weights["length.a"], summary.weights["length.b"]
    inputs = np.linspace(0.05, 0.95, 10)
    errors = 0.4 + (inputs - 0.4) * two / (one + two) - (0.3 * inputs + 0.28)
    assert held_out == pytest.approx(np.sqrt(np.mean(errors**2)) / 0.5, rel=1e-9)
    assert len(summary.outputs) == 11


def test_a_table_of_targets_is_trained_row_by_row() -> None:
    table = {**REGRESSION, "inputs": {"V1": ["0 V", "1 V"]}, "targets": {"V2": ["0.28 V", "0.58 V"]}, "held_out": {}}
    summary = train_network.run(settings(**table), Bench().lab)
    assert summary.outcome is Outcome.CONVERGED
    assert summary.outputs == {"V2[0]": pytest.approx(0.28, abs=2e-4), "V2[1]": pytest.approx(0.58, abs=2e-4)}


# -- plan -------------------------------------------------------------------------------------------------------


def test_the_plan_holds_the_first_gradient_every_extreme_and_the_held_out_inputs() -> None:
    bench = Bench()
    stimuli = train_network.plan(settings(**REGRESSION), bench.lab)
    layout = bench.backend.capabilities.controls
    inputs, a = layout.index("V1"), layout.index("length.a")
    assert {2e-6, 1e-5, 1e-4} <= {float(stimulus.values[a]) for stimulus in stimuli}
    assert {0.05, 1.0} <= {float(stimulus.values[inputs]) for stimulus in stimuli}
    train_network.run(settings(**REGRESSION), bench.lab)
    rows = {tuple(stimulus.values) for stimulus in stimuli}
    assert {tuple(stimulus.values) for stimulus in bench.backend.applied[:33]} <= rows
    assert bench.backend.envelope.check(np.array([stimulus.values for stimulus in stimuli])) is None


def test_a_plan_with_an_input_outside_the_limits_is_refused_before_anything_is_applied() -> None:
    bench = Bench()
    with pytest.raises(LimitExceededError, match="V1"):
        train_network.run(settings(apply={"V1": "6 V", "V3": "0 V"}), bench.lab)
    assert bench.backend.applied == []


def test_extremes_respect_a_limit_across_an_edge() -> None:
    bench = Bench(edges=[EdgeLimit("a", "P2", "P1", 3e3)])
    stimuli = train_network.plan(settings(weights="pressure"), bench.lab)
    rows = np.array([stimulus.values for stimulus in stimuli])
    bench.backend.envelope.check(rows)
    assert np.abs(rows[:, 3] - rows[:, 2]).max() > 2.5e3


# -- resume -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 3, 6])
def test_a_run_goes_on_from_any_checkpoint(cut: int) -> None:
    whole = Bench(noise=1e-4, seed=1)
    kept: list[str] = []

    def keep(state: Mapping[str, object]) -> None:
        kept.append(json.dumps([state, whole.backend.capture_state()]))

    summary = train_network.run(settings(samples=2), whole.lab, checkpoint=keep)
    state, device = json.loads(kept[cut])
    second = Bench(noise=1e-4, seed=77)
    second.backend.restore_state(device)
    assert train_network.run(settings(samples=2), second.lab, resume=state) == summary


# -- wrong protocols --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": "lenght"}, "'lenght' are not described"),
        ({"weights": []}, "at least 1"),
        ({"weights": "length, length"}, "named twice"),
        ({"weight_sets": {"colour": DIVIDER["weight_sets"]["length"]}, "weights": "colour"}, "kind of weights 'colour'"),
        ({"weight_sets": {"length": {**DIVIDER["weight_sets"]["length"], "start": "10 V"}}}, "10 V"),
        ({"weight_sets": {"length": {**DIVIDER["weight_sets"]["length"], "step": "1 s"}}}, "1 s"),
        ({"weight_sets": {"length": {**DIVIDER["weight_sets"]["length"], "learning_rate": "3 um"}}}, "3 um"),
        ({"optimiser": "adam"}, r"10 um\^2/V\^2"),  # the rate of Adam is a length, not a length² per volt²
        ({"gradient": {"scaling": "linear"}}, "0.01 um"),
        ({"gradient": "backward"}, "gradient method 'backward'"),
        ({"optimiser": "sgd"}, "sgd"),
        ({"stop": {"loss_below": "1 mV"}}, "1 mV"),
        ({"targets": {}}, "at least 1"),
        ({"targets": {"V2": {"slope": 1}}}, "slope"),
        ({"targets": {"V2": {"slope": 1, "offset": "0 V"}}}, "of: NAME"),
        ({"held_out": {"V1": ["1 V"]}}, "same channels as inputs"),
        ({"inputs": {"V1": {"from": "0 V", "points": 3}}}, "from"),
        ({"apply": {"V1": True}}, "True"),
    ],
)
def test_a_protocol_that_makes_no_sense_is_refused_when_it_is_read(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(**changes)


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"apply": {"V9": "1 V"}}, "apply.V9", "control 'V9'"),
        ({"apply": {"V1": "1 bar", "V3": "0 V"}}, "apply.V1", "1 bar"),
        ({"targets": {"V7": "4 V"}}, "targets.V7", "output 'V7'"),
        ({"targets": {"I3": "4 V"}}, "targets.I3", "measured in A"),
        ({"inputs": {"V1": ["1 V"]}}, "inputs.V1", "also applied"),
        ({"apply": {}, "inputs": {"V1": ["1 V"], "V3": ["1 V", "2 V"]}}, "inputs", "equally many"),
        ({"apply": {}, "inputs": {"V1": ["1 V"]}, "targets": {"V2": ["1 V", "2 V"]}}, "targets.V2", "2 targets for 1 inputs"),
        (
            {"weight_sets": {"length": {**DIVIDER["weight_sets"]["length"], "start": "1 um"}}},
            "weight_sets.length.start",
            "'length.a' starts at 1e-06",
        ),
        (
            {"weight_sets": {"length": {**DIVIDER["weight_sets"]["length"], "channels": ["length.z"]}}},
            "weight_sets.length.channels",
            "'length.z'",
        ),
        (
            {"weight_sets": {"length": {**DIVIDER["weight_sets"]["length"], "start": {"length.a": "10 um"}}}},
            "weight_sets.length.start",
            "'length.b' has no start",
        ),
    ],
)
def test_what_does_not_fit_the_bench_is_refused_with_its_field(changes: dict[str, Any], field: str, said: str) -> None:
    bench = Bench()
    with pytest.raises(ConfigError, match=said) as caught:
        train_network.run(settings(**changes), bench.lab)
    assert getattr(caught.value, "field", None) == field
    assert bench.backend.applied == []


def test_one_channel_of_a_kind_can_be_trained_alone_from_a_start_of_its_own() -> None:
    only = {"length": {**DIVIDER["weight_sets"]["length"], "channels": ["length.b"], "start": {"length.b": "20 um"}}}
    bench = Bench()
    summary = train_network.run(settings(weight_sets=only), bench.lab)
    assert list(summary.weights) == ["length.b"]
    assert bench.applied("length.b")[0] == 2e-5
    assert set(bench.applied("length.a")) == {None}


def test_the_registry_finds_this_procedure() -> None:
    assert "train_network" in registry.names()
    assert "train_problem" not in registry.names()
    assert registry.procedure("train_network").Settings is Settings
    with pytest.raises(ConfigError, match="did you mean 'train_network'"):
        registry.procedure("train_netwrok")
