"""Drivers tried on hardware: records, pages and doctor say one thing; a lab's record needs no write access to the package."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hil import first_check as lab
from hil.bench import shipped_protocols
from hil.cli import app
from hil.core.errors import ConfigError, RecordError
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import read
from instruments import first_check, inspection, station
from instruments.first_check import FirstCheck, is_emulated, statement
from instruments.keithley_2600 import Keithley2602B, Keithley2636B
from tests.unit.instruments.conftest import Build

ROOT = Path(__file__).resolve().parents[3]
PAGES = ROOT / "docs" / "instruments"
DRIVERS = station.own_drivers()
RECORD = FirstCheck(
    "Keithley2602B", "2026-03-01", "A. Person, Some Lab", "Keithley 2602B", "3.3.5", "hil check passed: drove it", "0.1.0"
)


def page_of(driver: type[Any]) -> Path:
    """The page whose head names the driver by its full path or, after the first, by its class."""
    heads = {path: " ".join(path.read_text(encoding="utf-8").split("**Wiring", 1)[0].split()) for path in PAGES.glob("*.md")}
    found = [path for path, head in heads.items() if "Driver" in head and f"{driver.__name__}`" in head]
    assert len(found) == 1, f"{driver.__name__} stands at the head of {[path.name for path in found]}: it needs one page"
    return found[0]


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.__name__)
def test_the_page_says_what_the_records_say(driver: type[Any]) -> None:
    page = page_of(driver)
    together = [other for other in DRIVERS if page_of(other) == page]
    wanted = statement(together)
    said = " ".join(page.read_text(encoding="utf-8").split("**Wiring", 1)[0].split())
    assert wanted in said, f"{page.name} has to say before its wiring: {wanted}"
    assert ("Tried on hardware:" in said) == ("Tried on hardware:" in wanted)


def test_every_shipped_record_belongs_to_a_driver() -> None:
    names = {driver.__name__ for driver in DRIVERS}
    for path in (ROOT / "instruments" / "checked").glob("*.json"):
        assert path.stem in names
    for driver in DRIVERS:
        first_check.shipped(driver)


def test_a_page_of_two_drivers_names_the_one_that_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_check, "shipped", lambda driver: [RECORD] if driver is Keithley2602B else [])
    assert statement([Keithley2636B]) == "**Not tried on hardware yet.**"
    said = statement([Keithley2602B, Keithley2636B])
    assert said.startswith("**Tried on hardware:** Keithley2602B, 2026-03-01 by A. Person, Some Lab (Keithley 2602B, firmware")
    assert said.endswith("**Not yet:** Keithley2636B.")


def test_doctor_and_driver_tell_the_labs_own_record(tmp_path: Path, build: Build) -> None:
    unit, _ = build(Keithley2602B)
    (untold,) = [finding for finding in inspection._origin("smu", unit, tmp_path) if finding.what == "driver"]
    assert (untold.verdict, "never tried on hardware" in untold.found) == ("note", True)
    path = first_check.add(Keithley2602B, tmp_path, RECORD)
    assert path == tmp_path / "checks" / "hardware" / "Keithley2602B.json"
    (told,) = [finding for finding in inspection._origin("smu", unit, tmp_path) if finding.what == "driver"]
    assert (told.verdict, RECORD.sentence() in told.found) == ("ok", True)
    assert Keithley2602B.checked_on_hardware() == ""
    assert Keithley2602B.checked_on_hardware(tmp_path) == RECORD.sentence()
    assert Keithley2636B.checked_on_hardware(tmp_path) == ""


def test_the_same_check_replaces_its_older_record(tmp_path: Path) -> None:
    first_check.add(Keithley2602B, tmp_path, RECORD)
    later = FirstCheck(**{**asdict(RECORD), "when": "2026-04-01"})
    other = FirstCheck(**{**asdict(RECORD), "firmware": "3.4.0"})
    first_check.add(Keithley2602B, tmp_path, later)
    first_check.add(Keithley2602B, tmp_path, other)
    assert first_check.known(Keithley2602B, tmp_path) == [other, later]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "cannot be read"),
        ("{}", "not a list"),
        ('[{"driver": "Keithley2602B"}]', "no list of checks"),
        (json.dumps([{**asdict(RECORD), "when": "yesterday"}]), "2026-01-31"),
        (json.dumps([{**asdict(RECORD), "by": " "}]), "'by'"),
        (json.dumps([{**asdict(RECORD), "driver": "Keithley2636B"}]), "belongs into a file of that name"),
    ],
)
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, content: str, why: str) -> None:
    path = first_check.local_path(Keithley2602B, tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RecordError, match=why):
        first_check.known(Keithley2602B, tmp_path)


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("TCPIP0::127.0.0.1::5025::SOCKET", True),
        ("TCPIP::localhost::hislip0,4880::INSTR", True),
        ("TCPIP::127.0.0.1,3001::inst0::INSTR", True),
        ("TCPIP0::[::1]::5025::SOCKET", True),
        ("PRLGX-TCPIP0::127.0.0.1::1234::GPIB::24", True),
        ("ASRL/dev/pts/3::INSTR", True),
        ("TCPIP0::192.0.2.31::5025::SOCKET", False),
        ("TCPIP0::smu.lab.example::inst0::INSTR", False),
        ("ASRL/dev/ttyUSB0::INSTR", False),
        ("ASRL3::INSTR", False),
        ("GPIB0::24::INSTR", False),
    ],
)
def test_an_address_on_this_computer_is_no_hardware(address: str, here: bool) -> None:
    assert is_emulated(address) is here


@pytest.mark.skipif(sys.platform == "win32", reason="links to devices are a matter of POSIX")
def test_a_link_to_an_emulated_serial_port_is_no_hardware_either(tmp_path: Path) -> None:
    (tmp_path / "pump").symlink_to("/dev/pts/3")
    (tmp_path / "real").symlink_to("/dev/ttyUSB0")
    assert is_emulated(f"ASRL{tmp_path}/pump::INSTR")
    assert not is_emulated(f"ASRL{tmp_path}/real::INSTR")


@pytest.fixture
def bench() -> BenchFile:
    return read(shipped_protocols() / "benches" / "divider.yaml").model(BenchFile)


def test_a_check_speaks_for_what_it_has_moved_or_read(bench: BenchFile) -> None:
    did = lab.exercised(bench, {"V1": 0.05, "V3": 0.05})
    assert did.keys() == {"smu", "meter"}, "pressures only stood still: their controllers were not tried"
    assert "drove smua.volt at 0.05 V, smub.volt at 0.05 V" in did["smu"]
    assert did["meter"] == "hil check passed: read volt"


def test_a_lab_keeps_its_record_and_gets_the_file_to_send(
    bench: BenchFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: Mapping[str, str | None] = {"vendor": "Keithley", "model": "2602B", "serial": "SECRET1", "firmware": "3.3.5"}
    monkeypatch.setattr(lab, "_identity", lambda _spec, _driver: told)
    assert lab.contributions(bench, tmp_path) == {}
    (line,) = lab.keep(bench, {"smu": "drove a resistor"}, tmp_path, "A. Person, Some Lab")
    assert "Keithley2602B" in line
    ((path, content),) = lab.contributions(bench, tmp_path).items()
    assert path == "instruments/checked/Keithley2602B.json"
    assert "SECRET1" not in content
    (entry,) = json.loads(content)
    assert (entry["model"], entry["firmware"], entry["did"]) == ("Keithley 2602B", "3.3.5", "drove a resistor")
    # The file that is sent is the file that is read once it is there.
    (record,) = first_check._records(json.loads(content))
    assert record.sentence() in Keithley2602B.checked_on_hardware(tmp_path)


def test_emulators_leave_no_record(bench: BenchFile, tmp_path: Path) -> None:
    emulated = bench.station.instruments["smu"].model_copy(update={"address": "TCPIP0::127.0.0.1::1::SOCKET"})
    station_ = bench.station.model_copy(update={"instruments": {**bench.station.instruments, "smu": emulated}})
    moved = bench.model_copy(update={"station": station_})
    assert lab.keep(moved, {"smu": "x"}, tmp_path) == []
    with pytest.raises(ConfigError, match="emulators"):
        lab.keep(moved, {"smu": "x"}, tmp_path, insist=True)


def test_a_record_that_cannot_be_made_does_not_fail_the_check(
    bench: BenchFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checks").write_text("in the way", encoding="utf-8")
    monkeypatch.setattr(lab, "_identity", lambda _spec, _driver: {"vendor": "K", "model": "2602B", "firmware": "1"})
    (line,) = lab.kept_after(bench, {"V1": 0.05}, tmp_path)
    assert line.startswith("no record of the first check was made")


def test_the_command_line_wants_both_instrument_and_deed(tmp_path: Path) -> None:
    run = CliRunner().invoke
    done = run(app, ["first-check", "divider", "smu", "--data", str(tmp_path)])
    assert (done.exit_code, "--did" in done.stderr) == (2, True)
    done = run(app, ["first-check", "divider", "pump", "--did", "x", "--data", str(tmp_path)])
    assert (done.exit_code, "no instrument 'pump'" in done.stderr) == (2, True)
    done = run(app, ["first-check", "divider", "--data", str(tmp_path)])
    assert (done.exit_code, "nothing to contribute" in done.stdout) == (0, True)
