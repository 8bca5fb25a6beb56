"""The one place that joins a protocol, a lab and a recorder, and that makes sure a run ends safely and on record."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hil.bench import Assembled, Target
from hil.calibration import files_of, raw_observers
from hil.check_record import require_passed
from hil.claim import claimed
from hil.core.backend import Backend
from hil.core.errors import BackendError, HilError, NotSafeError, RecordError
from hil.core.events import EventStream, Finished, Listener, Measured
from hil.core.exit_codes import EXIT_CODES, STOPPED, exit_code_of
from hil.core.file_lock import Held
from hil.core.lab import Lab
from hil.core.outcome import Outcome, Summary
from hil.deadline import Deadline, TimedEvents, TimeIsUpError, seconds_until
from hil.holding import check_hold, keep_set_points
from hil.keeping import History, Keeper, can_resume, fingerprint, keeps_state
from hil.liquid_plan import planned_use, require_enough
from hil.locks import locked
from hil.notify import notifiers, send
from hil.plausibility import PlausibilityWatch
from hil.prepared import Prepared, Request, check_plan, prepare
from hil.record.checkpoint import FOLDER
from hil.record.kept import kept_readings
from hil.record.recorder import RunRecorder, open_database
from hil.replay import Replay, remount
from hil.run_record import new_recorder, recover_spill, refusal, summary_of, units_of
from hil.stock_book import book_of_run, booked
from hil.stopping import Stopper

__all__ = ["Prepared", "Request", "Result", "begin", "check_plan", "locked_run", "prepare", "refusal", "run"]


@dataclass
class Result:
    """How a run ended: the JSON summary, the exit code of the program, the error in one sentence (or empty), and the SI units
    of the controls and outputs by name."""

    summary: dict[str, Any]
    exit_code: int
    error: str = ""
    units: Mapping[str, str] = field(default_factory=dict)


def run(request: Request, listeners: Sequence[Listener] = ()) -> Result:
    """Run a protocol. Never raises a HilError: whatever happens becomes an outcome, a sentence and an exit code."""
    return begin(request, lambda: prepare(request), listeners)


def begin(
    request: Request, files: Callable[[], Prepared], listeners: Sequence[Listener], saved: Mapping[str, Any] | None = None
) -> Result:
    """Prepare by ``files``, then run, from the beginning or from a ``saved`` state; see ``run``."""
    try:
        prepared = files()
        _require_writable(request.data)
        if request.target is not Target.SIMULATED:
            changed = [one for one in request.sets if one.strip().startswith("bench.")]
            require_passed(request.data, prepared.bench_document.path, request.target.value, changed)
        with (
            claimed(prepared.bench, request.target, f"a run of {prepared.name}", request.data) as (stopper, held),
            prepared.assembled(keeps=held) as assembled,
        ):
            return _run(prepared, assembled, listeners, stopper, saved)
    except HilError as error:
        return Result(refusal(request, str(error)), exit_code_of(error), str(error))
    except KeyboardInterrupt:
        reason = "stopped by the user before anything was applied"
        return Result(refusal(request, reason, Outcome.STOPPED), STOPPED, reason)


def _run(
    prepared: Prepared,
    assembled: Assembled,
    listeners: Sequence[Listener],
    stopper: Stopper,
    saved: Mapping[str, Any] | None,
) -> Result:
    backend = assembled.backend
    notes = prepared.bench.notebook.model_dump()

    def lab(events: EventStream, run_id: int | None = None) -> Lab:
        folder = None if run_id is None else prepared.request.data
        return Lab(backend, assembled.twin, assembled.clock, events, prepared.seed, notes, assembled.exchange, folder, run_id)

    check_plan(prepared, lab(EventStream()))
    planned = _planned(prepared, saved)
    hold = prepared.hold
    check_hold(backend.envelope, hold)
    with prepared.located():
        ways = notifiers(prepared.bench.notify, prepared.request.data)
    history = History(**saved["history"]) if saved else History()
    deadline = _deadline(prepared, assembled)
    error: HilError | None = None
    keeper: Keeper | None = None
    with ExitStack() as stack:
        try:
            with prepared.located(), backend, ExitStack() as meanwhile:
                try:
                    with stopper.held():
                        recorder = new_recorder(prepared, assembled, saved)
                        stack.enter_context(locked_run(prepared.request.data, recorder.run_id))
                        stack.callback(recorder.release)
                        events = _events(prepared, recorder, [history, *listeners], deadline, saved)
                        assembled.warnings.listen(events.warn)
                        recover_spill(prepared.request.data, events, saved)
                        if assembled.stocks is not None:
                            assembled.stocks.keep(book_of_run(prepared.request.data, recorder.run_id))
                        for observers in (backend.observers, backend.trace_observers):
                            observers.append(lambda stimuli, readings: events.emit(Measured(stimuli, readings)))
                            observers.extend(raw_observers(backend.snapshot(), backend.capabilities.outputs, events))
                        if prepared.request.target is not Target.SIMULATED:
                            capabilities = backend.capabilities
                            grounded = any(node.ground for node in assembled.network.nodes)
                            backend.observers.append(
                                PlausibilityWatch(assembled.twin, capabilities.controls, capabilities.outputs, grounded=grounded)
                            )
                        housekeeper = assembled.housekeeper(events)
                        if housekeeper is not None:
                            backend.observers.append(housekeeper)
                            meanwhile.enter_context(housekeeper)
                        if saved is not None:
                            remount(assembled.exchange, saved)
                        keeper = _keeper(prepared, backend, events, recorder, history, deadline, saved)
                    with prepared.located():
                        summary = _procedure(prepared, lab(events, recorder.run_id), keeper, saved)
                    error = _held(lambda: keep_set_points(backend, assembled.clock, hold, events))
                except KeyboardInterrupt:
                    summary = history.summary(
                        Outcome.STOPPED, "stopped by the user (Ctrl-C, SIGTERM or `hil stop`); every output is in its safe state"
                    )
                except TimeIsUpError as end:
                    summary = history.summary(Outcome.STOPPED, str(end))
                except HilError as problem:
                    error = problem
                    # Closing the backend tries once more where the safe state was not reached, and says so if it fails again.
                    second = "; the second attempt reached it" if isinstance(problem, NotSafeError) else ""
                    summary = history.summary(keeper.ended(problem) if keeper else Outcome.FAILED, f"{problem}{second}")
                if keeper is None:
                    raise error or KeyboardInterrupt
                stopper.done()
                with stopper.held():
                    if not recorder.broken:
                        recorder.snapshot_end(backend.snapshot())
        except (HilError, KeyboardInterrupt) as problem:
            # Opening or closing went wrong; what was measured until then stays on record.
            if keeper is None:
                raise
            again = problem if isinstance(problem, HilError) else BackendError("stopped again while reaching the safe state")
            # Only the record can go wrong here without a doubt whether everything is safe.
            safe = isinstance(problem, RecordError)
            error = again if error is None else BackendError(f"{error}; and then: {again}")
            summary = history.summary(keeper.ended(error) if safe else Outcome.FAILED, str(error))
        summary = replace(summary, results={**summary.results, **planned, **backend.usage()})
        result = _ended(prepared, summary, error, backend.relaxations, events.warnings, recorder, keeper, stopper)
        with suppress(KeyboardInterrupt), stopper.held():
            result.summary["warnings"] += send(ways, result.summary, prepared.request.data)
        return replace(result, units=units_of(backend.capabilities))


def _planned(prepared: Prepared, saved: Mapping[str, Any] | None) -> dict[str, Any]:
    """What will be used up, refused where it is not there. A run that goes on was planned when it began."""
    if saved is not None or prepared.request.target is Target.SIMULATED:
        return {}
    if prepared.request.target is Target.BENCH:
        left = booked(prepared.bench, prepared.request.data, prepared.bench_document.path.name)
        prepared = replace(prepared, bench=left)
    planned = planned_use(prepared)
    with prepared.located():
        require_enough(prepared.bench, planned)
    return {"planned": planned} if planned else {}


def _held(hold: Callable[[], None]) -> HilError | None:
    """Hold; what went wrong then. The run itself is over, and stopping the hold does not change how it ended."""
    try:
        hold()
    except KeyboardInterrupt:
        return None
    except HilError as problem:
        return problem
    return None


def _procedure(prepared: Prepared, lab: Lab, keeper: Keeper, saved: Mapping[str, Any] | None) -> Summary:
    if not keeper.possible:
        return prepared.procedure.run(prepared.settings, lab)
    if not keeps_state(prepared.procedure):
        kept = None if saved is None else kept_readings(prepared.request.data, saved["run_id"], saved["rows"])
        return Replay(lab, keeper, kept)(prepared.procedure.run, prepared.settings, hold=prepared.hold > 0.0)
    going_on: Any = prepared.procedure.run
    summary: Summary = going_on(prepared.settings, lab, resume=keeper.state, checkpoint=keeper.save)
    return summary


def _deadline(prepared: Prepared, assembled: Assembled) -> Deadline | None:
    text = prepared.request.stop_by
    return None if text is None else Deadline(assembled.clock, seconds_until(text), text)


def _ended(
    prepared: Prepared,
    summary: Summary,
    error: HilError | None,
    relaxations: int,
    warnings: Sequence[str],
    recorder: RunRecorder,
    keeper: Keeper,
    stopper: Stopper,
) -> Result:
    """The run is over and safe: put its end on record, and say whether it can go on."""
    verdict = keeper.verdict(summary.outcome, error)
    judged = replace(summary, results={**summary.results, **verdict})
    result = summary_of(prepared, recorder.run_id, judged, relaxations, warnings)
    try:
        with stopper.held():
            recorder.emit(Finished(summary.outcome.value, summary.reason, summary.results))
            recorder.finish(result)
            recorder.close()
            if not verdict:
                keeper.complete()
            elif verdict["resumable"] is True:
                keeper.save_usage()
    except RecordError as problem:
        error = error or problem
        result["results"] |= keeper.verdict(summary.outcome, error)
    except KeyboardInterrupt:
        # It came after the end: the run is complete and on record as what it is.
        pass
    exit_code = exit_code_of(error) if error is not None else EXIT_CODES[summary.outcome]
    return Result(result, exit_code, "" if error is None else str(error))


def _events(
    prepared: Prepared,
    recorder: RunRecorder,
    listeners: Sequence[Listener],
    deadline: Deadline | None,
    saved: Mapping[str, Any] | None,
) -> EventStream:
    if deadline is None:
        events = EventStream(recorder, listeners)
    else:
        events = TimedEvents(deadline, recorder, listeners, everywhere=not can_resume(prepared.procedure))
    if saved is not None:
        events.warnings += saved["warnings"]
    return events


def _keeper(
    prepared: Prepared,
    backend: Backend,
    events: EventStream,
    recorder: RunRecorder,
    history: History,
    deadline: Deadline | None,
    saved: Mapping[str, Any] | None,
) -> Keeper:
    request = prepared.request
    header = {
        "request": {
            "protocol": str(prepared.protocol.path.resolve()),
            "bench": str(prepared.bench_document.path.resolve()),
            "target": request.target.value,
            "real_time": request.real_time,
            "sets": list(request.sets),
            "seed": request.seed,
            "hold": request.hold,
        },
        "files": {
            "protocol": fingerprint(prepared.protocol.text),
            "bench": fingerprint(prepared.bench_document.text),
            **files_of(prepared.bench),
        },
    }
    return Keeper(
        request.data,
        header,
        backend,
        events,
        recorder,
        history,
        possible=can_resume(prepared.procedure),
        deadline=deadline,
        saved=saved,
    )


def locked_run(data: Path, run_id: int) -> AbstractContextManager[Held]:
    """Hold run ``run_id`` of ``data``, so that nobody resumes it while it is going on. Raises ``hil.locks.HeldError``."""
    return locked(data / FOLDER / f"{run_id}.lock", f"run {run_id}", "measuring")


def _require_writable(folder: Path) -> None:
    open_database(folder).close()
