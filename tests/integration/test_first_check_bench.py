"""A check-out on ``--on bench`` that passes is a driver's first check on hardware; on emulators it is none."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hil.bench import shipped_protocols
from hil.bench_station import start_virtual
from hil.check import SETTLE
from hil.cli import app
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import read
from instruments import first_check
from instruments.keithley_2600 import Keithley2602B


def hil(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bench file of one resistor on a 2602B, at the address of an emulator that runs in real time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hil.check.SETTLE", replace(SETTLE, window=0.05))  # it is real time that passes here
    shipped = (shipped_protocols() / "benches" / "single_device.yaml").read_text(encoding="utf-8")
    head, law, rest = shipped.partition("name: flux_nonvolatile")
    assert law
    mine = tmp_path / "mine.yaml"
    mine.write_text(head + "name: ohmic\n    parameters: {conductance: 10 uS}\n" + rest.partition("}\n")[2], encoding="utf-8")
    document = read(mine).model(BenchFile)
    with start_virtual(document, real_time=True) as virtual:
        text = mine.read_text(encoding="utf-8")
        mine.write_text(text.replace(document.station.instruments["smu"].address, virtual.addresses["smu"]), encoding="utf-8")
        yield mine.name


def test_a_passed_check_is_told_by_doctor_and_can_be_sent(bench: str, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = hil("check", bench, "--on", "bench")
    assert facts["first_checks"] == [], "emulators are no hardware"
    assert first_check.local(Keithley2602B, Path("data")) == []

    monkeypatch.setattr(first_check, "is_emulated", lambda _address: False)
    (line,) = hil("check", bench, "--on", "bench")["first_checks"]
    assert line.startswith("Keithley2602B tried on hardware: kept in")
    (record,) = first_check.local(Keithley2602B, Path("data"))
    assert record.did.startswith("hil check passed: drove smua.volt at ")
    assert "read smua.curr" in record.did
    (told,) = [row for row in hil("doctor", "--bench", bench)["findings"] if row["what"] == "driver"]
    assert (told["verdict"], record.sentence() in told["found"]) == ("ok", True)

    hil("first-check", bench, "smu", "--did", "1 Mohm at 1 V read 0.9998 uA", "--by", "A. Person, Some Lab")
    (content,) = hil("first-check", bench)["files"].values()
    assert [entry["did"] for entry in json.loads(content)] == [record.did, "1 Mohm at 1 V read 0.9998 uA"]
