"""Dose and distance to the limits, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from hil.core.safety import EdgeLimit, SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, Readings, SafeAction, SafeState, Stimulus
from hil.exposure import Dose, Nearest

CONTROLS = Layout(
    (
        Channel("V", Quantity.VOLTAGE, Kind.DRIVE, -5.0, 5.0, node="1"),
        Channel("P", Quantity.PRESSURE, Kind.DRIVE, 0.9e5, 1.1e5, safe=SafeState(SafeAction.VENT, 1e5), node="1"),
        Channel("Q", Quantity.PRESSURE, Kind.DRIVE, 0.9e5, 1.1e5, safe=SafeState(SafeAction.VENT, 1e5), node="2"),
    )
)


def readings(*times: float) -> Readings:
    nothing = np.zeros((len(times), 1))
    return Readings(nothing, nothing, nothing.astype(bool), np.array(times))


def test_the_dose_is_what_stood_there_from_one_reading_to_the_next() -> None:
    dose = Dose(CONTROLS, 10.0)
    dose([Stimulus.of([-2.0, 1.05e5, 1e5]), Stimulus.of([4.0, 1e5, 1e5])], readings(13.0, 14.0))
    dose([Stimulus.of([4.0, 0.9e5, 1e5], [False, True, True])], readings(16.0))
    assert dose.of("V") == {"dose": pytest.approx(2.0 * 3.0 + 4.0 * 1.0), "dose_unit": "V s"}
    assert dose.of("P") == {"dose": pytest.approx(0.05 * 3.0 + 0.1 * 2.0), "dose_unit": "bar s"}
    assert dose.of("Q")["dose"] == 0.0


def test_only_what_comes_within_a_tenth_of_a_limit_is_told() -> None:
    envelope = SafetyEnvelope.of(CONTROLS, [EdgeLimit("a", "P", "Q", 1e4), EdgeLimit("b", "P", "Q", np.inf)])
    nearest = Nearest(envelope)
    nearest([Stimulus.of([4.4, 1.05e5, 1e5]), Stimulus.of([-4.0, 1e5, 1e5])], readings(1.0, 2.0))
    assert nearest.sentences() == []
    nearest([Stimulus.of([4.6, 1.02e5, 0.93e5])], readings(3.0))
    found = nearest.sentences()
    assert found == [
        "V at 4.6 V, limit 5 V (8 % left)",
        "edge a: 9000 Pa across it, 10000 Pa allowed (10 % left)",
    ]
    nearest([Stimulus.of([-5.0, 1e5, 0.93e5], [False, True, True])], readings(4.0))
    assert nearest.sentences() == found


def test_a_channel_that_never_rests_inside_its_limits_comes_near_them_from_between() -> None:
    layout = Layout((Channel("C", Quantity.CONCENTRATION, Kind.DRIVE, 0.05, 0.45),))
    nearest = Nearest(SafetyEnvelope.of(layout))
    nearest([Stimulus.of([0.08]), Stimulus.of([0.228])], readings(1.0, 2.0))
    assert nearest.sentences() == []
    nearest([Stimulus.of([0.06])], readings(3.0))
    assert nearest.sentences() == ["C at 0.06 mol/m^3, limit 0.05 mol/m^3 (5 % left)"]


def test_time_away_counts_from_the_reading_before() -> None:
    layout = Layout((Channel("V", Quantity.VOLTAGE, Kind.DRIVE, -5.0, 5.0, max_dwell=10.0),))
    nearest = Nearest(SafetyEnvelope.of(layout), begun=1.0)
    nearest([Stimulus.of([1.0]), Stimulus.of([2.0])], readings(3.0, 9.5))
    assert nearest.sentences() == []
    nearest([Stimulus.of([0.0]), Stimulus.of([2.0])], readings(10.0, 19.0))
    assert nearest.sentences() == ["V: 9 s away from its safe state, 10 s allowed (10 % left)"]


def test_a_replica_at_rest_does_not_end_the_time_of_one_that_is_away() -> None:
    layout = Layout((Channel("V", Quantity.VOLTAGE, Kind.DRIVE, -5.0, 5.0, max_dwell=10.0),))
    nearest = Nearest(SafetyEnvelope.of(layout), begun=1.0)
    pair = [Stimulus.of([0.0]), Stimulus.of([1.0])]
    nearest(pair, replace(readings(4.0, 4.0), replica=("left", "right")))
    nearest(pair[::-1], replace(readings(9.0, 9.0), replica=("right", "left")))
    assert nearest.sentences() == []
    nearest(pair, replace(readings(10.5, 10.5), replica=("left", "right")))
    assert nearest.sentences() == ["V: 9.5 s away from its safe state, 10 s allowed (5 % left)"]


def test_what_flows_is_held_against_compliance_and_power() -> None:
    layout = Layout(tuple(Channel(name, Quantity.VOLTAGE, Kind.DRIVE, -9.0, 9.0, max_power=2.0) for name in ("V", "W")))
    flowing = [("V", -2.0, 0.5), ("W", 2.0, -0.5)]
    nearest = Nearest(SafetyEnvelope.of(layout), 0.0, lambda: flowing, {"V": 0.52, "W": 2.0})
    nearest([Stimulus.of([0.0, 0.0])], readings(1.0))
    assert nearest.sentences() == ["V: 0.5 A flow, compliance 0.52 A (3.85 % left)"]
    flowing[1] = ("W", 2.0, -0.96)
    nearest([Stimulus.of([0.0, 0.0])], readings(2.0))
    assert "W: 1.92 W flow, 2 W allowed (4 % left)" in nearest.sentences()


def test_replicas_read_at_one_moment_have_all_stood_as_long() -> None:
    dose = Dose(CONTROLS, 0.0)
    one, two = Stimulus.of([1.0, 1e5, 1e5]), Stimulus.of([3.0, 1e5, 1e5])
    dose([one, two] * 2, replace(readings(2.0, 2.0, 5.0, 5.0), replica=("A", "B") * 2))
    assert dose.of("V")["dose"] == pytest.approx(15.0)  # the second: 3 V for 5 s
    dose([one], readings(6.0))
    assert dose.of("V")["dose"] == pytest.approx(16.0)
