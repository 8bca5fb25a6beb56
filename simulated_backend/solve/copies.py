"""Thousands of copies of one small network, each with its own parameters and drives, in one call.

Copies lie side by side in memory: every instruction of the factorisation works on a block of them at once. The method is
the explicit Euler relaxation of the network papers (previous conductance on the right) or Newton for the steady state.
"""

import numpy as np
from numpy.typing import ArrayLike

from hil.core.errors import CapabilityError, ConfigError
from hil.core.types import BoolArray, FloatArray
from simulated_backend.devices.base import StateKind
from simulated_backend.network import Network
from simulated_backend.solve import kernels, newton, sparse
from simulated_backend.solve.factor import Index
from simulated_backend.solve.jit import compiled
from simulated_backend.solve.operating_point import require_tied
from simulated_backend.solve.rows import drive_without_voltage, edge_drive_of, kernel_rows

_LANES = 128
"""Copies that are worked on together; their arrays stay in the nearest cache."""


@compiled
def _factor_lanes(first: Index, row: Index, target: Index, diagonal: FloatArray, lower: FloatArray) -> None:
    """``factor.factorise`` for many matrices of one pattern: (n, lanes) and (n_lower, lanes)."""
    t = 0
    lanes = diagonal.shape[1]
    scaled = np.empty(lanes)
    for j in range(diagonal.shape[0]):
        for c in range(lanes):
            diagonal[j, c] = 1.0 / diagonal[j, c]
        for a in range(first[j], first[j + 1]):
            i = row[a]
            for c in range(lanes):
                scaled[c] = lower[a, c] * diagonal[j, c]
                diagonal[i, c] -= scaled[c] * lower[a, c]
            for b in range(a + 1, first[j + 1]):
                k = target[t]
                t += 1
                for c in range(lanes):
                    lower[k, c] -= scaled[c] * lower[b, c]
            for c in range(lanes):
                lower[a, c] = scaled[c]


@compiled
def _substitute_lanes(first: Index, row: Index, diagonal: FloatArray, lower: FloatArray, x: FloatArray) -> None:
    """Solve in place; ``diagonal`` holds 1/D."""
    n, lanes = x.shape
    for j in range(n):
        for a in range(first[j], first[j + 1]):
            i = row[a]
            for c in range(lanes):
                x[i, c] -= lower[a, c] * x[j, c]
    for j in range(n - 1, -1, -1):
        for c in range(lanes):
            x[j, c] *= diagonal[j, c]
        for a in range(first[j], first[j + 1]):
            i = row[a]
            for c in range(lanes):
                x[j, c] -= lower[a, c] * x[i, c]


@compiled
def _euler(
    base: Index,
    tip: Index,
    codes: Index,
    free_base: Index,
    free_tip: Index,
    free: Index,
    first: Index,
    row: Index,
    target: Index,
    slot: Index,
    rows: FloatArray,
    share: FloatArray,
    shunt: FloatArray,
    injected: FloatArray,
    g: FloatArray,
    voltage: FloatArray,
    steps: int,
    lanes_at_once: int,
) -> None:
    """Euler steps of all copies; copies are the last axis of every float array: rows (n_edges, 8, k), share dt/τ and
    g (n_edges, k), shunt and injected (n_free, k), voltage (n_nodes, k)."""
    n, m, k = free.size, base.size, g.shape[1]
    for begin in range(0, k, lanes_at_once):
        end = min(begin + lanes_at_once, k)
        lanes = end - begin
        diagonal, x = np.empty((n, lanes)), np.empty((n, lanes))
        lower = np.empty((row.size, lanes))
        block = g[:, begin:end].copy()
        v = voltage[:, begin:end].copy()
        part = rows[:, :, begin:end].copy()
        rate = share[:, begin:end].copy()
        for step in range(steps + 1):
            for i in range(n):
                for c in range(lanes):
                    diagonal[i, c] = shunt[i, begin + c]
                    x[i, c] = injected[i, begin + c]
            lower[:] = 0.0
            for e in range(m):
                b, t = free_base[e], free_tip[e]
                if b >= 0:
                    for c in range(lanes):
                        diagonal[b, c] += block[e, c]
                if t >= 0:
                    for c in range(lanes):
                        diagonal[t, c] += block[e, c]
                if b >= 0 and t >= 0:
                    for c in range(lanes):
                        lower[slot[e], c] -= block[e, c]
                elif b >= 0:
                    for c in range(lanes):
                        x[b, c] += block[e, c] * v[tip[e], c]
                elif t >= 0:
                    for c in range(lanes):
                        x[t, c] += block[e, c] * v[base[e], c]
            _factor_lanes(first, row, target, diagonal, lower)
            _substitute_lanes(first, row, diagonal, lower, x)
            for i in range(n):
                for c in range(lanes):
                    v[free[i], c] = x[i, c]
            if step == steps:  # voltages that belong to the last conductances
                break
            for e in range(m):
                i, j = base[e], tip[e]
                if codes[e] == kernels.SATURATING:
                    for c in range(lanes):
                        bend = kernels.tanh((v[i, c] - v[j, c]) * part[e, 2, c])
                        aim = part[e, 0, c] * (1.0 + part[e, 1, c] * bend)
                        block[e, c] += rate[e, c] * (aim - block[e, c])
                elif codes[e] == kernels.CONICAL:
                    for c in range(lanes):
                        ratio, _ = kernels.conical_ratio(
                            part[e, 1, c],
                            part[e, 2, c],
                            part[e, 3, c],
                            part[e, 4, c],
                            part[e, 5, c],
                            part[e, 6, c],
                            v[i, c] - v[j, c],
                        )
                        block[e, c] += rate[e, c] * (part[e, 0, c] * ratio - block[e, c])
        g[:, begin:end] = block
        voltage[:, begin:end] = v


class Copies:
    """Many networks of one shape. Their parameters are those of ``network``, whose arrays may be (k, n_edges of a group).

    pressure Pa, concentration mol/m³: (n_nodes,) or (k, n_nodes). Raises CapabilityError for a law without a compiled
    kernel or that integrates a rate, ConfigError for floating nodes.
    """

    def __init__(
        self,
        network: Network,
        clamped: ArrayLike,
        *,
        pressure: FloatArray | None = None,
        concentration: FloatArray | None = None,
        shunt: FloatArray | None = None,
    ) -> None:
        self.network = network
        self.clamped: BoolArray = np.asarray(clamped, dtype=np.bool_)
        drive = drive_without_voltage(network, pressure, concentration)
        found = kernel_rows(network, drive)
        if found is None:
            names = ", ".join(sorted({group.law.name for group in network.groups}))
            raise CapabilityError(f"one of the laws {names} has no compiled kernel; solve its copies as a batch instead")
        self._codes, rows = found
        self._rows = rows if rows.ndim == 3 else rows[np.newaxis]
        tau = np.full((len(self._rows), network.n_edges), np.inf)
        for group in network.groups:
            if group.law.kind is StateKind.RELAXATION:
                tau[:, group.edges] = group.law.time_constant(group.parameters, edge_drive_of(drive, group))[0]
        self._tau = tau
        self.pattern = sparse.analyse(network.base, network.tip, self.clamped)
        if not self.pattern.replayable():
            raise CapabilityError(f"copies are for small networks; this one has {self.pattern.size} free nodes")
        self._base, self._tip = network.base.astype(np.int32), network.tip.astype(np.int32)
        self._shunt = np.zeros(network.n_nodes) if shunt is None else np.asarray(shunt, dtype=np.float64)
        require_tied(network, self.clamped, self._shunt)

    def _sized(self, voltages: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Clamped voltages (k, n_nodes), rows (k, n_edges, 8) and τ (k, n_edges) for one k."""
        v = np.atleast_2d(np.array(voltages, dtype=np.float64))
        counts = {len(v), len(self._rows)} - {1}
        if len(counts) > 1:
            raise ConfigError(f"{len(v)} rows of voltages do not fit {len(self._rows)} copies")
        k = max(counts, default=1)
        if not np.all(np.isfinite(v[:, self.clamped])):
            raise ConfigError("a clamped voltage is not a finite number")
        v = np.array(np.broadcast_to(v, (k, v.shape[1])))
        v[:, ~self.clamped] = 0.0
        rows = np.broadcast_to(self._rows, (k, *self._rows.shape[1:]))
        return v, rows, np.broadcast_to(self._tau, (k, self.network.n_edges))

    def steady(self, voltages: ArrayLike, *, tolerance: float = 1e-11) -> tuple[FloatArray, BoolArray]:
        """Operating points (k, n_nodes) V by Newton and whether each converged (k,); others are NaN."""
        v, rows, _ = self._sized(voltages)
        integers, numbers, work = newton.pack(
            self.pattern, self._base, self._tip, self._codes, rows[0], self._shunt, newton.DIRECT
        )
        status = np.empty(len(v), dtype=np.int32)
        _newton_copies(integers, numbers, work, np.ascontiguousarray(rows).reshape(len(v), -1), v, status, tolerance)
        good = (status & 15) == newton.CONVERGED
        v[~good] = np.nan
        return v, good

    def relax(
        self, voltages: ArrayLike, dt: float, steps: int, *, conductance: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Voltages (k, n_nodes) V and conductances (k, n_edges) S after ``steps`` explicit Euler steps of ``dt`` s.

        ``conductance`` (k, n_edges): where to begin, default g∞ at 0 V. Raises ConfigError when ``dt`` is not below
        twice the shortest time constant, where Euler's method is unstable.
        """
        v, rows, tau = self._sized(voltages)
        shortest = float(np.min(tau))
        if not 0.0 < dt < 2.0 * shortest:
            raise ConfigError(f"a step of {dt:g} s is not between 0 and twice the shortest time constant, {2 * shortest:g} s")
        if conductance is None:
            conductance = np.empty((len(v), self.network.n_edges))
            for copy in range(len(v)):
                kernels.level_edges(
                    self._codes, np.ascontiguousarray(rows[copy]), np.zeros(self.network.n_edges), conductance[copy]
                )
        g = np.ascontiguousarray(np.asarray(conductance, dtype=np.float64).T)
        first, row, target, slot = self.pattern.lower
        voltage = np.ascontiguousarray(v.T)
        size = (self.pattern.size, len(v))
        _euler(
            self._base,
            self._tip,
            self._codes,
            self.pattern.base,
            self.pattern.tip,
            self.pattern.free,
            first,
            row,
            target,
            slot,
            np.ascontiguousarray(np.moveaxis(rows, 0, -1)),
            np.ascontiguousarray((dt / tau).T),
            np.ascontiguousarray(np.broadcast_to(self._shunt[self.pattern.free][:, np.newaxis], size)),
            np.zeros(size),
            g,
            voltage,
            steps,
            _LANES,
        )
        return np.ascontiguousarray(voltage.T), np.ascontiguousarray(g.T)


@compiled
def _newton_copies(
    integers: Index,
    numbers: FloatArray,
    work: FloatArray,
    rows: FloatArray,
    voltages: FloatArray,
    status: Index,
    relative: float,
) -> None:
    """``newton.newton`` for every copy: rows (k, n_edges · 8), voltages (k, n_nodes)."""
    for copy in range(voltages.shape[0]):
        numbers[: rows.shape[1]] = rows[copy]
        status[copy] = newton.newton(integers, numbers, work, voltages[copy], True, relative, 60, 0)
