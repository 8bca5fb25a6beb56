"""From the bench file to networks: the one we believe in (twin) and the one the emulators live in (plant)."""

from collections.abc import Mapping

import numpy as np

from hil.core.errors import ConfigError
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
    return _network(bench, {}, {}, np.ones(len(bench.twin.edges)))


def plant_network(bench: BenchFile, seed: int) -> Network:
    """The network of the world: the twin with what ``virtual.plant`` says is different; ``seed`` draws the mismatch."""
    plant = bench.virtual.plant
    drawn = np.random.default_rng([seed, 0x6D69736D]).standard_normal(len(bench.twin.edges))
    # A conductance cannot change sign, however unlikely the draw.
    return _network(bench, plant.nodes, plant.edges, np.maximum(1.0 + plant.mismatch * drawn, 1e-3))


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


def _network(
    bench: BenchFile, plant_nodes: Mapping[str, PlantNode], plant_edges: Mapping[str, PlantEdge], gains: FloatArray
) -> Network:
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
    for gain, (name, edge) in zip(gains, twin.edges.items(), strict=True):
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
        parallel = _first(other.parallel, edge.parallel, choice.parallel)
        edges.append(Edge(name, edge.base, edge.tip, device, parameters, parallel * float(gain)))
    return Network.build(*with_salt(nodes, edges))


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
