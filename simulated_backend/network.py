"""A network of two-terminal devices between nodes: structure only, no solving."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from simulated_backend.devices.base import Device, Parameters

IndexArray = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Node:
    """One node: the values it has when nothing drives them. capacitance F (to ground), pressure Pa, concentration mol/m^3."""

    name: str
    ground: bool = False
    capacitance: float = 0.0
    pressure: float = 0.0
    concentration: float = 0.0


@dataclass(frozen=True, slots=True)
class Edge:
    """One device from node ``base`` to node ``tip``; ``parallel`` identical ones side by side multiply the current."""

    name: str
    base: str
    tip: str
    law: Device
    parameters: Mapping[str, float]
    parallel: float = 1.0


@dataclass(frozen=True, slots=True)
class Group:
    """All edges of one law object: ``edges`` (k,) are their positions, ``parameters`` one (k,) array per name."""

    law: Device
    edges: IndexArray
    parameters: Parameters


@dataclass(frozen=True)
class Network:
    """Nodes, oriented edges and their laws. ``base``, ``tip``, ``parallel``: (n_edges,)."""

    nodes: tuple[Node, ...]
    edge_names: tuple[str, ...]
    base: IndexArray
    tip: IndexArray
    parallel: FloatArray
    groups: tuple[Group, ...]
    node_index: Mapping[str, int] = field(repr=False)
    edge_index: Mapping[str, int] = field(repr=False)

    @classmethod
    def build(cls, nodes: Sequence[Node], edges: Sequence[Edge]) -> "Network":
        """Check and index. Edges that share one law *object* form one group.

        Raises ConfigError: a name used twice, an unknown node, both ends on one node, two grounds, a parameter that is
        missing, unknown, NaN or outside its range, a combination the law refuses, ``parallel`` not above 0.
        """
        node_index = _indexed([node.name for node in nodes], "node")
        edge_index = _indexed([edge.name for edge in edges], "edge")
        grounds = [node.name for node in nodes if node.ground]
        if len(grounds) > 1:
            raise ConfigError(f"nodes {grounds[0]!r} and {grounds[1]!r} are both ground; a network has one ground at the most")
        if not edges:
            raise ConfigError("a network needs at least one edge")
        for edge in edges:
            for role, node_name in (("base", edge.base), ("tip", edge.tip)):
                if node_name not in node_index:
                    raise ConfigError(f"edge {edge.name!r}: its {role} {node_name!r} is no node; nodes: {', '.join(node_index)}")
            if edge.base == edge.tip:
                raise ConfigError(f"edge {edge.name!r} begins and ends at node {edge.base!r}")
            if not (edge.parallel > 0 and np.isfinite(edge.parallel)):
                raise ConfigError(f"edge {edge.name!r}: `parallel` must be above 0, not {edge.parallel}")
        by_law: dict[int, list[int]] = {}
        for position, edge in enumerate(edges):
            by_law.setdefault(id(edge.law), []).append(position)
        groups = tuple(_group([edges[i] for i in members], np.array(members, dtype=np.intp)) for members in by_law.values())
        return cls(
            tuple(nodes),
            tuple(edge_index),
            np.array([node_index[edge.base] for edge in edges], dtype=np.intp),
            np.array([node_index[edge.tip] for edge in edges], dtype=np.intp),
            np.array([edge.parallel for edge in edges], dtype=np.float64),
            groups,
            node_index,
            edge_index,
        )

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return len(self.nodes)

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return len(self.edge_names)

    def node_array(self, attribute: str) -> FloatArray:
        """One numeric attribute of all nodes, (n_nodes,)."""
        return np.array([getattr(node, attribute) for node in self.nodes], dtype=np.float64)

    def with_parameters(self, parameters: Sequence[Parameters]) -> "Network":
        """The same network with other parameter arrays, one mapping per group; leading batch axes are allowed."""
        return replace(
            self, groups=tuple(replace(group, parameters=new) for group, new in zip(self.groups, parameters, strict=True))
        )


def _indexed(names: Sequence[str], what: str) -> dict[str, int]:
    index = {name: position for position, name in enumerate(names)}
    if len(index) < len(names):
        twice = next(name for name in index if names.count(name) > 1)
        raise ConfigError(f"{what} {twice!r} is declared twice")
    return index


def _group(edges: Sequence[Edge], positions: IndexArray) -> Group:
    law = edges[0].law
    arrays: dict[str, FloatArray] = {}
    for edge in edges:
        unknown = sorted(set(edge.parameters) - set(law.parameters))
        if unknown:
            raise ConfigError(
                f"edge {edge.name!r}: law {law.name!r} has no parameter {unknown[0]!r}; it has {', '.join(law.parameters)}"
            )
    for name, parameter in law.parameters.items():
        values = [edge.parameters.get(name, law.default(name)) for edge in edges]
        for edge, value in zip(edges, values, strict=True):
            if value is None:
                raise ConfigError(f"edge {edge.name!r}: law {law.name!r} needs parameter {name!r} ({parameter.meaning})")
            if not parameter.minimum <= value <= parameter.maximum:
                raise ConfigError(
                    f"edge {edge.name!r}: {name} = {value:g} {parameter.unit} is outside "
                    f"{parameter.minimum:g} … {parameter.maximum:g} {parameter.unit} ({parameter.meaning})"
                )
        arrays[name] = np.array(values, dtype=np.float64)
    problems = law.check(arrays)
    if problems:
        raise ConfigError(f"law {law.name!r}: {problems[0]}")
    return Group(law, positions, arrays)
