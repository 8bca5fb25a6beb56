"""`hil calibrate` on a bench, what the doctor says of it, and what is refused or left out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hil.bench import shipped_protocols
from hil.bench_station import start_virtual
from hil.calibrate import SETTLE
from hil.cli import app
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import read
from tests.command_line import hil


def test_a_rehearsal_leaves_a_calibration_of_other_instruments_out(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    kept = {"format": "hil-calibration/1", "targets": {"virtual": {"when": "2026-01-01T00:00:00+00:00", "seed": 1}}}
    path.write_text(json.dumps(kept), encoding="utf-8")
    code, facts, said = hil("dry-run", "voltage_divider", "--set", f"bench.calibration.use={path}", "--set", "stop.max_steps=0")
    assert facts["refusal"] is None, said
    assert facts["relaxations"] > 0
    assert code == 1  # zero steps do not converge
    assert [text for text in facts["warnings"] if f"the calibration {path} is left out" in text]


def test_a_calibration_refuses_what_means_nothing(tmp_path: Path) -> None:
    for arguments, word in (
        (("--voltage", "-1 V"), "small voltage above 0"),
        (("--reference", "V3"), "there is no output 'V3'"),
    ):
        done = CliRunner().invoke(app, ["calibrate", "divider", "--data", str(tmp_path / "data"), *arguments])
        assert done.exit_code == 2
        assert word in done.stderr
    assert not (tmp_path / "data").exists()


# -- on the bench, and the doctor -------------------------------------------------------------------------------


def finding(facts: dict[str, Any], what: str) -> dict[str, str]:
    (row,) = [row for row in facts["findings"] if row["what"] == what]
    return dict(row)


def test_on_the_bench_it_ends_safe_and_the_doctor_knows_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hil.calibrate.SETTLE", replace(SETTLE, window=0.05))  # it is real time that passes here
    shipped = shipped_protocols() / "benches" / "single_device.yaml"
    bench = read(shipped).model(BenchFile)
    with start_virtual(bench, real_time=True) as virtual:
        text = shipped.read_text(encoding="utf-8").replace(bench.station.instruments["smu"].address, virtual.addresses["smu"])
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        _, facts, _ = hil("doctor", "--bench", "mine.yaml")
        assert "never calibrated" in finding(facts, "calibration")["found"]

        code, facts, said = hil("calibrate", "mine.yaml", "--on", "bench", "--voltage", "50 mV")
        assert (code, said) == (0, "")
        assert {one["channel"] for one in facts["found"]} == {"V", "I"}
        assert facts["seed"] is None
        # Low energy, and nothing left on.
        low, high = virtual.side_door.extremes()["voltage"]["1"]
        assert -0.052 < low < high < 0.052
        source = virtual.side_door.sources()["smu"]["smua"]
        assert abs(source["level"]) < 1e-3

        kept = Path("data/calibrations/mine.json")
        code, facts, _ = hil("doctor", "--bench", "mine.yaml")
        row = finding(facts, "calibration on bench")
        assert (code, row["verdict"]) == (0, "ok")
        assert "not in use" in row["found"]
        assert "0.0 days ago" in row["found"]
        assert "largest offsets" in row["found"]

        path.write_text(text + f"calibration: {{use: {kept}, max_age: 30 days}}\n", encoding="utf-8")
        assert finding(hil("doctor", "--bench", "mine.yaml")[1], "calibration on bench")["found"].startswith("in use")
        original = kept.read_text(encoding="utf-8")
        serial = json.loads(original)["targets"]["bench"]["instruments"]["smu"]["identity"]["serial"]
        kept.write_text(original.replace(serial, "4999999"), encoding="utf-8")
        code, facts, said = hil("doctor", "--bench", "mine.yaml")
        assert code == 3
        assert "foreign: instrument 'smu' was '2602B 4999999' then" in finding(facts, "calibration on bench")["found"]
        when = json.loads(original)["targets"]["bench"]["when"]
        kept.write_text(original.replace(when, "2020-01-01T00:00:00+00:00"), encoding="utf-8")
        code, facts, _ = hil("doctor", "--bench", "mine.yaml")
        assert code == 3
        assert "stale: older than the 30 days" in finding(facts, "calibration on bench")["found"]
        path.write_text(text, encoding="utf-8")
        row = finding(hil("doctor", "--bench", "mine.yaml")[1], "calibration on bench")
        assert row["verdict"] == "note"
        assert "stale: calibrate anew" in row["found"]
