"""What must be so before a source drives anything, and in which order sources move: on instruments made of Python."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hil.core.errors import BackendError, ConfigError, InstrumentError, InterlockError, LimitExceededError
from hil.core.safety import EdgeLimit, SafetyEnvelope
from hil.core.types import Layout, SafeAction, SafeState, Stimulus
from instruments import backend as backend_module
from instruments.ramp_order import groups_of, ordered_ramp
from instruments.roles import Delivery
from instruments.wiring import ControlWire, InstrumentSpec, InterlockWire
from tests.unit.instruments import fake_instruments as kit

bench = kit.bench
LID = InterlockWire("lid", "smu.a.lid", 1.0)


class Parameter:
    def __init__(self, value: float) -> None:
        self.value = value

    def get(self) -> float:
        return self.value


def closed_lid(bench: kit.Bench) -> Parameter:
    lid = Parameter(1)
    bench.instruments["smu"].ports["a"].parameters = {"lid": lid}
    return lid


def test_an_open_interlock_refuses_to_source(bench: kit.Bench) -> None:
    lid = closed_lid(bench)
    lid.value = 0
    with kit.two_volts(bench, interlocks=[LID]) as backend:
        with pytest.raises(InterlockError, match=r"'lid': smu\.a\.lid reads 0, but 1 is needed"):
            backend.apply(Stimulus.of([1.0, 1.0]))
        assert not [entry for entry in bench.log if entry[2].endswith(" on")]


def test_an_interlock_that_opens_is_seen_with_the_next_reading_and_everything_goes_home(bench: kit.Bench) -> None:
    lid = closed_lid(bench)
    with kit.two_volts(bench, interlocks=[LID]) as backend:
        backend.apply(Stimulus.of([1.0, 1.0]))
        backend.read()
        lid.value = 0
        with pytest.raises(InterlockError, match="lid"):
            backend.read()
        assert not bench.instruments["smu"].ports["a"].on
        assert not bench.instruments["other"].ports["a"].on


def test_an_interlock_that_does_not_exist_is_refused_on_opening(bench: kit.Bench) -> None:
    closed_lid(bench)
    with pytest.raises(ConfigError, match=r"smu\.a\.door does not exist; parameters: lid"):
        kit.two_volts(bench, interlocks=[InterlockWire("door", "smu.a.door", 1.0)]).open()


class Guard:
    """Stands in for the guard process; logs into the bench's log."""

    def __init__(self, bench: kit.Bench) -> None:
        self.bench, self.gone = bench, False

    def start(self, plan: Any) -> None:
        self.bench.note("guard", "start")

    def arm(self) -> None:
        self.bench.note("guard", "arm")

    def check(self) -> None:
        if self.gone:
            raise BackendError("the guard is gone")

    def take_over(self, *, needed: bool) -> None:
        self.bench.note("guard", "rescue" if needed else "bye")

    def dismiss(self) -> None:
        self.bench.note("guard", "dismissed")


def test_the_guard_is_armed_before_the_first_output_is_touched_and_leaves_last(bench: kit.Bench) -> None:
    with kit.two_volts(bench, guard=Guard(bench)) as backend:
        assert [entry[1:3] for entry in bench.log] == [("guard", "start")]
        backend.apply(Stimulus.of([1.0, 1.0]))
    words = [f"{who} {what}" for _, who, what, _ in bench.log]
    assert words.index("guard arm") < words.index("smu a configure")
    assert words[-2:] == ["station closed", "guard bye"]


def test_without_its_guard_nothing_goes_on(bench: kit.Bench) -> None:
    guard = Guard(bench)
    with kit.two_volts(bench, guard=guard) as backend:
        backend.apply(Stimulus.of([1.0, 1.0]))
        guard.gone = True
        with pytest.raises(BackendError, match="the guard is gone"):
            backend.read()
        assert not bench.instruments["smu"].ports["a"].on


def test_what_the_program_cannot_make_safe_is_left_to_the_guard(bench: kit.Bench) -> None:
    backend = kit.two_volts(bench, guard=Guard(bench))
    backend.open()
    backend.apply(Stimulus.of([1.0, 1.0]))
    bench.broken.add("smu")
    with pytest.raises(BackendError, match="'smu' is dead"):
        backend.close()
    assert [what for _, who, what, _ in bench.log if who == "guard"] == ["start", "arm", "arm", "rescue"]


def test_a_bench_that_does_not_open_dismisses_its_guard(bench: kit.Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise BackendError("nobody there")

    monkeypatch.setattr(backend_module, "build_station", refuse)
    with pytest.raises(BackendError, match="nobody there"):
        kit.two_volts(bench, guard=Guard(bench)).open()
    assert [what for _, who, what, _ in bench.log if who == "guard"] == ["start", "dismissed"]


def powered(bench: kit.Bench, limit: float) -> Any:
    smu = bench.instruments["smu"]
    read = smu.acquisition

    def acquisition(terminals: Any) -> Any:
        if [parameter for _, parameter in terminals] != ["volt", "curr"]:
            return read(terminals)
        port = smu.ports[terminals[0][0]]
        return lambda samples: SimpleNamespace(values=np.array([[port.level, 1e-3 * port.level]] * samples))

    smu.acquisition = acquisition
    return kit.make(bench, [ControlWire(kit.volt("V1", max_power=limit), "smu.a.volt", 1.0)])


def test_power_is_measured_with_every_reading(bench: kit.Bench) -> None:
    with powered(bench, 2e-3) as backend:
        backend.apply(Stimulus.of([1.0]))
        backend.read()
        backend.apply(Stimulus.of([2.0]))
        with pytest.raises(LimitExceededError, match=r"'V1': 0\.004 W"):
            backend.read()
        assert not bench.instruments["smu"].ports["a"].on


@pytest.mark.parametrize(
    ("compliance", "reading", "why"),
    [
        (1e-3, None, ""),
        (0.1, [1.0, np.nan], r"compliance of 0\.1 A may flow at 1 V, 0\.1 W"),
        (None, [1.0, np.nan], "no compliance"),
        (1e-3, [np.nan, 1e-9], "voltage is not known"),
    ],
)
def test_a_reading_in_overflow_counts_as_the_compliance(
    bench: kit.Bench, compliance: float | None, reading: list[float] | None, why: str
) -> None:
    smu = bench.instruments["smu"]
    read = smu.acquisition

    def acquisition(terminals: Any) -> Any:
        if [parameter for _, parameter in terminals] != ["volt", "curr"]:
            return read(terminals)
        return lambda samples: SimpleNamespace(values=np.array([reading or [1.0, np.nan]] * samples))

    smu.acquisition = acquisition
    with kit.make(bench, [ControlWire(kit.volt("V1", max_power=2e-3), "smu.a.volt", compliance)]) as backend:
        backend.apply(Stimulus.of([1.0]))
        if not why:
            backend.read()  # 1 V x 1 mA is allowed, whatever flows
            return
        with pytest.raises(LimitExceededError, match=rf"'V1': .*overflow and .*{why}.*limit of 0\.002 W"):
            backend.read()
        assert not smu.ports["a"].on


def test_a_power_limit_needs_a_port_that_measures(bench: kit.Bench) -> None:
    wire = ControlWire(kit.pascal("P1", max_power=1.0), "pace.a.pressure")
    with pytest.raises(ConfigError, match="'P1' has a power limit, but"):
        kit.make(bench, [wire]).open()


def test_dwell_is_counted_from_the_stimulus_and_ends_in_the_safe_state(bench: kit.Bench) -> None:
    with kit.make(bench, [ControlWire(kit.volt("V1", max_dwell=10.0), "smu.a.volt", 1e-5)]) as backend:
        backend.apply(Stimulus.of([1.0]))
        bench.clock.sleep(9.0)
        backend.read()
        bench.clock.sleep(2.0)
        with pytest.raises(LimitExceededError, match=r"'V1'.*dwell limit of 10 s"):
            backend.read()
        assert not bench.instruments["smu"].ports["a"].on
        backend.apply(Stimulus.of([1.0]))  # the safe state has started the count anew
        backend.read()


def test_a_watchdog_is_set_before_the_source_and_refused_where_there_is_none(
    bench: kit.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = [ControlWire(kit.volt("V1"), "smu.a.volt", 1e-5)]
    backend = kit.make(bench, wire)
    backend._specs = (InstrumentSpec("smu", "fake", "fake", {}, 20.0),)
    with backend, pytest.raises(ConfigError, match="'smu' has no watchdog of its own"):
        backend.apply(Stimulus.of([1.0]))
    smu = bench.instruments["smu"]
    smu.set_watchdog = lambda seconds: bench.note("smu", "watchdog", seconds)
    bench.log.clear()
    with backend:
        backend.apply(Stimulus.of([1.0]))
        backend.apply(Stimulus.of([2.0]))
    done = [entry[2:] for entry in bench.log if entry[2] in ("watchdog", "a configure")]
    assert done == [("watchdog", 20.0), ("a configure", 0.0)]


def test_a_controller_above_its_node_keeps_its_watchdog_and_has_none_where_the_driver_has_none(bench: kit.Bench) -> None:
    pace = bench.instruments["pace"]
    pace.delivery_reader = lambda ports: lambda: [Delivery(float("nan"), 0.0, True, False) for _ in ports]
    pace.require_settings_kept = pace.forget = lambda: None
    backend = kit.make(bench, [ControlWire(kit.pascal("P1"), "pace.a.pressure", height=1.0)])
    backend._specs = (InstrumentSpec("pace", "fake", "fake", {}, 20.0),)
    with backend, pytest.raises(ConfigError, match="'pace' has no watchdog of its own"):
        backend.apply(Stimulus.of([1e5]))
    pace.set_watchdog = lambda seconds: bench.note("pace", "watchdog", seconds)
    bench.log.clear()
    with backend:
        backend.apply(Stimulus.of([1e5]))
        assert pace.ports["a"].level == pytest.approx(1e5 - 9.8e3, rel=1e-3)  # less than the node by the column of liquid
    assert [entry[3] for entry in bench.log if entry[2] == "watchdog"] == [20.0]


# -- order ------------------------------------------------------------------------------------------------------------

WIRES = [
    ControlWire(kit.volt("V1"), "smu.a.volt", 1e-5),
    ControlWire(kit.volt("V2"), "other.a.volt", 1e-5),
    ControlWire(kit.pascal("P1", safe=SafeState(SafeAction.VENT, 1e5)), "pace.a.pressure"),
]


def moves(bench: kit.Bench) -> list[str]:
    """Who moved, repetitions taken out."""
    found: list[str] = []
    for _, who, what, _ in bench.log:
        if what.endswith("level") and (not found or found[-1] != who):
            found.append(who)
    return found


def test_groups_ramp_one_after_the_other_up_and_in_reverse_down(bench: kit.Bench) -> None:
    with kit.make(bench, WIRES, ramp_order=[["P1"], ["V2"], ["V1"]]) as backend:
        backend.apply(Stimulus.of([1.0, 1.0, 1.02e5]))
        bench.log.clear()
        backend.apply(Stimulus.of([2.0, 2.0, 1.05e5]))
        assert moves(bench) == ["pace", "other", "smu"]
        bench.log.clear()
        backend.apply(Stimulus.of([1.0, 1.0, 1.01e5]))
        assert moves(bench) == ["smu", "other", "pace"]
        bench.log.clear()
    left = [who for _, who, what, _ in bench.log if what.endswith(("a level", "a vent"))]
    assert left == ["smu"] * left.count("smu") + ["other"] * left.count("other") + ["pace"]


def test_without_a_declared_order_all_move_together_and_pressures_leave_last(bench: kit.Bench) -> None:
    with kit.make(bench, WIRES) as backend:
        backend.apply(Stimulus.of([1.0, 1.0, 1.02e5]))
        bench.log.clear()
        backend.apply(Stimulus.of([1.4, 1.4, 1.02e5]))
        assert moves(bench) == ["smu", "other", "smu", "other"]
        bench.log.clear()
    assert [who for _, who, what, _ in bench.log if what.endswith("a vent")] == ["pace"]
    assert bench.log[-2][1:3] == ("pace", "a vent")


LAYOUT = Layout((kit.pascal("P1"), kit.pascal("P2"), kit.volt("V1")))


def test_an_order_that_takes_linked_pressures_apart_is_refused() -> None:
    envelope = SafetyEnvelope.of(LAYOUT, [EdgeLimit("e", "P1", "P2", 1e4)])
    assert groups_of([["P1", "P2"]], envelope) == [[0, 1], [2]]
    assert groups_of([], envelope) == []
    with pytest.raises(ConfigError, match="takes 'P1', 'P2' apart"):
        groups_of([["P1"], ["P2"]], envelope)
    with pytest.raises(ConfigError, match="names 'V1' twice"):
        groups_of([["V1"], ["V1"]], envelope)
    with pytest.raises(ConfigError, match="there is no channel 'V9'"):
        groups_of([["V9"]], envelope)


def test_a_corner_of_the_way_that_breaks_an_edge_limit_is_refused() -> None:
    channels = Layout(tuple(kit.volt(name) for name in ("V1", "V2")))
    envelope = SafetyEnvelope.of(channels, [EdgeLimit("e", "V1", "V2", 2.0)])
    start, stop = np.zeros(2), np.array([4.0, 4.0])
    assert len(ordered_ramp(envelope, start, stop, 0.02, [[0, 1]])) == len(envelope.ramp(start, stop, 0.02))
    with pytest.raises(LimitExceededError, match="'e'"):
        ordered_ramp(envelope, start, stop, 0.02, [[0], [1]])
    outside = np.array([7.0, 7.0])  # measured beyond the limits: everybody leaves together
    np.testing.assert_array_equal(ordered_ramp(envelope, outside, stop, 0.02, [[0], [1]])[-1], stop)
    assert len(ordered_ramp(envelope, stop, stop, 0.02, [[0], [1]])) == 1


def test_a_limit_of_a_difference_does_not_count_a_terminal_that_floats(bench: kit.Bench) -> None:
    with kit.two_volts(bench, edges=[kit.EdgeLimit("e", "V1", "V2", 1.0)]) as backend:
        backend.apply(Stimulus.of([4.0, 0.0], [True, False]))
        assert backend.terminals() == {"V1": 4.0, "V2": None}
        backend.apply(Stimulus.of([4.0, 3.5]))
        other = [value for _, who, what, value in bench.log if who == "other" and what in ("a on", "a level")]
        assert min(other) == 3.0
        with pytest.raises(LimitExceededError, match="edge 'e': 4 V between"):
            backend.apply(Stimulus.of([4.0, 0.0]))


def test_a_source_that_comes_back_from_floating_has_to_have_its_settings(bench: kit.Bench) -> None:
    """Between two readings an instrument may have been switched off and on: its compliance is not the one that was set."""
    smu = bench.instruments["smu"]
    kept = [True]

    def require() -> None:
        if not kept[0]:
            raise InstrumentError("its settings are lost")

    smu.require_settings_kept, smu.forget, smu.session.notice = require, lambda: None, None
    with kit.make(bench, [ControlWire(kit.volt("V1"), "smu.a.volt", 1e-5)]) as backend:
        backend.apply(Stimulus.of([1.0], [False]))
        backend.apply(Stimulus.of([1.0]))
        backend.apply(Stimulus.of([1.0], [False]))
        kept[0] = False
        bench.log.clear()
        with pytest.raises(InstrumentError, match="its settings are lost"):
            backend.apply(Stimulus.of([1.0]))
        assert bench.done("on") == []
