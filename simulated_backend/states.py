"""Device states of a whole network: at rest, relaxed, how long they take, and where a floor holds them."""

import numpy as np

from hil.core.types import BoolArray, FloatArray
from simulated_backend.devices.base import StateKind
from simulated_backend.solve.kirchhoff import Problem, State


def at_rest(problem: Problem) -> State:
    """States before any voltage was applied, at the pressures and concentrations of the problem."""
    drives = problem.drives(np.zeros_like(problem.voltage))
    return tuple(
        group.law.initial_state(group.parameters, drive) for group, drive in zip(problem.network.groups, drives, strict=True)
    )


def relaxed(problem: Problem, voltage: FloatArray) -> State:
    """States that relaxing devices reach at node voltages (size, n_nodes); all others are at rest."""
    return tuple(
        group.law.steady_state(group.parameters, drive)
        if group.law.kind is StateKind.RELAXATION
        else group.law.initial_state(group.parameters, drive)
        for group, drive in zip(problem.network.groups, problem.drives(voltage), strict=True)
    )


def clamped_edges(problem: Problem, voltage: FloatArray) -> BoolArray:
    """(size, n_edges): edges that a floor or a stop of their law holds."""
    held = np.zeros((problem.size, problem.network.n_edges), dtype=np.bool_)
    for group, drive in zip(problem.network.groups, problem.drives(voltage), strict=True):
        held[:, group.edges] = group.law.clamped(group.parameters, drive)
    return held


def slowest(problem: Problem, voltage: FloatArray) -> FloatArray:
    """Slowest time constant of every row, s (size,): that of the devices plus that of the nodes' capacitance."""
    tau = np.zeros(problem.size)
    for group, drive in zip(problem.network.groups, problem.drives(voltage), strict=True):
        if group.law.kind is StateKind.RELAXATION:
            tau = np.maximum(tau, np.max(group.law.time_constant(group.parameters, drive), axis=(0, -1)))
    capacitance = problem.network.node_array("capacitance") * ~problem.clamped
    loaded = capacitance > 0.0
    if loaded.any():
        _, slope = problem.edges(voltage)
        tau = tau + np.max(capacitance[loaded] / problem.node_conductance(slope)[:, loaded], axis=-1)
    return tau
