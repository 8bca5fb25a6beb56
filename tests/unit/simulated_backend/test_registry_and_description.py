"""Laws by name, and networks as data."""

import json

import numpy as np
import pytest

from hil.core.errors import ConfigError
from simulated_backend.description import describe, rebuild, with_salt
from simulated_backend.devices import registry
from simulated_backend.devices.conical_channel import ConicalChannel
from simulated_backend.devices.registry import law
from simulated_backend.network import Edge, Network, Node


def test_names_hold_the_laws_of_the_folder():
    assert {"conical_channel", "ohmic", "saturating"} <= set(registry.names())


def test_equal_requests_share_one_object_and_others_do_not():
    assert law("conical_channel", preset="letter") is law("conical_channel", preset="letter")
    assert law("conical_channel", preset="letter") is not law("conical_channel")


def test_preset_of_a_law_without_options_sets_its_defaults():
    device = law("saturating", preset="golden")
    assert device.default("amplitude") == 0.5
    network = Network.build([Node("a"), Node("b")], [Edge("e", "a", "b", device, {"conductance": 1.0})])
    assert network.groups[0].parameters["time_constant"].tolist() == [1.0]


def test_preset_of_the_cone_sets_its_defaults():
    assert law("conical_channel", preset="letter").default("reference_concentration") == 0.1
    assert law("conical_channel").default("reference_concentration") == 0.2
    assert law("conical_channel", preset="published-code").default("elementary_charge") == 1.602e-19


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "cone"}, "there is no device law 'cone'; laws: "),
        ({"name": "../ohmic"}, "no device law"),
        ({"name": "base"}, "no device law"),
        ({"name": "ohmic", "preset": "x"}, "no preset 'x'"),
        ({"name": "ohmic", "colour": 1}, "no option 'colour'"),
    ],
)
def test_unknown_requests_are_refused(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        law(**arguments)


def test_law_from_an_entry_point_is_found(monkeypatch):
    class Other(type(law("ohmic"))):
        name = "other_ohmic"

    class Entry:
        name = "other_ohmic"

        def load(self):
            return Other

    monkeypatch.setattr(registry, "entry_points", lambda group: [Entry()] if group == registry.ENTRY_POINTS else [])
    registry._classes.cache_clear()
    try:
        assert registry.law_class("other_ohmic") is Other
    finally:
        registry._classes.cache_clear()


def test_entry_point_that_is_no_law_is_refused(monkeypatch):
    class Entry:
        name = "odd"

        def load(self):
            return dict

    monkeypatch.setattr(registry, "entry_points", lambda group: [Entry()])
    registry._classes.cache_clear()
    try:
        with pytest.raises(ConfigError, match="'odd'"):
            registry.names()
    finally:
        registry._classes.cache_clear()


def test_description_survives_json_exactly():
    cone, wire = law("conical_channel", preset="letter", form="self-consistent"), law("ohmic")
    nodes = [
        Node("1", concentration=0.1, pressure=101325.0),
        Node("2", concentration=0.3),
        Node("g", ground=True, capacitance=1e-12),
    ]
    edges = [
        Edge("a", "1", "2", cone, {"length": 1 / 3 * 1e-5}, 7.0),
        Edge("w", "2", "g", wire, {"conductance": 1e-9}),
        Edge("b", "2", "1", cone, {}),
    ]
    network = Network.build(nodes, edges)
    again = rebuild(json.loads(json.dumps(describe(network))))
    assert describe(again) == describe(network)
    assert again.nodes == network.nodes
    assert [group.law for group in again.groups] == [group.law for group in network.groups]
    for one, two in zip(network.groups, again.groups, strict=True):
        assert all(np.array_equal(one.parameters[name], two.parameters[name]) for name in one.parameters)


def test_law_made_by_hand_is_described_by_its_attributes():
    recipe = registry.recipe(ConicalChannel("letter", form="self-consistent"))
    assert registry.law(**recipe).form == "self-consistent"


@pytest.mark.parametrize(
    "wrong", [{}, {"nodes": [], "laws": [], "edges": [{"law": 0}]}, {"nodes": [{"x": 1}], "laws": [], "edges": []}]
)
def test_what_describes_no_network_is_refused(wrong):
    with pytest.raises(ConfigError, match="no description"):
        rebuild(wrong)


def test_batched_network_is_not_described(make_divider):
    network = make_divider()
    batched = network.with_parameters([{**network.groups[0].parameters, "length": np.full((3, 2), 1e-5)}])
    with pytest.raises(ConfigError, match="only one network"):
        describe(batched)


def test_open_concentrations_are_filled_in():
    cone = law("conical_channel", preset="letter")
    nodes, edges = with_salt(
        [Node("1", concentration=0.5), Node("2"), Node("3")],
        [Edge("a", "1", "2", cone, {}), Edge("b", "2", "3", cone, {"reference_concentration": 0.4})],
    )
    assert [node.concentration for node in nodes] == [0.5, 0.1, 0.4]
    assert [edge.parameters["reference_concentration"] for edge in edges] == [0.5, 0.4]
