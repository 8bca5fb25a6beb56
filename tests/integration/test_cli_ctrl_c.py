"""Ctrl-C in every command: one sentence and the exit code of what was stopped, never a traceback and never nothing."""

from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from hil.cli import app

STOPPED = {
    "activation 1": "hil.activation.make_activation",
    "calibrate divider": "hil.calibrate_run.calibrate",
    "check divider": "hil.check_run.check",
    "doctor": "hil.doctor.examine",
    "dry-run voltage_divider": "hil.dry_run.prepare",
    "emergency": "hil.control.emergency",
    "export 1": "hil.record.reader.load",
    "first-check divider": "hil.first_check.first_check",
    "netlist voltage_divider": "hil.bench.bench_document",
    "note 1 text": "hil.record.logbook.add_note",
    "plot network voltage_divider": "hil.bench.bench_document",
    "protocols": "hil.bench.shipped_protocols",
    "refill divider_concentration pump_weak=1mL": "hil.refill.refill",
    "resume 1": "hil.resume.resume",
    "run voltage_divider": "hil.run.run",
    "runs": "hil.record.reader.list_runs",
    "show 1": "hil.record.reader.load",
    "stop": "hil.control.stop",
    "virtual divider": "hil.virtual.serve",
}
"""Command line -> where it is when Ctrl-C comes."""


def test_no_command_is_forgotten_here() -> None:
    commands = getattr(get_command(app), "commands", {})
    assert {line.split()[0] for line in STOPPED} == set(commands)


@pytest.mark.parametrize("line", STOPPED)
def test_a_command_that_is_stopped_says_so_in_one_sentence(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(STOPPED[line], press)
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == 5, done.output
    assert done.stdout == ""
    (said,) = done.stderr.splitlines()
    assert said.startswith("hil: ")


def test_a_rehearsal_that_is_stopped_says_that_nothing_was_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hil.dry_run.prepare", press)
    said = CliRunner().invoke(app, ["dry-run", "voltage_divider"]).stderr
    assert said == "hil: the rehearsal was stopped; it was one on emulated instruments, and nothing is on record\n"
