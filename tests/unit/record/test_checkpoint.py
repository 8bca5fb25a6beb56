"""The checkpoint file: every bit comes back, one whole state at any moment, and rows that the database did not take."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.core.errors import ConfigError, RecordError
from hil.core.events import Warned
from hil.core.types import Channel, Kind, Layout, Quantity
from hil.record.checkpoint import FORMAT, CheckpointFile, Spill
from hil.record.recorder import RunRecorder
from tests.marks import needs_sigkill

NUMBERS = st.floats(allow_nan=False) | st.integers(-(2**70), 2**70)
VALUES = st.recursive(
    NUMBERS | st.text() | st.booleans() | st.none(),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
    max_leaves=20,
)


@settings(max_examples=30, deadline=None)
@given(states=st.lists(st.dictionaries(st.text().filter(lambda key: key != "format"), VALUES), min_size=1, max_size=3))
def test_what_is_written_comes_back(states: list[dict[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = CheckpointFile(Path(folder), 1)
        for state in states:
            file.write(state)
            assert repr(file.read()) == repr({"format": FORMAT, **state})


@settings(max_examples=30, deadline=None)
@given(
    first=st.lists(NUMBERS, min_size=64, max_size=70),
    more=st.lists(NUMBERS, max_size=3),
    changed=st.none() | st.tuples(st.integers(0, 63), st.sampled_from([0.0, -0.0, 1.0])),
)
def test_a_history_that_grows_shrinks_or_changes_is_written_as_it_is(
    first: list[float], more: list[float], changed: tuple[int, float] | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = CheckpointFile(Path(folder), 1)
        second = [*first, *more]
        if changed is not None:
            second[changed[0]] = changed[1]
        for history in (first, second, second, first[:64]):
            file.write({"deep": {"history": list(history)}})
            read = file.read()
            assert read is not None
            # The sign of a zero is a bit, too.
            assert repr(read["deep"]["history"]) == repr(history)


def test_without_a_file_there_is_no_state(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path, 1)
    assert file.read() is None
    file.remove()
    file.write({"a": 1})
    file.remove()
    assert file.read() is None
    assert list(file.path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"), [('{"format": "hil-che', "cannot be read"), ('{"format": "other/1"}', "another version")]
)
def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = CheckpointFile(tmp_path, 1)
    file.write({})
    file.path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        file.read()


def test_a_state_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = CheckpointFile(tmp_path, 1)
    file.write({"a": 1})

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(RecordError, match="No space left on device; free space, then resume"):
            file.write({"a": 2})
    assert file.read() == {"format": FORMAT, "a": 1}
    assert not file.path.with_suffix(".tmp").exists()


WRITER = """
import sys
from pathlib import Path
from hil.record.checkpoint import CheckpointFile
file = CheckpointFile(Path(sys.argv[1]), 1)
number = 0
while True:
    file.write({"number": number, "twice": [number] * 5000})
    if number == 0:
        print("go", flush=True)
    number += 1
"""


@needs_sigkill
def test_a_writer_that_is_killed_leaves_one_whole_state(tmp_path: Path) -> None:
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "go\n"
            for _ in range(200):
                state = CheckpointFile(tmp_path, 1).read()
                assert state is not None
                assert state["twice"] == [state["number"]] * 5000
            os.kill(writer.pid, signal.SIGKILL)
        state = CheckpointFile(tmp_path, 1).read()
        assert state is not None
        assert state["twice"] == [state["number"]] * 5000


def test_rows_go_to_the_temporary_folder_where_the_data_folder_takes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    data = tmp_path / "data"
    data.mkdir()
    (data / "checkpoints").write_text("in the way", encoding="utf-8")
    spill = Spill(data, 3)
    assert spill.rows() == []
    place = spill.add([{"reading": 0, "V2": 0.1}])
    assert place is not None
    assert place.parent == tmp_path / "temporary"
    with place.open("a", encoding="utf-8") as file:
        file.write('{"reading": 1, "V')
    spill.add([{"reading": 1, "V2": 0.2}])
    assert spill.rows() == [{"reading": 0, "V2": 0.1}, {"reading": 1, "V2": 0.2}]
    # Another data folder's run of the same number has nothing to do with it.
    assert Spill(tmp_path / "other", 3).rows() == []
    spill.remove()
    assert spill.rows() == []


def test_a_full_database_sends_the_rows_elsewhere_and_says_so_once(tmp_path: Path) -> None:
    recorder = RunRecorder(
        tmp_path,
        protocol="p",
        sample="s",
        controls=Layout((Channel("V1", Quantity.VOLTAGE, Kind.DRIVE),)),
        outputs=Layout((Channel("V2", Quantity.VOLTAGE, Kind.SENSE),)),
        snapshot={},
        description={},
    )
    pages = recorder._connection.execute("PRAGMA page_count").fetchone()[0]
    recorder._connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(RecordError, match=r"database or disk is full; it is kept in .*1\.spill\.jsonl"):
        recorder.emit(Warned("x" * 100_000))
    assert recorder.broken
    # On the way to the safe state nothing may fail for want of a record.
    recorder.emit(Warned("and another"))
    rows = recorder.spill.rows()
    assert "and another" in rows[-1]["event_record"]
    assert len(rows) == 2
    recorder.release()
    assert json.dumps(rows)
