"""Command line, third part: what is looked at before a bench is used."""

import json
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hil.core.errors import HilError
from hil.core.exit_codes import STOPPED, exit_code_of


class Target(StrEnum):
    """What is checked; the words of ``hil.bench.Target``, which is too heavy to import for a help text."""

    VIRTUAL = "virtual"
    BENCH = "bench"


SetOption = Annotated[list[str] | None, typer.Option("--set", help="path=value: change a field of the bench file.")]
DataOption = Annotated[Path, typer.Option("--data", help="Folder of the recorded runs.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on the last line.")]


def doctor(
    bench: Annotated[str | None, typer.Option("--bench", help="Bench file whose instruments are to be looked at.")] = None,
    data: DataOption = Path("data"),
    as_json: JsonOption = False,
) -> None:
    """What VISA sees, who answers, what it holds, what is missing. Touches no output. Exit code: 0, 2 bad input, 3 instrument."""
    from hil.doctor import examine

    with told("the look at the instruments was stopped; it touches no output"):
        report = examine(bench, data)
    if as_json:
        typer.echo(json.dumps(report.facts()))
    else:
        typer.echo("\n".join([*report.lines, *report.table(_width())]))
    if report.error:
        typer.echo(f"hil: {report.error}", err=True)
    raise typer.Exit(report.exit_code)


def _width() -> int | None:
    """Columns of the terminal; None where nobody looks at one, and lines may be as long as they are."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


@contextmanager
def told(stopped: str) -> Generator[None]:
    """Errors as one line and the exit code that belongs to them; ``stopped``: what there is to say after Ctrl-C."""
    try:
        yield
    except HilError as error:
        typer.echo(f"hil: {error}", err=True)
        raise typer.Exit(exit_code_of(error)) from None
    except KeyboardInterrupt:
        typer.echo(f"hil: {stopped}", err=True)
        raise typer.Exit(STOPPED) from None


def parsed(option: str, text: str | None, unit: str) -> float | None:
    """What was given with ``option``, in SI; ConfigError that names it."""
    from hil.core.errors import ConfigError
    from hil.experiment.units import parse

    try:
        return None if text is None else parse(text, unit)
    except ConfigError as error:
        raise ConfigError(f"{option} {text}: {error}") from None


def check(
    bench: Annotated[str, typer.Argument(help="Bench file, or name of a shipped one.")],
    on: Annotated[Target, typer.Option("--on", help="Emulated instruments, or the hardware.")] = Target.VIRTUAL,
    tolerance: Annotated[float, typer.Option(help="Relative deviation of a conductance that is still in order.")] = 0.25,
    voltage: Annotated[
        str | None, typer.Option(help="What is applied, e.g. '100 mV'; otherwise 50 mV or 1 % of the limit, whichever is more.")
    ] = None,
    set_: SetOption = None,
    data: DataOption = Path("data"),
    as_json: JsonOption = False,
) -> None:
    """Check a bench out at low energy. What fails refuses runs on it. Exit code: 0 passed, 1 failed, 2 to 5 as for run."""
    from hil import bench as benches
    from hil.check import lines
    from hil.check_run import CheckRequest
    from hil.check_run import check as check_bench
    from hil.progress_line import progress_line

    with (
        told("the check was stopped; everything is in its safe state, and nothing was put on record"),
        progress_line(f"checking {bench}", quiet=as_json),
    ):
        applied = parsed("--voltage", voltage, "V")
        request = CheckRequest(bench, benches.Target(on.value), data, tuple(set_ or ()), tolerance, applied)
        facts = check_bench(request)
    typer.echo(json.dumps(facts, allow_nan=False) if as_json else "\n".join(lines(facts, _width())))
    if not facts["passed"]:
        typer.echo(f"hil: the check failed: {facts['reason']}", err=True)
        raise typer.Exit(1)


def first_check(
    bench: Annotated[str, typer.Argument(help="Bench file whose instruments were tried.")],
    instrument: Annotated[str, typer.Argument(help="One of its instruments, to put what you did with it on record.")] = "",
    did: Annotated[str, typer.Option("--did", help="What was driven and read, against what it was compared.")] = "",
    by: Annotated[str, typer.Option("--by", help="Who, and which lab; the operator of the bench file otherwise.")] = "",
    data: DataOption = Path("data"),
    as_json: JsonOption = False,
) -> None:
    """Report a driver as tried on hardware, and print what can be contributed. Sends nothing but the identity query."""
    from hil.first_check import FirstCheckRequest
    from hil.first_check import first_check as report

    with told("the report was stopped"):
        facts = report(FirstCheckRequest(bench, instrument, did, by, data))
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for line in facts["lines"]:
        typer.echo(line)
    for path, content in facts["files"].items():
        typer.echo(f"--- {path}\n{content}", nl=False)
    if not facts["files"]:
        typer.echo("there is nothing to contribute: no driver of this bench was tried on hardware here")


def refill(
    bench: Annotated[str, typer.Argument(help="Bench file, or name of a shipped one.")],
    stocks: Annotated[
        list[str],
        typer.Argument(metavar="PUMP=VOLUME...", help="What syringes hold now: 'pump_weak=50 mL'; or an electrode: 'V1=0 C'."),
    ],
    data: DataOption = Path("data"),
) -> None:
    """Book what syringes of a hardware bench hold after a filling, or what its electrodes bear; runs count on from there."""
    from hil.refill import refill as book

    with told("nothing was booked"):
        typer.echo("\n".join(book(bench, stocks, data)))


def calibrate(
    bench: Annotated[str, typer.Argument(help="Bench file, or name of a shipped one.")],
    on: Annotated[Target, typer.Option("--on", help="Emulated instruments, or the hardware.")] = Target.VIRTUAL,
    voltage: Annotated[str | None, typer.Option(help="Largest level, e.g. '500 mV'; otherwise 10 % of the limit.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="Output whose meter is taken as true; otherwise the one the bench file names.")
    ] = None,
    set_: SetOption = None,
    data: DataOption = Path("data"),
    as_json: JsonOption = False,
) -> None:
    """Compare sources, meters, pressures and replicas at low energy. Exit code: 0 done, 2 to 5 as for run."""
    from hil import bench as benches
    from hil.calibrate_results import lines
    from hil.calibrate_run import CalibrateRequest
    from hil.calibrate_run import calibrate as calibrate_bench
    from hil.progress_line import progress_line

    with (
        told("the calibration was stopped; everything is in its safe state, and the one before is kept"),
        progress_line(f"calibrating {bench}", quiet=as_json),
    ):
        largest = parsed("--voltage", voltage, "V")
        request = CalibrateRequest(bench, benches.Target(on.value), data, tuple(set_ or ()), largest, reference)
        facts = calibrate_bench(request)
    typer.echo(json.dumps(facts, allow_nan=False) if as_json else "\n".join(lines(facts, _width())))


def dry_run(
    protocol: Annotated[str, typer.Argument(help="Path of a protocol file, or name of a shipped one (`hil protocols`).")],
    bench: Annotated[str | None, typer.Option("--bench", help="Bench file in place of the one the protocol names.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="path=value; bench.… changes the bench file.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of every random generator.")] = None,
    faults: Annotated[
        bool, typer.Option("--faults", help="Also tell what each kind of fault leads to; takes a minute or two.")
    ] = False,
    data: Annotated[Path, typer.Option("--data", help="Folder whose book of stocks counts.")] = Path("data"),
    as_json: JsonOption = False,
) -> None:
    """Rehearse a protocol on the virtual bench: limits, dose, loading, hours, refusals, faults. Records nothing."""
    from hil import bench as benches
    from hil.core.events import Progress
    from hil.dry_run import dry_run as rehearse
    from hil.prepared import Request
    from hil.progress_line import progress_line

    with (
        told("the rehearsal was stopped; it was one on emulated instruments, and nothing is on record"),
        progress_line(f"rehearsing {protocol}", quiet=as_json) as listeners,
    ):

        def heard(done: int, of: int) -> None:
            for listener in listeners:
                listener(Progress(done, of, "faults"))

        request = Request(protocol, bench, benches.Target.VIRTUAL, False, tuple(set_ or ()), seed, data)
        report = rehearse(request, faults, heard)
    if report.error:
        typer.echo(f"hil: {report.error}", err=True)
    if as_json:
        typer.echo(json.dumps(report.facts, allow_nan=False))
    elif lines := report.lines():
        typer.echo("\n".join(lines))
    raise typer.Exit(report.exit_code)
