"""One epoch of MNIST's size with device activations from a table, beside the same network with tanh in PyTorch.

784-128-64-10, batches of 64, Adam, one epoch of 60,000 samples (random ones unless HIL_DATA has MNIST: the work is the same).
Both sides in single precision and on the same number of threads.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.result import Result

NAMES = ("mnist_epoch",)
_SIZES, _BATCH, _SAMPLES = (784, 128, 64, 10), 64, 60_000
_ROUNDS = 3


def run(name: str) -> Iterable[Result]:
    """``ratio`` is PyTorch's time over ours. No error is given: the two compute different activations."""
    x, labels = _data()
    ours = np.inf
    peer: float | None = None
    with _threads(1):
        epoch = _ours(x, labels)
        other = _torch(x, labels)
        for _ in range(_ROUNDS):  # turn by turn, so that both sides see the same machine
            ours = min(ours, _timed(epoch))
            if other is not None:
                taken = _timed(other)
                peer = taken if peer is None else min(peer, taken)
    note = "one thread each; seconds an epoch" if other is not None else "PyTorch is not installed"
    yield Result(
        name,
        _SAMPLES,
        ours,
        None if peer is None else "PyTorch, tanh",
        peer,
        None if peer is None else peer / ours,
        None,
        note=note,
    )


def _timed(work: Any) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _data() -> tuple[Any, Any]:
    if os.environ.get("HIL_DATA"):
        from hil.datasets import load

        data = load("mnist")
        return data.x, data.labels
    rng = np.random.default_rng(0)
    return rng.random((_SAMPLES, _SIZES[0]), dtype=np.float32), rng.integers(0, _SIZES[-1], _SAMPLES).astype(np.float64)


def _ours(x: Any, labels: Any) -> Any:
    from hil.learn.families import family_activation
    from hil.learn.layered_network import LayeredNetwork
    from hil.learn.minibatch import Recipe, one_hot, train
    from hil.learn.neurons import Drive, TabulatedNeurons

    network = LayeredNetwork(_SIZES, np.random.default_rng(0), np.float32)
    neurons = TabulatedNeurons(family_activation("tanh"), Drive(0.5, 1.0, 1.0))
    targets = one_hot(labels, np.arange(float(_SIZES[-1]))).astype(np.float32)

    def epoch(samples: int = _SAMPLES) -> None:
        rng = np.random.default_rng(1)
        for _ in train(network, neurons, x[:samples], targets[:samples], Recipe(1, _BATCH, 1e-3), rng):
            pass

    epoch(10 * _BATCH)  # compiles
    return epoch


def _torch(x: Any, labels: Any) -> Any:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    layers: list[Any] = []
    for fan_in, fan_out in pairwise(_SIZES):
        layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.Tanh()]
    network = torch.nn.Sequential(*layers[:-1])
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    loss = torch.nn.CrossEntropyLoss()
    inputs, targets = torch.from_numpy(x), torch.from_numpy(labels).long()

    def epoch(samples: int = _SAMPLES) -> None:
        order = torch.randperm(samples)
        for begin in range(0, samples, _BATCH):
            chosen = order[begin : begin + _BATCH]
            optimiser.zero_grad(set_to_none=True)
            loss(network(inputs[chosen]), targets[chosen]).backward()
            optimiser.step()

    epoch(10 * _BATCH)
    return epoch


@contextmanager
def _threads(count: int) -> Iterator[None]:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(count):
        yield
