"""Several trainings on one set of neurons: one measurement for all that wait, and no result but their own."""

from collections.abc import Callable

import numpy as np
import pytest

from hil.core.errors import BackendError
from hil.core.types import RealArray
from hil.learn.gathered import train_together
from hil.learn.neurons import Neurons

Job = Callable[[Neurons], float]


class Counting:
    """Squares, and remembers how much was asked at once."""

    def __init__(self, fails_at: int = -1) -> None:
        self.sizes: list[int] = []
        self.fails_at = fails_at

    def activate(self, z: RealArray) -> RealArray:
        return self.respond(z)[0]

    def respond(self, z: RealArray) -> tuple[RealArray, RealArray]:
        if len(self.sizes) == self.fails_at:
            raise BackendError("the wire broke")
        self.sizes.append(z.size)
        return z**2, 2 * z


def job(start: float, steps: int) -> Job:
    def work(neurons: Neurons) -> float:
        z = np.full((2, 3), start)
        for _ in range(steps):
            value, slope = neurons.respond(z)
            assert value.shape == slope.shape == z.shape
            z = z - 0.1 * slope
        return float(z[0, 0])

    return work


def test_what_is_asked_at_the_same_time_is_one_measurement() -> None:
    neurons = Counting()
    found = train_together([job(1.0, 3), job(2.0, 3), job(3.0, 3)], neurons)
    assert found == pytest.approx([1 * 0.8**3, 2 * 0.8**3, 3 * 0.8**3])
    assert neurons.sizes == [18, 18, 18]


def test_a_training_that_is_finished_does_not_hold_up_the_others() -> None:
    neurons = Counting()
    found = train_together([job(1.0, 1), job(1.0, 4)], neurons)
    assert found == pytest.approx([0.8, 0.8**4])
    assert neurons.sizes == [12, 6, 6, 6]


def test_a_failed_measurement_ends_all_of_them() -> None:
    with pytest.raises(BackendError, match="the wire broke"):
        train_together([job(1.0, 5), job(1.0, 5)], Counting(fails_at=2))


def test_an_error_of_one_training_is_raised_and_not_waited_for() -> None:
    def broken(neurons: Neurons) -> float:
        neurons.activate(np.ones(2))
        raise ValueError("this one is wrong")

    with pytest.raises(ValueError, match="this one is wrong"):
        train_together([broken, job(1.0, 3)], Counting())
