"""What a procedure is given: a backend, what we believe it is, and time."""

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hil.core.backend import Backend
from hil.core.clock import Clock
from hil.core.events import EventStream
from hil.core.twin import Twin


class Continuity(Protocol):
    """How a procedure says what an interruption may divide, and what need not be computed twice."""

    def unbroken(self, final: str = "") -> AbstractContextManager[None]:
        """What is measured inside means something only together: after an interruption all of it is measured again.

        Not where the state of the devices comes back as well, as in a simulation. ``final``: one sentence on why even that is
        not possible, because the devices are others by then; the run can then not be resumed, only begun again.
        """
        ...

    def computed(self, compute: Callable[[], Any]) -> Any:
        """What ``compute`` returns (JSON), or what it returned before the interruption. For what takes long."""
        ...


class Once:
    """Nobody comes back to this run."""

    @contextmanager
    def unbroken(self, final: str = "") -> Generator[None]:
        """Nothing to do."""
        del final
        yield

    def computed(self, compute: Callable[[], Any]) -> Any:
        """Compute it."""
        return compute()


@dataclass(frozen=True, slots=True)
class Lab:
    """One opened laboratory. Nothing in here says which target it is.

    ``seed`` feeds every random generator of the procedure; ``notes`` are the notebook fields of the bench file. ``exchange``
    makes everything safe and mounts specimen number k of the devices in place of the present one (0: the one mounted first);
    None where only a human hand can do that. ``folder`` is where curves and figures of run ``run_id`` are kept beside the record;
    None keeps nothing. ``continuity``: see there.
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
    continuity: Continuity = field(default_factory=Once)
