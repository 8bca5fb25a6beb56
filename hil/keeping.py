"""What keeps a run resumable: its whole state on disk after every block of readings, and how to begin from one."""

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hil.core.backend import Backend
from hil.core.errors import CapabilityError, ConfigError, HilError
from hil.core.events import Event, EventStream, StepDone
from hil.core.outcome import Outcome, Summary
from hil.deadline import Deadline
from hil.procedures.registry import Procedure
from hil.record.checkpoint import CheckpointFile
from hil.record.recorder import RunRecorder

COMPLETE = (Outcome.CONVERGED, Outcome.DONE, Outcome.NOT_CONVERGED)
"""Outcomes after which there is nothing left to do."""


@dataclass
class History:
    """What is known of a run that did not get to its own summary; a listener."""

    steps: int = 0
    losses: list[float] = field(default_factory=list)
    outputs: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, event: Event) -> None:
        """Take notice of a step."""
        if isinstance(event, StepDone):
            self.steps = event.step
            self.losses.append(event.loss)
            self.outputs, self.weights = event.outputs, event.weights

    def summary(self, outcome: Outcome, reason: str) -> Summary:
        """The summary of a run that ended early."""
        loss = self.losses[-1] if self.losses else None
        return Summary(
            outcome, reason, self.steps, loss, None, tuple(self.losses), self.outputs, self.weights, {"reason": reason}
        )

    def packed(self) -> dict[str, object]:
        """As JSON."""
        return {"steps": self.steps, "losses": list(self.losses), "outputs": dict(self.outputs), "weights": dict(self.weights)}


def can_resume(procedure: Procedure) -> bool:
    """Whether a run of ``procedure`` can go on after an interruption: by its own state, or by repeating its questions."""
    return keeps_state(procedure) or bool(getattr(procedure, "REPEATABLE", False))


def keeps_state(procedure: Procedure) -> bool:
    """Whether ``procedure.run`` gives its state away and takes it back (``checkpoint`` and ``resume``)."""
    return {"resume", "checkpoint"} <= set(inspect.signature(procedure.run).parameters)


def fingerprint(text: str) -> str:
    """SHA-256 of a file's text, by which a changed file is recognised."""
    return hashlib.sha256(text.encode()).hexdigest()


class Keeper:
    """Saves the state of one run. ``header``: what identifies it (see ``hil.resume``); ``saved``: what it goes on from."""

    def __init__(
        self,
        data: Path,
        header: Mapping[str, object],
        backend: Backend,
        events: EventStream,
        recorder: RunRecorder,
        history: History,
        *,
        possible: bool,
        deadline: Deadline | None = None,
        saved: Mapping[str, Any] | None = None,
    ) -> None:
        self._data, self._header = data, header
        self._backend, self._events, self._recorder, self._history = backend, events, recorder, history
        self._deadline = deadline
        self._file = CheckpointFile(data, recorder.run_id)
        self.possible = possible
        self.state: Mapping[str, Any] | None = None if saved is None else saved["state"]
        self._written: Mapping[str, object] = {}
        self._barred = ""
        if saved is not None:
            self._restore(saved)
        if possible:
            # Before anything is applied: from here on there is always something to go on from.
            self._write(self.state)
            if saved is not None:
                CheckpointFile(data, saved["run_id"]).write({"continued_as": recorder.run_id})

    def _restore(self, saved: Mapping[str, Any]) -> None:
        if saved["backend"] is not None and self._backend.capabilities.can_capture:
            self._backend.restore_state(saved["backend"])
        self._backend.relaxations = saved["relaxations"]

    def save(self, state: Mapping[str, object]) -> None:
        """Put the state of the procedure on disk, with all else. Raises RecordError; TimeIsUpError once it is there."""
        self._write(state)
        self._barred = str(state.get("barred", ""))
        self.between_blocks()

    def between_blocks(self) -> None:
        """TimeIsUpError where the run was to be over by now."""
        if self._deadline is not None:
            self._deadline.between_blocks()

    @property
    def readings(self) -> int:
        """How many are on record, those of the runs before included."""
        return self._recorder.counts["reading"]

    def save_usage(self) -> None:
        """What was used up until the end, beside the last state: a resumed run begins with what is left."""
        usage = self._backend.usage()
        if self._written and usage:
            self._file.write({**self._written, "usage": usage})

    def _write(self, state: Mapping[str, object] | None) -> None:
        backend = self._backend
        self._written = {
            **self._header,
            "run_id": self._recorder.run_id,
            "saved": datetime.now(tz=UTC).isoformat(timespec="milliseconds"),
            "rows": self._recorder.counts,
            "warnings": list(self._events.warnings),
            "history": self._history.packed(),
            "relaxations": backend.relaxations,
            "backend": backend.capture_state() if backend.capabilities.can_capture else None,
            "usage": backend.usage(),
            "state": state,
        }
        self._file.write(self._written)

    def ended(self, error: HilError) -> Outcome:
        """How a run ended that could not go on but is safe: ``stopped`` where it can be resumed, else ``failed``."""
        return Outcome.STOPPED if self.verdict(Outcome.STOPPED, error)["resumable"] is True else Outcome.FAILED

    def verdict(self, outcome: Outcome, error: Exception | None) -> dict[str, object]:
        """What the summary says about going on: nothing when the run is complete."""
        if outcome in COMPLETE and error is None:
            return {}
        if not self.possible:
            return {"resumable": False, "not_resumable": "this procedure keeps no state; run it again"}
        if self._barred:
            return {"resumable": False, "not_resumable": self._barred}
        if isinstance(error, ConfigError | CapabilityError):
            return {"resumable": False, "not_resumable": "the files asked for something that cannot be; correct them"}
        return {"resumable": True, "resume": f"hil resume {self._recorder.run_id} --data {self._data}"}

    def complete(self) -> None:
        """The run is complete and on record: nothing is left to resume, and nobody will ask for its lock."""
        self._file.remove()
