"""Which faults are put on a training run, and when: drawn from a seed, timed by the messages of the instruments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TypeVar

import numpy as np

from benchmarks.fault_benches import Places
from hil.core.types import Quantity

T = TypeVar("T")
PASSING = ("silence", "garbage", "delay", "drop", "half_open")
"""Troubles of a link that may be overcome; several of them are put on one piece of a run."""
LASTING = ("restart", "error", "overflow", "nan", "stuck", "drift", "open", "short", "leak", "disk full", "database locked")
"""Faults that have to end in a pause, one at the end of each piece (or, where they change nothing, in nothing)."""
OF_LIQUIDS = ("clog", "empty", "jam", "turned")
"""Lasting faults of pumps and valves: drawn beside the others on a bench with mixers. jam: a valve that is stuck."""
LATE = 0.5
"""s by which a delayed reply comes; longer than the campaign's time-out."""
DRIFTS = {Quantity.VOLTAGE: (0.05, 1.0), Quantity.PRESSURE: (300.0, 2000.0)}
"""By how much (V, Pa) an output drifts: from what its source's data sheet cannot explain."""


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


def draw(places: Places, rng: np.random.Generator, passing: int, pace: Mapping[str, float]) -> list[Fault]:
    """Faults for one piece of a run: ``passing`` troubles of links, then one that lasts.

    ``pace``: instrument -> its messages for one of the busiest instrument. With it, faults on an instrument that is seldom
    spoken to come as soon as those on the others; not at its very first message, by which only opening is tried.
    """
    horizon = int(rng.integers(40, 160))
    faults = []
    for _ in range(passing):
        kind = str(rng.choice(PASSING))
        amount = {"delay": LATE, "drop": float(rng.integers(2)), "half_open": float(rng.integers(1, 3))}.get(kind, 1.0)
        faults.append(Fault(kind, _one(rng, places.instruments), amount, after=int(rng.integers(1, horizon + 1))))
    faults.append(_lasting(places, rng, int(rng.integers(1, horizon + 1))))
    return [
        one if one.of_record or pace[one.instrument] == 1.0 else replace(one, after=1 + ceil(one.after * pace[one.instrument]))
        for one in faults
    ]


def _lasting(places: Places, rng: np.random.Generator, horizon: int) -> Fault:
    kind = str(rng.choice((*LASTING, *OF_LIQUIDS) if places.stocks else LASTING))
    if kind in ("disk full", "database locked"):
        return Fault(kind, "", after=max(1, horizon // 15))
    if kind in ("overflow", "nan"):
        return Fault(kind, _one(rng, places.readers), float(rng.integers(1, 4)), after=horizon)
    if kind in ("clog", "empty"):
        # An exchange is a millilitre: the syringe is empty in the middle of one.
        return Fault(kind, _one(rng, tuple(places.stocks)), float(rng.uniform(0.0, 1e-6)), after=horizon)
    if kind in ("jam", "turned"):
        return Fault(
            "stuck" if kind == "jam" else kind, _one(rng, tuple(places.closed)), float(rng.integers(1, 5)), after=horizon
        )
    if kind == "error" and places.queues:
        return Fault(kind, _one(rng, places.queues), after=horizon)
    if kind in ("stuck", "drift") and places.sources:
        control = _one(rng, places.sources)
        amount = 1.0
        if kind == "drift":
            amount = float(rng.uniform(*DRIFTS[control.quantity]))
            # Of voltages towards the inside of the limits: what drifts outside is outside, whatever the program does.
            amount *= places.inwards(control) if control.quantity is Quantity.VOLTAGE else float(rng.choice((-1.0, 1.0)))
        return Fault(kind, control.instrument, amount, control.port, horizon)
    anyone = _one(rng, places.instruments)
    if kind in ("open", "short"):
        return Fault(kind, anyone, 1e3, _one(rng, places.edges), horizon)
    if kind == "leak":
        return Fault(kind, anyone, 1e3, _one(rng, places.nodes), horizon)
    return Fault("restart", anyone, 1.0, after=horizon)


def _one(rng: np.random.Generator, members: Sequence[T]) -> T:
    return members[int(rng.integers(len(members)))]
