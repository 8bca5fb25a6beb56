"""What a run needs to go on after an interruption: one small file beside the database, replaced as a whole.

``DATA/checkpoints/RUN.json`` is written to a temporary file and renamed over the old one, so that whoever reads it finds
one complete state, whenever the program was killed. A rename survives the end of the program without further ado; a power
cut only once the disk was told to write (fsync). That is asked for whenever it costs at most a twentieth of the time, which
on a bench is every time, and on a fast simulation once in a while.
"""

import hashlib
import json
import operator
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hil.core.errors import ConfigError, RecordError
from hil.core.replaced import replace_text

FORMAT = "hil-checkpoint/1"
FOLDER = "checkpoints"
_SYNC_SHARE = 0.05
"""Share of the time that may be spent on waiting for the disk."""
_LONG = 64
"""Lists of at least this many entries are remembered as text, because histories only grow at their end."""


class CheckpointFile:
    """The checkpoint of one run."""

    def __init__(self, data: Path, run_id: int) -> None:
        self.path = data / FOLDER / f"{run_id}.json"
        self._encode = _Encoder()
        self._synced_at = -float("inf")
        self._sync_takes = 0.0

    def write(self, state: Mapping[str, object]) -> None:
        """Replace the checkpoint by ``state`` (JSON-able, NaN allowed). RecordError when that fails; the old one stays."""
        text = self._encode({"format": FORMAT, **state})
        begin = time.monotonic()
        sync = begin - self._synced_at >= self._sync_takes / _SYNC_SHARE
        try:
            replace_text(self.path, text, flush=sync)
        except OSError as error:
            raise RecordError(
                f"the state of the run could not be written to {self.path}: {error.strerror or error}; free space, then resume"
            ) from error
        if sync:
            self._synced_at = time.monotonic()
            self._sync_takes = self._synced_at - begin

    def read(self) -> dict[str, Any] | None:
        """The last state; None when there is none. ConfigError when the file is damaged or of another format."""
        try:
            state = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.path} cannot be read ({error}); the run cannot be resumed, run it again") from error
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise ConfigError(f"{self.path} was written by another version of the program; resume it with that one")
        return state

    def remove(self) -> None:
        """Forget the state, the run's lock and its own book of stocks: it is complete. A file that cannot be removed is left."""
        for path in (self.path, *map(self.path.with_suffix, (".tmp", ".lock", ".stocks.json"))):
            with suppress(OSError):
                path.unlink(missing_ok=True)


class Spill:
    """Rows that the database did not take, one JSON line each: beside it, or in the temporary folder when its disk is full."""

    def __init__(self, data: Path, run_id: int) -> None:
        folder = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:12]
        self.places = (
            data / FOLDER / f"{run_id}.spill.jsonl",
            Path(tempfile.gettempdir()) / f"memristor-hil-{folder}-{run_id}.spill.jsonl",
        )

    def add(self, rows: Sequence[Mapping[str, object]]) -> Path | None:
        """Keep ``rows``; where they are now, or None when no place takes them."""
        # A line of its own even after one that was cut short.
        text = "".join(f"\n{json.dumps(row)}\n" for row in rows)
        for place in self.places:
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                with place.open("a", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                continue
            return place
        return None

    def rows(self) -> list[dict[str, Any]]:
        """Everything that was kept, oldest first; a line cut short by a full disk is left out."""
        found = []
        for place in self.places:
            if place.is_file():
                for line in place.read_text(encoding="utf-8").splitlines():
                    try:
                        found.append(json.loads(line))
                    except ValueError:
                        continue
        return found

    def remove(self) -> None:
        """Forget the rows: they are in the database now."""
        for place in self.places:
            with suppress(OSError):
                place.unlink(missing_ok=True)


class _Encoder:
    """JSON of states that resemble each other: a long list is encoded once, and then only what was added to it."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[list[Any], str]] = {}

    def __call__(self, value: object, path: str = "") -> str:
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{json.dumps(str(k))}: {self(v, f'{path}/{k}')}" for k, v in value.items()) + "}"
        if isinstance(value, list) and len(value) >= _LONG and isinstance(value[0], float | int):
            before, text = self._known.get(path, ([], ""))
            # The same objects, because equal is not the same text: 0.0 and -0.0.
            if len(before) > len(value) or not all(map(operator.is_, before, value)):
                before, text = [], ""
            text = ", ".join(part for part in (text, json.dumps(value[len(before) :])[1:-1]) if part)
            self._known[path] = (list(value), text)
            return f"[{text}]"
        return json.dumps(value)
