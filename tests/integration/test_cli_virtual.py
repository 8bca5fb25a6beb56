"""The main job through the real drivers, its rehearsal, and emulators that serve a second program."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hil.cli import app
from tests.command_line import hil

ROOT = Path(__file__).parents[2]
DAQ = (
    "--set", "bench.station.instruments.meter.type=instruments.keithley_daq6510.KeithleyDAQ6510",
    "--set", "bench.outputs.V2.setup.range=10 V",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_divider_trains_through_the_drivers_with_the_honest_plant() -> None:
    code, summary, said = hil("run", "voltage_divider", "--on", "virtual")
    assert (code, said) == (0, "")
    assert summary["target"] == "virtual"
    assert abs(summary["outputs"]["V2"] - 4.0) <= 5e-3
    assert summary["loss_floor"] >= 1e-6
    assert summary["results"]["final_samples"] == 20


def test_a_dry_run_reports_limits_loading_and_hours_and_records_nothing(tmp_path: Path) -> None:
    code, facts, _ = hil("dry-run", "voltage_divider", "--set", "stop.max_steps=2")
    assert code == 1
    assert facts["outcome"] == "not_converged"
    assert facts["refusal"] is None
    assert facts["stimuli_checked"] == 11
    assert facts["relaxations"] >= 2 * 4 + 1
    assert 1e-4 < facts["hours"] < 1.0
    dose = facts["extremes"]["V1"].pop("dose")
    assert facts["extremes"]["V1"] == {
        "minimum": 5.0, "maximum": 5.0, "limits": [0.0, 5.0], "unit": "V", "dose_unit": "V s"
    }  # fmt: skip
    # 5 V all the time, but for the ways there and back.
    assert 0.7 * 5.0 * 3600.0 * facts["hours"] < dose <= 5.0 * 3600.0 * facts["hours"]
    assert facts["near_limits"] == ["V1 at 5 V, limit 5 V (0 % left)"]
    assert 9e4 < facts["extremes"]["P2"]["minimum"] < facts["extremes"]["P2"]["maximum"] < 1.1e5
    assert 0.0005 < facts["loading"]["2"]["relative"] < 0.005
    assert not [message for message in facts["warnings"] if "take" in message]
    assert not (tmp_path / "data").exists()


def test_a_dry_run_of_single_channels_with_a_voltmeter_reports_the_loading() -> None:
    _, facts, _ = hil("dry-run", "voltage_divider", "--bench", "divider_single_channel", "--set", "stop.max_steps=0", *DAQ)
    assert facts["loading"]["2"]["relative_by_resistance"] == pytest.approx(0.95, abs=0.01)
    assert [message for message in facts["warnings"] if "of the voltage at node '2' away" in message]


def test_a_dry_run_names_a_refusal() -> None:
    code, facts, said = hil("dry-run", "voltage_divider", "--set", "apply.V1=6 V")
    assert code == 4
    assert "6 V is outside its limits" in facts["refusal"]
    assert facts["refusal"] in said


def test_emulators_in_real_time_serve_the_bench_target(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "hil.cli", "virtual", "divider", "--write", "bench.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(6)]
        assert lines[0].startswith("smu TCPIP0::127.0.0.1::")
        assert "Ctrl-C" in lines[-1]
        doctor = CliRunner().invoke(app, ["doctor", "--bench", "bench.yaml"])
        assert doctor.exit_code == 0, doctor.output
        assert "2602B" in doctor.stdout
        code, summary, said = hil("run", "voltage_divider", "--bench", "bench.yaml", "--on", "bench", "--set", "stop.max_steps=0")
        assert (code, said) == (1, "")
        assert summary["target"] == "bench"
        assert abs(summary["outputs"]["V2"] - 2.5) < 0.05
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "Traceback" not in err
