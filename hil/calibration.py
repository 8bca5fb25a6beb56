"""The record of a calibration: a file of the data folder, with its history, and what of it a bench file applies.

``data/calibrations/BENCH.json`` holds the last calibration per target; what it held before stands in ``history`` beside it.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.core.backend import Observer
from hil.core.errors import RecordError
from hil.core.events import EventStream, TableRow
from hil.core.replaced import replace_text
from hil.core.types import Layout, Readings, Stimulus
from hil.experiment.bench_file import BenchFile
from hil.experiment.fields import FieldError

if TYPE_CHECKING:
    from instruments.calibration import Corrections

FOLDER, FORMAT = "calibrations", "hil-calibration/1"
FIELD = "calibration.use"
MISSING = "missing"
"""Fingerprint of a calibration that is not there."""
LARGEST_GAIN_ERROR = 0.02
"""A larger one is a wrong wire, a wrong range or a broken instrument; correcting it would hide that."""
STALE_AFTER = 90 * 86400.0
"""s; an older calibration is worth a note where the bench file says nothing: a quarter, as accuracies of 90 days assume."""


def path_of(data: Path, bench: str) -> Path:
    """Where the calibration of bench file ``bench`` (its name without the ending) is kept."""
    return data / FOLDER / f"{bench}.json"


def load(path: Path) -> dict[str, Any]:
    """Target -> its last calibration; empty where the file does not exist. Raises RecordError for a file that is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read ({error}); calibrate the bench anew") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("targets"), dict):
        raise RecordError(f"{path} is no record of a calibration ({FORMAT}); calibrate the bench anew")
    return dict(found["targets"])


def save(data: Path, bench: str, target: str, facts: Mapping[str, Any]) -> Path:
    """Make ``facts`` the calibration of ``bench`` on ``target``; the other target's stays, the file before is kept.

    Raises RecordError.
    """
    path = path_of(data, bench)
    kept = load(path)
    kept[target] = dict(facts)
    try:
        if path.exists():
            history = path.parent / "history"
            stamp = datetime.fromtimestamp(path.stat().st_mtime).astimezone().strftime("%Y%m%d-%H%M%S")
            before, number = history / f"{bench}-{stamp}.json", 2
            while before.exists():
                before, number = history / f"{bench}-{stamp}-{number}.json", number + 1
            replace_text(before, path.read_text(encoding="utf-8"))
        replace_text(path, json.dumps({"format": FORMAT, "targets": kept}, indent=1, allow_nan=False))
    except OSError as error:
        raise RecordError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def age(facts: Mapping[str, Any]) -> float:
    """Seconds since a calibration was made."""
    return max(0.0, datetime.now().astimezone().timestamp() - datetime.fromisoformat(facts["when"]).timestamp())


def corrections(bench: BenchFile, target: str, seed: int | None = None) -> "tuple[Corrections | None, str]":
    """What the calibration that ``bench`` names has to say on ``target``, and a sentence for the user (or empty).

    ``seed``: of the emulated instruments, None on hardware. FieldError about ``calibration.use``: a file that is missing, has
    nothing for the hardware, is too old, or was made with other channels. Serial numbers are compared when the bench opens.
    """
    use = bench.calibration.use
    if use is None:
        return None, ""
    if target == "simulated":
        return None, f"the calibration {use} does nothing here: a simulated network has no instruments to correct"
    path = Path(use)
    try:
        targets = load(path)
    except RecordError as error:
        raise FieldError(str(error), FIELD) from None
    if not path.exists():
        raise FieldError(f"there is no file {use}; make it with `hil calibrate`, or take the field out", FIELD)
    if target not in targets:
        if target == "virtual":
            return (
                None,
                f"the calibration {use} holds nothing for emulated instruments, so nothing is corrected here",
            )
        raise FieldError(f"{use} was never made on the hardware; let `hil calibrate … --on bench` make it", FIELD)
    facts = targets[target]
    try:
        _require_fresh(bench, use, facts)
        if seed is not None and facts["seed"] != seed:
            raise FieldError(
                f"{use} was made with emulated instruments of seed {facts['seed']}, these have seed {seed}: calibrate them "
                "anew, or use the seed of the calibration",
                FIELD,
            )
        _require_same_channels(bench, use, facts)
        return _chosen(bench, use, facts), ""
    except (KeyError, TypeError, AttributeError) as error:
        raise FieldError(f"{use} is not complete ({error}); calibrate the bench anew", FIELD) from error


def _require_fresh(bench: BenchFile, use: str, facts: Mapping[str, Any]) -> None:
    limit = bench.calibration.max_age
    if limit is not None and age(facts) > limit:
        raise FieldError(
            f"{use} was made on {facts['when']}, {age(facts) / 86400:.1f} days ago; `calibration.max_age` allows "
            f"{limit / 86400:.3g} days: calibrate the bench anew",
            FIELD,
        )


def _require_same_channels(bench: BenchFile, use: str, facts: Mapping[str, Any]) -> None:
    for name, then in facts["instruments"].items():
        now = bench.station.instruments.get(name)
        if now is None or now.type != then["type"]:
            what = "is not in the station" if now is None else f"is a {now.type} now and was a {then['type']} then"
            raise FieldError(f"{use} does not fit this bench: instrument {name!r} {what}; calibrate it anew", FIELD)
    for section, terminals in (("controls", bench.controls), ("outputs", bench.outputs)):
        for name, then in facts["channels"][section].items():
            now_here = terminals.get(name)
            if now_here is None:
                raise FieldError(f"{use} does not fit this bench: it has no {section[:-1]} {name!r}; calibrate it anew", FIELD)
            wired = wiring(bench, section, name)
            for key, value in then.items():
                if wired[key] != value:
                    raise FieldError(
                        f"{use} does not fit this bench: {key} of {name!r} is {wired[key]} now and was {value} then; "
                        "calibrate it anew",
                        FIELD,
                    )


def wiring(bench: BenchFile, section: str, name: str) -> dict[str, Any]:
    """What of a channel decides which errors its instrument makes: parameters, crosspoint, settings. JSON."""
    terminal = bench.controls[name] if section == "controls" else bench.outputs[name]
    parameters = [paths[name] for paths in bench.replicas.values()] if bench.replicas else [terminal.parameter]
    through = getattr(terminal, "through", "")
    return {"parameters": parameters, "setup": dict(terminal.setup), **({"through": through} if through else {})}


def _chosen(bench: BenchFile, use: str, facts: Mapping[str, Any]) -> "Corrections":
    from instruments.calibration import Corrections
    from instruments.wiring import Correction

    wanted = set(bench.calibration.correct)
    controls: dict[str, dict[str, Correction]] = {}
    outputs: dict[str, dict[str, Correction]] = {}
    # The calibration reads what sources measure at themselves, too, which meters charge and power and need be no output here.
    metered = {path.rpartition(".")[0] for path in _driven(bench)}
    meters: dict[str, Correction] = {}
    for entry in facts["found"]:
        into = controls if entry["section"] == "controls" else outputs
        if entry["part"] in wanted and entry["applies"]:
            known = bench.controls if entry["section"] == "controls" else bench.outputs
            meter = entry["section"] == "outputs" and entry["parameter"].rpartition(".")[0] in metered
            if entry["channel"] in known or meter:
                if not (abs(entry["gain"] - 1.0) <= LARGEST_GAIN_ERROR and isfinite(entry["offset"])):
                    raise FieldError(
                        f"{use} says that {entry['channel']!r} has a gain of {entry['gain']:g}; no instrument in order has: "
                        "calibrate the bench anew",
                        FIELD,
                    )
                correction = Correction(float(entry["offset"]), float(entry["gain"]))
                if entry["channel"] in known:
                    into.setdefault(entry["channel"], {})[entry["parameter"]] = correction
                if meter:
                    meters[entry["parameter"]] = correction
    used = {path.split(".")[0] for paths in (*controls.values(), *outputs.values(), meters) for path in paths}
    return Corrections(
        controls,
        outputs,
        {name: one["serial"] for name, one in facts["instruments"].items() if name in used},
        {name: facts["spans"][name] for name in controls},
        {key: facts[key] for key in ("when", "run_id", "reference", "bench_sha256")} | {"file": use},
        meters,
    )


def _driven(bench: BenchFile) -> list[str]:
    """Parameter paths of all controls of all replicas."""
    if bench.replicas:
        return [paths[name] for paths in bench.replicas.values() for name in bench.controls]
    return [control.parameter for control in bench.controls.values()]


def files_of(bench: BenchFile) -> dict[str, str]:
    """Fingerprint of the calibration in use, by which a run that goes on knows that it is still the same; empty without one."""
    if bench.calibration.use is None:
        return {}
    try:
        return {"calibration": sha256(Path(bench.calibration.use).read_bytes()).hexdigest()}
    except OSError:
        return {"calibration": MISSING}


def raw_observers(snapshot: Mapping[str, Any], outputs: Layout, events: EventStream) -> list[Observer]:
    """What keeps the readings as the meters showed them, table ``raw``, beside the corrected ones; empty where none is corrected.

    ``snapshot``: that of the open backend.
    """
    found: Mapping[str, Any] = snapshot.get("calibration", {}).get("outputs", {})
    if not found:
        return []
    replicas: Mapping[str, Mapping[str, str]] = snapshot["replicas"]
    wired = {name: snapshot["outputs"][name]["parameter"] for name in outputs.names}
    first = next(iter(replicas), "")

    def keep(_stimuli: Sequence[Stimulus], readings: Readings) -> None:
        for row, values in enumerate(readings.values):
            replica = readings.replica[row] if readings.replica else first
            shown: dict[str, float | int | str] = {"time": float(readings.time[row])}
            if replica:
                shown["replica"] = replica
            for name, value in zip(outputs.names, values, strict=True):
                path = replicas[replica][name] if replica else wired[name]
                model = found.get(name, {}).get(path, {"offset": 0.0, "gain": 1.0})
                shown[name] = float(model["offset"] + model["gain"] * value)
            events.emit(TableRow("raw", shown))

    return [keep]
