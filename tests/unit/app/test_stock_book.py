"""What is left of the stocks: booked before it flows, for every run on a bench, until somebody fills the syringes."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hil.bench import Target, assemble
from hil.bench_station import electrodes_that_charge
from hil.calibration import files_of
from hil.cli import app
from hil.core.errors import ConfigError, RecordError
from hil.dry_run import dry_run
from hil.keeping import fingerprint
from hil.locks import locked_bench
from hil.prepared import Request, prepare
from hil.record.checkpoint import CheckpointFile
from hil.refill import refill as refill_bench
from hil.resume import _stocks, resume
from hil.run import run
from hil.stock_book import StockBook, book_of_bench, booked, read, refill

PROTOCOL = "voltage_divider_concentration"
WEAK = "bench.mixers.mix.pumps.pump_weak"


def bench(*sets: str) -> Any:
    return prepare(Request(protocol=PROTOCOL, sets=sets)).bench


def weak(file: Any) -> Any:
    return file.mixers["mix"].pumps["pump_weak"]


def test_the_next_program_begins_with_what_the_last_one_booked_and_not_with_what_the_file_says(tmp_path: Path) -> None:
    path = book_of_bench(tmp_path, "b.yaml")
    first = StockBook(bench(), path)
    assert weak(first.bench).volume == 50e-6
    assert first.sentences() == []
    first({"pump_weak": 30e-6, "pump_strong": 50e-6})
    first({"pump_weak": 30.1e-6})  # the pump has counted less than was ordered
    second = StockBook(bench(), path)
    assert weak(second.bench).volume == pytest.approx(30.1e-6)
    assert second.bench.mixers["mix"].pumps["pump_strong"].volume == pytest.approx(50e-6)
    (sentence,) = second.sentences()
    assert "pump 'pump_weak' holds 30.1 mL by the book of stocks" in sentence
    assert "not the 50 mL of the bench file" in sentence
    second({"pump_weak": 0.0})
    assert weak(booked(bench(), tmp_path, "b.yaml")).volume == 0.0


def test_a_supply_is_used_up_over_all_runs_until_the_file_names_another(tmp_path: Path) -> None:
    path = book_of_bench(tmp_path, "b")
    file = bench(f"{WEAK}.supply=100 mL")
    StockBook(file, path)({"pump_weak": 10e-6})
    assert weak(booked(file, tmp_path, "b")).available == pytest.approx(60e-6)
    assert refill(file, path, ["pump_weak = 50 mL"]) == ["pump_weak holds 50 mL"]
    after = weak(booked(file, tmp_path, "b"))
    assert (after.volume, after.available) == (pytest.approx(50e-6), pytest.approx(60e-6))
    StockBook(file, path)({"pump_weak": 20e-6})
    assert weak(booked(file, tmp_path, "b")).available == pytest.approx(30e-6)
    more = bench(f"{WEAK}.supply=130 mL")
    assert weak(booked(more, tmp_path, "b")).available == pytest.approx(130e-6)


ELECTRODES = ("bench.controls.V1.electrode={kind: inert, limit: 0.5 V, capacitance: 20 uF}",)


def charged(*sets: str) -> Any:
    return prepare(Request(protocol="voltage_divider", sets=(*ELECTRODES, *sets))).bench


def test_the_next_program_begins_with_the_charge_that_was_booked_until_somebody_says_that_it_is_gone(tmp_path: Path) -> None:
    path = book_of_bench(tmp_path, "b.yaml")
    first = StockBook(charged(), path)
    assert first.sentences() == []
    first({"V1": 3e-6})
    first({"V1": -2e-6}, {"V1": 1e-6})
    second = StockBook(charged(), path)
    assert (second.bench.controls["V1"].electrode.charge, second.bench.controls["V1"].electrode.unsure) == (-2e-6, 1e-6)
    (sentence,) = second.sentences()
    assert "the electrode of 'V1' has -2e-06 C within 1e-06 C by the book" in sentence
    assert "hil refill BENCH 'V1=0 C'" in sentence
    assert booked(charged(), tmp_path, "b").controls["V1"].electrode.charge == -2e-6
    assert booked(charged("bench.controls.V1.electrode=null"), tmp_path, "b").controls["V1"].electrode is None
    assert refill(charged(), path, ["V1=0 C"]) == ["V1 has 0 C on its electrode"]
    assert StockBook(charged(), path).bench.controls["V1"].electrode == charged().controls["V1"].electrode
    with pytest.raises(ConfigError, match="V3=0 C: "):
        refill(charged(), path, ["V3=0 C"])


def test_a_run_that_was_killed_goes_on_with_the_charge_that_was_booked_ahead(tmp_path: Path) -> None:
    path = tmp_path / "1.stocks.json"
    book = StockBook(charged())
    book.keep(path)
    book({"V1": 4e-6}, {"V1": 5e-7})
    saved = {"usage": {"electrodes": {"V1": 3e-6}}}
    here = "bench.controls.V1.electrode"
    assert _stocks(saved, path, []) == [f"{here}.charge=4e-06 C", f"{here}.unsure=5e-07 C"]
    (wire,) = electrodes_that_charge(charged(*_stocks(saved, path, []))).values()
    assert (wire.charge, wire.unsure) == (pytest.approx(4e-6), pytest.approx(5e-7))
    assert _stocks(saved, path, ["V1=0 C"]) == [f"{here}.charge=0 C", f"{here}.unsure=0.0 C"]
    assert _stocks(saved, tmp_path / "none.json", []) == [f"{here}.charge=3e-06 C", f"{here}.unsure=0.0 C"]


def test_a_book_from_before_doubt_was_booked_is_read(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(json.dumps({"V1": {"charge": -2e-6, "when": "then"}}), encoding="utf-8")
    electrode = StockBook(charged(), path).bench.controls["V1"].electrode
    assert (electrode.charge, electrode.unsure) == (-2e-6, 0.0)
    path.write_text(json.dumps({"V1": {"charge": -2e-6, "unsure": -1e-6, "when": "then"}}), encoding="utf-8")
    with pytest.raises(RecordError, match="cannot be read as a book"):
        StockBook(charged(), path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("pump_weak", "write PUMP=VOLUME"),
        ("pump_wek=5 mL", "did you mean 'pump_weak'"),
        ("pump_weak=61 mL", "holds 0 to 60 mL"),
        ("pump_weak=5", "has no unit"),
    ],
)
def test_a_refill_that_cannot_be_is_not_booked(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        refill(bench(), tmp_path / "b.json", ["pump_strong=20 mL", text])
    assert not (tmp_path / "b.json").exists()


def test_a_refill_waits_for_the_program_that_has_the_bench(tmp_path: Path) -> None:
    addresses = [instrument.address for instrument in bench().station.instruments.values()]
    with locked_bench(addresses, "a run"), pytest.raises(Exception, match="a run"):
        refill_bench("divider_concentration", ["pump_weak=50 mL"], tmp_path)
    assert refill_bench("divider_concentration", ["pump_weak=50 mL"], tmp_path) == ["pump_weak holds 50 mL"]
    assert list(read(book_of_bench(tmp_path, "divider_concentration"))) == ["pump_weak"]


NOWHERE = ("bench.station.instruments.smu.address=TCPIP0::127.0.0.1::1::SOCKET",)


def test_a_run_on_the_bench_is_planned_with_what_is_booked_before_anything_is_opened(tmp_path: Path) -> None:
    StockBook(bench(), book_of_bench(tmp_path, "divider_concentration"))({"pump_weak": 16e-6})
    result = run(Request(protocol=PROTOCOL, target=Target.BENCH, sets=NOWHERE, data=tmp_path))
    assert result.exit_code == 2
    assert "there are 16 mL" in result.error
    with assemble(bench(), Target.BENCH, name="divider_concentration.yaml", folder=tmp_path) as lab:
        assert lab.stocks is not None
        assert weak(lab.stocks.bench).volume == pytest.approx(16e-6)
        heard: list[str] = []
        lab.warnings.listen(heard.append)
    assert ["pump_weak" in sentence for sentence in heard] == [True]


@pytest.mark.parametrize(("refills", "left"), [((), 16e-6), (("pump_weak=40 mL",), 40e-6)])
def test_a_run_on_the_bench_is_resumed_with_what_others_left_or_what_was_filled(
    tmp_path: Path, refills: tuple[str, ...], left: float
) -> None:
    """Its own last state knows nothing of the run that came between."""
    prepared = prepare(Request(protocol=PROTOCOL))
    path = book_of_bench(tmp_path, "divider_concentration")
    StockBook(bench(), path)({"pump_weak": 16e-6, "pump_strong": 41e-6})
    request = {"protocol": PROTOCOL, "bench": str(prepared.bench_document.path), "target": "bench", "sets": list(NOWHERE)}
    state = {
        "request": {**request, "real_time": False, "seed": None, "hold": None},
        "files": {
            "protocol": fingerprint(prepared.protocol.text),
            "bench": fingerprint(prepared.bench_document.text),
            **files_of(prepared.bench),
        },
        "run_id": 1,
        "usage": {"liquids": {"mix": {"stock_left": {"pump_weak": 45e-6, "pump_strong": 45e-6}}}},
        "history": {},
        "state": None,
    }
    CheckpointFile(tmp_path, 1).write(state)
    result = resume(1, tmp_path, refills=refills)
    assert result.exit_code == 3, result.error  # nobody answers there
    assert read(path)["pump_weak"]["left"] == pytest.approx(left)
    assert read(path)["pump_strong"]["left"] == pytest.approx(41e-6)
    (asked,) = [one for one in _stocks(state, path, refills) if "pump_weak" in one]
    assert asked.removeprefix(f"{WEAK}.volume=") == (refills[0].partition("=")[2] if refills else "1.6e-05 m^3")


def test_a_dry_run_refuses_what_the_booked_stock_does_not_allow(tmp_path: Path) -> None:
    StockBook(bench(), book_of_bench(tmp_path, "divider_concentration"))({"pump_weak": 16e-6})
    report = dry_run(Request(protocol=PROTOCOL, data=tmp_path))
    assert report.exit_code == 2
    assert "the plan takes 34.4 mL of it" in report.error
    assert "there are 16 mL" in report.error
    assert "`hil refill`" in report.error
    asked = CliRunner().invoke(app, ["dry-run", PROTOCOL, "--data", str(tmp_path), "--json"])
    assert asked.exit_code == 2
    assert json.loads(asked.stdout)["refusal"] == report.error


def test_a_book_that_cannot_be_read_or_written_is_said(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    for text in ("{", "[]", json.dumps({"pump_weak": {"left": -1.0, "used": 0.0, "when": "now"}}), json.dumps({"pump_weak": {}})):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(RecordError, match="say with `hil refill` what the syringes hold"):
            StockBook(bench(), path)
    (tmp_path / "no_folder").write_text("", encoding="utf-8")
    with pytest.raises(RecordError, match="free space, then resume"):
        StockBook(bench()).keep(tmp_path / "no_folder" / "b.json")


def test_a_bench_without_mixers_keeps_no_book(tmp_path: Path) -> None:
    book = StockBook(prepare(Request(protocol="voltage_divider")).bench)
    book.keep(tmp_path / "b.json")
    assert list(tmp_path.iterdir()) == []
