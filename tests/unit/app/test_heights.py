"""Heights of pressure controllers: what the driver is told, what the node gets, and what a bench file must not ask for."""

import re
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.bench import Target, assemble
from hil.bench_check import control_layout, pressures_now, with_currents
from hil.bench_station import control_wires, virtual_plan
from hil.check import check_out, plan
from hil.check_heights import Column, judged
from hil.check_run import CheckRequest, check
from hil.core.errors import ConfigError, InstrumentError
from hil.core.hydrostatics import head
from hil.core.types import Layout, SettlePolicy, Stimulus
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


def checked(*sets: str, data: Path) -> dict[str, Any]:
    request = CheckRequest("divider", data=data, sets=tuple(one.removeprefix("bench.") for one in sets))
    return {row["where"]: row for row in check(request)["findings"] if row["what"] == "height"}


def test_a_check_finds_the_height_that_the_bench_file_does_not_know_of(tmp_path: Path) -> None:
    found = checked(HIGH, LOW, data=tmp_path)
    assert {name: row["verdict"] for name, row in found.items()} == {"P1": "ok", "P2": "ok", "P3": "ok"}
    found = checked(HIGH, LOW, "bench.virtual.plant.heights={P1: 26 cm}", data=tmp_path)
    assert found["P1"]["verdict"] == "wrong"
    off = float(re.search(r"off by ([-+.\d]+) cm", found["P1"]["found"]).group(1))
    assert off == pytest.approx(6.0, abs=1.0)


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


def test_a_column_is_judged_by_what_it_alone_explains() -> None:
    inside = {"P1": Column(150.0, 50.0, 1.0), "P2": Column(-80.0, 500.0, 1.0), "P3": Column(0.0, inf, 1.0)}
    assert [verdict for _, _, verdict in judged(2.0, inside, 200.0)] == ["ok", "ok", "note"]
    outside = {"P1": Column(500.0, 50.0, 1.0), "P2": Column(-250.0, 25.0, 1.0), "P3": Column(90.0, 10.0, 8.0)}
    found = {name: (text, verdict) for name, text, verdict in judged(9.0, outside, 200.0)}
    assert [found[name][1] for name in ("P1", "P2", "P3")] == ["wrong", "wrong", "ok"]
    assert "off by 5.1 cm (or that of 'P2' alone is)" in found["P1"][0]
    # Something is bent, but no height explains it.
    assert [verdict for _, _, verdict in judged(9.0, {"P3": outside["P3"]}, 200.0)] == ["note"]


def test_nothing_beyond_a_given_voltage_is_applied_and_differences_need_two_pressures() -> None:
    controls = control_layout(prepared().bench)
    usual = plan(controls)
    assert [list(one.values[:2]) for one in usual.strong] == [[0.0, 0.0], [3.0, 0.0], [0.0, 3.0], [0.0, 0.0]]
    assert plan(controls, 0.1).strong == []
    one_pressure = Layout(tuple(channel for channel in controls if channel.name not in ("P1", "P2")))
    assert plan(one_pressure).strong == []
