"""A file that is replaced as a whole: whoever reads it finds the old text or the new one, whenever the program was killed."""

import os
from contextlib import suppress
from pathlib import Path

from hil.core.clock import WallClock

_CLOCK = WallClock()  # a disk knows no other time
_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4) if os.name == "nt" else ()
"""s, before each further attempt to rename: only Windows refuses what it grants a moment later."""


def replace_text(path: Path, text: str, *, flush: bool = False) -> None:
    """Make ``text`` (UTF-8) the content of ``path`` in one step; its folder is made if need be.

    ``flush``: and wait until the disk has it, so that a power cut leaves the new text. Raises OSError; ``path`` is then as
    before, and no half-written file is left beside it.
    """
    half = path.with_suffix(".tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with half.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        _rename(half, path)
    except BaseException:
        # Ctrl-C, too, ends a wait here.
        with suppress(OSError):
            half.unlink(missing_ok=True)
        raise
    if flush:
        _flush_names(path.parent)


def _rename(half: Path, path: Path) -> None:
    """Windows refuses it while another program reads ``path``, or a virus scanner does, which is over in a moment."""
    for pause in _PAUSES:
        try:
            half.replace(path)
        except PermissionError:
            _CLOCK.sleep(pause)
        else:
            return
    half.replace(path)


def _flush_names(folder: Path) -> None:
    """The new name of a file is a fact of its folder, which has to reach the disk as well.

    Not every system can say so of a folder (Windows cannot; its journal keeps the order), and not every network disk.
    """
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
