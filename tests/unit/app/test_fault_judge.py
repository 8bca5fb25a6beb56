"""The judge of the fault campaign, looked at by what it says about a plant that is made up."""

from typing import Any

import numpy as np
import pytest

from benchmarks.fault_benches import BENCHES
from benchmarks.fault_draws import Fault
from benchmarks.fault_judge import Judge, Tally, beyond, cause, left_on
from benchmarks.fault_runs import drifting, unreached
from hil.core.events import Measured
from hil.core.types import Quantity, Readings, Stimulus
from hil.run import Result

DIVIDER = BENCHES[0]
GOOD = {"V2": 3.0}


class Door:
    """A plant as the test says: node voltages, what the meter saw at node 2, and what has happened.

    ``changed``: instrument and port -> when it was told something new last, else 10 s. ``looked``, ``looks``: when the meter
    measured last, and how often it has.
    """

    def __init__(self, *, first: float = 5.0, seen: float = 3.0, before: float = 5.0) -> None:
        self.first, self.seen, self.once = first, seen, before
        self.meter_before = {"2": (seen, 0.0, False, 11.0, 1)}
        self.changed: dict[tuple[str, str], float] = {}
        self.looked, self.looks = 11.0, 0
        self.lowest = -0.1
        self.acted: list[tuple[str, str]] = []

    def voltages(self) -> dict[str, float]:
        return {"1": self.first, "2": 2.9, "3": 0.0}

    def before(self) -> Any:
        return {"voltages": {**self.voltages(), "1": self.once}, "sources": self._sources(self.meter_before)}

    def pressures(self) -> dict[str, float]:
        return dict.fromkeys("123", 1e5)

    def sources(self) -> Any:
        return self._sources({"2": (self.seen, 0.0, False, self.looked, self.looks)} if self.looks else {})

    def _sources(self, seen: Any) -> Any:
        first = {"source": "VoltageSource", "voltage": self.first, "level": self.first, "since": self._since("smu", "smua")}
        third = {"source": "VoltageSource", "voltage": 0.0, "level": 0.0, "since": self._since("smu", "smub")}
        return {"smu": {"smua": first, "smub": third}, "meter": {"": {"source": "Open", "voltage": 3.0, "seen": seen}}}

    def _since(self, instrument: str, port: str) -> float:
        return self.changed.get((instrument, port), 10.0)

    def outlets(self) -> Any:
        states = {("pace1", "a"): "control", ("pace1", "b"): "vent", ("pace2", "a"): "vent"}
        found: dict[str, Any] = {}
        for (instrument, port), state in states.items():
            facts = {"state": state, "pressure": 1.03e5, "since": self._since(instrument, port)}
            found.setdefault(instrument, {})[port] = facts
        return found

    def flows(self) -> Any:
        return {"pump": {"": {"flow": 1e-9}}, "valve": {"": {"position": 3}}}

    def extremes(self) -> Any:
        return {
            "voltage": {"1": [self.lowest, 5.0], "2": [0.0, 5.0], "3": [0.0, 5.0]},
            "pressure": {"1": [1e5, 1.1e5 + 99.0], "2": [1e5, 1e5], "3": [1e5, 1e5]},
            "voltage_difference": {"a": [-5.0, 5.0], "b": [-5.0, 5.0]},
            "pressure_difference": {"a": [-1e3, 1e3], "b": [-1e3, 1e3]},
        }

    def happened(self) -> list[tuple[str, str]]:
        return list(self.acted)


def judged(door: Door, value: float = 3.0, *, overload: bool = False) -> tuple[Tally, Judge]:
    tally = Tally()
    judge = Judge(DIVIDER, DIVIDER.places(), door, tally, lambda: None)
    door.looks += 1
    again(judge, value, overload=overload)
    return tally, judge


def again(judge: Judge, value: float = 3.0, *, overload: bool = False) -> None:
    stimulus = Stimulus.of([5.0, 0.0, 1e5, 1e5, 1e5])
    one = np.array([[value]])
    judge(Measured((stimulus,), Readings(one, np.zeros_like(one), np.array([[overload]]), np.zeros(1))))


def test_a_reading_is_right_within_the_error_of_its_meter() -> None:
    assert judged(Door(), 3.001)[0].wrong_values_accepted == 0
    tally, _ = judged(Door(), 3.002)
    assert tally.wrong_values_accepted == 1
    assert "accepted V2 3.002 (truth 3)" in tally.notes[0]


def test_a_marked_reading_is_no_value() -> None:
    assert judged(Door(), 9.0, overload=True)[0].wrong_values_accepted == 0
    assert judged(Door(), float("nan"))[0].wrong_values_accepted == 0


def test_a_source_that_does_not_deliver_makes_its_readings_wrong() -> None:
    tally, _ = judged(Door(first=4.9))
    assert "V1 5 (truth 4.9)" in tally.notes[0]


def test_a_device_that_breaks_after_the_look_at_the_source_is_forgiven_once() -> None:
    door = Door()
    tally, judge = judged(door)
    door.first, door.acted, door.looks = 0.01, [("smu", "leak")], 2
    again(judge)
    assert tally.wrong_values_accepted == 0
    door.looks = 3
    again(judge)
    assert tally.wrong_values_accepted == 1


def test_a_reading_is_not_judged_by_a_later_one_of_its_meter_where_a_device_broke_in_between() -> None:
    door = Door()
    tally, judge = judged(door)
    door.seen, door.acted, door.looks = 1.0, [("smu", "leak")], 2
    again(judge, 3.0)
    assert tally.wrong_values_accepted == 0
    door.acted.append(("smu", "short"))
    door.meter_before, door.looks = {}, 3
    again(judge, 3.0)
    assert tally.wrong_values_accepted == 1


@pytest.mark.parametrize("where", [("smu", "smua"), ("smu", "smub"), ("pace1", "a"), ("pace1", "b"), ("pace2", "a")])
def test_a_reading_from_before_the_stimulus_changed_is_stale(where: tuple[str, str]) -> None:
    door = Door()
    tally, judge = judged(door)
    door.changed[where], door.looks = 11.5, 2
    again(judge)
    assert tally.wrong_values_accepted == 1
    assert "stale V2 (measured 0.5 s before the stimulus changed last)" in tally.notes[0]
    door.looked, door.looks = 12.0, 3
    again(judge)
    assert tally.wrong_values_accepted == 1


def test_every_reading_needs_a_measurement_of_its_own() -> None:
    door = Door()
    tally, judge = judged(door)
    again(judge)
    assert tally.wrong_values_accepted == 1
    assert "stale V2 (not measured since the reading before)" in tally.notes[0]


def test_what_was_measured_before_the_run_is_no_reading_of_it() -> None:
    door, tally = Door(), Tally()
    door.looks = 4
    judge = Judge(DIVIDER, DIVIDER.places(), door, tally, lambda: None)
    again(judge)
    assert tally.wrong_values_accepted == 1


def test_the_readings_of_one_block_share_a_measurement() -> None:
    door, tally = Door(), Tally()
    judge = Judge(DIVIDER, DIVIDER.places(), door, tally, lambda: None)
    door.looks = 1
    stimulus, values = Stimulus.of([5.0, 0.0, 1e5, 1e5, 1e5]), np.full((3, 1), 3.0)
    judge(Measured((stimulus,) * 3, Readings(values, np.zeros_like(values), np.zeros((3, 1), dtype=bool), np.zeros(3))))
    assert (tally.readings, tally.wrong_values_accepted) == (3, 0)


def test_a_drifting_source_is_forgiven_at_its_own_node_and_where_nobody_drives() -> None:
    places = DIVIDER.places()
    first = places.file.controls["V1"]
    drift = drifting(places, [Fault("silence", "meter"), Fault("drift", first.instrument, -0.5, first.port)])
    assert drift == {"1": -0.5, "2": -0.5}
    pressure = next(one for one in places.sources if one.quantity is Quantity.PRESSURE)
    assert drifting(places, [Fault("drift", pressure.instrument, 900.0, pressure.port)]) == {}
    limits = {"voltage": {"1": (0.0, 5.0)}}
    assert beyond(Door(), limits, {"1": -0.5}) == {}
    assert beyond(Door(), limits, {"1": -0.05}) == {"voltage of 1": "-0.1 … 5"}
    assert beyond(Door(), limits, {"2": -0.5}) == {"voltage of 1": "-0.1 … 5"}


def test_no_node_behind_one_that_is_held_is_drawn_along_by_a_drifting_source() -> None:
    places = next(bench for bench in BENCHES if bench.name == "ladder_matrix").places()
    (source,) = (one for one in places.sources if one.quantity is Quantity.VOLTAGE)
    drift = drifting(places, [Fault("drift", source.instrument, -0.5, source.port)])
    assert set(drift) == set(places.nodes)
    assert not any(places.file.twin.nodes[name].ground for name in drift)


def test_nothing_is_forgiven_while_readings_are_accepted() -> None:
    door = Door()
    door.acted = [("smu", "drift")]
    _, judge = judged(door)
    assert judge.outside == {"voltage of 1": "-0.1 … 5"}
    door.lowest = 0.0
    _, judge = judged(door)
    assert judge.outside == {}


def test_what_is_left_on_or_beyond_its_limit_is_found() -> None:
    assert left_on(Door(), {"valve": (4, 1)}) == [
        "smu.smua at 5",
        "pace1.a control at 103000 Pa",
        "pump delivers 1e-09 m^3/s",
        "valve stands at 3",
    ]
    limits = {"voltage": {"1": (0.0, 5.0)}, "pressure": {"1": (9e4, 1.1e5)}}
    assert beyond(Door(), limits) == {"voltage of 1": "-0.1 … 5"}


# Dead for good ------------------------------------------------------------------------------------------------------


def test_who_cannot_be_reached_keeps_its_output_but_no_pump_runs_for_ever() -> None:
    assert left_on(Door(), {}, {"smu"}) == ["pace1.a control at 103000 Pa", "pump delivers 1e-09 m^3/s"]
    assert left_on(Door(), {}, {"smu", "pace1", "pump"}) == ["pump delivers 1e-09 m^3/s"]


def test_a_source_that_is_off_may_be_drawn_along_by_one_that_nobody_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door()
    held = {"source": "VoltageSource", "voltage": 0.3, "level": -7e-4, "limited": True}
    other = {"source": "VoltageSource", "voltage": 0.3, "level": 0.3, "limited": True}
    monkeypatch.setattr(door, "sources", lambda: {"low": {"": held}, "other": {"": other}})
    assert left_on(door)[:2] == ["low. at -0.0007", "other. at 0.3"]
    assert left_on(door, {}, {"high"})[:1] == ["other. at 0.3"]


@pytest.mark.parametrize(
    ("outcome", "error", "named"),
    [
        ("failed", "instrument 'smu' at X does not answer; and then the safe state was not reached: instrument 'smu' …", {"smu"}),
        ("failed", "instrument 'meter' at X does not answer; and then the safe state was not reached: …", set()),
        ("failed", "instrument 'smu' at X does not answer any more", set()),
        ("stopped", "instrument 'smu' at X does not answer; and then the safe state was not reached: instrument 'smu' …", set()),
    ],
)
def test_it_is_only_forgiven_where_the_end_of_the_run_says_that_it_is_not_safe_and_who(
    outcome: str, error: str, named: set[str]
) -> None:
    result = Result({"outcome": outcome, "run_id": 1}, 3, error)
    assert unreached(result, [("meter", "silence"), ("smu", "dead")]) == named
    assert unreached(result, [("smu", "half_open")]) == set()


def test_a_pump_that_nobody_reaches_has_until_its_watchdog_or_the_end_of_its_dose() -> None:
    by_name = {bench.name: bench.places().runs_on for bench in BENCHES}
    assert by_name["divider"] == {}
    assert by_name["divider_concentration"] == {"pump_weak": 15.0, "pump_strong": 15.0}
    assert by_name["divider_flow_controllers"]["flow_weak"] == pytest.approx(1.1 * 63.6, rel=0.01)


def test_the_cause_is_what_the_error_names() -> None:
    acted = [("smu", "drift"), ("meter", "silence"), ("pace1", "open"), ("record", "disk full"), ("pace2", "delay")]
    assert cause(acted, "control 'V1' … is stuck or drifts") == 0
    assert cause(acted, "instrument 'meter' at X does not answer any more") == 1
    assert cause(acted, "a device has opened or shorted") == 2
    assert cause(acted, "the data could not be written") == 3
    assert cause(acted, "something else") == 4
    both = [("smu", "silence"), ("smu", "drift"), ("meter", "restart")]
    assert cause(both, "instrument 'smu' at X does not answer any more; and then … 'meter' …") == 0
    assert cause(both, "instrument 'meter' at X was switched off and on") == 2


# The report ---------------------------------------------------------------------------------------------------------
