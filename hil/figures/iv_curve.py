"""A measured I-V curve, raw and corrected, and the activation made of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hil.learn.activation import Activation
from hil.learn.iv_curve import IVCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def save_curve_figure(raw: Mapping[str, IVCurve], corrected: Mapping[str, IVCurve], path: Path) -> Path:
    """Draw every rate, raw beside corrected, branches apart, points in compliance crossed out; returns ``path``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    _draw(axes[0], raw, "raw")
    _draw(axes[1], corrected, "corrected")
    axes[0].set_ylabel("I / A")
    figure.savefig(path, dpi=120)
    return path


def _draw(axes: "Axes", curves: Mapping[str, IVCurve], title: str) -> None:
    for number, (name, curve) in enumerate(curves.items()):
        for branch, style in (("up", "-"), ("down", "--")):
            for cycle in np.unique(curve.cycle):
                mask = (curve.branch == branch) & (curve.cycle == cycle)
                label = f"{name}, {branch}" if cycle == 0 and mask.any() else None
                shown = np.where(curve.usable[mask], curve.current[mask], np.nan)
                axes.plot(curve.voltage[mask], shown, style, color=f"C{number}", linewidth=1, label=label)
        limited = curve.limited
        axes.plot(curve.voltage[limited], curve.current[limited], "x", color="tab:red", markersize=5)
    axes.set(title=title, xlabel="V / V")
    axes.legend(fontsize="small")


def save_activation_figure(activation: Activation, curve: IVCurve, path: Path) -> Path:
    """The points that were used and the curve through them, and its slope; returns ``path``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    voltage = np.linspace(*activation.range, 801)
    usable = curve.where(curve.usable)
    left.plot(usable.voltage, usable.current, ".", markersize=3, label="measured")
    left.plot(voltage, activation(voltage), linewidth=1, label="activation")
    left.set(xlabel="V / V", ylabel="I / A")
    left.legend()
    right.plot(voltage, activation.slope(voltage), linewidth=1)
    right.set(xlabel="V / V", ylabel="dI/dV / S")
    figure.savefig(path, dpi=120)
    return path
