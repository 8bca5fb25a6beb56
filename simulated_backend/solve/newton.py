"""Newton on Kirchhoff, wholly compiled: one call from voltages to voltages for networks whose laws all have kernels.

All integers of a network travel in one array and all numbers in another: unpacking an argument costs the call more
than solving a small network does. Layout: ``pack`` below.
"""

import math

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.solve import factor, kernels
from simulated_backend.solve.factor import Index
from simulated_backend.solve.jit import compiled
from simulated_backend.solve.sparse import Pattern

DIRECT, ITERATIVE = 0, 1
CONVERGED, LIMIT, SINGULAR, STALLED, INDEFINITE, NO_DESCENT = range(6)
_HEAD = 7
REPORT = 4
"""Head of the work array after a solve: largest residual (A), largest current (A), negative pivots, inner iterations."""


def pack(
    pattern: Pattern, base: Index, tip: Index, codes: Index, rows: FloatArray, shunt: FloatArray, method: int
) -> tuple[Index, FloatArray, FloatArray]:
    """The arrays ``newton`` takes: integers, numbers (rows, shunt and injected current per unknown), work space."""
    n, m = pattern.size, base.size
    empty = np.empty(0, dtype=np.int32)
    if method == DIRECT:
        columns, lower_rows, targets, slots = pattern.lower
        start, neighbour, slot_base, slot_tip = empty, empty, empty, empty
        space = REPORT + 4 * n + lower_rows.size
    else:
        columns, lower_rows, targets, slots = empty, empty, empty, empty
        start, neighbour = pattern.start, pattern.neighbour
        slot_base, slot_tip = pattern.slot_base, pattern.slot_tip
        space = REPORT + 7 * n + neighbour.size
    head = np.array([pattern.n_nodes, n, m, lower_rows.size, targets.size, neighbour.size, method])
    parts = (head, base, tip, codes, pattern.base, pattern.tip, pattern.free)
    tail = (columns, lower_rows, targets, slots) if method == DIRECT else (start, neighbour, slot_base, slot_tip)
    integers = np.concatenate([np.asarray(part, dtype=np.int32) for part in (*parts, *tail)])
    numbers = np.concatenate((rows.ravel(), shunt[pattern.free], np.zeros(n)))
    return integers, numbers, np.zeros(space)


@compiled
def newton(
    integers: Index,
    numbers: FloatArray,
    work: FloatArray,
    voltage: FloatArray,
    cold: bool,
    relative: float,
    limit: int,
    inner_limit: int,
) -> int:
    """Solve in place; ``voltage`` (n_nodes,) holds the clamped values and, unless ``cold``, a guess of the others.

    ``relative``: bound of the Kirchhoff residual at any node as a fraction of the largest edge current. A cold start
    takes every edge at its zero-voltage slope first. Returns status + 16 · iterations.
    """
    n, m = integers[1], integers[2]
    n_lower, n_targets, n_entries, method = integers[3], integers[4], integers[5], integers[6]
    o = _HEAD
    base, tip, codes = integers[o : o + m], integers[o + m : o + 2 * m], integers[o + 2 * m : o + 3 * m]
    free_base, free_tip = integers[o + 3 * m : o + 4 * m], integers[o + 4 * m : o + 5 * m]
    o += 5 * m
    free = integers[o : o + n]
    o += n
    first = integers[o : o + n + 1]  # columns of L, or start of the rows of the full pattern
    o += n + 1
    rows = numbers[: m * kernels.ROW].reshape(m, kernels.ROW)
    shunt = numbers[m * kernels.ROW : m * kernels.ROW + n]
    injected = numbers[m * kernels.ROW + n : m * kernels.ROW + 2 * n]
    w = REPORT
    residual, diagonal = work[w : w + n], work[w + n : w + 2 * n]
    step, extra = work[w + 2 * n : w + 3 * n], work[w + 3 * n : w + 4 * n]
    w += 4 * n
    if method == DIRECT:
        second, targets = integers[o : o + n_lower], integers[o + n_lower : o + n_lower + n_targets]
        slot_base = integers[o + n_lower + n_targets :]
        slot_tip = slot_base
        entries = work[w:]
        inner_work = work[:0].reshape(0, 0)
    else:
        second, targets = integers[o : o + n_entries], integers[:0]
        slot_base = integers[o + n_entries : o + n_entries + m]
        slot_tip = integers[o + n_entries + m :]
        entries = work[w : w + n_entries]
        w += n_entries
        inner_work = work[w : w + 3 * n].reshape(3, n)
    if cold:
        for i in range(n):
            voltage[free[i]] = 0.0
    work[2] = 0.0
    work[3] = 0.0
    previous = np.inf
    started = 0.0
    last_step = np.inf
    fraction = 1.0
    forcing = 0.01
    for iteration in range(limit + 1):
        linear = cold and iteration == 0
        for i in range(n):
            diagonal[i] = shunt[i]
            residual[i] = injected[i] - shunt[i] * voltage[free[i]]
        entries[:] = 0.0
        largest = 0.0
        for e in range(m):
            v = voltage[np.uintp(base[e])] - voltage[np.uintp(tip[e])]
            current, slope = kernels.steady(codes[e], rows, e, 0.0 if linear else v)
            if linear:
                current += slope * v
            largest = max(largest, abs(current))
            b, t = free_base[e], free_tip[e]
            if b >= 0:
                residual[np.uintp(b)] -= current
                diagonal[np.uintp(b)] += slope
            if t >= 0:
                residual[np.uintp(t)] += current
                diagonal[np.uintp(t)] += slope
            if b >= 0 and t >= 0:
                entries[np.uintp(slot_base[e])] -= slope
                if method == ITERATIVE:
                    entries[np.uintp(slot_tip[e])] -= slope
        norm = 0.0
        worst = 0.0
        top = 0.0
        for i in range(voltage.size):
            top = max(top, abs(voltage[i]))
        fine = True
        for i in range(n):
            size = abs(residual[i])
            worst = max(worst, size)
            norm += size * size
            if not size <= relative * largest + 4e-15 * abs(diagonal[i]) * top:
                fine = False
        norm = math.sqrt(norm)
        work[0], work[1] = worst, largest
        if fine and not linear and last_step <= 1e-6 * top:
            return CONVERGED + 16 * iteration
        if not math.isfinite(norm):
            return NO_DESCENT + 16 * iteration
        if norm > previous and not fine:
            fraction *= 0.5
            if fraction < 1e-4:
                return NO_DESCENT + 16 * iteration
            for i in range(n):
                voltage[free[i]] -= fraction * step[i]
            continue
        if iteration == limit:
            break
        if iteration > 0 and not math.isinf(previous):
            forcing = min(0.05, max(1e-9, 0.5 * (norm / previous) ** 2))
        previous = np.inf if linear else norm
        fraction = 1.0
        if method == DIRECT:
            negative = factor.factorise(first, second, targets, diagonal, entries)
            if negative < 0:
                return SINGULAR + 16 * iteration
            work[2] = negative
            for i in range(n):
                step[i] = residual[i]
            factor.substitute(first, second, diagonal, entries, step)
        else:
            size = 0.0
            for i in range(n):
                if not diagonal[i] > 0.0:
                    return INDEFINITE + 16 * iteration
                extra[i] = 1.0 / math.sqrt(diagonal[i])
                step[i] = 0.0
                size += (residual[i] * extra[i]) ** 2
            for i in range(n):
                for k in range(np.uintp(first[i]), np.uintp(first[i + 1])):
                    entries[k] *= extra[i] * extra[np.uintp(second[k])]
            size = math.sqrt(size)
            started = max(started, size)
            goal = max(forcing * size, 1e-13 * started)
            count = factor.conjugate_gradients(first, second, entries, extra, residual, step, inner_work, goal, inner_limit)
            if count < 0:
                return (STALLED if count == -1 else INDEFINITE) + 16 * iteration
            work[3] += count
            for i in range(n):
                step[i] *= extra[i]
        last_step = 0.0
        for i in range(n):
            voltage[free[i]] += step[i]
            last_step = max(last_step, abs(step[i]))
    return LIMIT + 16 * limit


@compiled
def newton_many(
    integers: Index,
    numbers: FloatArray,
    work: FloatArray,
    voltages: FloatArray,
    injected: FloatArray,
    status: Index,
    relative: float,
    limit: int,
    inner_limit: int,
) -> None:
    """``newton`` for every row of ``voltages`` (k, n_nodes) and ``injected`` (k, n_free); fills ``status`` (k,)."""
    n = integers[1]
    tail = numbers.size - n
    for k in range(voltages.shape[0]):
        for i in range(n):
            numbers[tail + i] = injected[k, i]
        status[k] = newton(integers, numbers, work, voltages[k], True, relative, limit, inner_limit)
