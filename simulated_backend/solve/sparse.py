"""The pattern of a Kirchhoff matrix: numbering of the free nodes, neighbours, predicted fill; found once per network."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hil.core.types import BoolArray
from simulated_backend.solve import factor

Index = NDArray[np.int32]

DIRECT_FLOP_NS = 0.9
"""Model cost of one multiply-subtract of the compiled factorisation, nanoseconds (measured; only ratios matter)."""
SUPERNODAL_FLOP_NS = 0.25
"""The same for the supernodal factorisation with dense blocks, plus a fixed cost per entry of the matrix."""
SUPERNODAL_ENTRY_NS = 60.0
CG_ENTRY_NS, CG_NODE_NS = 0.8, 3.0
"""Model cost of one iteration of conjugate gradients per matrix entry and per unknown."""
ORDERED_LIMIT = 60_000
"""Unknowns up to which an elimination order is sought; on large random graphs the search alone would take a minute."""
REPLAY_LIMIT = 4_000_000
"""Most multiply-subtracts that are replayed from stored targets (4 bytes each); above it dense blocks pay."""


@dataclass(frozen=True)
class Pattern:
    """Free nodes and how edges join them. ``free`` (n_free,) node of each unknown, in elimination order.

    ``base``, ``tip`` (n_edges,) unknown at either end, −1 where the node is clamped; ``start``, ``neighbour`` the
    symmetric pattern without diagonal; ``slot_base``, ``slot_tip`` (n_edges,) the entries (base, tip) and (tip, base)
    in it or −1; ``parent``, ``column_start`` elimination tree and columns of L; ``flops`` products of one factorisation.
    """

    n_nodes: int
    free: Index
    base: Index
    tip: Index
    start: Index
    neighbour: Index
    slot_base: Index
    slot_tip: Index
    parent: Index
    column_start: NDArray[np.int64]
    flops: float

    @property
    def ordered(self) -> bool:
        """Whether an elimination order was sought, so that fill is known."""
        return self.parent.size == self.free.size

    def replayable(self) -> bool:
        """Whether the factorisation may be replayed from stored targets."""
        return self.ordered and self.flops <= REPLAY_LIMIT

    @property
    def size(self) -> int:
        """Number of unknowns."""
        return int(self.free.size)

    def direct_cost(self) -> float:
        """Model nanoseconds of one factorisation, by whichever direct method is cheaper."""
        fill = float(self.column_start[-1])
        if not self.ordered:
            return np.inf
        replay = DIRECT_FLOP_NS * self.flops + 2.0 * fill if self.flops <= REPLAY_LIMIT else np.inf
        dense_blocks = 2e5 + SUPERNODAL_FLOP_NS * self.flops + SUPERNODAL_ENTRY_NS * (self.size + self.neighbour.size / 2)
        return float(min(replay, dense_blocks))

    def iteration_cost(self) -> float:
        """Model nanoseconds of one iteration of conjugate gradients."""
        return CG_ENTRY_NS * self.neighbour.size + CG_NODE_NS * self.size

    @cached_property
    def lower(self) -> tuple[Index, Index, Index, Index]:
        """Columns, rows, targets of L and the slot of every edge in it (−1 where an end is clamped)."""
        columns = self.column_start.astype(np.int32)
        rows = factor.column_patterns(self.start, self.neighbour, self.parent, columns)
        counts = np.diff(self.column_start)
        targets = factor.update_targets(columns, rows, int((counts * (counts - 1) // 2).sum()))
        low, high = np.minimum(self.base, self.tip), np.maximum(self.base, self.tip)
        joined = np.flatnonzero(low >= 0)
        keys = np.repeat(np.arange(self.size, dtype=np.int64), counts) * self.size + rows
        slots = np.full(self.base.size, -1, dtype=np.int32)
        slots[joined] = np.searchsorted(keys, low[joined].astype(np.int64) * self.size + high[joined])
        return columns, rows, targets, slots


def analyse(base: NDArray[np.intp], tip: NDArray[np.intp], clamped: BoolArray) -> Pattern:
    """Pattern of the network whose edges join ``base`` and ``tip`` (n_edges,) with ``clamped`` (n_nodes,) nodes given."""
    n_nodes = clamped.size
    free = np.flatnonzero(~clamped)
    place = np.full(n_nodes, -1, dtype=np.int64)
    place[free] = np.arange(free.size)
    start, neighbour = _adjacency(place[base], place[tip], free.size)
    parent = counts = np.empty(0, dtype=np.int32)
    if free.size <= ORDERED_LIMIT:
        order = _elimination_order(start, neighbour)
        free = free[order]
        place[free] = np.arange(free.size)
        start, neighbour = _adjacency(place[base], place[tip], free.size)
        parent, counts = factor.column_counts(start, neighbour)
    b, t = place[base], place[tip]
    wide = counts.astype(np.float64)
    column_start = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
    joined = np.flatnonzero((b >= 0) & (t >= 0))
    keys = np.repeat(np.arange(free.size, dtype=np.int64), np.diff(start)) * free.size + neighbour
    slot_base = np.full(b.size, -1, dtype=np.int32)
    slot_tip = np.full(b.size, -1, dtype=np.int32)
    slot_base[joined] = np.searchsorted(keys, b[joined] * free.size + t[joined])
    slot_tip[joined] = np.searchsorted(keys, t[joined] * free.size + b[joined])
    return Pattern(
        n_nodes,
        free.astype(np.int32),
        b.astype(np.int32),
        t.astype(np.int32),
        start,
        neighbour,
        slot_base,
        slot_tip,
        parent,
        column_start,
        float((wide * (wide - 1.0) / 2.0).sum()),
    )


def _adjacency(b: NDArray[np.int64], t: NDArray[np.int64], n: int) -> tuple[Index, Index]:
    joined = (b >= 0) & (t >= 0)
    i, j = b[joined], t[joined]
    keys = np.unique(np.concatenate((i * n + j, j * n + i))) if n else np.empty(0, dtype=np.int64)
    rows = keys // n if n else keys
    start = np.zeros(n + 1, dtype=np.int32)
    np.cumsum(np.bincount(rows, minlength=n)[:n], out=start[1:])
    return start, (keys - rows * n).astype(np.int32)


def _elimination_order(start: Index, neighbour: Index) -> NDArray[np.intp]:
    """Approximate minimum degree (Amestoy, Davis, Duff 1996), from cvxopt's copy of SuiteSparse."""
    n = start.size - 1
    if n <= 3:
        return np.arange(n)
    from cvxopt import amd, spmatrix  # pyright: ignore[reportAttributeAccessIssue]  # no stubs

    column = np.repeat(np.arange(n), np.diff(start))
    lower = neighbour > column
    rows = np.concatenate((np.arange(n), neighbour[lower]))
    columns = np.concatenate((np.arange(n), column[lower]))
    return np.asarray(amd.order(spmatrix(1.0, rows, columns, (n, n)))).astype(np.intp).ravel()
