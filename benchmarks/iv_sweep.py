"""A sweep of 1,000 points on the virtual bench: what crosses the wire, and how long it takes.

Every query and every write to the instrument is counted: the list itself, and what ``measure`` does around it (driving to
the first point, judging the first and the last). Wall time is compared with the bare exchanges of the chunks.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from math import ceil
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.result import Result

NAMES = ("iv_sweep",)
_POINTS = 1000
_MOST_TRIPS = 3.0


def run(name: str) -> Iterable[Result]:
    """``ratio``: our time over that of the same exchanges alone; ``error``: round trips a chunk, at most 3."""
    from hil.bench import Target
    from hil.core.types import SettlePolicy, Stimulus
    from hil.prepared import Request, prepare
    from instruments.list_sweep import LONGEST_CHUNK

    with prepare(Request("iv_curve", target=Target.VIRTUAL)).assembled() as lab, lab.backend as backend:
        policy = SettlePolicy(tolerance=1e-6, window=0.02, timeout=30.0, dwell=0.08)
        up = np.linspace(-1.0, 1.0, _POINTS // 2)
        path = [Stimulus.of([voltage]) for voltage in np.concatenate([up, up[::-1]])]
        backend.measure(path[:8], policy)  # sources configured and switched on, functions loaded
        with _counted() as exchanges:
            begin = time.perf_counter()
            readings = backend.measure(path, policy)
            ours = time.perf_counter() - begin
        duration = float(readings.time[-1] - readings.time[0])
        chunks = ceil(duration / LONGEST_CHUNK)
        lists = [exchange for exchange, is_list in exchanges if is_list]
        begin = time.perf_counter()
        for exchange in lists:
            exchange()
        bare = time.perf_counter() - begin
    trips = len(exchanges) / max(len(lists), 1)
    good = len(lists) <= chunks + 1 and bool(np.all(np.isfinite(readings.values)))
    note = (
        f"{len(exchanges)} round trips for {len(lists)} chunks of up to {LONGEST_CHUNK:g} s, {duration:.0f} s of bench time; "
        "ratio: ours over the lists alone; error: round trips a chunk"
    )
    yield Result(name, _POINTS, ours, "the lists alone", bare, ours / bare, trips if good else float("inf"), _MOST_TRIPS, note)


@contextmanager
def _counted() -> Iterator[list[tuple[Callable[[], object], bool]]]:
    """Every exchange with an instrument meanwhile: what repeats it, and whether it is a list (its reply is a long block)."""
    from instruments.visa import Session

    kept: list[tuple[Callable[[], object], bool]] = []
    write, query, query_bytes = Session.write, Session.query, Session.query_bytes

    def note_write(self: Any, message: str) -> None:
        kept.append((partial(write, self, message), False))
        write(self, message)

    def note_query(self: Any, message: str, **options: Any) -> str:
        kept.append((partial(query, self, message, **options), False))
        return query(self, message, **options)

    def note_bytes(self: Any, message: str, count: int, **options: Any) -> bytes:
        kept.append((partial(query_bytes, self, message, count, **options), count > 200))
        return query_bytes(self, message, count, **options)

    with (
        mock.patch.object(Session, "write", note_write),
        mock.patch.object(Session, "query", note_query),
        mock.patch.object(Session, "query_bytes", note_bytes),
    ):
        yield kept
