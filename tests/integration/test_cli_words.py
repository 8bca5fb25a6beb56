"""What the command line says of itself and of what it was given: the option is named, and the first command is ``run``."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hil.cli import app


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["calibrate", "divider", "--voltage", "5"], "hil: --voltage 5: '5' has no unit, but a quantity in V is needed"),
        (["check", "divider", "--voltage", "abc"], "hil: --voltage abc: 'abc' is not one number"),
        (["plot", "transient", "divider", "--duration", "5 V"], "hil: --duration 5 V: '5 V' has the unit V"),
        (["netlist", "divider", "--duration", "x"], "hil: --duration x: 'x' is not one number"),
        (["run", "voltage_divider", "--hold", "5"], "hil: --hold 5: '5' has no unit, but a quantity in s is needed"),
        (["run", "protocols/voltage_divder.yaml"], "did you mean 'voltage_divider'?\n"),
        (["dry-run", "x.yaml"], "hil: there is no protocol 'x.yaml'; give the path of a file, or the name of a shipped one: "),
        (["check", "x"], "hil: there is no bench file 'x'; give the path of a file, or the name of a shipped one: "),
    ],
)
def test_what_is_wrong_is_named(line: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_is_needed_first_is_listed_first() -> None:
    listed = CliRunner().invoke(app, ["--help"]).stdout
    places = [listed.index(f"│ {name} ") for name in ("run", "resume", "stop", "emergency", "dry-run", "check", "plot")]
    assert places == sorted(places)
