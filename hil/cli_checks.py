"""Command line, third part: what is looked at before a bench is used."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hil.doctor import Diagnosis

DataOption = Annotated[Path, typer.Option("--data", help="Folder of the recorded runs.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on the last line.")]


def doctor(
    bench: Annotated[str | None, typer.Option("--bench", help="Bench file whose instruments are to be looked at.")] = None,
    data: DataOption = Path("data"),
    as_json: JsonOption = False,
) -> None:
    """What VISA sees, who answers, what it holds, what is missing. Touches no output. Exit code: 0, 2 bad input, 3 instrument."""
    from hil.doctor import examine

    report = examine(bench, data)
    if as_json:
        typer.echo(json.dumps(report.facts()))
    else:
        typer.echo("\n".join(report.lines))
        _print_table(report)
    if report.error:
        typer.echo(f"hil: {report.error}", err=True)
    raise typer.Exit(report.exit_code)


def _print_table(report: "Diagnosis") -> None:
    if not sys.stdout.isatty():
        for line in report.table():
            typer.echo(line)
        return
    from rich.console import Console
    from rich.table import Table

    colours = {"ok": "green", "note": "yellow", "wrong": "red"}
    table = Table("", "what", "found", "verdict")
    for row in report.rows:
        colour = colours[row["verdict"]]
        table.add_row(row["where"], row["what"], row["found"], f"[{colour}]{row['verdict']}[/{colour}]")
    Console().print(table)
