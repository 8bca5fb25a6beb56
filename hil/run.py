"""The one place that joins a protocol, a lab and a recorder, and that makes sure a run ends safely and on record."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hil.bench import Assembled, Target, assemble, shipped_protocols
from hil.core.errors import BackendError, CapabilityError, ConfigError, HilError, RecordError, SafetyError
from hil.core.events import Event, EventStream, Finished, Listener, Measured, StepDone
from hil.core.lab import Lab
from hil.core.outcome import Outcome, Summary
from hil.core.types import Stimulus
from hil.experiment.bench_file import BenchFile
from hil.experiment.fields import FieldError
from hil.experiment.loader import Document, apply_overrides, find, read
from hil.experiment.protocol import Protocol
from hil.procedures.registry import Procedure, procedure
from hil.stopping import Stopper, stoppable

EXIT_CODES = {Outcome.CONVERGED: 0, Outcome.DONE: 0, Outcome.NOT_CONVERGED: 1, Outcome.STOPPED: 5}
BAD_INPUT, INSTRUMENT_FAULT, SAFETY_REFUSAL, STOPPED = 2, 3, 4, 5


@dataclass(frozen=True)
class Request:
    """What the user asked for. ``protocol`` and ``bench`` are paths or names of shipped files; ``sets`` are path=value."""

    protocol: str
    bench: str | None = None
    target: Target = Target.SIMULATED
    real_time: bool = False
    sets: tuple[str, ...] = ()
    seed: int | None = None
    data: Path = Path("data")


@dataclass(frozen=True)
class Prepared:
    """Both files, read and checked; nothing is connected yet."""

    request: Request
    protocol: Document
    bench_document: Document
    settings: Protocol
    bench: BenchFile
    procedure: Procedure

    @property
    def name(self) -> str:
        """Name of the protocol: its file name without the ending."""
        return self.protocol.path.stem

    @property
    def seed(self) -> int:
        """Seed of every random generator of the run."""
        return self.settings.seed if self.request.seed is None else self.request.seed

    @contextmanager
    def located(self) -> Iterator[None]:
        """Errors about a field that are raised inside get the file and the line."""
        try:
            yield
        except FieldError as error:
            in_bench = (
                error.field.split(".")[0] in BenchFile.model_fields
                and error.field.split(".")[0] not in type(self.settings).model_fields
            )
            raise (self.bench_document if in_bench else self.protocol).located(error) from None

    def assembled(self, target: Target | None = None) -> Assembled:
        """The lab, put together but not opened; see ``hil.bench.assemble``."""
        with self._bench_located():
            return assemble(
                self.bench,
                self.request.target if target is None else target,
                name=self.bench_document.path.name,
                tuned_as=self.settings.tuned_as(),
                seed=self.request.seed,
                real_time=self.request.real_time,
            )

    @contextmanager
    def _bench_located(self) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            raise self.bench_document.located(error) from None


@dataclass
class Result:
    """How a run ended: the JSON summary, the exit code of the program, and the error in one sentence (or empty)."""

    summary: dict[str, Any]
    exit_code: int
    error: str = ""


@dataclass
class _History:
    """What is known of a run that did not get to its own summary."""

    steps: int = 0
    losses: list[float] = field(default_factory=list)
    outputs: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepDone):
            self.steps = event.step
            self.losses.append(event.loss)
            self.outputs, self.weights = event.outputs, event.weights

    def summary(self, outcome: Outcome, reason: str) -> Summary:
        loss = self.losses[-1] if self.losses else None
        return Summary(
            outcome, reason, self.steps, loss, None, tuple(self.losses), self.outputs, self.weights, {"reason": reason}
        )


def prepare(request: Request) -> Prepared:
    """Find, read and check the protocol and its bench file, with all overrides. Raises ConfigError; nothing is connected."""
    shipped = shipped_protocols()
    document = read(find(request.protocol, None, shipped, "protocol"))
    for_bench = apply_overrides(request.sets, document)
    name = document.data.get("procedure")
    if not isinstance(name, str):
        raise document.error("a protocol says which procedure it is for: add `procedure: train_network`", "procedure")
    try:
        chosen = procedure(name)
    except ConfigError as error:
        raise document.error(str(error), "procedure") from None
    settings = document.model(chosen.Settings)
    if request.bench is not None:
        bench_path = find(request.bench, None, shipped / "benches", "bench file")
    else:
        try:
            bench_path = find(settings.bench, document.path, shipped / "benches", "bench file")
        except ConfigError as error:
            raise document.error(str(error), "bench") from None
    bench_document = read(bench_path)
    apply_overrides(for_bench, document, bench_document)
    return Prepared(request, document, bench_document, settings, bench_document.model(BenchFile), chosen)


def check_plan(prepared: Prepared, lab: Lab) -> list[Stimulus]:
    """Every stimulus of the plan, checked against the envelope before anything is applied.

    Raises CapabilityError, ConfigError, LimitExceededError.
    """
    with prepared.located():
        plan = list(prepared.procedure.plan(prepared.settings, lab))
    for stimulus in plan:
        lab.backend.envelope.check(stimulus.values, stimulus.connected)
    return plan


def run(request: Request, listeners: Sequence[Listener] = ()) -> Result:
    """Run a protocol. Never raises a HilError: whatever happens becomes an outcome, a sentence and an exit code."""
    try:
        prepared = prepare(request)
        _require_writable(request.data)
        with stoppable() as stopper, prepared.assembled() as assembled:
            return _run(prepared, assembled, listeners, stopper)
    except HilError as error:
        return Result(refusal(request, str(error)), exit_code_of(error), str(error))
    except KeyboardInterrupt:
        reason = "stopped by the user before anything was applied"
        return Result(refusal(request, reason, Outcome.STOPPED), STOPPED, reason)


def _run(prepared: Prepared, assembled: Assembled, listeners: Sequence[Listener], stopper: Stopper) -> Result:
    backend = assembled.backend
    notes = prepared.bench.notebook.model_dump()

    def lab(events: EventStream, run_id: int | None = None) -> Lab:
        folder = None if run_id is None else prepared.request.data
        return Lab(backend, assembled.twin, assembled.clock, events, prepared.seed, notes, assembled.exchange, folder, run_id)

    check_plan(prepared, lab(EventStream()))
    history = _History()
    error: HilError | None = None
    recorder = None
    try:
        with backend:
            try:
                with stopper.held():
                    recorder = _recorder(prepared, assembled)
                    events = EventStream(recorder, [history, *listeners])
                    assembled.warnings.listen(events.warn)
                    backend.observers.append(lambda stimuli, readings: events.emit(Measured(stimuli, readings)))
                with prepared.located():
                    summary = prepared.procedure.run(prepared.settings, lab(events, recorder.run_id))
            except KeyboardInterrupt:
                summary = history.summary(
                    Outcome.STOPPED, "stopped by the user (Ctrl-C or SIGTERM); every output is in its safe state"
                )
            except HilError as problem:
                error = problem
                summary = history.summary(Outcome.FAILED, str(problem))
            if recorder is None:
                raise error or KeyboardInterrupt
            with stopper.held():
                recorder.snapshot_end(backend.snapshot())
    except (HilError, KeyboardInterrupt) as problem:
        # Opening or closing went wrong; what was measured until then stays on record.
        if recorder is None:
            raise
        error = problem if isinstance(problem, HilError) else BackendError("stopped again while reaching the safe state")
        summary = history.summary(Outcome.FAILED, str(error))
    result = _summary(prepared, recorder.run_id, summary, backend.relaxations, events.warnings)
    try:
        with stopper.held():
            recorder.emit(Finished(summary.outcome.value, summary.reason, summary.results))
            recorder.finish(result)
            recorder.close()
    except RecordError as problem:
        error = error or problem
    except KeyboardInterrupt:
        # It came after the end: the run is complete and on record as what it is.
        pass
    exit_code = exit_code_of(error) if error is not None else EXIT_CODES[summary.outcome]
    return Result(result, exit_code, "" if error is None else str(error))


def _recorder(prepared: Prepared, assembled: Assembled) -> Any:
    from hil.record.provenance import command_line, git_commit, versions
    from hil.record.recorder import RunRecorder

    capabilities = assembled.backend.capabilities
    request = prepared.request
    return RunRecorder(
        request.data,
        protocol=prepared.name,
        sample=prepared.bench.notebook.sample,
        controls=capabilities.controls,
        outputs=capabilities.outputs,
        snapshot=assembled.backend.snapshot(),
        description={
            "protocol": prepared.name,
            "bench": prepared.bench_document.path.name,
            "target": request.target.value,
            "protocol_text": prepared.protocol.text,
            "bench_text": prepared.bench_document.text,
            "overrides": list(request.sets),
            "seed": prepared.seed,
            "notebook": prepared.bench.notebook.model_dump(),
            "versions": versions(),
            "git_commit": git_commit(),
            "command": command_line(),
            "started": datetime.now(tz=UTC).isoformat(timespec="seconds"),
            "units": {channel.name: channel.quantity.value for channel in (*capabilities.controls, *capabilities.outputs)},
        },
    )


def _summary(prepared: Prepared, run_id: int, summary: Summary, relaxations: int, warnings: Sequence[str]) -> dict[str, Any]:
    from hil.record.recorder import plain

    found: dict[str, Any] = plain(
        {
            "run_id": run_id,
            "protocol": prepared.name,
            "target": prepared.request.target.value,
            "outcome": summary.outcome.value,
            "steps": summary.steps,
            "relaxations": relaxations,
            "loss": summary.loss,
            "loss_floor": summary.loss_floor,
            "loss_history": list(summary.loss_history),
            "outputs": summary.outputs,
            "weights": summary.weights,
            "warnings": list(warnings),
            "results": {"reason": summary.reason, **summary.results},
        }
    )
    return found


def refusal(request: Request, message: str, outcome: Outcome = Outcome.FAILED) -> dict[str, Any]:
    """The summary of a run that never began: every field, and the reason."""
    return {
        "run_id": None,
        "protocol": Path(request.protocol).stem,
        "target": request.target.value,
        "outcome": outcome.value,
        "steps": 0,
        "relaxations": 0,
        "loss": None,
        "loss_floor": None,
        "loss_history": [],
        "outputs": {},
        "weights": {},
        "warnings": [],
        "results": {"reason": message},
    }


def exit_code_of(error: HilError) -> int:
    """Exit code of the program for an error that ended it."""
    if isinstance(error, SafetyError):
        return SAFETY_REFUSAL
    if isinstance(error, ConfigError | CapabilityError):
        return BAD_INPUT
    return INSTRUMENT_FAULT


def _require_writable(folder: Path) -> None:
    from hil.record.recorder import open_database

    open_database(folder).close()
