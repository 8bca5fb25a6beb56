"""A bench that reads amperes and volts; what a curve is judged by, and what the command line says of it."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hil.cli import app

BENCH = """
format: hil-bench/1
station:
  instruments:
    smu: {type: instruments.keithley_2400.Keithley2400, address: "GPIB0::24::INSTR"}
    meter: {type: instruments.keithley_6517b.Keithley6517B, address: "GPIB0::27::INSTR"}
twin:
  law: {name: conical_channel, preset: network, parallel: 20000}
  nodes: {"1": {}, "2": {cable_capacitance: 100 pF}, "3": {ground: true}}
  edges: {a: {base: "1", tip: "2"}, b: {base: "2", tip: "3"}}
controls:
  V1: {node: "1", parameter: smu.volt, limits: [-1 V, 1 V], slew: 10 V/s, compliance: 1 uA, safe: 0 V}
outputs:
  V2: {node: "2", parameter: meter.volt, setup: {range: 2 V, nplc: 1, guard: true}}
  I1: {node: "1", parameter: smu.curr, setup: {nplc: 1}}
"""
CURVE = """
format: hil-protocol/1
procedure: iv_curve
bench: lab.yaml
control: V1
output: I1
sweep: {shape: staircase, start: 0 V, stop: 1 V, points: 3}
settle: {tolerance: 3 nA, window: 100 ms, timeout: 10 s}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "lab.yaml").write_text(BENCH)
    (tmp_path / "curve.yaml").write_text(CURVE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("target", ["simulated", "virtual"])
def test_a_tolerance_in_amperes_does_not_wait_for_volts(folder: Path, target: str) -> None:
    done = CliRunner().invoke(app, ["run", "curve.yaml", "--on", target])
    assert done.exit_code == 0, done.output


def test_a_curve_of_volts_is_refused_in_one_sentence(folder: Path) -> None:
    done = CliRunner().invoke(app, ["dry-run", "curve.yaml", "--set", "output=V2"])
    assert done.exit_code == 2
    assert done.stderr == "hil: --set output=V2: output: an I-V curve needs a current here, and 'V2' is none; take I1\n"
    assert done.stdout == ""


def test_a_colon_in_a_title_says_what_to_do(folder: Path) -> None:
    (folder / "curve.yaml").write_text(CURVE + "title: curve: the second\n")
    done = CliRunner().invoke(app, ["run", "curve.yaml"])
    assert done.exit_code == 2
    assert "line 9: not valid YAML: a second ': ' in this line; put text that holds one in quotes" in done.stderr


def test_what_ended_a_run_is_said_once(folder: Path) -> None:
    done = CliRunner().invoke(app, ["run", "curve.yaml", "--on", "virtual", "--set", "settle.tolerance=1e-18 A"])
    assert done.exit_code == 3
    assert "output 'I1' still moved" in done.stderr
    assert "still moved" not in done.stdout
    assert CliRunner().invoke(app, ["show", "1"]).stdout.count("still moved") == 1


@pytest.mark.parametrize("target", ["simulated", "virtual"])
def test_with_two_tolerances_volts_and_amperes_are_waited_for(folder: Path, target: str) -> None:
    def run(volts: str) -> Any:
        both = f"settle.tolerance={{voltage: {volts}, current: 3 nA}}"
        return CliRunner().invoke(app, ["run", "curve.yaml", "--on", target, "--set", both])

    done = run("10 mV")
    assert done.exit_code == 0, done.output
    if target == "simulated":  # where volts of this bench do not move at all: two devices that are alike
        return
    late = run("1e-30 V")
    assert late.exit_code == 3
    assert "output 'V2' still moved by" in late.stderr
    assert "(tolerance 1e-30 V)" in late.stderr


@pytest.mark.parametrize(
    ("tolerance", "said"),
    [
        ("{voltage: 1 mV}", "add `current: …`, for outputs that are read in A"),
        ("{volts: 1 mV}", "settle.tolerance.volts: there is no quantity of an output 'volts'; did you mean 'voltage'?"),
        ("{current: 1 mV}", "'1 mV' has the unit mV, but a quantity in A is needed"),
        ("{current: 0 A}", "settle.tolerance.current: '0 A' must be above 0"),
        ("1 mV", "'1 mV' has the unit mV, but a quantity in A is needed"),
    ],
)
def test_a_tolerance_that_is_none_is_refused(folder: Path, tolerance: str, said: str) -> None:
    done = CliRunner().invoke(app, ["run", "curve.yaml", "--set", f"settle.tolerance={tolerance}"])
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
