"""Be done by a certain time: stop at the last step that fits."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from hil.core.clock import Clock
from hil.core.errors import ConfigError, HilError
from hil.core.events import Event, EventStream, Listener, Measured, Progress, Recorder, StepDone, TableRow


class TimeIsUpError(HilError):
    """Not a fault: the run was asked to end by now, and ends here."""


def seconds_until(clock_time: str, now: datetime | None = None) -> float:
    """Seconds from ``now`` (default: now, local time) to the next time it is ``clock_time``, such as 07:00.

    ConfigError for anything that is no time of day.
    """
    try:
        wanted = datetime.strptime(f"{clock_time.strip()} +0000", "%H:%M %z").time()
    except ValueError:
        raise ConfigError(f"--stop-by {clock_time}: write a time of day such as 07:00") from None
    # By the clock on the wall, which may be put forward or back in that night; seconds are counted apart from it.
    here = datetime.now(tz=UTC).astimezone().replace(tzinfo=None) if now is None else now
    end = here.replace(hour=wanted.hour, minute=wanted.minute, second=0, microsecond=0)
    if end <= here:
        end += timedelta(days=1)
    return (end.astimezone(UTC) - here.astimezone(UTC)).total_seconds()


class Deadline:
    """The end of the time that a run may take, by the clock of the lab: in a rehearsal, a night passes in seconds."""

    def __init__(self, clock: Clock, seconds: float, text: str) -> None:
        self._now: Callable[[], float] = clock.now
        self._until = clock.now() + seconds
        self._text = text
        self._step_began: float | None = None
        self._longest = 0.0

    def between_blocks(self) -> None:
        """TimeIsUpError once the time is over; the state of the run is on disk."""
        if self._now() >= self._until:
            raise TimeIsUpError(f"it is {self._text}; every output is in its safe state")

    def after_step(self) -> None:
        """TimeIsUpError when a step as long as the longest so far would not end in time."""
        now = self._now()
        if self._step_began is not None:
            self._longest = max(self._longest, now - self._step_began)
        self._step_began = now
        if now + self._longest > self._until:
            raise TimeIsUpError(
                f"the next step takes up to {self._longest:.3g} s and would not end by {self._text}; "
                "every output is in its safe state"
            )


class TimedEvents(EventStream):
    """Events of a run that has a deadline. ``everywhere``: also end within a step, where no state would be lost by it."""

    def __init__(self, deadline: Deadline, recorder: Recorder, listeners: Sequence[Listener], *, everywhere: bool) -> None:
        super().__init__(recorder, listeners)
        self._deadline = deadline
        self._everywhere = everywhere

    def emit(self, event: Event) -> None:
        """Deliver ``event``, then raise TimeIsUpError where the time is up."""
        super().emit(event)
        if isinstance(event, StepDone):
            self._deadline.after_step()
        elif self._everywhere and isinstance(event, Measured | TableRow | Progress):
            self._deadline.between_blocks()
