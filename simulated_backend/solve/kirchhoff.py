"""Kirchhoff's current law of one network at many drives: currents, residuals and Jacobians, without any iteration.

Arrays carry one batch axis in front (stimuli, parameter sets, starting points). Sums over edges run in a fixed order that
does not depend on the size of the batch, so that a stimulus gives the same bits alone and among others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from hil.core.types import BoolArray, FloatArray
from simulated_backend.devices.base import EdgeDrive, Parameters, StateKind
from simulated_backend.network import IndexArray, Network

State = tuple[FloatArray, ...]
"""One array (n_states, batch or 1, n_edges of the group) per group of the network."""
DENSE_LIMIT = 256
"""Free nodes up to which a dense factorisation is taken."""


@dataclass(frozen=True, slots=True)
class _Sum:
    """Sums of signed edge values into slots: ``slots`` (m,), and for the i-th slot ``edges[starts[i]:starts[i+1]]``."""

    edges: IndexArray
    signs: FloatArray
    starts: IndexArray
    slots: IndexArray

    @classmethod
    def of(cls, edges: IndexArray, slots: IndexArray, signs: FloatArray) -> "_Sum":
        order = np.lexsort((edges, slots))
        unique, starts = np.unique(slots[order], return_index=True)
        return cls(edges[order], signs[order], starts.astype(np.intp), unique.astype(np.intp))

    def into(self, target: FloatArray, values: FloatArray) -> None:
        """Add to ``target`` (..., n_slots) the sums of ``values`` (..., n_edges)."""
        if self.slots.size:
            target[..., self.slots] += np.add.reduceat(values[..., self.edges] * self.signs, self.starts, axis=-1)


@dataclass(frozen=True, slots=True)
class Structure:
    """Where edges enter the equations: ``free`` node indices (n_free,), sums for the nodes and for the free Jacobian.

    ``reference`` (n_nodes,): for a clamped node itself, for a free one a clamped node of its part of the network where there
    is one (``referred``); ``parts`` (n_nodes,) labels the parts.
    """

    free: IndexArray
    parts: IndexArray
    reference: IndexArray
    referred: BoolArray
    leaving: _Sum
    jacobian: _Sum


def structure(network: Network, clamped: BoolArray) -> Structure:
    """The structure for one pattern of clamped nodes; remembered."""
    return _structure(network.base.tobytes(), network.tip.tobytes(), np.asarray(clamped, dtype=np.bool_).tobytes())


@lru_cache(maxsize=128)
def _structure(base_bytes: bytes, tip_bytes: bytes, clamped_bytes: bytes) -> Structure:
    base, tip = np.frombuffer(base_bytes, dtype=np.intp), np.frombuffer(tip_bytes, dtype=np.intp)
    clamped = np.frombuffer(clamped_bytes, dtype=np.bool_)
    edges = np.arange(base.size, dtype=np.intp)
    one = np.ones(base.size)
    free = np.flatnonzero(~clamped)
    position = np.full(clamped.size, -1, dtype=np.intp)
    position[free] = np.arange(free.size)
    leaving = _Sum.of(np.concatenate((edges, edges)), np.concatenate((base, tip)), np.concatenate((one, -one)))
    rows = np.concatenate((base, tip, base, tip))
    columns = np.concatenate((base, tip, tip, base))
    keep = (position[rows] >= 0) & (position[columns] >= 0)
    flat = position[rows] * free.size + position[columns]
    signs = np.concatenate((one, one, -one, -one))
    parts = _parts(base, tip, clamped.size)
    reference = np.arange(clamped.size, dtype=np.intp)
    first = np.full(clamped.size, -1, dtype=np.intp)
    fixed = np.flatnonzero(clamped)[::-1]
    first[parts[fixed]] = fixed
    referred = first[parts] >= 0
    loose = referred & ~clamped
    reference[loose] = first[parts[loose]]
    return Structure(free, parts, reference, referred, leaving, _Sum.of(np.tile(edges, 4)[keep], flat[keep], signs[keep]))


def _parts(base: IndexArray, tip: IndexArray, n_nodes: int) -> IndexArray:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(base.size, dtype=np.int8), (base, tip)), shape=(n_nodes, n_nodes))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.intp)


@dataclass(frozen=True)
class Problem:
    """A network and everything that is applied to it; two-dimensional arrays have ``size`` rows, or one for all.

    voltage (size, n_nodes) holds the clamped values; clamped (n_nodes,); pressure, concentration, injected (A into the
    node), shunt (S to ground): (size or 1, n_nodes). ``state`` None means relaxed devices
    (and laws without a steady state held at their initial state), else all are held there.
    """

    network: Network
    voltage: FloatArray
    clamped: BoolArray
    pressure: FloatArray
    concentration: FloatArray
    injected: FloatArray
    shunt: FloatArray
    state: State | None

    @property
    def size(self) -> int:
        """Number of rows of the batch."""
        return len(self.voltage)

    @property
    def structure(self) -> Structure:
        """Where edges enter the equations."""
        return structure(self.network, self.clamped)

    def take(self, rows: Sequence[int] | IndexArray | slice) -> "Problem":
        """The same problem for some rows of the batch."""

        def of(array: FloatArray, axis: int = 0) -> FloatArray:
            if array.shape[axis] == 1 and self.size > 1:
                return array
            picked: FloatArray = array[rows] if axis == 0 else array[:, rows]
            return picked

        network = self.network.with_parameters(
            [
                {name: of(values) if np.ndim(values) > 1 else values for name, values in group.parameters.items()}
                for group in self.network.groups
            ]
        )
        held = None if self.state is None else tuple(of(state, 1) for state in self.state)
        return replace(
            self,
            network=network,
            voltage=self.voltage[rows],
            pressure=of(self.pressure),
            concentration=of(self.concentration),
            injected=of(self.injected),
            shunt=of(self.shunt),
            state=held,
        )

    def scaled(self, fraction: float) -> "Problem":
        """The same problem with all sources at ``fraction`` of their values."""
        return replace(self, voltage=fraction * self.voltage, injected=fraction * self.injected)

    def drop(self, voltage: FloatArray) -> FloatArray:
        """Voltage across every edge, base minus tip, (size, n_edges)."""
        return np.asarray(voltage[..., self.network.base] - voltage[..., self.network.tip])

    def drives(self, voltage: FloatArray) -> list[EdgeDrive]:
        """What drives the edges of every group at node voltages (size, n_nodes)."""
        drop = self.drop(voltage)
        drives = []
        for group in self.network.groups:
            base, tip = self.network.base[group.edges], self.network.tip[group.edges]
            drives.append(
                EdgeDrive(
                    drop[..., group.edges],
                    self.pressure[..., base] - self.pressure[..., tip],
                    self.concentration[..., base],
                    self.concentration[..., tip],
                )
            )
        return drives

    def edges(self, voltage: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Current (A) and slope dI/dV (S) of every edge with its parallel devices, (size, n_edges) each."""
        shape = (len(voltage), self.network.n_edges)
        current, slope = np.empty(shape), np.empty(shape)
        for number, (group, drive) in enumerate(zip(self.network.groups, self.drives(voltage), strict=True)):
            if group.law.kind is StateKind.RATE or (self.state is not None and group.law.kind is not StateKind.NONE):
                state = group.law.initial_state(group.parameters, drive) if self.state is None else self.state[number]
                found = group.law.current(group.parameters, drive, state), group.law.conductance(group.parameters, drive, state)
            else:
                found = group.law.steady(group.parameters, drive)
            parallel = self.network.parallel[group.edges]
            current[:, group.edges] = found[0] * parallel
            slope[:, group.edges] = found[1] * parallel
        return current, slope

    def leaving(self, current: FloatArray, voltage: FloatArray) -> FloatArray:
        """Net current out of every node through edges, shunt and injection, A: zero at free nodes in balance."""
        out = np.array(np.broadcast_to(self.shunt * voltage - self.injected, voltage.shape))
        self.structure.leaving.into(out, current)
        return out

    def node_conductance(self, slope: FloatArray) -> FloatArray:
        """Sum of |dI/dV| of the edges at every node and its shunt, S, (size, n_nodes)."""
        structure = self.structure.leaving
        total = np.array(np.broadcast_to(self.shunt, (len(slope), self.network.n_nodes)))
        replace(structure, signs=np.ones_like(structure.signs)).into(total, np.abs(slope))
        return total

    def jacobian(self, slope: FloatArray) -> FloatArray:
        """d(leaving)/d(voltage) at the free nodes, (size, n_free, n_free)."""
        free = self.structure.free
        matrix = np.zeros((len(slope), free.size * free.size))
        self.structure.jacobian.into(matrix, slope)
        matrix[:, :: free.size + 1] += self.shunt[..., free]
        return matrix.reshape(len(slope), free.size, free.size)

    def solve_linear(self, slope: FloatArray, right: FloatArray) -> FloatArray:
        """x in jacobian(slope)·x = right, (size, n_free); a singular row is taken in the least-squares sense."""
        free = self.structure.free
        if free.size > DENSE_LIMIT:
            return np.stack([self._solve_sparse(row, slope, right) for row in range(len(slope))])
        matrix = self.jacobian(slope)
        try:
            return np.asarray(np.linalg.solve(matrix, right[..., np.newaxis])[..., 0], dtype=np.float64)
        except np.linalg.LinAlgError:
            return np.stack([_least_squares(one, side) for one, side in zip(matrix, right, strict=True)])

    def _solve_sparse(self, row: int, slope: FloatArray, right: FloatArray) -> FloatArray:
        from scipy.sparse import csc_matrix, diags_array
        from scipy.sparse.linalg import splu

        parts = self.structure.jacobian
        count = self.structure.free.size
        values = np.add.reduceat(slope[row, parts.edges] * parts.signs, parts.starts)
        matrix = csc_matrix((values, (parts.slots // count, parts.slots % count)), shape=(count, count))
        shunt = self.shunt[row if len(self.shunt) > 1 else 0, self.structure.free]
        return np.asarray(splu((matrix + diags_array(shunt)).tocsc()).solve(right[row]))


def _least_squares(matrix: FloatArray, right: FloatArray) -> FloatArray:
    if not (np.all(np.isfinite(matrix)) and np.all(np.isfinite(right))):
        return np.full_like(right, np.nan)
    return np.asarray(np.linalg.lstsq(matrix, right, rcond=None)[0], dtype=np.float64)


def parameters_batch(network: Network) -> tuple[int, ...]:
    """Leading batch shape of the parameters of all groups."""
    shapes = [np.shape(values)[:-1] for group in network.groups for values in group.parameters.values()]
    return np.broadcast_shapes(*shapes)


def flattened(network: Network, batch: tuple[int, ...]) -> Network:
    """The network with every batched parameter brought to the shape (size of ``batch``, n_edges of the group)."""
    if not parameters_batch(network):
        return network

    def flat(values: FloatArray) -> FloatArray:
        if np.ndim(values) == 1:
            return values
        return np.ascontiguousarray(np.broadcast_to(values, (*batch, np.shape(values)[-1]))).reshape(-1, np.shape(values)[-1])

    new: list[Parameters] = [{name: flat(values) for name, values in group.parameters.items()} for group in network.groups]
    return network.with_parameters(new)
