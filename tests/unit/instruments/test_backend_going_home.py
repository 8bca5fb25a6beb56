"""How the backend reaches its safe state when something fails, on instruments made of Python."""

from typing import Any

import pytest

from hil.core.errors import BackendError, InstrumentError, LimitExceededError
from hil.core.safety import EdgeLimit
from hil.core.types import Channel, Kind, Quantity, SafeAction, SafeState, Stimulus
from instruments.wiring import ControlWire, OutputWire
from tests.unit.instruments import fake_instruments
from tests.unit.instruments.fake_instruments import POLICY, Bench, FakePressurePort, make, pascal, two_volts, volt

bench = fake_instruments.bench


def test_an_output_that_went_off_by_itself_is_an_error_and_everything_goes_home(bench: Bench) -> None:
    with two_volts(bench) as backend:
        backend.apply(Stimulus.of([2.0, 1.0]))
        bench.instruments["smu"].ports["a"].on = False  # it restarted
        with pytest.raises(InstrumentError, match=r"'V1'.*went off by itself"):
            backend.settle(POLICY)
        assert not bench.instruments["other"].ports["a"].on


def test_a_stop_on_the_way_home_neither_ends_it_nor_hides_why(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    disable = bench.instruments["other"].ports["a"].disable

    def interrupted(action: SafeAction) -> None:
        asked.append(action)
        if len(asked) == 1:
            raise KeyboardInterrupt
        disable(action)

    with two_volts(bench) as backend:
        backend.apply(Stimulus.of([1.0, 1.0]))
        bench.instruments["smu"].ports["a"].on = False  # it restarted
        monkeypatch.setattr(bench.instruments["other"].ports["a"], "disable", interrupted)
        with pytest.raises(InstrumentError, match=r"'V1'.*went off by itself"):
            backend.settle(POLICY)
        assert asked
        assert not bench.instruments["other"].ports["a"].on


@pytest.mark.parametrize("trouble", [KeyError("a reply nobody knows"), RuntimeError()])
def test_whatever_a_driver_raises_on_the_way_home_the_others_leave(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    def failing(_: SafeAction) -> None:
        raise trouble

    with two_volts(bench) as backend:
        backend.apply(Stimulus.of([1.0, 1.0]))
        with monkeypatch.context() as patched:
            patched.setattr(bench.instruments["smu"].ports["a"], "disable", failing)
            with pytest.raises(InstrumentError, match=r"not reached everywhere: ('a reply nobody knows'|RuntimeError)$"):
                backend.make_safe()
        assert bench.instruments["smu"].ports["a"].on
        assert not bench.instruments["other"].ports["a"].on


def test_a_failed_write_leads_everybody_home_and_both_errors_are_told(bench: Bench) -> None:
    with two_volts(bench) as backend:
        backend.apply(Stimulus.of([1.0, 1.0]))
        bench.broken.add("smu")
        with pytest.raises(BackendError, match=r"'smu' is dead.*safe state was not reached"):
            backend.apply(Stimulus.of([1.1, 1.0]))
        other = bench.instruments["other"].ports["a"]
        assert (other.level, other.on) == (0.0, False)
        bench.broken.clear()


def test_the_safe_state_is_tried_on_every_channel_and_all_problems_are_reported(bench: Bench) -> None:
    wires = [
        ControlWire(volt("V1"), "smu.a.volt", 1e-5),
        ControlWire(volt("V2"), "other.a.volt", 1e-5),
        ControlWire(pascal("P1"), "pace.a.pressure"),
    ]
    with make(bench, wires) as backend:
        backend.apply(Stimulus.of([1.0, 1.0, 1e5]))
        bench.broken.update({"smu", "pace"})
        with pytest.raises(InstrumentError, match=r"'smu' is dead.*'pace' is dead"):
            backend.make_safe()
        assert not bench.instruments["other"].ports["a"].on
        bench.broken.clear()
        backend.make_safe()
        assert not bench.instruments["smu"].ports["a"].on
        assert not bench.instruments["pace"].ports["a"].on


def test_linked_pressures_meet_before_they_vent_and_their_difference_stays_in_its_limit(bench: Bench) -> None:
    wires = [ControlWire(pascal("P1"), "pace.a.pressure"), ControlWire(pascal("P2"), "pace.b.pressure")]
    with make(bench, wires, edges=[EdgeLimit("e", "P1", "P2", 1e4)]) as backend:
        backend.apply(Stimulus.of([9.6e4, 1.05e5]))
        with pytest.raises(LimitExceededError, match=r"'e'"):
            backend.apply(Stimulus.of([9.2e4, 1.05e5]))
        bench.log.clear()
    pressures = {"a": 9.6e4, "b": 1.05e5}
    for _, _, what, value in bench.log:
        port, _, verb = what.partition(" ")
        if verb == "level":
            pressures[port] = value
            assert abs(pressures["a"] - pressures["b"]) <= 1e4
        if verb == "vent":
            assert pressures["a"] == pytest.approx(pressures["b"])
    assert [what for _, _, what, _ in bench.log if what.endswith("vent")] == ["a vent", "b vent"]


def test_nobody_leaves_one_behind_that_takes_no_slew(bench: Bench) -> None:
    pace = bench.instruments["pace"]
    wires = [ControlWire(pascal(name, maximum=1.3e5), f"pace.{port}.pressure") for name, port in (("P1", "a"), ("P2", "b"))]
    with make(bench, wires, edges=[EdgeLimit("e", "P1", "P2", 5e3)]) as backend:
        backend.apply(Stimulus.of([1.2e5, 1.24e5]))
        pace.ports["b"].set_slew = lambda _: (_ for _ in ()).throw(InstrumentError("module b takes no slew"))
        bench.log.clear()
        with pytest.raises(InstrumentError, match=r"module b takes no slew|'P1' was not vented"):
            backend.make_safe()
        # The first may come nearer, but neither vents while the other holds its pressure.
        assert [what for _, _, what, _ in bench.log if what.endswith(("b level", "vent"))] == []
        assert abs(pace.ports["a"].level - pace.ports["b"].level) <= 5e3
        del pace.ports["b"].set_slew


def test_beside_a_silent_controller_nobody_vents_past_the_limit(bench: Bench) -> None:
    pace = bench.instruments["pace"]
    wires = [ControlWire(pascal("P1"), "pace.a.pressure"), ControlWire(pascal("P2"), "pace.b.pressure")]
    with make(bench, wires, edges=[EdgeLimit("e", "P1", "P2", 5e3)]) as backend:
        backend.apply(Stimulus.of([9.2e4, 9.3e4]))
        pace.ports["b"].pressure_now = lambda: (_ for _ in ()).throw(InstrumentError("module b is silent"))
        bench.log.clear()
        with pytest.raises(InstrumentError, match=r"module b is silent.*'P1' was not vented"):
            backend.make_safe()
        assert not [entry for entry in bench.log if entry[2].endswith("vent")]
        del pace.ports["b"].pressure_now


@pytest.mark.parametrize("nothing", [9.91e37, float("nan"), float("inf")])
def test_a_reading_in_overflow_is_no_place_to_go_home_from(bench: Bench, nothing: float) -> None:
    pace = bench.instruments["pace"]
    wires = [ControlWire(pascal("P1"), "pace.a.pressure"), ControlWire(pascal("P2"), "pace.b.pressure")]
    with make(bench, wires, edges=[EdgeLimit("e", "P1", "P2", 1e4)]) as backend:
        backend.apply(Stimulus.of([9.2e4, 9.3e4]))
        port = pace.ports["b"]
        said = iter([nothing])
        port.pressure_now = lambda: next(said, None) or type(port).pressure_now(port)
        begun = bench.clock.now()
        backend.make_safe()
        assert bench.clock.now() - begun < 3600.0
        assert [what for _, _, what, _ in bench.log if what.endswith("vent")] == ["a vent", "b vent"]
        del port.pressure_now
        backend.apply(Stimulus.of([9.2e4, 9.3e4]))
        port.pressure_now = lambda: nothing
        with pytest.raises(InstrumentError, match=r"pace\.b\.pressure.* its reading is in overflow"):
            backend.make_safe()
        del port.pressure_now


@pytest.mark.parametrize(("ambient", "low", "silent"), [(101_325.0, 9e4, 1.03e5), (0.0, -1e4, 2e3)])
def test_beside_a_silent_controller_that_stands_near_the_air_it_vents(
    bench: Bench, ambient: float, low: float, silent: float
) -> None:
    """Absolute pressures vent to the atmosphere, gauge pressures to 0."""
    pace = bench.instruments["pace"]
    limits: dict[str, Any] = {"minimum": low, "maximum": 1.1e5, "safe": SafeState(SafeAction.VENT, ambient)}
    wires = [ControlWire(pascal(name, **limits), f"pace.{port}.pressure") for name, port in (("P1", "a"), ("P2", "b"))]
    for port in pace.ports.values():
        port.pressure_now = lambda: ambient
    with make(bench, wires, edges=[EdgeLimit("e", "P1", "P2", 5e3)]) as backend:
        backend.apply(Stimulus.of([silent, silent]))
        pace.ports["b"].pressure_now = lambda: (_ for _ in ()).throw(InstrumentError("module b is silent"))
        bench.log.clear()
        with pytest.raises(InstrumentError, match="module b is silent") as told:
            backend.make_safe()
        assert "was not vented" not in str(told.value)
        assert "a vent" in [what for _, _, what, _ in bench.log]
        del pace.ports["b"].pressure_now


def test_a_safe_level_other_than_zero_is_held(bench: Bench) -> None:
    channel = volt("V1", safe=SafeState(SafeAction.LEVEL, 0.5))
    with make(bench, [ControlWire(channel, "smu.a.volt", 1e-5)]) as backend:
        backend.apply(Stimulus.of([2.0]))
    port = bench.instruments["smu"].ports["a"]
    assert (port.level, port.on) == (0.5, True)


def test_a_silent_controller_holds_back_its_own_replica_only(bench: Bench) -> None:
    pace = bench.instruments["pace"]
    pace.ports = {letter: FakePressurePort(pace, letter) for letter in "abcd"}
    paths = {
        "A": {"P1": "pace.a.pressure", "P2": "pace.b.pressure", "out": "pace.a.pressure"},
        "B": {"P1": "pace.c.pressure", "P2": "pace.d.pressure", "out": "pace.c.pressure"},
    }
    output = OutputWire(Channel("out", Quantity.PRESSURE, Kind.SENSE, node="x"), "")
    wires, edges = [ControlWire(pascal("P1"), ""), ControlWire(pascal("P2"), "")], [EdgeLimit("e", "P1", "P2", 5e3)]
    with make(bench, wires, edges=edges, outputs=[output], replicas=paths) as backend:
        row = [Stimulus.of([9.2e4, 9.3e4]), Stimulus.of([1.05e5, 1.08e5])]
        backend.measure_replicas([row], POLICY)
        pace.ports["b"].pressure_now = lambda: (_ for _ in ()).throw(InstrumentError("module b is silent"))
        bench.log.clear()
        with pytest.raises(InstrumentError, match=r"module b is silent.*'P1' was not vented") as told:
            backend.make_safe()
        assert str(told.value).count("was not vented") == 1
        assert [entry[2] for entry in bench.log if entry[2].endswith("vent")] == ["c vent", "d vent"]
        assert [what for _, what, _ in bench.done("level")] == ["c level", "d level"]  # those two meet first
        assert pace.ports["c"].level == pace.ports["d"].level
        # Its module answers again, but that of the other replica takes no slew: the first goes home beside it.
        del pace.ports["b"].pressure_now
        backend.measure_replicas([row], POLICY)
        pace.ports["d"].set_slew = lambda _: (_ for _ in ()).throw(InstrumentError("module d takes no slew"))
        bench.log.clear()
        with pytest.raises(InstrumentError, match="module d takes no slew"):
            backend.make_safe()
        assert {"a vent", "b vent"} <= {entry[2] for entry in bench.log}
        assert {"a level", "b level", "c level"} == {
            what for _, what, _ in bench.done("level")
        }  # nobody knows how fast d would go
        assert pace.ports["a"].level == pace.ports["b"].level
        del pace.ports["d"].set_slew


def test_every_replica_keeps_its_edge_limits_on_the_way_down(bench: Bench) -> None:
    rest = SafeState(SafeAction.LEVEL, 0.0)
    wires = [ControlWire(volt(name, safe=rest, max_slew=1e4), "", 1e-5) for name in ("V1", "V2")]
    paths = {
        "A": {"V1": "smu.a.volt", "V2": "smu.b.volt", "out": "smu.a.volt"},
        "B": {"V1": "other.a.volt", "V2": "other.b.volt", "out": "other.a.volt"},
    }
    output = OutputWire(Channel("out", Quantity.VOLTAGE, Kind.SENSE, node="x"), "")
    with make(bench, wires, edges=[EdgeLimit("e", "V1", "V2", 1.0)], outputs=[output], replicas=paths) as backend:
        backend.measure_replicas([[Stimulus.of([4.0, 4.9]), Stimulus.of([0.1, 0.1])]], POLICY)
        bench.log.clear()
        backend.make_safe()
    now = {"a level": 4.0, "b level": 4.9}
    told = [(what, level) for who, what, level in bench.done("level") if who == "smu"]
    assert len(told) > 20
    for what, level in told:
        now[what] = level
        assert abs(now["a level"] - now["b level"]) <= 1.0 + 1e-9


def limited(bench: Bench, **changes: Any) -> Any:
    """Two voltages on two instruments, of which 1 V may stand between them; the second is ``changes``d."""
    wires = [ControlWire(volt("V1"), "smu.a.volt", 1e-5), ControlWire(volt("V2", **changes), "other.a.volt", 1e-5)]
    return make(bench, wires, edges=[EdgeLimit("e", "V1", "V2", 1.0)])


def failing(unit: Any, monkeypatch: pytest.MonkeyPatch, what: str, times: int, after: int = 0) -> list[str]:
    """``unit`` does not do ``what`` so many times, once it has done it ``after`` times; the list of what it was asked for."""
    asked: list[str] = []
    act = unit.act

    def acting(asked_for: str, value: float = 0.0) -> None:
        if asked_for == what:
            asked.append(asked_for)
            if after < len(asked) <= after + times:
                unit.session.failed = True
                raise InstrumentError(f"instrument {unit.name!r} does not answer")
        act(asked_for, value)

    monkeypatch.setattr(unit, "act", acting)
    return asked


@pytest.mark.parametrize("culprit", ["smu", "other"])
def test_who_fails_for_a_moment_on_the_way_down_is_waited_for_where_a_difference_is_limited(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, culprit: str
) -> None:
    with limited(bench) as backend:
        backend.apply(Stimulus.of([4.5, 4.0]))
        bench.log.clear()
        asked = failing(bench.instruments[culprit], monkeypatch, "a level", 2, after=3)
        backend.make_safe()  # and nothing is complained about, because it was overcome
        assert len(asked) > 5
        assert not any(unit.ports["a"].on for unit in bench.instruments.values())
    now = {"smu": 4.5, "other": 4.0}
    for who, _, level in bench.done("level"):
        now[who] = level
        assert abs(now["smu"] - now["other"]) <= 1.0
    assert max(abs(level) for level in now.values()) < 1e-9


@pytest.mark.parametrize("levels", [(5.0, 4.0), (4.0, 5.0), (-3.5, -4.5)])
def test_a_difference_that_stands_at_its_limit_does_not_grow_on_the_way_down(bench: Bench, levels: tuple[float, float]) -> None:
    with limited(bench) as backend:
        backend.apply(Stimulus.of(levels))
        bench.log.clear()
    now = dict(zip(("smu", "other"), levels, strict=True))
    told = [(who, level) for who, _, level in bench.done("level")]
    assert len(told) > 10
    for who, level in told:
        now[who] = level
        assert abs(now["smu"] - now["other"]) <= 1.0 + 1e-9


def test_who_is_dead_keeps_nobody_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with limited(bench) as backend:
        backend.apply(Stimulus.of([4.5, 4.0]))
        asked = failing(bench.instruments["other"], monkeypatch, "a level", 3, after=3)
        backend.make_safe()
        assert len(asked) == 7, "three that were done, three attempts at the next; then the others go on, and it is switched off"
        assert not any(unit.ports["a"].on for unit in bench.instruments.values())


def test_without_a_limit_nobody_waits_for_who_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with two_volts(bench) as backend:
        backend.apply(Stimulus.of([4.5, 4.0]))
        asked = failing(bench.instruments["other"], monkeypatch, "a level", 1, after=3)
        backend.make_safe()
        assert len(asked) == 5, "three that were done, one that was not, and it is switched off"


def test_nobody_moves_before_who_has_just_failed_is_disconnected_where_a_difference_is_limited(bench: Bench) -> None:
    with limited(bench, safe=SafeState(SafeAction.HIGH_IMPEDANCE)) as backend:
        backend.apply(Stimulus.of([4.5, 4.0]))
        bench.log.clear()
        bench.instruments["other"].session.failed = True
        backend.make_safe()
        entries = [(who, what) for _, who, what, _ in bench.log]
        assert entries[0] == ("other", "a high_impedance")
        assert ("smu", "a level") in entries
