"""What this bench looks like from here: packages, VISA, who answers, what the instruments hold. No output is touched."""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from hil.bench import Target, assemble, shipped_protocols
from hil.bench_station import check_packages, inspect_station, visa_resources
from hil.calibration_report import calibration_rows
from hil.check_record import load
from hil.core.errors import ConfigError, HilError
from hil.core.exit_codes import INSTRUMENT_FAULT, exit_code_of
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import find, read
from hil.locks import locked_bench
from hil.record.provenance import versions
from hil.shown import in_columns

LEAST_SPACE = 200e6
"""Bytes that the disk of the data folder must have left: a night of readings takes less."""
SKEW = 60.0
"""Seconds by which a file of the data folder may be newer than the clock of this computer."""
COLUMNS = ("where", "what", "found", "verdict")


@dataclass
class Diagnosis:
    """Lines and a table to print; ``error`` is what is wrong in one sentence, with the exit code that belongs to it.

    rows: one mapping with ``COLUMNS`` per thing looked at; the verdict is ok, note or wrong.
    """

    lines: list[str] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)
    error: str = ""
    exit_code: int = 0

    def facts(self) -> dict[str, Any]:
        """JSON-able."""
        return {"lines": self.lines, "findings": self.rows, "error": self.error or None, "exit_code": self.exit_code}

    def table(self, width: int | None = None) -> list[str]:
        """The rows in plain columns, no line longer than ``width`` where that is given."""
        return in_columns([[row[key] for key in ("verdict", "where", "what", "found")] for row in self.rows], width, "")


def examine(bench: str | None, data: Path = Path("data")) -> Diagnosis:
    """Look around; with ``bench``, connect to every instrument of that file, ask what it is and holds, and disconnect."""
    report = Diagnosis()
    try:
        check_packages()
        report.lines += [f"{name} {version}" for name, version in versions().items()]
        report.lines += [f"VISA sees: {', '.join(visa_resources()) or 'nothing (socket addresses cannot be listed)'}"]
        if bench is not None:
            _examine_bench(bench, data, report)
    except HilError as error:
        report.error, report.exit_code = str(error), exit_code_of(error)
    return report


def _examine_bench(name: str, data: Path, report: Diagnosis) -> None:
    path = find(name, None, shipped_protocols() / "benches", "bench file")
    document = read(path)
    bench = document.model(BenchFile)
    try:
        with assemble(bench, Target.SIMULATED, name=path.name):
            report.lines.append(f"{path}: the file is consistent")
    except ConfigError as error:
        raise document.located(error) from None
    report.rows += [disk(data), clock(data), *last_checks(data, path.stem)]
    addresses = [instrument.address for instrument in bench.station.instruments.values()]
    # Asking empties error queues, and some instruments serve one client: nobody is disturbed who is measuring.
    with locked_bench(addresses, f"a look at {path.name}", bench.notebook.operator):
        report.rows += [_unchanged(row, data, path.stem) for row in inspect_station(bench, data)]
    identities = {row["where"]: row["found"] for row in report.rows if row["what"] == "identity"}
    report.rows += calibration_rows(data, path.stem, bench, identities)
    wrong = [row for row in report.rows if row["verdict"] == "wrong"]
    if wrong:
        first = f"{wrong[0]['where']}, {wrong[0]['what']}: {wrong[0]['found']}"
        silent = {row["where"] for row in wrong if row["what"] == "identity"}
        counted = (
            f"{len(silent)} of {len(bench.station.instruments)} instruments of {path.name} do not answer as they should"
            if silent
            else f"{len(wrong)} of {len(report.rows)} things looked at on {path.name} are wrong"
        )
        report.error = f"{counted}; the first: {first}"
        report.exit_code = INSTRUMENT_FAULT


def disk(data: Path) -> dict[str, str]:
    """Space left where ``data`` is, or will be made."""
    folder = data.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return _row(str(data), "disk space", f"{free / 1e9:.3g} GB left", free >= LEAST_SPACE)


def clock(data: Path) -> dict[str, str]:
    """The date of this computer, against the newest file of ``data``: what was written cannot lie in the future."""
    now = time.time()
    newest = max((path.stat().st_mtime for path in data.glob("*") if path.is_file()), default=0.0)
    shown = datetime.fromtimestamp(now).astimezone().isoformat(timespec="seconds")
    if newest > now + SKEW:
        return _row("computer", "clock", f"{shown}, but a file in {data} is {newest - now:.0f} s newer; set the clock", False)
    return _row("computer", "clock", shown, True)


def last_checks(data: Path, bench: str) -> list[dict[str, str]]:
    """What the last check of ``bench`` on each target found; none is worth a note."""
    rows = []
    for target, facts in load(data, bench).items():
        text = f"passed on {facts['when']}" if facts["passed"] else f"failed on {facts['when']}: {facts['reason']}"
        rows.append({**_row(bench, f"check on {target}", text, True), "verdict": "ok" if facts["passed"] else "note"})
    return rows or [{**_row(bench, "check", "never checked out; `hil check` does it at low energy", True), "verdict": "note"}]


def _unchanged(row: dict[str, str], data: Path, bench: str) -> dict[str, str]:
    """The row, wrong where it is a firmware that is no longer the one with which the bench was checked out on the hardware."""
    checked = load(data, bench).get("bench", {})
    then = checked.get("instruments", {}).get(row["where"], {}).get("identity", {}).get("firmware")
    if row["what"] != "firmware" or row["verdict"] == "wrong" or not then or then == row["found"] or not checked["passed"]:
        return row
    found = f"{row['found']}, but {then} when the bench was checked on {checked['when']}: check it anew"
    return _row(row["where"], "firmware", found, good=False)


def _row(where: str, what: str, found: str, good: bool) -> dict[str, str]:
    row: Mapping[str, str] = {"where": where, "what": what, "found": found, "verdict": "ok" if good else "wrong"}
    return dict(row)
