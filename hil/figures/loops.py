"""Pinched loops: current against voltage of devices with memory."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from hil.figures.style import COLOURS, PALE, figure, plain, scaled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def pinched_loops(loops: Mapping[str, tuple[FloatArray, FloatArray]], *, columns: int = 3, title: str = "") -> "Figure":
    """One panel per device: name -> (voltage (n,) V, current (n,) A), in the order of time; the first part is paler.

    Raises ConfigError where the two lengths differ or nothing is given.
    """
    if not loops:
        raise ConfigError("there is no loop to draw")
    columns = min(columns, len(loops))
    rows = -(-len(loops) // columns)
    made = figure(2.9 * columns + 0.4, 2.6 * rows + (0.4 if title else 0.1))
    panels = np.atleast_1d(made.subplots(rows, columns)).ravel()
    for axes, (name, (voltage, current)) in zip(panels, loops.items(), strict=False):
        v, i = np.asarray(voltage, dtype=np.float64), np.asarray(current, dtype=np.float64)
        if v.shape != i.shape or v.ndim != 1 or v.size == 0:
            raise ConfigError(f"loop {name!r}: {v.shape} voltages and {i.shape} currents do not belong together")
        factor, unit = scaled(float(np.nanmax(np.abs(i), initial=0.0)), "A")
        first = v.size // 3
        axes.axhline(0.0, color=PALE, linewidth=0.8)
        axes.axvline(0.0, color=PALE, linewidth=0.8)
        axes.plot(v[: first + 1], i[: first + 1] / factor, color=COLOURS[0], linewidth=1.1, alpha=0.35)
        axes.plot(v[first:], i[first:] / factor, color=COLOURS[0], linewidth=1.4)
        plain(axes, "V (V)", f"I ({unit})", name.replace("_", " "))
    for axes in panels[len(loops) :]:
        axes.set_visible(False)
    if title:
        made.suptitle(title, x=0.01, ha="left", fontsize=11)
    return made
