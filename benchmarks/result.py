"""What a benchmark reports, and how a time is taken."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One line. ``ratio``: the peer's time over ours (ours over the bare work where ``note`` says so); ``error``: how far
    the two answers are apart (or ours from the golden data), ``bound`` what that may be; None where there is no peer."""

    name: str
    size: int
    ours_s: float
    peer: str | None
    peer_s: float | None
    ratio: float | None
    error: float | None
    bound: float | None = None
    note: str = ""

    @property
    def agrees(self) -> bool:
        """Whether both sides got the same answer, as far as there are two."""
        return self.error is None or self.bound is None or self.error <= self.bound

    def line(self) -> dict[str, object]:
        """JSON-able."""
        out: dict[str, object] = {
            "name": self.name,
            "size": self.size,
            "ours_s": self.ours_s,
            "peer": self.peer,
            "peer_s": self.peer_s,
            "ratio": self.ratio,
            "error": self.error,
        }
        if self.note:
            out["note"] = self.note
        return out

    def sentence(self) -> str:
        """For people."""
        against = "no peer" if self.peer is None or self.peer_s is None else f"{self.peer} {_seconds(self.peer_s)}"
        ratio = "" if self.ratio is None else f", ratio {self.ratio:.3g}"
        error = "" if self.error is None else f", error {self.error:.1e}" + ("" if self.agrees else " TOO LARGE")
        note = f" ({self.note})" if self.note else ""
        return f"{self.name:28s} size {self.size:>8d}: ours {_seconds(self.ours_s)}, {against}{ratio}{error}{note}"


def _seconds(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def best_time(work: Callable[[], object], *, least: float = 0.2, rounds: int = 5) -> float:
    """Seconds a call, the best of ``rounds``; the first call (compilation, caches) is not counted."""
    work()
    begin = time.perf_counter()
    work()
    once = max(time.perf_counter() - begin, 1e-7)
    calls = max(1, int(least / rounds / once))
    best = once
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(calls):
            work()
        best = min(best, (time.perf_counter() - begin) / calls)
    return best
