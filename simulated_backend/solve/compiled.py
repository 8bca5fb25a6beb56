"""Prepared networks: everything that can be done once is, so that each further operating point costs only its arithmetic."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hil.core.errors import ConfigError, NotConvergedError
from hil.core.types import BoolArray, FloatArray
from simulated_backend.devices.base import EdgeDrive
from simulated_backend.network import Network
from simulated_backend.solve import newton, sparse
from simulated_backend.solve.assembly import drops, gather
from simulated_backend.solve.factor import Index
from simulated_backend.solve.kernels import steady_edges
from simulated_backend.solve.linear import LinearCore, SingularMatrixError, budget, first_method, next_method
from simulated_backend.solve.operating_point import require_tied
from simulated_backend.solve.rows import drive_without_voltage, edge_drive_of, kernel_rows

EdgeLaw = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
_LIMIT = 60
_HALVINGS = 14
_CONTINUATION_STEPS = 200


@dataclass(frozen=True, slots=True)
class Solved:
    """voltage (n_nodes,) V; ``residual``: largest imbalance at a node over the largest edge current; ``message`` says
    what is wrong and is empty when ``converged``; ``negative_slopes``: the Jacobian is not positive definite, so the
    point may be one of several, or unstable."""

    voltage: FloatArray
    converged: bool
    message: str
    iterations: int
    residual: float
    negative_slopes: bool = False


class PreparedNetwork:
    """One network with fixed clamped nodes, pressures, concentrations and shunts, ready for many solves.

    ``method``: "auto", or one of "replay", "conjugate", "supernodal", "multigrid", "general" (see ``linear``).
    ``tolerance``: Kirchhoff residual at any node over the largest edge current. ``edge_law``: current (A) and slope (S) of
    every edge from node voltages, in place of the relaxed laws (devices held at a state). Raises ConfigError for a wrong
    shape.
    """

    def __init__(
        self,
        network: Network,
        clamped: ArrayLike,
        *,
        pressure: FloatArray | None = None,
        concentration: FloatArray | None = None,
        shunt: FloatArray | None = None,
        method: str = "auto",
        tolerance: float = 1e-11,
        edge_law: EdgeLaw | None = None,
        pattern: sparse.Pattern | None = None,
    ) -> None:
        self.network = network
        self.clamped: BoolArray = np.asarray(clamped, dtype=np.bool_)
        if self.clamped.shape != (network.n_nodes,):
            raise ConfigError(f"`clamped` needs one flag for each of the {network.n_nodes} nodes, not {self.clamped.shape}")
        self.tolerance = tolerance
        self.pattern = sparse.analyse(network.base, network.tip, self.clamped) if pattern is None else pattern
        self.free = self.pattern.free
        self.shunt = np.zeros(network.n_nodes) if shunt is None else np.asarray(shunt, dtype=np.float64)
        require_tied(network, self.clamped, self.shunt)
        self.drive = drive_without_voltage(network, pressure, concentration)
        self.base = network.base.astype(np.int32)
        self.tip = network.tip.astype(np.int32)
        self.edge_law = edge_law
        self.kernels = kernel_rows(network, self.drive) if edge_law is None else None
        if self.kernels is not None and self.kernels[1].ndim != 2:
            raise ConfigError("a prepared network takes one set of parameters; `copies.Copies` takes many")
        self.core = LinearCore(self.pattern, method)
        self.inner_limit = budget(self.pattern)
        self._packed = False
        self._integers, self._numbers, self._work = np.empty(0, dtype=np.int32), np.empty(0), np.empty(0)
        begin = first_method(self.pattern) if method == "auto" else method
        if self.kernels is not None and begin in ("replay", "conjugate"):
            self._pack(newton.DIRECT if begin == "replay" else newton.ITERATIVE)

    def _pack(self, kind: int) -> None:
        if self.kernels is not None:
            self._integers, self._numbers, self._work = newton.pack(
                self.pattern, self.base, self.tip, *self.kernels, self.shunt, kind
            )
            self._packed = True

    def _learn(self, status: int) -> bool:
        """After conjugate gradients ran out of budget: never again on this graph. Whether the compiled path goes on."""
        if status != newton.STALLED:
            return False
        self._packed = False
        if self.core.method == "conjugate":
            self.core.method = next_method(self.pattern)
        if self.core.method == "replay":
            self._pack(newton.DIRECT)
        return self._packed

    # -- solving --------------------------------------------------------------------------------------------------

    def solve_in_place(self, voltage: FloatArray, cold: bool = True) -> int:
        """The leanest call: ``voltage`` (n_nodes,) float64 holds the clamped values and is filled; returns iterations.

        ``cold`` False takes its free entries as a guess. No injected current. Raises NotConvergedError.
        """
        if self._packed:
            code: int = newton.newton(
                self._integers, self._numbers, self._work, voltage, cold, self.tolerance, _LIMIT, self.inner_limit
            )
            if code & 15 == newton.CONVERGED:
                return code >> 4
            if self._learn(code & 15):
                return self.solve_in_place(voltage, True)
        solved = self._recover(voltage, np.zeros(self.pattern.size))
        if not solved.converged:
            raise NotConvergedError(solved.message)
        voltage[:] = solved.voltage
        return solved.iterations

    def solve(self, voltage: ArrayLike, *, injected: ArrayLike | None = None, guess: ArrayLike | None = None) -> Solved:
        """Operating point; ``voltage`` (n_nodes,) V is read at clamped nodes, ``injected`` (n_nodes,) A at free ones."""
        start = np.zeros(self.network.n_nodes) if guess is None else np.array(guess, dtype=np.float64)
        start[self.clamped] = np.asarray(voltage, dtype=np.float64)[self.clamped]
        source = np.zeros(self.pattern.size) if injected is None else np.asarray(injected, dtype=np.float64)[self.free]
        if self._packed:
            self._numbers[self._numbers.size - source.size :] = source
            code = newton.newton(
                self._integers, self._numbers, self._work, start, guess is None, self.tolerance, _LIMIT, self.inner_limit
            )
            self._numbers[self._numbers.size - source.size :] = 0.0
            if code & 15 == newton.CONVERGED:
                worst, largest, negative, _ = self._work[: newton.REPORT]
                return Solved(start, True, "", code >> 4, float(worst / largest) if largest > 0.0 else 0.0, bool(negative > 0))
            if self._learn(code & 15):
                return self.solve(voltage, injected=injected, guess=guess)
            start[self.free] = 0.0
        return self._recover(start, source, None if guess is None else np.asarray(guess, dtype=np.float64))

    def solve_many(self, voltages: ArrayLike, *, injected: ArrayLike | None = None) -> tuple[FloatArray, BoolArray]:
        """Many stimuli in one call: (k, n_nodes) in, voltages (k, n_nodes) and convergence (k,) out."""
        filled = np.array(voltages, dtype=np.float64, ndmin=2)
        k, n = filled.shape[0], self.pattern.size
        source = np.zeros((k, n)) if injected is None else np.asarray(injected, dtype=np.float64)[:, self.free]
        good = np.zeros(k, dtype=np.bool_)
        if self._packed:
            status = np.empty(k, dtype=np.int32)
            original = filled.copy()
            newton.newton_many(
                self._integers, self._numbers, self._work, filled, source, status, self.tolerance, _LIMIT, self.inner_limit
            )
            self._numbers[self._numbers.size - n :] = 0.0
            good = (status & 15) == newton.CONVERGED
            filled[~good] = original[~good]
        for row in np.flatnonzero(~good):
            solved = self._recover(filled[row], source[row])
            filled[row], good[row] = solved.voltage, solved.converged
        return filled, good

    @property
    def packed(self) -> "tuple[Index, FloatArray] | None":
        """The integers and the work space of the compiled solver (layout: ``newton.pack``), where there is one."""
        return (self._integers, self._work) if self._packed else None

    # -- laws over edges ------------------------------------------------------------------------------------------

    def edge_steady(self, voltage: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Relaxed current (A) and slope (S) of every edge at node voltages (n_nodes,)."""
        if self.edge_law is not None:
            return self.edge_law(voltage)
        v = np.empty(self.network.n_edges)
        drops(self.base, self.tip, voltage, v)
        current, slope = np.empty(v.size), np.empty(v.size)
        if self.kernels is not None:
            steady_edges(*self.kernels, v, current, slope)
            return current, slope
        whole = EdgeDrive(v, self.drive.pressure_difference, self.drive.concentration_base, self.drive.concentration_tip)
        for group in self.network.groups:
            i, g = group.law.steady(group.parameters, edge_drive_of(whole, group))
            current[group.edges] = i * self.network.parallel[group.edges]
            slope[group.edges] = g * self.network.parallel[group.edges]
        return current, slope

    # -- the long way round ---------------------------------------------------------------------------------------

    def _recover(self, voltage: FloatArray, source: FloatArray, guess: FloatArray | None = None) -> Solved:
        """Newton in steps with every linear method in reach, then continuation of all sources from zero."""
        start = voltage.copy()
        if guess is not None:
            start[self.free] = guess[self.free]
        first = self._newton(start, source, guess is None)
        if first.converged:
            return first
        fraction, step = 0.0, 0.25
        known = np.zeros(voltage.size)
        total = first.iterations
        for _ in range(_CONTINUATION_STEPS):
            target = min(1.0, fraction + step)
            start = known.copy()
            start[self.clamped] = target * voltage[self.clamped]
            found = self._newton(start, target * source, False)
            total += found.iterations
            if found.converged:
                fraction, known = target, found.voltage
                if fraction == 1.0:
                    return Solved(known, True, "", total, found.residual, found.negative_slopes)
                step *= 1.6
            else:
                step *= 0.4
                if step < 1e-4:
                    break
        message = (
            f"the operating point was not found: Newton stopped at a residual of {first.residual:.1e} of the largest current, "
            f"and raising all sources together got no further than {100 * fraction:.3g} % of their values; beyond, the "
            "network may have no steady state"
        )
        lost = voltage.copy()
        lost[self.free] = np.nan
        return Solved(lost, False, message, total, first.residual)

    def imbalance(self, current: FloatArray, voltage: FloatArray, source: FloatArray) -> FloatArray:
        """Net current into every unknown, (n_free,) A: zero in balance."""
        out = source - self.shunt[self.free] * voltage[self.free]
        gather(self.pattern.base, self.pattern.tip, current, out)
        return out

    def _newton(self, voltage: FloatArray, source: FloatArray, cold: bool) -> Solved:
        free, ground = self.free, self.shunt[self.free]
        if cold:
            voltage = voltage.copy()
            voltage[free] = 0.0
            current, slope = self.edge_steady(np.zeros(voltage.size))
            v = np.empty(current.size)
            drops(self.base, self.tip, voltage, v)
            self.core.refresh(slope, ground)
            try:
                voltage[free] += self.core.solve(self.imbalance(current + slope * v, voltage, source), 1e-2)
            except SingularMatrixError as error:
                return Solved(voltage, False, str(error), 0, np.inf)
        current, slope = self.edge_steady(voltage)
        residual = self.imbalance(current, voltage, source)
        norm, before = float(np.linalg.norm(residual)), np.inf
        last = relative = np.inf
        for iteration in range(_LIMIT + 1):
            worst = float(np.max(np.abs(residual), initial=0.0))
            largest = float(np.max(np.abs(current)))
            relative = worst / largest if largest > 0.0 else 0.0
            top = float(np.max(np.abs(voltage)))
            if not np.isfinite(norm):
                break
            self.core.refresh(slope, ground)
            allowed = self.tolerance * largest + 4e-15 * np.abs(self.core.diagonal) * top
            if np.all(np.abs(residual) <= allowed) and (last <= 1e-6 * top or (iteration == 0 and worst == 0.0)):
                return Solved(voltage, True, "", iteration, relative, bool(self.core.negative or np.any(slope < 0.0)))
            # no tighter than what the next Newton step can use, nor than the balance that is asked for
            enough = 0.1 * self.tolerance * largest / norm if norm > 0.0 else 1.0
            forcing = 1e-2 if not np.isfinite(before) else min(5e-2, 0.5 * (norm / before) ** 2)
            forcing = min(5e-2, max(1e-10, forcing, enough))
            try:
                step = self.core.solve(residual, forcing)
            except SingularMatrixError as error:
                return Solved(voltage, False, str(error), iteration, relative)
            before = norm
            fraction = 1.0
            for _ in range(_HALVINGS):
                trial = voltage.copy()
                trial[free] += fraction * step
                current, slope = self.edge_steady(trial)
                residual = self.imbalance(current, trial, source)
                norm = float(np.linalg.norm(residual))
                if norm < before or np.all(np.abs(residual) <= allowed):
                    break
                fraction *= 0.5
            else:
                return Solved(voltage, False, "no step lowers the imbalance", iteration, relative)
            voltage, last = trial, float(np.max(np.abs(fraction * step), initial=0.0))
        return Solved(voltage, False, "the iteration limit was reached", _LIMIT, relative)
