"""What all figures share: one canvas without global state, one set of colours, numbers with SI prefixes."""

from pathlib import Path
from typing import TYPE_CHECKING

from hil.core.errors import RecordError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#3B6FB6", "#D1703C", "#4E9A57", "#8A5FB0", "#B5473C", "#6B6B6B", "#C2A03A", "#4AA3A8")
INK, PALE = "#222222", "#B8BCC4"
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"), (1e-15, "f"))


def figure(width: float = 6.4, height: float = 4.2) -> "Figure":
    """An empty figure (inches) that needs no display and leaves no trace in ``matplotlib.pyplot``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def plain(axes: "Axes", x: str, y: str, title: str = "") -> None:
    """Labels, a light grid, no frame on the right and above."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if title:
        axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.grid(visible=True, color="#E6E8EC", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def si(value: float, unit: str, digits: int = 3) -> str:
    """A value with an SI prefix, such as ``8.4 pS``."""
    if value == 0.0:
        return f"0 {unit}"
    size = abs(value)
    factor, prefix = next(((factor, prefix) for factor, prefix in _PREFIXES if size >= factor * 0.9999), _PREFIXES[-1])
    return f"{value / factor:.{digits}g} {prefix}{unit}"


def scaled(largest: float, unit: str) -> tuple[float, str]:
    """Factor to divide by and unit with prefix, for an axis whose largest value is ``largest``."""
    size = abs(largest)
    factor, prefix = next(((factor, prefix) for factor, prefix in _PREFIXES if size >= factor), _PREFIXES[-1])
    return (1.0, unit) if size == 0.0 else (factor, f"{prefix}{unit}")


def save(made: "Figure", path: Path | str, dpi: int = 150) -> Path:
    """Write the figure; the ending chooses the format (png, svg, pdf). Raises RecordError where that cannot be."""
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made.savefig(target, dpi=dpi)
    except (OSError, ValueError) as error:
        raise RecordError(f"the figure cannot be written to {target}: {error}") from error
    return target
