"""The networks of a bench file: what we believe (``twin``), and what only the emulators know (``virtual.plant``). SI."""

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from hil.experiment.fields import (
    Concentration,
    Farads,
    Fraction,
    Metres,
    Name,
    Pascals,
    Positive,
    Strict,
    choice,
    refuse,
    span,
    unknown,
)
from hil.experiment.units import parse

Scalar = str | int | float | bool


class LawChoice(Strict):
    """A device law: ``parameters`` are given with units and read in the unit that the law declares."""

    name: str
    preset: str | None = None
    parallel: Positive = 1.0
    options: dict[str, Scalar] = Field(default_factory=dict)
    parameters: dict[str, Scalar] = Field(default_factory=dict)


class NodeModel(Strict):
    """One node; ``pressure`` and ``concentration`` are what it has when nothing drives them."""

    ground: bool = False
    cable_capacitance: Farads = 0.0
    pressure: Pascals | None = None
    concentration: Concentration | None = None


class EdgeModel(Strict):
    """One device from node ``base`` to node ``tip``; what is given here goes before the common law."""

    base: Name
    tip: Name
    law: LawChoice | None = None
    parallel: Positive | None = None
    parameters: dict[str, Scalar] = Field(default_factory=dict)


class Tunable(Strict):
    """Ranges of what only a simulated network can have set: edge properties, node concentrations and pressures."""

    length: Annotated[tuple[float, float], span("m")] | None = None
    radius_ratio: Annotated[tuple[float, float], span("1")] | None = None
    concentration: Annotated[tuple[float, float], span("mol/m^3")] | None = None
    pressure: Annotated[tuple[float, float], span("Pa")] | None = None


class TwinModel(Strict):
    """What we believe the network is.

    ``pressure`` (absolute) and ``concentration`` are those of every node that gives none; without a concentration the
    reference concentration of the law is taken.
    """

    law: LawChoice
    nodes: dict[Name, NodeModel]
    edges: dict[Name, EdgeModel]
    tunable: Tunable = Field(default_factory=Tunable)
    fixed_radius: Annotated[str, choice("base", "tip")] = "base"
    pressure: Pascals = 1e5
    concentration: Concentration | None = None

    @model_validator(mode="after")
    def _connected(self) -> Self:
        for edge_name, edge in self.edges.items():
            for end in ("base", "tip"):
                node = getattr(edge, end)
                if node not in self.nodes:
                    refuse(unknown("node", node, list(self.nodes)), f"edges.{edge_name}.{end}")
            if edge.base == edge.tip:
                refuse(f"the edge begins and ends at node {edge.base!r}", f"edges.{edge_name}.tip")
        grounds = [name for name, node in self.nodes.items() if node.ground]
        if len(grounds) > 1:
            refuse(f"nodes {grounds[0]!r} and {grounds[1]!r} are both ground; keep one", f"nodes.{grounds[1]}.ground")
        if not self.edges:
            refuse("a network needs at least one edge", "edges")
        ends = {end for edge in self.edges.values() for end in (edge.base, edge.tip)}
        for name in self.nodes:
            if name not in ends:
                refuse(f"no edge reaches node {name!r}; connect it or leave it out", f"nodes.{name}")
        return self

    def parts(self) -> list[set[str]]:
        """Names of the nodes that hang together, one set per part of the network."""
        parts: list[set[str]] = []
        for edge in self.edges.values():
            joined = {edge.base, edge.tip}
            apart = []
            for part in parts:
                if part & joined:
                    joined |= part
                else:
                    apart.append(part)
            parts = [*apart, joined]
        return parts


class PlantEdge(Strict):
    """How an edge of the world differs from the twin's."""

    law: LawChoice | None = None
    parallel: Positive | None = None
    parameters: dict[str, Scalar] = Field(default_factory=dict)


class PlantNode(Strict):
    """How a node of the world differs from the twin's."""

    cable_capacitance: Farads | None = None
    pressure: Pascals | None = None
    concentration: Concentration | None = None


def per_second(value: object) -> float:
    """A rate: a plain number (or text without a unit) is per second already."""
    return parse(value, "1/s") if isinstance(value, str) else parse(value, "1")


class Plant(Strict):
    """What the world really is in a rehearsal; only the emulators know it.

    ``plant: ideal`` takes noise, offsets and loads away from every terminal. ``mismatch``: relative standard deviation of
    the conductance of each edge, drawn once from the seed (apart for every replica and specimen). ``spread``: the same for
    named parameters of the laws, absolute where the parameter is 0. Noise and drift of the devices themselves: ``read_noise``,
    standard deviation of one reading of a current as a fraction of the largest one inside the limits; ``common_noise``,
    relative, the same for all devices at one moment; ``drift`` of all conductances together, relative, per second.
    ``heights`` of pressure controls where they are not what the bench file says.
    ``electrodes`` at nodes with a mixer: silver chloride ones follow the logarithm of the concentration.

    A bench with ``replicas`` has the same devices on the simulated target: identical ones without noise would make a pair
    pointless.
    """

    ideal: bool = False
    nodes: dict[Name, PlantNode] = Field(default_factory=dict)
    edges: dict[Name, PlantEdge] = Field(default_factory=dict)
    mismatch: Fraction = 0.0
    spread: dict[Name, Fraction] = Field(default_factory=dict)
    read_noise: Fraction = 0.0
    common_noise: Fraction = 0.0
    drift: Annotated[float, BeforeValidator(per_second)] = 0.0
    heights: dict[Name, Metres] = Field(default_factory=dict)
    electrodes: Annotated[str, choice("ideal", "silver_chloride")] = "ideal"

    @model_validator(mode="before")
    @classmethod
    def _word(cls, data: Any) -> Any:
        if data == "ideal":
            return {"ideal": True}
        if isinstance(data, str):
            refuse(f"{data!r} is no plant; write `ideal`, or a section with `nodes`, `edges`, `mismatch`")
        return data
