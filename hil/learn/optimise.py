"""Optimisers: from a gradient to the next coordinates. Each keeps its memory in a state dict that JSON can hold."""

from collections.abc import Mapping
from typing import ClassVar, Protocol

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import FloatArray

State = dict[str, object]


class Optimiser(Protocol):
    """``rate`` (n,) or a scalar. ``rate_per_loss``: the rate divides by the loss unit (the step follows the gradient)."""

    name: ClassVar[str]
    rate_per_loss: ClassVar[bool]

    def step(self, theta: FloatArray, gradient: FloatArray) -> FloatArray:
        """The next coordinates, (n,), before any limit is applied."""
        ...

    def state_dict(self) -> State:
        """Everything a bit-exact continuation needs."""
        ...

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue from ``state_dict``."""
        ...


class GradientDescent:
    """θ ← θ - α ∇C."""

    name: ClassVar[str] = "gradient_descent"
    rate_per_loss: ClassVar[bool] = True

    def __init__(self, rate: FloatArray | float) -> None:
        self.rate = _rate(rate)

    def step(self, theta: FloatArray, gradient: FloatArray) -> FloatArray:
        """One step down the gradient."""
        return theta - self.rate * gradient

    def state_dict(self) -> State:
        """Nothing is remembered."""
        return {}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Nothing to load."""


class Momentum:
    """v ← β v + ∇C, θ ← θ - α v (Polyak's heavy ball, USSR Comput. Math. Math. Phys. 4(5), 1, 1964)."""

    name: ClassVar[str] = "momentum"
    rate_per_loss: ClassVar[bool] = True

    def __init__(self, rate: FloatArray | float, beta: float = 0.9) -> None:
        self.rate = _rate(rate)
        self.beta = _fraction("beta", beta)
        self._velocity: FloatArray | None = None

    def step(self, theta: FloatArray, gradient: FloatArray) -> FloatArray:
        """One step along the averaged gradient."""
        previous = np.zeros_like(gradient) if self._velocity is None else self._velocity
        self._velocity = self.beta * previous + gradient
        return theta - self.rate * self._velocity

    def state_dict(self) -> State:
        """The velocity."""
        return {"velocity": _listed(self._velocity)}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Restore the velocity."""
        self._velocity = _array(state["velocity"])


class Adam:
    """Adam with bias correction (Kingma and Ba, ICLR 2015, algorithm 1). The rate is a step in θ, not per loss."""

    name: ClassVar[str] = "adam"
    rate_per_loss: ClassVar[bool] = False

    def __init__(self, rate: FloatArray | float, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> None:
        self.rate = _rate(rate)
        self.beta1 = _fraction("beta1", beta1)
        self.beta2 = _fraction("beta2", beta2)
        if not (epsilon >= 0 and np.isfinite(epsilon)):
            raise ConfigError(f"optimiser adam: epsilon must be 0 or more, not {epsilon}")
        self.epsilon = epsilon
        self._count = 0
        self._first: FloatArray | None = None
        self._second: FloatArray | None = None

    def step(self, theta: FloatArray, gradient: FloatArray) -> FloatArray:
        """One step of about the rate in every coordinate; a coordinate that never had a gradient stays."""
        zero = np.zeros_like(gradient)
        first = zero if self._first is None else self._first
        second = zero if self._second is None else self._second
        self._count += 1
        self._first = self.beta1 * first + (1.0 - self.beta1) * gradient
        self._second = self.beta2 * second + (1.0 - self.beta2) * gradient**2
        mean = self._first / (1.0 - self.beta1**self._count)
        spread = np.sqrt(self._second / (1.0 - self.beta2**self._count)) + self.epsilon
        move = np.divide(mean, spread, out=np.zeros_like(mean), where=spread > 0)
        return theta - self.rate * move

    def state_dict(self) -> State:
        """Step count and both moments."""
        return {"count": self._count, "first": _listed(self._first), "second": _listed(self._second)}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Restore step count and moments."""
        self._count = int(str(state["count"]))
        self._first = _array(state["first"])
        self._second = _array(state["second"])


OPTIMISERS: Mapping[str, type[GradientDescent] | type[Momentum] | type[Adam]] = {
    kind.name: kind for kind in (GradientDescent, Momentum, Adam)
}


def optimiser(name: str, rate: FloatArray | float, **options: float) -> Optimiser:
    """Build an optimiser by name; ConfigError names the ones there are, or the option it does not have."""
    if name not in OPTIMISERS:
        raise ConfigError(f"there is no optimiser {name!r}; known: {', '.join(OPTIMISERS)}")
    try:
        return OPTIMISERS[name](rate, **options)
    except TypeError as error:
        raise ConfigError(f"optimiser {name!r} does not take these options: {error}") from None


def _rate(rate: FloatArray | float) -> FloatArray:
    array = np.asarray(rate, dtype=np.float64)
    if not (np.all(np.isfinite(array)) and np.all(array > 0)):
        raise ConfigError(f"a learning rate must be above 0 and finite, not {rate}")
    return array


def _fraction(name: str, value: float) -> float:
    if not 0.0 <= value < 1.0:
        raise ConfigError(f"optimiser option {name} must lie in 0 … 1 (1 excluded), not {value}")
    return value


def _listed(array: FloatArray | None) -> list[float] | None:
    return None if array is None else [float(value) for value in array]


def _array(values: object) -> FloatArray | None:
    return None if values is None else np.array(values, dtype=np.float64)
