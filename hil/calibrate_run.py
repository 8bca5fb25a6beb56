"""`hil calibrate`: one bench, calibrated, its readings recorded like every measurement, and the result kept."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hil.bench import Assembled, Target, assemble, bench_document
from hil.bench_check import control_layout, identities, with_currents, with_readbacks
from hil.bench_layout import envelope
from hil.calibrate import Plan, measure, plan
from hil.calibrate_results import entries, pair_entry, pressures
from hil.calibration import save, wiring
from hil.claim import claimed
from hil.core.errors import ConfigError, HilError
from hil.core.events import EventStream, Finished, Measured, TableRow
from hil.core.outcome import Outcome
from hil.experiment.bench_file import BenchFile
from hil.experiment.fields import unknown
from hil.experiment.loader import Document
from hil.keeping import fingerprint
from hil.record.recorder import RunRecorder, plain
from hil.stopping import Stopper

MODEL = (
    "y = offset + gain * x, SI: of a source x is programmed and y delivered, of a meter x is true and y shown; "
    "_std are standard errors (one standard deviation)"
)


@dataclass(frozen=True)
class CalibrateRequest:
    """What the user asked for; ``sets`` are path=value of the bench file, ``voltage`` (V) goes before the small default.

    ``reference``: the output taken as true, before the one that the file names.
    """

    bench: str
    target: Target = Target.VIRTUAL
    data: Path = Path("data")
    sets: tuple[str, ...] = ()
    voltage: float | None = None
    reference: str | None = None


def calibrate(request: CalibrateRequest) -> dict[str, Any]:
    """Calibrate the bench, keep the result, and return it. Raises HilError (then nothing is kept but the readings),
    KeyboardInterrupt."""
    if request.target is Target.SIMULATED:
        raise ConfigError("a simulated network has no instruments to calibrate; choose --on virtual or --on bench")
    if request.voltage is not None and not request.voltage > 0.0:
        raise ConfigError(f"a calibration at {request.voltage:g} V shows nothing; give a small voltage above 0")
    document = bench_document(request.bench, request.sets)
    given = document.model(BenchFile)
    # What is to be calibrated is not corrected by what was found before.
    chosen = given.calibration.model_copy(update={"use": None, "reference": request.reference or given.calibration.reference})
    if chosen.reference is not None and chosen.reference not in given.outputs:
        raise ConfigError(f"--reference: {unknown('output', chosen.reference, list(given.outputs))}")
    own = given.model_copy(update={"calibration": chosen})
    try:
        limits = envelope(own, control_layout(own), document.path.name)
        wanted = plan(own, limits, request.voltage)
        bench = with_currents(with_readbacks(own), wanted.stimuli)
        with (
            claimed(bench, request.target, f"a calibration of {document.path.name}", request.data) as (stopper, held),
            assemble(bench, request.target, name=document.path.name, folder=request.data, keeps=held) as assembled,
        ):
            facts = _calibrated(request, document, own, bench, wanted, assembled, stopper)
    except ConfigError as error:
        raise document.located(error) from None
    return facts


def _calibrated(
    request: CalibrateRequest,
    document: Document,
    own: BenchFile,
    bench: BenchFile,
    wanted: Plan,
    assembled: Assembled,
    stopper: Stopper,
) -> dict[str, Any]:
    backend, name = assembled.backend, document.path.stem
    controls, outputs = backend.capabilities.controls, backend.capabilities.outputs
    with backend:
        with stopper.held():
            recorder = _recorder(request, document, bench, assembled)
            events = EventStream(recorder)
            assembled.warnings.listen(events.warn)
        outcome, reason = Outcome.FAILED, ""
        try:
            backend.observers.append(lambda stimuli, readings: events.emit(Measured(stimuli, readings)))
            measured, pairs, read_pressures = measure(assembled, bench, wanted)
            for number, row in enumerate(zip(*read_pressures.values(), strict=True)):
                at_rest = dict(zip(read_pressures, map(float, row), strict=True))
                events.emit(TableRow("vented_pressures", {"number": number, **at_rest}))
            found, notes = entries(bench, controls, outputs, wanted, measured)
            found += pressures(bench, controls, read_pressures)
            facts = plain(
                {
                    "when": datetime.now().astimezone().isoformat(timespec="seconds"),
                    "run_id": recorder.run_id,
                    "seed": bench.virtual.seed if request.target is Target.VIRTUAL else None,
                    "bench_file": document.path.name,
                    "bench_sha256": fingerprint(document.text),
                    "overrides": list(request.sets),
                    "reference": own.calibration.reference,
                    "largest_level": wanted.largest,
                    "model": MODEL,
                    "instruments": identities(bench),
                    "channels": {
                        "controls": {key: wiring(own, "controls", key) for key in own.controls},
                        "outputs": {key: wiring(own, "outputs", key) for key in own.outputs},
                    },
                    "spans": {key: max(abs(limit) for limit in control.limits) for key, control in own.controls.items()},
                    "found": found,
                    "pairs": {key: pair_entry(one) for key, one in pairs.items()},
                    "notes": notes,
                    "warnings": events.warnings,
                }
            )
            with stopper.held():
                path = save(request.data, name, request.target.value, facts)
            outcome, reason = Outcome.DONE, f"calibration kept in {path}"
        except KeyboardInterrupt:
            outcome, reason = Outcome.STOPPED, "stopped by the user; the calibration before is kept"
            raise
        except HilError as error:
            reason = str(error)
            raise
        finally:
            with stopper.held():
                if not recorder.broken:
                    events.emit(Finished(outcome.value, reason))
                    recorder.finish(
                        _summary(request, recorder, backend.relaxations, outcome, reason) | {"warnings": events.warnings}
                    )
                    recorder.close()
                else:
                    recorder.release()
    return {"bench": name, "target": request.target.value, "file": str(path), **facts}


def _summary(request: CalibrateRequest, recorder: RunRecorder, relaxations: int, outcome: Outcome, reason: str) -> dict[str, Any]:
    """As of every run; a calibration has neither steps nor a loss."""
    return {
        "run_id": recorder.run_id,
        "protocol": f"calibrate_{Path(request.bench).stem}",
        "target": request.target.value,
        "outcome": outcome.value,
        "steps": 0,
        "relaxations": relaxations,
        "loss": None,
        "loss_floor": None,
        "loss_history": [],
        "outputs": {},
        "weights": {},
        "warnings": [],
        "results": {"reason": reason},
    }


def _recorder(request: CalibrateRequest, document: Document, bench: BenchFile, assembled: Assembled) -> RunRecorder:
    from hil.record.provenance import command_line, git_commit, versions

    capabilities = assembled.backend.capabilities
    protocol = f"calibrate_{document.path.stem}"
    return RunRecorder(
        request.data,
        protocol=protocol,
        sample=bench.notebook.sample,
        controls=capabilities.controls,
        outputs=capabilities.outputs,
        replicas=capabilities.replicas,
        snapshot=assembled.backend.snapshot(),
        description={
            "protocol": protocol,
            "bench": document.path.name,
            "target": request.target.value,
            "protocol_text": "",
            "bench_text": document.text,
            "overrides": list(request.sets),
            "seed": bench.virtual.seed,
            "notebook": bench.notebook.model_dump(),
            "versions": versions(),
            "git_commit": git_commit(),
            "command": command_line(),
            "started": datetime.now(tz=UTC).isoformat(timespec="seconds"),
            "units": {channel.name: channel.quantity.value for channel in (*capabilities.controls, *capabilities.outputs)},
        },
    )
