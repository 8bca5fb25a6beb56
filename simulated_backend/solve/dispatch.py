"""Where the general solver hands over: large networks go to the compiled and sparse paths of ``compiled``."""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.devices.base import StateKind
from simulated_backend.solve.kirchhoff import Problem
from simulated_backend.solve.newton_dense import Solution

if TYPE_CHECKING:  # numba must stay off the import path of small runs
    from simulated_backend.solve.compiled import PreparedNetwork
    from simulated_backend.solve.sparse import Pattern

LARGE = 200
"""Free nodes above which a sparse solver pays for its preparation."""
_FEW = 64
"""Rows up to which a batch is worth taking one by one; dense batches of small networks are faster together."""


def is_large(problem: Problem) -> bool:
    """Whether this problem belongs to the sparse path: many free nodes, few rows, one set of parameters."""
    return (
        problem.size <= _FEW
        and problem.network.n_nodes - int(np.count_nonzero(problem.clamped)) > LARGE
        and all(np.ndim(values) == 1 for group in problem.network.groups for values in group.parameters.values())
    )


def solve_large(problem: Problem, guess: FloatArray | None) -> Solution:
    """Every row of the problem by Newton with a sparse core; ``guess`` (size, n_nodes) is optional."""
    voltage = np.empty_like(problem.voltage)
    converged = np.zeros(problem.size, dtype=np.bool_)
    iterations, residual = np.zeros(problem.size), np.zeros(problem.size)
    for row in range(problem.size):
        single = problem if problem.size == 1 else problem.take([row])
        solved = _prepared(single).solve(
            single.voltage[0], injected=single.injected[0], guess=None if guess is None else guess[row]
        )
        voltage[row], converged[row] = solved.voltage, solved.converged
        iterations[row], residual[row] = solved.iterations, solved.residual
    return Solution(voltage, converged, iterations, residual)


def _prepared(single: Problem) -> "PreparedNetwork":
    from simulated_backend.solve.compiled import PreparedNetwork

    def held(node_voltage: FloatArray) -> tuple[FloatArray, FloatArray]:
        current, slope = single.edges(node_voltage[np.newaxis])
        return current[0], slope[0]

    by_edges = single.state is not None or any(group.law.kind is StateKind.RATE for group in single.network.groups)
    return PreparedNetwork(
        single.network,
        single.clamped,
        pressure=single.pressure[0],
        concentration=single.concentration[0],
        shunt=single.shunt[0],
        edge_law=held if by_edges else None,
        pattern=_pattern(single.network.base.tobytes(), single.network.tip.tobytes(), single.clamped.tobytes()),
    )


@lru_cache(maxsize=8)
def _pattern(base: bytes, tip: bytes, clamped: bytes) -> "Pattern":
    from simulated_backend.solve.sparse import analyse

    return analyse(np.frombuffer(base, np.intp), np.frombuffer(tip, np.intp), np.frombuffer(clamped, np.bool_))
