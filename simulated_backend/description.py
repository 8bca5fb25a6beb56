"""A network as plain data: to hand it to another process, and to keep it in a record."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from hil.core.errors import ConfigError
from simulated_backend.devices import registry
from simulated_backend.devices.base import Device
from simulated_backend.network import Edge, Network, Node


def describe(network: Network) -> dict[str, Any]:
    """JSON-able dict: ``nodes``, ``laws`` (name, preset, options) and ``edges`` (all SI); ``rebuild`` inverts it exactly.

    Raises ConfigError for a network whose parameters carry a batch axis.
    """
    laws = [registry.recipe(group.law) for group in network.groups]
    edges: list[dict[str, Any]] = [{} for _ in range(network.n_edges)]
    for number, group in enumerate(network.groups):
        for column, position in enumerate(group.edges):
            for name, values in group.parameters.items():
                if np.ndim(values) != 1:
                    raise ConfigError(f"parameter {name!r} has {np.shape(values)} values; only one network can be described")
            edges[position] = {
                "name": network.edge_names[position],
                "base": network.nodes[network.base[position]].name,
                "tip": network.nodes[network.tip[position]].name,
                "law": number,
                "parallel": float(network.parallel[position]),
                "parameters": {name: float(values[column]) for name, values in group.parameters.items()},
            }
    return {"nodes": [asdict(node) for node in network.nodes], "laws": laws, "edges": edges}


def rebuild(description: Mapping[str, Any]) -> Network:
    """The network that ``describe`` wrote down. Raises ConfigError as ``Network.build`` and ``registry.law`` do."""
    try:
        laws: list[Device] = [registry.law(**recipe) for recipe in description["laws"]]
        nodes = [Node(**node) for node in description["nodes"]]
        edges = [Edge(**{**edge, "law": laws[edge["law"]]}) for edge in description["edges"]]
    except (KeyError, IndexError, TypeError) as error:
        raise ConfigError(f"this is no description of a network: {error}") from error
    return Network.build(nodes, edges)


def with_salt(nodes: Sequence[Node], edges: Sequence[Edge]) -> tuple[list[Node], list[Edge]]:
    """Nodes and edges with the concentrations that were left open filled in.

    A node without salt takes the reference concentration of the first channel it touches; a channel that gives no
    reference concentration (the one its fixed surface potential belongs to) takes the salt of its base node.
    """
    salt = {node.name: node.concentration for node in nodes}
    for edge in edges:
        if "reference_concentration" in edge.law.parameters:
            given = edge.parameters.get("reference_concentration", edge.law.default("reference_concentration")) or 0.0
            for end in (edge.base, edge.tip):
                if not salt.get(end):
                    salt[end] = given
    filled = [
        replace(edge, parameters={"reference_concentration": salt[edge.base], **edge.parameters})
        if "reference_concentration" in edge.law.parameters and edge.base in salt
        else edge
        for edge in edges
    ]
    return [replace(node, concentration=salt[node.name]) for node in nodes], filled
