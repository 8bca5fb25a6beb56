"""One program at a time on a bench, and on a run: locks that the operating system drops when their owner dies.

A lock is held on an open file, so that no stale one can be left behind, whatever ends the program; the file's text says who
holds it, for what, and since when. Benches are told apart by the addresses of their instruments: two bench files that share
one instrument cannot run at the same time.
"""

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from hil.core.errors import BackendError
from hil.core.file_lock import Held, try_lock, unlock
from hil.experiment.addresses import canonical
from hil.record.logbook import author


class HeldError(BackendError):
    """Somebody else holds the lock; ``facts``: owner, purpose, since, pid, as far as the file tells."""

    def __init__(self, message: str, facts: dict[str, str]) -> None:
        super().__init__(message)
        self.facts = facts


@contextmanager
def locked(path: Path, what: str, purpose: str, owner: str = "") -> Iterator[Held]:
    """Hold the lock file ``path`` on ``what``. HeldError, saying who, for what and since when, while somebody else holds it.

    Gives the lock, for a guard that keeps it beyond the end of this process.
    """
    handle = _opened(path)
    try:
        if not try_lock(handle):
            facts = _read(handle)
            raise HeldError(
                f"{what} is in use by {facts.get('owner') or 'somebody'} for {facts.get('purpose') or 'an unknown purpose'} "
                f"since {facts.get('since', '?')} (process {facts.get('pid', '?')} on {facts.get('host', '?')}); "
                "wait until that has ended, or ask them",
                facts,
            )
        _write(handle, json.dumps({
            "owner": owner or author(), "purpose": purpose, "pid": str(os.getpid()), "host": platform.node(),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        }))  # fmt: skip
        try:
            yield Held(handle, path)
        finally:
            _write(handle, "")
            unlock(handle)
    finally:
        # Closing drops the lock. The file stays: removing it would take it from under somebody who has just opened it.
        os.close(handle)


@contextmanager
def locked_bench(addresses: Sequence[str], purpose: str, owner: str = "") -> Iterator[tuple[Held, ...]]:
    """Hold every instrument of a bench, by its VISA address, on this machine; gives the locks. Raises HeldError."""
    folder = Path(tempfile.gettempdir()) / "memristor-hil-locks"
    with ExitStack() as stack:
        held = []
        for address in sorted({canonical(address) for address in addresses}):
            name = hashlib.sha256(address.encode()).hexdigest()[:24]
            lock = locked(folder / f"{name}.lock", f"the instrument at {address}", purpose, owner)
            held.append(stack.enter_context(lock))
        yield tuple(held)


def _opened(path: Path) -> int:
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.parent.parent == Path(tempfile.gettempdir()):
                # Every user of the machine shares the instruments.
                path.parent.chmod(0o1777)
        try:
            # Without O_CREAT first: systems refuse that flag for a file of another user in a folder everyone writes to.
            return os.open(path, os.O_RDWR)
        except FileNotFoundError:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            path.chmod(0o666)
            return handle
    except OSError as error:
        raise BackendError(f"the lock {path} cannot be opened: {error.strerror or error}") from error


def _read(handle: int) -> dict[str, str]:
    os.lseek(handle, 0, os.SEEK_SET)
    try:
        facts = json.loads(os.read(handle, 4096) or b"{}")
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in facts.items()} if isinstance(facts, dict) else {}


def _write(handle: int, text: str) -> None:
    os.ftruncate(handle, 0)
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, text.encode())
