"""The judge of the fault campaign on a bench with pumps and a valve: what flows, where the valve stands, what was used."""

from typing import Any

import pytest

from benchmarks.fault_benches import BENCHES, Places
from benchmarks.fault_judge import beyond, left_on, reservoirs_beyond, unaccounted


class Door:
    """A plant that was left as the test says; volumes in m^3."""

    def __init__(self, flow: float = 0.0, position: int | None = 4, concentration: float = 0.2, delivered: float = 0.0) -> None:
        self._pump = {"flow": flow, "delivered": delivered, "since": 0.0}
        self._position, self._concentration = position, concentration

    def sources(self) -> Any:
        return {}

    def outlets(self) -> Any:
        return {}

    def flows(self) -> Any:
        return {"pump_weak": {"": self._pump}, "pump_strong": {"": self._pump}, "valve": {"": {"position": self._position}}}

    def concentrations(self) -> Any:
        return dict.fromkeys("123", self._concentration)


@pytest.fixture
def places() -> Places:
    return next(bench for bench in BENCHES if bench.name == "divider_concentration").places()


def test_a_pump_that_runs_and_a_valve_elsewhere_are_found() -> None:
    valves = {"valve": (4, 1)}
    assert left_on(Door(), valves) == []
    assert left_on(Door(position=1), valves) == [], "as it was found"
    assert left_on(Door(position=2), valves) == ["valve stands at 2"]
    assert left_on(Door(position=None), valves) == ["valve stands at None"]
    assert left_on(Door(position=2), {}) == [], "a jammed one is not asked"
    assert left_on(Door(flow=1e-9), valves) == ["pump_weak delivers 1e-09 m^3/s", "pump_strong delivers 1e-09 m^3/s"]


def test_a_reservoir_outside_the_limits_of_its_control_is_found(places: Places) -> None:
    assert reservoirs_beyond(Door(concentration=0.505), places) == {}
    assert reservoirs_beyond(Door(concentration=0.51), places)["concentration of C1"] == "0.51 mol/m^3"
    assert len(reservoirs_beyond(Door(concentration=0.03), places)) == 3


def test_a_pump_that_nobody_reaches_may_fill_the_node_that_it_was_led_to_and_no_other(places: Places) -> None:
    weak = Door(position=2, concentration=0.03)
    assert sorted(reservoirs_beyond(weak, places, {"pump_weak"})) == ["concentration of C1", "concentration of C3"]
    assert len(reservoirs_beyond(weak, places, {"pump_strong"})) == 3
    assert len(reservoirs_beyond(Door(position=4, concentration=0.03), places, {"pump_weak"})) == 3
    assert len(reservoirs_beyond(Door(position=2, concentration=0.01), places, {"pump_weak"})) == 3
    assert len(reservoirs_beyond(Door(position=2, concentration=0.59), places, {"pump_strong"})) == 2


def test_what_stood_in_a_reservoir_before_and_was_not_touched_is_not_judged_again(places: Places) -> None:
    left = Door(concentration=0.03).concentrations()
    assert reservoirs_beyond(Door(concentration=0.03), places, (), left) == {}, (
        "a pump that died left it, and nothing flowed since"
    )
    assert len(reservoirs_beyond(Door(concentration=0.031), places, (), left)) == 3, "something flowed"
    assert len(reservoirs_beyond(Door(concentration=0.03), places, (), Door().concentrations())) == 3


@pytest.mark.parametrize(
    ("delivered", "booked", "fine"),
    [
        (1.0e-6, 1.0e-6, True),
        (1.009e-6, 1.0e-6, True),  # the pump's own error
        (0.4e-6, 1.0e-6, True),  # an exchange that failed is booked as ordered
        (1.02e-6, 1.0e-6, False),
        (1.0e-6, 0.0, False),
        (51e-6, 60e-6, False),  # more than was in the syringe
    ],
)
def test_what_was_delivered_has_to_be_booked_and_to_have_been_there(
    places: Places, delivered: float, booked: float, fine: bool
) -> None:
    liquids = {"mix": {"stock_used": {"pump_weak": booked, "pump_strong": booked}}}
    found = unaccounted(Door(delivered=delivered), Door().flows(), places, liquids)
    assert (found == {}) == fine
    assert fine or "pump_weak delivered" in found


@pytest.mark.parametrize(
    ("least", "drift", "fine"), [(-0.015, 0.0, True), (-0.3, 0.0, False), (-0.3, -0.3, True), (-0.3, 0.3, False)]
)
def test_a_source_that_drifts_stands_beside_zero_when_it_is_switched_off(
    monkeypatch: pytest.MonkeyPatch, least: float, drift: float, fine: bool
) -> None:
    door = Door()
    monkeypatch.setattr(door, "extremes", lambda: {"voltage": {"1": [least, 5.0]}}, raising=False)
    assert (beyond(door, {"voltage": {"1": (0.0, 5.0)}}, {"1": drift}) == {}) == fine
