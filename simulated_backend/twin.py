"""A simulated network as the model we believe in: predictions and exact gradients, no time, no noise, no warnings.

The gradient is the adjoint of Kirchhoff's law F(v, θ) = 0 at the free nodes: with outputs y(v, θ) and cotangent c,
dθ = cᵀ∂y/∂θ − λᵀ∂F/∂θ, where (∂F/∂v)ᵀλ = (∂y/∂v)ᵀc. One linear solve per stimulus serves every control.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from hil.core.errors import NotConvergedError
from hil.core.types import FloatArray, Layout, Quantity, Stimulus
from simulated_backend.controls import Applied, ControlMap, Loads, Tuning
from simulated_backend.devices.base import EdgeDrive
from simulated_backend.network import Group, IndexArray, Network
from simulated_backend.solve.kirchhoff import Problem
from simulated_backend.solve.operating_point import Status

_RELATIVE_STEP = 2e-4
_PRESSURE_STEP = 20.0
"""Steps of the five-point differences of one edge's current; Pa for pressures, relative for all else."""


class SimulatedTwin:
    """``core.Twin`` of ``network`` with the same controls and outputs as the backend; ``loads`` as in the backend.

    Raises ConfigError as the backend does, NotConvergedError where there is no steady state.
    """

    def __init__(self, network: Network, controls: Layout, outputs: Layout, loads: Loads | None = None) -> None:
        self.map = ControlMap(network, controls, outputs, loads)

    def predict(self, stimuli: Sequence[Stimulus]) -> FloatArray:
        """Steady outputs, (n, n_outputs), SI."""
        values = np.empty((len(stimuli), len(self.map.outputs)))
        for applied in self.map.applied(stimuli):
            point = self.map.solve(applied)
            if point.status is not Status.CONVERGED:
                raise NotConvergedError(point.message)
            values[applied.rows] = self.map.read(point.voltage, point.terminal_current)
        return values

    def vjp(self, stimuli: Sequence[Stimulus], cotangent: FloatArray) -> FloatArray:
        """Gradient of sum(cotangent · outputs) by the controls, (n, n_controls); 0 for controls that are not connected."""
        gradient = np.zeros((len(stimuli), len(self.map.controls)))
        connected = np.array([stimulus.connected for stimulus in stimuli], dtype=np.bool_)
        for applied in self.map.applied(stimuli):
            gradient[applied.rows] = self._vjp(applied, np.asarray(cotangent, dtype=np.float64)[applied.rows])
        return np.where(connected, gradient, 0.0)

    def attempted(self, stimuli: Sequence[Stimulus]) -> FloatArray:
        """``predict`` by Newton's method alone: quick, and NaN (n_outputs,) in each row where that finds no steady state."""
        values = np.empty((len(stimuli), len(self.map.outputs)))
        for applied in self.map.applied(stimuli):
            point = self.map.solve(applied, rescue=False)
            values[applied.rows] = self.map.read(point.voltage, point.terminal_current)
        return values

    def linearised(self, stimuli: Sequence[Stimulus]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """``attempted``, its derivatives by the controls, (n, n_outputs, n_controls), connected or not, and by the logarithms
        of the conductances of the edges, (n, n_outputs, n_edges); NaN in rows without a steady state."""
        n_outputs, network = len(self.map.outputs), self.map.network
        values = np.full((len(stimuli), n_outputs), np.nan)
        by_control = np.full((len(stimuli), n_outputs, len(self.map.controls)), np.nan)
        by_edge = np.full((len(stimuli), n_outputs, network.n_edges), np.nan)
        for applied in self.map.applied(stimuli):
            point = self.map.solve(applied, rescue=False)
            values[applied.rows] = self.map.read(point.voltage, point.terminal_current)
            if not point.converged.any():
                continue
            good = np.flatnonzero(point.converged)
            kept = self.map.applied([stimuli[row] for row in applied.rows[good]])[0]
            for output in range(n_outputs):
                cotangent = np.zeros((len(good), n_outputs))
                cotangent[:, output] = 1.0
                gradient, weight = self._adjoint(kept, point.voltage[good], cotangent)
                by_control[applied.rows[good], output] = gradient
                # The current of an edge goes with its conductance, at fixed voltages.
                drop = weight[:, network.base] - weight[:, network.tip]
                by_edge[applied.rows[good], output] = drop * point.current[good]
        return values, by_control, by_edge

    def _vjp(self, applied: Applied, cotangent: FloatArray) -> FloatArray:
        point = self.map.solve(applied)
        if point.status is not Status.CONVERGED:
            raise NotConvergedError(point.message)
        return self._adjoint(applied, point.voltage, cotangent)[0]

    def _adjoint(self, applied: Applied, voltage: FloatArray, cotangent: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gradient by the controls, and weights (n, n_nodes) of the current that leaves each node at fixed voltages."""
        network, free = self.map.network, ~applied.clamped
        problem = self.map.problem(applied)
        _, slope = problem.edges(voltage)
        voltage_weight, current_weight = self._weights(applied, cotangent)
        # y = (voltages read) + (currents leaving clamped nodes); G applied to node weights w is A diag(slope) Aᵀ w
        direct = voltage_weight + _conducted(problem, slope, current_weight)
        adjoint = np.zeros_like(direct)
        if free.any():
            adjoint[:, free] = problem.solve_linear(slope, direct[:, free])
        weight = current_weight - adjoint  # of the current that leaves each node, at fixed voltages
        by_voltage = voltage_weight + _conducted(problem, slope, weight)
        gradient = np.zeros((len(cotangent), len(self.map.controls)))
        nodes, positions = self.map.nodes[Quantity.VOLTAGE], self.map.positions[Quantity.VOLTAGE]
        gradient[:, positions] = by_voltage[:, nodes]
        edge_weight = (weight[:, network.base] - weight[:, network.tip]) * network.parallel
        for number, (group, drive) in enumerate(zip(problem.network.groups, problem.drives(voltage), strict=True)):
            self._drives(gradient, group, drive, edge_weight[:, group.edges])
            self._tunings(gradient, number, applied, drive, edge_weight[:, group.edges])
        return gradient, weight

    def _weights(self, applied: Applied, cotangent: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Cotangents gathered per node: of the voltages, and of the terminal currents (clamped nodes only)."""
        shape = (len(cotangent), self.map.network.n_nodes)
        voltage, current = np.zeros(shape), np.zeros(shape)
        for column, (node, reads_current) in enumerate(zip(self.map.output_nodes, self.map.reads_current, strict=True)):
            if not reads_current:
                voltage[:, node] += cotangent[:, column]
            elif applied.clamped[node]:
                current[:, node] += cotangent[:, column]
        return voltage, current

    def _drives(self, gradient: FloatArray, group: Group, drive: EdgeDrive, weight: FloatArray) -> None:
        """Add the gradients by node pressures and concentrations that act through the edges of ``group``."""
        base, tip = self.map.network.base[group.edges], self.map.network.tip[group.edges]
        if self.map.positions[Quantity.PRESSURE].size:
            by = weight * _edge_slope(group, drive, "pressure_difference", np.full_like(weight, _PRESSURE_STEP))
            self._gather(gradient, Quantity.PRESSURE, (base, by), (tip, -by))
        if self.map.positions[Quantity.CONCENTRATION].size:
            parts = [
                weight * _edge_slope(group, drive, field, _RELATIVE_STEP * getattr(drive, field))
                for field in ("concentration_base", "concentration_tip")
            ]
            self._gather(gradient, Quantity.CONCENTRATION, (base, parts[0]), (tip, parts[1]))

    def _gather(self, gradient: FloatArray, quantity: Quantity, *ends: tuple[IndexArray, FloatArray]) -> None:
        per_node = np.zeros((len(gradient), self.map.network.n_nodes))
        for nodes, values in ends:
            for column, node in enumerate(nodes):
                per_node[:, node] += values[:, column]
        gradient[:, self.map.positions[quantity]] += per_node[:, self.map.nodes[quantity]]

    def _tunings(self, gradient: FloatArray, number: int, applied: Applied, drive: EdgeDrive, weight: FloatArray) -> None:
        """Gradients by the tunables of group ``number``: each moves one edge, so that all of a kind are moved together."""
        for tuning in self.map.tunings:
            if tuning.group != number:
                continue
            size = _RELATIVE_STEP * np.abs(applied.values[:, tuning.positions])
            step = np.where(size > 0.0, size, _RELATIVE_STEP)

            def current(shift: float, tuning: Tuning = tuning, step: FloatArray = step) -> FloatArray:
                moved = applied.values.copy()
                moved[:, tuning.positions] += shift * step
                group = self.map.tuned(moved, applied.connected).groups[number]
                return np.asarray(group.law.steady(group.parameters, drive)[0][:, tuning.columns])

            gradient[:, tuning.positions] = weight[:, tuning.columns] * _five_point(current) / step


def _conducted(problem: Problem, slope: FloatArray, weight: FloatArray) -> FloatArray:
    """The full Jacobian of the leaving currents applied to node weights, (size, n_nodes); it is symmetric."""
    out = np.array(np.broadcast_to(problem.shunt * weight, weight.shape))
    problem.structure.leaving.into(out, slope * problem.drop(weight))
    return out


def _edge_slope(group: Group, drive: EdgeDrive, field: str, step: FloatArray) -> FloatArray:
    """Derivative of the steady edge current by one field of its drive."""

    def current(shift: float) -> FloatArray:
        moved = replace(drive, **{field: getattr(drive, field) + shift * step})
        return group.law.steady(group.parameters, moved)[0]

    return _five_point(current) / step


def _five_point(function: Callable[[float], FloatArray]) -> FloatArray:
    """Derivative at 0 of a function of the number of steps: error of fourth order."""
    return np.asarray((function(-2.0) - 8.0 * function(-1.0) + 8.0 * function(1.0) - function(2.0)) / 12.0)
