"""Notes that people add to a run while it goes on and after it: a table of their own in the same database."""

import getpass
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from hil.core.errors import ConfigError, RecordError
from hil.record.recorder import BUSY_TIMEOUT, DATABASE

_TABLE = "hil_notes"


def author() -> str:
    """Name of who is logged in; empty where the system does not tell."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


def add_note(run_id: int, text: str, folder: Path) -> None:
    """Add ``text`` to the log of run ``run_id`` of ``folder``, whether it is going on or over.

    Raises ConfigError when there is no such run or no text, RecordError when the database cannot be written.
    """
    if not text.strip():
        raise ConfigError("a note needs some text: hil note ID TEXT")
    path = folder / DATABASE
    if not path.is_file():
        raise ConfigError(f"there are no runs in {folder} (no {DATABASE}); name the folder with --data DIR")
    try:
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT)
        try:
            known = connection.execute("SELECT 1 FROM runs WHERE run_id = ?", (run_id,)).fetchone()
            if known is None:
                raise ConfigError(f"there is no run {run_id} in {folder}; `hil runs` lists them")
            with connection:
                connection.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE} (run_id INTEGER, time TEXT, author TEXT, note TEXT)")
                now = datetime.now(tz=UTC).isoformat(timespec="seconds")
                connection.execute(f"INSERT INTO {_TABLE} VALUES (?, ?, ?, ?)", (run_id, now, author(), text.strip()))
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise RecordError(f"the note could not be written to {path}: {error}; try again") from error


def notes(folder: Path, run_id: int) -> list[dict[str, str]]:
    """Notes on one run, oldest first: time, author, text. Raises RecordError when the database cannot be read."""
    path = folder / DATABASE
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            exists = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (_TABLE,)).fetchone()
            rows = (
                connection.execute(
                    f"SELECT time, author, note FROM {_TABLE} WHERE run_id = ? ORDER BY rowid", (run_id,)
                ).fetchall()
                if exists
                else []
            )
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise RecordError(f"the notes of run {run_id} cannot be read from {path}: {error}") from error
    return [dict(zip(("time", "author", "text"), row, strict=True)) for row in rows]
