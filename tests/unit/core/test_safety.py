"""The envelope: every branch, because every write passes it."""

import itertools
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.core.errors import ConfigError, LimitExceededError
from hil.core.safety import EdgeLimit, SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity

LAYOUT = Layout(
    (
        Channel("P1", Quantity.PRESSURE, Kind.DRIVE, 0.0, 10.0, max_slew=1.0),
        Channel("P2", Quantity.PRESSURE, Kind.DRIVE, 0.0, 10.0, max_slew=4.0),
    )
)
LIMIT = EdgeLimit("a", "P1", "P2", 2.0)


def envelope(*edges: EdgeLimit) -> SafetyEnvelope:
    return SafetyEnvelope.of(LAYOUT, edges, source="bench.yaml")


def test_values_inside_pass_one_by_one_and_in_rows() -> None:
    envelope(LIMIT).check(np.array([1.0, 2.0]))
    envelope(LIMIT).check(np.array([[1.0, 2.0], [10.0, 8.0]]))


@pytest.mark.parametrize("bad", [-0.1, 10.1, nan, inf])
def test_a_value_outside_is_named(bad: float) -> None:
    with pytest.raises(LimitExceededError, match=r"'P2'.*limits 0 … 10 Pa.*bench\.yaml.*nothing was applied"):
        envelope().check(np.array([1.0, bad]))


def test_a_wrong_number_of_values_is_refused() -> None:
    with pytest.raises(LimitExceededError, match="3 values, but there are 2 controls: P1, P2"):
        envelope().check(np.zeros(3))


def test_an_envelope_without_a_file_does_not_name_one() -> None:
    with pytest.raises(LimitExceededError, match=r"0 … 10 Pa; nothing"):
        SafetyEnvelope.of(LAYOUT).check(np.array([1.0, nan]))


def test_a_difference_across_an_edge_is_limited() -> None:
    envelope(LIMIT).check(np.array([3.0, 1.0]))
    with pytest.raises(LimitExceededError, match=r"edge 'a': 3 Pa between 'P1' and 'P2' exceeds its limit of 2 Pa"):
        envelope(LIMIT).check(np.array([1.0, 4.0]))


def test_an_edge_against_the_reference_is_limited() -> None:
    limit = EdgeLimit("b", "P2", None, 2.0)
    envelope(limit).check(np.array([9.0, 2.0]))
    with pytest.raises(LimitExceededError, match="'P2' and 'the reference'"):
        envelope(limit).check(np.array([0.0, 2.5]))
    envelope(limit).check(np.array([0.0, 2.5]), np.array([True, False]))


def test_a_floating_side_does_not_count_for_an_edge_but_must_be_in_range() -> None:
    envelope(LIMIT).check(np.array([1.0, 9.0]), np.array([True, False]))
    with pytest.raises(LimitExceededError):
        envelope(LIMIT).check(np.array([1.0, nan]), np.array([True, False]))


def test_a_ramp_keeps_every_slew_and_ends_exactly() -> None:
    points = envelope().ramp(np.array([0.0, 0.0]), np.array([1.0, 0.5]), period=0.1)
    assert points.shape == (10, 2)
    np.testing.assert_array_equal(points[-1], [1.0, 0.5])
    steps = np.diff(np.vstack([[0.0, 0.0], points]), axis=0)
    assert np.all(steps[:, 0] <= 0.1 + 1e-12)


def test_a_ramp_of_nothing_is_one_point_and_needs_a_period() -> None:
    assert envelope().ramp(np.array([1.0, 1.0]), np.array([1.0, 1.0]), 0.1).shape == (1, 2)
    with pytest.raises(ConfigError, match="period above 0"):
        envelope().ramp(np.zeros(2), np.ones(2), 0.0)


def test_a_ramp_to_the_outside_is_refused_before_its_first_point() -> None:
    with pytest.raises(LimitExceededError):
        envelope(LIMIT).ramp(np.zeros(2), np.array([9.0, 0.0]), 0.1)


@given(st.lists(st.floats(0, 10), min_size=4, max_size=4))
def test_a_ramp_between_allowed_points_never_breaks_an_edge_limit(values: list[float]) -> None:
    start, stop = np.array(values[:2]), np.array(values[2:])
    if abs(start[0] - start[1]) > 2 or abs(stop[0] - stop[1]) > 2:
        return
    points = envelope(LIMIT).ramp(start, stop, 0.5)
    assert np.all(np.abs(points[:, 0] - points[:, 1]) <= 2 * (1 + 1e-12))


def test_a_ramp_may_lead_out_of_a_forbidden_difference_but_not_deeper() -> None:
    against_reference = EdgeLimit("b", "P1", None, 2.0)
    points = envelope(LIMIT, against_reference).ramp(np.array([6.0, 1.0]), np.array([1.0, 1.0]), 0.5)
    np.testing.assert_array_equal(points[-1], [1.0, 1.0])


def test_limits_can_be_tightened_only() -> None:
    tighter = SafetyEnvelope(
        LAYOUT, np.array([1.0, 1.0]), np.array([5.0, 5.0]), np.array([0.5, 0.5]), (LIMIT,), source="protocol"
    )
    narrowed = envelope(EdgeLimit("b", "P2", None, 9.0)).narrowed(tighter)
    assert [limit.edge for limit in narrowed.edges] == ["b", "a"]
    with pytest.raises(LimitExceededError):
        narrowed.check(np.array([6.0, 5.0]))
    for wider in (
        SafetyEnvelope(LAYOUT, np.array([-1.0, 0.0]), np.array([5.0, 5.0]), np.array([1.0, 1.0])),
        SafetyEnvelope(LAYOUT, np.array([0.0, 0.0]), np.array([11.0, 5.0]), np.array([1.0, 1.0])),
        SafetyEnvelope(LAYOUT, np.array([0.0, 0.0]), np.array([5.0, 5.0]), np.array([9.0, 1.0])),
    ):
        with pytest.raises(ConfigError, match=r"'P1'.*can only be tightened"):
            envelope().narrowed(wider)


def test_power_and_dwell_take_the_tighter_of_both() -> None:
    one = SafetyEnvelope(LAYOUT, *(LAYOUT.array(n) for n in ("minimum", "maximum", "max_slew")), max_power=np.array([1.0, nan]))
    two = SafetyEnvelope(
        LAYOUT,
        *(LAYOUT.array(n) for n in ("minimum", "maximum", "max_slew")),
        max_power=np.array([2.0, 3.0]),
        max_dwell=np.array([5.0, 5.0]),
    )
    both = one.narrowed(two)
    assert both.max_power is not None
    assert both.max_dwell is not None
    np.testing.assert_array_equal(both.max_power, [1.0, 3.0])
    np.testing.assert_array_equal(both.max_dwell, [5.0, 5.0])
    assert one.narrowed(one).max_dwell is None
    again = two.narrowed(SafetyEnvelope.of(LAYOUT))
    assert again.max_dwell is not None
    np.testing.assert_array_equal(again.max_dwell, [5.0, 5.0])


def test_only_the_same_channels_can_be_narrowed() -> None:
    other = Layout((Channel("X", Quantity.VOLTAGE, Kind.DRIVE),))
    with pytest.raises(ConfigError, match="same channels"):
        envelope().narrowed(SafetyEnvelope.of(other))


def test_a_limit_of_infinity_only_says_that_two_belong_together() -> None:
    together = EdgeLimit("a", "P1", "P2", inf)
    envelope(together).check(np.array([0.0, 10.0]))
    with pytest.raises(LimitExceededError, match="'P2' and 'the reference'"):
        envelope(together, EdgeLimit("b", "P2", None, 2.0)).check(np.array([0.0, 2.5]))


def power_limited(limit: float) -> SafetyEnvelope:
    return SafetyEnvelope.of(Layout((Channel("V1", Quantity.VOLTAGE, Kind.DRIVE, max_power=limit), *LAYOUT)), source="bench.yaml")


def test_power_is_limited_where_it_is_known() -> None:
    limited = power_limited(1e-6)
    np.testing.assert_array_equal(limited.limits_power, [True, False, False])
    limited.check_power(np.array([1e-6, 5.0, 5.0]))
    limited.check_power(np.array([[nan, nan, nan], [0.0, nan, nan]]))
    with pytest.raises(LimitExceededError, match=r"'V1': 2e-06 W flow .* limit of 1e-06 W \(set in bench\.yaml\)"):
        limited.check_power(np.array([[0.0, 0.0, 0.0], [2e-6, 0.0, 0.0]]))


def test_an_envelope_without_powers_limits_none() -> None:
    bare = SafetyEnvelope(LAYOUT, *(LAYOUT.array(name) for name in ("minimum", "maximum", "max_slew")))
    bare.check_power(np.array([1e9, 1e9]))
    assert not bare.limits_power.any()


def test_a_ramp_lets_one_end_of_a_limited_edge_go_before_the_other() -> None:
    free = SafetyEnvelope.of(
        Layout(tuple(Channel(name, Quantity.VOLTAGE, Kind.DRIVE, 0.0, 5.0) for name in ("V1", "V3"))),
        [EdgeLimit("c", "V1", "V3", 1.0)],
    )
    start, stop = np.array([0.0, 0.0]), np.array([4.0, 3.5])
    points = np.vstack([start, free.ramp(start, stop, 0.02)])
    for before, after in itertools.pairwise(points):
        for first, second in ((after[0], before[1]), (before[0], after[1])):
            assert abs(first - second) <= 1.0 + 1e-9
    assert len(points) == 9
    # Where the difference stands at its limit, steps are a twentieth of it, and no smaller.
    assert free.fewest_steps(np.array([1.0, 0.0]), np.array([2.0, 1.0])) == 20
    assert free.fewest_steps(np.array([0.0, nan]), np.array([4.0, nan])) == 1


def test_an_edge_limit_is_not_widened_and_both_files_are_named() -> None:
    with pytest.raises(ConfigError, match=r"edge 'a': the protocol asks for a limit of 3 Pa.*wider than 2 Pa.*bench\.yaml"):
        envelope(LIMIT).narrowed(SafetyEnvelope.of(LAYOUT, [EdgeLimit("a", "P1", "P2", 3.0)], source="the protocol"))
    tighter = envelope(LIMIT).narrowed(SafetyEnvelope.of(LAYOUT, [EdgeLimit("a", "P1", "P2", 1.0)], source="the protocol"))
    with pytest.raises(LimitExceededError, match=r"exceeds its limit of 1 Pa \(set in bench\.yaml and the protocol\)"):
        tighter.check(np.array([1.0, 2.5]))


def test_a_ramp_counts_only_differences_of_what_is_connected() -> None:
    start, stop = np.array([0.0, 0.0]), np.array([9.0, 0.0])
    with pytest.raises(LimitExceededError, match="edge 'a'"):
        envelope(LIMIT).ramp(start, stop, 1.0)
    points = envelope(LIMIT).ramp(start, stop, 1.0, np.array([True, False]))
    np.testing.assert_allclose(points[:, 0], np.arange(1.0, 10.0))  # as the slew of 1 Pa/s asks, no finer
    with pytest.raises(LimitExceededError, match="'P2'"):
        envelope(LIMIT).ramp(start, np.array([1.0, 11.0]), 1.0, np.array([True, False]))
