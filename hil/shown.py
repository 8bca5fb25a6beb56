"""A run as the user reads it: how it ended, and what it found, with units."""

from collections.abc import Mapping
from typing import Any


def run_lines(summary: Mapping[str, Any], units: Mapping[str, str]) -> list[str]:
    """The lines of a summary (see ``hil.run_record.summary_of``). ``units``: SI units of the channels; others are left out.

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
    lines = [
        f"run {summary['run_id']}: {summary['outcome']} after {summary['steps']} steps and {summary['relaxations']} relaxations",
        f"  loss {shown(summary['loss'], squared)} (floor {shown(summary['loss_floor'], squared)}); "
        f"{summary['results'].get('reason', '')}",
    ]
    lines += [
        f"  {name} = {shown(value, unit(name))}" for part in ("outputs", "weights") for name, value in summary[part].items()
    ]
    return lines + [f"  warning: {message}" for message in summary["warnings"]]
