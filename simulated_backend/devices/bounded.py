"""Small helpers that laws with a bounded state share."""

import numpy as np

from hil.core.types import BoolArray, FloatArray
from simulated_backend.devices.base import EdgeDrive, Parameter

RESISTANCE_MINIMUM = 1e-9
RESISTANCE_MAXIMUM = 1e18


def resistance(default: float | None, meaning: str) -> Parameter:
    """A parameter in ohm that cannot be zero, negative or infinite."""
    return Parameter("ohm", default, RESISTANCE_MINIMUM, RESISTANCE_MAXIMUM, meaning)


def fraction(default: float | None, meaning: str) -> Parameter:
    """A pure number in 0 … 1."""
    return Parameter("1", default, 0.0, 1.0, meaning)


def started(values: FloatArray, drive: EdgeDrive) -> FloatArray:
    """One state that begins at ``values`` on every edge and copy: (1, ..., n_edges)."""
    shape = np.broadcast_shapes(np.shape(values), np.shape(drive.voltage))
    return np.array(np.broadcast_to(values, shape), dtype=np.float64)[np.newaxis]


def held_at_bounds(rate: FloatArray, x: FloatArray, low: float = 0.0, high: float = 1.0) -> FloatArray:
    """``rate`` with zeros where it would carry ``x`` further out of ``low`` … ``high``: a hard stop."""
    outward = ((x >= high) & (rate > 0)) | ((x <= low) & (rate < 0))
    return np.where(outward, 0.0, rate)


def named_edges(mask: BoolArray | np.bool_) -> str:
    """How many edges of a group are meant, for a sentence: "edge 3 of its group" or "4 edges"."""
    array = np.atleast_1d(np.asarray(mask, dtype=np.bool_))
    flat = np.asarray(array.reshape(-1, array.shape[-1]).any(axis=0))
    count = int(flat.sum())
    return f"1 edge of {flat.size}" if count == 1 else f"{count} edges of {flat.size}"
