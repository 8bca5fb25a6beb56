"""What a procedure is given: a backend, what we believe it is, and time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hil.core.backend import Backend
from hil.core.clock import Clock
from hil.core.events import EventStream
from hil.core.twin import Twin


@dataclass(frozen=True, slots=True)
class Lab:
    """One opened laboratory. Nothing in here says which target it is.

    ``seed`` feeds every random generator of the procedure; ``notes`` are the notebook fields of the bench file. ``exchange``
    makes everything safe and mounts specimen number k of the devices in place of the present one (0: the one mounted first);
    None where only a human hand can do that. ``folder`` is where curves and figures of run ``run_id`` are kept beside the record;
    None keeps nothing.
    """

    backend: Backend
    twin: Twin
    clock: Clock
    events: EventStream
    seed: int = 0
    notes: Mapping[str, str] = field(default_factory=dict)
    exchange: Callable[[int], None] | None = None
    folder: Path | None = None
    run_id: int | None = None
