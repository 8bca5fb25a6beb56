"""From a measured curve to a neuron's activation: what ``hil activation`` does."""

from dataclasses import dataclass
from pathlib import Path

from hil.core.errors import ConfigError
from hil.learn.activation import Activation, Outside
from hil.record.curves import curve_path, load_curves, save_activation

MONOTONE = ("require", "repair", "allow")


@dataclass(frozen=True)
class Made:
    """The activation, where it was written, and what there is to say about it."""

    activation: Activation
    path: Path
    figure: Path
    lines: list[str]


def make_activation(
    source: str,
    *,
    branch: str = "mean",
    outside: str = "clip",
    monotone: str = "repair",
    sweep: str | None = None,
    data: Path = Path("data"),
    out: Path | None = None,
) -> Made:
    """Turn the curve of run ``source`` (its number, or the path of a curve file or a CSV table) into an activation file.

    ``sweep``: name of one of several sweeps, by default the slowest. Raises ConfigError where nothing sound can be made.
    """
    path = curve_path(data, int(source)) if source.isdecimal() else Path(source)
    if source.isdecimal() and not path.is_file():
        raise ConfigError(
            f"run {source} has kept no I-V curve ({path} is missing); `hil runs` lists the runs, iv_curve makes curves"
        )
    if outside not in list(Outside):
        raise ConfigError(f"outside {outside!r}: choose one of {', '.join(Outside)}")
    if monotone not in MONOTONE:
        raise ConfigError(f"monotone {monotone!r}: choose one of {', '.join(MONOTONE)}")
    file = load_curves(path)
    curve = file.best(sweep)
    activation = Activation.from_curve(curve, branch, Outside(outside), monotone=monotone)
    from hil.figures.iv_curve import save_activation_figure

    target = path.with_name(f"{path.stem}_activation_{branch}.json") if out is None else out
    provenance = {"curve": str(path), "branch": branch, "sweep": curve.source, "monotone": monotone, "of": dict(file.provenance)}
    save_activation(activation, target, provenance)
    figure = save_activation_figure(activation, curve, target.with_suffix(".png"))
    low, high = activation.range
    lines = [
        f"activation of {curve.source or path}, branch {branch}: {len(activation.voltage)} points, {low:g} … {high:g} V",
        f"  outside the measured range: {outside}" + (" (slope 0)" if outside == "clip" else ""),
        *(f"  repaired: {repair}" for repair in activation.repairs),
        f"  {target}",
        f"  {figure}",
    ]
    return Made(activation, target, figure, lines)
