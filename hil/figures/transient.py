"""Outputs, states and drives over time, and a training run over its steps."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from hil.figures.style import COLOURS, INK, PALE, figure, plain, scaled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def transient(
    times: FloatArray,
    panels: Mapping[str, Mapping[str, FloatArray]],
    *,
    units: Mapping[str, str] | None = None,
    steps: Sequence[str] = (),
    title: str = "",
) -> "Figure":
    """Panels above each other on one time axis: panel -> (name -> values (n,)); ``times`` (n,) s.

    units: panel -> SI unit of its axis; panels in ``steps`` are piecewise constant and drawn so. Raises ConfigError
    where lengths differ.
    """
    t = np.asarray(times, dtype=np.float64)
    if not panels or t.ndim != 1 or t.size == 0:
        raise ConfigError("there is nothing to draw over time")
    factor_t, unit_t = scaled(float(t.max()), "s")
    made = figure(6.8, 1.9 * len(panels) + 0.8)
    rows = made.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (panel, series) in zip(rows, panels.items(), strict=True):
        largest = max((float(np.nanmax(np.abs(values), initial=0.0)) for values in series.values()), default=0.0)
        unit = (units or {}).get(panel, "")
        factor, shown = scaled(largest, unit) if unit else (1.0, "")
        for k, (name, values) in enumerate(series.items()):
            if np.shape(values) != t.shape:
                raise ConfigError(f"{panel}, {name}: {np.shape(values)} values for {t.size} times")
            style = "steps-post" if panel in steps else "default"
            colour = COLOURS[k % len(COLOURS)]
            axes.plot(t / factor_t, np.asarray(values) / factor, color=colour, linewidth=1.5, label=name, drawstyle=style)
        plain(axes, "", f"{panel} ({shown})" if shown else panel)
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    rows[-1].set_xlabel(f"time ({unit_t})")
    if title:
        rows[0].set_title(title, loc="left", fontsize=11, color=INK)
    return made


def training(
    loss: FloatArray,
    outputs: Mapping[str, FloatArray],
    targets: Mapping[str, float],
    *,
    weights: Mapping[str, FloatArray] | None = None,
    loss_floor: float = 0.0,
    loss_unit: str = "V²",
    output_unit: str = "V",
    weight_label: str = "weights",
    title: str = "",
) -> "Figure":
    """A training run: cost by step (log axis), outputs against their targets, and, where given, the weights.

    loss, and every array in ``outputs`` and ``weights``: (n_steps + 1,), the first before any update. ``targets``: output
    -> its target; outputs without one are drawn too. ``loss_floor``: what noise or the stop rule allows, as a line; 0 for none.
    """
    cost = np.asarray(loss, dtype=np.float64)
    if cost.ndim != 1 or cost.size == 0:
        raise ConfigError("there is no step to draw")
    for name, values in {**outputs, **(weights or {})}.items():
        if np.shape(values) != cost.shape:
            raise ConfigError(f"{name}: {np.shape(values)} values for {cost.size} costs")
    count = 3 if weights else 2
    made = figure(3.5 * count, 3.1)
    panels = made.subplots(1, count)
    step = np.arange(cost.size)
    for axes in panels:
        axes.xaxis.get_major_locator().set_params(integer=True)
    positive = np.where(cost > 0.0, cost, np.nan)
    panels[0].plot(step, positive, color=COLOURS[0], linewidth=1.6, marker="o", markersize=3.5 if cost.size <= 60 else 0)
    if np.isfinite(positive).any():
        panels[0].set_yscale("log")
    if loss_floor > 0.0:
        panels[0].axhline(loss_floor, color=PALE, linewidth=1.2, linestyle="--")
        panels[0].annotate("floor", (step[0], loss_floor), ha="left", va="bottom", fontsize=8, color=COLOURS[5])
    plain(panels[0], "step", f"cost ({loss_unit})", title)
    for k, (name, values) in enumerate(outputs.items()):
        colour = COLOURS[k % len(COLOURS)]
        panels[1].plot(step, values, color=colour, linewidth=1.6, label=name)
        if name in targets:
            panels[1].axhline(targets[name], color=colour, linewidth=1.0, linestyle="--", alpha=0.7)
    plain(panels[1], "step", f"output ({output_unit}); dashed: target")
    if outputs:
        panels[1].legend(frameon=False, fontsize=8)
    if weights:
        for k, (name, values) in enumerate(weights.items()):
            panels[2].plot(step, values, color=COLOURS[k % len(COLOURS)], linewidth=1.6, label=name)
        plain(panels[2], "step", weight_label)
        panels[2].legend(frameon=False, fontsize=8)
    return made
