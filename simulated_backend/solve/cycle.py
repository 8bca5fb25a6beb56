"""The K-cycle of ``multigrid`` and the flexible conjugate gradients around it, compiled.

All levels lie one after the other in flat arrays; row ``level`` of ``table`` says where: first node, nodes, first entry,
entries. Row pointers of a level begin at first node + level.
"""

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.solve.factor import Index
from simulated_backend.solve.jit import compiled

_SWEEPS = 8


@compiled
def _multiply(start: Index, neighbour: Index, off: FloatArray, diagonal: FloatArray, x: FloatArray, y: FloatArray) -> None:
    for i in range(x.size):
        s = diagonal[i] * x[i]
        for k in range(np.uintp(start[i]), np.uintp(start[i + 1])):
            s += off[k] * x[np.uintp(neighbour[k])]
        y[i] = s


@compiled
def _sweep(
    start: Index, neighbour: Index, off: FloatArray, diagonal: FloatArray, b: FloatArray, x: FloatArray, backward: bool
) -> None:
    """One Gauss-Seidel pass over the nodes, upwards or downwards."""
    n = x.size
    for step in range(n):
        i = n - 1 - step if backward else step
        s = b[i]
        for k in range(np.uintp(start[i]), np.uintp(start[i + 1])):
            s -= off[k] * x[np.uintp(neighbour[k])]
        x[i] = s / diagonal[i]


@compiled
def _first_sweep(
    start: Index, neighbour: Index, off: FloatArray, diagonal: FloatArray, b: FloatArray, x: FloatArray, r: FloatArray
) -> None:
    """One upward Gauss-Seidel pass from x = 0 and the residual it leaves, in a single walk through the matrix.

    After the pass row i is unbalanced by the later neighbours only: each new value is charged to all its neighbours (the
    matrix is symmetric), and what a later row collected before its turn is dropped when the turn comes.
    """
    x[:] = 0.0
    for i in range(x.size):
        s = b[i]
        begin, end = np.uintp(start[i]), np.uintp(start[i + 1])
        for k in range(begin, end):
            s -= off[k] * x[np.uintp(neighbour[k])]
        value = s / diagonal[i]
        x[i] = value
        r[i] = 0.0
        for k in range(begin, end):
            r[np.uintp(neighbour[k])] -= off[k] * value


@compiled
def _cycle(
    table: Index,
    starts: Index,
    neighbours: Index,
    offs: FloatArray,
    diagonals: FloatArray,
    groups: Index,
    dense: FloatArray,
    vectors: FloatArray,
) -> int:
    """One K-cycle: vectors[1] of level 0 becomes an approximate solution for the right side vectors[0].

    A walk over levels instead of a recursion: ``phase`` of a level says how often it has come back from the level below,
    where up to two steps of flexible conjugate gradients are taken (Notay's algorithm 3.2). Vectors 3 to 5 hold the
    first direction, its image, and the residual after it.
    """
    last = table.shape[0] - 1
    phase = np.zeros(last + 1, np.int32)
    memory = np.zeros((last + 1, 2))
    level = 0
    while True:
        first, n = table[level, 0], table[level, 1]
        entry, entries = table[level, 2], table[level, 3]
        b, x, r = vectors[0, first : first + n], vectors[1, first : first + n], vectors[2, first : first + n]
        start = starts[first + level : first + level + n + 1]
        neighbour, off = neighbours[entry : entry + entries], offs[entry : entry + entries]
        diagonal, group = diagonals[first : first + n], groups[first : first + n]
        if level == last:
            _coarsest(start, neighbour, off, diagonal, dense, b, x)
            if level == 0:
                return 0
            level -= 1
            continue
        first_c, n_c = table[level + 1, 0], table[level + 1, 1]
        right, guess = vectors[0, first_c : first_c + n_c], vectors[1, first_c : first_c + n_c]
        if phase[level] == 0:
            _first_sweep(start, neighbour, off, diagonal, b, x, r)
            right[:] = 0.0
            for i in range(n):
                right[np.uintp(group[i])] += r[i]
            phase[level] = 1
            level += 1
            phase[level] = 0
            continue
        if level + 1 < last:
            entry_c, entries_c = table[level + 1, 2], table[level + 1, 3]
            start_c = starts[first_c + level + 1 : first_c + level + n_c + 2]
            neighbour_c, off_c = neighbours[entry_c : entry_c + entries_c], offs[entry_c : entry_c + entries_c]
            diagonal_c, held = diagonals[first_c : first_c + n_c], vectors[2:6, first_c : first_c + n_c]
            if phase[level] == 1:
                again, ratio, rho = _first_step(start_c, neighbour_c, off_c, diagonal_c, right, guess, held)
                memory[level, 0], memory[level, 1] = ratio, rho
                if again:
                    phase[level] = 2
                    level += 1
                    phase[level] = 0
                    continue
            else:
                _second_step(start_c, neighbour_c, off_c, diagonal_c, guess, held, memory[level, 0], memory[level, 1])
        for i in range(n):
            x[i] += guess[np.uintp(group[i])]
        _sweep(start, neighbour, off, diagonal, b, x, True)
        if level == 0:
            return 0
        level -= 1


@compiled
def _coarsest(
    start: Index, neighbour: Index, off: FloatArray, diagonal: FloatArray, dense: FloatArray, b: FloatArray, x: FloatArray
) -> None:
    """By the stored inverse, or by sweeps where that would be too large."""
    n = x.size
    x[:] = 0.0
    if dense.size == 0:
        for _ in range(_SWEEPS):
            _sweep(start, neighbour, off, diagonal, b, x, False)
            _sweep(start, neighbour, off, diagonal, b, x, True)
        return
    for i in range(n):
        s = 0.0
        for j in range(n):
            s += dense[i, j] * b[j]
        x[i] = s


@compiled
def _first_step(
    start: Index, neighbour: Index, off: FloatArray, diagonal: FloatArray, b: FloatArray, x: FloatArray, held: FloatArray
) -> tuple[bool, float, float]:
    """Best multiple of the direction x; whether a second direction is worth while; its factor and curvature."""
    n = x.size
    c, v, kept = held[1], held[2], held[3]
    c[:] = x
    _multiply(start, neighbour, off, diagonal, c, v)
    rho = alpha = before = after = 0.0
    for i in range(n):
        rho += c[i] * v[i]
        alpha += c[i] * b[i]
        before += b[i] * b[i]
    if not rho > 0.0:
        return False, 1.0, 1.0
    ratio = alpha / rho
    for i in range(n):
        b[i] -= ratio * v[i]
        after += b[i] * b[i]
        kept[i] = b[i]
        x[i] = ratio * c[i]
    return after > 0.0625 * before, ratio, rho


@compiled
def _second_step(
    start: Index,
    neighbour: Index,
    off: FloatArray,
    diagonal: FloatArray,
    x: FloatArray,
    held: FloatArray,
    ratio: float,
    rho: float,
) -> None:
    """The best combination of the first direction and of the new one in x, left in x."""
    n = x.size
    w, c, v, kept = held[0], held[1], held[2], held[3]
    _multiply(start, neighbour, off, diagonal, x, w)
    gamma = beta = alpha = 0.0
    for i in range(n):
        gamma += x[i] * v[i]
        beta += x[i] * w[i]
        alpha += x[i] * kept[i]
    rest = beta - gamma * gamma / rho
    second = alpha / rest if rest > 0.0 else 0.0
    for i in range(n):
        x[i] = (ratio - gamma * second / rho) * c[i] + second * x[i]


@compiled
def solve(
    table: Index,
    starts: Index,
    neighbours: Index,
    offs: FloatArray,
    diagonals: FloatArray,
    groups: Index,
    dense: FloatArray,
    vectors: FloatArray,
    right: FloatArray,
    x: FloatArray,
    tolerance: float,
    limit: int,
) -> int:
    """Flexible conjugate gradients with the K-cycle; ``tolerance`` relative to the 2-norm of ``right``; −1 if not met."""
    n = right.size
    start, neighbour = starts[: n + 1], neighbours[: table[0, 3]]
    off, diagonal = offs[: table[0, 3]], diagonals[:n]
    r, p, q, old = right.copy(), np.zeros(n), np.zeros(n), np.zeros(n)
    x[:] = 0.0
    goal = 0.0
    for i in range(n):
        goal += r[i] * r[i]
    goal *= tolerance * tolerance
    if goal == 0.0:
        return 0
    previous = 1.0
    for iteration in range(limit):
        vectors[0, :n] = r
        _cycle(table, starts, neighbours, offs, diagonals, groups, dense, vectors)
        z = vectors[1, :n]
        rho = change = 0.0
        for i in range(n):
            rho += z[i] * r[i]
            change += z[i] * (r[i] - old[i])
        beta = change / previous if iteration > 0 else 0.0
        for i in range(n):
            p[i] = z[i] + beta * p[i]
        _multiply(start, neighbour, off, diagonal, p, q)
        curvature = along = 0.0
        for i in range(n):
            curvature += p[i] * q[i]
            along += p[i] * r[i]
        if not curvature > 0.0:
            return -2
        alpha = along / curvature
        norm = 0.0
        for i in range(n):
            x[i] += alpha * p[i]
            old[i] = r[i]
            r[i] -= alpha * q[i]
            norm += r[i] * r[i]
        previous = rho
        if norm <= goal:
            return iteration + 1
    return -1
