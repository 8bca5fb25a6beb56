"""What a broken device does to a reading, and what must not be taken for one."""

from collections.abc import Sequence

import numpy as np
import pytest

from hil.core.errors import ImplausibleError
from hil.core.types import Channel, FloatArray, Kind, Layout, Quantity, Readings, Stimulus
from hil.plausibility import PlausibilityWatch

CONTROLS = Layout(
    (
        Channel("V1", Quantity.VOLTAGE, Kind.DRIVE, node="1"),
        Channel("P1", Quantity.PRESSURE, Kind.DRIVE, node="1"),
        Channel("V3", Quantity.VOLTAGE, Kind.DRIVE, node="3"),
    )
)
OUTPUTS = Layout((Channel("V2", Quantity.VOLTAGE, Kind.SENSE, node="2"), Channel("I1", Quantity.CURRENT, Kind.SENSE, node="1")))


class Believes:
    """A twin that always expects the same."""

    def __init__(self, volt: float) -> None:
        self.volt = volt
        self.asked = 0

    def predict(self, stimuli: Sequence[Stimulus]) -> FloatArray:
        self.asked += len(stimuli)
        return np.tile([self.volt, 1e-9], (len(stimuli), 1))

    def vjp(self, stimuli: Sequence[Stimulus], cotangent: FloatArray) -> FloatArray:
        raise NotImplementedError


def readings(volt: float, overload: bool = False) -> Readings:
    return Readings(np.array([[volt, 0.0]]), np.zeros((1, 2)), np.array([[overload, False]]), np.zeros(1))


def judge(volt: float, expected: float = 2.5, *, v1: float = 5.0, connected: bool = True, overload: bool = False) -> Believes:
    twin = Believes(expected)
    stimulus = Stimulus.of([v1, 1e5, 0.0], [True, True, connected])
    PlausibilityWatch(twin, CONTROLS, OUTPUTS)([stimulus], readings(volt, overload))
    return twin


@pytest.mark.parametrize(("volt", "end"), [(5.0, "highest"), (4.96, "highest"), (0.0, "lowest"), (-0.2, "lowest")])
def test_an_output_on_a_rail_that_the_twin_expects_inside_is_refused(volt: float, end: str) -> None:
    with pytest.raises(ImplausibleError, match=rf"'V2' reads .* the {end} voltage applied, where about 2\.5 V was expected"):
        judge(volt)


def test_an_output_inside_costs_no_question_to_the_twin() -> None:
    assert judge(4.9).asked == 0
    assert judge(0.1).asked == 0


def test_an_output_that_belongs_near_the_rail_is_believed() -> None:
    assert judge(4.98, expected=4.9).asked == 1


def test_what_is_marked_as_overload_is_not_judged_again() -> None:
    assert judge(5.0, overload=True).asked == 0


def test_ground_is_a_rail_too() -> None:
    stimulus = Stimulus.of([5.0, 1e5, 0.0], [True, True, False])
    with pytest.raises(ImplausibleError, match=r"the lowest voltage applied"):
        PlausibilityWatch(Believes(2.5), CONTROLS, OUTPUTS, grounded=True)([stimulus], readings(0.01))


def test_a_span_of_nothing_says_nothing() -> None:
    assert judge(0.0, v1=0.05).asked == 0
    assert judge(5.0, connected=False).asked == 0


def test_a_broken_replica_is_told_from_the_others() -> None:
    values = np.array([[2.5, 0.0], [5.0, 0.0]])
    pair = Readings(values, np.full((2, 2), np.nan), np.zeros((2, 2), dtype=np.bool_), np.zeros(2), ("A", "B"))
    stimuli = [Stimulus.of([5.0, 1e5, 0.0])] * 2
    with pytest.raises(ImplausibleError, match="output 'V2' of 'B' reads 5 V, the highest voltage applied"):
        PlausibilityWatch(Believes(2.5), CONTROLS, OUTPUTS)(stimuli, pair)
