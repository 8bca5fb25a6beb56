"""Pressures that share an edge move together: one goal, one duration, a slew for each. Pure arithmetic, used here and there.

On straight lines that begin and end together a difference never exceeds the larger of its two ends. Used by the way home of
the program and by the guard process, so nothing heavy is imported.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from statistics import median
from typing import TypeVar

from hil.core.hydrostatics import DEFAULT_EMERGENCY_SLEW

Key = TypeVar("Key", bound=Hashable)

SLOWEST = 1.0
"""Pa/s: slew of a pressure that is at its goal already."""


@dataclass(frozen=True, slots=True)
class Course:
    """Way of one pressure: Pa now, Pa in the end, Pa/s in between."""

    start: float
    goal: float
    slew: float


def emergency_slew(declared: float, usual: float) -> float:
    """The slew of the way to the safe state: the declared one, else the usual one, else ``DEFAULT_EMERGENCY_SLEW``."""
    for slew in (declared, usual):
        if isfinite(slew) and slew > 0.0:
            return slew
    return DEFAULT_EMERGENCY_SLEW


def meeting(
    starts: Sequence[float],
    limits: Sequence[tuple[float, float]],
    ambient: Sequence[float | None],
    slews: Sequence[float],
) -> tuple[list[Course], float]:
    """How linked pressures come to one value: their courses, and the seconds it takes.

    ``ambient``: what each has at rest (Pa), None where that is not known. The common goal is the ambient pressure where it is
    inside everybody's limits, else the median of where they stand, brought inside. Where limits do not overlap everybody
    goes as near as its own allow.
    """
    low = max(one[0] for one in limits)
    high = min(one[1] for one in limits)
    known = [value for value in ambient if value is not None and low <= value <= high]
    common = median(known) if known else median(starts)
    overlap = low <= high
    goals = [min(max(common, low), high) if overlap else min(max(common, own_low), own_high) for own_low, own_high in limits]
    duration = max(abs(goal - start) / slew for goal, start, slew in zip(goals, starts, slews, strict=True))
    courses = [
        Course(start, goal, max(abs(goal - start) / duration if duration > 0.0 else SLOWEST, SLOWEST))
        for goal, start in zip(goals, starts, strict=True)
    ]
    return courses, duration


def linked(names: Sequence[Key], edges: Iterable[tuple[Key, Key]]) -> list[list[Key]]:
    """``names`` in groups that edges hold together, order kept; a name without an edge is a group of its own."""
    group = {name: {name} for name in names}
    for one, other in edges:
        if one in group and other in group and group[one] is not group[other]:
            joined = group[one] | group[other]
            for name in joined:
                group[name] = joined
    seen: set[Key] = set()
    found = []
    for name in names:
        if name not in seen:
            found.append([member for member in names if member in group[name]])
            seen |= group[name]
    return found


def excess(pressures: dict[str, float], edges: Iterable[tuple[str, str, float]]) -> str:
    """A sentence about the first edge (plus, minus, limit) whose difference exceeds its limit; empty if there is none."""
    for plus, minus, limit in edges:
        if limit < inf and plus in pressures and minus in pressures:
            difference = abs(pressures[plus] - pressures[minus])
            if difference > limit:
                return f"{difference:g} Pa between {plus!r} and {minus!r}, more than their limit of {limit:g} Pa"
    return ""
