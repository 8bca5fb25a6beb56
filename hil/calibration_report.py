"""What `hil doctor` says of the calibration of a bench: how old it is, what it found, whether it still belongs to it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hil.calibration import STALE_AFTER, age, corrections, load, path_of
from hil.core.errors import ConfigError, RecordError
from hil.experiment.bench_file import BenchFile


def calibration_rows(data: Path, bench_name: str, bench: BenchFile, identities: Mapping[str, str]) -> list[dict[str, str]]:
    """Rows for the table of the doctor. ``identities``: instrument -> what it answered just now.

    A calibration that the file uses and that is not this bench's is wrong; one that it does not use is worth a note at most.
    """
    use = bench.calibration.use
    own = path_of(data, bench_name)
    paths = [own] if use is None or Path(use).resolve() == own.resolve() else [Path(use), own]
    rows = []
    for path in paths:
        used = use is not None and path.resolve() == Path(use).resolve()
        rows += list(_rows(path, bench_name, bench, identities, used))
    if not rows:
        rows.append(_row(bench_name, "calibration", "never calibrated; `hil calibrate` does it at low energy", "note"))
    return rows


def _rows(path: Path, name: str, bench: BenchFile, identities: Mapping[str, str], used: bool) -> Iterator[dict[str, str]]:
    bad = "wrong" if used else "note"
    try:
        targets = load(path)
    except RecordError as error:
        yield _row(name, "calibration", str(error), bad)
        return
    if used and "bench" not in targets:
        yield _row(name, "calibration", f"the bench file uses {path}, which was never made on the hardware", "wrong")
    for target, facts in targets.items():
        applied = "in use" if used else "not in use"
        what = f"calibration on {target}"
        try:
            days = age(facts) / 86400.0
            text = f"{applied}, made on {facts['when']} ({days:.1f} days ago), {_largest(facts)}"
            problem = _stale(bench, facts) or (_foreign(bench, facts, identities, used) if target == "bench" else "")
        except (KeyError, TypeError, ValueError) as error:
            yield _row(name, what, f"{path} is not complete ({error}); calibrate the bench anew", bad)
            continue
        old = not problem and age(facts) > STALE_AFTER
        said = f"{text}; {problem}" if problem else f"{text}; stale: calibrate anew" if old else text
        yield _row(name, what, said, (bad if target == "bench" else "note") if problem else "note" if old else "ok")


def _stale(bench: BenchFile, facts: Mapping[str, Any]) -> str:
    limit = bench.calibration.max_age
    return f"stale: older than the {limit / 86400:.3g} days of the bench file" if limit and age(facts) > limit else ""


def _foreign(bench: BenchFile, facts: Mapping[str, Any], identities: Mapping[str, str], used: bool) -> str:
    """Why the calibration is not that of the instruments that answered; empty if it is."""
    if used:
        try:
            corrections(bench, "bench")
        except ConfigError as error:
            return str(error)
    for name, then in facts["instruments"].items():
        said = identities.get(name)
        if said is None:
            return f"foreign: the station has no instrument {name!r}"
        number = then["identity"].get("serial")
        # Some instruments tell no serial number; then all that they do tell has to be the same.
        told = [number] if number else [part for part in then["identity"].values() if part]
        if not all(part.lower() in said.lower() for part in told):
            return f"foreign: instrument {name!r} was {then['serial']!r} then and answers {said!r} now"
    return ""


def _largest(facts: Mapping[str, Any]) -> str:
    """The largest offset of every unit."""
    largest: dict[str, Mapping[str, Any]] = {}
    for entry in facts["found"]:
        unit = entry["unit"]
        if unit not in largest or abs(entry["offset"]) > abs(largest[unit]["offset"]):
            largest[unit] = entry
    parts = [f"{entry['offset']:+.3g} {unit} ({entry['channel']})" for unit, entry in largest.items()]
    parts += [f"{pair['mismatch_percent']:+.2g} % ({name})" for name, pair in facts["pairs"].items()]
    return f"largest offsets {', '.join(parts)}" if parts else "nothing found"


def _row(where: str, what: str, found: str, verdict: str) -> dict[str, str]:
    return {"where": where, "what": what, "found": found, "verdict": verdict}
