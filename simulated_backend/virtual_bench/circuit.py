"""The network in time, with real sources at its nodes: sources at their limits, loads, cable capacitance, device memory.

One step of length h solves Kirchhoff's law at its end together with the states there.

States of relaxation laws, ds/dt = (s_inf - s)/tau, use the exponential formula that is exact for an s_inf linear in time:
s1 = e^-z s0 + a s_inf0 + b s_inf1, z = h/tau, b = 1 - (1 - e^-z)/z, a = (1 - e^-z)/z - e^-z. Node capacitances use the
theta method fitted to their own time constant, theta = 1/(1 - e^-z) - 1/z. Both are of second order for small z and reach
the steady state for large z, so that the step may grow with the time since the last change: an hour costs some dozens of
steps. Laws that give rates: see ``memory``.

(Exponential time differencing: Cox and Matthews, J. Comput. Phys. 176, 430 (2002), eq. (8) taken implicitly; fitted
theta method: Liniger and Willoughby, SIAM J. Numer. Anal. 7, 47 (1970).)

A source at its limit becomes the other kind of source (complementarity): a voltage source that would deliver more than its
limit drives exactly the limit until the voltage comes back to its level, a current source likewise.
"""

from collections.abc import Sequence
from math import inf

import numpy as np

from hil.core.errors import NotConvergedError
from hil.core.types import BoolArray, FloatArray
from simulated_backend.devices.base import EdgeDrive
from simulated_backend.network import IndexArray, Network
from simulated_backend.virtual_bench.memory import STATE_CHANGE, Memory
from simulated_backend.virtual_bench.ports import Open, VoltageSource
from simulated_backend.virtual_bench.terminals import CONTACT, Terminal

LEAKAGE = 1e-20
"""S from every node to low: keeps a node without any path defined, and changes nothing else."""
FIRST_FRACTION = 0.25
"""First step after a change, in units of the fastest time constant."""
GROWTH = 1.25
SHORTEST = 1e-9
"""s: below this the step is given up."""
AT_ONCE = 1e-5
"""s: a voltage source that can charge its node within this time is taken to do so at once."""
REST = 1e-10
"""Relative change still to come below which the network counts as being at rest."""
MOST_ITERATIONS = 60
TOLERANCE, STEP_TOLERANCE = 1e-13, 1e-10
"""Last move of Newton's iteration, relative, for the steady state and on the way there."""


class Circuit:
    """State of the network: ``voltage`` (n_nodes,) V, ``pressure`` (n_nodes,) Pa, ``clamp_current`` (n_nodes,) A.

    ``clamp_current`` is what the voltage-holding source of a node delivers, 0 at nodes without one.
    """

    def __init__(self, network: Network, terminals: Sequence[Terminal]) -> None:
        self.network = network
        self.terminals = [terminal for terminal in terminals if terminal.node is not None or terminal.switched]
        n = network.n_nodes
        self._n = n
        grounds = [i for i, node in enumerate(network.nodes) if node.ground]
        self._ground = grounds[0] if grounds else None
        self.capacitance = network.node_array("capacitance")
        self.concentration = network.node_array("concentration")
        self.pressure = network.node_array("pressure")
        self.voltage: FloatArray = np.zeros(n)
        self.clamp_current: FloatArray = np.zeros(n)
        self._memory = [Memory(group, network) for group in network.groups]
        b, t = network.base, network.tip
        self._stamp = np.concatenate([b * n + b, t * n + t, b * n + t, t * n + b])
        self._edge_out: FloatArray = np.zeros(n)
        self._diagonal: FloatArray = np.zeros(n)
        self._shunt: FloatArray = np.full(n, LEAKAGE)
        self._injected: FloatArray = np.zeros(n)
        self._clamp: dict[int, tuple[Terminal | None, float]] = {}
        self._free: IndexArray = np.arange(n)
        self.at_rest = False
        self.h = inf
        self.slowest = 0.0
        self._fastest = inf
        self.mean_voltage = self.voltage
        self.mean_clamp_current = self.clamp_current
        self.started = False
        self.broken: dict[int, float] = {}
        """Edges that are resistors instead of devices: position -> S (0: open)."""
        self.leaks: dict[int, float] = {}
        """Nodes with a leak to low: position -> S."""

    # Edges ---------------------------------------------------------------------------------------------------------

    def _edges(self, voltage: FloatArray, pressure: FloatArray, h: float, fresh: bool) -> tuple[FloatArray, FloatArray]:
        """Current and slope of every edge at the end of a step of ``h`` (0: states held; inf: states relaxed).

        The slope with the states following costs as much as everything else; an old one will do until Newton is slow.
        """
        m = self.network.n_edges
        current, slope = np.empty(m), np.empty(m)
        for memory in self._memory:
            drive = memory.drive(voltage, pressure, self.concentration)
            i, g = memory.through(drive, self._drive(memory) if memory.integrates else drive, h, fresh)
            current[memory.edges] = i * memory.parallel
            slope[memory.edges] = g * memory.parallel
        for edge, conductance in self.broken.items():
            current[edge] = conductance * (voltage[self.network.base[edge]] - voltage[self.network.tip[edge]])
            slope[edge] = conductance
        return current, slope

    def _outflow(self, current: FloatArray) -> FloatArray:
        out = np.bincount(self.network.base, current, self._n) - np.bincount(self.network.tip, current, self._n)
        return np.asarray(out, dtype=np.float64)

    def _stamped(self, slope: FloatArray) -> FloatArray:
        stamped = np.bincount(self._stamp, np.concatenate([slope, slope, -slope, -slope]), self._n * self._n)
        return np.asarray(stamped, dtype=np.float64).reshape(self._n, self._n)

    # Sources -------------------------------------------------------------------------------------------------------

    def _assemble(self) -> None:
        """Shunts, injected currents and clamps of all terminals in their present state."""
        shunt, injected = np.full(self._n, LEAKAGE), np.zeros(self._n)
        clamp: dict[int, tuple[Terminal | None, float]] = {}
        if self._ground is not None:
            clamp[self._ground] = (None, 0.0)
        for terminal in self.terminals:
            node, source = terminal.node, terminal.source
            if node is None:
                continue
            shunt[node] += terminal.conductance
            injected[node] += terminal.load_current(0.0)
            if isinstance(source, Open):
                continue
            if isinstance(source, VoltageSource) == (terminal.limit == 0):
                level, resistance = terminal.as_voltage()
                if resistance == 0.0 and node in clamp:
                    resistance = CONTACT
                if resistance == 0.0:
                    clamp[node] = (terminal, level)
                else:
                    shunt[node] += 1.0 / resistance
                    injected[node] += level / resistance
            else:
                injected[node] += terminal.as_current()
        for leaking, conductance in self.leaks.items():
            shunt[leaking] += conductance
        self._shunt, self._injected, self._clamp = shunt, injected, clamp
        self._free = np.array([i for i in range(self._n) if i not in clamp], dtype=np.intp)

    def source_current(self, terminal: Terminal, voltage: FloatArray, clamp_current: FloatArray) -> float:
        """What the source of ``terminal`` delivers at these node voltages (its load not counted), A."""
        source, node = terminal.source, terminal.node
        if isinstance(source, Open) or node is None:
            return 0.0
        if isinstance(source, VoltageSource) != (terminal.limit == 0):
            return terminal.as_current()
        if self._clamp.get(node, (None,))[0] is terminal:
            return float(clamp_current[node])
        level, resistance = terminal.as_voltage()
        return (level - float(voltage[node])) / (resistance or CONTACT)

    def _flip(self, voltage: FloatArray, clamp_current: FloatArray) -> bool:
        """Turn the terminal that most violates its limit, or has come back from it, into the other kind of source."""
        worst, chosen, new = 0.0, None, 0
        for terminal in self.terminals:
            source, node = terminal.source, terminal.node
            if isinstance(source, Open) or node is None:
                continue
            current, v = self.source_current(terminal, voltage, clamp_current), float(voltage[node]) + terminal.offset
            if isinstance(source, VoltageSource):
                actual, bound, back = current, source.current_limit, v + current * source.output_resistance - source.level
            else:
                actual, bound, back = v, source.voltage_limit, current - source.level
            if terminal.limit == 0:
                excess = abs(actual) / bound - 1.0 if bound > 0.0 else (inf if actual != 0.0 else 0.0)
                towards = 1 if actual > 0.0 else -1
            else:
                scale = abs(source.level) or 1.0
                excess, towards = terminal.limit * back / scale, 0
            if excess > 1e-9 and excess > worst:
                worst, chosen, new = excess, terminal, towards
        if chosen is None:
            return False
        chosen.limit = new
        self._assemble()
        return True

    # Solving -------------------------------------------------------------------------------------------------------

    def _newton(self, pressure: FloatArray, h: float, guess: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Voltages at the end of a step, net current out of each node through its edges there, and the slopes' diagonal."""
        n, c = self._n, self.capacitance
        start = self.voltage
        free = self._free
        voltage = guess.copy()
        for node, (_, level) in self._clamp.items():
            voltage[node] = level
        if h == 0.0:
            free = free[c[free] == 0.0]
            held = self._free[c[self._free] > 0.0]
            voltage[held] = start[held]
        theta, rate, before = np.ones(n), np.zeros(n), np.zeros(n)
        if 0.0 < h < inf and np.any(c > 0.0):
            z = np.maximum(h * (self._diagonal + self._shunt) / np.where(c > 0.0, c, 1.0), 1e-6)
            fitted = np.where(c > 0.0, -1.0 / np.expm1(-z) - 1.0 / z, 1.0)
            theta, rate = fitted, c / h
            before = (1.0 - theta) * (self._edge_out + self._shunt * start - self._injected)
        best = inf
        damping = 1.0
        enough = TOLERANCE if h == inf else STEP_TOLERANCE
        for iteration in range(MOST_ITERATIONS):
            current, slope = self._edges(voltage, pressure, h, iteration > 1)
            edge_out = self._outflow(current)
            matrix: FloatArray = self._stamped(slope)
            if free.size == 0:
                return voltage, edge_out, matrix.diagonal().copy()
            residual = rate * (voltage - start) + theta * (edge_out + self._shunt * voltage - self._injected) + before
            jacobian = theta[:, None] * matrix
            jacobian[np.diag_indices(n)] += rate + theta * self._shunt
            if free.size == 1:
                k = int(free[0])
                move = np.array([-residual[k] / jacobian[k, k]])
            else:
                move = np.linalg.solve(jacobian[np.ix_(free, free)], -residual[free])
            size = float(np.max(np.abs(move)))
            if not np.isfinite(size):
                break
            if size > 0.9 * best and size > 1e-9:
                damping = max(0.5 * damping, 0.05)
            best = min(best, size)
            voltage[free] += damping * move
            if size <= enough * (1e-3 + float(np.max(np.abs(voltage)))):
                return voltage, edge_out, matrix.diagonal().copy()
        raise NotConvergedError("the operating point of the plant was not found")

    def _solve(self, pressure: FloatArray, h: float) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """``_newton`` with every source inside its limits; also the clamp currents at the end (nothing is charging there)."""
        guess = self.voltage
        for _ in range(4 * len(self.terminals) + 8):
            voltage, edge_out, diagonal = self._newton(pressure, h, guess)
            flowing = edge_out + self._shunt * voltage - self._injected
            charging = self.capacitance * (voltage - self.voltage) / h if 0.0 < h < inf else 0.0
            if not self._flip(voltage, self._clamped(flowing + charging)):
                return voltage, edge_out, diagonal, self._clamped(flowing)
            guess = voltage
        raise NotConvergedError("the sources' limits contradict each other")

    def _clamped(self, current: FloatArray) -> FloatArray:
        result = np.zeros(self._n)
        for node in self._clamp:
            result[node] = current[node]
        return result

    # Time ----------------------------------------------------------------------------------------------------------

    def change(self) -> None:
        """Something was switched: voltages jump where they can, memories and charges stay."""
        if not self.started:
            self._start()
            return
        self._assemble()
        for terminal in self.terminals:
            self._charge_at_once(terminal)
        self.voltage, self._edge_out, self._diagonal, self.clamp_current = self._solve(self.pressure, 0.0)
        self._aim()
        self.h = FIRST_FRACTION * self._fastest
        self.at_rest = False

    def _charge_at_once(self, terminal: Terminal) -> None:
        """A capacitance that its voltage source cannot charge in no time keeps its voltage; the source is at its limit."""
        node, source = terminal.node, terminal.source
        if node is None or not isinstance(source, VoltageSource) or terminal.limit != 0 or source.output_resistance > 0.0:
            return
        missing = source.level - terminal.offset - float(self.voltage[node])
        if float(self.capacitance[node]) * abs(missing) > source.current_limit * AT_ONCE:
            terminal.limit = 1 if missing > 0.0 else -1
            self._assemble()

    def _start(self) -> None:
        self.started = True
        for terminal in self.terminals:
            terminal.limit = 0  # whether a source is at its limit belonged to the devices there were before
        self._assemble()
        for memory in self._memory:
            memory.begin(self._drive(memory))
        # Where no steady state is found, time goes on from rest.
        self._aim()
        self.settle_now()
        self.at_rest = not any(memory.drifts(self._drive(memory)) for memory in self._memory)

    def _drive(self, memory: Memory) -> EdgeDrive:
        return memory.drive(self.voltage, self.pressure, self.concentration)

    def _aim(self) -> None:
        """Goals and time constants of all states at the present voltages."""
        for memory in self._memory:
            memory.aim(self._drive(memory))
        self._pace()

    def _pace(self) -> None:
        """Time constants of all states and charges; the goals are known."""
        self.slowest, self._fastest = 0.0, inf
        for memory in self._memory:
            tau = memory.pace(self._drive(memory))
            self.slowest = max(self.slowest, float(np.max(tau, initial=0.0)))
            self._fastest = min(self._fastest, float(np.min(tau, initial=inf)))
        free = self._free[self.capacitance[self._free] > 0.0]
        if free.size:
            charging = np.abs(self.capacitance[free] / (self._diagonal[free] + self._shunt[free]))
            self.slowest = max(self.slowest, float(charging.max()))
            self._fastest = min(self._fastest, float(charging.min()))

    def settle_now(self) -> None:
        """Go straight to the steady state of the present sources and pressures."""
        self.voltage, self._edge_out, self._diagonal, self.clamp_current = self._solve(self.pressure, inf)
        for memory in self._memory:
            if memory.relaxes:
                memory.state = memory.law.steady_state(memory.parameters, self._drive(memory))
        self._aim()
        self.at_rest = True

    def attempt(self, h: float, pressure: FloatArray) -> bool:
        """Try one step of ``h`` s with ``pressure`` at its end. False: too long, nothing has changed.

        NotConvergedError when even the shortest step fails.
        """
        limits = [terminal.limit for terminal in self.terminals]
        solved = None
        try:
            if h > SHORTEST and any(memory.too_fast(self._drive(memory), h) for memory in self._memory):
                self.h = 0.5 * h
                return False
            solved = self._solve(pressure, h)
            acceptable = h <= SHORTEST or self._moves(solved[0], pressure) <= 2.0 * STATE_CHANGE
        except NotConvergedError:
            if h <= SHORTEST:
                raise
            acceptable = False
        if solved is None or not acceptable:
            for terminal, limit in zip(self.terminals, limits, strict=True):
                terminal.limit = limit
            self._assemble()
            self.h = 0.5 * h
            return False
        self._accept(h, pressure, *solved)
        return True

    def _moves(self, voltage: FloatArray, pressure: FloatArray) -> float:
        """How far states went in the step that ends at these node values; see ``Memory.moved``."""
        return max(memory.moved(memory.drive(voltage, pressure, self.concentration)) for memory in self._memory)

    def _accept(
        self, h: float, pressure: FloatArray, voltage: FloatArray, edge_out: FloatArray, diagonal: FloatArray, clamped: FloatArray
    ) -> None:
        start, moved = self.voltage, self._moves(voltage, pressure)
        self.mean_voltage = 0.5 * (start + voltage)
        middle = 0.5 * (self._edge_out + edge_out) + self._shunt * self.mean_voltage - self._injected
        self.mean_clamp_current = self._clamped(middle + self.capacitance * (voltage - start) / h)
        change = float(np.max(np.abs(voltage - start))) / (1e-3 + float(np.max(np.abs(voltage))))
        still = bool(np.array_equal(pressure, self.pressure))
        for memory in self._memory:
            change = max(change, memory.left(memory.drive(voltage, pressure, self.concentration)))
            memory.accept()
        self.voltage, self._edge_out, self._diagonal, self.clamp_current, self.pressure = (
            voltage,
            edge_out,
            diagonal,
            clamped,
            pressure,
        )
        self._pace()
        if moved < STATE_CHANGE:
            self.h = max(GROWTH * h, min(self.h, GROWTH * self.h))
        else:
            self.h = h
        remaining = change * max(1.0, self.slowest / h)
        if still and remaining < REST:
            self.settle_now()

    def holds(self) -> BoolArray:
        """Which nodes are held by a voltage source or ground, (n_nodes,)."""
        held = np.ones(self._n, dtype=np.bool_)
        held[self._free] = False
        return held
