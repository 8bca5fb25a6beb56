"""Random mixed networks that our solvers and ngspice both solve; run this file to renew the stored answers.

``python tests/golden/ngspice_cases.py`` needs ngspice and writes ``data/golden/ngspice_laws.npz``.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simulated_backend import netlist_run
from simulated_backend.description import describe
from simulated_backend.devices import registry
from simulated_backend.devices.base import EdgeDrive, StateKind
from simulated_backend.netlist import Transient, netlist
from simulated_backend.network import Edge, Network, Node

STORED = Path(__file__).parents[2] / "data" / "golden" / "ngspice_laws.npz"
CASES = tuple(
    (kind, seed) for kind, count in (("relaxed", 8), ("held", 8), ("mixed", 8), ("transient", 4)) for seed in range(count)
)
SAMPLES = np.array([0.05, 0.2, 0.35, 0.49, 0.52, 0.7, 0.85, 1.0])


@dataclass(frozen=True)
class Case:
    """A network with its drive; ``state`` where it is held; ``second``: node voltages of the second half of a run in time."""

    network: Network
    voltage: np.ndarray
    clamped: np.ndarray
    shunt: np.ndarray
    injected: np.ndarray
    state: list[np.ndarray] | None
    second: np.ndarray
    duration: float = 20e-3

    def fingerprint(self) -> str:
        text = json.dumps(describe(self.network), sort_keys=True) + repr([self.voltage.tolist(), self.clamped.tolist()])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def operating_point_deck(self):
        return netlist(self.network, self.voltage, self.clamped, shunt=self.shunt, injected=self.injected, state=self.state)

    def transient_deck(self):
        steps = np.array([self.voltage, self.second])
        run = Transient(self.duration, self.duration / 400, 1e-7, np.array([0.0, self.duration / 2]), steps)
        return netlist(self.network, self.voltage, self.clamped, shunt=self.shunt, injected=self.injected, transient=run)


def _laws():
    """(law, parameters drawn from a generator, parallel): all of the order of a millisiemens, moving within milliseconds."""
    table = registry.law("tabulated", volts=(-2.0, -0.5, 0.0, 0.4, 2.0), amperes=(-3e-3, -2e-4, 0.0, 1e-4, 2e-3))
    cone, letter = registry.law("conical_channel"), registry.law("conical_channel", preset="letter")
    own = registry.law("conical_channel", form="self-consistent")

    def start(g):
        return {"s_initial": g.uniform(0.2, 0.8)}

    def shaped(g):
        return {"length": g.uniform(4e-6, 15e-6), "tip_radius": g.uniform(40e-9, 90e-9)}

    return {
        "ohmic": (registry.law("ohmic"), lambda g: {"conductance": 10 ** g.uniform(-4, -2.5)}, 1.0),
        "conical": (cone, shaped, 1e8),
        "letter": (letter, lambda g: {"length": g.uniform(4e-6, 15e-6)}, 2e8),
        "self-consistent": (own, lambda g: {"length": 8e-6}, 1e8),
        "saturating": (
            registry.law("saturating"),
            lambda g: {"conductance": 10 ** g.uniform(-4, -2.5), "amplitude": g.uniform(-0.7, 0.7), "time_constant": 4e-3},
            1.0,
        ),
        "flux_volatile": (
            registry.law("flux_volatile"),
            lambda g: {"flux_decay": 100.0, "R0": 500.0, "R1": g.uniform(1e5, 5e5), "R2": 1e7, "flux_initial": 1e-3},
            1.0,
        ),
        "flux_nonvolatile": (
            registry.law("flux_nonvolatile"),
            lambda g: {"flux_decay": 30.0, "R0": 500.0, "R1": g.uniform(1e5, 5e5), "flux_initial": 2e-3},
            1.0,
        ),
        "hp": (
            registry.law("hp_linear_drift", window="biolek"),
            lambda g: {"R_off": 5e3, "mobility": 1e-12, "x_initial": g.uniform(0.2, 0.8), "window_power": 2.0},
            1.0,
        ),
        "threshold": (
            registry.law("threshold"),
            lambda g: {"R_off": 200.0, "mobility": 1e-14, "i_0": 1e-5, "x_initial": g.uniform(0.2, 0.8)},
            0.1,
        ),
        "team": (
            registry.law("team", resistance="exponential", window="biolek"),
            lambda g: {"alpha_off": 1.0, "alpha_on": 1.0, "k_off": 1e-7, "k_on": -2e-8, **start(g)},
            1.0,
        ),
        "vteam": (
            registry.law("vteam", window="prodromakis"),
            lambda g: {"R_on": 300.0, "R_off": 3e3, "k_off": 1e-8, "k_on": -2e-8, "alpha_on": 2.0, **start(g)},
            1.0,
        ),
        "yakopcic": (
            registry.law("yakopcic", preset="miao"),
            lambda g: {"a1": 2e-3, "a2": 1.5e-3, "A_p": 100.0, "A_n": 100.0, "x_initial": g.uniform(0.2, 0.8)},
            1.0,
        ),
        "tabulated": (table, lambda g: {"scale": g.uniform(0.5, 1.5)}, 1.0),
        "stochastic": (registry.law("stochastic"), lambda g: {"R_on": 1e3, "on_initial": float(g.integers(2))}, 1.0),
    }


def draw(kind: str, seed: int) -> Case:
    """A random tree with extra edges; every law that ``kind`` allows is there at least once among the seeds.

    relaxed: laws with a steady state, all settled; held: all laws, at their initial states; mixed: all laws, those with a
    steady state settled and the others at their initial state; transient: all that move.
    """
    g = np.random.default_rng([2026, seed, len(kind)])
    n = int(g.integers(5, 10))
    nodes = [Node(f"node {k}", pressure=1e5 + g.uniform(-1, 1) * 2e3, concentration=g.uniform(0.18, 0.22)) for k in range(n)]
    pairs = [(int(g.integers(k)), k) for k in range(1, n)]
    while len(pairs) < 2 * n:
        a, b = g.choice(n, 2, replace=False)
        pairs.append((int(a), int(b)))
    laws = _laws()
    if kind == "relaxed":
        laws = {name: entry for name, entry in laws.items() if entry[0].kind is not StateKind.RATE}
    if kind == "transient":
        # held states and slow boundary-value profiles add nothing to a run in time
        laws = {name: entry for name, entry in laws.items() if name not in ("stochastic", "self-consistent")}
    order = list(laws)
    edges = []
    for k, (a, b) in enumerate(pairs):
        law, numbers, parallel = laws[order[(k + 5 * seed) % len(order)]]
        if g.random() < 0.5:
            a, b = b, a
        edges.append(Edge(f"edge {k}", f"node {a}", f"node {b}", law, numbers(g), parallel))
    clamped = np.zeros(n, dtype=bool)
    clamped[g.choice(n, 3, replace=False)] = True
    voltage = np.where(clamped, g.uniform(-1, 1, n), 0.0)
    second = np.where(clamped, g.uniform(-1, 1, n), 0.0)
    shunt = np.where(g.random(n) < 0.3, 1e-5, 0.0)
    injected = np.where(~clamped & (g.random(n) < 0.3), 1e-5, 0.0)
    network = Network.build(nodes, edges)
    state = initial_state(network) if kind == "held" else None
    return Case(network, voltage, clamped, shunt, injected, state, second)


def initial_state(network: Network) -> list[np.ndarray]:
    """One (n_states, k) array per group."""
    pressure, salt = network.node_array("pressure"), network.node_array("concentration")
    states = []
    for group in network.groups:
        base, tip = network.base[group.edges], network.tip[group.edges]
        rest = EdgeDrive(np.zeros(base.size), pressure[base] - pressure[tip], salt[base], salt[tip])
        states.append(group.law.initial_state(group.parameters, rest))
    return states


def ngspice(kind: str, case: Case) -> np.ndarray:
    """Node voltages (n_nodes,), or (n_samples, n_nodes) of a run in time."""
    deck = case.transient_deck() if kind == "transient" else case.operating_point_deck()
    found = netlist_run.run(deck.text)
    columns = [found[f"v({deck.nodes[node.name]})"] for node in case.network.nodes]
    if kind != "transient":
        return np.array([column[0] for column in columns])
    return np.array([np.interp(SAMPLES * case.duration, found["time"], column) for column in columns]).T


def main() -> None:
    arrays = {}
    for kind, seed in CASES:
        case = draw(kind, seed)
        arrays[f"{kind}{seed}"] = ngspice(kind, case)
        arrays[f"{kind}{seed}_network"] = np.array(case.fingerprint())
    STORED.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(STORED, **arrays)


if __name__ == "__main__":
    main()
