"""Exact finite differences over all edges: every perturbed network solved to rounding by chord Newton from the base factor.

The perturbed networks differ from the base in one edge each, so the factorisation of the base's Jacobian serves them all
(Newton with a fixed Jacobian, the chord method: Kelley, Iterative Methods, sec. 5.4). They lie side by side, so that one
pass over the factor serves a block of them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hil.core.errors import ConfigError, NotConvergedError
from hil.core.types import FloatArray
from simulated_backend.devices.base import EdgeDrive
from simulated_backend.network import Group
from simulated_backend.solve import assembly, factor, kernels
from simulated_backend.solve.adjoint import tunable_value
from simulated_backend.solve.compiled import PreparedNetwork
from simulated_backend.solve.factor import Index
from simulated_backend.solve.jit import compiled
from simulated_backend.solve.linear import LinearCore
from simulated_backend.solve.rows import edge_drive_of, kernel_rows

_LANES = 16
_LIMIT = 40
_NEGLIGIBLE = 1e-7
"""Change of an edge's voltage, relative to the largest voltage, whose square is lost in rounding."""


@compiled
def _substitute_shared(first: Index, row: Index, inverse: FloatArray, lower: FloatArray, x: FloatArray) -> None:
    """Solve in place for many right sides x (n, lanes) with one factor; ``inverse`` holds 1/D."""
    n, lanes = x.shape
    for j in range(n):
        for a in range(first[j], first[j + 1]):
            i, value = row[a], lower[a]
            for c in range(lanes):
                x[i, c] -= value * x[j, c]
    for j in range(n - 1, -1, -1):
        for c in range(lanes):
            x[j, c] *= inverse[j]
        for a in range(first[j], first[j + 1]):
            i, value = row[a], lower[a]
            for c in range(lanes):
                x[j, c] -= value * x[i, c]


@compiled
def _chord(
    base: Index,
    tip: Index,
    codes: Index,
    free_base: Index,
    free_tip: Index,
    free: Index,
    first: Index,
    row: Index,
    inverse: FloatArray,
    lower: FloatArray,
    rows: FloatArray,
    changed_rows: FloatArray,
    changed: Index,
    voltage: FloatArray,
    current: FloatArray,
    slope: FloatArray,
    wanted: Index,
    out: FloatArray,
    tolerance: float,
    limit: int,
) -> int:
    """``out`` (n_edges, n_wanted): voltages of ``wanted`` nodes when edge e alone has row changed_rows[e], e in ``changed``.

    voltage, current, slope: the base solution. Returns the number of networks that did not converge.
    """
    n, m, k = free.size, base.size, changed.size
    failed = 0
    top = 0.0
    for i in range(voltage.size):
        top = max(top, abs(voltage[i]))
    for begin in range(0, k, _LANES):
        lanes = min(_LANES, k - begin)
        delta = np.zeros((voltage.size, lanes))
        x = np.empty((n, lanes))
        drop = np.empty(lanes)
        last = np.inf
        for iteration in range(limit):
            # J·x = change by the moved edge − what the linear network of the base leaves out of all others
            x[:] = 0.0
            if iteration > 0:
                for e in range(m):
                    i, j, b, t = base[e], tip[e], free_base[e], free_tip[e]
                    if codes[e] == kernels.OHMIC or (b < 0 and t < 0):
                        continue
                    largest = 0.0
                    for c in range(lanes):
                        drop[c] = delta[i, c] - delta[j, c]
                        largest = max(largest, abs(drop[c]))
                    if largest < _NEGLIGIBLE * top:
                        continue
                    at = voltage[i] - voltage[j]
                    if codes[e] == kernels.SATURATING:
                        g, turn, scale = rows[e, 0], rows[e, 0] * rows[e, 1], rows[e, 2]
                        for c in range(lanes):
                            u = at + drop[c]
                            drop[c] = (g + turn * kernels.tanh(u * scale)) * u - current[e] - slope[e] * drop[c]
                    else:
                        for c in range(lanes):
                            u = at + drop[c]
                            drop[c] = kernels.steady(int(codes[e]), rows, e, u)[0] - current[e] - slope[e] * drop[c]
                    if b >= 0:
                        for c in range(lanes):
                            x[b, c] -= drop[c]
                    if t >= 0:
                        for c in range(lanes):
                            x[t, c] += drop[c]
            for c in range(lanes):
                e = changed[begin + c]
                u = voltage[base[e]] - voltage[tip[e]] + delta[base[e], c] - delta[tip[e], c]
                extra = kernels.steady(int(codes[e]), changed_rows, e, u)[0]
                extra -= kernels.steady(int(codes[e]), rows, e, u)[0] if iteration > 0 else current[e]
                if free_base[e] >= 0:
                    x[free_base[e], c] -= extra
                if free_tip[e] >= 0:
                    x[free_tip[e], c] += extra
            _substitute_shared(first, row, inverse, lower, x)
            worst = 0.0
            for i in range(n):
                for c in range(lanes):
                    worst = max(worst, abs(x[i, c] - delta[free[i], c]))
                    delta[free[i], c] = x[i, c]
            # The chord method gains a fixed factor per step: the error left is that factor times the last step.
            if worst <= tolerance * top or (iteration > 0 and worst * worst <= tolerance * top * (last - worst)):
                break
            last = worst
            if iteration == limit - 1:
                failed += lanes
        for c in range(lanes):
            for q in range(wanted.size):
                out[changed[begin + c], q] = voltage[wanted[q]] + delta[wanted[q], c]
    return failed


def perturbed_outputs(
    prepared: PreparedNetwork,
    voltage: FloatArray,
    parameters: Sequence[str],
    steps: Sequence[ArrayLike],
    outputs: ArrayLike,
    *,
    tolerance: float = 1e-13,
) -> FloatArray:
    """Voltages (n_edges, n_outputs) of nodes ``outputs`` when each edge in turn has its tunable moved by its step.

    ``voltage``: the operating point of the unperturbed network. ``parameters``: a tunable per group; ``steps``: its
    change, a number or (n_edges of the group,), SI. ``tolerance``: V per largest voltage. Raises ConfigError for an
    unknown tunable, NotConvergedError when a perturbed network has no operating point near by.
    """
    network = prepared.network
    moved = [_moved(group, name, step) for group, name, step in zip(network.groups, parameters, steps, strict=True)]
    wanted = np.asarray(outputs, dtype=np.int32)
    other = network.with_parameters([group.law.tuned(group.parameters, name, new) for group, name, new in moved])
    found = kernel_rows(other, prepared.drive) if prepared.kernels is not None else None
    if found is None or prepared.kernels is None or not prepared.pattern.replayable():
        return _chord_arrays(prepared, voltage, other.groups, wanted, tolerance)
    p = prepared.pattern
    current, slope = prepared.edge_steady(voltage)
    diagonal, off = np.empty(p.size), np.empty(p.neighbour.size)
    assembly.assemble(p.base, p.tip, p.slot_base, p.slot_tip, slope, prepared.shunt[p.free], diagonal, off)
    first, row, target, _ = p.lower
    lower = np.zeros(row.size)
    slots = assembly.to_lower(p.start, p.neighbour, first, row)
    lower[slots[slots >= 0]] = off[slots >= 0]
    if factor.factorise(first, row, target, diagonal, lower) < 0:
        raise NotConvergedError("the Jacobian of the network is singular at its operating point; no gradient exists there")
    out = np.empty((network.n_edges, wanted.size))
    codes, rows = prepared.kernels
    failed = _chord(
        prepared.base,
        prepared.tip,
        codes,
        p.base,
        p.tip,
        p.free,
        first,
        row,
        1.0 / diagonal,
        lower,
        rows,
        np.ascontiguousarray(found[1]),
        np.argsort(np.maximum(p.base, p.tip)).astype(np.int32),  # neighbours share a block
        voltage,
        current,
        slope,
        wanted,
        out,
        tolerance,
        _LIMIT,
    )
    if failed:
        raise NotConvergedError(f"{failed} perturbed networks did not converge; take smaller steps")
    return out


def finite_difference(
    prepared: PreparedNetwork, voltage: FloatArray, parameters: Sequence[str], steps: Sequence[ArrayLike], outputs: ArrayLike
) -> tuple[FloatArray, ...]:
    """Forward differences dV_out/dθ, one (n_edges of the group, n_outputs) array per group; arguments as above."""
    at = perturbed_outputs(prepared, voltage, parameters, steps, outputs)
    change = at - voltage[np.asarray(outputs, dtype=np.intp)]
    sizes = [
        np.broadcast_to(np.asarray(step, dtype=np.float64), group.edges.shape)
        for group, step in zip(prepared.network.groups, steps, strict=True)
    ]
    return tuple(
        np.asarray(change[group.edges] / size[:, np.newaxis]) for group, size in zip(prepared.network.groups, sizes, strict=True)
    )


def _moved(group: Group, name: str, step: ArrayLike) -> tuple[Group, str, FloatArray]:
    if name not in group.law.tunables():
        raise ConfigError(f"law {group.law.name!r} has no tunable {name!r}; it has {', '.join(group.law.tunables())}")
    size = np.asarray(step, dtype=np.float64)
    if not np.all(np.isfinite(size)) or np.any(size == 0.0):
        raise ConfigError(f"the finite-difference step of {name!r} must be finite and not 0")
    return group, name, tunable_value(group, name) + size


def _chord_arrays(
    prepared: PreparedNetwork, voltage: FloatArray, groups: Sequence[Group], wanted: Index, tolerance: float
) -> FloatArray:
    """The same through the array methods of the laws, for laws without kernels and for large factors."""
    network = prepared.network
    p = prepared.pattern
    current, slope = prepared.edge_steady(voltage)
    core = LinearCore(p, "replay" if p.replayable() else "supernodal")
    core.refresh(slope, prepared.shunt[p.free])
    out = np.empty((network.n_edges, wanted.size))
    top = float(np.max(np.abs(voltage)))
    member = np.empty(network.n_edges, dtype=np.intp)
    place = np.empty(network.n_edges, dtype=np.intp)
    for number, group in enumerate(network.groups):
        member[group.edges], place[group.edges] = number, np.arange(group.edges.size)
    for begin in range(0, network.n_edges, 2 * _LANES):
        edges = np.arange(begin, min(begin + 2 * _LANES, network.n_edges))
        v = np.repeat(voltage[np.newaxis], edges.size, axis=0)
        last = np.inf
        for _ in range(_LIMIT):
            now = _currents(prepared, v)
            for c, e in enumerate(edges):  # the one edge that differs
                group, q = groups[member[e]], place[e]
                one = {key: value[..., q : q + 1] for key, value in group.parameters.items()}
                d = prepared.drive
                u = v[c, network.base[e]] - v[c, network.tip[e]]
                drive = EdgeDrive(
                    np.array([u]),
                    d.pressure_difference[e : e + 1],
                    d.concentration_base[e : e + 1],
                    d.concentration_tip[e : e + 1],
                )
                now[c, e] = group.law.steady(one, drive)[0][0] * network.parallel[e]
            right = np.empty((p.size, edges.size))
            for c in range(edges.size):
                right[:, c] = prepared.imbalance(now[c] - current, v[c] - voltage, np.zeros(p.size))
            step = core.solve(right)
            v[:, p.free] += step.T
            worst = float(np.max(np.abs(step)))
            if worst <= tolerance * top or (last < np.inf and worst * worst <= tolerance * top * (last - worst)):
                break
            last = worst
        else:
            raise NotConvergedError("a perturbed network did not converge; take smaller steps")
        out[edges] = v[:, wanted]
    return out


def _currents(prepared: PreparedNetwork, v: FloatArray) -> FloatArray:
    network, d = prepared.network, prepared.drive
    drop = v[:, network.base] - v[:, network.tip]
    whole = EdgeDrive(drop, d.pressure_difference, d.concentration_base, d.concentration_tip)
    current = np.empty(drop.shape)
    for group in network.groups:
        current[:, group.edges] = (
            group.law.steady(group.parameters, edge_drive_of(whole, group))[0] * network.parallel[group.edges]
        )
    return current
