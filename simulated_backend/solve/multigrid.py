"""Algebraic multigrid for Kirchhoff matrices: merge nodes joined by strong conductances, solve the smaller network.

Aggregation in two pairwise passes and K-cycles after Y. Notay, Electron. Trans. Numer. Anal. 37, 123 (2010); merging
nodes of a resistor network gives a resistor network again, so coarse levels need no triple product. Departures from
the paper: plain strongest-neighbour pairing without the quality bound, symmetric Gauss-Seidel, and the map from fine to
coarse entries is kept, so that new conductances on the same graph cost one pass and no new aggregation.
"""

from dataclasses import dataclass

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.solve import cycle
from simulated_backend.solve.factor import Index
from simulated_backend.solve.jit import compiled

COARSEST = 60
_LARGEST_DENSE = 200
"""A coarsest network of more nodes (random graphs stop shrinking early) is swept, not inverted."""
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
        count = cycle.solve(
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
