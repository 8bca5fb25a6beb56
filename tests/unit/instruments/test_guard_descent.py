"""Voltages whose difference is limited come down together: the arithmetic, and the guard on instruments that are sockets."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.core.safety import EdgeLimit, SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, SafeAction, SafeState
from instruments import guard_descent, guard_instrument
from instruments.guard_descent import bounded, largest_step, steps_left
from instruments.guard_plan import guard_plan
from instruments.guard_rescue import Rescue
from instruments.keithley_2400 import Keithley2400
from instruments.keithley_2600 import Keithley2602B
from instruments.keysight_b2900 import KeysightB2912A
from instruments.safe_commands import SafeCommands
from instruments.wiring import ControlWire, InstrumentSpec, Setting
from tests.unit.instruments import guard_kit as kit

# -- the arithmetic -------------------------------------------------------------------------------------------------------


@st.composite
def benches(draw: st.DrawFn) -> tuple[dict[str, float], dict[str, float], list[tuple[str, str, float]]]:
    """Levels, goals, and limits that both keep; the goals are mostly 0."""
    volts = st.floats(-10.0, 10.0)
    names = [f"V{k}" for k in range(draw(st.integers(2, 5)))]
    levels = {name: draw(volts) for name in names}
    elsewhere = draw(st.booleans())
    goals = {name: draw(st.floats(-2.0, 2.0)) if elsewhere and draw(st.booleans()) else 0.0 for name in names}
    edges = []
    for plus, minus in itertools.combinations(names, 2):
        if draw(st.booleans()):
            least = max(abs(levels[plus] - levels[minus]), abs(goals[plus] - goals[minus]) + 0.5)
            edges.append((plus, minus, least + draw(st.sampled_from([0.0, 0.3, 3.0]))))
    return levels, goals, edges


@given(benches(), st.data())
def test_no_difference_grows_beyond_its_limit_in_whatever_order_they_obey(
    bench: tuple[dict[str, float], dict[str, float], list[tuple[str, str, float]]], data: st.DataObject
) -> None:
    levels, goals, edges = bench
    step = largest_step(edges, goals)
    bound = max(abs(level - goals[name]) for name, level in levels.items())
    now, taken = dict(levels), 0
    while bound > 0.0:
        count = steps_left(bound, step)
        bound = bound - bound / count if count > 1 else 0.0
        wanted = bounded(levels, goals, bound) if bound > 0.0 else goals
        for name in data.draw(st.permutations(sorted(wanted))):
            now[name] = wanted[name]
            for plus, minus, limit in edges:
                assert abs(now[plus] - now[minus]) <= limit * (1 + 1e-9)
        taken += 1
    assert now == goals
    assert taken <= max(1.0, steps_left(max(abs(level - goals[name]) for name, level in levels.items()), step))


def test_steps_are_no_more_than_they_have_to_be() -> None:
    assert largest_step([("a", "b", 2.0), ("b", "c", 3.0)], {"a": 0.0, "b": 0.0, "c": 0.0}) == 2.0
    assert largest_step([("a", "b", 2.0)], {"a": 1.5, "b": 0.0}) == 0.5
    assert largest_step([("a", "b", 1.0)], {"a": 1.5, "b": 0.0}) == 0.0
    assert [steps_left(bound, 2.0) for bound in (0.0, 2.0, 2.1, 6.0)] == [0, 1, 2, 3]
    assert steps_left(1.0, 0.0) == float("inf")
    assert bounded({"a": 5.0, "b": -4.0, "c": 1.0}, {"a": 0.0, "b": 1.0, "c": 0.0}, 3.0) == {"a": 3.0, "b": -2.0}


# -- what goes into the plan ------------------------------------------------------------------------------------------------

HOME = SafeState(SafeAction.LEVEL, 0.0)
FLOAT = SafeState(SafeAction.HIGH_IMPEDANCE)


class Mute(Keithley2400):
    """Says how it is left, but not how it moves."""

    @classmethod
    def safe_commands(cls, port: str, action: SafeAction, value: float, settings: Mapping[str, Setting]) -> SafeCommands | None:
        return SafeCommands(("OFF",), "OFF?", "1")


def plan_of(
    paths: Sequence[str],
    drivers: Mapping[str, type[Any]],
    edges: Sequence[tuple[str, str | None, float]],
    safe: Mapping[str, SafeState] = {},
    replicas: Mapping[str, Mapping[str, str]] = {},
    warn: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    channels = [
        Channel(f"V{k}", Quantity.VOLTAGE, Kind.DRIVE, -5.0, 5.0, safe=safe.get(f"V{k}", HOME)) for k in range(1, len(paths) + 1)
    ]
    limits = tuple(EdgeLimit(f"{plus}-{minus}", plus, minus, maximum) for plus, minus, maximum in edges)
    specs = [InstrumentSpec(name, f"{one.__module__}.{one.__name__}", "") for name, one in drivers.items()]
    wires = [ControlWire(channel, path, 1e-5) for channel, path in zip(channels, paths, strict=True)]
    return guard_plan(specs, drivers, wires, replicas, SafetyEnvelope.of(Layout(tuple(channels)), limits), warn)


def moving(plan: Mapping[str, Any]) -> list[str]:
    return [one["channel"] for instrument in plan["instruments"] for one in instrument["terminals"] if one["move"]]


TWO = {"one": Keithley2400, "two": Keithley2400}


def test_only_limited_voltages_that_no_single_message_switches_off_take_steps() -> None:
    far = plan_of(["one.volt", "two.volt"], TWO, [("V1", "V2", 2.0)])
    assert far["descents"] == [{"channels": ["V1", "V2"], "step": 2.0}]
    assert moving(far) == ["V1", "V2"]
    assert far["edges"] == []
    for edges in ([], [("V1", None, 1.0)], [("V1", "V2", float("inf"))]):
        free = plan_of(["one.volt", "two.volt"], TWO, edges)
        assert (free["descents"], moving(free)) == ([], [])
    one_line = plan_of(["it.smua.volt", "it.smub.volt"], {"it": Keithley2602B}, [("V1", "V2", 2.0)])
    assert (one_line["descents"], moving(one_line)) == ([], [])
    two_lines = plan_of(["it.ch1.volt", "it.ch2.volt"], {"it": KeysightB2912A}, [("V1", "V2", 2.0)])
    assert [group["channels"] for group in two_lines["descents"]] == [["V1", "V2"]]


def test_who_leaves_at_high_impedance_is_waited_for_and_takes_no_steps() -> None:
    plan = plan_of(["one.volt", "two.volt"], TWO, [("V1", "V2", 2.0)], {"V2": FLOAT})
    assert plan["descents"] == [{"channels": ["V1", "V2"], "step": 1e300}]
    assert moving(plan) == ["V1"]
    both = plan_of(["one.volt", "two.volt"], TWO, [("V1", "V2", 2.0)], {"V1": FLOAT, "V2": FLOAT})
    assert both["descents"] == []


def test_replicas_have_limits_of_their_own() -> None:
    four = dict.fromkeys("abcd", Keithley2400)
    paths = {"A": {"V1": "a.volt", "V2": "b.volt"}, "B": {"V1": "c.volt", "V2": "d.volt"}}
    plan = plan_of(["", ""], four, [("V1", "V2", 2.0)], replicas=paths)
    assert [group["channels"] for group in plan["descents"]] == [["A:V1", "A:V2"], ["B:V1", "B:V2"]]


def test_a_driver_that_does_not_say_how_its_level_is_moved_is_told() -> None:
    said: list[str] = []
    plan = plan_of(["one.volt", "two.volt"], {"one": Keithley2400, "two": Mute}, [("V1", "V2", 2.0)], warn=said.append)
    assert moving(plan) == ["V1"]
    assert len(said) == 1
    assert said[0].startswith("control 'V2': Mute does not say how its level is asked for and set")


# -- the guard --------------------------------------------------------------------------------------------------------------


class Source:
    """A source with a level: what it was told, and when, beside its neighbours in ``bench``."""

    def __init__(self, name: str, level: float, bench: list[tuple[str, float]], *, on: bool = True) -> None:
        self.name, self.level, self.on, self.bench = name, level, on, bench
        self.deaf = False

    def __call__(self, line: str) -> str | None:
        word, _, rest = line.partition(" ")
        if self.deaf and word != "OFF":
            return None
        if word == "LEVEL?":
            return f"LEVEL {self.level!r} {int(self.on)}"
        if word == "OFF?":
            return f"OFF {int(not self.on)}"
        if word == "LEVEL":
            self.level = float(rest)
            self.bench.append((self.name, self.level))
        if word == "OFF":
            self.on, self.level = False, 0.0
            self.bench.append((self.name, 0.0))
        return None


def terminal(channel: str, goal: float = 0.0) -> dict[str, Any]:
    return {
        "channel": channel, "attention": [], "leave": [f"LEVEL {goal}" if goal else "OFF"], "query": "LEVEL?" if goal else "OFF?",
        "expected": "^LEVEL" if goal else "^OFF 1$", "measure": "LEVEL?", "measured": r"^LEVEL (\S+) [01]$", "state": "",
        "states": "", "active": " 1$", "move": ["LEVEL {level:.9g}"], "goal": goal,
    }  # fmt: skip


def floating(channel: str) -> dict[str, Any]:
    return terminal(channel) | {"move": []}


def rescued(
    sources: Sequence[Source], step: float, said: list[str], terminals: Sequence[dict[str, Any]] | None = None
) -> tuple[list[str], list[kit.Device]]:
    with kit.devices(*sources) as made:
        each = [terminal(one.name) for one in sources] if terminals is None else terminals
        parts = [kit.instrument(one.name, device, its) for one, device, its in zip(sources, made, each, strict=True)]
        plan = {"instruments": parts, "edges": [], "descents": [{"channels": [one.name for one in sources], "step": step}]}
        problems = Rescue(plan, said.append).run()
    return problems, made


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """All the time in the world: these tests are about order, on a machine that may be busy."""
    monkeypatch.setattr(guard_descent, "PARTNERS", 30.0)
    monkeypatch.setattr(guard_descent, "IN_TIME", 60.0)


@pytest.mark.usefixtures("patient")
def test_nobody_is_a_step_ahead_of_who_has_not_confirmed_the_last() -> None:
    said: list[str] = []
    bench: list[tuple[str, float]] = []
    start = {"V1": 5.0, "V2": 4.2, "V3": -4.5}
    sources = [Source(name, level, bench) for name, level in start.items()]
    problems, _ = rescued(sources, 1.0, said)
    assert problems == []
    assert all(not one.on for one in sources)
    now = dict(start)
    for name, level in bench:
        now[name] = level
        assert abs(now["V1"] - now["V2"]) <= 1.0 + 1e-9
        assert abs(level) <= abs(start[name])
    assert [level for name, level in bench if name == "V1"] == [4.0, 3.0, 2.0, 1.0, 0.0]
    assert [level for name, level in bench if name == "V2"] == [4.0, 3.0, 2.0, 1.0, 0.0]
    assert [level for name, level in bench if name == "V3"] == [-4.0, -3.0, -2.0, -1.0, 0.0]
    assert any(line.startswith("V1: V1 left in the safe state after") and line.endswith("(steps: 5)") for line in said)


@pytest.mark.usefixtures("patient")
def test_levels_within_one_step_are_left_at_once_and_who_is_off_is_not_moved() -> None:
    bench: list[tuple[str, float]] = []
    sources = [Source("V1", 1.9, bench), Source("V2", 0.5, bench), Source("V3", 5.0, bench, on=False)]
    problems, made = rescued(sources, 2.0, [])
    assert problems == []
    assert sorted(bench) == [("V1", 0.0), ("V2", 0.0), ("V3", 0.0)]
    assert made[0].lines == ["LEVEL?", "OFF", "OFF?"]


@pytest.mark.usefixtures("patient")
def test_a_safe_level_other_than_zero_is_gone_to_in_steps() -> None:
    bench: list[tuple[str, float]] = []
    sources = [Source("V1", 5.0, bench), Source("V2", 5.0, bench)]
    problems, _ = rescued(sources, 2.0, [], [terminal("V1", 1.0), terminal("V2")])
    assert problems == []
    assert (sources[0].level, sources[0].on, sources[1].on) == (1.0, True, False)
    assert [level for name, level in bench if name == "V1"] == pytest.approx([13 / 3, 8 / 3, 1.0])
    assert [level for name, level in bench if name == "V2"] == pytest.approx([10 / 3, 5 / 3, 0.0])


@pytest.mark.usefixtures("patient")
def test_nobody_moves_before_a_neighbour_that_floats_has_left() -> None:
    bench: list[tuple[str, float]] = []

    class Late(Source):
        def __call__(self, line: str) -> str | None:
            if line == "OFF":
                time.sleep(0.2)
            return super().__call__(line)

    sources = [Source("V1", 5.0, bench), Late("V2", 5.0, bench)]
    problems, _ = rescued(sources, 1e300, [], [terminal("V1"), floating("V2")])
    assert problems == []
    assert bench == [("V2", 0.0), ("V1", 0.0)]


def test_who_does_not_answer_in_time_keeps_nobody_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_instrument, "REPLY_TIMEOUT", 0.2)
    said: list[str] = []
    bench: list[tuple[str, float]] = []
    sources = [Source("V1", 5.0, bench), Source("V2", 5.0, bench)]
    sources[1].deaf = True
    problems: list[str] = []

    class Waking(Source):
        """Answers once its neighbour is off."""

        def __call__(self, line: str) -> str | None:
            self.deaf = sources[0].on
            return super().__call__(line)

    sources[1] = Waking("V2", 5.0, bench)
    problems, _ = rescued(sources, 1.0, said)
    assert problems == []
    assert not sources[0].on
    assert not sources[1].on
    assert [name for name, level in bench if level == 0.0] == ["V1", "V2"]
    assert any("V2 did not answer in time: the others of V1, V2 go without it" in line for line in said)


def test_who_stops_answering_midway_keeps_nobody_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_descent, "PARTNERS", 30.0)
    monkeypatch.setattr(guard_descent, "IN_TIME", 2.0)
    said: list[str] = []
    bench: list[tuple[str, float]] = []

    class Failing(Source):
        def __call__(self, line: str) -> str | None:
            self.deaf = self.deaf or line.startswith("LEVEL 3")
            if line == "OFF":
                self.deaf = False
            return super().__call__(line)

    sources = [Source("V1", 5.0, bench), Failing("V2", 5.0, bench)]
    problems, _ = rescued(sources, 1.0, said)
    assert problems == []
    assert not sources[0].on
    assert not sources[1].on
    assert ("V2", 4.0) in bench
    assert any(line.startswith("V2: ") and "the others go down without it" in line for line in said)


def test_steps_are_larger_when_there_is_no_time_and_the_log_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_descent, "PARTNERS", 30.0)
    monkeypatch.setattr(guard_descent, "IN_TIME", 0.0)
    said: list[str] = []
    bench: list[tuple[str, float]] = []
    problems, _ = rescued([Source("V1", 5.0, bench), Source("V2", 5.0, bench)], 0.01, said)
    assert problems == []
    assert sorted(bench) == [("V1", 0.0), ("V2", 0.0)]
    assert any(line == "no time for 500 more steps of 0.01 V: V1, V2 take larger ones" for line in said)


def test_a_clock_that_ticks_slowly_keeps_nobody_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some system clocks stand still for 15 ms, in which several steps are taken."""
    monkeypatch.setattr(guard_descent, "PARTNERS", 30.0)
    standing = time.monotonic()
    monkeypatch.setattr(guard_descent, "time", SimpleNamespace(monotonic=lambda: standing))
    bench: list[tuple[str, float]] = []
    problems, _ = rescued([Source("V1", 5.0, bench), Source("V2", 5.0, bench)], 1.0, [])
    assert problems == []
    assert [level for name, level in bench if name == "V1"] == [4.0, 3.0, 2.0, 1.0, 0.0]


@pytest.mark.usefixtures("patient")
def test_trouble_on_the_way_down_keeps_nobody_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_descent, "bounded", lambda *_: {}["a fault of the program"])
    bench: list[tuple[str, float]] = []
    sources = [Source("V1", 5.0, bench), Source("V2", 5.0, bench)]
    problems, _ = rescued(sources, 1.0, [])
    assert problems == ["KeyError: 'a fault of the program'"]
    assert [one.on for one in sources] == [False, False]
