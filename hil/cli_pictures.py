"""Command line, second part: pictures, and decks for ngspice."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hil.cli_checks import parsed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hil.experiment.bench_file import BenchFile

plot = typer.Typer(no_args_is_help=True, help="Draw a network, a law, loops, a transient or a training run (PNG, PDF or SVG).")

BenchArgument = Annotated[str, typer.Argument(help="Bench file, or name of a shipped one.")]
ApplyOption = Annotated[list[str] | None, typer.Option("--apply", help="CONTROL=VALUE, e.g. 'V1=5 V'; the rest is at rest.")]
WriteOption = Annotated[Path | None, typer.Option("--write", help="File to write; its ending chooses the format.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="path=value: change a field of the bench file.")]


@plot.command("network")
def network(bench: BenchArgument, apply: ApplyOption = None, set_: SetOption = None, write: WriteOption = None) -> None:
    """Nodes, oriented devices and terminals of a bench, with conductances and, where applied, voltages."""
    with _reported():
        from hil.pictures import network_picture

        model, stem = _bench(bench, set_)
        _keep(network_picture(model, apply or (), stem), write, f"{stem}-network.png")


@plot.command("transient")
def transient(
    bench: BenchArgument,
    duration: Annotated[str, typer.Option(help="How long to follow it, e.g. '50 ms'.")],
    apply: ApplyOption = None,
    set_: SetOption = None,
    write: WriteOption = None,
) -> None:
    """Voltages and device states after the applied values are switched on."""
    with _reported():
        from hil.pictures import transient_picture

        model, stem = _bench(bench, set_)
        _keep(
            transient_picture(model, apply or (), parsed("--duration", duration, "s") or 0.0, model.title),
            write,
            f"{stem}-transient.png",
        )


@plot.command("law")
def law(
    name: Annotated[str, typer.Argument(help="Name of a device law.")],
    preset: Annotated[list[str] | None, typer.Option(help="Published parameter sets to draw; all by default.")] = None,
    top: Annotated[float, typer.Option(help="Largest voltage, V.")] = 1.0,
    write: WriteOption = None,
) -> None:
    """Steady conductance g∞(V)/g0 of a law."""
    with _reported():
        from hil.pictures import law_picture

        _keep(law_picture(name, preset or (), top, name.replace("_", " ")), write, f"{name}.png")


@plot.command("loops")
def loops(
    names: Annotated[list[str] | None, typer.Argument(help="Device laws; all with a memory by default.")] = None,
    amplitude: Annotated[float | None, typer.Option(help="Amplitude of the sine, V.")] = None,
    frequency: Annotated[float | None, typer.Option(help="Frequency of the sine, Hz.")] = None,
    write: WriteOption = None,
) -> None:
    """Current against voltage under a sine: loops pinched at 0 V."""
    with _reported():
        from hil.pictures import loops_picture

        _keep(loops_picture(names or (), amplitude, frequency), write, "loops.png")


@plot.command("run")
def run(
    run_id: Annotated[int, typer.Argument(metavar="ID", help="Number of a recorded training run.")],
    data: Annotated[Path, typer.Option("--data", help="Folder of the recorded runs.")] = Path("data"),
    write: WriteOption = None,
) -> None:
    """Cost, outputs and weights of a recorded training run, step by step."""
    with _reported():
        from hil.pictures import training_picture

        _keep(training_picture(run_id, data), write, f"run-{run_id}.png")


def netlist(
    bench: BenchArgument,
    apply: ApplyOption = None,
    duration: Annotated[str | None, typer.Option(help="A run in time of this length instead of an operating point.")] = None,
    set_: SetOption = None,
    write: Annotated[Path | None, typer.Option("--write", help="File to write; the screen by default.")] = None,
) -> None:
    """The network of a bench as a deck for ngspice, device states included."""
    with _reported():
        from hil.pictures import deck

        model, _ = _bench(bench, set_)
        text = deck(model, apply or (), parsed("--duration", duration, "s"))
        if write is None:
            typer.echo(text, nl=False)
        else:
            write.write_text(text, encoding="utf-8")
            typer.echo(f"wrote {write}")


def _bench(name: str, sets: list[str] | None) -> "tuple[BenchFile, str]":
    from hil.bench import bench_document
    from hil.experiment.bench_file import BenchFile

    document = bench_document(name, sets or ())
    return document.model(BenchFile), document.path.stem


def _keep(made: "Figure", path: Path | None, otherwise: str) -> None:
    from hil.figures.style import save

    typer.echo(f"wrote {save(made, path or Path(otherwise))}")


@contextmanager
def _reported() -> Generator[None]:
    from hil.core.errors import HilError

    try:
        yield
    except HilError as error:
        typer.echo(f"hil: {error}", err=True)
        raise typer.Exit(2) from None
