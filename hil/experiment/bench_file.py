"""The bench file: one lab, as data. Everything below is SI once the file has been read.

One file describes the instruments, the wiring, the limits, what we believe the network is (``twin``) and what only the
emulators know (``virtual``). The laws and drivers it names are looked up in ``hil.bench``, never here.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from hil.core.errors import ConfigError
from hil.core.types import Kind, Quantity, SafeAction, SafeState
from hil.experiment.fields import (
    AsTuple,
    Concentration,
    Farads,
    Fraction,
    Name,
    Pascals,
    Positive,
    Strict,
    Volts,
    choice,
    parse_span,
    refuse,
    span,
    unknown,
)
from hil.experiment.units import parse

Scalar = str | int | float | bool
QUANTITIES = {
    "voltage": Quantity.VOLTAGE,
    "current": Quantity.CURRENT,
    "pressure": Quantity.PRESSURE,
    "concentration": Quantity.CONCENTRATION,
    "conductance": Quantity.CONDUCTANCE,
}
_BY_PARAMETER = {
    "volt": Quantity.VOLTAGE,
    "voltage": Quantity.VOLTAGE,
    "curr": Quantity.CURRENT,
    "current": Quantity.CURRENT,
    "pressure": Quantity.PRESSURE,
    "concentration": Quantity.CONCENTRATION,
}
TUNABLES = {
    "length": Quantity.LENGTH,
    "radius_ratio": Quantity.RATIO,
    "concentration": Quantity.CONCENTRATION,
    "pressure": Quantity.PRESSURE,
}
_SAFE = {action.value: action for action in SafeAction if action is not SafeAction.LEVEL}


class Notebook(Strict):
    """What the experimenter writes at the top of the page; goes into every record."""

    operator: str = ""
    sample: str = ""
    electrolyte_lot: str = ""
    electrodes: str = ""
    temperature: str = ""
    remarks: str = ""


class Instrument(Strict):
    """One instrument of the station. ``type`` is looked up in an allow-list before anything is imported."""

    type: str
    address: str
    options: dict[str, Scalar] = Field(default_factory=dict)


class Station(Strict):
    """The instruments, by the name that parameters use."""

    instruments: dict[Name, Instrument] = Field(default_factory=dict)


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


class Plant(Strict):
    """What the world really is in a rehearsal; only the emulators know it.

    ``plant: ideal`` takes noise, offsets and loads away from every terminal. ``mismatch``: relative standard deviation of
    the conductance of each edge, drawn once from the seed.
    """

    ideal: bool = False
    nodes: dict[Name, PlantNode] = Field(default_factory=dict)
    edges: dict[Name, PlantEdge] = Field(default_factory=dict)
    mismatch: Fraction = 0.0

    @model_validator(mode="before")
    @classmethod
    def _word(cls, data: Any) -> Any:
        if data == "ideal":
            return {"ideal": True}
        if isinstance(data, str):
            refuse(f"{data!r} is no plant; write `ideal`, or a section with `nodes`, `edges`, `mismatch`")
        return data


class Virtual(Strict):
    """The virtual bench: seed, plant, and options of the emulators by instrument name."""

    seed: Annotated[int, Field(ge=0)] = 0
    plant: Plant = Field(default_factory=Plant)
    instruments: dict[Name, dict[str, Scalar]] = Field(default_factory=dict)


class Terminal(Strict):
    """What controls and outputs share: where it is wired (``parameter`` = instrument.port.parameter) and what it is."""

    parameter: str
    node: Name
    quantity: Quantity
    setup: dict[str, Scalar] = Field(default_factory=dict)

    @property
    def instrument(self) -> str:
        """First part of ``parameter``."""
        return self.parameter.split(".")[0]

    @property
    def port(self) -> str:
        """Middle part of ``parameter``; empty for an instrument with one terminal."""
        return ".".join(self.parameter.split(".")[1:-1])


class Output(Terminal):
    """One thing that is read. ``setup`` holds the range, nplc and the like; ``hil.bench`` knows their units."""

    @model_validator(mode="before")
    @classmethod
    def _what(cls, data: Any) -> Any:
        return _with_quantity(data)


class Control(Terminal):
    """One thing that is applied. SI values; ``slew`` and ``emergency_slew`` per second, ``compliance`` in A (V for a current)."""

    kind: Kind = Kind.DRIVE
    limits: tuple[float, float]
    slew: float = float("inf")
    emergency_slew: float = float("inf")
    resolution: float = 0.0
    dead_time: float = 0.0
    compliance: float | None = None
    safe: SafeState = Field(default_factory=SafeState)

    @model_validator(mode="before")
    @classmethod
    def _si(cls, data: Any) -> Any:
        data = _with_quantity(data)
        return _converted(
            data,
            {
                "limits": parse_span,
                "slew": lambda raw, unit: _positive(raw, f"{unit}/s"),
                "emergency_slew": lambda raw, unit: _positive(raw, f"{unit}/s"),
                "resolution": lambda raw, unit: _positive(raw, unit, zero=True),
                "dead_time": lambda raw, _: _positive(raw, "s", zero=True),
                "compliance": lambda raw, unit: _positive(raw, "V" if unit == "A" else "A"),
                "safe": _safe,
            },
        )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        low, high = self.limits
        if self.safe.action is SafeAction.LEVEL and not low <= self.safe.value <= high:
            unit = self.quantity.value
            refuse(f"the safe value {self.safe.value:g} {unit} is outside the limits {low:g} … {high:g} {unit}", "safe")
        if self.quantity in (Quantity.VOLTAGE, Quantity.CURRENT) and self.compliance is None:
            refuse("a source of voltage or current needs a `compliance`, for example '10 uA'", "compliance")
        return self


class EdgeLimits(Strict):
    """Largest difference across one edge, of voltage and of pressure."""

    voltage: Volts | None = None
    pressure: Pascals | None = None


class BenchFile(Strict):
    """The whole file."""

    format: Literal["hil-bench/1"]
    title: str = ""
    notebook: Notebook = Field(default_factory=Notebook)
    station: Station = Field(default_factory=Station)
    twin: TwinModel
    virtual: Virtual = Field(default_factory=Virtual)
    controls: dict[Name, Control]
    outputs: dict[Name, Output]
    edge_limits: dict[Name, EdgeLimits] = Field(default_factory=dict)
    replicas: dict[Name, dict[Name, str]] = Field(default_factory=dict)
    simultaneous: Annotated[tuple[tuple[str, str], ...], AsTuple] = ()

    @model_validator(mode="before")
    @classmethod
    def _pairs(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("simultaneous"), list):
            return {**data, "simultaneous": [tuple(p) if isinstance(p, list) else p for p in data["simultaneous"]]}
        return data

    @model_validator(mode="after")
    def _wired(self) -> Self:
        ports: dict[tuple[str, str], str] = {}
        driven: dict[tuple[str, Quantity], str] = {}
        for section, terminals in (("controls", self.controls), ("outputs", self.outputs)):
            for name, terminal in terminals.items():
                here = f"{section}.{name}"
                if terminal.node not in self.twin.nodes:
                    refuse(unknown("node", terminal.node, list(self.twin.nodes)), f"{here}.node")
                if terminal.instrument not in self.station.instruments:
                    refuse(unknown("instrument", terminal.instrument, list(self.station.instruments)), f"{here}.parameter")
                other = ports.setdefault((terminal.parameter, section), name)
                if other != name:
                    refuse(f"{terminal.parameter} is used by {other!r} already; one parameter, one channel", f"{here}.parameter")
                if section == "controls":
                    twice = driven.setdefault((terminal.node, terminal.quantity), name)
                    if twice != name:
                        refuse(f"node {terminal.node!r} is driven by {twice!r} already", f"{here}.node")
        for name in self.controls:
            if name in self.outputs:
                refuse(f"{name!r} names a control and an output; give each a name of its own", f"outputs.{name}")
        if not self.outputs:
            refuse("a bench needs at least one output", "outputs")
        for part in self.twin.parts():
            held = any((node, Quantity.VOLTAGE) in driven or self.twin.nodes[node].ground for node in part)
            if not held:
                names = ", ".join(repr(name) for name in sorted(part))
                refuse(
                    f"no node of {names} is ground or driven by a voltage, so their potential floats; drive one of them",
                    "controls",
                )
        self._known_names()
        return self

    def _known_names(self) -> None:
        for section, names, known in (
            ("edge_limits", self.edge_limits, self.twin.edges),
            ("virtual.plant.edges", self.virtual.plant.edges, self.twin.edges),
            ("virtual.plant.nodes", self.virtual.plant.nodes, self.twin.nodes),
            ("virtual.instruments", self.virtual.instruments, self.station.instruments),
        ):
            for name in names:
                if name not in known:
                    refuse(unknown(section.rsplit(".", 1)[-1].rstrip("s"), name, list(known)), f"{section}.{name}")
        for pair in self.simultaneous:
            for name in pair:
                if name not in self.replicas:
                    refuse(unknown("replica", name, list(self.replicas)), "simultaneous")


def _with_quantity(data: Any) -> Any:
    """Fill ``quantity`` from its word, or from the last part of ``parameter`` (smu.smua.volt is a voltage)."""
    if not isinstance(data, Mapping) or isinstance(data.get("quantity"), Quantity):
        return data
    parameter = data.get("parameter")
    if not isinstance(parameter, str) or parameter.count(".") < 1:
        refuse("write `parameter` as instrument.port.parameter, for example smu.smua.volt", "parameter")
    word = data.get("quantity")
    if word is not None:
        if word not in QUANTITIES:
            refuse(unknown("quantity", str(word), list(QUANTITIES)), "quantity")
        return {**data, "quantity": QUANTITIES[word]}
    last = str(parameter).rsplit(".", 1)[-1]
    if last not in _BY_PARAMETER:
        refuse(f"what {parameter!r} is cannot be told from its name; add `quantity:` ({', '.join(QUANTITIES)})", "quantity")
    return {**data, "quantity": _BY_PARAMETER[last]}


def _converted(data: Any, converters: Mapping[str, Any]) -> Any:
    """Every listed field of ``data`` turned into SI with the unit of its quantity; errors name the field."""
    if not isinstance(data, Mapping) or not isinstance(data.get("quantity"), Quantity):
        return data
    result = dict(data)
    for field, convert in converters.items():
        if field in result:
            try:
                result[field] = convert(result[field], result["quantity"].value)
            except ConfigError as error:
                refuse(str(error), field)
    return result


def _positive(value: object, unit: str, *, zero: bool = False) -> float:
    number = parse(value, unit)
    if number < 0 or (number == 0 and not zero):
        raise ConfigError(f"{value!r} must be {'0 or more' if zero else 'above 0'}")
    return number


def _safe(value: object, unit: str) -> SafeState:
    if isinstance(value, SafeState):
        return value
    if isinstance(value, str) and value in _SAFE:
        return SafeState(_SAFE[value])
    try:
        return SafeState(SafeAction.LEVEL, parse(value, unit))
    except ConfigError as error:
        raise ConfigError(f"{error}; or one of {', '.join(_SAFE)}") from None


__all__ = ["QUANTITIES", "TUNABLES", "BenchFile", "Control", "LawChoice", "Output", "Plant", "TwinModel", "Virtual"]
