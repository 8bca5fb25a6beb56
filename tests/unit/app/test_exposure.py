"""Dose and distance to the limits, by hand."""

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
