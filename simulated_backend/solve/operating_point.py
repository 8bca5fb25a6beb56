"""The steady state of a network under given drives: what every reading of the simulator is."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from hil.core.errors import ConfigError
from hil.core.types import BoolArray, FloatArray
from simulated_backend.devices.base import StateKind
from simulated_backend.network import Network
from simulated_backend.solve import dispatch, newton_dense
from simulated_backend.solve.kirchhoff import Problem, State, flattened, parameters_batch, structure
from simulated_backend.solve.newton_dense import Solution

_RESCUED = 5000
"""Free nodes up to which a row that failed is tried again in dense or LU arithmetic."""
_BLOCK = 20000
"""Edges times rows that are solved at once; keeps the arrays of the profile integrals inside the cache."""


class Status(StrEnum):
    """How a solution ended."""

    CONVERGED = "converged"
    NOT_CONVERGED = "not_converged"
    NO_STEADY_STATE = "no_steady_state"


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Steady state of every row of a batch (...).

    voltage (V) and terminal_current (A, delivered by the terminal into a clamped node; 0 at free nodes): (..., n_nodes);
    current (A, base to tip, all parallel devices): (..., n_edges); converged, iterations and residual (largest imbalance
    over largest current): (...). ``status`` is the worst of the batch and ``message`` one sentence about it, empty when
    all is well; voltages of rows that did not converge are NaN. ``warnings``: what the laws say about their validity.
    """

    voltage: FloatArray
    current: FloatArray
    terminal_current: FloatArray
    status: Status
    message: str
    converged: BoolArray
    iterations: FloatArray
    residual: FloatArray
    warnings: tuple[str, ...]


def solve_operating_point(
    network: Network,
    voltage: ArrayLike,
    clamped: ArrayLike,
    *,
    pressure: ArrayLike | None = None,
    concentration: ArrayLike | None = None,
    injected: ArrayLike | None = None,
    shunt: ArrayLike | None = None,
    state: State | None = None,
    guess: ArrayLike | None = None,
    validity: bool = True,
    rescue: bool = True,
) -> OperatingPoint:
    """Node voltages at which every free node is in balance, devices relaxed (or held at ``state``).

    voltage (..., n_nodes) V, read at clamped nodes only; clamped (n_nodes,) bool; pressure Pa, concentration mol/m^3
    (default: the nodes' own), injected A into the node, shunt S to ground (default 0): (..., n_nodes). Leading axes
    broadcast, those of the network's parameters included. ``state``: one (n_states, ..., n_edges) array per group.
    Laws without a steady state are held at their initial state. Without ``rescue`` a row at which Newton's method fails is left
    as it is: continuation and pseudo-time take a thousand times as long. Raises ConfigError for malformed or non-finite input and
    for nodes that nothing ties to a potential; what does not converge is a status with a sentence.
    """
    problem, batch = make_problem(
        network, voltage, clamped, pressure=pressure, concentration=concentration, injected=injected, shunt=shunt, state=state
    )
    start = None
    if guess is not None:
        start = np.broadcast_to(np.asarray(guess, dtype=np.float64), (*batch, network.n_nodes)).reshape(-1, network.n_nodes)
    solution, stateless = _solved(problem, start, rescue)
    return _point(problem, batch, solution, stateless, validity)


def make_problem(
    network: Network,
    voltage: ArrayLike,
    clamped: ArrayLike,
    *,
    pressure: ArrayLike | None = None,
    concentration: ArrayLike | None = None,
    injected: ArrayLike | None = None,
    shunt: ArrayLike | None = None,
    state: State | None = None,
) -> tuple[Problem, tuple[int, ...]]:
    """Checked and flattened arguments of ``solve_operating_point``, and the shape of their batch."""
    n = network.n_nodes
    fixed = np.asarray(clamped, dtype=np.bool_)
    if fixed.shape != (n,):
        raise ConfigError(f"`clamped` needs one flag for each of the {n} nodes, not shape {fixed.shape}")
    given = {
        "voltage": np.where(fixed, _nodes(voltage, n, "voltage"), 0.0),
        "pressure": network.node_array("pressure") if pressure is None else _nodes(pressure, n, "pressure"),
        "concentration": _nodes(
            network.node_array("concentration") if concentration is None else concentration, n, "concentration"
        ),
        "injected": np.zeros(n) if injected is None else _nodes(injected, n, "injected"),
        "shunt": np.zeros(n) if shunt is None else _nodes(shunt, n, "shunt"),
    }
    for name, array in given.items():
        if not np.all(np.isfinite(array)):
            where = network.nodes[int(np.argwhere(~np.isfinite(array))[0][-1])].name
            raise ConfigError(f"node {where!r}: {name} is not a finite number")
    if np.any(given["shunt"] < 0.0):
        where = network.nodes[int(np.argwhere(given["shunt"] < 0.0)[0][-1])].name
        raise ConfigError(f"node {where!r}: the shunt conductance is negative")
    _require_salt(network, given["concentration"])
    require_tied(network, fixed, given["shunt"])
    held = None if state is None else tuple(np.asarray(one, dtype=np.float64) for one in state)
    shapes = [array.shape[:-1] for array in given.values()] + [parameters_batch(network)]
    shapes += [] if held is None else [one.shape[1:-1] for one in held if one.size]
    try:
        batch = np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise ConfigError(f"drives, parameters and state have batch shapes that do not fit together: {error}") from None
    rows = {name: _rows(array, batch, name == "voltage") for name, array in given.items()}
    flat_state = None if held is None else tuple(_state_rows(one, batch) for one in held)
    return Problem(
        flattened(network, batch),
        rows["voltage"],
        fixed,
        rows["pressure"],
        rows["concentration"],
        rows["injected"],
        rows["shunt"],
        flat_state,
    ), batch


def _nodes(values: ArrayLike, n: int, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] != n:
        raise ConfigError(f"`{name}` needs one value for each of the {n} nodes, not shape {array.shape}")
    return array


def _rows(array: FloatArray, batch: tuple[int, ...], full: bool) -> FloatArray:
    """(size, n) for an array that follows the batch, (1, n) for one that does not (unless ``full``)."""
    if array.ndim == 1 and not full:
        return array[np.newaxis]
    return np.ascontiguousarray(np.broadcast_to(array, (*batch, array.shape[-1]))).reshape(-1, array.shape[-1])


def _state_rows(state: FloatArray, batch: tuple[int, ...]) -> FloatArray:
    """(n_states, size or 1, n_edges)."""
    if not len(state):
        return np.empty((0, 1, state.shape[-1]))
    return np.stack([_rows(one, batch, False) for one in state])


def _require_salt(network: Network, concentration: FloatArray) -> None:
    for group in network.groups:
        if "reference_concentration" not in group.law.parameters:
            continue
        for end in (network.base[group.edges], network.tip[group.edges]):
            wrong = ~(concentration[..., end] > 0.0)
            if wrong.any():
                node = network.nodes[int(end[np.argwhere(wrong)[0][-1]])].name
                raise ConfigError(f"node {node!r} has no salt, which law {group.law.name!r} needs; give its concentration")


def require_tied(network: Network, clamped: BoolArray, shunt: FloatArray) -> None:
    """Every node must reach, through edges, one that is clamped or has a shunt to ground; raises ConfigError."""
    anchored = clamped | np.all(np.atleast_2d(shunt.reshape(-1, shunt.shape[-1])) > 0.0, axis=0)
    labels = structure(network, clamped).parts
    tied = np.zeros(labels.max() + 1, dtype=np.bool_)
    tied[labels[anchored]] = True
    loose = np.flatnonzero(~tied[labels])
    if loose.size:
        shown = ", ".join(repr(network.nodes[i].name) for i in loose[:5]) + (" …" if loose.size > 5 else "")
        what = "no node is driven or grounded" if not anchored.any() else "nothing ties them to a driven node or to ground"
        raise ConfigError(f"nodes {shown} float: {what}, so that their voltage is undefined; drive, ground or load one of them")


def _solved(problem: Problem, guess: FloatArray | None, rescue: bool) -> tuple[Solution, BoolArray]:
    """Newton in blocks, then for rows that fail continuation and pseudo-time; and where a conductance is negative."""
    block = max(1, _BLOCK // problem.network.n_edges)
    parts = []
    for first in range(0, problem.size, block):
        rows = slice(first, first + block)
        part = problem if problem.size <= block else problem.take(rows)
        start = None if guess is None else guess[rows]
        if dispatch.is_large(part):
            parts.append(dispatch.solve_large(part, start))
        else:
            parts.append(newton_dense.newton(part, newton_dense.cold_start(part) if start is None else start))
    solution = Solution(
        np.concatenate([part.voltage for part in parts]),
        np.concatenate([part.converged for part in parts]),
        np.concatenate([part.iterations for part in parts]),
        np.concatenate([part.residual for part in parts]),
    )
    negative = negative_conductance(problem, solution.voltage)
    hopeless = not rescue or problem.structure.free.size > _RESCUED  # there the sparse path has already tried continuation
    for row in np.flatnonzero(~solution.converged | negative.any(axis=-1)) if not hopeless else ():
        _rescue(problem.take([int(row)]), solution, int(row), negative)
    return solution, np.asarray(negative.any(axis=-1) & solution.converged)


def _cold(problem: Problem) -> Solution:
    return newton_dense.newton(problem, newton_dense.cold_start(problem))


def _rescue(single: Problem, solution: Solution, row: int, negative: BoolArray) -> None:
    """Try the row again from other sides; ``solution`` and ``negative`` are updated in place where that helps."""
    relaxes = any(group.law.kind is StateKind.RELAXATION for group in single.network.groups)
    attempts: list[Callable[[Problem], Solution]] = [_cold, newton_dense.continued]
    if relaxes and single.state is None:
        attempts.append(newton_dense.relaxed)
    for attempt in attempts:
        found = attempt(single)
        solution.iterations[row] += found.iterations[0]
        bad = negative_conductance(single, found.voltage)[0]
        if found.converged[0] and (not bad.any() or not solution.converged[row]):
            solution.voltage[row], solution.residual[row] = found.voltage[0], found.residual[0]
            solution.converged[row], negative[row] = True, bad
            if not bad.any():
                return


def negative_conductance(problem: Problem, voltage: FloatArray) -> BoolArray:
    """(size, n_edges): relaxing edges at a free node whose current runs against their voltage: no such state exists."""
    wrong = np.zeros((len(voltage), problem.network.n_edges), dtype=np.bool_)
    if problem.state is not None:
        return wrong
    at_free = ~problem.clamped[problem.network.base] | ~problem.clamped[problem.network.tip]
    finite = np.where(np.isfinite(voltage), voltage, 0.0)
    current, _ = problem.edges(finite)
    against = current * problem.drop(finite) < 0.0
    for group in problem.network.groups:
        if group.law.kind is StateKind.RELAXATION:
            wrong[:, group.edges] = against[:, group.edges] & at_free[group.edges]
    return wrong


def _point(problem: Problem, batch: tuple[int, ...], solution: Solution, stateless: BoolArray, validity: bool) -> OperatingPoint:
    good = solution.converged & ~stateless
    status, message = Status.CONVERGED, ""
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        where = "the network" if problem.size == 1 else f"operating point {row + 1} of {problem.size}"
        if stateless[row]:
            edges = negative_conductance(problem.take([row]), solution.voltage[[row]])[0]
            name = problem.network.edge_names[int(np.flatnonzero(edges)[0])]
            status = Status.NO_STEADY_STATE
            message = (
                f"{where} has no steady state: the law gives edge {name!r} a negative conductance there; reduce the voltage or "
                "the pressure difference, or switch the floor of the law on"
            )
        else:
            status = Status.NOT_CONVERGED
            message = (
                f"{where} did not converge: after {solution.iterations[row]:.0f} iterations the currents at a node still miss "
                f"balance by {solution.residual[row]:.1e} of the largest current; it may have no steady state"
            )
    voltage = solution.voltage
    current, _ = problem.edges(np.where(good[:, np.newaxis], voltage, 0.0))
    terminal = np.where(problem.clamped, problem.leaving(current, voltage), 0.0)
    warnings: list[str] = []
    if validity and good.any():
        rows = problem if good.all() else problem.take(np.flatnonzero(good))
        for group, drive in zip(rows.network.groups, rows.drives(voltage[good]), strict=True):
            warnings += [text for text in group.law.validity(group.parameters, drive) if text not in warnings]
    lost = ~good[:, np.newaxis]
    return OperatingPoint(
        np.where(lost, np.nan, voltage).reshape(*batch, -1),
        np.where(lost, np.nan, current).reshape(*batch, -1),
        np.where(lost, np.nan, terminal).reshape(*batch, -1),
        status,
        message,
        good.reshape(batch),
        solution.iterations.reshape(batch),
        solution.residual.reshape(batch),
        tuple(warnings),
    )
