"""A file is replaced as a whole, also where another program is just reading it."""

import os
from pathlib import Path

import pytest

from hil.core import replaced
from hil.core.clock import SteppedClock
from hil.core.replaced import replace_text


def test_the_new_text_takes_the_place_of_the_old_and_its_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "one.json"
    replace_text(path, "old\n")
    replace_text(path, "Ω\n", flush=True)
    assert path.read_bytes() == "Ω\n".encode()
    assert list(path.parent.iterdir()) == [path]


def held(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Renaming is refused the first ``times`` times, as Windows does while somebody reads the file; how often it was tried."""
    tried: list[int] = []
    rename = Path.replace

    def replace(self: Path, target: Path) -> Path:
        tried.append(len(tried))
        if len(tried) <= times:
            raise PermissionError(13, "the file is used by another process")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    return tried


def windows(monkeypatch: pytest.MonkeyPatch) -> SteppedClock:
    """The pauses of Windows, on a clock that does not wait."""
    clock = SteppedClock()
    monkeypatch.setattr(replaced, "_PAUSES", (0.01, 0.02, 0.05, 0.1, 0.2, 0.4))
    monkeypatch.setattr(replaced, "_CLOCK", clock)
    return clock


@pytest.mark.skipif(os.name == "nt", reason="Windows refuses for a moment what it grants afterwards")
def test_elsewhere_a_refusal_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = held(monkeypatch, 1)
    with pytest.raises(PermissionError):
        replace_text(tmp_path / "one.json", "new")
    assert len(tried) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_reader_holds_it_up_for_a_moment_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried, clock, path = held(monkeypatch, 3), windows(monkeypatch), tmp_path / "one.json"
    replace_text(path, "new")
    assert path.read_text(encoding="utf-8") == "new"
    assert len(tried) == 4
    assert clock.now() == pytest.approx(0.08)


def test_one_that_never_lets_go_is_told_and_the_old_text_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, clock = tmp_path / "one.json", windows(monkeypatch)
    replace_text(path, "old")
    held(monkeypatch, 1000)
    with pytest.raises(PermissionError):
        replace_text(path, "new")
    assert 0.5 < clock.now() < 2.0
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ends", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_whatever_ends_the_writing_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: BaseException
) -> None:
    path = tmp_path / "one.json"
    replace_text(path, "old")

    def fail(_handle: int) -> None:
        raise ends

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(ends)):
        replace_text(path, "new", flush=True)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_and_name_reach_the_disk_where_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_ino))
    path = tmp_path / "one.json"
    replace_text(path, "old")
    assert flushed == []
    replace_text(path, "new", flush=True)
    assert flushed[0] == path.stat().st_ino
    assert flushed[1:] in ([tmp_path.stat().st_ino], [])  # the folder, on systems that can
