"""What this machine and this bench look like from here: packages, VISA, who answers. No output is touched."""

from dataclasses import dataclass, field
from pathlib import Path

from hil.bench import Target, assemble, shipped_protocols
from hil.bench_station import check_packages, identify, visa_resources
from hil.core.errors import HilError
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import find, read
from hil.record.provenance import versions
from hil.run import INSTRUMENT_FAULT, exit_code_of


@dataclass
class Diagnosis:
    """Lines to print; ``error`` is the first thing that is wrong, with the exit code that belongs to it."""

    lines: list[str] = field(default_factory=list)
    error: str = ""
    exit_code: int = 0


def examine(bench: str | None) -> Diagnosis:
    """Look around; with ``bench``, connect to every instrument of that file, ask who it is, and disconnect."""
    report = Diagnosis()
    try:
        check_packages()
        report.lines += [f"{name} {version}" for name, version in versions().items()]
        report.lines += [f"VISA sees: {', '.join(visa_resources()) or 'nothing (socket addresses cannot be listed)'}"]
        if bench is not None:
            _examine_bench(bench, report)
    except HilError as error:
        report.error, report.exit_code = str(error), exit_code_of(error)
    return report


def _examine_bench(name: str, report: Diagnosis) -> None:
    path = find(name, None, shipped_protocols() / "benches", "bench file")
    document = read(path)
    bench = document.model(BenchFile)
    try:
        with assemble(bench, Target.SIMULATED, name=path.name):
            report.lines.append(f"{path}: the file is consistent")
    except HilError as error:
        raise document.error(str(error)) from None
    missing = 0
    for instrument, answer, problem in identify(bench):
        missing += bool(problem)
        report.lines.append(f"{instrument}: {problem or answer}")
        if not problem:
            report.lines.append("  this driver was checked against an emulator; tell us how it did on your hardware")
    if missing:
        report.error = (
            f"{missing} of {len(bench.station.instruments)} instruments of {Path(name).name} do not answer as they should"
        )
        report.exit_code = INSTRUMENT_FAULT
