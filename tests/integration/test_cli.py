"""The command line as a user has it: commands, exit codes, the JSON object on the last line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hil.cli import app

FIELDS = [
    "run_id", "protocol", "target", "outcome", "steps", "relaxations", "loss", "loss_floor", "loss_history", "outputs", "weights",
    "warnings", "results",
]  # fmt: skip
PROTOCOLS = ["input_output_mapping", "linear_regression", "voltage_divider", "voltage_divider_1v", "voltage_divider_published"]
ROOT = Path(__file__).parents[2]


def hil(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shipped protocols are found by name from any directory; the data folder is the one of that directory."""
    monkeypatch.chdir(tmp_path)


def test_run_prints_one_json_object_last_and_records_in_data(tmp_path: Path) -> None:
    done = hil("run", "voltage_divider", "--json", "--set", "weights=concentration")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout.splitlines()[-1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert list(summary) == FIELDS
    assert (tmp_path / "data" / "runs.db").is_file()
    listed = hil("runs")
    assert "converged" in listed.stdout
    assert "voltage_divider" in listed.stdout
    assert json.loads(hil("runs", "--json").stdout)[0]["run_id"] == summary["run_id"]
    shown = hil("show", str(summary["run_id"]))
    assert re.search(r"^  concentration\.1 = \S+ mol/m\^3$", shown.stdout, re.MULTILINE)
    assert re.search(r"^  loss \S+ V\^2 \(floor \S+ V\^2\); ", shown.stdout, re.MULTILINE)
    assert json.loads(hil("show", "1", "--json").stdout.splitlines()[-1])["outcome"] == "converged"
    for form, name in (("csv", "run_1_readings.csv"), ("netcdf", "run_1.nc"), ("parquet", "run_1_readings.parquet")):
        assert hil("export", "1", "--to", form, "--out", "out").exit_code == 0
        assert (tmp_path / "out" / name).is_file()


def test_a_path_works_as_well_as_a_name() -> None:
    done = hil("run", str(ROOT / "protocols" / "voltage_divider.yaml"), "--set", "stop.max_steps=1")
    assert done.exit_code == 1
    assert "not_converged after 1 steps" in done.stdout


def test_protocols_lists_what_is_shipped() -> None:
    shipped = sorted(path.stem for path in (Path(__file__).parents[2] / "protocols").glob("*.yaml"))
    assert [line.split()[0] for line in hil("protocols").stdout.splitlines()] == shipped
    assert set(PROTOCOLS) <= set(shipped)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_shipped_protocol_takes_its_first_step(name: str) -> None:
    done = hil("run", name, "--json", "--set", "stop.max_steps=1")
    summary = json.loads(done.stdout.splitlines()[-1])
    assert done.exit_code in (0, 1)
    assert summary["loss"] < summary["loss_history"][0]


def test_unknown_runs_and_empty_folders_are_one_sentence() -> None:
    for arguments in (("show", "1"), ("runs",), ("export", "1"), ("export", "1", "--to", "xml")):
        done = hil(*arguments)
        assert done.exit_code == 2
        assert done.stderr.startswith("hil: ")
        assert len(done.stderr.splitlines()) == 1


def test_usage_errors_are_bad_input() -> None:
    assert hil("run", "voltage_divider", "--on", "mars").exit_code == 2
    assert hil("run", "voltage_divider", "--seed", "-1").exit_code == 2
    assert hil("run").exit_code == 2


def test_help_imports_little_and_nothing_heavy() -> None:
    """That is what makes it quick, on any machine."""
    code = (
        "import sys\nsys.argv=['hil','--help']\nfrom hil.cli import main\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        "heavy={'numpy','scipy','qcodes','pandas','matplotlib','pyvisa','pint','numba','pydantic','yaml'}&set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert len(sys.modules) < 400, len(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["emergency", "stop"])
def test_whoever_stops_something_in_a_hurry_waits_for_no_import(command: str) -> None:
    """The guard is spoken to before anything is loaded that this does not need, and may not even be in order.

    Pydantic alone may be there: recent versions of typer parse the arguments with it.
    """
    code = (
        "import sys\nimport hil.control\n"
        "heavy={'hil.prepared','hil.bench','instruments','numpy','scipy','qcodes','pandas','pyvisa','pint','yaml'}\n"
        "def asked(folder):\n"
        "    return [f'loaded: {sorted(heavy & set(sys.modules))}']\n"
        f"hil.control.{command} = asked\n"
        f"sys.argv=['hil','{command}']\nfrom hil.cli import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "loaded: []\n", "")


def test_sigterm_ends_a_run_safely_with_exit_code_5(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "hil.cli", "run", "voltage_divider", "--json", "--set", "stop={max_steps: 1000000}"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 240
        while hil("runs").exit_code != 0 or "voltage_divider" not in hil("runs").stdout:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 5, err
    assert json.loads(out.splitlines()[-1])["outcome"] == "stopped"
    assert "Traceback" not in err
    assert "stopped" in hil("runs").stdout


def test_doctor_without_a_bench_names_packages() -> None:
    done = hil("doctor")
    assert done.exit_code == 0
    assert "pyvisa" in done.stdout
    assert "VISA sees" in done.stdout


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there is no terminal to look at")
def test_at_a_terminal_the_progress_line_is_gone_before_an_error_is_told() -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "hil.cli", "check", "no_such_bench"]
    with subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL, env={**environment(), "TERM": "xterm"}) as process:
        os.close(theirs)
        said = b""
        with suppress(OSError):  # how the end of a terminal shows
            while part := os.read(ours, 4096):
                said += part
    os.close(ours)
    assert process.returncode == 2
    assert b"checking no_such_bench" in said
    erased = said.rpartition(b"\x1b[2K")[2]
    assert erased.startswith(b"hil: there is no bench file 'no_such_bench'"), said
