"""Training of a layered network in mini-batches, one epoch at a time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import RealArray
from hil.learn.layered_network import LayeredNetwork
from hil.learn.neurons import Neurons
from hil.learn.optimise import optimiser
from hil.learn.output_loss import output_loss
from hil.learn.schedule import schedule


@dataclass(frozen=True, slots=True)
class Recipe:
    """What people tune: names as in the registries, ``dropout`` the fraction of inputs silenced while training."""

    epochs: int
    batch: int
    learning_rate: float
    optimiser: str = "adam"
    schedule: str = "constant"
    loss: str = "cross_entropy"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch < 1:
            raise ConfigError(f"a recipe needs 0 or more epochs and a batch of 1 or more, not {self.epochs} and {self.batch}")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout must lie in 0 … 1 (1 excluded), not {self.dropout}")
        if not (self.learning_rate > 0 and np.isfinite(self.learning_rate)):
            raise ConfigError(f"a learning rate must be above 0 and finite, not {self.learning_rate}")
        output_loss(self.loss)
        schedule(self.schedule)


@dataclass(frozen=True, slots=True)
class EpochDone:
    """``loss`` is the mean over the epoch's batches, each before its update."""

    epoch: int
    loss: float


class _Update(Protocol):
    def step(self, theta: RealArray, gradient: RealArray, rate: float) -> None: ...


class _Double:
    """An optimiser of the registry, with its rate scheduled, updating in place."""

    def __init__(self, name: str, rate: float) -> None:
        self._optimiser = optimiser(name, rate)
        self._rate = rate

    def step(self, theta: RealArray, gradient: RealArray, rate: float) -> None:
        # every optimiser's step is proportional to its rate
        before = np.asarray(theta, dtype=np.float64)
        theta += (self._optimiser.step(before, np.asarray(gradient, dtype=np.float64)) - before) * (rate / self._rate)


def train(
    network: LayeredNetwork,
    neurons: Neurons,
    x: RealArray,
    targets: RealArray,
    recipe: Recipe,
    rng: np.random.Generator,
) -> Iterator[EpochDone]:
    """Train ``network`` in place on x (n, n_inputs), targets (n, n_outputs); yields after every epoch, stop by not going on.

    Raises ConfigError where shapes do not fit or the data are not finite.
    """
    if x.shape[1:] != network.sizes[:1] or targets.shape != (len(x), network.sizes[-1]):
        raise ConfigError(
            f"a network of {network.sizes} cannot learn inputs of shape {x.shape} and targets of shape {targets.shape}"
        )
    if not np.all(np.isfinite(x)):
        raise ConfigError("the training data hold values that are not finite")
    x, targets = x.astype(network.theta.dtype, copy=False), targets.astype(network.theta.dtype, copy=False)
    update = _update(network, recipe)
    loss, factor = output_loss(recipe.loss), schedule(recipe.schedule)
    gradient = np.empty_like(network.theta)
    batches = -(-len(x) // recipe.batch)
    for epoch in range(recipe.epochs):
        order, total = rng.permutation(len(x)), 0.0
        for number in range(batches):
            chosen = order[number * recipe.batch : (number + 1) * recipe.batch]
            batch = np.take(x, chosen, axis=0)
            if recipe.dropout:
                keep = rng.random(batch.shape, dtype=np.float32) >= recipe.dropout
                batch *= keep
                batch /= batch.dtype.type(1 - recipe.dropout)
            value, _ = network.gradient(batch, np.take(targets, chosen, axis=0), neurons, loss, gradient)
            total += value * len(chosen)
            update.step(network.theta, gradient, recipe.learning_rate * factor((epoch + number / batches) / recipe.epochs))
        yield EpochDone(epoch + 1, total / len(x))


def _update(network: LayeredNetwork, recipe: Recipe) -> _Update:
    if network.theta.dtype == np.float32 and recipe.optimiser == "adam":
        from hil.learn.compiled import SingleAdam

        return SingleAdam(network.theta.size)
    return _Double(recipe.optimiser, recipe.learning_rate)


def one_hot(labels: RealArray, classes: RealArray) -> RealArray:
    """Targets (n, n_classes) with 1 where the label is the class."""
    result: RealArray = (np.asarray(labels)[:, None] == np.asarray(classes)[None, :]).astype(np.float64)
    return result


def accuracy(outputs: RealArray, targets: RealArray) -> float:
    """Fraction of rows whose largest output is the target's."""
    return float(np.mean(outputs.argmax(axis=1) == targets.argmax(axis=1)))


def as_mapping(done: EpochDone) -> Mapping[str, float | int]:
    """One row of the training table."""
    return {"epoch": done.epoch, "loss": done.loss}
