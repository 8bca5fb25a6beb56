"""What is looked at before a bench is used: doctor, check-out, calibration."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hil.bench import shipped_protocols
from hil.bench_station import start_virtual
from hil.check_record import save
from hil.cli import app
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import read
from hil.locks import locked_bench
from tests.command_line import hil


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    """The divider's bench file with the addresses of running emulators, and these."""
    path = shipped_protocols() / "benches" / "divider.yaml"
    bench = read(path).model(BenchFile)
    with start_virtual(bench) as virtual:
        text = path.read_text(encoding="utf-8")
        for name, instrument in bench.station.instruments.items():
            text = text.replace(instrument.address, virtual.addresses[name])
        copy = tmp_path_factory.mktemp("benches") / "bench.yaml"
        text += "interlocks: {door: {parameter: smu.digio.bit1, expected: 1}}\n"
        text += "housekeeping: {gas: pace1.a.pressure, leak: smu.smua.curr}\n"
        copy.write_text(text, encoding="utf-8")
        yield copy, virtual


def rows(facts: dict[str, Any], what: str) -> dict[str, dict[str, str]]:
    return {row["where"]: row for row in facts["findings"] if row["what"] == what}


def test_doctor_looks_at_everything_and_touches_nothing(emulated: tuple[Path, Any]) -> None:
    path, virtual = emulated
    before = virtual.side_door.sources(), virtual.side_door.outlets()
    code, facts, said = hil("doctor", "--bench", str(path))
    assert (code, said) == (0, "")
    assert "2602B" in rows(facts, "identity")["smu"]["found"]
    assert rows(facts, "firmware")["pace1"]["found"] == "02.02.14"
    assert rows(facts, "output").keys() == {"V1", "V3", "P1", "P2", "P3"}
    # After power-on a 2602B holds 1 A: what the bench file wants is set before the output goes on, and doctor says so.
    assert rows(facts, "compliance")["V1"]["verdict"] == "note"
    assert rows(facts, "range")["V1"]["found"] == "0.1 V held now, the bench file wants 5 V; set before the output goes on"
    assert rows(facts, "range")["V1"]["verdict"] == "note"
    assert rows(facts, "off mode")["V3"]["found"] == "zero held now, the bench file wants zero"
    assert rows(facts, "unit")["P1"]["verdict"] == "note"  # after power-on a PACE counts in bar
    assert (
        rows(facts, "slew")["P3"]["found"] == "inf Pa/s held now, the bench file wants 5000 Pa/s; set before the output goes on"
    )
    assert rows(facts, "housekeeping")["gas"]["found"] == "pace1.a.pressure can be read (Pa)"
    assert "never tried on hardware" in rows(facts, "driver")["meter"]["found"]
    assert "permits" in rows(facts, "interlock")["door"]["found"]
    assert rows(facts, "disk space")["data"]["verdict"] == "ok"
    assert (virtual.side_door.sources(), virtual.side_door.outlets()) == before


def test_doctor_prints_a_table_and_names_a_source_left_on(emulated: tuple[Path, Any]) -> None:
    from instruments.keithley_2600 import Keithley2602B

    path, virtual = emulated
    smu = Keithley2602B("left", virtual.addresses["smu"])
    smu.write("smua.source.levelv=0.25 smua.source.output=1")
    smu.ask("smua.source.output")
    smu.close()
    try:
        done = CliRunner().invoke(app, ["doctor", "--bench", str(path)])
        assert done.exit_code == 0
        (line,) = [line for line in done.stdout.splitlines() if "ON at 0.25 V" in line]
        assert line.split()[:3] == ["note", "V1", "output"]
        assert virtual.side_door.sources()["smu"]["smua"]["level"] == pytest.approx(0.25, abs=1e-3)
    finally:
        virtual.side_door.renew()


def test_doctor_does_not_disturb_somebody_who_measures(emulated: tuple[Path, Any]) -> None:
    path, virtual = emulated
    with locked_bench([virtual.addresses["smu"]], "a night of measurement", "Ada"):
        code, facts, said = hil("doctor", "--bench", str(path))
    assert code == 3
    assert "in use by Ada for a night of measurement" in said
    assert not rows(facts, "identity")


@pytest.mark.parametrize(("parameter", "complaint"), [("pace1.q.pressure", "no port 'q'"), ("smu.smua.temper", "cannot be read")])
def test_housekeeping_that_nobody_can_read_is_found_before_the_night(
    emulated: tuple[Path, Any], parameter: str, complaint: str
) -> None:
    path, _ = emulated
    other = path.with_name("watched.yaml")
    other.write_text(path.read_text(encoding="utf-8").replace("smu.smua.curr}", f"{parameter}}}"), encoding="utf-8")
    code, facts, _ = hil("doctor", "--bench", str(other))
    assert code == 3
    assert complaint in rows(facts, "housekeeping")["leak"]["found"]


def test_a_check_reads_the_housekeeping(emulated: tuple[Path, Any]) -> None:
    path, _ = emulated
    code, facts, _ = hil("check", str(path), "--voltage", "50 mV")  # and no larger one: only the housekeeping is looked at
    assert code == 0
    found = {row["where"]: row for row in facts["findings"] if row["what"] == "housekeeping"}
    assert found["gas"]["found"].endswith(" Pa")
    assert float(found["gas"]["found"].split()[0]) == pytest.approx(1e5, rel=0.02)
    assert found["leak"]["verdict"] == "ok"


def test_doctor_finds_a_firmware_that_is_not_the_one_that_was_checked(emulated: tuple[Path, Any]) -> None:
    path, _ = emulated
    kept = {"passed": True, "reason": "", "instruments": {"pace1": {"identity": {"firmware": "01.00.00"}}}}
    save(Path("data"), path.stem, "bench", kept)
    code, facts, said = hil("doctor", "--bench", str(path))
    assert code == 3
    assert "pace1, firmware: 02.02.14, but 01.00.00 when the bench was checked" in said
    assert [row["where"] for row in facts["findings"] if row["verdict"] == "wrong"] == ["pace1"]
    kept["instruments"] = {"pace1": {"identity": {"firmware": "02.02.14"}}}
    save(Path("data"), path.stem, "bench", kept)
    assert hil("doctor", "--bench", str(path))[0] == 0


def test_doctor_finds_an_open_door_and_a_wrong_clock(emulated: tuple[Path, Any]) -> None:
    path, _ = emulated
    other = path.with_name("other.yaml")
    text = path.read_text(encoding="utf-8").replace("expected: 1", "expected: 0")
    other.write_text(text, encoding="utf-8")
    code, facts, said = hil("doctor", "--bench", str(other))
    assert code == 3
    assert "1 of" in said
    assert "'door'" in said
    wrong = [row for row in facts["findings"] if row["verdict"] == "wrong"]
    assert [row["where"] for row in wrong] == ["door"]

    data = path.parent / "data"
    data.mkdir()
    (data / "runs.db").touch()
    os.utime(data / "runs.db", (time.time() + 7200,) * 2)
    code, facts, said = hil("doctor", "--bench", str(path), "--data", str(data))
    assert code == 3
    assert "newer; set the clock" in rows(facts, "clock")["computer"]["found"]


def test_doctor_says_in_which_line_a_field_is_wrong() -> None:
    text = (shipped_protocols() / "benches" / "divider.yaml").read_text(encoding="utf-8")
    (tmp := Path("wrong.yaml")).write_text(text.replace("preset: network", "preset: netwrok"), encoding="utf-8")
    line = 1 + text[: text.index("preset: network")].count("\n")
    code, _, said = hil("doctor", "--bench", str(tmp))
    assert code == 2
    assert f"wrong.yaml, line {line}" in said


def test_doctor_refuses_a_bench_file_with_an_unknown_key(tmp_path: Path) -> None:
    text = (shipped_protocols() / "benches" / "divider.yaml").read_text(encoding="utf-8")
    (tmp_path / "wrong.yaml").write_text(text + "sensors: {}\n", encoding="utf-8")
    code, facts, said = hil("doctor", "--bench", "wrong.yaml")
    assert code == 2
    assert "sensors" in said
    assert facts["findings"] == []


# -- check-out --------------------------------------------------------------------------------------------------

CLOG = "virtual.plant.edges.b.parallel=1000"  # of 20,000 channels


def verdicts(facts: dict[str, Any], what: str) -> dict[str, str]:
    return {row["where"]: row["verdict"] for row in facts["findings"] if row["what"] == what}


def test_a_clogged_membrane_is_named_and_refuses_runs_until_a_check_passes() -> None:
    code, facts, said = hil("check", "divider", "--set", CLOG)
    assert code == 1
    assert "edge b: conducts 0.05" in said
    assert "clog" in said
    assert facts["edges"]["b"]["conductance_over_twin"] == pytest.approx(0.05, rel=0.03)
    assert verdicts(facts, "edge")["a"] != "wrong"
    kept = json.loads(Path("data/checks/divider.json").read_text(encoding="utf-8"))
    assert kept[f"virtual --set {CLOG}"]["passed"] is False

    plain = ("run", "voltage_divider", "--on", "virtual", "--set", "stop.max_steps=0")
    refused = (*plain, "--set", f"bench.{CLOG}")
    code, summary, said = hil(*refused)
    assert (code, summary["run_id"]) == (4, None)
    assert "bench 'divider' failed its check on virtual" in said
    assert "edge b" in said
    # A simulation has no membranes that could clog.
    assert hil("run", "voltage_divider", "--set", "stop.max_steps=0")[1]["run_id"] == 1

    code, facts, said = hil("check", "divider")
    assert (code, said) == (0, "")
    assert facts["passed"] is True
    assert {row["verdict"] for row in facts["findings"]} == {"ok"}
    assert verdicts(facts, "hydrostatic zero").keys() == {"P1", "P2", "P3"}
    assert verdicts(facts, "isolation").keys() == verdicts(facts, "leakage").keys() == {"V1.current", "V3.current"}
    for edge in ("a", "b"):
        assert facts["edges"][edge]["conductance_over_twin"] == pytest.approx(1.0, abs=0.03)
    assert hil(*plain)[1]["run_id"] == 2
    # What the file without the clog passes says nothing of the one with it.
    assert hil(*refused)[0] == 4


def test_one_clog_in_a_network_is_named_although_the_wiring_does_not_tell_all_edges_apart() -> None:
    code, facts, said = hil("check", "five_nodes", "--set", "virtual.plant.edges.23.parameters.length=200 um")
    assert code == 1
    assert "edge 23" in said
    assert [edge for edge, verdict in verdicts(facts, "edge").items() if verdict == "wrong"] == ["23"]


def test_a_bench_that_cannot_even_be_checked_is_refused_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def drifting(*arguments: Any, **options: Any) -> Any:
        virtual = start_virtual(*arguments, **options)
        virtual.side_door.inject("smu", "drift", 0.02, where="smua")
        return virtual

    save(Path("data"), "divider", "virtual", {"passed": True, "reason": ""})
    with monkeypatch.context() as patch:
        patch.setattr("hil.bench.start_virtual", drifting)
        code, _, said = hil("check", "divider")
    assert code == 3
    assert "the source is stuck or drifts" in said
    code, summary, said = hil("run", "voltage_divider", "--on", "virtual", "--set", "stop.max_steps=0")
    assert (code, summary["run_id"]) == (4, None)
    assert "failed its check on virtual" in said
    assert "the source is stuck or drifts" in said


def test_each_device_of_a_pair_is_checked() -> None:
    code, facts, _ = hil("check", "matched_pair", "--tolerance", "0.1")
    assert code == 0
    assert verdicts(facts, "edge") == {"device@A": "ok", "device@B": "ok"}
    assert hil("check", "matched_pair", "--tolerance", "0.1", "--set", "virtual.plant.edges.device.parallel=0.5")[0] == 1


def test_a_check_refuses_what_means_nothing() -> None:
    refused = {("--tolerance", "0"): "tolerance", ("--voltage", "-1 V"): "small voltage", ("--voltage", "50 V"): "limits of 'V1'"}
    for arguments, word in refused.items():
        done = CliRunner().invoke(app, ["check", "divider", *arguments])
        assert done.exit_code == 2
        assert word in done.stderr
    assert not Path("data").exists()


# -- faults in a rehearsal --------------------------------------------------------------------------------------


def test_a_dry_run_tells_what_faults_lead_to(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two kinds are enough to see that they act and what is made of them; all of them take minutes.
    monkeypatch.setattr("simulated_backend.virtual_bench.faults.FAULTS", ("error", "open"))
    _, facts, _ = hil("dry-run", "voltage_divider", "--set", "stop.max_steps=2", "--faults")
    found = {(led["fault"], led["moment"]): led for led in facts["faults"]}
    assert len(found) == 4
    for led in found.values():
        assert (led["end"], led["left_on"], led["beyond"]) == ("paused", [], [])
    assert "opened or shorted" in found["open", "measuring"]["reason"]
    assert "Settings conflict" in found["error", "switching on"]["reason"]
    assert not Path("data").exists()
