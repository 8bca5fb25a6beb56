"""Which faults are put on a training run, and when: drawn from a seed, timed by the messages of the instruments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

PASSING = ("silence", "garbage", "delay", "drop", "half_open")
"""Troubles of a link that may be overcome; several of them are put on one piece of a run."""
LASTING = ("restart", "error", "overflow", "nan", "stuck", "drift", "open", "short", "leak", "disk full", "database locked")
"""Faults that have to end in a pause, one at the end of each piece (or, where they change nothing, in nothing)."""
LATE = 0.5
"""s by which a delayed reply comes; longer than the campaign's time-out."""


@dataclass(frozen=True)
class Bench:
    """What there is on one bench. ``meters`` and ``sources``: instruments; ``outputs``: (instrument, port, V or Pa)."""

    name: str
    file: str
    instruments: tuple[str, ...]
    meters: tuple[str, ...]
    outputs: tuple[tuple[str, str, str], ...]
    edges: tuple[str, ...]
    models: Mapping[str, str]


@dataclass(frozen=True)
class Fault:
    """One fault. ``after``: messages of ``instrument`` from now on, or readings for those of the record."""

    kind: str
    instrument: str
    amount: float = 1.0
    where: str = ""
    after: int = 1

    @property
    def of_record(self) -> bool:
        """Whether it is put on the files of the run and not on the bench."""
        return self.kind in ("disk full", "database locked")


def draw(bench: Bench, rng: np.random.Generator, passing: int) -> list[Fault]:
    """Faults for one piece of a run: ``passing`` troubles of links, then one that lasts."""
    horizon = int(rng.integers(40, 160))
    faults = []
    for _ in range(passing):
        kind = str(rng.choice(PASSING))
        amount = {"delay": LATE, "drop": float(rng.integers(2)), "half_open": float(rng.integers(1, 3))}.get(kind, 1.0)
        faults.append(Fault(kind, _one(rng, bench.instruments), amount, after=int(rng.integers(1, horizon + 1))))
    faults.append(_lasting(bench, rng, int(rng.integers(1, horizon + 1))))
    return faults


def _lasting(bench: Bench, rng: np.random.Generator, horizon: int) -> Fault:
    kind = str(rng.choice(LASTING))
    anyone = _one(rng, bench.instruments)
    if kind in ("disk full", "database locked"):
        return Fault(kind, "", after=max(1, horizon // 15))
    if kind in ("overflow", "nan"):
        return Fault(kind, anyone, float(rng.integers(1, 4)), after=horizon)
    if kind == "stuck":
        instrument, port, _ = bench.outputs[rng.integers(len(bench.outputs))]
        return Fault(kind, instrument, 1.0, port, horizon)
    if kind == "drift":
        instrument, port, unit = bench.outputs[rng.integers(len(bench.outputs))]
        if unit == "V":
            # Towards the inside of the limits: what drifts outside is outside, whatever the program does.
            return Fault(kind, instrument, float(rng.uniform(0.05, 1.0)) * (-1.0 if port == "smua" else 1.0), port, horizon)
        return Fault(kind, instrument, float(rng.uniform(300.0, 2000.0) * rng.choice((-1.0, 1.0))), port, horizon)
    if kind in ("open", "short"):
        return Fault(kind, anyone, 1e3, _one(rng, bench.edges), horizon)
    if kind == "leak":
        return Fault(kind, anyone, 1e3, "1", horizon)
    return Fault(kind, anyone, 1.0, after=horizon)


def _one(rng: np.random.Generator, names: Sequence[str]) -> str:
    return names[int(rng.integers(len(names)))]
