"""The networks that are timed: the golden ones where a folder is given, else the same recipe.

HIL_REFERENCE names a folder with golden_<net>.npz; without it the smaller ones come from ``data/golden`` and the larger
are drawn by the recipe (random graph of mean degree 4 or square grid, conductance 0.5 … 1.5 mS, one node in twenty
clamped to −2 … 2 V), with the steady state to compare with found by LU arithmetic.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hil.core.types import BoolArray, FloatArray
from simulated_backend.devices.saturating import Saturating
from simulated_backend.network import Group, Network, Node

NETS = ("rand6", "rand100", "grid100", "rand1000", "grid1000", "rand10000", "grid10000")
_STORED = Path(__file__).parents[1] / "data" / "golden" / "saturating_networks.npz"


@dataclass(frozen=True)
class Net:
    """A network with its drive; ``v_inf`` (n_nodes,) steady state; ``times``, ``v_t`` (k, n_nodes) the course from rest."""

    name: str
    network: Network
    clamped: BoolArray
    voltage: FloatArray
    v_inf: FloatArray | None
    times: FloatArray
    v_t: FloatArray | None

    @property
    def edges(self) -> NDArray[np.int64]:
        """(n_edges, 2) node numbers."""
        return np.stack((self.network.base, self.network.tip), axis=1).astype(np.int64)

    @property
    def conductance(self) -> FloatArray:
        """g0 of every edge, S."""
        return np.asarray(self.network.groups[0].parameters["conductance"])


def from_arrays(n: int, edges: NDArray[np.int64], g0: FloatArray) -> Network:
    """A network of saturating devices straight from arrays (a million edges in a second)."""
    m = len(edges)
    full = {
        "conductance": np.asarray(g0, dtype=np.float64),
        **{k: np.full(m, v) for k, v in Saturating.presets["golden"].items()},
    }
    names = tuple(map(str, range(n)))
    edge_names = tuple(map(str, range(m)))
    return Network(
        tuple(Node(name) for name in names),
        edge_names,
        np.ascontiguousarray(edges[:, 0], dtype=np.intp),
        np.ascontiguousarray(edges[:, 1], dtype=np.intp),
        np.ones(m),
        (Group(Saturating(), np.arange(m, dtype=np.intp), full),),
        {name: i for i, name in enumerate(names)},
        {name: i for i, name in enumerate(edge_names)},
    )


@lru_cache(maxsize=8)
def load(name: str) -> Net:
    """One of ``NETS``."""
    folder = os.environ.get("HIL_REFERENCE", "")
    path = Path(folder) / f"golden_{name}.npz"
    if folder and path.is_file():
        with np.load(path) as data:
            return _net(name, {key: data[key] for key in data})
    if _STORED.is_file():
        with np.load(_STORED) as data:
            mine = {key.split("/")[1]: data[key] for key in data if key.startswith(name + "/")}
        if mine:
            return _net(name, mine)
    kind, size = name.rstrip("0123456789"), int(name[len(name.rstrip("0123456789")) :])
    return drawn(kind, size)


def _net(name: str, data: dict[str, NDArray[np.float64]]) -> Net:
    n = int(data["n"])
    terminals = data["term"].astype(np.intp)
    clamped = np.zeros(n, dtype=np.bool_)
    clamped[terminals] = True
    voltage = np.zeros(n)
    voltage[terminals] = data["vterm"]
    network = from_arrays(n, data["edges"].astype(np.int64), data["g0"])
    return Net(name, network, clamped, voltage, data["v_inf"], data["t"], data["v_t"])


def drawn(kind: str, size: int, *, terminals: float | int = 0.05, seed: int = 0) -> Net:
    """A "grid" or "rand" network of about ``size`` edges; ``terminals``: share of clamped nodes, or their number."""
    rng = np.random.default_rng([seed, size])
    if kind == "grid":
        k = round((size / 2) ** 0.5) + 1
        at = np.arange(k * k).reshape(k, k)
        pairs = [np.stack([at[:, :-1].ravel(), at[:, 1:].ravel()], 1), np.stack([at[:-1].ravel(), at[1:].ravel()], 1)]
        n, edges = k * k, np.concatenate(pairs).astype(np.int64)
    else:
        n = max(3, size // 2)
        order = rng.permutation(n)
        older = (rng.random(n - 1) * np.arange(1, n)).astype(np.int64)
        tree = np.stack([order[1:], order[older]], 1)
        extra = rng.integers(0, n, (size - n + 1, 2))
        extra[:, 1] = np.where(extra[:, 0] == extra[:, 1], (extra[:, 1] + 1) % n, extra[:, 1])
        edges = np.concatenate([tree, extra]).astype(np.int64)
    count = terminals if isinstance(terminals, int) else max(2, round(terminals * n))
    chosen = rng.choice(n, count, replace=False) if count > 2 else np.array([0, n - 1])
    clamped = np.zeros(n, dtype=np.bool_)
    clamped[chosen] = True
    voltage = np.zeros(n)
    voltage[chosen] = rng.uniform(-2.0, 2.0, count)
    voltage[chosen[0]], voltage[chosen[-1]] = 2.0, -2.0
    network = from_arrays(n, edges, rng.uniform(0.5e-3, 1.5e-3, len(edges)))
    return Net(f"{kind}{size}", network, clamped, voltage, None, np.array([0.0, 0.5, 1.0, 2.0, 5.0, 10.0]), None)
