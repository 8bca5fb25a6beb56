"""The backend's own rules, on instruments made of Python: order, ramps, failures. The wire is tested elsewhere."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hil.core.clock import SteppedClock
from hil.core.errors import BackendError, ConfigError, InstrumentError, LimitExceededError, NotSettledError
from hil.core.safety import EdgeLimit, SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, SafeAction, SafeState, SettlePolicy, Stimulus
from instruments import backend as backend_module
from instruments.backend import InstrumentBackend
from instruments.roles import Acquired, Condition, SourcePlan, SourceState
from instruments.wiring import ControlWire, InstrumentSpec, OutputWire

POLICY = SettlePolicy(tolerance=1e-3, window=0.01, timeout=1.0)


class Bench:
    """The log of everything that was done, in order, with its time."""

    def __init__(self) -> None:
        self.clock = SteppedClock()
        self.log: list[tuple[float, str, str, float]] = []
        self.broken: set[str] = set()

    def note(self, instrument: str, what: str, value: float = 0.0) -> None:
        self.log.append((round(self.clock.now(), 9), instrument, what, value))

    def done(self, *what: str) -> list[tuple[str, str, float]]:
        return [entry[1:] for entry in self.log if entry[2].split(" ")[-1] in what]


class FakePort:
    """A port of volts, or of pascals that reach their set-point at once."""

    def __init__(self, unit: "FakeInstrument", name: str) -> None:
        self.unit, self.name = unit, name
        self.level, self.on, self.compliant = 0.0, False, True
        self.plan: SourcePlan | None = None

    def source_quantities(self) -> Mapping[str, Quantity]:
        return {self.unit.parameter: self.unit.quantity}

    def configure_source(self, plan: SourcePlan) -> Sequence[str]:
        assert not self.on, "configured with the output on"
        self.plan = plan
        self.unit.act(f"{self.name} configure")
        return ["a word of warning"] if plan.settings else []

    def source_state(self) -> SourceState:
        return SourceState(self.level, self.level if self.on else float("nan"), self.on)

    def enable(self, level: float) -> None:
        self.unit.act(f"{self.name} on", level)
        self.level, self.on = level, True

    def disable(self, action: SafeAction) -> None:
        self.unit.act(f"{self.name} {action.value}")
        self.on = False

    def meter_quantities(self) -> Mapping[str, Quantity]:
        return {self.unit.parameter: self.unit.quantity}

    def configure_meter(self, parameter: str, settings: Mapping[str, Any]) -> Sequence[str]:
        self.unit.act(f"{self.name} meter")
        return ()


class FakePressurePort(FakePort):
    def set_slew(self, pascal_per_second: float) -> None:
        self.unit.act(f"{self.name} slew", pascal_per_second)

    def pressure_now(self) -> float:
        self.unit.act(f"{self.name} look")
        return self.level if self.on else 101_325.0

    def vented(self) -> bool:
        return not self.on


class FakeInstrument:
    simultaneous = True
    parameter, quantity, port_class = "volt", Quantity.VOLTAGE, FakePort

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench, self.name = bench, name
        self.ports = {letter: self.port_class(self, letter) for letter in "ab"}
        self.session = SimpleNamespace(failed=False)
        self.noise: Callable[[], float] = lambda: 0.0

    def act(self, what: str, value: float = 0.0) -> None:
        if self.name in self.bench.broken:
            self.session.failed = True
            raise InstrumentError(f"instrument {self.name!r} is dead")
        self.bench.note(self.name, what, value)

    def port(self, name: str) -> FakePort:
        return self.ports[name]

    def identity(self) -> str:
        return self.name

    def errors(self) -> list[str]:
        return []

    def settings(self) -> Mapping[str, object]:
        return {}

    def get_idn(self) -> dict[str, str]:
        return {"vendor": "fake"}

    def level_writer(self, ports: Sequence[str]) -> Callable[[Sequence[float]], None]:
        def write(levels: Sequence[float]) -> None:
            for port, level in zip(ports, levels, strict=True):
                self.act(f"{port} level", level)
                self.ports[port].level = level

        return write

    def condition_reader(self, ports: Sequence[str]) -> Callable[[], list[Condition]]:
        return lambda: [Condition(self.ports[p].level, self.ports[p].on, self.ports[p].compliant) for p in ports]

    def acquisition(self, terminals: Sequence[tuple[str, str]]) -> Callable[[int], Acquired]:
        def read(samples: int) -> Acquired:
            self.act("read")
            values = np.array([[self.ports[p].level + self.noise() for p, _ in terminals] for _ in range(samples)])
            return Acquired(values, np.zeros(values.shape, dtype=np.bool_))

        return read


class FakeController(FakeInstrument):
    parameter, quantity, port_class = "pressure", Quantity.PRESSURE, FakePressurePort


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()
    kinds = {"smu": FakeInstrument, "other": FakeInstrument, "pace": FakeController}
    instruments = {name: kind(made, name) for name, kind in kinds.items()}
    made.instruments = instruments  # type: ignore[attr-defined]
    monkeypatch.setattr(backend_module, "check_station", lambda *_: kinds)
    monkeypatch.setattr(backend_module, "build_station", lambda *_: SimpleNamespace(components=instruments))
    monkeypatch.setattr(backend_module, "close_station", lambda _: made.note("station", "closed"))
    return made


def volt(name: str, **changes: Any) -> Channel:
    return Channel(
        name, Quantity.VOLTAGE, Kind.DRIVE, **{"minimum": -5.0, "maximum": 5.0, "max_slew": 10.0, "node": name, **changes}
    )


def pascal(name: str, **changes: Any) -> Channel:
    settings = {"minimum": 9e4, "maximum": 1.1e5, "max_slew": 5e4, "safe": SafeState(SafeAction.VENT), **changes}
    return Channel(name, Quantity.PRESSURE, Kind.DRIVE, node=name, **settings)


def make(bench: Bench, wires: Sequence[ControlWire], *, edges: Sequence[EdgeLimit] = (), **options: Any) -> InstrumentBackend:
    layout = Layout(tuple(wire.channel for wire in wires))
    outputs = options.pop("outputs", [OutputWire(Channel("out", Quantity.VOLTAGE, Kind.SENSE, node="x"), "smu.a.volt")])
    specs = [InstrumentSpec(name, "fake", f"fake-{name}") for name in ("smu", "other", "pace")]
    return InstrumentBackend("fake", specs, wires, outputs, SafetyEnvelope.of(layout, edges), bench.clock, **options)


def two_volts(bench: Bench, **options: Any) -> InstrumentBackend:
    return make(bench, [ControlWire(volt("V1"), "smu.a.volt", 1e-5), ControlWire(volt("V2"), "other.a.volt", 1e-5)], **options)


def test_connecting_says_nothing_and_closing_untouched_says_nothing(bench: Bench) -> None:
    with two_volts(bench):
        assert bench.log == []
    assert [entry[2] for entry in bench.log] == ["closed"]


def test_sources_are_configured_off_then_switched_on_at_zero_then_ramped_together(bench: Bench) -> None:
    with two_volts(bench) as backend:
        backend.apply(Stimulus.of([1.0, -0.5]))
    what = [entry[1:3] for entry in bench.log]
    assert what[:5] == [
        ("smu", "a meter"),
        ("smu", "a configure"),
        ("smu", "a on"),
        ("other", "a configure"),
        ("other", "a on"),
    ]
    assert [value for _, _, name, value in bench.log if name == "a on"] == [0.0, 0.0]
    ramp = [entry for entry in bench.log if entry[2] == "a level"]
    assert [entry[1] for entry in ramp[:4]] == ["smu", "other", "smu", "other"]


def test_no_step_of_a_ramp_is_faster_than_the_slew_rate_on_the_way_up_or_home(bench: Bench) -> None:
    with two_volts(bench) as backend:
        backend.apply(Stimulus.of([2.0, -1.0]))
        backend.apply(Stimulus.of([1.5, -1.0]))
    for name in ("smu", "other"):
        times = np.array([entry[0] for entry in bench.log if entry[1:3] == (name, "a level")])
        levels = np.array([entry[3] for entry in bench.log if entry[1:3] == (name, "a level")])
        steps = np.abs(np.diff(levels, prepend=0.0))
        assert steps.max() <= 10.0 * 0.02 * (1 + 1e-9)
        moving = steps[1:] > 0
        assert np.all(np.diff(times)[moving] >= steps[1:][moving] / 10.0 - 1e-9)
        assert levels[-1] == 0.0


def test_a_control_that_does_not_change_is_not_written_again(bench: Bench) -> None:
    with two_volts(bench) as backend:
        backend.apply(Stimulus.of([1.0, 0.5]))
        backend.settle(POLICY)
        bench.log.clear()
        backend.apply(Stimulus.of([1.1, 0.5]))
        assert bench.done("level") == [("smu", "a level", 1.1)]


def test_a_ramp_begins_where_the_terminal_is_and_not_where_it_was_sent(bench: Bench) -> None:
    with two_volts(bench) as backend:
        backend.apply(Stimulus.of([2.0, 0.0]))
        bench.instruments["smu"].ports["a"].level = 0.0  # type: ignore[attr-defined] # somebody turned the knob
        backend.settle(POLICY)
        bench.log.clear()
        backend.apply(Stimulus.of([2.0, 0.0]))
        levels = [value for _, _, value in bench.done("level")]
        assert levels[0] == pytest.approx(0.2)
        assert levels[-1] == 2.0


def test_after_a_long_pause_the_level_is_looked_at_first(bench: Bench) -> None:
    with two_volts(bench) as backend:
        backend.apply(Stimulus.of([2.0, 0.0]))
        bench.clock.sleep(60.0)
        bench.instruments["smu"].ports["a"].level = 0.0  # type: ignore[attr-defined]
        bench.log.clear()
        backend.apply(Stimulus.of([2.1, 0.0]))
        assert bench.done("level")[0][2] < 0.25


def test_an_output_that_went_off_by_itself_is_an_error_and_everything_goes_home(bench: Bench) -> None:
    with two_volts(bench) as backend:
        backend.apply(Stimulus.of([2.0, 1.0]))
        bench.instruments["smu"].ports["a"].on = False  # type: ignore[attr-defined] # it restarted
        with pytest.raises(InstrumentError, match=r"'V1'.*went off by itself"):
            backend.settle(POLICY)
        assert not bench.instruments["other"].ports["a"].on  # type: ignore[attr-defined]


def test_an_output_found_on_is_brought_home_before_it_is_configured(bench: Bench) -> None:
    port = bench.instruments["smu"].ports["a"]  # type: ignore[attr-defined]
    port.on, port.level = True, 1.0
    said: list[str] = []
    with two_volts(bench, warn=said.append) as backend:
        backend.apply(Stimulus.of([0.1, 0.0]))
    first = [entry[2:] for entry in bench.log if entry[1] == "smu"]
    names = [name for name, _ in first]
    assert names.index("a level") < names.index("a configure")
    before = first[: names.index("a configure")]
    assert [value for name, value in before if name == "a level"][-1] == 0.0
    assert before[-1][0] == "a level"  # and off, which is what its safe state means
    assert any("found switched on at 1 V" in text for text in said)


def test_a_disconnected_control_floats_and_comes_back_from_zero(bench: Bench) -> None:
    with two_volts(bench) as backend:
        backend.apply(Stimulus.of([1.0, 1.0], [True, False]))
        assert ("other", "a high_impedance", 0.0) in bench.done("high_impedance")
        assert ("other", "a on", 0.0) not in bench.done("on")
        bench.log.clear()
        backend.apply(Stimulus.of([1.0, 1.0], [True, False]))
        assert bench.log == []
        backend.apply(Stimulus.of([1.0, 0.1]))
        assert bench.done("on") == [("other", "a on", 0.0)]


def test_a_failed_write_leads_everybody_home_and_both_errors_are_told(bench: Bench) -> None:
    with two_volts(bench) as backend:
        backend.apply(Stimulus.of([1.0, 1.0]))
        bench.broken.add("smu")
        with pytest.raises(BackendError, match=r"'smu' is dead.*safe state was not reached"):
            backend.apply(Stimulus.of([1.1, 1.0]))
        other = bench.instruments["other"].ports["a"]  # type: ignore[attr-defined]
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
        assert not bench.instruments["other"].ports["a"].on  # type: ignore[attr-defined]
        bench.broken.clear()
        backend.make_safe()
        assert not bench.instruments["smu"].ports["a"].on  # type: ignore[attr-defined]
        assert not bench.instruments["pace"].ports["a"].on  # type: ignore[attr-defined]


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


def test_beside_a_silent_controller_nobody_vents_past_the_limit(bench: Bench) -> None:
    pace = bench.instruments["pace"]  # type: ignore[attr-defined]
    wires = [ControlWire(pascal("P1"), "pace.a.pressure"), ControlWire(pascal("P2"), "pace.b.pressure")]
    with make(bench, wires, edges=[EdgeLimit("e", "P1", "P2", 5e3)]) as backend:
        backend.apply(Stimulus.of([9.2e4, 9.3e4]))
        pace.ports["b"].pressure_now = lambda: (_ for _ in ()).throw(InstrumentError("module b is silent"))
        bench.log.clear()
        with pytest.raises(InstrumentError, match=r"module b is silent.*'P1' was not vented"):
            backend.make_safe()
        assert not [entry for entry in bench.log if entry[2].endswith("vent")]
        del pace.ports["b"].pressure_now


def test_a_safe_level_other_than_zero_is_held(bench: Bench) -> None:
    channel = volt("V1", safe=SafeState(SafeAction.LEVEL, 0.5))
    with make(bench, [ControlWire(channel, "smu.a.volt", 1e-5)]) as backend:
        backend.apply(Stimulus.of([2.0]))
    port = bench.instruments["smu"].ports["a"]  # type: ignore[attr-defined]
    assert (port.level, port.on) == (0.5, True)


def test_a_source_that_stays_at_its_compliance_marks_everything_that_is_read(bench: Bench) -> None:
    said: list[str] = []
    port = bench.instruments["smu"].ports["a"]  # type: ignore[attr-defined]
    with two_volts(bench, warn=said.append) as backend:
        backend.apply(Stimulus.of([1.0, 0.0]))
        port.compliant = False
        assert backend.settle(POLICY).settled
        assert backend.read().overload.all()
        assert "at compliance, so that the value is not reached: 'V1' (1e-05 A)" in said[0]
        port.compliant = True
        backend.apply(Stimulus.of([0.9, 0.0]))
        backend.settle(POLICY)
        assert not backend.read().overload.any()


def test_a_pressure_that_is_not_reached_is_not_settled_and_says_why(bench: Bench) -> None:
    said: list[str] = []
    wires = [ControlWire(volt("V1"), "smu.a.volt", 1e-5), ControlWire(pascal("P1"), "pace.a.pressure")]
    with make(bench, wires, warn=said.append) as backend:
        backend.apply(Stimulus.of([0.1, 1e5]))
        bench.instruments["pace"].ports["a"].compliant = False  # type: ignore[attr-defined]
        report = backend.settle(POLICY)
        assert not report.settled
        assert report.elapsed >= POLICY.timeout
        assert "not in limits after" in said[0]
        assert "'P1'" in said[0]
        with pytest.raises(NotSettledError, match=r"stimulus 1 of 1: a source was not in its limits"):
            backend.measure([Stimulus.of([0.1, 1.01e5])], POLICY)


def test_the_dead_time_of_a_channel_is_waited_for(bench: Bench) -> None:
    with make(bench, [ControlWire(volt("V1", dead_time=0.5), "smu.a.volt", 1e-5)]) as backend:
        backend.apply(Stimulus.of([0.1]))
        assert backend.settle(POLICY).elapsed >= 0.5


def test_a_single_reading_states_the_noise_seen_while_settling(bench: Bench) -> None:
    rng = np.random.default_rng(1)
    bench.instruments["smu"].noise = lambda: float(rng.normal(0.0, 1e-4))  # type: ignore[attr-defined]
    with two_volts(bench) as backend:
        for number in range(60):
            backend.apply(Stimulus.of([1.0 + 0.001 * (number % 2), 0.0]))
            backend.settle(POLICY)
            reading = backend.read()
        assert reading.std[0] == pytest.approx(1e-4, rel=0.5)
        assert backend.read(400).std[0] == pytest.approx(1e-4 / 20, rel=0.2)


def test_a_fixed_dwell_judges_first_and_last_only(bench: Bench) -> None:
    policy = SettlePolicy(tolerance=1e-3, window=0.01, timeout=1.0, dwell=0.05)
    with two_volts(bench) as backend:
        readings = backend.measure([Stimulus.of([0.01 * k, 0.0]) for k in range(5)], policy)
    assert readings.values[:, 0] == pytest.approx([0.0, 0.01, 0.02, 0.03, 0.04])
    assert len(bench.done("read")) == 5 + 2 * 3


# -- replicas ---------------------------------------------------------------------------------------------------

PATHS = {"A": {"V": "smu.a.volt", "U": "smu.a.volt"}, "B": {"V": "smu.b.volt", "U": "smu.b.volt"}}


def pair(bench: Bench, paths: Mapping[str, Mapping[str, str]] = PATHS, **options: Any) -> InstrumentBackend:
    output = OutputWire(Channel("U", Quantity.VOLTAGE, Kind.SENSE, node="x"), "smu.a.volt")
    return make(bench, [ControlWire(volt("V"), "smu.a.volt", 1e-5)], outputs=[output], replicas=paths, **options)


def test_replicas_are_driven_apart_and_read_in_one_transfer(bench: Bench) -> None:
    with pair(bench, simultaneous=[("A", "B")]) as backend:
        rows = [[Stimulus.of([0.1]), Stimulus.of([0.2])], [Stimulus.of([-0.1]), Stimulus.of([0.3])]]
        measured = backend.measure_replicas(rows, POLICY, samples=3)
        bench.log.clear()
        backend.measure_replicas(rows, SettlePolicy(1e-3, 0.01, 1.0, dwell=0.01))
        assert len(bench.done("read")) == 2 * (3 + 1)
    assert measured.ravel() == pytest.approx([0.1, 0.2, -0.1, 0.3])


@pytest.mark.parametrize(
    ("paths", "options", "sentence"),
    [
        ({"A": {"V": "smu.a.volt"}}, {}, "'A' does not say which parameter 'U'"),
        ({"A": {**PATHS["A"], "W": "smu.a.volt"}}, {}, "names 'W'"),
        ({"A": PATHS["A"], "B": PATHS["A"]}, {}, "both drive smu.a.volt"),
        ({"A": PATHS["A"], "B": {"V": "laser.b.volt", "U": "smu.b.volt"}}, {}, "no instrument 'laser'"),
        (PATHS, {"simultaneous": [("A", "C")]}, "'C', which is no replica"),
        (
            {"A": PATHS["A"], "B": {"V": "other.a.volt", "U": "other.a.volt"}},
            {"simultaneous": [("A", "B")]},
            "cannot be measured at one moment",
        ),
    ],
)
def test_replicas_that_cannot_be_are_refused_before_anything_is_opened(
    bench: Bench, paths: Mapping[str, Mapping[str, str]], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        pair(bench, paths, **options)


# -- wiring -----------------------------------------------------------------------------------------------------


def test_a_control_of_another_quantity_than_its_port_is_refused_on_opening(bench: Bench) -> None:
    backend = make(bench, [ControlWire(pascal("P1"), "smu.a.volt")])
    with pytest.raises(ConfigError, match=r"'P1' wants to drive smu\.a\.volt in Pa; this port drives volt \(V\)"):
        backend.open()
    assert ("station", "closed", 0.0) in bench.done("closed")


def test_settings_with_units_are_understood_and_unknown_ones_refused(bench: Bench) -> None:
    said: list[str] = []
    with make(bench, [ControlWire(volt("V1"), "smu.a.volt", 1e-5, {"range": "6 V"})], warn=said.append) as backend:
        backend.apply(Stimulus.of([0.1]))
        assert bench.instruments["smu"].ports["a"].plan.settings == {"range": 6.0}  # type: ignore[attr-defined]
    assert said == ["a word of warning"]
    for setup, sentence in (({"colour": 1}, "unknown setup 'colour'"), ({"range": "6 A"}, "'6 A'")):
        with warnings.catch_warnings(), pytest.raises(ConfigError, match=sentence):
            make(bench, [ControlWire(volt("V1"), "smu.a.volt", 1e-5, setup)]).open()
