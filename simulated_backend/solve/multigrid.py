"""Algebraic multigrid for Kirchhoff matrices: merge nodes joined by strong conductances, solve the smaller network.

Aggregation in two pairwise passes and K-cycles after Y. Notay, Electron. Trans. Numer. Anal. 37, 123 (2010); merging
nodes of a resistor network gives a resistor network again, so coarse levels need no triple product. Departures from
the paper: plain strongest-neighbour pairing without the quality bound, symmetric Gauss-Seidel, and the map from fine to
coarse entries is kept, so that new conductances on the same graph cost one pass and no new aggregation.
"""

from dataclasses import dataclass

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.solve.factor import Index
from simulated_backend.solve.jit import compiled

COARSEST = 60
_LARGEST_DENSE = 200
"""A coarsest network of more nodes (random graphs stop shrinking early) is swept, not inverted."""
_SWEEPS = 8
_MAX_LEVELS = 40


@compiled
def _pair(start: Index, neighbour: Index, off: FloatArray, diagonal: FloatArray) -> tuple[Index, int]:
    """Aggregate number of every node: each unpaired node joins its strongest unpaired neighbour."""
    n = diagonal.size
    group = np.full(n, -1, np.int32)
    count = 0
    for i in range(n):
        if group[i] >= 0:
            continue
        best = -1
        strongest = 0.0
        top = 0.0
        for k in range(start[i], start[i + 1]):
            size = -off[k]
            top = max(top, size)
            if size > strongest and group[neighbour[k]] < 0:
                strongest = size
                best = neighbour[k]
        group[i] = count
        if best >= 0 and strongest >= 0.25 * top and strongest > 1e-3 * diagonal[i]:
            group[best] = count
        count += 1
    return group, count


@compiled
def _merged_pattern(start: Index, neighbour: Index, group: Index, count: int) -> tuple[Index, Index, Index]:
    """Pattern of the merged network and the coarse entry of every fine one (−1: inside an aggregate)."""
    n = group.size
    order = np.empty(n, np.int32)
    begin = np.zeros(count + 1, np.int32)
    for i in range(n):
        begin[group[i] + 1] += 1
    for c in range(count):
        begin[c + 1] += begin[c]
    place = begin[:count].copy()
    for i in range(n):
        order[place[group[i]]] = i
        place[group[i]] += 1
    coarse_start = np.zeros(count + 1, np.int32)
    coarse = np.empty(neighbour.size, np.int32)
    target = np.full(neighbour.size, -1, np.int32)
    slot = np.full(count, -1, np.int32)
    filled = 0
    for c in range(count):
        row = filled
        for q in range(begin[c], begin[c + 1]):
            i = order[q]
            for k in range(start[i], start[i + 1]):
                d = group[neighbour[k]]
                if d == c:
                    continue
                if slot[d] < row:
                    slot[d] = filled
                    coarse[filled] = d
                    filled += 1
                target[k] = slot[d]
        coarse_start[c + 1] = filled
    return coarse_start, coarse[:filled].copy(), target


@compiled
def _merge_values(
    group: Index, target: Index, off: FloatArray, diagonal: FloatArray, start: Index, coarse_off: FloatArray, coarse: FloatArray
) -> None:
    """Values of the merged matrix: parallel conductances add, those inside an aggregate leave the diagonal."""
    coarse_off[:] = 0.0
    coarse[:] = 0.0
    for i in range(group.size):
        g = group[i]
        coarse[g] += diagonal[i]
        for k in range(start[i], start[i + 1]):
            if target[k] >= 0:
                coarse_off[target[k]] += off[k]
            else:
                coarse[g] += off[k]


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
            x[:] = 0.0
            _sweep(start, neighbour, off, diagonal, b, x, False)
            _multiply(start, neighbour, off, diagonal, x, r)
            right[:] = 0.0
            for i in range(n):
                right[np.uintp(group[i])] += b[i] - r[i]
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
def _solve(
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


@dataclass
class Hierarchy:
    """Levels of merged networks for one pattern; ``refresh`` takes new conductances, ``solve`` a right side."""

    table: Index
    starts: Index
    neighbours: Index
    groups: Index
    targets: Index
    offs: FloatArray
    diagonals: FloatArray
    dense: FloatArray
    vectors: FloatArray

    @classmethod
    def build(cls, start: Index, neighbour: Index, off: FloatArray, diagonal: FloatArray) -> "Hierarchy":
        """Aggregate until the coarsest network has at most ``COARSEST`` nodes (or no longer shrinks)."""
        rows: list[tuple[int, int, int, int]] = []
        starts, neighbours, groups, targets = [], [], [], []
        node = entry = 0
        while True:
            n = diagonal.size
            rows.append((node, n, entry, neighbour.size))
            starts.append(start)
            neighbours.append(neighbour)
            node, entry = node + n, entry + neighbour.size
            if n <= COARSEST or len(rows) == _MAX_LEVELS:
                break
            group, count = _pair(start, neighbour, off, diagonal)
            middle_start, middle, target = _merged_pattern(start, neighbour, group, count)
            middle_off, middle_diagonal = np.empty(middle.size), np.empty(count)
            _merge_values(group, target, off, diagonal, start, middle_off, middle_diagonal)
            second, count = _pair(middle_start, middle, middle_off, middle_diagonal)
            group = second[group]
            if count > 0.8 * n:
                break
            coarse_start, coarse, target = _merged_pattern(start, neighbour, group, count)
            coarse_off, coarse_diagonal = np.empty(coarse.size), np.empty(count)
            _merge_values(group, target, off, diagonal, start, coarse_off, coarse_diagonal)
            groups.append(group)
            targets.append(target)
            start, neighbour, off, diagonal = coarse_start, coarse, coarse_off, coarse_diagonal
        last = rows[-1][1]
        return cls(
            np.array(rows, dtype=np.int32),
            np.concatenate(starts),
            np.concatenate(neighbours),
            np.concatenate([*groups, np.zeros(last, dtype=np.int32)]),
            np.concatenate([*targets, np.zeros(rows[-1][3], dtype=np.int32)]),
            np.zeros(entry),
            np.zeros(node),
            np.zeros((last, last) if last <= _LARGEST_DENSE else (0, 0)),
            np.zeros((6, node)),
        )

    def refresh(self, off: FloatArray, diagonal: FloatArray) -> None:
        """New values on the finest level, carried down."""
        n, entries = diagonal.size, off.size
        self.offs[:entries], self.diagonals[:n] = off, diagonal
        for level in range(len(self.table) - 1):
            first, n, entry, entries = self.table[level]
            first_c, n_c, entry_c, entries_c = self.table[level + 1]
            _merge_values(
                self.groups[first : first + n],
                self.targets[entry : entry + entries],
                self.offs[entry : entry + entries],
                self.diagonals[first : first + n],
                self.starts[first + level : first + level + n + 1],
                self.offs[entry_c : entry_c + entries_c],
                self.diagonals[first_c : first_c + n_c],
            )
        if self.dense.size == 0:
            return
        first, n, entry, entries = self.table[-1]
        last = len(self.table) - 1
        start = self.starts[first + last : first + last + n + 1]
        matrix = np.diag(self.diagonals[first : first + n])
        np.add.at(matrix, (np.repeat(np.arange(n), np.diff(start)), self.neighbours[entry : entry + entries]), self.offs[entry:])
        self.dense[:] = np.linalg.pinv(matrix, hermitian=True)

    def solve(self, right: FloatArray, tolerance: float, limit: int = 200) -> tuple[FloatArray, int]:
        """Solution and iterations (negative: not met in ``limit``, or not positive definite)."""
        x = np.zeros(right.size)
        count = _solve(
            self.table,
            self.starts,
            self.neighbours,
            self.offs,
            self.diagonals,
            self.groups,
            self.dense,
            self.vectors,
            right,
            x,
            tolerance,
            limit,
        )
        return x, count
