"""Heights of pressure controllers: what the driver is told, what the node gets, and what a bench file must not ask for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.bench import Target, assemble
from hil.bench_check import control_layout, with_currents
from hil.bench_pressures import pressures_now
from hil.bench_station import control_wires, virtual_plan
from hil.check import check_out, plan
from hil.check_heights import LIMIT, Explained, Explanations, Strong, explanations, judged, unexplained
from hil.check_patterns import MOST, Pressures, chosen
from hil.check_run import CheckRequest, check
from hil.core.errors import ConfigError, InstrumentError
from hil.core.hydrostatics import head
from hil.core.types import Layout, SettlePolicy, Stimulus
from hil.experiment.bench_model import Tunable
from hil.heights import check_pressures
from hil.prepared import Prepared, Request, prepare
from instruments.coupled import Course
from instruments.guard_instrument import Instrument
from instruments.guard_plan import guard_plan
from instruments.station import driver_class
from instruments.wiring import InstrumentSpec

HIGH = "bench.controls.P1.height=20 cm"
LOW = "bench.controls.P2.height=-10 cm"
POLICY = SettlePolicy(tolerance=1e-3, window=0.2, timeout=60.0)


def prepared(*sets: str) -> Prepared:
    return prepare(Request(protocol="voltage_divider", sets=sets))


@pytest.fixture
def lab() -> Iterator[Any]:
    with prepared(HIGH, LOW).assembled(Target.VIRTUAL) as assembled, assembled.backend:
        yield assembled


def test_a_centimetre_of_water_is_98_pascal() -> None:
    assert head(0.01) == pytest.approx(97.9, abs=0.1)
    assert head(-0.01) == -head(0.01)


def test_the_node_gets_what_was_asked_for_and_the_controller_the_difference(lab: Any) -> None:
    backend, door = lab.backend, lab.virtual.side_door
    backend.measure([Stimulus.of([1.0, 0.0, 0.99e5, 1.02e5, 1.0e5])], POLICY)
    nodes, outlets = door.pressures(), door.outlets()
    for node, wanted in {"1": 0.99e5, "2": 1.02e5, "3": 1.0e5}.items():
        assert nodes[node] == pytest.approx(wanted, abs=60.0)  # a PACE is good to 0.01 % of its range and of its reading
    assert outlets["pace1"]["a"]["pressure"] == pytest.approx(nodes["1"] - head(0.2), abs=1e-6)
    assert outlets["pace1"]["b"]["pressure"] == pytest.approx(nodes["2"] + head(0.1), abs=1e-6)
    assert outlets["pace2"]["a"]["pressure"] == pytest.approx(nodes["3"], abs=1e-6)
    told = backend.terminals()
    assert {name: told[name] for name in ("P1", "P2", "P3")} == pytest.approx({"P1": 0.99e5, "P2": 1.02e5, "P3": 1.0e5}, abs=1.0)
    # No difference across an edge was ever larger than those that were applied: the way there meant the nodes.
    assert abs(door.extremes()["pressure_difference"]["a"][0]) < 3.0e3 + 120.0


def test_a_vent_leaves_the_column_of_liquid(lab: Any) -> None:
    lab.backend.measure([Stimulus.of([1.0, 0.0, 1.0e5, 1.0e5, 1.0e5])], POLICY)
    lab.backend.make_safe()
    lab.clock.sleep(5.0)
    nodes = lab.virtual.side_door.pressures()
    assert nodes["1"] - nodes["3"] == pytest.approx(head(0.2), abs=1.0)
    assert nodes["2"] - nodes["3"] == pytest.approx(head(-0.1), abs=1.0)


def test_a_check_of_zeros_asks_what_the_controllers_themselves_read(lab: Any) -> None:
    lab.backend.measure([Stimulus.of([1.0, 0.0, 0.99e5, 1.02e5, 1.0e5])], POLICY)
    found = pressures_now(prepared(HIGH, LOW).bench)
    assert found == pytest.approx({"P1": 0.99e5 - head(0.2), "P2": 1.02e5 + head(0.1), "P3": 1.0e5}, abs=60.0)


def test_what_the_controller_has_to_reach_is_judged_too() -> None:
    """1.1 bar at a node 25 m above its controller are more than the 3 bar of its range."""
    lower = prepared("bench.controls.P1.height=-25 m")
    with (
        lower.assembled(Target.VIRTUAL) as lab,
        lab.backend as backend,
        pytest.raises((InstrumentError, ConfigError), match=r"354725 Pa is above its range 3\.00bara"),
    ):
        backend.measure([Stimulus.of([0.0, 0.0, 1.0e5, 1.0e5, 1.0e5])], POLICY)


def test_the_plant_has_the_true_heights() -> None:
    bench = prepared(HIGH, "bench.virtual.plant.heights={P1: 25 cm, P3: 1 cm}").bench
    assert virtual_plan(bench, 0).heads == pytest.approx({"1": head(0.25), "3": head(0.01)})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("bench.controls.V1.height=1 cm", r"controls\.V1\.height.*only a pressure"),
        ("bench.controls.P1.height=1 mbar", r"height"),
        ("bench.virtual.plant.heights={P9: 1 cm}", r"no pressure control 'P9'"),
    ],
)
def test_a_height_where_it_means_nothing_is_refused(change: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        prepared(change)


def test_reservoirs_further_apart_than_a_channel_bears_are_refused() -> None:
    limits = "bench.edge_limits={a: {pressure: 20 mbar}}"
    check_pressures(prepared(limits, "bench.controls.P1.height=20 cm").bench)
    with pytest.raises(ConfigError, match=r"have vented, the column of 0\.3 m .* leaves 2937 Pa across edge 'a'"):
        check_pressures(prepared(limits, HIGH, LOW).bench)


def test_the_guard_process_means_the_node_as_well() -> None:
    bench = prepared(HIGH).bench
    controls = control_layout(bench)
    specs = [InstrumentSpec(name, one.type, one.address, one.options) for name, one in bench.station.instruments.items()]
    classes = {spec.name: driver_class(spec) for spec in specs}
    lab = prepared(HIGH).assembled(Target.SIMULATED)
    plan = guard_plan(specs, classes, control_wires(bench, controls), {}, lab.backend.envelope, lambda _: None)
    pace = next(one for one in plan["instruments"] if one["name"] == "pace1")
    guarded = Instrument(pace, lambda _: None, 0.0)
    asked: list[Any] = []
    replies = [":SENS:PRES 98000.0", ":OUTP:STAT 1", ":SENS2:PRES 100000.0", ":OUTP2:STAT 1"]

    def confirmed(messages: list[str], queries: list[Any]) -> list[str]:
        asked.append(messages)
        return replies

    guarded._confirmed = confirmed
    stand = guarded.look()
    assert stand["P1"][0] == pytest.approx(98000.0 + head(0.2))
    assert stand["P2"][0] == 100000.0
    guarded.move({"P1": Course(1e5, 1e5, 1e3)})
    assert f":SOUR1:PRES {1e5 - head(0.2):.4f}" in asked[-1][0]


def off_by(text: str) -> float:
    """Centimetres that a finding speaks of."""
    return float(text.split("off by ")[1].split(" cm")[0])


def checked(*sets: str, data: Path) -> dict[str, Any]:
    request = CheckRequest("divider", data=data, sets=tuple(one.removeprefix("bench.") for one in sets))
    return {row["where"]: row for row in check(request)["findings"] if row["what"] == "height"}


def test_a_check_finds_the_height_that_the_bench_file_does_not_know_of(tmp_path: Path) -> None:
    found = checked(HIGH, LOW, "bench.virtual.plant.heights={P1: 26 cm}", data=tmp_path)
    assert {name: row["verdict"] for name, row in found.items()} == {"P1": "wrong", "P2": "ok", "P3": "ok"}
    assert off_by(found["P1"]["found"]) == pytest.approx(6.0, abs=0.7)


def test_a_bench_that_is_not_in_order_sees_no_larger_voltage() -> None:
    bench = prepared("bench.virtual.plant.edges.b.parallel=1000").bench
    wanted = plan(control_layout(bench))
    assert max(float(np.abs(stimulus.values[:2]).max()) for stimulus in wanted.strong) > 1.0
    with assemble(with_currents(bench, wanted.stimuli), Target.VIRTUAL) as lab:
        facts = check_out(lab, bench, wanted, 0.25)
        applied = lab.virtual.side_door.extremes()["voltage"]
    assert not facts["passed"]
    (height,) = (row for row in facts["findings"] if row["what"] == "height")
    assert (height["verdict"], height["found"]) == ("note", "not judged before the rest is in order")
    assert max(abs(level) for node in ("1", "3") for level in applied[node]) < 0.1


def explained(misfit: float, *errors: float, worst: float = 1.0, left: float = 0.0) -> Explained:
    return Explained(misfit, worst, np.array([left]), np.array(errors), np.full(len(errors), 30.0))


def test_the_height_that_explains_best_is_named_and_who_else_could_be_to_blame() -> None:
    names, right = ("P1", "P2", "P3"), explained(300.0, 0.0, 0.0, 0.0, worst=9.0)
    alone = (explained(1.0, 490.0, 0.0, 0.0), explained(8.0, 0.0, -250.0, 0.0), explained(90.0, 0.0, 0.0, 200.0))
    found = {name: (text, verdict) for name, text, verdict in judged(Explanations(names, right, alone))}
    assert [found[name][1] for name in names] == ["wrong", "note", "ok"]
    assert "off by 5 cm (or, less likely, that of 'P2')" in found["P1"][0]
    # All as declared, as far as the readings tell; nothing is said of what they do not show.
    blind = Explained(5.0, 1.0, np.zeros(1), np.zeros(3), np.full(3, 500.0))
    assert [one[2] for one in judged(Explanations(names, explained(5.5, 0, 0, 0), (blind, *alone[1:])))] == ["note", "ok", "ok"]
    # Significant, but smaller than what is allowed.
    small = (explained(1.0, 60.0, 0.0, 0.0), *alone[1:])
    assert {one[2] for one in judged(Explanations(names, right, small))} == {"ok"}
    # No single height does it: several together do, or nothing does.
    poor = tuple(explained(80.0, *row, worst=6.0) for row in 300.0 * np.eye(3))
    several = explained(1.0, 500.0, 10.0, -500.0)
    assert [one[2] for one in judged(Explanations(names, right, poor, several))] == ["wrong", "ok", "wrong"]
    assert {one[2] for one in judged(Explanations(names, right, poor, explained(79.0, 1, 2, 3)))} == {"note"}


@pytest.fixture(scope="module")
def patterns() -> Iterator[tuple[Any, Pressures, list[Stimulus]]]:
    """The divider as a simulation, and what its check applies at larger voltages."""
    bench = prepared().bench
    plain = bench.model_copy(update={"twin": bench.twin.model_copy(update={"tunable": Tunable()})})
    wanted = plan(control_layout(plain))
    with assemble(with_currents(plain, wanted.stimuli, wanted.strong), Target.SIMULATED) as simulated:
        model = Pressures(simulated, np.ones(2), wanted.stimuli[0])
        yield simulated, model, chosen(model, wanted.strong, LIMIT, simulated)


def read(model: Pressures, stimuli: list[Stimulus], x: Any) -> Strong:
    signals = model.signals(stimuli, x)
    # Meters that are off by a part in a thousand, each by its own.
    values = signals * (1.0 + 1e-3 * np.array([1.0, -1.0, 1.0])) + 1e-4 * np.abs(signals).max(axis=0)
    rows = np.vstack([np.zeros(3), values, np.zeros(3)])
    return Strong([model.rest, *stimuli, model.rest], rows, np.zeros_like(rows), np.zeros(rows.shape, dtype=np.bool_))


@pytest.mark.parametrize(("wrong", "centimetres"), [(0, -2.0), (1, 2.0), (2, 5.0)])
def test_patterns_of_pressure_tell_which_controller_stands_wrong(patterns: Any, wrong: int, centimetres: float) -> None:
    simulated, model, stimuli = patterns
    x = np.zeros(model.size)
    x[wrong], x[-1], x[3:5] = head(centimetres / 100.0), 0.01, 0.004  # and the twin is not quite right either
    found = list(judged(explanations(simulated, np.ones(2), read(model, stimuli, x), {})))
    assert [verdict == "wrong" for _, _, verdict in found] == [k == wrong for k in range(3)]
    assert off_by(found[wrong][1]) == pytest.approx(centimetres, abs=0.7)


def test_a_zero_that_is_off_is_no_height_and_heights_that_are_right_are_left_alone(patterns: Any) -> None:
    """A controller that shows 60 Pa too much holds 60 Pa too little, wherever it stands."""
    simulated, model, stimuli = patterns
    at_rest = {"P1": 101_385.0, "P2": 101_325.0, "P3": 101_325.0}
    x = np.zeros(model.size)
    x[:3], x[-1], x[3:5] = (-40.0, 20.0, 20.0), -0.015, -0.004
    found = explanations(simulated, np.ones(2), read(model, stimuli, x), at_rest)
    assert {verdict for _, _, verdict in judged(found)} == {"ok"}
    assert max(abs(one.errors[k] - x[k]) for k, one in enumerate(found.alone)) < 60.0


def test_what_no_height_explains_is_said(patterns: Any) -> None:
    simulated, model, stimuli = patterns
    strong = read(model, stimuli, np.zeros(model.size))
    strong.values[:] = strong.values[:, [0, 2, 1]]  # the two sources of a symmetric divider, exchanged
    assert unexplained(explanations(simulated, np.ones(2), strong, {})).max() > 0.25


def test_patterns_are_few_inside_the_limits_and_not_delicate(patterns: Any) -> None:
    simulated, _, stimuli = patterns
    assert 3 <= len(stimuli) <= MOST
    for stimulus in stimuli:
        simulated.backend.envelope.check(stimulus.values, stimulus.connected)
        # Both channels emptied of salt at once have two steady states.
        p1, p2, p3 = stimulus.values[2:5]
        assert not (stimulus.values[0] > 0.0 and p2 - p1 > 4e3 and p3 - p2 > 4e3)


def test_nothing_beyond_a_given_voltage_is_applied_and_differences_need_two_pressures() -> None:
    controls = control_layout(prepared().bench)
    usual = plan(controls)
    assert [list(one.values[:2]) for one in usual.strong] == [[3.0, 0.0], [0.0, 3.0]]
    assert plan(controls, 0.1).strong == []
    one_pressure = Layout(tuple(channel for channel in controls if channel.name not in ("P1", "P2")))
    assert plan(one_pressure).strong == []
