"""Locks of open files, which the operating system drops when whoever holds them ends.

The guard outlives the program that holds a lock, and nobody else may have the lock as long as it does. Where a process can
inherit an open file it inherits the lock. On Windows locks belong to processes: there the guard keeps one of its own in the
same file, and who finds that one held does not get the file.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Held(NamedTuple):
    """A lock: its open file, and where that is."""

    handle: int
    path: Path


if sys.platform == "win32":
    import msvcrt

    # Locked bytes cannot be read by others on this system: they lie far behind the text.
    _PROGRAM, _GUARD = 1 << 30, (1 << 30) + 1

    def try_lock(handle: int) -> bool:
        """Lock the open file, unless another program has it, or the guard of one that is gone keeps it."""
        if not _take(handle, _PROGRAM):
            return False
        if not _take(handle, _GUARD):
            _drop(handle, _PROGRAM)
            return False
        _drop(handle, _GUARD)
        return True

    def unlock(handle: int) -> None:
        """Drop the lock now: this system takes its time over those of a file that is closed."""
        _drop(handle, _PROGRAM)

    def keep(paths: Iterable[str]) -> list[int]:
        """In the guard of a program that holds ``paths``: keep them until this process ends. Raises OSError."""
        kept = []
        for path in paths:
            kept.append(os.open(path, os.O_RDWR))
            _take(kept[-1], _GUARD)
        return kept

    def _take(handle: int, place: int) -> bool:
        os.lseek(handle, place, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _drop(handle: int, place: int) -> None:
        os.lseek(handle, place, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def try_lock(handle: int) -> bool:
        """Lock the open file, unless somebody has it."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(handle: int) -> None:
        """Nothing to do: closing the file drops the lock, unless a guard has inherited it."""

    def keep(paths: Iterable[str]) -> list[int]:
        """Nothing to do: this process has inherited the open files."""
        return []
