"""The last check-out and calibration of every bench, as files of the data folder; what has failed refuses the bench."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from hil.core.errors import RecordError, SafetyError
from hil.core.replaced import replace_text

FOLDER = "checks"
HARDWARE = "bench"


def path_of(data: Path, bench: str, folder: str = FOLDER) -> Path:
    """Where the record of bench file ``bench`` (its name without the ending) is kept."""
    return data / folder / f"{bench}.json"


def key_of(target: str, overrides: Sequence[str] = ()) -> str:
    """Under which word a check is kept: one of a file with fields changed (path=value) is another check than that of the file."""
    return " --set ".join([target, *sorted({one.strip().removeprefix("bench.") for one in overrides})])


def load(data: Path, bench: str, folder: str = FOLDER) -> dict[str, Any]:
    """``key_of`` -> what was found last; empty where nothing was ever recorded. Raises RecordError for a file that is none."""
    path = path_of(data, bench, folder)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read ({error}); remove it and check the bench anew") from error
    if not isinstance(found, dict):
        raise RecordError(f"{path} is no record of a check; remove it and check the bench anew")
    return found


def save(data: Path, bench: str, target: str, facts: Mapping[str, Any], folder: str = FOLDER) -> Path:
    """Keep ``facts`` as the last word about ``bench`` on ``target``; the other target's stay. Raises RecordError."""
    path = path_of(data, bench, folder)
    kept = load(data, bench, folder)
    kept[target] = {"when": datetime.now().astimezone().isoformat(timespec="seconds"), **facts}
    try:
        replace_text(path, json.dumps(kept, indent=1, allow_nan=False))
    except OSError as error:
        raise RecordError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def require_passed(data: Path, bench: Path, target: str, overrides: Sequence[str] = ()) -> None:
    """SafetyError when the last check of file ``bench`` with these ``overrides`` on ``target`` failed; where it was never checked
    with them, that of the file as it is counts. A bench that was never checked may be used.

    What a check of the hardware found wrong is a fact of the bench, whatever the fields it was found with: it refuses every run
    until a later check passes.
    """
    kept = load(data, bench.stem)
    key = key_of(target, overrides)
    key = key if key in kept else key_of(target)
    if target == HARDWARE:
        alike = {name: one for name, one in kept.items() if name == target or name.startswith(f"{target} --set ")}
        passed = kept[key]["when"] if key in kept and kept[key]["passed"] else ""
        later = [name for name, one in alike.items() if not one["passed"] and _moment(one["when"]) > _moment(passed)]
        key = max(later, key=lambda name: _moment(kept[name]["when"]), default=key)
    last = kept.get(key)
    if last is not None and not last["passed"]:
        where = "".join(f" --set '{one}'" for one in key.split(" --set ")[1:])
        where += "" if data == Path("data") else f" --data {data}"
        raise SafetyError(
            f"bench {bench.stem!r} failed its check on {target} of {last['when']}: {last['reason']}; put that right, and let "
            f"`hil check {bench} --on {target}{where}` pass before you run anything on it"
        )


def _moment(when: str) -> float:
    """s; before everything where it is empty."""
    return datetime.fromisoformat(when).timestamp() if when else 0.0
