"""From a training protocol and an opened lab to a trainer: every value in SI, every channel found, nothing applied."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hil.core.backend import Backend
from hil.core.errors import CapabilityError
from hil.core.lab import Lab
from hil.core.types import BoolArray, Channel, Determinism, FloatArray, Kind, Layout, Stimulus
from hil.experiment.fields import FieldError, unknown
from hil.learn.feasible import FeasibleSet
from hil.learn.gradients.base import GradientEstimator
from hil.learn.gradients.registry import gradient_estimator
from hil.learn.optimise import optimiser
from hil.learn.scale import Scale, Scaling
from hil.learn.tasks import Bindings, Task, grid
from hil.learn.trainer import Trainer
from hil.learn.training_state import StopRule
from hil.procedures.train_settings import KINDS, Settings, Target, Values


@dataclass(frozen=True)
class Problem:
    """A protocol resolved for one backend. start: (n,) SI; ``held_out`` is None where nothing is held out."""

    settings: Settings
    task: Task
    held_out: Task | None
    bindings: Bindings
    scale: Scale
    feasible: FeasibleSet
    start: FloatArray
    rate: FloatArray
    estimator: GradientEstimator

    def trainer(self, lab: Lab, checkpoint: Callable[[Mapping[str, object]], None] | None = None) -> Trainer:
        """A fresh trainer on ``lab``."""
        settings = self.settings
        chosen = settings.chosen_optimiser
        return Trainer(
            lab.backend,
            self.task,
            self.bindings,
            self.scale,
            self.feasible,
            self.start,
            self.estimator,
            optimiser(chosen.method, self.rate, **chosen.options),
            stop=StopRule(settings.loss_below, settings.stop.max_steps, settings.stop.patience),
            policy=settings.settle.policy(settings.output_unit),
            samples=settings.samples,
            final_samples=settings.final_samples,
            rng=np.random.default_rng(lab.seed),
            base_every=settings.gradient.base_every,
            block=block_of(lab.backend, settings.settle.dwell),
            warnings=lambda: lab.events.warnings,
            checkpoint=checkpoint,
        )

    def first_stimuli(self) -> list[Stimulus]:
        """Stimuli of the first gradient, the held-out inputs, and each weight at both ends of what it may become."""
        theta = self.scale.to_theta(self.start)
        probes = next(self.estimator.estimate(theta, np.random.default_rng(0))).points
        points = [theta[None, :], probes, *self._extremes()]
        stimuli = self.bindings.stimuli(self.scale.to_si(np.concatenate(points)), self.task)
        if self.held_out is not None:
            stimuli += self.bindings.stimuli(self.start[None, :], self.held_out)
        return stimuli

    def _extremes(self) -> list[FloatArray]:
        rows = []
        for position in range(len(self.start)):
            for end in (self.scale.minimum, self.scale.maximum):
                # A trained weight without a limit has no extreme to check.
                if np.isfinite(end[position]):
                    corner = self.start.copy()
                    corner[position] = end[position]
                    rows.append(self.scale.to_theta(self.feasible.project(corner)[0])[None, :])
        return rows


def block_of(backend: Backend, dwell: float | None) -> int | None:
    """Stimuli measured between two savings of the state (None: all of a round).

    One set of weights where a reading takes real time and must not be lost; everything at once where it is computed, or where
    the instrument itself runs the list.
    """
    return 1 if backend.capabilities.determinism is Determinism.PHYSICAL and dwell is None else None


def resolve(settings: Settings, backend: Backend) -> Problem:
    """Find every channel and convert every value; nothing is applied.

    Raises CapabilityError when the backend cannot train the weights asked for (and names those it can), FieldError
    (a ConfigError that knows its field) for an unknown channel or a wrong unit.
    """
    controls, outputs = backend.capabilities.controls, backend.capabilities.outputs
    trained = {kind: _channels(kind, settings, controls) for kind in settings.weights}
    for kind, channels in trained.items():
        if not channels:
            raise _cannot_train(kind, settings, backend)
    pairs = [(kind, channel) for kind, channels in trained.items() for channel in channels]
    names = tuple(channel.name for _, channel in pairs)
    _check_names(settings, controls, outputs, names)
    values, connected = _applied(settings, controls, names)
    scale = Scale.of(backend.envelope, names, Scaling(settings.gradient.scaling))
    sets = settings.weight_sets
    start = np.array([sets[kind].start.si(c.name, c.quantity.value, f"weight_sets.{kind}.start") for kind, c in pairs])
    step = np.array([sets[kind].step.si(settings.step_unit(kind), f"weight_sets.{kind}.step") for kind, _ in pairs])
    rate = np.array(
        [sets[kind].learning_rate.si(settings.rate_unit(kind), f"weight_sets.{kind}.learning_rate") for kind, _ in pairs]
    )
    for (kind, channel), value, low, high in zip(pairs, start, scale.minimum, scale.maximum, strict=True):
        if not low <= value <= high:
            unit = channel.quantity.value
            raise FieldError(
                f"weight {channel.name!r} starts at {value:g} {unit}, outside its limits {low:g} … {high:g} {unit}; "
                "start inside them, or widen them in the bench file",
                f"weight_sets.{kind}.start",
            )
    feasible = FeasibleSet.of(backend.envelope, names, values, scale.minimum, scale.maximum, _largest_move(scale, step))
    estimator = gradient_estimator(settings.gradient.method, step, scale.lower, scale.upper, **settings.gradient.options)
    bindings = Bindings(controls, values, connected, names)
    held_out = _task(settings, settings.held_out, controls, outputs) if settings.held_out else None
    task = _task(settings, settings.inputs, controls, outputs)
    return Problem(settings, task, held_out, bindings, scale, feasible, start, rate, estimator)


def _channels(kind: str, settings: Settings, controls: Layout) -> list[Channel]:
    """Controls that ``kind`` trains: all of its quantity, a radius ratio only with the radius that is to stay fixed."""
    found = [channel for channel in controls.of(KINDS[kind]) if _has_right_radius(kind, settings, channel)]
    chosen = settings.weight_sets.get(kind)
    if chosen is None or chosen.channels is None:
        return found
    known = [channel.name for channel in found]
    for name in chosen.channels:
        if found and name not in known:
            raise FieldError(unknown(f"{kind} weight", name, known), f"weight_sets.{kind}.channels")
    return [channel for channel in found if channel.name in chosen.channels]


def _has_right_radius(kind: str, settings: Settings, channel: Channel) -> bool:
    wanted = settings.tuned_as().get(kind)
    return wanted is None or channel.parameter is None or "_fixed_" not in channel.parameter or channel.parameter == wanted


def _cannot_train(kind: str, settings: Settings, backend: Backend) -> CapabilityError:
    possible = [other for other in KINDS if backend.capabilities.controls.of(KINDS[other])]
    described = [other for other in possible if other in settings.weight_sets]
    remedy = f"train one of them with --set weights={described[0]}" if described else "choose a bench that declares it"
    return CapabilityError(
        f"bench {backend.name!r} has no control of kind {kind!r} to train; weights this bench can train: "
        f"{', '.join(possible) or 'none'}; {remedy}. Nothing was applied"
    )


def _check_names(settings: Settings, controls: Layout, outputs: Layout, weights: tuple[str, ...]) -> None:
    for section, given, layout in (
        ("apply", settings.apply, controls),
        ("inputs", settings.inputs, controls),
        ("targets", settings.targets, outputs),
    ):
        for name in given:
            if name not in layout:
                what = "output" if section == "targets" else "control"
                raise FieldError(unknown(what, name, list(layout.names)), f"{section}.{name}")
    for name in settings.inputs:
        if name in weights or name in settings.apply:
            raise FieldError(
                f"control {name!r} is an input and also {'a weight' if name in weights else 'applied'}", f"inputs.{name}"
            )
    for name in settings.targets:
        unit = outputs[name].quantity.value
        if unit != settings.output_unit:
            raise FieldError(
                f"output {name!r} is measured in {unit}, its target is given in {settings.output_unit}", f"targets.{name}"
            )


def _applied(settings: Settings, controls: Layout, weights: tuple[str, ...]) -> tuple[FloatArray, BoolArray]:
    """What every control gets: from ``apply``; else the start of its kind; else it is left alone (high impedance, vented).

    A control that is left alone still needs a finite value inside its limits.
    """
    values = np.zeros(len(controls))
    connected = np.zeros(len(controls), dtype=np.bool_)
    rest = _starts_of_other_kinds(settings, controls)
    for position, channel in enumerate(controls):
        unit = channel.quantity.value
        if channel.name in settings.apply:
            values[position] = settings.apply[channel.name].si(unit, f"apply.{channel.name}")
            connected[position] = True
        elif channel.name in rest and channel.name not in weights:
            values[position] = rest[channel.name]
            connected[position] = True
        else:
            values[position] = float(np.clip(channel.safe.value, channel.minimum, channel.maximum))
    return values, connected


def _starts_of_other_kinds(settings: Settings, controls: Layout) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for kind, described in settings.weight_sets.items():
        for channel in controls.of(KINDS[kind]):
            known = described.start.every is not None or channel.name in described.start.each
            # A property of a device keeps its own value unless the protocol trains or applies it.
            if known and channel.kind is Kind.DRIVE:
                found[channel.name] = described.start.si(channel.name, channel.quantity.value, f"weight_sets.{kind}.start")
    return found


def _largest_move(scale: Scale, step: FloatArray) -> FloatArray:
    """The largest SI move of one probe anywhere in the range, (n,)."""
    if scale.scaling is Scaling.SI:
        return step
    return np.abs(scale.to_si(scale.upper) - scale.to_si(scale.upper - step))


def _task(settings: Settings, inputs: Mapping[str, Values], controls: Layout, outputs: Layout) -> Task:
    section = "held_out" if inputs is settings.held_out and settings.held_out else "inputs"
    columns = {name: values.si(controls[name].quantity.value, f"{section}.{name}") for name, values in inputs.items()}
    try:
        table = grid(list(columns.values()))
    except ValueError as error:
        raise FieldError(str(error), section) from None
    wanted = [_target_column(settings, name, target, columns, controls, len(table)) for name, target in settings.targets.items()]
    return Task(tuple(columns), table, tuple(settings.targets), np.stack(wanted, axis=1))


def _target_column(
    settings: Settings, name: str, target: Target, columns: Mapping[str, FloatArray], controls: Layout, rows: int
) -> FloatArray:
    unit, field = settings.output_unit, f"targets.{name}"
    if target.value is not None:
        return np.full(rows, target.value.si(unit, field))
    if target.table is not None:
        if len(target.table) != rows:
            raise FieldError(f"{len(target.table)} targets for {rows} inputs; give one for each", field)
        return np.array([value.si(unit, f"{field}.{k}") for k, value in enumerate(target.table)])
    if target.slope is None or target.offset is None:
        raise FieldError("a line needs `slope` and `offset`", field)
    of = target.of or next(iter(columns))
    of_unit = controls[of].quantity.value
    slope = target.slope.si("1" if of_unit == unit else f"({unit})/({of_unit})", f"{field}.slope")
    line: FloatArray = slope * columns[of] + target.offset.si(unit, f"{field}.offset")
    return line
