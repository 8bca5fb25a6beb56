"""What a run leaves behind: its dataset, and its summary."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hil.bench import Assembled
from hil.core.events import EventStream, TableRow
from hil.core.outcome import Outcome, Summary
from hil.core.types import Capabilities
from hil.prepared import Prepared, Request
from hil.record.checkpoint import Spill
from hil.record.recorder import RunRecorder, plain


def new_recorder(prepared: Prepared, assembled: Assembled, saved: Mapping[str, Any] | None) -> RunRecorder:
    """The dataset of a run. One that goes on from a ``saved`` state names the run it continues, and how much of it counts."""
    from hil.record.provenance import command_line, git_commit, versions

    capabilities = assembled.backend.capabilities
    request = prepared.request
    return RunRecorder(
        request.data,
        protocol=prepared.name,
        sample=prepared.bench.notebook.sample,
        controls=capabilities.controls,
        outputs=capabilities.outputs,
        replicas=capabilities.replicas,
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
            **({"continues": {"run_id": saved["run_id"], "rows": saved["rows"]}} if saved else {}),
            "units": units_of(capabilities),
        },
        counts=saved["rows"] if saved else None,
    )


def units_of(capabilities: Capabilities) -> dict[str, str]:
    """SI unit of every control and output by name."""
    return {channel.name: channel.quantity.value for channel in (*capabilities.controls, *capabilities.outputs)}


def recover_spill(data: Path, events: EventStream, saved: Mapping[str, Any] | None) -> None:
    """Rows that the database did not take when the ``saved`` run failed: into table ``spilled`` of the run that goes on."""
    if saved is None:
        return
    spill = Spill(data, saved["run_id"])
    for row in spill.rows():
        events.emit(TableRow("spilled", row))
    spill.remove()


def summary_of(prepared: Prepared, run_id: int, summary: Summary, relaxations: int, warnings: Sequence[str]) -> dict[str, Any]:
    """The JSON summary of a run."""
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
