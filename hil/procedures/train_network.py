"""Train the weights of a network until its outputs are what a protocol wants, on whatever backend the lab has."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from hil.core.events import Progress
from hil.core.lab import Lab
from hil.core.outcome import Outcome, Summary
from hil.core.types import FloatArray, Stimulus
from hil.learn.tasks import Task, outputs_of
from hil.learn.trainer import Trainer
from hil.learn.training_state import Ending, Point
from hil.procedures.train_problem import Problem, resolve
from hil.procedures.train_settings import Settings

__all__ = ["Settings", "plan", "run"]


def plan(settings: Settings, lab: Lab) -> list[Stimulus]:
    """Stimuli of the first gradient, the held-out inputs and the extremes of every weight. Nothing is applied.

    Raises CapabilityError when the backend cannot train these weights, ConfigError for channels or units that do not fit.
    """
    return resolve(settings, lab.backend).first_stimuli()


def run(
    settings: Settings,
    lab: Lab,
    *,
    resume: Mapping[str, Any] | None = None,
    checkpoint: Callable[[Mapping[str, object]], None] | None = None,
) -> Summary:
    """Train until the stop rule holds; the weights that the summary names are the ones left applied.

    ``checkpoint`` is called with a JSON-able state after every block of readings; ``resume`` continues from one. Raises
    what ``plan`` raises before anything is applied, and what ``Backend.measure`` raises.
    """
    problem = resolve(settings, lab.backend)
    lab.backend.envelope.check(*_stacked(problem.first_stimuli()))
    revisits: list[object] = [] if resume is None else list(resume["revisits"])

    def keep(state: Mapping[str, object]) -> None:
        if checkpoint is not None:
            checkpoint({**state, "revisits": revisits})

    trainer = problem.trainer(lab, None if checkpoint is None else keep)
    if resume is not None:
        trainer.load_state_dict(resume)
        if not lab.backend.capabilities.can_capture:
            _revisit(trainer, lab, revisits)
    for done in trainer.steps():
        lab.events.emit(done)
        for name in done.info["limits"] if isinstance(done.info["limits"], list) else ():
            lab.events.warn(f"weight limit: the limits of {name} hold the weights back")
        lab.events.emit(Progress(done.step, settings.stop.max_steps, f"loss {done.loss:.4g} {settings.output_unit}²"))
    final = trainer.finish()
    summary = _summary(problem, lab, trainer, final)
    return replace(summary, results={**summary.results, "revisits": revisits}) if revisits else summary


def _revisit(trainer: Trainer, lab: Lab, revisits: list[object]) -> None:
    """The backend stands where nobody knows: go back to the point of the last state, and say how far it moved meanwhile."""
    moved = trainer.revisit()
    if moved is None:
        return
    names = trainer.task.output_names
    facts = moved.facts(names)
    revisits.append(facts)
    unit = lab.backend.capabilities.outputs[names[0]].quantity.value
    how_far = ", ".join(f"{name} by {value:.3g} {unit}" for name, value in facts["moved"].items())
    meaning = "the probes of this step are measured again" if moved.significant else "as much as its noise explains"
    lab.events.warn(f"resumed: since the interruption the base point moved {how_far}; {meaning}")


def _stacked(stimuli: list[Stimulus]) -> tuple[FloatArray, Any]:
    return np.array([stimulus.values for stimulus in stimuli]), np.array([stimulus.connected for stimulus in stimuli])


def _summary(problem: Problem, lab: Lab, trainer: Trainer, final: Point) -> Summary:
    if trainer.ending is Ending.CONVERGED:
        outcome = Outcome.CONVERGED
    elif trainer.ending is Ending.EXHAUSTED and problem.settings.loss_below is None:
        outcome = Outcome.DONE
    else:
        outcome = Outcome.NOT_CONVERGED
    return Summary(
        outcome,
        trainer.reason,
        trainer.step,
        final.loss,
        trainer.threshold(final),
        tuple(trainer.history),
        trainer.outputs_at(final),
        trainer.weights_at(final.theta),
        _results(problem, lab, trainer, final),
    )


def _results(problem: Problem, lab: Lab, trainer: Trainer, final: Point) -> dict[str, object]:
    task = problem.task
    results: dict[str, object] = {
        "loss_std": final.loss_std,
        "final_samples": trainer.final_samples,
        "clamped": trainer.clamped,
        **({} if trainer.drift is None else {"drift": trainer.drift.facts(task.output_names)}),
    }
    if len(task) == 1:
        errors = final.outputs[0] - task.targets[0]
        results["errors"] = {name: float(error) for name, error in zip(task.output_names, errors, strict=True)}
        return results
    reference = _reference(problem)
    results["results_reference"] = reference
    results["rms_training"] = _rms(final.outputs, task.targets) / reference
    if problem.held_out is not None:
        results["rms_held_out"] = (
            _rms(_measured(problem, lab, trainer, final.theta, problem.held_out), problem.held_out.targets) / reference
        )
    return results


def _reference(problem: Problem) -> float:
    """What rms errors are divided by: the field ``results_reference``, else the span of the targets, else 1 (plain SI)."""
    given = problem.settings.results_reference
    if given is not None:
        return given.si(problem.settings.output_unit, "results_reference")
    return float(np.ptp(problem.task.targets)) or 1.0


def _rms(outputs: FloatArray, targets: FloatArray) -> float:
    return float(np.sqrt(np.mean((outputs - targets) ** 2)))


def _measured(problem: Problem, lab: Lab, trainer: Trainer, theta: FloatArray, task: Task) -> FloatArray:
    """Outputs of the trained network for inputs it was not trained on, (n_inputs, n_outputs)."""
    stimuli = problem.bindings.stimuli(problem.scale.to_si(theta)[None, :], task)
    readings = lab.backend.measure(stimuli, trainer.policy, trainer.final_samples)
    outputs, _ = outputs_of(readings, lab.backend.capabilities.outputs, task)
    first: FloatArray = outputs[0]
    return first
