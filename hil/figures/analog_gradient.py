"""Measured slopes against the numerical derivative, method by method."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hil.core.types import FloatArray


def save_comparison(
    folder: Path,
    run_id: int | None,
    voltages: FloatArray,
    series: Mapping[str, tuple[FloatArray, FloatArray]],
    results: Mapping[str, Any],
) -> Path:
    """Write ``figures/analog_gradient_RUN.png`` below ``folder`` and return its path.

    ``series``: method -> reference and measured slopes, (n_pairs, n_repeats, n_points) in S.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(series), 6.2), layout="constrained")
    axes = figure.subplots(2, len(series), squeeze=False)
    for column, (name, (reference, measured)) in enumerate(series.items()):
        scale = float(np.mean(reference))
        upper, lower = axes[0, column], axes[1, column]
        for pair in range(len(measured)):
            upper.plot(voltages, measured[pair].mean(axis=0) * 1e6, color="tab:blue", alpha=0.2, linewidth=0.8)
        upper.plot(voltages, reference.mean(axis=(0, 1)) * 1e6, color="black", linewidth=1.5)
        upper.set(title=name, xlabel="V / V", ylabel="dI/dV / µS")
        lower.plot(reference.ravel() / scale, measured.ravel() / scale, ".", markersize=2, alpha=0.3)
        ends = [0.0, float(np.max(reference)) / scale]
        lower.plot(ends, ends, color="black", linewidth=1)
        one = results[name]
        lower.set(
            xlabel="numerical derivative / mean",
            ylabel="measured / mean",
            title=f"rms {100 * one['rmse_over_mean']:.1f} %, R² {one['r2']:.3f}",
        )
    path = folder / "figures" / f"analog_gradient_{'' if run_id is None else run_id}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
