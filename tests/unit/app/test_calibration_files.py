"""The levels of a calibration, the file it leaves with its history, and what the doctor makes of it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.bench import shipped_protocols
from hil.bench_check import control_layout
from hil.bench_layout import envelope
from hil.calibrate import Plan, plan
from hil.calibration import FORMAT, corrections, files_of, load, path_of, raw_observers, save
from hil.calibration_report import calibration_rows
from hil.core.errors import ConfigError, RecordError
from hil.core.events import Event, EventStream
from hil.core.types import Channel, Kind, Layout, Quantity, Readings
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import read


def bench(*sets: str, name: str = "divider") -> BenchFile:
    document = read(shipped_protocols() / "benches" / f"{name}.yaml")
    for text in sets:
        path, _, value = text.partition("=")
        document.override(path, value, text)
    return document.model(BenchFile)


def planned(*sets: str, name: str = "divider", voltage: float | None = None) -> tuple[Plan, Any]:
    made = bench(*sets, name=name)
    limits = envelope(made, control_layout(made))
    wanted = plan(made, limits, voltage)
    for stimulus in wanted.stimuli:
        limits.check(stimulus.values, stimulus.connected)
    return wanted, limits.layout


def voltages(wanted: Plan, layout: Any, control: str) -> list[float]:
    return [float(stimulus.values[layout.index(control)]) for stimulus in wanted.stimuli]


def test_sources_go_together_and_then_each_alone_from_0_back_to_0() -> None:
    wanted, layout = planned()
    one, other = voltages(wanted, layout, "V1"), voltages(wanted, layout, "V3")
    assert one[:10] == other[:10] == pytest.approx([0, 0.125, 0.25, 0.375, 0.5, 0.5, 0.375, 0.25, 0.125, 0])
    assert one[10:] == pytest.approx([0.5, 0, 0])
    assert other[10:] == pytest.approx([0, 0.5, 0])
    assert wanted.alone == {10: "V1", 11: "V3"}
    # All pressures at one set-point.
    assert {float(s.values[layout.index(name)]) for s in wanted.stimuli for name in ("P1", "P2", "P3")} == {1e5}


def test_both_signs_where_the_limits_allow() -> None:
    wanted, layout = planned(name="matched_pair", voltage=0.2)
    assert voltages(wanted, layout, "V") == pytest.approx([0, 0.1, 0.2, 0.2, 0.1, 0, -0.1, -0.2, -0.2, -0.1, 0, 0])
    assert wanted.pair.shape == (9, 2)
    assert np.abs(wanted.pair).max() == pytest.approx(0.2)
    # Every row has its mirror image, and every pair of roles is exchanged.
    rows = {tuple(row) for row in wanted.pair}
    assert all((-one, -other) in rows and (other, one) in rows for one, other in rows)


def test_limits_hold_for_every_level() -> None:
    wanted, layout = planned("controls.V1.limits=[-0.01 V, 0.03 V]")
    assert max(voltages(wanted, layout, "V1")) == pytest.approx(0.03)
    assert max(voltages(wanted, layout, "V3")) == pytest.approx(0.03)
    # A source that may not differ from its neighbour is never alone; ``planned`` checks every stimulus.
    wanted, _ = planned("edge_limits={a: {pressure: 1 mbar}, b: {pressure: 1 mbar}}")
    assert len(wanted.alone) == 2


def test_a_difference_that_is_not_allowed_is_left_out() -> None:
    document = read(shipped_protocols() / "benches" / "divider.yaml")
    document.override("twin.edges.c", '{base: "1", tip: "3"}', "test")
    document.override("edge_limits.c", "{voltage: 100 mV}", "test")
    made = document.model(BenchFile)
    limits = envelope(made, control_layout(made))
    assert plan(made, limits).alone == {}
    assert len(plan(made, limits, 0.1).alone) == 2


def test_sources_without_a_common_level_are_refused() -> None:
    sets = ("controls.V1.limits=[-5 V, 0 V]", "controls.V3.limits=[0 V, 5 V]")
    with pytest.raises(ConfigError, match="no level in common beside 0 V"):
        planned(*sets)


FOUND = {
    "part": "sources", "section": "controls", "channel": "V1", "parameter": "smu.smua.volt", "unit": "V", "against": "V2",
    "offset": 1e-3, "offset_std": 1e-5, "gain": 1.0001, "gain_std": 1e-6, "residual": 1e-5, "points": 13, "applies": True,
    "why_not": "",
}  # fmt: skip
SMU = {"type": "instruments.keithley_2600.Keithley2602B", "serial": "2602B 4123456", "identity": {"serial": "4123456"}}
ASKED = {"smu": "Keithley Instruments Inc., Model 2602B, 4123456, 3.4.2"}


def facts(days: float = 0.0, **changes: Any) -> dict[str, Any]:
    when = (datetime.now(tz=UTC) - timedelta(days=days)).isoformat(timespec="seconds")
    made: dict[str, Any] = {
        "when": when, "run_id": 7, "seed": None, "reference": None, "bench_sha256": "0", "instruments": {"smu": SMU},
        "channels": {"controls": {"V1": {"parameters": ["smu.smua.volt"], "setup": {}}}, "outputs": {}},
        "spans": {"V1": 5.0}, "found": [FOUND], "pairs": {"A/B": {"mismatch_percent": -0.07}},
    }  # fmt: skip
    return {**made, **changes}


def test_no_calibration_is_ever_lost(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path, "lab", "bench" if number % 2 else "virtual", facts(run_id=number))
    kept = load(path_of(tmp_path, "lab"))
    assert {target: one["run_id"] for target, one in kept.items()} == {"virtual": 2, "bench": 3}
    history = sorted((tmp_path / "calibrations" / "history").glob("lab-*.json"))
    assert len(history) == 3
    seen = [{one["run_id"] for one in load(path).values()} for path in history]
    assert sorted(map(sorted, seen)) == [[0], [0, 1], [1, 2]]
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_file_that_is_no_calibration_is_told_from_a_missing_one(tmp_path: Path) -> None:
    path = path_of(tmp_path, "lab")
    assert load(path) == {}
    path.parent.mkdir()
    for text in ("not json", '{"targets": {}}', json.dumps({"format": FORMAT, "targets": 3})):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(RecordError, match="calibrate the bench anew"):
            load(path)


def rows(tmp_path: Path, *sets: str, asked: dict[str, str] = ASKED) -> list[dict[str, str]]:
    return calibration_rows(tmp_path, "lab", bench(*sets), asked)


def test_the_doctor_tells_age_and_largest_offset_and_whose_it_is(tmp_path: Path) -> None:
    assert [row["verdict"] for row in rows(tmp_path)] == ["note"]
    path = save(tmp_path, "lab", "bench", facts(days=3.0))
    used = f"calibration.use={path}"
    (row,) = rows(tmp_path, used)
    assert row["verdict"] == "ok"
    assert "in use, made on" in row["found"]
    assert "(3.0 days ago), largest offsets +0.001 V (V1), -0.07 % (A/B)" in row["found"]
    other = {"smu": ASKED["smu"].replace("4123456", "4654321")}
    assert [(row["verdict"], "foreign" in row["found"]) for row in rows(tmp_path, used, asked=other)] == [("wrong", True)]
    assert [row["verdict"] for row in rows(tmp_path, asked=other)] == ["note"]
    (row,) = rows(tmp_path, used, "controls.V1.setup={nplc: 10}")
    assert (row["verdict"], "setup of 'V1'" in row["found"]) == ("wrong", True)
    (row,) = rows(tmp_path, used, "calibration.max_age=2 days")
    assert (row["verdict"], "older than the 2 days" in row["found"]) == ("wrong", True)


def test_the_doctor_reads_what_is_missing_or_broken(tmp_path: Path) -> None:
    path = save(tmp_path, "lab", "virtual", facts(days=100.0, seed=1))
    found = rows(tmp_path, f"calibration.use={path}")
    assert [row["verdict"] for row in found] == ["wrong", "note"]
    assert "never made on the hardware" in found[0]["found"]
    assert "stale: calibrate anew" in found[1]["found"]
    path.write_text(json.dumps({"format": FORMAT, "targets": {"bench": {"when": "yesterday"}}}), encoding="utf-8")
    (row,) = rows(tmp_path, f"calibration.use={path}")
    assert (row["verdict"], "is not complete" in row["found"]) == ("wrong", True)
    path.write_text("{", encoding="utf-8")
    assert [row["verdict"] for row in rows(tmp_path)] == ["note"]


def test_a_file_in_use_has_a_fingerprint_that_changes_with_it(tmp_path: Path) -> None:
    assert files_of(bench()) == {}
    path = tmp_path / "c.json"
    used = bench(f"calibration.use={path}")
    assert files_of(used) == {"calibration": "missing"}
    path.write_text("1", encoding="utf-8")
    before = files_of(used)
    path.write_text("2", encoding="utf-8")
    assert files_of(used) != before


def test_raw_readings_are_told_apart_by_replica() -> None:
    seen: list[Event] = []
    outputs = Layout((Channel("I", Quantity.CURRENT, Kind.SENSE), Channel("U", Quantity.VOLTAGE, Kind.SENSE)))
    snapshot = {
        "calibration": {"outputs": {"I": {"smu.smub.curr": {"offset": 1.0, "gain": 2.0}}}},
        "replicas": {"A": {"I": "smu.smua.curr", "U": "m.a.volt"}, "B": {"I": "smu.smub.curr", "U": "m.b.volt"}},
        "outputs": {"I": {"parameter": "smu.smua.curr"}, "U": {"parameter": "m.a.volt"}},
    }
    (keep,) = raw_observers(snapshot, outputs, EventStream(None, [seen.append]))
    values = np.array([[3.0, 4.0], [3.0, 4.0]])
    keep([], Readings(values, values, np.zeros((2, 2), dtype=np.bool_), np.array([0.5, 0.5]), ("A", "B")))
    assert [event.row for event in seen] == [  # type: ignore[union-attr] # these events are rows
        {"time": 0.5, "replica": "A", "I": 3.0, "U": 4.0},
        {"time": 0.5, "replica": "B", "I": 7.0, "U": 4.0},
    ]
    assert raw_observers({"replicas": {}}, outputs, EventStream()) == []


def test_what_a_source_measures_at_itself_is_corrected_where_charge_and_power_are_metered(tmp_path: Path) -> None:
    """Its ammeter was calibrated as a readback; the divider has no output there."""
    ammeter = {
        **FOUND, "part": "meters", "section": "outputs", "channel": "V1.current", "parameter": "smu.smua.curr", "unit": "A",
        "offset": 2e-10, "gain": 1.0,
    }  # fmt: skip
    elsewhere = {**ammeter, "channel": "I", "parameter": "meter.curr"}
    doubtful = {**ammeter, "channel": "V3.current", "parameter": "smu.smub.curr", "applies": False}
    path = save(tmp_path, "lab", "bench", facts(found=[FOUND, ammeter, elsewhere, doubtful]))
    found, said = corrections(bench(f"calibration.use={path}"), "bench")
    assert said == ""
    assert found is not None
    assert {name: one.offset for name, one in found.meters.items()} == {"smu.smua.curr": 2e-10}
    assert found.outputs == {}
    only_sources, _ = corrections(bench(f"calibration.use={path}", "calibration.correct=[sources]"), "bench")
    assert only_sources is not None
    assert only_sources.meters == {}
