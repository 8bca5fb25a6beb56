"""What did not come to rest is named, with its unit."""

from itertools import count

import numpy as np
import pytest

from hil.core.clock import SteppedClock
from hil.core.errors import NotSettledError
from hil.core.types import Channel, FloatArray, Kind, Layout, Quantity, SettlePolicy
from instruments.settling import require_settled, until_flat

OUTPUTS = Layout((Channel("V2", Quantity.VOLTAGE, Kind.SENSE, node="2"), Channel("I1", Quantity.CURRENT, Kind.SENSE, node="1")))
POLICY = SettlePolicy(tolerance=1e-3, window=0.1, timeout=0.95)


def refused(slopes: FloatArray) -> str:
    """What is said of outputs that go on by ``slopes`` from reading to reading."""
    readings = (slopes * number for number in count())
    report, _ = until_flat(lambda: np.array(next(readings)), OUTPUTS, SteppedClock(), POLICY, 0.0, lambda _now: None)
    with pytest.raises(NotSettledError) as caught:
        require_settled("stimulus", report, POLICY, 1, 3)
    return str(caught.value)


def test_the_output_that_moved_most_is_named_with_its_unit() -> None:
    assert refused(np.array([2e-3, 5e-3])).startswith(
        "stimulus 2 of 3: output 'I1' still moved by 0.005 A in 0.1 s after 1 s (tolerance 0.001 A); allow"
    )
    assert "output 'V2' still moved by 0.002 V" in refused(np.array([2e-3, 1e-4]))


def test_of_replicas_the_output_is_named_too() -> None:
    assert "output 'I1' still moved by 0.009 A" in refused(np.array([2e-3, 1e-4, 0.0, 9e-3]))


def test_an_overload_that_comes_and_goes_is_no_source_out_of_limits() -> None:
    readings = (np.array([np.nan if number % 2 else 0.0, 0.0]) for number in count())
    report, _ = until_flat(lambda: next(readings), OUTPUTS, SteppedClock(), POLICY, 0.0, lambda _now: None)
    with pytest.raises(NotSettledError, match="output 'V2' still moved into or out of overload in"):
        require_settled("stimulus", report, POLICY, 0, 1)


def test_a_tolerance_is_held_against_the_outputs_in_its_unit_only() -> None:
    amperes = SettlePolicy(tolerance=1e-9, window=0.1, timeout=0.95, quantity=Quantity.CURRENT)
    readings = (np.array([2e-3, 1e-10, np.nan if number % 2 else 0.0, 2e-10]) * number for number in count(1))
    report, _ = until_flat(lambda: next(readings), OUTPUTS, SteppedClock(), amperes, 0.0, lambda _now: None)
    assert report.settled
    rising = (np.array([0.0, 2e-9]) * number for number in count())
    report, _ = until_flat(lambda: next(rising), OUTPUTS, SteppedClock(), amperes, 0.0, lambda _now: None)
    assert not report.settled
    assert report.moved is OUTPUTS["I1"]


def test_with_a_tolerance_for_each_quantity_every_output_is_held_against_its_own() -> None:
    both = SettlePolicy(1e-9, 0.1, 0.95, quantity=Quantity.CURRENT, also=((Quantity.VOLTAGE, 1e-3),))

    def settled(volts: float, amperes: float) -> str:
        rising = (np.array([volts, amperes, 0.0, 0.0]) * number for number in count())
        report, _ = until_flat(lambda: next(rising), OUTPUTS, SteppedClock(), both, 0.0, lambda _now: None)
        return "" if report.settled else report.trouble(both)

    assert settled(0.9e-3, 0.9e-9) == ""
    assert settled(2e-3, 0.9e-9).startswith("output 'V2' still moved by 0.002 V in 0.1 s after 1 s (tolerance 0.001 V); ")
    assert settled(0.9e-3, 3e-9).startswith("output 'I1' still moved by 3e-09 A in 0.1 s after 1 s (tolerance 1e-09 A); ")
