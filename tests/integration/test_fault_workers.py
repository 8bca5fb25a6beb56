"""Rehearsals of faults in processes of their own: the same whoever takes them, and on a bench that can be rehearsed."""

import signal
import threading
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from hil.bench import Target
from hil.core.errors import HilError
from hil.fault_rehearsal import chosen_cases, for_rehearsal, rehearse_case
from hil.fault_workers import _Worker, rehearse_faults
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


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="nobody here can press Ctrl-C")
def test_ctrl_c_ends_it_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    class Watched(Popen[str]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            begun.append(self)

    def press(_done: int, _of: int) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def late(worker: Any) -> str:
        threading.Event().wait(0.3)  # long enough for the program to tidy up meanwhile, if it did
        return last_words(worker)

    last_words = _Worker._last_words
    monkeypatch.setattr(_Worker, "_last_words", late)
    monkeypatch.setattr("hil.fault_workers.subprocess.Popen", Watched)
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        rehearse_faults(prepare(quick(tmp_path)), 5, 20, KINDS, press, workers=2)
    assert set(threading.enumerate()) <= before
    assert [process.poll() is not None for process in begun] == [True, True]


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
