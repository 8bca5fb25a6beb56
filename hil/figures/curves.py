"""Curves over voltage: steady conductance, current, and activation with its slope."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from hil.figures.style import COLOURS, INK, PALE, figure, plain, scaled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def steady_conductance(
    curves: Mapping[str, tuple[FloatArray, FloatArray]], *, rest: Mapping[str, float] | None = None, title: str = ""
) -> "Figure":
    """g∞(V): name -> (voltage (n,) V, conductance (n,) S). ``rest``: name -> g0 in S, then g∞/g0 is drawn."""
    _require(curves)
    made = figure()
    axes = made.add_subplot()
    factor, unit = scaled(max(float(np.nanmax(np.abs(g), initial=0.0)) for _, g in curves.values()), "S")
    for k, (name, (voltage, conductance)) in enumerate(curves.items()):
        divisor = rest[name] if rest is not None else factor
        axes.plot(voltage, np.asarray(conductance) / divisor, color=COLOURS[k % len(COLOURS)], linewidth=1.7, label=name)
    axes.axvline(0.0, color=PALE, linewidth=0.8, zorder=0)
    plain(axes, "ΔV = V(base) − V(tip)  (V)", "g∞ / g0" if rest is not None else f"g∞ ({unit})", title)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=9)
    return made


def current_voltage(
    curves: Mapping[str, tuple[FloatArray, FloatArray]],
    *,
    points: Mapping[str, tuple[FloatArray, FloatArray, FloatArray]] | None = None,
    title: str = "",
) -> "Figure":
    """I(V): name -> (voltage (n,) V, current (n,) A) as lines; ``points``: name -> (voltage, current, std), measured."""
    _require({**curves, **{name: (v, i) for name, (v, i, _) in (points or {}).items()}})
    every = [i for _, i in curves.values()] + [i for _, i, _ in (points or {}).values()]
    factor, unit = scaled(max(float(np.nanmax(np.abs(i), initial=0.0)) for i in every), "A")
    made = figure()
    axes = made.add_subplot()
    names = list(dict.fromkeys([*curves, *(points or {})]))
    colour = {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(names)}
    for name, (voltage, current, std) in (points or {}).items():
        axes.errorbar(
            voltage,
            np.asarray(current) / factor,
            np.asarray(std) / factor,
            fmt=".",
            color=colour[name],
            elinewidth=0.8,
            alpha=0.8,
        )
    for name, (voltage, current) in curves.items():
        axes.plot(voltage, np.asarray(current) / factor, color=colour[name], linewidth=1.6)
    for name in names:
        axes.plot([], [], color=colour[name], label=name)
    axes.axhline(0.0, color=PALE, linewidth=0.8, zorder=0)
    axes.axvline(0.0, color=PALE, linewidth=0.8, zorder=0)
    plain(axes, "V (V)", f"I ({unit})", title)
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=9)
    return made


def activation(voltage: FloatArray, value: FloatArray, slope: FloatArray, *, title: str = "") -> "Figure":
    """An activation and its slope over the voltage, (n,) each, in two panels on one axis."""
    _require({"activation": (voltage, value), "slope": (voltage, slope)})
    made = figure(6.4, 4.8)
    above, below = made.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    above.plot(voltage, value, color=COLOURS[0], linewidth=1.7)
    below.plot(voltage, slope, color=COLOURS[1], linewidth=1.7)
    plain(above, "", "activation", title)
    plain(below, "V (V)", "slope (per V)")
    below.axhline(0.0, color=INK, linewidth=0.6)
    return made


def _require(curves: Mapping[str, tuple[FloatArray, FloatArray]]) -> None:
    if not curves:
        raise ConfigError("there is no curve to draw")
    for name, (x, y) in curves.items():
        if np.shape(x) != np.shape(y) or np.ndim(x) != 1 or np.size(x) == 0:
            raise ConfigError(f"curve {name!r}: {np.shape(x)} voltages and {np.shape(y)} values do not belong together")
