"""Command line: parse and print, nothing else. Everything heavy is imported by the command that needs it."""

import json
import sys
from collections.abc import Mapping
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from hil.cli_checks import calibrate, check, doctor, dry_run, first_check, parsed, refill, told
from hil.cli_pictures import netlist, plot
from hil.core.exit_codes import STOPPED, exit_code_of
from hil.shown import run_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from hil.core.events import Listener
    from hil.run import Result


class Commands(TyperGroup):
    """Ctrl-C ends a command with a sentence and its exit code, also where the command itself has nothing to say of it."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _fail(f"`{ctx.command_path} {ctx.invoked_subcommand}` was stopped", STOPPED)


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train memristor networks on a bench, or in software.",
    context_settings={"help_option_names": ["--help", "-h"]},
)


class On(StrEnum):
    """Targets; the same words as ``hil.bench.Target``, which is too heavy to import for a help text."""

    SIMULATED = "simulated"
    VIRTUAL = "virtual"
    BENCH = "bench"


ProtocolArgument = Annotated[str, typer.Argument(help="Path of a protocol file, or name of a shipped one (`hil protocols`).")]
BenchOption = Annotated[str | None, typer.Option("--bench", help="Bench file in place of the one the protocol names.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="path=value: change a field; bench.… changes the bench file.")]
SeedOption = Annotated[int | None, typer.Option(min=0, help="Seed of every random generator.")]
DataOption = Annotated[Path, typer.Option("--data", help="Folder of the recorded runs.")]
RunArgument = Annotated[int, typer.Argument(metavar="ID", help="Number of the run (`hil runs`).")]
StopByOption = Annotated[str | None, typer.Option("--stop-by", help="End at the last step that fits before e.g. 07:00.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on the last line.")]


def main() -> None:
    """Entry point of the ``hil`` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a pipe on Windows has few letters, and a title may have any
    app(prog_name="hil")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"memristor-hil {version('memristor-hil')}")
        raise typer.Exit


@app.callback()
def hil(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Train memristor networks on a bench, or in software."""


@app.command()
def run(
    protocol: ProtocolArgument,
    bench: BenchOption = None,
    on: Annotated[On, typer.Option("--on", help="What to run on; the hardware bench must be asked for.")] = On.SIMULATED,
    real_time: Annotated[bool, typer.Option("--real-time", help="Let simulated time pass at the speed of the clock.")] = False,
    set_: SetOption = None,
    seed: SeedOption = None,
    data: DataOption = Path("data"),
    as_json: JsonOption = False,
    stop_by: StopByOption = None,
    hold: Annotated[str | None, typer.Option("--hold", help="Keep the set-points after the run for this long: '8 h'.")] = None,
) -> None:
    """Run a protocol. Exit code: 0 converged or done, 1 not converged, 2 bad input, 3 instrument, 4 safety, 5 stopped."""
    from hil.bench import Target
    from hil.core.errors import ConfigError
    from hil.run import Request
    from hil.run import run as run_protocol

    try:
        held = parsed("--hold", hold, "s")
    except ConfigError as error:
        _fail(str(error))
    if held is not None and held < 0:
        _fail(f"--hold {hold}: give 0 s or more")
    request = Request(protocol, bench, Target(on.value), real_time, tuple(set_ or ()), seed, data, stop_by, held)
    _go(lambda listeners: run_protocol(request, listeners), as_json)


@app.command()
def resume(
    run_id: RunArgument,
    data: DataOption = Path("data"),
    as_json: JsonOption = False,
    stop_by: StopByOption = None,
    refill: Annotated[
        list[str] | None,
        typer.Option("--refill", help="What a syringe holds by now: 'pump_weak=50 mL'; or an inert electrode: 'V1=0 C'."),
    ] = None,
) -> None:
    """Go on with a run that was stopped, killed, or failed; with the same files, from its last saved state."""
    from hil.resume import resume as go_on

    _go(lambda listeners: go_on(run_id, data, listeners, stop_by, tuple(refill or ())), as_json)


@app.command()
def stop(data: DataOption = Path("data")) -> None:
    """Stop what runs on a data folder, from another terminal: safe state, outcome stopped. Waits for the end."""
    from hil.control import stop as stop_all

    with told("nobody waits any more; what was asked to stop goes on with that"):
        _print_lines(stop_all(data))


@app.command()
def emergency(data: DataOption = Path("data")) -> None:
    """Emergency stop: the guard process ends the program, whatever it is doing, and makes the bench safe at once."""
    from hil.control import emergency as stop_now

    with told("nobody waits any more; the guard goes on with it: look at the bench itself"):
        _print_lines(stop_now(data))


def _go(begin: "Callable[[list[Listener]], Result]", as_json: bool) -> NoReturn:
    """Run with a progress line where somebody looks, print the end, and exit with its code."""
    from hil.progress_line import progress_line

    with progress_line("getting ready", quiet=as_json) as listeners:
        result = begin(listeners)
    if result.error:
        typer.echo(f"hil: {result.error}", err=True)
    if as_json:
        _print_json(result.summary)
    elif result.summary["run_id"] is not None:
        _print_lines(run_lines(result.summary, result.units, result.error))
    raise typer.Exit(result.exit_code)


@app.command()
def note(
    run_id: RunArgument,
    text: Annotated[str, typer.Argument(help="What is to be remembered.")],
    data: DataOption = Path("data"),
) -> None:
    """Add a note to the log of a run, also while it is going on."""
    from hil.core.errors import HilError
    from hil.record.logbook import add_note

    try:
        add_note(run_id, text, data)
    except HilError as error:
        _fail(str(error), exit_code_of(error))


@app.command()
def virtual(
    bench: Annotated[str, typer.Argument(help="Bench file whose instruments are to be emulated.")],
    write: Annotated[Path | None, typer.Option("--write", help="Write a bench file with the emulators' addresses here.")] = None,
    set_: SetOption = None,
    seed: SeedOption = None,
) -> None:
    """Start the emulated instruments in real time until stopped, and print their VISA addresses."""
    from hil.core.errors import HilError
    from hil.virtual import serve

    try:
        serve(bench, tuple(set_ or ()), seed, write, typer.echo)
    except HilError as error:
        _fail(str(error), exit_code_of(error))


@app.command()
def protocols() -> None:
    """List the protocols that come with the program."""
    from hil.bench import shipped_protocols
    from hil.experiment.loader import read

    for path in sorted(shipped_protocols().glob("*.yaml")):
        typer.echo(f"{path.stem:32s} {read(path).data.get('title', '')}")


@app.command()
def runs(data: DataOption = Path("data"), as_json: JsonOption = False) -> None:
    """List the recorded runs."""
    from hil.core.errors import HilError
    from hil.record.reader import list_runs

    try:
        listed = list_runs(data)
    except HilError as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps(listed))
        return
    typer.echo(f"{'run':>5}  {'started':25}  {'protocol':28}  {'target':10}  {'outcome':14}  {'steps':>5}  loss")
    for entry in listed:
        loss = "" if entry["loss"] is None else f"{entry['loss']:.3g}"
        steps = "" if entry["steps"] is None else entry["steps"]
        before = "" if entry["continues"] is None else f"  (continues run {entry['continues']})"
        typer.echo(
            f"{entry['run_id']:>5}  {entry['started']:25}  {entry['protocol']:28}  {entry['target']:10}  {entry['outcome']:14}  "
            f"{steps:>5}  {loss}{before}"
        )


@app.command()
def show(run_id: RunArgument, data: DataOption = Path("data"), as_json: JsonOption = False) -> None:
    """Show one run: how it ended, with what, on which bench."""
    from hil.core.errors import HilError
    from hil.record.reader import load

    try:
        loaded = load(run_id, data)
    except HilError as error:
        _fail(str(error))
    if as_json:
        _print_json({"run_id": run_id, **loaded.metadata, "notes": loaded.notes, "snapshot": loaded.snapshot})
        return
    facts = loaded.metadata
    lines = [f"run {run_id}: {loaded.name} on {facts.get('target', '?')}, {loaded.outcome} (started {facts.get('started', '?')})"]
    lines += [f"  bench {facts.get('bench', '?')}, seed {facts.get('seed', '?')}, commit {facts.get('git_commit') or 'unknown'}"]
    lines += [f"  {key}: {value}" for key, value in facts.get("notebook", {}).items() if value]
    lines += [f"  {len(loaded.readings)} readings{loaded.by_replica()}, {len(loaded.history)} rows of training history"]
    if "continues" in facts:
        lines += [f"  continues run {facts['continues']['run_id']}"]
    lines += [f"  note of {note['time']} by {note['author'] or 'somebody'}: {note['text']}" for note in loaded.notes]
    ended = loaded.summary
    below = [*ended["warnings"], ended["results"].get("reason")] if ended else []
    events = [event.get("warning") or event.get("reason") for event in loaded.events]
    lines += [f"  {sentence}" for sentence in events if sentence not in below]
    _print_lines([*lines, *(run_lines(ended, facts.get("units", {})) if ended else [])])


@app.command()
def export(
    run_id: RunArgument,
    to: Annotated[str, typer.Option("--to", help="csv, netcdf or parquet.")] = "csv",
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")] = Path(),
    data: DataOption = Path("data"),
) -> None:
    """Export one run to files."""
    from hil.core.errors import HilError
    from hil.record.reader import FORMATS, load
    from hil.record.reader import export as write

    try:
        if to not in FORMATS:
            _fail(f"a run is exported to {', '.join(FORMATS)}, not to {to!r}")
        for path in write(load(run_id, data), to, out):
            typer.echo(path)
    except HilError as error:
        _fail(str(error))


@app.command()
def activation(
    run_: Annotated[str, typer.Argument(metavar="RUN", help="Number of an iv_curve run, or path of a curve file or CSV table.")],
    branch: Annotated[str, typer.Option("--branch", help="up, down or mean.")] = "mean",
    outside: Annotated[str, typer.Option("--outside", help="Beyond the measured range: raise, clip or linear.")] = "clip",
    monotone: Annotated[str, typer.Option("--monotone", help="Falling current: require (refuse), repair or allow.")] = "repair",
    sweep: Annotated[str | None, typer.Option("--sweep", help="One of several sweeps; by default the slowest.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File to write.")] = None,
    data: DataOption = Path("data"),
) -> None:
    """Turn a measured I-V curve into the activation of a neuron, and say what had to be repaired."""
    from hil.activation import make_activation
    from hil.core.errors import HilError

    try:
        made = make_activation(run_, branch=branch, outside=outside, monotone=monotone, sweep=sweep, data=data, out=out)
    except HilError as error:
        _fail(str(error))
    _print_lines(made.lines)


# In this order ``hil --help`` lists them, after those above.
app.command("dry-run")(dry_run)
app.command()(doctor)
app.command()(check)
app.command()(calibrate)
app.command("first-check")(first_check)
app.command()(refill)
app.command()(netlist)
app.add_typer(plot, name="plot")


def _fail(message: str, code: int = 2) -> NoReturn:
    typer.echo(f"hil: {message}", err=True)
    raise typer.Exit(code)


def _print_json(facts: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(facts, allow_nan=False))


def _print_lines(lines: list[str]) -> None:
    typer.echo("\n".join(lines))


if __name__ == "__main__":
    main()
