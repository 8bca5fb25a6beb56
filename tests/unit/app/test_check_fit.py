"""Conductances from readings at small voltages: found, left undecided, or explained by one edge."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hil.bench import Target, assemble, shipped_protocols
from hil.bench_check import conducting, control_layout, exchanged, leaking, with_currents
from hil.bench_pressures import accuracies, corrected_pressures
from hil.check import Finding, _edges, _hydrostatic, _isolation, plan
from hil.check_fit import Fitter, Measured
from hil.check_record import key_of, load, require_passed, save
from hil.core.errors import ConfigError, RecordError, SafetyError
from hil.core.types import FloatArray, Layout, Quantity, SettlePolicy
from hil.experiment.bench_file import BenchFile
from hil.experiment.bench_model import Tunable
from hil.experiment.loader import read


def bench_file(name: str) -> BenchFile:
    return read(shipped_protocols() / "benches" / f"{name}.yaml").model(BenchFile)


def laboratory(name: str, factors: dict[str, float], offset: float = 0.0) -> tuple[Any, Any, Measured]:
    """The assembled simulation, the plan, and readings of a network whose edges conduct ``factors`` of the twin."""
    shipped = bench_file(name)
    plain = shipped.model_copy(update={"twin": shipped.twin.model_copy(update={"tunable": Tunable()})})
    wanted = plan(control_layout(plain))
    assembled = assemble(with_currents(plain, wanted.stimuli), Target.SIMULATED)
    scale = np.array([factors.get(edge, 1.0) for edge in assembled.network.edge_names])
    values = conducting(assembled, scale).predict(wanted.stimuli) + offset
    nothing = np.zeros(values.shape[1], dtype=np.bool_)
    return assembled, wanted, Measured("", values, np.zeros_like(values), nothing)


def fitter(assembled: Any, wanted: Any, measured: Measured) -> Fitter:
    return Fitter(lambda scale: conducting(assembled, scale), assembled.network.n_edges, wanted.stimuli, measured)


@pytest.mark.parametrize("factors", [{}, {"a": 0.05}, {"b": 20.0}, {"a": 0.5, "b": 2.0}])
def test_both_edges_of_a_divider_are_found_whatever_the_offsets(factors: dict[str, float]) -> None:
    fit = fitter(*laboratory("divider", factors, offset=1e-4)).all_edges()
    small = min(factors.values(), default=1.0)
    for edge, factor in zip("ab", fit.factors, strict=True):
        if factors.get(edge, 1.0) / small < 5.0:  # beside a clog twenty times as tight the other cannot be seen
            assert factor == pytest.approx(factors.get(edge, 1.0), rel=0.05)
    assert fit.left.max() == 0.0


def test_a_broken_wire_conducts_as_good_as_nothing() -> None:
    assert fitter(*laboratory("divider", {"a": 1e-6})).all_edges().factors[0] < 0.02


def test_one_edge_that_explains_everything_is_found_and_no_other() -> None:
    assert list(fitter(*laboratory("five_nodes", {"24": 0.1})).single_edges(0.25).values()) == pytest.approx([0.1], rel=0.05)
    assert fitter(*laboratory("five_nodes", {"24": 0.1, "03": 0.1})).single_edges(0.25) == {}


def test_a_meter_on_another_node_cannot_be_explained_by_conductances() -> None:
    assembled, wanted, measured = laboratory("divider", {})
    values = measured.values.copy()
    values[:, 0] = -values[:, 0]
    assert fitter(assembled, wanted, replace(measured, values=values)).all_edges().left.max() > 0.25


@pytest.mark.parametrize(("name", "node", "conductance"), [("divider", "2", 1e-6), ("five_nodes", "4", 3e-8)])
def test_one_leak_that_explains_everything_is_found_and_no_other(name: str, node: str, conductance: float) -> None:
    assembled, wanted, measured = laboratory(name, {})
    values = leaking(assembled)[node](conductance).predict(wanted.stimuli)
    fit = fitter(assembled, wanted, replace(measured, values=values))
    assert fit.single_leaks(leaking(assembled), 0.25) == {node: pytest.approx(conductance, rel=0.05)}
    clogged = laboratory(name, {assembled.network.edge_names[0]: 0.2})[2]
    assert fitter(assembled, wanted, clogged).single_leaks(leaking(assembled), 0.25) == {}


def test_exchanged_leads_explain_what_they_read_and_nothing_else() -> None:
    assembled, wanted, measured = laboratory("divider", {})
    twins = exchanged(assembled)
    assert set(twins) == {("1", "3"), ("1", "2"), ("3", "2")}
    for pair in (("1", "2"), ("3", "2")):
        read = fitter(assembled, wanted, replace(measured, values=twins[pair].predict(wanted.stimuli)))
        assert [other for other, twin in twins.items() if read.explains(twin, 0.25)] == [pair]


def test_a_device_that_remembers_is_judged_by_breaks_and_shorts_only() -> None:
    """What state a memristor that forgets nothing is in, no twin knows."""

    def verdict(factor: float) -> str:
        assembled, wanted, measured = laboratory("single_device", {"device": factor})
        (edge,) = (one for one in _edges(assembled, wanted, measured, 0.25)[1] if one.what == "edge")
        return edge.verdict

    assert [verdict(factor) for factor in (1.0, 0.2, 5.0, 1e-3, 1e3)] == ["ok", "note", "note", "wrong", "wrong"]


def test_a_leak_to_elsewhere_shows_with_all_sources_at_one_voltage() -> None:
    assembled, wanted, measured = laboratory("divider", {})

    def judged(values: FloatArray) -> list[str]:
        found = _isolation(assembled, wanted, replace(measured, values=values), np.ones(2), 0.25)
        return [finding.verdict for finding in found]

    assert judged(measured.values) == ["ok", "ok"]
    leaking = measured.values.copy()
    driven = np.array([abs(stimulus.values[0]) for stimulus in wanted.stimuli])
    leaking[:, 1] += driven / 1e7
    assert judged(leaking) == ["wrong", "ok"]


def test_a_column_of_water_is_no_hydrostatic_zero() -> None:
    shown, exact = {"P1": 101_300.0, "P2": 101_300.0, "P3": 102_300.0}, dict.fromkeys(("P1", "P2", "P3"), 0.0)
    found = list(_hydrostatic(shown, exact))
    assert [one.verdict for one in found] == ["ok", "ok", "wrong"]
    near = _hydrostatic({"P1": 1e5, "P2": 1.001e5}, exact)
    assert all(isinstance(one, Finding) and one.verdict == "ok" for one in near)
    # Controllers that may be 0.25 % of 3 bar off, one up and one down: their data sheet allows it, more it does not.
    coarse = dict.fromkeys(exact, 750.0)
    assert {one.verdict for one in _hydrostatic(shown, coarse)} == {"ok"}
    assert [one.verdict for one in _hydrostatic({**shown, "P3": 102_900.0}, coarse)] == ["ok", "ok", "wrong"]
    # One coarse controller among exact ones makes no room for the others.
    assert [one.verdict for one in _hydrostatic(shown, {**exact, "P1": 2000.0})] == ["ok", "ok", "wrong"]


def test_a_calibration_in_use_says_what_a_controller_holds_that_shows_something_else() -> None:
    told = {"calibration": {"controls": {"P1": {"pace1.a.pressure": {"offset": -300.0, "gain": 1.0}}}}}
    assembled: Any = SimpleNamespace(backend=SimpleNamespace(snapshot=lambda: told))
    assert corrected_pressures(assembled, {"P1": 101_600.0, "P2": 101_300.0}) == {"P1": 101_300.0, "P2": 101_300.0}
    plain: Any = SimpleNamespace(backend=SimpleNamespace(snapshot=dict))
    assert corrected_pressures(plain, {"P1": 101_600.0}) == {"P1": 101_600.0}


def test_a_controller_is_good_to_its_data_sheet_or_to_what_the_bench_file_says() -> None:
    document = read(shipped_protocols() / "benches" / "divider.yaml")
    document.override("station.instruments.pace2.type", "instruments.alicat_pressure.AlicatPressure", "a test")
    document.override("station.instruments.pace2.address", "ASRL/dev/ttyUSB7::INSTR", "a test")
    document.override("controls.P3.parameter", "pace2.pressure", "a test")
    document.override("controls.P2.accuracy", "4 mbar", "a test")
    bench = document.model(BenchFile)
    with assemble(bench, Target.VIRTUAL) as lab, lab.backend:
        lab.backend.measure([plan(control_layout(bench)).stimuli[0]], SettlePolicy(tolerance=1e-2, window=0.2, timeout=60.0))
        assert accuracies(bench) == pytest.approx({"P1": 60.0, "P2": 400.0, "P3": 750.0})  # all of 3 bar
    document.override("controls.V1.accuracy", "1 V", "a test")
    with pytest.raises(ConfigError, match=r"controls\.V1\.accuracy.*only that of a pressure"):
        document.model(BenchFile)


def test_the_plan_is_small_begins_and_ends_at_rest_and_leaves_liquids_alone() -> None:
    controls = control_layout(bench_file("divider_concentration"))
    wanted = plan(controls)
    assert wanted.voltages == {"V1": 0.05, "V3": 0.05}
    for stimulus in wanted.stimuli:
        connected = dict(zip(controls.names, stimulus.connected, strict=True))
        assert (connected["V1"], connected["C1"]) == (True, False)
    assert not wanted.stimuli[0].values[:2].any()
    assert not wanted.stimuli[-1].values[:2].any()
    assert plan(controls, 5.0).voltages == {"V1": 5.0, "V3": 5.0}
    with pytest.raises(ConfigError, match="50 V is beyond the limits of 'V1', 0 … 5 V"):
        plan(controls, 50.0)
    with pytest.raises(ConfigError, match="at least one source of voltage"):
        plan(Layout(tuple(channel for channel in controls if channel.quantity is not Quantity.VOLTAGE)))


def test_what_a_check_of_the_hardware_found_with_other_fields_refuses_plain_runs_too(tmp_path: Path) -> None:
    bench, changed = Path("divider.yaml"), ["bench.controls.P1.height=5 cm"]
    save(tmp_path, "divider", "bench", {"passed": True, "reason": ""} | {"when": "2026-01-01T10:00:00+01:00"})
    clogged = {"passed": False, "reason": "edge a: conducts nothing", "when": "2026-01-01T09:30:00+00:00"}
    for target in ("bench", "virtual"):
        save(tmp_path, "divider", key_of(target, changed), clogged)
    require_passed(tmp_path, bench, "virtual")
    with pytest.raises(SafetyError, match=r"edge a: conducts nothing.*--on bench --set 'controls\.P1\.height=5 cm'"):
        require_passed(tmp_path, bench, "bench")
    save(tmp_path, "divider", "bench", {"passed": True, "reason": "", "when": "2026-01-01T09:31:00+00:00"})
    require_passed(tmp_path, bench, "bench")


def test_records_are_kept_by_target_and_a_failed_one_refuses(tmp_path: Path) -> None:
    require_passed(tmp_path, Path("divider.yaml"), "bench")
    save(tmp_path, "divider", "virtual", {"passed": True, "reason": ""})
    save(tmp_path, "divider", "bench", {"passed": False, "reason": "edge a: conducts nothing"})
    require_passed(tmp_path, Path("divider.yaml"), "virtual")
    with pytest.raises(
        SafetyError, match=r"failed its check on bench .*edge a: conducts nothing.*hil check divider\.yaml --on bench --data"
    ):
        require_passed(tmp_path, Path("divider.yaml"), "bench")
    # With a field changed it is another check: it clears nothing but itself, and counts before that of the plain file.
    mended = ["bench.controls.P1.height=5 cm"]
    with pytest.raises(SafetyError):
        require_passed(tmp_path, Path("divider.yaml"), "bench", mended)
    save(tmp_path, "divider", key_of("bench", ["controls.P1.height=5 cm"]), {"passed": True, "reason": ""})
    require_passed(tmp_path, Path("divider.yaml"), "bench", mended)
    with pytest.raises(SafetyError):
        require_passed(tmp_path, Path("divider.yaml"), "bench")
    save(tmp_path, "divider", key_of("virtual", mended), {"passed": False, "reason": "no"})
    require_passed(tmp_path, Path("divider.yaml"), "virtual")
    with pytest.raises(SafetyError, match=r"hil check divider\.yaml --on virtual --set 'controls\.P1\.height=5 cm' --data"):
        require_passed(tmp_path, Path("divider.yaml"), "virtual", mended)
    (tmp_path / "checks" / "divider.json").write_text("[]", encoding="utf-8")
    with pytest.raises(RecordError, match="no record of a check"):
        load(tmp_path, "divider")


def test_the_range_of_a_current_that_the_check_adds_never_cuts_a_compliance_that_is_the_range() -> None:
    shipped = bench_file("divider_scanner")  # V1 by a 2400, whose range limits the current, V3 by a 2450, whose range does not
    added = with_currents(shipped, plan(control_layout(shipped)).stimuli).outputs
    ranges = {name: float(str(added[f"{name}.current"].setup["range"]).split()[0]) for name in ("V1", "V3")}
    assert ranges["V1"] == shipped.controls["V1"].compliance
    assert 0.0 < ranges["V3"] < 0.2 * (shipped.controls["V3"].compliance or 0.0)
