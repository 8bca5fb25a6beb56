"""Go on with a run that was interrupted: same files, same settings, from the last state that was saved.

What is measured now becomes a run of its own that names the one it continues; both are read together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hil.bench import Target
from hil.calibration import MISSING, files_of
from hil.core.errors import ConfigError, HilError
from hil.core.events import Listener
from hil.core.exit_codes import exit_code_of
from hil.experiment.loader import Document
from hil.keeping import fingerprint
from hil.prepared import Prepared, Request, prepare
from hil.record.checkpoint import CheckpointFile
from hil.record.reader import list_runs
from hil.run import Result, begin, locked_run, refusal
from hil.stock_book import book_of_bench, book_of_run, charge_of, keeps_book, refill
from hil.stock_book import read as read_book

EMPTY = 1e-15
"""m^3: what an empty syringe holds, because a file does not take 0."""


def resume(
    run_id: int,
    data: Path,
    listeners: Sequence[Listener] = (),
    stop_by: str | None = None,
    refills: Sequence[str] = (),
) -> Result:
    """Continue run ``run_id`` of ``data``; ends like ``hil.run.run``. Never raises a HilError.

    ``refills``: ``PUMP=VOLUME`` for every syringe that holds something else by now than the run left in it, ``CONTROL=CHARGE``
    for every inert electrode that was discharged.

    Refused, before anything is connected: a run that is complete, going on, or was continued already; one whose procedure
    keeps no state; and one whose protocol or bench file is no longer the one it began with.
    """
    request = Request(f"run {run_id}", data=data)
    try:
        saved = _saved(run_id, data)
        request = _request(saved, data, stop_by, refills)
        # Whoever still measures for this run holds its lock.
        with locked_run(data, run_id):
            pass
    except HilError as error:
        return Result(refusal(request, str(error)), exit_code_of(error), str(error))
    return begin(request, lambda: _refilled(_same_files(prepare(request), saved, run_id), saved, refills), listeners, saved)


def _saved(run_id: int, data: Path) -> Mapping[str, Any]:
    saved = CheckpointFile(data, run_id).read()
    if saved is not None and "continued_as" in saved:
        raise ConfigError(f"run {run_id} was continued as run {saved['continued_as']}; go on with that one")
    if saved is not None and (saved["state"] or {}).get("barred"):
        raise ConfigError(f"run {run_id} cannot be resumed: {saved['state']['barred']}")
    if saved is not None:
        return saved
    listed = {run["run_id"]: run for run in list_runs(data)}
    if run_id not in listed:
        raise ConfigError(f"there is no run {run_id} in {data}; `hil runs` lists them")
    run = listed[run_id]
    if run["continues"] is not None and run["outcome"] == "unfinished":
        raise ConfigError(f"run {run_id} ended before it measured anything; go on with the run it continues: {run['continues']}")
    if run["outcome"] in ("converged", "not_converged", "done"):
        raise ConfigError(f"run {run_id} is complete ({run['outcome']}); there is nothing left to do")
    raise ConfigError(
        f"run {run_id} cannot be resumed: its procedure keeps no state, or it ended before anything was applied; run it again"
    )


def _request(saved: Mapping[str, Any], data: Path, stop_by: str | None, refills: Sequence[str]) -> Request:
    asked = dict(saved["request"])
    asked["target"] = Target(asked["target"])
    asked["sets"] = (*asked["sets"], *_stocks(saved, _book(saved, data), refills))
    return replace(Request(**asked), data=data, stop_by=stop_by)


def _book(saved: Mapping[str, Any], data: Path) -> Path:
    """Where the run booked its stocks."""
    on_bench = saved["request"]["target"] == Target.BENCH.value
    return book_of_bench(data, saved["request"]["bench"]) if on_bench else book_of_run(data, saved["run_id"])


def _refilled(prepared: Prepared, saved: Mapping[str, Any], refills: Sequence[str]) -> Prepared:
    """What syringes and electrodes of the hardware hold now is booked: it holds for every run."""
    filled = [text for text in refills if text.partition("=")[0].strip() in keeps_book(prepared.bench)]
    if filled and prepared.request.target is Target.BENCH:
        refill(prepared.bench, _book(saved, prepared.request.data), filled)
    return prepared


def _stocks(saved: Mapping[str, Any], book: Path, refills: Sequence[str]) -> list[str]:
    """Overrides of the bench file that say what is in every syringe and on every inert electrode now: what is left by the book,
    or what the user says."""
    entries = read_book(book)
    filled = {}
    for text in refills:
        pump, equals, volume = text.partition("=")
        if not equals:
            raise ConfigError(f"--refill {text}: write PUMP=VOLUME, for example 'pump_weak=50 mL'")
        filled[pump.strip()] = volume.strip()
    found = []
    for mixer, used in saved.get("usage", {}).get("liquids", {}).items():
        for pump, left in used["stock_left"].items():
            known = float(entries.get(pump, {"left": left})["left"])
            volume = filled.pop(pump, f"{max(known, EMPTY):.9g} m^3")
            found.append(f"bench.mixers.{mixer}.pumps.{pump}.volume={volume}")
    for name, left in saved.get("usage", {}).get("electrodes", {}).items():
        charge, unsure = (0.0, 0.0) if name in filled else charge_of(entries.get(name, {"charge": left}))
        found.append(f"bench.controls.{name}.electrode.charge={filled.pop(name, f'{charge!r} C')}")
        found.append(f"bench.controls.{name}.electrode.unsure={unsure!r} C")
    if filled:
        raise ConfigError(
            f"--refill {next(iter(filled))}: this run has neither such a pump nor an electrode there whose charge is followed"
        )
    return found


def _same_files(prepared: Prepared, saved: Mapping[str, Any], run_id: int) -> Prepared:
    """ConfigError naming the file that changed since the run began."""
    files: tuple[tuple[str, Document], ...] = (("protocol", prepared.protocol), ("bench", prepared.bench_document))
    for what, document in files:
        if fingerprint(document.text) != saved["files"][what]:
            raise ConfigError(
                f"{document.path}: this {what} file has changed since run {run_id} began, and a run has one only; put back what "
                f"it was (`hil show {run_id} --json` holds its text), or begin a new run"
            )
    calibration = files_of(prepared.bench).get("calibration")
    if saved["files"].get("calibration") != calibration:
        where = Path(prepared.bench.calibration.use or "").resolve()
        missing = f"is missing: go on from the folder in which run {run_id} began, or put it"
        changed = f"has changed since run {run_id} began; put it"
        raise ConfigError(
            f"the calibration {where} {missing if calibration == MISSING else changed} back from `history` beside it, "
            "or begin a new run"
        )
    return prepared
