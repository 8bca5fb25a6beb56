"""What the user reads: how a run ended and what it found, with units; tables that fit the terminal."""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

LEAST = 24
"""Columns that the last cell gets, however narrow the terminal."""


def run_lines(summary: Mapping[str, Any], units: Mapping[str, str], said: str = "") -> list[str]:
    """The lines of a summary (see ``hil.run_record.summary_of``). ``units``: SI units of the channels; others are left out.

    ``said``: an error that was told already; where it is the reason of the end, it is not told again.
    Outputs of several inputs, ``name[k]``, have the unit of ``name``; a loss has the square of the unit that all outputs share.
    """

    def unit(name: str) -> str:
        found = units.get(name.partition("[")[0], "")
        return "" if found == "1" else found

    def shown(value: Any, symbol: str = "") -> str:
        text = "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
        return f"{text} {symbol}" if symbol and value is not None else text

    shared = {unit(name) for name in summary["outputs"]}
    squared = f"{shared.pop()}^2" if len(shared) == 1 and shared != {""} else ""
    trains = summary["loss"] is not None  # other procedures know no loss and make no steps
    steps = f"{summary['steps']} steps and " if trains else ""
    loss = f"loss {shown(summary['loss'], squared)} (floor {shown(summary['loss_floor'], squared)}); " if trains else ""
    lines = [f"run {summary['run_id']}: {summary['outcome']} after {steps}{summary['relaxations']} relaxations"]
    reason = summary["results"].get("reason", "")
    if found := loss + (reason if reason != said else ""):
        lines.append(f"  {found}")
    lines += [
        f"  {name} = {shown(value, unit(name))}" for part in ("outputs", "weights") for name, value in summary[part].items()
    ]
    if "plot" in summary["results"]:
        lines.append(f"  drawn in {summary['results']['plot']}")
    lines += [f"  warning: {message}" for message in summary["warnings"]]
    if summary["results"].get("resumable") is True:
        lines.append(f"  it can go on: {summary['results']['resume']}")
    elif "not_resumable" in summary["results"]:
        lines.append(f"  it cannot go on: {summary['results']['not_resumable']}")
    return lines


def in_columns(rows: Sequence[Sequence[str]], width: int | None = None, indent: str = "  ") -> list[str]:
    """Rows of cells in plain columns, two spaces apart; with ``width`` the last cell goes on below itself where it is longer."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        front = indent + "".join(f"{cell:{wide}s}  " for cell, wide in zip(row, widths, strict=False))
        room = None if width is None else max(LEAST, width - len(front))
        parts = [row[-1]] if room is None else wrap(row[-1], room, break_on_hyphens=False) or [""]
        lines += [(front + parts[0]).rstrip(), *(" " * len(front) + part for part in parts[1:])]
    return lines
