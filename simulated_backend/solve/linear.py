"""Linear Kirchhoff systems: which method, by predicted fill and by what the graph then shows.

The choice (all costs are model nanoseconds of ``sparse``; no clock is read, so runs repeat exactly):

* up to ``sparse.ORDERED_LIMIT`` unknowns the fill of a factorisation is predicted from the elimination tree. A replayed
  factorisation is taken when it costs less than ``WORTH`` iterations of conjugate gradients;
* otherwise Jacobi-scaled conjugate gradients run, on a budget of what the factorisation would cost. A graph that
  exhausts it (a long grid between two terminals) goes over to the supernodal factorisation (CHOLMOD) if its fill is
  affordable, else to multigrid. The change is remembered for the rest of the solver's life;
* a matrix that is not positive definite (negative differential conductance) goes to LU with pivoting (SuperLU).
"""

from typing import Any

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.solve import factor
from simulated_backend.solve.assembly import assemble, to_lower
from simulated_backend.solve.sparse import CG_ENTRY_NS, Pattern

WORTH = 25.0
_LARGE_BUDGET = 400
_SUPERNODAL_FLOPS = 3e7


class SingularMatrixError(ArithmeticError):
    """No method could solve the linear system."""


def first_method(pattern: Pattern) -> str:
    """ "replay", "supernodal" or "conjugate": where a solver for this pattern begins."""
    if not pattern.ordered:
        return "conjugate"
    if pattern.direct_cost() <= WORTH * pattern.iteration_cost():
        return "replay" if pattern.replayable() else "supernodal"
    return "conjugate"


def budget(pattern: Pattern) -> int:
    """Iterations of conjugate gradients after which a factorisation would have been cheaper."""
    if not pattern.ordered or not np.isfinite(pattern.direct_cost()):
        return _LARGE_BUDGET
    return int(min(4000.0, max(60.0, 2.0 * pattern.direct_cost() / max(pattern.iteration_cost(), CG_ENTRY_NS))))


def next_method(pattern: Pattern) -> str:
    """Where a solver goes when conjugate gradients exhaust their budget."""
    if pattern.replayable():
        return "replay"
    return "supernodal" if pattern.ordered and pattern.flops < _SUPERNODAL_FLOPS else "multigrid"


class LinearCore:
    """Solves the Kirchhoff matrix of one pattern for changing edge slopes; picks and remembers its method."""

    def __init__(self, pattern: Pattern, method: str = "auto") -> None:
        self.pattern = pattern
        self.method = first_method(pattern) if method == "auto" else method
        self.off = np.zeros(pattern.neighbour.size)
        self.diagonal = np.zeros(pattern.size)
        self.negative = 0
        """Negative pivots of the last factorisation: above 0 the matrix is not positive definite."""
        self.inner = 0
        """Iterations spent so far."""
        self._ready = False
        self._memory: dict[str, Any] = {}

    def refresh(self, slope: FloatArray, ground: FloatArray) -> None:
        """New edge slopes (n_edges,) and conductances of the unknowns to ground (n_free,), S."""
        p = self.pattern
        assemble(p.base, p.tip, p.slot_base, p.slot_tip, slope, ground, self.diagonal, self.off)
        self._ready = False

    def solve(self, right: FloatArray, tolerance: float = 1e-13) -> FloatArray:
        """x (n_free,) or (n_free, k) columns; ``tolerance``: residual over right side where the method iterates.

        Raises SingularMatrixError when every method fails.
        """
        if not np.all(np.isfinite(right)):
            raise SingularMatrixError("the right side of a linear system is not finite")
        if right.ndim == 2:
            if self.method in ("supernodal", "general"):
                return self._attempt(right, tolerance)
            return np.stack([self.solve(np.ascontiguousarray(column), tolerance) for column in right.T], axis=1)
        return self._attempt(right, tolerance)

    def _attempt(self, right: FloatArray, tolerance: float) -> FloatArray:
        while True:
            x = getattr(self, f"_{self.method}")(right, tolerance)
            if x is not None:
                return np.asarray(x, dtype=np.float64)

    def _go(self, method: str) -> FloatArray | None:
        self.method, self._ready = method, False
        return None

    # -- the methods: a solution, or None after choosing another method ------------------------------------------

    def _conjugate(self, right: FloatArray, tolerance: float) -> FloatArray | None:
        p = self.pattern
        if not np.all(self.diagonal > 0.0):
            return self._go("general")
        if not self._ready:
            scale = 1.0 / np.sqrt(self.diagonal)
            rows = np.repeat(np.arange(p.size), np.diff(p.start))
            self._memory["scaled"] = scale, self.off * scale[rows] * scale[p.neighbour], np.zeros((3, p.size))
            self._ready = True
        scale, scaled, work = self._memory["scaled"]
        x = np.zeros(p.size)
        goal = tolerance * float(np.linalg.norm(right * scale))
        count = factor.conjugate_gradients(p.start, p.neighbour, scaled, scale, right, x, work, goal, budget(p))
        if count < 0:
            return self._go("general" if count == -2 else next_method(p))
        self.inner += count
        return np.asarray(x * scale)

    def _replay(self, right: FloatArray, tolerance: float) -> FloatArray | None:
        p = self.pattern
        if "lower" not in self._memory:
            columns, rows, targets, _ = p.lower
            self._memory["lower"] = columns, rows, targets, to_lower(p.start, p.neighbour, columns, rows), np.empty(rows.size)
        columns, rows, targets, slots, lower = self._memory["lower"]
        if not self._ready:
            lower[:] = 0.0
            lower[slots[slots >= 0]] = self.off[slots >= 0]
            pivots = self.diagonal.copy()
            self.negative = int(factor.factorise(columns, rows, targets, pivots, lower))
            if self.negative != 0:
                return self._go("general")
            self._memory["pivots"] = pivots
            self._ready = True
        x = right.copy()
        factor.substitute(columns, rows, self._memory["pivots"], lower, x)
        return x

    def _supernodal(self, right: FloatArray, tolerance: float) -> FloatArray | None:
        from cvxopt import cholmod, matrix, spmatrix  # pyright: ignore[reportAttributeAccessIssue]  # no stubs

        p = self.pattern
        n = p.size
        if not self._ready:
            if "cholmod" not in self._memory:
                rows = np.repeat(np.arange(n), np.diff(p.start))
                below = p.neighbour > rows
                i = np.concatenate((np.arange(n), p.neighbour[below]))
                j = np.concatenate((np.arange(n), rows[below]))
                order = np.lexsort((i, j))
                cholmod.options["supernodal"] = 2
                a = spmatrix(1.0, i[order].tolist(), j[order].tolist(), (n, n))
                self._memory["cholmod"] = a, cholmod.symbolic(a), below, order
            a, symbolic, below, order = self._memory["cholmod"]
            a.V = matrix(np.concatenate((self.diagonal, self.off[below]))[order])
            try:
                cholmod.numeric(a, symbolic)
            except ArithmeticError:
                return self._go("general")
            self._ready = True
        b = matrix(np.ascontiguousarray(right))
        cholmod.solve(self._memory["cholmod"][1], b)
        return np.asarray(b).reshape(right.shape)

    def _multigrid(self, right: FloatArray, tolerance: float) -> FloatArray | None:
        from simulated_backend.solve.multigrid import Hierarchy

        p = self.pattern
        if not np.all(self.diagonal > 0.0):
            return self._go("general")
        if not self._ready:
            if "levels" not in self._memory:
                self._memory["levels"] = Hierarchy.build(p.start, p.neighbour, self.off, self.diagonal)
            self._memory["levels"].refresh(self.off, self.diagonal)
            self._ready = True
        x, count = self._memory["levels"].solve(right, max(tolerance, 1e-14))
        if count < 0:
            return self._go("general" if count == -2 else "supernodal")
        self.inner += count
        return np.asarray(x)

    def _general(self, right: FloatArray, tolerance: float) -> FloatArray | None:
        from scipy.sparse import csc_matrix, diags_array
        from scipy.sparse.linalg import splu

        p = self.pattern
        if not self._ready:
            matrix = csc_matrix((self.off, p.neighbour, p.start), shape=(p.size, p.size)) + diags_array(self.diagonal)
            try:
                self._memory["lu"] = splu(matrix.tocsc())
            except RuntimeError as error:  # SuperLU says so when a pivot is exactly zero
                raise SingularMatrixError("the conductance matrix is singular") from error
            pivots = self._memory["lu"].U.diagonal()
            self.negative = int(np.count_nonzero(pivots < 0.0))
            self._ready = True
        x = self._memory["lu"].solve(right)
        if not np.all(np.isfinite(x)):
            raise SingularMatrixError("the conductance matrix is singular")
        return np.asarray(x)
