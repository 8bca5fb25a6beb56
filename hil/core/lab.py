"""What a procedure is given: a backend, what we believe it is, and time."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hil.core.backend import Backend
from hil.core.clock import Clock
from hil.core.events import EventStream
from hil.core.twin import Twin


@dataclass(frozen=True, slots=True)
class Lab:
    """One opened laboratory. Nothing in here says which target it is.

    ``seed`` feeds every random generator of the procedure; ``notes`` are the notebook fields of the bench file.
    """

    backend: Backend
    twin: Twin
    clock: Clock
    events: EventStream
    seed: int = 0
    notes: Mapping[str, str] = field(default_factory=dict)
