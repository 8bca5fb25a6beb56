"""From the bench file to networks: the one we believe in (twin) and the one the emulators live in (plant)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hil.core.errors import ConfigError
from hil.core.hydrostatics import ATMOSPHERE
from hil.core.types import FloatArray, Quantity
from hil.experiment.bench_file import BenchFile, LawChoice, PlantEdge, PlantNode
from hil.experiment.fields import FieldError, unknown
from hil.experiment.units import parse
from simulated_backend.description import with_salt
from simulated_backend.devices.base import Device
from simulated_backend.devices.registry import law
from simulated_backend.network import Edge, Network, Node


def twin_network(bench: BenchFile) -> Network:
    """The network of ``twin``. Raises FieldError naming the field of a law, an option or a parameter that is wrong."""
    return Network.build(*with_salt(*_parts(bench, {}, {}, _Deviation.none(bench))))


def plant_network(bench: BenchFile, seed: int, specimen: int = 0) -> Network:
    """The network of the world: the twin with what ``virtual.plant`` says is different; ``seed`` draws the mismatch.

    Replicas stand side by side in it, on nodes of their own (``NODE@REPLICA`` from the second on) and a common ground. Its
    pressures are absolute, as what the emulated controllers do to it is.
    ``specimen`` 0 is the one that is mounted first; every other number draws other devices.
    """
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    air = ATMOSPHERE if bench.pressure_reference == "gauge" else 0.0
    for replica, deviation in _deviations(bench, seed, specimen).items():
        part_nodes, part_edges = _parts(bench, bench.virtual.plant.nodes, bench.virtual.plant.edges, deviation)
        names = {node.name: node.name if node.ground else replica_node(bench, node.name, replica) for node in part_nodes}
        nodes |= {names[node.name]: replace(node, name=names[node.name], pressure=node.pressure + air) for node in part_nodes}
        edges += [
            replace(edge, name=replica_node(bench, edge.name, replica), base=names[edge.base], tip=names[edge.tip])
            for edge in part_edges
        ]
    return Network.build(*with_salt(list(nodes.values()), edges))


def replica_networks(bench: BenchFile, seed: int, specimen: int = 0) -> dict[str, Network]:
    """The same devices one by one: replica -> its own network, with the twin's names; empty without replicas."""
    if not bench.replicas:
        return {}
    plant = bench.virtual.plant
    return {
        replica: Network.build(*with_salt(*_parts(bench, plant.nodes, plant.edges, deviation)))
        for replica, deviation in _deviations(bench, seed, specimen).items()
    }


def replica_node(bench: BenchFile, name: str, replica: str) -> str:
    """Name in the plant of node (or edge) ``name`` of ``replica``: the first one keeps the twin's."""
    return name if not bench.replicas or replica == next(iter(bench.replicas)) else f"{name}@{replica}"


@dataclass(frozen=True)
class _Deviation:
    """What is different in one replica: factor of the conductance (n_edges,), standard normal draws per spread parameter."""

    gains: FloatArray
    drawn: Mapping[str, FloatArray]

    @classmethod
    def none(cls, bench: BenchFile) -> "_Deviation":
        return cls(np.ones(len(bench.twin.edges)), {})


def _deviations(bench: BenchFile, seed: int, specimen: int) -> dict[str, _Deviation]:
    plant, n = bench.virtual.plant, len(bench.twin.edges)
    replicas = list(bench.replicas) or [""]
    extra = [specimen] if specimen else []
    gain = np.random.default_rng([seed, 0x6D69736D, *extra]).standard_normal((len(replicas), n))
    other = np.random.default_rng([seed, 0x73707265, *extra]).standard_normal((len(replicas), len(plant.spread), n))
    # A conductance cannot change sign, however unlikely the draw.
    return {
        replica: _Deviation(np.maximum(1.0 + plant.mismatch * row, 1e-3), dict(zip(plant.spread, rest, strict=True)))
        for replica, row, rest in zip(replicas, gain, other, strict=True)
    }


def present_values(network: Network) -> dict[str, dict[str, float]]:
    """For every edge: tunable name -> its value now (SI). Radius ratios come from the two radii."""
    found: dict[str, dict[str, float]] = {}
    for group in network.groups:
        names = group.law.tunables()
        for position, edge in enumerate(group.edges):
            values = {name: float(array[position]) for name, array in group.parameters.items() if name in names}
            if "base_radius" in values and "tip_radius" in values:
                ratio = values["base_radius"] / values["tip_radius"]
                values |= {name: ratio for name in ("radius_ratio_fixed_base", "radius_ratio_fixed_tip") if name in names}
            found[network.edge_names[int(edge)]] = values
    return {name: found[name] for name in network.edge_names}


def node_rest(network: Network) -> dict[str, dict[Quantity, float]]:
    """For every node: its pressure (Pa) and concentration (mol/m^3) when nothing drives them."""
    return {node.name: {Quantity.PRESSURE: node.pressure, Quantity.CONCENTRATION: node.concentration} for node in network.nodes}


def _parts(
    bench: BenchFile, plant_nodes: Mapping[str, PlantNode], plant_edges: Mapping[str, PlantEdge], deviation: _Deviation
) -> tuple[list[Node], list[Edge]]:
    twin = bench.twin
    nodes = []
    for name, node in twin.nodes.items():
        changed = plant_nodes.get(name, PlantNode())
        nodes.append(
            Node(
                name,
                node.ground,
                _first(changed.cable_capacitance, node.cable_capacitance, 0.0),
                _first(changed.pressure, node.pressure, twin.pressure),
                _first(changed.concentration, node.concentration, twin.concentration, 0.0),
            )
        )
    edges = []
    for number, (name, edge) in enumerate(twin.edges.items()):
        here = f"twin.edges.{name}"
        other = plant_edges.get(name, PlantEdge())
        if other.law is not None:
            choice, where = other.law, f"virtual.plant.edges.{name}.law"
        elif edge.law is not None:
            choice, where = edge.law, f"{here}.law"
        else:
            choice, where = twin.law, "twin.law"
        device = _device(choice, where)
        parameters = {
            **_si(device, choice.parameters, f"{where}.parameters"),
            **(_si(device, edge.parameters, f"{here}.parameters") if other.law is None else {}),
            **_si(device, other.parameters, f"virtual.plant.edges.{name}.parameters"),
        }
        for spread, draws in deviation.drawn.items():
            parameters[spread] = _spread(bench, device, parameters, spread, float(draws[number]))
        parallel = _first(other.parallel, edge.parallel, choice.parallel)
        edges.append(Edge(name, edge.base, edge.tip, device, parameters, parallel * float(deviation.gains[number])))
    return nodes, edges


def _spread(bench: BenchFile, device: Device, parameters: Mapping[str, float], name: str, drawn: float) -> float:
    """Parameter ``name`` of one device as it was made, inside the range the law allows."""
    if name not in device.parameters:
        known = list(device.parameters)
        raise FieldError(unknown(f"parameter of law {device.name!r}", name, known), f"virtual.plant.spread.{name}")
    limits = device.parameters[name]
    value = parameters.get(name, device.default(name)) or 0.0
    moved = value + bench.virtual.plant.spread[name] * drawn * (abs(value) or 1.0)
    return min(max(moved, limits.minimum), limits.maximum)


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


def _device(choice: LawChoice, where: str) -> Device:
    try:
        return law(choice.name, choice.preset, **choice.options)
    except ConfigError as error:
        raise FieldError(str(error), where) from None


def _si(device: Device, given: Mapping[str, str | int | float | bool], where: str) -> dict[str, float]:
    """Law parameters in the units the law declares."""
    parameters = {}
    for name, value in given.items():
        if name not in device.parameters:
            raise FieldError(unknown(f"parameter of law {device.name!r}", name, list(device.parameters)), f"{where}.{name}")
        try:
            parameters[name] = parse(value, device.parameters[name].unit)
        except ConfigError as error:
            raise FieldError(str(error), f"{where}.{name}") from None
    return parameters
