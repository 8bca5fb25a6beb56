"""Pressures that share an edge: one goal, one duration, and no difference that exceeds the larger of its two ends."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruments.coupled import DEFAULT_EMERGENCY_SLEW, emergency_slew, excess, linked, meeting

LIMITS = (9e4, 1.1e5)
pressure = st.floats(*LIMITS)


def test_the_common_goal_is_the_ambient_pressure() -> None:
    courses, duration = meeting([1.05e5, 1.02e5], [LIMITS, LIMITS], [1e5, 1e5], [1e4, 1e4])
    assert [course.goal for course in courses] == [1e5, 1e5]
    assert duration == pytest.approx(0.5)
    assert [course.slew for course in courses] == pytest.approx([1e4, 4e3])


def test_without_a_known_ambient_pressure_they_meet_where_most_of_them_stand() -> None:
    courses, _ = meeting([1.05e5, 1.04e5, 9.5e4], [LIMITS] * 3, [None, 0.0, 2e5], [1e4] * 3)
    assert {course.goal for course in courses} == {1.04e5}


def test_limits_without_overlap_bring_everybody_as_near_as_its_own_allow() -> None:
    courses, _ = meeting([1.05e5, 1.25e5], [LIMITS, (1.2e5, 1.3e5)], [1e5, 1e5], [1e4, 1e4])
    assert [course.goal for course in courses] == [1.1e5, 1.2e5]


def test_who_has_arrived_stands_still() -> None:
    courses, duration = meeting([1e5], [LIMITS], [1e5], [1e4])
    assert duration == 0.0
    assert courses[0].slew > 0.0


@given(st.lists(st.tuples(pressure, st.floats(10.0, 1e5)), min_size=2, max_size=5))
def test_on_the_way_no_slew_and_no_difference_is_exceeded(stand: list[tuple[float, float]]) -> None:
    starts = [one for one, _ in stand]
    slews = [slew for _, slew in stand]
    courses, duration = meeting(starts, [LIMITS] * len(stand), [1e5] * len(stand), slews)
    for course, slew in zip(courses, slews, strict=True):
        assert course.slew <= max(slew, 1.0) * (1 + 1e-9)
    times = np.linspace(0.0, duration, 20)
    ways = np.array([np.clip(c.start + np.sign(c.goal - c.start) * c.slew * times, min(c.start, c.goal), max(c.start, c.goal))
                     for c in courses])  # fmt: skip
    spread = ways.max(axis=0) - ways.min(axis=0)
    # A slew is never below 1 Pa/s, so that one who has hardly any way to go may be there a moment early.
    assert np.all(spread <= max(starts) - min(starts) + 1.0 * duration + 1e-6)


def test_names_that_edges_hold_together_are_one_group() -> None:
    assert linked(["a", "b", "c", "d"], [("a", "c"), ("c", "d"), ("a", "x")]) == [["a", "c", "d"], ["b"]]
    assert linked([], []) == []


def test_a_difference_above_its_limit_is_told() -> None:
    stand = {"P1": 1.05e5, "P2": 1e5}
    assert excess(stand, [("P1", "P2", 5e3), ("P1", "P3", 1.0), ("P1", "P2", float("inf"))]) == ""
    assert "5000 Pa between 'P1' and 'P2', more than their limit of 1000 Pa" in excess(stand, [("P1", "P2", 1e3)])


@pytest.mark.parametrize(
    ("declared", "usual", "used"),
    [(2e3, 5e3, 2e3), (float("inf"), 5e3, 5e3), (float("inf"), float("inf"), DEFAULT_EMERGENCY_SLEW), (0.0, 5e3, 5e3)],
)
def test_the_emergency_slew_is_the_declared_one_or_the_usual_one(declared: float, usual: float, used: float) -> None:
    assert emergency_slew(declared, usual) == used
