"""Rehearsals of faults in processes of their own: the same whoever takes them, and on a bench that can be rehearsed."""

from pathlib import Path

import pytest

from hil.bench import Target
from hil.core.errors import HilError
from hil.fault_rehearsal import chosen_cases, for_rehearsal, rehearse_case
from hil.fault_workers import rehearse_faults
from hil.prepared import Request, prepare

KINDS = ("nan",)


def quick(tmp_path: Path) -> Request:
    return Request(protocol="pulses", target=Target.VIRTUAL, data=tmp_path)


def test_it_does_not_matter_who_rehearses_what(tmp_path: Path) -> None:
    prepared = prepare(quick(tmp_path))
    heard: list[tuple[int, int]] = []
    found = rehearse_faults(prepared, 5, 20, KINDS, lambda done, of: heard.append((done, of)), workers=2)
    chosen = chosen_cases(prepared, 20, KINDS)
    assert [(led["fault"], led["moment"], led["instrument"]) for led in found] == [
        (case.fault, case.moment, case.instrument) for case in chosen
    ]
    assert heard == [(done, len(chosen)) for done in range(1, len(chosen) + 1)]
    alone = rehearse_case(prepared, chosen[0], 5)
    assert (found[0]["end"], found[0]["left_on"], found[0]["beyond"]) == (alone.end, alone.left_on, alone.beyond)


def test_what_cannot_be_rehearsed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare(quick(tmp_path))
    monkeypatch.setattr("hil.fault_workers.asdict", lambda _: {"protocol": "no_such_protocol", "sets": (), "bench": None})
    with pytest.raises(HilError, match="no_such_protocol"):
        rehearse_faults(prepared, 5, 20, KINDS, workers=2)


def test_a_rehearsal_has_all_of_the_stock_and_no_calibration_of_other_instruments(tmp_path: Path) -> None:
    weak = "bench.mixers.mix.pumps.pump_weak"
    sets = (f"{weak}.volume=1 mL", f"{weak}.supply=60 mL", "bench.calibration.use=calibrations/of_the_hardware.json")
    prepared = prepare(Request(protocol="voltage_divider_concentration", sets=sets, data=tmp_path))
    bench = for_rehearsal(prepared)
    assert bench.calibration.use is None
    assert bench.mixers["mix"].pumps["pump_weak"].volume == pytest.approx(60e-6)
    assert bench.virtual.instruments["pump_weak"]["content"] == pytest.approx(60e-6)
