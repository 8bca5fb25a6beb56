"""What the guard does without the program, against instruments that are sockets and nothing else."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from instruments import guard_descent, guard_instrument, guard_rescue
from instruments.guard_rescue import Rescue
from tests.unit.instruments.guard_kit import Pressure, Time, devices, instrument, off, pressure, source


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The time of the guard and of the pressures; only how long a reply may take is counted by the machine."""
    made = Time()
    waiting = SimpleNamespace(Lock=threading.Lock, Event=lambda: made)
    for module in (guard_rescue, guard_descent, guard_instrument):
        monkeypatch.setattr(module, "time", made)
    for module in (guard_rescue, guard_instrument):
        monkeypatch.setattr(module, "threading", waiting)
    monkeypatch.setattr(guard_instrument, "REPLY_TIMEOUT", 60.0)
    return made


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """For instruments that owe a reply and never give it."""
    monkeypatch.setattr(guard_instrument, "REPLY_TIMEOUT", 1.0)


@pytest.fixture
def impatient(brief: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gives no reply is given up at the second attempt."""
    monkeypatch.setattr(guard_rescue, "PATIENCE", 0.5 * guard_instrument.FIRST_PAUSE)
    monkeypatch.setattr(guard_instrument, "RELEASE_AFTER", -1.0)
    monkeypatch.setattr(guard_rescue, "ARRIVAL_TIME", 0.2)


def test_sources_are_left_in_declared_order_and_confirmed(said: list[str]) -> None:
    with devices(off) as (smu,):
        assert Rescue({"instruments": [instrument("smu", smu, source("A"), source("B"))], "edges": []}, said.append).run() == []
        assert smu.lines == ["abort", "A off", "B off", "STATE?", "STATE?"]
    assert "A, B left in the safe state" in said[0]


def test_an_instrument_for_one_client_is_tried_again_until_it_lets_us_in(said: list[str]) -> None:
    with devices(off) as (smu,):
        smu.refuse = 5
        assert Rescue({"instruments": [instrument("smu", smu, source("A"))], "edges": []}, said.append).run() == []
        assert smu.refuse == 0
        assert smu.lines.count("A off") >= 1


@pytest.mark.usefixtures("impatient")
def test_one_that_never_confirms_is_reported_and_the_others_are_safe(said: list[str]) -> None:
    with devices(lambda _: None, off) as (dumb, smu):
        plan = {"instruments": [instrument("dumb", dumb, source("A")), instrument("smu", smu, source("B"))], "edges": []}
        problems = Rescue(plan, said.append).run()
        assert smu.lines == ["abort", "B off", "STATE?"]
    assert len(problems) == 1
    assert problems[0].startswith("dumb at TCPIP0")
    assert any("asking it to drop dead links" in line for line in said)
    assert any(line.startswith("NOT SAFE: dumb") for line in said)


@pytest.mark.usefixtures("brief")
def test_commands_of_one_line_and_compound_queries(said: list[str]) -> None:
    replies = iter(["OFF", "OFF;ON", "OFF ; OFF"])
    with devices(lambda line: next(replies) if "?" in line else None) as (smu,):
        plan = instrument("smu", smu, source("A"), source("B")) | {"joiner": " ", "query_joiner": ";"}
        smu_silent_lines = ["abort", "A off B off", "STATE?;STATE?"]
        assert Rescue({"instruments": [plan], "edges": []}, said.append).run() == []
        assert smu.lines == 3 * smu_silent_lines


@pytest.mark.usefixtures("brief")
def test_a_reply_to_somebody_else_is_passed_over_and_a_wrong_one_is_no_confirmation(said: list[str]) -> None:
    replies = iter(["1.0e-9", "OFF"])
    with devices(lambda line: f"late answer\n{next(replies)}" if line == "STATE?" else None) as (smu,):
        rescue = Rescue({"instruments": [instrument("smu", smu, source("A"))], "edges": []}, said.append)
        assert rescue.run() == []
        assert smu.lines.count("A off") == 2


@pytest.mark.parametrize(
    ("pipelined", "sent"),
    [(True, [["abort", "A off", "B off", "STATE?", "STATE?"]]), (False, [["abort", "A off", "B off"], ["STATE?"], ["STATE?"]])],
)
def test_where_a_question_takes_the_last_answer_away_one_is_asked_at_a_time(
    said: list[str], monkeypatch: pytest.MonkeyPatch, pipelined: bool, sent: list[list[str]]
) -> None:
    class Wire:
        def __init__(self) -> None:
            self.pipelined, self.sent = pipelined, list[list[str]]()

        def send(self, messages: list[str]) -> None:
            self.sent.append(messages)

        def line(self, _: float) -> str:
            return "OFF"

        def close(self) -> None:
            self.sent.append([])

    wire = Wire()
    monkeypatch.setattr(guard_instrument, "connect", lambda _: wire)
    with devices(off) as (smu,):
        assert Rescue({"instruments": [instrument("smu", smu, source("A"), source("B"))], "edges": []}, said.append).run() == []
    assert wire.sent == [*sent, []]


def test_pressures_of_one_instrument_that_share_nothing_go_home_side_by_side(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way = threading.Barrier(4, timeout=10.0)

    def arrive(rescue: Rescue, *course: Any) -> bool:
        under_way.wait()
        return True

    monkeypatch.setattr(Rescue, "_arrive", arrive)
    answers = {"P?": "P 101000", "ON?": "ON 1", "VENT?": "VENT 1"}
    with devices(answers.get) as (unit,):
        plan = {"instruments": [instrument("unit", unit, *(pressure(f"P{k}") for k in range(4)))], "edges": []}
        assert Rescue(plan, said.append).run() == []


def test_linked_pressures_move_together_and_vent_when_they_have_arrived(said: list[str], clock: Time) -> None:
    one, other = Pressure(clock, 1.05e5), Pressure(clock, 1.02e5)
    with devices(one, other) as (first, second):
        plan = {
            "instruments": [instrument("one", first, pressure("P1")), instrument("other", second, pressure("P2"))],
            "edges": [["P1", "P2", 4e3]],
        }
        assert Rescue(plan, said.append).run() == []
        courses = [next(line for line in device.lines if line.startswith("GO")).split() for device in (first, second)]
    goes = [next(t for t, line in unit.heard if line.startswith("GO")) for unit in (one, other)]
    vents = [next(t for t, line in unit.heard if line == "VENT") for unit in (one, other)]
    assert [float(goal) for _, goal, _ in courses] == [1e5, 1e5]
    assert float(courses[0][2]) == pytest.approx(1e5)
    assert float(courses[1][2]) == pytest.approx(4e4)
    assert min(vents) - max(goes) == pytest.approx(0.05)
    assert one.vented
    assert other.vented


def test_a_pressure_without_a_slew_of_its_own_is_led_in_step_with_the_others(said: list[str], clock: Time) -> None:
    led, other = Pressure(clock, 1.05e5), Pressure(clock, 1.05e5)
    with devices(led, other) as (first, second):
        leader = {**pressure("P1"), "move": ["GO {level} 1e9"], "led": True, "slew": 2e4}
        plan = {
            "instruments": [instrument("led", first, leader), instrument("other", second, pressure("P2", 2e4))],
            "edges": [["P1", "P2", 2e3]],
        }
        assert Rescue(plan, said.append).run() == []
        steps = [(t, float(line.split()[1])) for t, line in led.heard if line.startswith("GO")]
        (gone,) = [t for t, line in other.heard if line.startswith("GO")]
        assert [line for line in second.lines if line.startswith("GO")] == ["GO 100000.0 20000.0"]
    assert steps[0][1] == pytest.approx(1.05e5)
    assert steps[-1][1] == 1e5
    assert len(steps) >= 4
    for when, level in steps:
        assert abs(level - max(1.05e5 - 2e4 * (when - gone), 1e5)) < 2e4 * 0.51 * guard_rescue.LEAD_PERIOD
    assert led.vented
    assert other.vented


class Slow(Pressure):
    """One that takes its time with every set-point."""

    def __call__(self, line: str) -> str | None:
        if line.startswith("GO"):
            self.clock.wait(0.1)
        return super().__call__(line)


def test_a_pressure_that_is_led_slowly_is_led_to_the_end(said: list[str], clock: Time) -> None:
    led = Slow(clock, 1.05e5)
    with devices(led) as (device,):
        leader = {**pressure("P1"), "move": ["GO {level} 1e9"], "led": True, "slew": 2e4}
        assert Rescue({"instruments": [instrument("led", device, leader)], "edges": []}, said.append).run() == []
        steps = [float(line.split()[1]) for line in device.lines if line.startswith("GO")]
    assert len(steps) >= 3
    assert steps[-1] == 1e5
    assert led.vented


def test_a_controller_that_is_off_is_vented_without_being_moved(said: list[str], clock: Time) -> None:
    still = Pressure(clock, 1.05e5, on=False)
    with devices(still) as (device,):
        assert Rescue({"instruments": [instrument("p", device, pressure("P1"))], "edges": []}, said.append).run() == []
        assert not [line for line in device.lines if line.startswith("GO")]
    assert still.vented


@pytest.mark.parametrize("nothing", ["9.91e+37", "9.9E37", "nan"])
def test_a_pressure_in_overflow_is_asked_for_again(said: list[str], clock: Time, nothing: str) -> None:
    """There is no way home from 9.9e37 Pa."""
    controller, replies = Pressure(clock, 1.05e5), [f"P {nothing}"]

    def answer(line: str) -> str | None:
        return replies.pop() if line == "P?" and replies else controller(line)

    with devices(answer) as (device,):
        terminal = pressure("P1") | {"measured": r"^P [-+.\deEna]+$"}
        assert Rescue({"instruments": [instrument("p", device, terminal)], "edges": []}, said.append).run() == []
    assert controller.vented
    assert not replies
    assert clock.monotonic() < 60.0


@pytest.mark.usefixtures("impatient")
def test_nobody_moves_beside_a_partner_that_does_not_answer(said: list[str], clock: Time) -> None:
    alone, partner = Pressure(clock, 1.05e5), Pressure(clock, 1.05e5)
    with devices(alone, lambda _: None, partner, off) as (first, dead, free, smu):
        plan = {
            "instruments": [
                instrument("one", first, pressure("P1")),
                instrument("dead", dead, pressure("P2")),
                instrument("free", free, pressure("P3")),
                instrument("smu", smu, source("V1")),
            ],
            "edges": [["P1", "P2", 1e300]],
        }
        problems = Rescue(plan, said.append).run()
        assert smu.lines[1] == "V1 off"
        assert not [line for line in first.lines if line.startswith(("GO", "VENT")) and line != "VENT?"]
    assert not alone.vented
    assert partner.vented, "a pressure that shares no channel with the silent one is free to go"
    assert any("P1, P2 hold their pressures" in problem for problem in problems)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("limit", "vented"), [(1e3, False), (1e300, True)])
def test_who_does_not_arrive_is_vented_only_if_that_exceeds_no_limit(
    said: list[str], clock: Time, limit: float, vented: bool
) -> None:
    class Stuck(Pressure):
        @property
        def now(self) -> float:
            return 1.05e5

    stuck, fine = Stuck(clock, 1.05e5), Pressure(clock, 1.05e5)
    with devices(stuck, fine) as (first, second):
        plan = {
            "instruments": [instrument("one", first, pressure("P1")), instrument("two", second, pressure("P2"))],
            "edges": [["P1", "P2", limit]],
        }
        problems = Rescue(plan, said.append).run()
    assert (stuck.vented, fine.vented) == (vented, vented)
    assert bool(problems) != vented
    if problems:
        assert "were not vented: 5000 Pa between 'P1' and 'P2'" in problems[0]


def test_whatever_goes_wrong_with_one_the_others_are_made_safe(said: list[str]) -> None:
    with devices(lambda line: "P nonsense" if line == "P?" else "ON 1", off) as (odd, smu):
        broken = pressure("P1") | {"measured": "."}
        plan = {"instruments": [instrument("odd", odd, broken), instrument("smu", smu, source("V1"))], "edges": []}
        problems = Rescue(plan, said.append).run()
        assert smu.lines == ["abort", "V1 off", "STATE?"]
    assert "IndexError" in problems[0]
