"""The deck as text: what stands in it, what is refused, and that no name can smuggle a card into it."""

import numpy as np
import pytest

from hil.core.errors import BackendError, ConfigError
from simulated_backend import netlist_run
from simulated_backend.devices import registry
from simulated_backend.netlist import Transient, netlist
from simulated_backend.network import Edge, Network, Node

CLAMPED = np.array([True, False, True])
VOLTS = np.array([1.0, 0.0, 0.0])


def divider(law_name="hp_linear_drift", names=("in", "out", "0"), **numbers):
    law = registry.law(law_name)
    nodes = [Node(names[0]), Node(names[1], capacitance=1e-12), Node(names[2], ground=True)]
    return Network.build(nodes, [Edge("a", names[0], names[1], law, numbers), Edge("b", names[1], names[2], law, numbers)])


def cards(deck):
    return [line for line in deck.text.splitlines() if line and not line.startswith("*")]


def test_a_held_state_needs_no_node_and_a_moving_one_has_a_capacitor():
    still = netlist(divider(x_initial=0.25), VOLTS, CLAMPED)
    assert still.states == {}
    assert "0.25" in still.text
    assert ".op" in cards(still)
    moving = netlist(divider(x_initial=0.25), VOLTS, CLAMPED, transient=Transient(1.0, 0.01))
    node, scale = moving.states["a"][0]
    assert scale == 1.0
    assert f"C{node} {node} 0 1" in cards(moving)
    assert f".ic V({node})=0.25" in cards(moving)
    assert "C1 n1 0 1e-12" in cards(moving)
    assert any(card.startswith(".tran 0.01 1.0") for card in cards(moving))


def test_terminals_and_waveforms():
    deck = netlist(
        divider(),
        VOLTS,
        CLAMPED,
        shunt=np.array([0.0, 1e-9, 0.0]),
        injected=np.array([0.0, -2e-12, 0.0]),
        transient=Transient(2.0, 0.1, times=np.array([0.0, 1.0]), voltage=np.array([[1.0, 0, 0], [-1.0, 0, 0]]), edge=1e-3),
    )
    assert "I1 0 n1 (-2e-12)" in cards(deck)
    assert any(card.startswith("R1 n1 0 ") and float(card.split()[-1]) == pytest.approx(1e9) for card in cards(deck))
    assert "V0 n0 0 PWL(0.0 1.0 0.999 1.0 1.0 -1.0)" in cards(deck)


def test_names_cannot_add_cards():
    deck = netlist(divider(names=("in\n.shell rm x", "b;c", "0")), VOLTS, CLAMPED, title="one\ntwo")
    assert not any("shell" in card for card in cards(deck))
    assert deck.nodes == {"in\n.shell rm x": "n0", "b;c": "n1", "0": "n2"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"voltage": np.zeros(2)}, "`voltage` needs one value"),
        ({"voltage": np.array([np.nan, 0, 0])}, "not a finite number"),
        ({"clamped": np.array([True])}, "`clamped` needs one flag"),
        ({"shunt": np.zeros(2)}, "`shunt` needs one value"),
        ({"transient": Transient(1.0, 2.0)}, "0 < step"),
        ({"transient": Transient(1.0, 0.1, times=np.array([0.5]), voltage=np.zeros((1, 3)))}, "begin at 0"),
    ],
)
def test_what_does_not_fit_is_refused(change, says):
    arguments = {"voltage": VOLTS, "clamped": CLAMPED} | change
    with pytest.raises(ConfigError, match=says):
        netlist(divider(), arguments.pop("voltage"), arguments.pop("clamped"), **arguments)


def test_a_batch_of_networks_is_refused():
    network = divider()
    parameters = {name: np.stack([values, values]) for name, values in network.groups[0].parameters.items()}
    with pytest.raises(ConfigError, match="batch axis"):
        netlist(network.with_parameters([parameters]), VOLTS, CLAMPED)


def test_ngspice_that_is_missing_or_unhappy_is_named(monkeypatch):
    if netlist_run.find() is not None:
        with pytest.raises(BackendError, match="ngspice"):
            netlist_run.run("* nothing\nX1 a b nowhere\n.op\n.end\n", timeout=30)
    monkeypatch.setattr(netlist_run, "find", lambda: None)
    with pytest.raises(BackendError, match="not installed"):
        netlist_run.run("")
