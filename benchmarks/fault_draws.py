"""Which faults are put on a training run, and when: drawn from a seed, timed by the messages of the instruments.

What has not come to a kind of instrument yet is drawn before what has, so that a campaign that is long enough has no gaps.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import ceil
from typing import NamedTuple, TypeVar

import numpy as np

from benchmarks.fault_benches import BENCHES, Places
from hil.core.types import Quantity

T = TypeVar("T")
PASSING = ("silence", "garbage", "delay", "drop", "half_open")
"""Troubles of a link that may be overcome; several of them are put on one piece of a run."""
OF_RECORD = ("disk full", "database locked")
OF_DEVICES = ("open", "short", "leak")
LASTING = ("restart", "dead", "error", "overflow", "nan", "stuck", "drift", *OF_DEVICES, *OF_RECORD, "clog", "empty", "turned")
"""Faults that have to end in a pause, one at the end of each piece (or, where they change nothing, in nothing)."""
LATE = 0.5
"""s by which a delayed reply comes; longer than the campaign's time-out."""
DRIFTS = {Quantity.VOLTAGE: (0.05, 1.0), Quantity.PRESSURE: (300.0, 2000.0)}
"""By how much (V, Pa) an output drifts: from what its source's data sheet cannot explain."""
RATE_DRIFTS = (0.05, 0.2)
"""The same for a pump, as a share of the flow of its mixer."""


class Cell(NamedTuple):
    """A fault, and what it befalls: a driver class, ``device`` or ``record``."""

    kind: str
    model: str


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
        return self.kind in OF_RECORD


def cell(places: Places, instrument: str, kind: str) -> Cell:
    """What a fault that acted stands for."""
    return Cell(kind, "device" if kind in OF_DEVICES else places.models.get(instrument, "record"))


def targets(places: Places, kind: str) -> list[tuple[str, str]]:
    """Instrument and place on which ``kind`` can be put; empty where it cannot occur on this bench."""
    if kind in OF_RECORD:
        return [("", "")]
    if kind in OF_DEVICES:
        where = places.nodes if kind == "leak" else places.edges
        return [(instrument, one) for instrument in places.instruments for one in where]
    if kind in ("stuck", "drift"):
        stages = [(one.instrument, one.port) for one in places.sources]
        return [*stages, *((name, "") for name in (*places.stocks, *(places.closed if kind == "stuck" else ())))]
    names: Mapping[str, Sequence[str]] = {
        "error": places.queues,
        "overflow": places.readers,
        "nan": places.readers,
        "clog": tuple(places.stocks),
        "empty": places.syringes,
        "turned": tuple(places.closed),
    }
    return [(name, "") for name in names.get(kind, places.instruments)]


def cells(places: Places, kinds: Sequence[str] = (*PASSING, *LASTING)) -> set[Cell]:
    """Everything that can befall this bench."""
    return {cell(places, instrument, kind) for kind in kinds for instrument, _ in targets(places, kind)}


@cache
def homes() -> Counter[str]:
    """Driver class -> on how many benches of the campaign it stands."""
    return Counter(model for bench in BENCHES for model in set(bench.places().models.values()))


def draw(
    places: Places, rng: np.random.Generator, passing: int, pace: Mapping[str, float], due: Collection[Cell] = ()
) -> list[Fault]:
    """Faults for one piece of a run: ``passing`` troubles of links, then one that lasts.

    ``pace``: instrument -> its messages for one of the busiest instrument. With it, faults on an instrument that is seldom
    spoken to come as soon as those on the others; not at its very first message, by which only opening is tried.
    ``due``: what has not acted yet; it is drawn first, and of that rather what stands on few benches.
    """
    horizon = int(rng.integers(40, 160))
    left, faults = set(due), []
    for number in range(passing + 1):
        chosen = _cell(places, rng, PASSING if number < passing else LASTING, left)
        left.discard(chosen)
        faults.append(_fault(places, rng, chosen, int(rng.integers(1, horizon + 1))))
    return [
        one if one.of_record or pace[one.instrument] == 1.0 else replace(one, after=1 + ceil(one.after * pace[one.instrument]))
        for one in faults
    ]


def _cell(places: Places, rng: np.random.Generator, kinds: Sequence[str], due: Collection[Cell]) -> Cell:
    able = cells(places, kinds)
    open_cells = able & set(due)
    if open_cells:
        # What stands on many benches has as many chances.
        each = sorted(open_cells)
        weight = np.array([1.0 / (homes()[one.model] or len(BENCHES)) for one in each])
        return each[int(rng.choice(len(each), p=weight / weight.sum()))]
    # Every fault as often as every other, however many instruments it can come to.
    kind = _one(rng, [kind for kind in kinds if any(one.kind == kind for one in able)])
    return _one(rng, sorted(one for one in able if one.kind == kind))


def _fault(places: Places, rng: np.random.Generator, chosen: Cell, after: int) -> Fault:
    kind = chosen.kind
    able = [one for one in targets(places, kind) if cell(places, one[0], kind) == chosen]
    instrument, where = _one(rng, able)
    if kind in OF_RECORD:
        return Fault(kind, "", after=max(1, after // 15))
    return Fault(kind, instrument, _amount(places, rng, kind, instrument, where), where, after)


def _amount(places: Places, rng: np.random.Generator, kind: str, instrument: str, where: str) -> float:
    if kind == "drift":
        return _drift(places, rng, instrument, where)
    if kind == "empty":
        # An exchange is a millilitre: the syringe is empty in the middle of one.
        return float(rng.uniform(0.0, 1e-6))
    fixed = {"delay": LATE, "open": 1e3, "short": 1e3, "leak": 1e3}
    spans = {"drop": (0, 2), "half_open": (1, 3), "overflow": (1, 4), "nan": (1, 4), "turned": (1, 5)}
    return float(rng.integers(*spans[kind])) if kind in spans else fixed.get(kind, 1.0)


def _drift(places: Places, rng: np.random.Generator, instrument: str, where: str) -> float:
    sign = float(rng.choice((-1.0, 1.0)))
    control = next((one for one in places.sources if (one.instrument, one.port) == (instrument, where)), None)
    if control is None:
        flow = next(mixer.flow for mixer in places.file.mixers.values() if instrument in mixer.pumps)
        return sign * flow * float(rng.uniform(*RATE_DRIFTS))
    if control.quantity is Quantity.VOLTAGE:
        # Towards the inside of the limits: what drifts outside is outside, whatever the program does.
        sign = places.inwards(control)
    return sign * float(rng.uniform(*DRIFTS[control.quantity]))


def _one(rng: np.random.Generator, members: Sequence[T]) -> T:
    return members[int(rng.integers(len(members)))]
