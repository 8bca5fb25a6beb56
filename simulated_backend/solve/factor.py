"""Compiled symmetric factorisation L·D·Lᵀ with a fixed pattern, and Jacobi-scaled conjugate gradients.

The pattern is analysed once per network (elimination tree and column patterns: T. Davis, Direct Methods for Sparse
Linear Systems, ch. 4); every later factorisation replays it without a search: ``target[t]`` names the slot that the
t-th product of two entries of one column is subtracted from. No pivoting: Kirchhoff matrices are symmetric, and for
devices of positive slope also positive definite; a negative pivot is allowed (negative differential conductance) and
counted, a pivot lost to cancellation is reported.
"""

import numpy as np
from numpy.typing import NDArray

from hil.core.types import FloatArray
from simulated_backend.solve.jit import compiled

Index = NDArray[np.int32]


@compiled
def column_counts(start: Index, neighbour: Index) -> tuple[Index, Index]:
    """Elimination tree and entries below the diagonal of every column of L, for a symmetric pattern without diagonal."""
    n = start.size - 1
    parent = np.full(n, -1, np.int32)
    count = np.zeros(n, np.int32)
    mark = np.full(n, -1, np.int32)
    for k in range(n):
        mark[k] = k
        for q in range(start[k], start[k + 1]):
            i = neighbour[q]
            while i < k and mark[i] != k:
                if parent[i] == -1:
                    parent[i] = k
                count[i] += 1
                mark[i] = k
                i = parent[i]
    return parent, count


@compiled
def column_patterns(start: Index, neighbour: Index, parent: Index, column_start: Index) -> Index:
    """Row indices of L column by column, ascending."""
    n = start.size - 1
    row = np.empty(column_start[n], np.int32)
    fill = column_start[:n].copy()
    mark = np.full(n, -1, np.int32)
    for k in range(n):
        mark[k] = k
        for q in range(start[k], start[k + 1]):
            i = neighbour[q]
            while i < k and mark[i] != k:
                row[fill[i]] = k
                fill[i] += 1
                mark[i] = k
                i = parent[i]
    return row


@compiled
def update_targets(column_start: Index, row: Index, n_targets: int) -> Index:
    """Slot of L that each product of two entries of one column is subtracted from, in the order ``factorise`` runs."""
    n = column_start.size - 1
    target = np.empty(n_targets, np.int32)
    t = 0
    for j in range(n):
        end = column_start[j + 1]
        for a in range(column_start[j], end):
            slot = column_start[row[a]]
            for b in range(a + 1, end):
                while row[slot] != row[b]:
                    slot += 1
                target[t] = slot
                t += 1
    return target


@compiled
def factorise(column_start: Index, row: Index, target: Index, diagonal: FloatArray, lower: FloatArray) -> int:
    """In place: ``diagonal`` becomes D, ``lower`` becomes L. Returns the number of negative pivots, −1 if one vanished."""
    t = np.uintp(0)
    one = np.uintp(1)
    negative = 0
    a = np.uintp(0)
    for j in range(diagonal.size):
        d = diagonal[j]
        if not abs(d) > 1e-300:
            return -1
        if d < 0.0:
            negative += 1
        inverse = 1.0 / d
        end = np.uintp(column_start[j + 1])
        while a < end:
            value = lower[a]
            scaled = value * inverse
            diagonal[np.uintp(row[a])] -= scaled * value
            for b in range(a + one, end):
                lower[np.uintp(target[t])] -= scaled * lower[b]
                t += one
            lower[a] = scaled
            a += one
    return negative


@compiled
def substitute(column_start: Index, row: Index, diagonal: FloatArray, lower: FloatArray, x: FloatArray) -> None:
    """x becomes the solution of L·D·Lᵀ x = x."""
    n = diagonal.size
    one = np.uintp(1)
    a = np.uintp(0)
    for j in range(n):
        value = x[j]
        end = np.uintp(column_start[j + 1])
        while a < end:
            x[np.uintp(row[a])] -= lower[a] * value
            a += one
    for j in range(n - 1, -1, -1):
        value = x[j] / diagonal[j]
        begin = np.uintp(column_start[j])
        while a > begin:
            a -= one
            value -= lower[a] * x[np.uintp(row[a])]
        x[j] = value


@compiled
def conjugate_gradients(
    start: Index,
    neighbour: Index,
    off: FloatArray,
    scale: FloatArray,
    right: FloatArray,
    x: FloatArray,
    work: FloatArray,
    tolerance: float,
    limit: int,
) -> int:
    """Solve S⁻¹(I + off)S⁻¹ y = right with S = diag(``scale``): symmetric scaling that leaves a unit diagonal.

    ``off`` are the scaled off-diagonal values; ``x`` is start and result in the *scaled* unknown y/S; ``work`` (3, n).
    Stops when the residual (2-norm, scaled) is ≤ ``tolerance``. Returns the iterations; −1 when the limit is reached,
    −2 when the matrix is not positive definite.
    """
    n = x.size
    one = np.uintp(1)
    r, p, q = work[0], work[1], work[2]
    norm = 0.0
    k = np.uintp(0)
    for i in range(n):
        s = x[i]
        end = np.uintp(start[i + 1])
        while k < end:
            s += off[k] * x[np.uintp(neighbour[k])]
            k += one
        value = right[i] * scale[i] - s
        r[i] = value
        p[i] = value
        norm += value * value
    goal = tolerance * tolerance
    iteration = 0
    while norm > goal:
        if iteration >= limit:
            return -1
        curvature = 0.0
        k = np.uintp(0)
        for i in range(n):
            s = p[i]
            end = np.uintp(start[i + 1])
            while k < end:
                s += off[k] * p[np.uintp(neighbour[k])]
                k += one
            q[i] = s
            curvature += s * p[i]
        if not curvature > 0.0:
            return -2
        alpha = norm / curvature
        new = 0.0
        for i in range(n):
            x[i] += alpha * p[i]
            value = r[i] - alpha * q[i]
            r[i] = value
            new += value * value
        beta = new / norm
        norm = new
        for i in range(n):
            p[i] = r[i] + beta * p[i]
        iteration += 1
    return iteration
