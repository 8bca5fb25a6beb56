"""What somebody at a terminal sees while something goes on: what is being done, how far it is, how much was read, since when."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hil.core.events import Event, Listener, Measured, Progress


class ProgressLine:
    """A listener that keeps one line of ``rich`` up to date. ``text``: what is shown until the procedure says more."""

    def __init__(self, progress: Any, text: str) -> None:
        self._progress = progress
        self._task = progress.add_task(text, total=None, counted="")
        self._readings = 0

    def __call__(self, event: Event) -> None:
        """Show ``event``, if it tells how far things are."""
        if isinstance(event, Measured):
            self._readings += len(event.stimuli)
            self._progress.update(self._task, counted=f"{self._readings} readings")
        elif isinstance(event, Progress):
            self._progress.update(self._task, completed=event.done, total=event.total, description=event.text)


@contextmanager
def progress_line(text: str, *, quiet: bool = False) -> Iterator[list[Listener]]:
    """Listeners that draw the line, from now until the block ends; none where ``quiet`` or standard error is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield []
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Line

    columns = (
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[counted]}"),
        TimeElapsedColumn(),
    )
    with Line(*columns, console=Console(stderr=True), transient=True) as line:
        yield [ProgressLine(line, text)]
