"""Train networks whose hidden activations are devices, with tanh and ReLU beside them in the same recipe.

Activations and slopes are readings of the pair (``neurons.slope: two_device`` and the like) or come from the device's curve,
which is measured first (``curve``): the only way for data sets of MNIST's size. Accuracies are fractions.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from hil.core.errors import ConfigError
from hil.core.events import Progress, TableRow
from hil.core.lab import Lab
from hil.core.outcome import Outcome, Summary
from hil.core.types import FloatArray, RealArray, Stimulus
from hil.datasets import Data, load, stratified_folds
from hil.experiment.fields import AsTuple, Fraction, Name, Positive, Strict, choice, refuse
from hil.experiment.protocol import Protocol
from hil.learn.activation import Activation
from hil.learn.gathered import train_together
from hil.learn.iv_curve import IVCurve
from hil.learn.layered_network import LayeredNetwork
from hil.learn.minibatch import Recipe, accuracy, one_hot, train
from hil.learn.neurons import DeviceNeurons, Drive, Neurons, ReLU, TabulatedNeurons, Tanh
from hil.learn.slope import Probe, SequentialSlope, SlopeMeter, TwoDeviceSlope

__all__ = ["REPEATABLE", "Settings", "plan", "run"]

REPEATABLE = True
"""The same readings lead to the same questions: what trains is computed again from what was measured."""

BASELINES: Mapping[str, Callable[[], Neurons]] = {"tanh": Tanh, "relu": ReLU}


class DriveChoice(Strict):
    """``gain``: from pre-activation to voltage in units of V_max; ``current``: what counts as activation 1, in units of I_max."""

    gain: Positive = 0.5
    current: Positive = 1.0


class NeuronChoice(Strict):
    """How activations and slopes come about.

    ``slope``: two_device, two_device_swap, sequential (measured for every sample) or curve. ``delta``: spacing as a fraction
    of V_max. ``drive``, or one for each family of devices in ``drives``. ``curve_points``, ``curve_samples``: of the curve.
    """

    slope: Annotated[str, choice("two_device", "two_device_swap", "sequential", "curve")] = "two_device"
    delta: Fraction = 0.05
    drive: DriveChoice = Field(default_factory=DriveChoice)
    drives: dict[Name, DriveChoice] = Field(default_factory=dict)
    curve_points: Annotated[int, Field(ge=5, le=10_000)] = 41
    curve_samples: Annotated[int, Field(ge=1, le=10_000)] = 25


class RecipeChoice(Strict):
    """The recipe, the same for devices and baselines; see ``hil.learn.minibatch.Recipe``."""

    epochs: Annotated[int, Field(ge=1)] = 60
    batch: Annotated[int, Field(ge=1)] = 16
    learning_rate: Positive = 0.01
    optimiser: str = "adam"
    schedule: str = "constant"
    loss: str = "cross_entropy"
    dropout: Fraction = 0.0
    standardise: bool = True

    def recipe(self) -> Recipe:
        """As the trainer wants it; ConfigError for an unknown name."""
        return Recipe(self.epochs, self.batch, self.learning_rate, self.optimiser, self.schedule, self.loss, self.dropout)

    @model_validator(mode="after")
    def _known(self) -> "RecipeChoice":
        try:
            self.recipe()
        except ConfigError as error:
            refuse(str(error))
        return self


class Settings(Protocol):
    """``folds``: cross-validation; 0 takes the test set that the data set brings, or with ``validation`` that many training
    samples in its place (for choosing a recipe). ``seeds``: how many trainings, from ``seed`` on. ``family``: of the devices,
    by the law's name for it.
    """

    dataset: Annotated[str, choice("iris", "digits", "mnist")]
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], AsTuple]
    control: Name = "V"
    output: Name = "I"
    family: str | None = None
    neurons: NeuronChoice = Field(default_factory=NeuronChoice)
    recipe: RecipeChoice = Field(default_factory=RecipeChoice)
    baselines: Annotated[tuple[Annotated[str, choice(*BASELINES)], ...], AsTuple] = ("tanh", "relu")
    folds: Annotated[int, Field(ge=0, le=1000)] = 5
    validation: Annotated[int, Field(ge=0)] = 0
    seeds: Annotated[int, Field(ge=1, le=1000)] = 10

    @model_validator(mode="after")
    def _possible(self) -> "Settings":
        if self.folds == 1:
            refuse("a cross-validation needs at least 2 folds (0: the test set of the data)", "folds")
        if self.folds and self.validation:
            refuse("a cross-validation has test parts of its own; leave `validation` out", "validation")
        return self

    def for_bench(self) -> Mapping[str, str]:
        """The family of the devices is a matter of the bench's twin."""
        return {} if self.family is None else {"twin.law.options.family": self.family}


def plan(settings: Settings, lab: Lab) -> list[Stimulus]:
    """The ends of the drive and, where a curve is measured first, all its points. Raises what the neurons would."""
    probe = _probe(settings, lab)
    channel = lab.backend.capabilities.controls[settings.control]
    if settings.neurons.slope != "curve":
        _meter(settings, probe)
    return probe.stimuli(np.linspace(channel.minimum, channel.maximum, settings.neurons.curve_points))


def run(settings: Settings, lab: Lab) -> Summary:
    """Train and test; raises ConfigError without data, and what the backend raises."""
    plan(settings, lab)
    data = load(settings.dataset)
    neurons = _device_neurons(settings, lab)
    results = _accuracies(settings, lab, data, "device", neurons)
    results["neurons"] = settings.neurons.slope
    results["readings"] = neurons.readings if isinstance(neurons, DeviceNeurons) else 0
    results["baselines"] = {name: _accuracies(settings, lab, data, name, BASELINES[name]()) for name in settings.baselines}
    mean, sd = results["accuracy_mean"], results["accuracy_sd"]
    return Summary(
        Outcome.DONE,
        f"accuracy {100 * mean:.2f} ± {100 * sd:.2f} % over {settings.seeds} seeds",
        steps=settings.recipe.epochs * settings.seeds * max(settings.folds, 1),
        results=results,
    )


def _accuracies(settings: Settings, lab: Lab, data: Data, name: str, neurons: Neurons) -> dict[str, Any]:
    """Mean and standard deviation over the seeds of the test accuracy (with folds: of all test parts together)."""
    seeds = range(lab.seed, lab.seed + settings.seeds)
    jobs = [job for seed in seeds for job in _jobs(settings, data, seed)]
    if isinstance(neurons, DeviceNeurons):
        # Every network meets the same devices: what they ask for at the same time is one sweep.
        found = train_together(jobs, neurons)
        lab.events.emit(Progress(len(jobs), len(jobs), f"{name}: {len(jobs)} networks"))
    else:
        found = []
        for number, job in enumerate(jobs):
            right, of = lab.continuity.computed(partial(job, neurons))
            found.append((right, of))
            lab.events.emit(Progress(number + 1, len(jobs), f"{name}: network {number + 1} of {len(jobs)}"))
    right = np.array(found, dtype=np.float64).reshape(len(seeds), -1, 2).sum(axis=1)
    accuracies = right[:, 0] / right[:, 1]
    for seed, one in zip(seeds, accuracies, strict=True):
        lab.events.emit(TableRow("accuracy", {"neurons": name, "seed": seed, "accuracy": float(one)}))
    return {
        "accuracy_mean": float(np.mean(accuracies)),
        "accuracy_sd": float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else 0.0,
        "seeds": len(accuracies),
        "accuracies": [float(one) for one in accuracies],
    }


Job = Callable[[Neurons], tuple[float, int]]


def _jobs(settings: Settings, data: Data, seed: int) -> list[Job]:
    """One training per fold; each returns how many of how many test samples it got right."""
    rng = np.random.default_rng([seed, 0x666F6C64])
    rows = np.arange(len(data.x))
    if settings.folds:
        parts = stratified_folds(data.labels, settings.folds, rng)
        splits = [(np.setdiff1d(rows, part), part) for part in parts]
        return [
            partial(_trained, settings, data.x[one], data.labels[one], data.x[other], data.labels[other], [seed, fold])
            for fold, (one, other) in enumerate(splits)
        ]
    if settings.validation:
        if settings.validation >= len(rows):
            raise ConfigError(f"validation = {settings.validation} leaves nothing of {len(rows)} samples to train on")
        shuffled = np.random.default_rng(0x76616C).permutation(rows)  # one split for all seeds
        one, other = shuffled[settings.validation :], shuffled[: settings.validation]
        return [partial(_trained, settings, data.x[one], data.labels[one], data.x[other], data.labels[other], [seed])]
    if data.x_test is None or data.labels_test is None:
        raise ConfigError(f"the data set {data.name!r} has no test set of its own; set `folds` or `validation`")
    return [partial(_trained, settings, data.x, data.labels, data.x_test, data.labels_test, [seed])]


def _trained(
    settings: Settings,
    x: RealArray,
    labels: FloatArray,
    x_test: RealArray,
    labels_test: FloatArray,
    seed: list[int],
    neurons: Neurons,
) -> tuple[float, int]:
    rng = np.random.default_rng(seed)
    if settings.recipe.standardise:
        mean, scale = x.mean(axis=0), x.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        x, x_test = (x - mean) / scale, (x_test - mean) / scale
    classes = np.unique(labels)
    network = LayeredNetwork((x.shape[1], *settings.hidden, len(classes)), rng, x.dtype)
    targets = one_hot(labels, classes).astype(x.dtype)
    for _ in train(network, neurons, x, targets, settings.recipe.recipe(), rng):
        pass
    share = accuracy(network.forward(x_test.astype(x.dtype), neurons), one_hot(labels_test, classes))
    return share * len(x_test), len(x_test)


def _device_neurons(settings: Settings, lab: Lab) -> Neurons:
    probe, activation = _probe(settings, lab), None
    channel = lab.backend.capabilities.controls[settings.control]
    activation = _measured_curve(settings, lab, probe)
    chosen = settings.neurons.drives.get(settings.family or "", settings.neurons.drive)
    drive = Drive(
        chosen.gain,
        min(-channel.minimum, channel.maximum),
        chosen.current * float(np.max(np.abs(activation.current))),
    )
    if settings.neurons.slope == "curve":
        return TabulatedNeurons(activation, drive)
    return DeviceNeurons(_meter(settings, probe), drive)


def _measured_curve(settings: Settings, lab: Lab, probe: Probe) -> Activation:
    """The (first) device's curve, up and down, as it is now; also what tells the largest current."""
    channel = lab.backend.capabilities.controls[settings.control]
    up = np.linspace(channel.minimum, channel.maximum, settings.neurons.curve_points)
    path = np.concatenate([up, up[::-1]])
    with lab.continuity.unbroken():
        readings = lab.backend.measure(probe.stimuli(path), probe.policy, settings.neurons.curve_samples)
    position = lab.backend.capabilities.outputs.index(settings.output)
    curve = IVCurve.of(path, readings.values[:, position], readings.std[:, position], source="train_neurons")
    activation = Activation.from_curve(curve, "mean", monotone="allow")
    for voltage, current in zip(activation.voltage, activation.current, strict=True):
        lab.events.emit(TableRow("curve", {"voltage": float(voltage), "current": float(current)}))
    return activation


def _probe(settings: Settings, lab: Lab) -> Probe:
    backend = lab.backend
    policy = settings.settle.policy(backend.capabilities.outputs[settings.output].quantity.value)
    channel = backend.capabilities.controls[settings.control]
    delta = settings.neurons.delta * (channel.maximum - channel.minimum) / 2
    return Probe(backend, policy, delta, settings.control, settings.output, settings.samples)


def _meter(settings: Settings, probe: Probe) -> SlopeMeter:
    match settings.neurons.slope:
        case "two_device_swap":
            return TwoDeviceSlope(probe, swap=True)
        case "sequential":
            return SequentialSlope(probe)
        case _:
            return TwoDeviceSlope(probe)
