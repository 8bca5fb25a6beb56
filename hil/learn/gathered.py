"""Several trainings that share one set of physical neurons: whatever they want to know at the same time is one measurement.

A network of two hidden neurons asks for 32 points a batch. Fifty of them, trained side by side (the folds of a
cross-validation, the seeds of a comparison), ask for 1,600 in one sweep: the wire is waited for once.
"""

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from hil.core.types import RealArray
from hil.learn.neurons import Neurons

T = TypeVar("T")


class _StoppedError(Exception):
    """Raised inside the trainings when the measurement has failed or was stopped."""


class _Member:
    """The neurons as one training sees them."""

    def __init__(self, gathering: "_Gathering", number: int) -> None:
        self._gathering, self._number = gathering, number

    def activate(self, z: RealArray) -> RealArray:
        """Activations alone."""
        return self._gathering.ask(self._number, z)[0]

    def respond(self, z: RealArray) -> tuple[RealArray, RealArray]:
        """Activations and slopes."""
        return self._gathering.ask(self._number, z)


class _Gathering:
    def __init__(self, count: int) -> None:
        self._changed = threading.Condition()
        self._active = count
        self._asked: dict[int, RealArray] = {}
        self._answered: dict[int, tuple[RealArray, RealArray]] = {}
        self._stopped = False

    def ask(self, number: int, z: RealArray) -> tuple[RealArray, RealArray]:
        with self._changed:
            self._asked[number] = z
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._stopped or number in self._answered)
            if self._stopped:
                raise _StoppedError
            return self._answered.pop(number)

    def leave(self) -> None:
        with self._changed:
            self._active -= 1
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def serve(self, neurons: Neurons) -> None:
        """Answer until every member has left; runs in the thread that may use the backend."""
        while True:
            with self._changed:
                # A wait without end could not be interrupted by Ctrl-C on every system.
                while not self._changed.wait_for(lambda: len(self._asked) >= self._active, timeout=0.5):
                    pass
                if not self._active:
                    return
                asked = dict(sorted(self._asked.items()))
                self._asked.clear()
            flat = np.concatenate([z.ravel() for z in asked.values()])
            value, slope = neurons.respond(flat)
            at = 0
            answers = {}
            for number, z in asked.items():
                part = slice(at, at + z.size)
                answers[number] = value[part].reshape(z.shape), slope[part].reshape(z.shape)
                at += z.size
            with self._changed:
                self._answered |= answers
                self._changed.notify_all()


def train_together(jobs: Sequence[Callable[[Neurons], T]], neurons: Neurons) -> list[T]:
    """Results of ``jobs``, each run in a thread of its own with neurons that the calling thread answers, in a fixed order.

    The first error of a job, or of ``neurons``, ends all of them and is raised.
    """
    gathering = _Gathering(len(jobs))
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            results[number] = jobs[number](_Member(gathering, number))
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the calling thread, which raises it
            errors.append(error)
        finally:
            gathering.leave()

    threads = [threading.Thread(target=work, args=(number,), name=f"training {number}") for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    try:
        gathering.serve(neurons)
    finally:
        gathering.stop()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(jobs))]
