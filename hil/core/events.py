"""The one stream of events of a run: recorder, progress bar and any page listen to the same."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hil.core.types import FloatArray, Readings, Stimulus


@dataclass(frozen=True, slots=True)
class Measured:
    """A block of readings, the moment it exists."""

    stimuli: Sequence[Stimulus]
    readings: Readings


@dataclass(frozen=True, slots=True)
class StepDone:
    """One update of the weights. ``weights`` SI by name; ``loss`` after the update, in ``loss_unit``."""

    step: int
    theta: FloatArray
    weights: Mapping[str, float]
    loss: float
    loss_std: float
    outputs: Mapping[str, float]
    gradient: FloatArray
    relaxations: int
    info: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Warned:
    """Something the user should know; it goes into the record and the summary."""

    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a procedure has come; ``total`` None when unknown."""

    done: int
    total: int | None
    text: str


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of a procedure's own table (``table`` names it), e.g. one point of an I-V curve; SI columns."""

    table: str
    row: Mapping[str, float | int | str]


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a run: ``outcome`` as in the summary, ``reason`` one sentence."""

    outcome: str
    reason: str
    results: Mapping[str, object] = field(default_factory=dict)


Event = Measured | StepDone | Warned | Progress | TableRow | Finished


class Recorder(Protocol):
    """Keeps what was measured. It must not lose anything: its errors stop the run safely."""

    def emit(self, event: Event) -> None:
        """Store one event; returns when it is safe on disk (as far as the store promises that)."""
        ...


Listener = Callable[[Event], None]


class EventStream:
    """Hands each event to the recorder first, then to every listener.

    A broken listener is dropped with a warning and never stops a run; a broken recorder does.
    """

    def __init__(self, recorder: Recorder | None = None, listeners: Sequence[Listener] = ()) -> None:
        self._recorder = recorder
        self._listeners = list(listeners)
        self.warnings: list[str] = []

    def emit(self, event: Event) -> None:
        """Deliver ``event`` to the recorder and every listener."""
        if isinstance(event, Warned):
            if event.message in self.warnings:
                return
            self.warnings.append(event.message)
        if self._recorder is not None:
            self._recorder.emit(event)
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001 - whatever a listener does wrong, the run goes on without it
                self._listeners.remove(listener)
                warnings.warn(f"listener {listener!r} failed and was dropped: {error}", RuntimeWarning, stacklevel=2)

    def warn(self, message: str) -> None:
        """Emit a warning once."""
        self.emit(Warned(message))
