"""Numbers of a simulated backend as JSON and back, bit for bit."""

from typing import Any

import numpy as np

from hil.core.types import FloatArray, Stimulus
from simulated_backend.solve.kirchhoff import State


def stimulus_out(stimulus: Stimulus | None) -> object:
    """A stimulus as JSON."""
    return None if stimulus is None else [stimulus.values.tolist(), stimulus.connected.tolist()]


def stimulus_in(kept: Any) -> Stimulus | None:
    """The stimulus that ``stimulus_out`` kept. TypeError, ValueError for anything else."""
    return None if kept is None else Stimulus.of(kept[0], kept[1])


def state_out(state: State | None) -> object:
    """Device states as JSON."""
    return None if state is None else [{"shape": list(one.shape), "values": one.ravel().tolist()} for one in state]


def state_in(kept: Any) -> State | None:
    """The states that ``state_out`` kept. KeyError, TypeError, ValueError for anything else."""
    if kept is None:
        return None
    return tuple(np.array(one["values"], dtype=np.float64).reshape(one["shape"]) for one in kept)


def array_out(array: FloatArray | None) -> object:
    """One array as JSON."""
    return None if array is None else array.tolist()


def array_in(kept: Any) -> FloatArray | None:
    """The array that ``array_out`` kept. TypeError, ValueError for anything else."""
    return None if kept is None else np.array(kept, dtype=np.float64)
