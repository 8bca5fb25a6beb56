"""Compiled sums over edges: matrix entries and currents at nodes."""

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.solve.factor import Index
from simulated_backend.solve.jit import compiled


@compiled
def assemble(
    base: Index,
    tip: Index,
    slot_base: Index,
    slot_tip: Index,
    slope: FloatArray,
    ground: FloatArray,
    diagonal: FloatArray,
    off: FloatArray,
) -> None:
    """Diagonal (n_free,) and off-diagonal entries of the Kirchhoff matrix from edge slopes and conductances to ground."""
    diagonal[:] = ground
    off[:] = 0.0
    for e in range(slope.size):
        b, t = base[e], tip[e]
        if b >= 0:
            diagonal[np.uintp(b)] += slope[e]
        if t >= 0:
            diagonal[np.uintp(t)] += slope[e]
        if b >= 0 and t >= 0:
            off[np.uintp(slot_base[e])] -= slope[e]
            off[np.uintp(slot_tip[e])] -= slope[e]


@compiled
def gather(base: Index, tip: Index, current: FloatArray, out: FloatArray) -> None:
    """Subtract from ``out`` (n_free,) the currents (n_edges,) that leave each unknown through its edges."""
    for e in range(current.size):
        b, t = base[e], tip[e]
        if b >= 0:
            out[np.uintp(b)] -= current[e]
        if t >= 0:
            out[np.uintp(t)] += current[e]


@compiled
def drops(base: Index, tip: Index, voltage: FloatArray, out: FloatArray) -> None:
    """Voltage across every edge, base minus tip."""
    for e in range(out.size):
        out[e] = voltage[np.uintp(base[e])] - voltage[np.uintp(tip[e])]


@compiled
def to_lower(start: Index, neighbour: Index, column_start: Index, row: Index) -> Index:
    """Slot in L of every entry of the symmetric pattern that lies below the diagonal, −1 for those above."""
    slots = np.full(neighbour.size, -1, np.int32)
    for j in range(start.size - 1):
        for k in range(start[j], start[j + 1]):
            i = neighbour[k]
            if i > j:
                low, high = column_start[j], column_start[j + 1]
                while low < high:
                    middle = (low + high) // 2
                    if row[middle] < i:
                        low = middle + 1
                    else:
                        high = middle
                slots[k] = low
    return slots
