"""What the tests of interrupted runs share: interruptions, comparisons, and a look with plain QCoDeS."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hil.core.events import Event
from hil.record import recorder
from hil.record.reader import list_runs, load
from hil.run import Request, Result

OWN = ("file", "plot")
"""Results that name files of the run itself."""


def on(data: Path, request: Request) -> Request:
    return replace(request, data=data)


def essence(result: Result) -> dict[str, Any]:
    """The summary without what differs between two runs that are the same."""
    found: dict[str, Any] = json.loads(json.dumps({**result.summary, "run_id": 0}))
    for name in OWN:
        found["results"].pop(name, None)
    return found


def same(one: Result, one_data: Path, two: Result, two_data: Path) -> None:
    assert essence(one) == essence(two)
    assert one.exit_code == two.exit_code
    first, second = load(one.summary["run_id"], one_data), load(two.summary["run_id"], two_data)
    pd.testing.assert_frame_equal(first.readings, second.readings, check_exact=True)
    pd.testing.assert_frame_equal(first.history, second.history, check_exact=True)
    assert first.rows.keys() | {"spilled"} == second.rows.keys() | {"spilled"}
    for name, table in first.rows.items():
        pd.testing.assert_frame_equal(table, second.rows[name], check_exact=True)
    assert [event.get("warning") for event in first.events] == [event.get("warning") for event in second.events]


def opens_with_plain_qcodes(data: Path) -> None:
    from qcodes.dataset import load_by_id
    from qcodes.dataset.sqlite.database import connect

    connection = connect(data / "runs.db")
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        for entry in list_runs(data):
            dataset = load_by_id(entry["run_id"], connection)
            if dataset.number_of_results:
                assert dataset.get_parameter_data()
    finally:
        connection.close()


class Interrupt:
    """Ctrl-C at event number ``at``; also counts the events, when ``at`` is never reached."""

    def __init__(self, at: int = 10**9) -> None:
        self.at, self.seen = at, 0

    def __call__(self, event: Event) -> None:
        self.seen += 1
        if self.seen == self.at:
            raise KeyboardInterrupt


def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk: an interruption that leaves the machine running does not need it, and many tests do without."""
    opened = recorder.open_database

    def unsynchronised(folder: Path) -> Any:
        connection = opened(folder)
        connection.execute("PRAGMA synchronous=OFF")
        return connection

    monkeypatch.setattr("hil.record.recorder.open_database", unsynchronised)
    monkeypatch.setattr("os.fsync", lambda handle: None)
