"""Relaxing networks prepared for compiled runs in time: every edge one conductance, one time constant, one kernel row."""

from collections.abc import Sequence

import numpy as np

from hil.core.types import BoolArray, FloatArray
from simulated_backend.devices.base import StateKind
from simulated_backend.network import Network
from simulated_backend.solve import exponential, newton, sparse
from simulated_backend.solve.factor import Index
from simulated_backend.solve.linear import WORTH
from simulated_backend.solve.rows import drive_without_voltage, edge_drive_of, kernel_rows
from simulated_backend.solve.transient import Course, Segment, State

_INNER = 2e-6
"""Imbalance left by the iterative linear solver, relative to the sources."""
_INNER_LIMIT = 20_000
_WARM = 0.4
"""A run starts its iterations from the last voltages: a factorisation must be cheaper than so many cold ones."""


class RelaxingNetwork:
    """A network whose laws all relax (or have no state) and have kernels; see ``of``."""

    def __init__(
        self, network: Network, clamped: BoolArray, codes: Index, rows: FloatArray, tau: FloatArray, shunt: FloatArray
    ) -> None:
        self.network, self.clamped, self.tau = network, clamped, tau
        self.rows = rows
        pattern = sparse.analyse(network.base, network.tip, clamped)
        direct = pattern.replayable() and pattern.direct_cost() <= _WARM * WORTH * pattern.iteration_cost()
        self._integers, _, self._work = newton.pack(
            pattern,
            network.base.astype(np.int32),
            network.tip.astype(np.int32),
            codes,
            rows,
            shunt,
            newton.DIRECT if direct else newton.ITERATIVE,
        )
        self._free = pattern.free
        self._shunt = shunt[pattern.free]
        self._edge_work = np.empty((3, network.n_edges))

    @classmethod
    def of(
        cls,
        network: Network,
        clamped: BoolArray,
        *,
        pressure: FloatArray | None = None,
        concentration: FloatArray | None = None,
        shunt: FloatArray | None = None,
    ) -> "RelaxingNetwork | None":
        """The prepared network, or None when a law has no kernel; drives as in ``compiled.PreparedNetwork``."""
        drive = drive_without_voltage(network, pressure, concentration)
        kernels = kernel_rows(network, drive)
        if kernels is None:
            return None
        tau = np.full(network.n_edges, 1.0)
        for group in network.groups:
            if group.law.kind is StateKind.RELAXATION:
                tau[group.edges] = group.law.time_constant(group.parameters, edge_drive_of(drive, group))[0]
        return cls(
            network, clamped, *kernels, tau, np.zeros(network.n_nodes) if shunt is None else np.asarray(shunt, dtype=np.float64)
        )

    def conductances(self, state: State) -> FloatArray:
        """Conductance of every edge, parallel devices together, S, from the states of the groups."""
        g = np.empty(self.network.n_edges)
        for group, one in zip(self.network.groups, state, strict=True):
            if group.law.kind is StateKind.RELAXATION:
                g[group.edges] = one[0] * self.network.parallel[group.edges]
            else:
                g[group.edges] = self.rows[group.edges, 0]
        return g

    def run(
        self,
        cut: Sequence[Segment],
        wanted: FloatArray,
        state: State,
        injected: FloatArray,
        tolerance: float,
        max_step: float | None = None,
        *,
        step: float | None = None,
        order: int = 2,
        inner: float | None = None,
    ) -> Course:
        """Integrate over the segments. ``step`` (s) fixes the step; else it is controlled by ``tolerance`` (V).

        ``order`` 1 is the exponential Euler step, 0 the
        explicit one of the network papers. ``inner``: imbalance that the iterative linear solver may leave,
        relative to the sources (default 2e-6, and 1e-12 at a fixed step, so that the order shows).
        """
        g = self.conductances(state)
        n_nodes = self.network.n_nodes
        voltage = np.zeros(n_nodes)
        found = np.full((wanted.size, n_nodes), np.nan)
        held = np.full((wanted.size, g.size), np.nan)
        source = injected[self._free]
        done = taken = 0
        message = ""
        for segment in cut:
            voltage[self.clamped] = segment.voltage[self.clamped]
            times = np.concatenate(([segment.begin], segment.samples, [segment.end]))
            exact = 1e-12
            code = exponential.balance(self._integers, self._shunt, source, g, voltage, self._work, exact, _INNER_LIMIT)
            count = segment.samples.size
            samples, states = np.empty((count + 1, n_nodes)), np.empty((count + 1, g.size))
            if code >= 0:
                h = step if step is not None else 0.1 * float(np.min(self.tau))
                largest = np.inf if max_step is None else max_step
                code, _, steps = exponential.relax(
                    self._integers,
                    self.rows,
                    self.tau,
                    self._shunt,
                    source,
                    g,
                    voltage,
                    self._work,
                    self._edge_work,
                    times,
                    samples,
                    states,
                    tolerance,
                    h,
                    step is not None,
                    order,
                    largest,
                    inner if inner is not None else (_INNER if step is None else exact),
                    _INNER_LIMIT,
                )
                taken += steps
            if code != exponential.DONE and code != 0:
                message = (
                    f"the run stopped between {segment.begin:g} s and {segment.end:g} s: "
                    + ("the step became too small" if code == exponential.SMALL_STEP else "Kirchhoff could not be solved")
                    + "; a conductance may have become negative"
                )
                break
            found[done : done + count], held[done : done + count] = samples[:count], states[:count]
            done += count
        parallel = self.network.parallel
        states_out = tuple(
            held[:, np.newaxis, group.edges] / parallel[group.edges]
            if group.law.kind is StateKind.RELAXATION
            else np.empty((wanted.size, 0, group.edges.size))
            for group in self.network.groups
        )
        return Course(wanted, found, states_out, not message, message, taken)
