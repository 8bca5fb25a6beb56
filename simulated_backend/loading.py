"""What the terminals of instruments do to a network: solved with and without each of them, at the operating point."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hil.core.errors import ConfigError, NotConvergedError
from hil.core.types import FloatArray
from simulated_backend.network import Network
from simulated_backend.solve.operating_point import Status, solve_operating_point


@dataclass(frozen=True, slots=True)
class Loading:
    """Node voltages in V, (n_nodes,): ``without`` any terminal, ``loaded`` with all of them, ``error`` = loaded − without.

    ``relative`` is |error| over |without|, or over the largest voltage in the network where a node is near 0 V;
    ``alone[node]`` is the error at that node with its own terminal as the only one.
    """

    nodes: tuple[str, ...]
    without: FloatArray
    loaded: FloatArray
    error: FloatArray
    relative: FloatArray
    alone: Mapping[str, float]


def loading(
    network: Network,
    voltage: ArrayLike,
    clamped: ArrayLike,
    terminals: Mapping[str, tuple[float, float]],
    *,
    pressure: ArrayLike | None = None,
    concentration: ArrayLike | None = None,
) -> Loading:
    """Voltages with and without the ``terminals``: node -> (input resistance in ohm, bias current into the node in A).

    voltage, pressure, concentration (n_nodes,) and clamped (n_nodes,) as in ``solve_operating_point``. A resistance of
    infinity and a bias of 0 are an ideal terminal. Raises ConfigError for terminals that cannot be, NotConvergedError where
    there is no steady state.
    """
    shunts, biases = np.zeros(network.n_nodes), np.zeros(network.n_nodes)
    for name, (resistance, bias) in terminals.items():
        if name not in network.node_index:
            raise ConfigError(f"terminal at node {name!r}: there is no such node; nodes: {', '.join(network.node_index)}")
        if not (resistance > 0.0 and np.isfinite(bias)):
            raise ConfigError(f"terminal at node {name!r}: {resistance} ohm and {bias} A are no terminal")
        shunts[network.node_index[name]] += 1.0 / resistance
        biases[network.node_index[name]] += bias

    def solved(shunt: FloatArray, bias: FloatArray, guess: FloatArray | None) -> FloatArray:
        point = solve_operating_point(
            network,
            voltage,
            clamped,
            pressure=pressure,
            concentration=concentration,
            shunt=shunt,
            injected=bias,
            guess=guess,
            validity=False,
        )
        if point.status is not Status.CONVERGED:
            raise NotConvergedError(f"loading: {point.message}")
        return point.voltage

    without = solved(np.zeros_like(shunts), np.zeros_like(biases), None)
    loaded = solved(shunts, biases, without)
    alone = {}
    for name in terminals:
        node = network.node_index[name]
        only = np.arange(network.n_nodes) == node
        alone[name] = float((solved(shunts * only, biases * only, without) - without)[node])
    error = loaded - without
    largest = float(np.max(np.abs(without), initial=0.0))
    reference = np.where(np.abs(without) > 1e-3 * largest, np.abs(without), largest if largest > 0.0 else 1.0)
    return Loading(tuple(network.node_index), without, loaded, error, np.abs(error) / reference, alone)
