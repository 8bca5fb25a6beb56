"""The fault campaign: which instruments and faults are in it, and what it reports."""

import json
from collections import Counter

import numpy as np
import pytest

from benchmarks.fault_benches import BENCHES, FaultBench, models
from benchmarks.fault_draws import LASTING, OF_DEVICES, OF_RECORD, PASSING, Cell, cell, cells, draw, targets
from benchmarks.fault_judge import Led, Tally
from benchmarks.faults import main, shares, summary
from instruments.station import own_drivers
from simulated_backend.virtual_bench.emulator import models as emulated
from simulated_backend.virtual_bench.faults import FAULTS, LIQUID_FAULTS

DIVIDER = BENCHES[0]
GOOD = {"V2": 3.0}
on_every_bench = pytest.mark.parametrize("bench", BENCHES, ids=[bench.name for bench in BENCHES])


def test_every_driver_that_can_be_rehearsed_is_in_the_campaign() -> None:
    drivers = {driver.__name__ for driver in own_drivers()} & set(emulated())
    assert drivers <= set(models()), "write a bench file with the new instrument, and an entry of fault_benches.BENCHES"


def test_every_fault_of_the_virtual_bench_is_drawn() -> None:
    assert {*FAULTS, *LIQUID_FAULTS} | set(OF_RECORD) == {*PASSING, *LASTING}


@on_every_bench
def test_what_has_not_acted_yet_is_drawn_until_everything_has(bench: FaultBench) -> None:
    places = bench.places()
    rng, pace, due = np.random.default_rng(1), dict.fromkeys(places.instruments, 1.0), cells(places)
    drawn = []
    for _ in range(len(due)):
        piece = draw(places, rng, 2, pace, due)
        due -= {cell(places, fault.instrument, fault.kind) for fault in piece}
        drawn += piece
    assert due == set()
    for fault in drawn:
        assert (fault.instrument, fault.where) in targets(places, fault.kind)


@on_every_bench
def test_every_fault_that_can_occur_comes_about_as_often(bench: FaultBench) -> None:
    places = bench.places()
    rng, pace = np.random.default_rng(1), dict.fromkeys(places.instruments, 1.0)
    lasting = Counter(draw(places, rng, 0, pace)[0].kind for _ in range(600))
    able = [kind for kind in LASTING if targets(places, kind)]
    assert set(lasting) == set(able)
    assert min(lasting.values()) > 0.4 * 600 / len(able)


def test_together_the_benches_have_every_fault_on_every_kind_of_instrument_that_has_it() -> None:
    every = {one for bench in BENCHES for one in cells(bench.places())}
    for model in models():
        assert {kind for kind, other in every if other == model} >= {*PASSING, "restart", "dead"}
    sources = {"Keithley2602B", "Keithley2636B", "Keithley2400", "Keithley2450", "KeysightB2901A", "KeysightB2912A"}
    pressures = {"DruckPACE5000", "DruckPACE6000", "AlicatPressure", "MensorCPC"}
    pumps = {"NewEraNE1000", "HarvardPump11Elite", "HarvardPHDUltra", "BronkhorstFlow"}
    assert {model for kind, model in every if kind == "drift"} == sources | pressures | pumps
    assert {model for kind, model in every if kind == "stuck"} == sources | pressures | pumps | {"ViciValve"}
    assert {model for kind, model in every if kind == "clog"} == pumps
    assert {model for kind, model in every if kind == "empty"} == pumps - {"BronkhorstFlow"}
    assert {model for kind, model in every if kind == "overflow"} >= pressures | {"BronkhorstFlow", "Keithley6517B"}
    assert {kind for kind, model in every if model in ("device", "record")} == {*OF_DEVICES, *OF_RECORD}


def test_what_stands_on_few_benches_is_rather_drawn_here() -> None:
    places = DIVIDER.places()
    pace = dict.fromkeys(places.instruments, 1.0)
    due = {Cell("restart", "KeithleyDAQ6510"), Cell("disk full", "record")}
    first = Counter(draw(places, np.random.default_rng(seed), 0, pace, due)[0].instrument for seed in range(200))
    assert 2.0 < first["meter"] / first[""] < 10.0


def test_faults_on_an_instrument_that_is_seldom_spoken_to_come_as_soon() -> None:
    places = DIVIDER.places()
    pace = {name: 0.01 if name == "meter" else 1.0 for name in places.instruments}
    drawn = [fault for _ in range(200) for fault in draw(places, np.random.default_rng(_), 3, pace)]
    assert max(fault.after for fault in drawn if fault.instrument == "meter") == 3
    assert max(fault.after for fault in drawn if fault.instrument == "smu") > 100


@on_every_bench
def test_what_a_bench_says_fits_its_file(bench: FaultBench) -> None:
    file = bench.places().file
    assert set(bench.reading_error) == set(file.outputs)
    assert set(bench.tolerance) | set(bench.apply) <= set(file.controls)
    assert all(spec.options["timeout"] == 0.25 for spec in file.station.instruments.values())


def test_limits_come_from_the_bench_file() -> None:
    limits = DIVIDER.places().limits()
    assert limits["voltage"] == {"1": (0.0, 5.0), "2": (0.0, 5.0), "3": (0.0, 5.0)}
    assert limits["pressure"] == {"1": (9e4, 1.1e5), "2": (9e4, 1.1e5), "3": (9e4, 1.1e5)}
    assert limits["voltage_difference"] == {"a": (-5.0, 5.0), "b": (-5.0, 5.0)}
    assert limits["pressure_difference"] == {"a": (-15e3, 15e3), "b": (-15e3, 15e3)}


def test_a_drifting_source_leads_away_from_its_limit() -> None:
    places = DIVIDER.places()
    assert places.inwards(places.file.controls["V1"]) == -1.0
    assert places.inwards(places.file.controls["V3"]) == 1.0


# The judge ----------------------------------------------------------------------------------------------------------


def test_faults_are_shared_by_what_there_is_to_break_and_none_is_lost() -> None:
    assert shares(1000, [5] * 8) == [125] * 8
    assert shares(10, [1, 1, 1]) == [3, 3, 4]
    assert shares(100, [30, 10, 60]) == [30, 10, 60]
    assert sum(shares(1000, [3, 1, 4, 1, 5, 9, 2])) == 1000


def test_an_instrument_that_no_fault_came_to_is_told() -> None:
    tally = Tally(led=[Led("silence", "KeithleyDAQ6510", "overcome"), Led("disk full", "record", "paused", "why")])
    found = summary(tally, 1.0, [DIVIDER])
    told = {"DruckPACE6000": 0, "Keithley2602B": 0, "KeithleyDAQ6510": 1, "device": 0, "record": 1}
    assert found["by_instrument"] == told
    assert found["matrix"]["KeithleyDAQ6510"]["silence"] == 1  # type: ignore[index] # JSON
    assert "dead on Keithley2602B" in found["gaps"]  # type: ignore[operator] # JSON
    assert "silence on KeithleyDAQ6510" not in found["gaps"]  # type: ignore[operator] # JSON
    assert found["led_to"] == {"disk full": Counter(paused=1), "silence": Counter(overcome=1)}


def test_resumable_is_one_only_if_every_stop_went_on_and_every_run_was_complete() -> None:
    assert summary(Tally(stops=4, resumed=4, complete=2, runs=2), 1.0)["resumable"] == 1.0
    assert summary(Tally(stops=4, resumed=3, complete=2, runs=2), 1.0)["resumable"] == 0.75
    assert summary(Tally(stops=4, resumed=4, complete=1, runs=2), 1.0)["resumable"] == 0.5
    assert summary(Tally(stops=0, resumed=0, complete=1, runs=2), 1.0)["resumable"] == 0.5


@pytest.mark.parametrize(
    ("tally", "code"),
    [
        (Tally(injections=9, runs=1, complete=1, stops=2, resumed=2), 0),
        (Tally(injections=9, runs=1, complete=1, outputs_left_on=1), 1),
        (Tally(injections=9, runs=1, complete=1, limits_exceeded=1), 1),
        (Tally(injections=9, runs=1, complete=1, measurements_lost=1), 1),
        (Tally(injections=9, runs=1, complete=1, wrong_values_accepted=1), 1),
        (Tally(injections=9, runs=1, complete=1, stops=2, resumed=1), 1),
    ],
)
def test_one_line_of_json_and_an_exit_code_say_how_it_went(
    tally: Tally, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.faults.campaign", lambda *_: tally)
    monkeypatch.setattr("sys.argv", ["faults", "--injections", "9", "--bench", "divider", "--json"])
    assert main() == code
    printed = capsys.readouterr()
    (line,) = printed.out.splitlines()
    found = json.loads(line)
    for name in ("injections", "outputs_left_on", "limits_exceeded", "measurements_lost", "wrong_values_accepted", "resumable"):
        assert isinstance(found[name], int | float)
    assert found["resumable"] == (0.5 if tally.resumed == 1 else 1.0)
    assert "what each fault led to:" in printed.err


@pytest.mark.parametrize("option", ["--injections", "--jobs"])
def test_nothing_to_do_is_no_proof(option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["faults", option, "0"])
    with pytest.raises(SystemExit):
        main()
    assert "must be 1 or more" in capsys.readouterr().err
