"""A drawing of a network: nodes, oriented devices from base to tip, conductances, terminals."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from hil.figures.style import COLOURS, INK, PALE, figure, si

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABELS_UP_TO = 40
"""Edges up to which every one is labelled."""
_LAID_OUT_UP_TO = 1000
_BY_MODES_ABOVE = 12
"""Nodes up to which sources and readers keep columns of their own; beyond, the shape of the graph decides."""


def draw_network(
    nodes: Sequence[str],
    edges: Sequence[tuple[str, str, str]],
    *,
    conductance: Mapping[str, float] | None = None,
    voltage: Mapping[str, float] | None = None,
    sources: Mapping[str, str] | None = None,
    readers: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
    ground: str | None = None,
    positions: Mapping[str, tuple[float, float]] | None = None,
    title: str = "",
) -> "Figure":
    """Draw ``edges`` (name, base, tip) between ``nodes``; each device is a wedge, wide at its base.

    conductance: edge -> S (colour and label); voltage: node -> V (label); sources, readers: node -> text of what is
    applied or read there, notes: node -> any other text; positions: node -> (x, y), laid out with sources left and
    readers right where not given.
    Raises ConfigError for an edge that ends nowhere, and for more than 1000 nodes without positions.
    """
    for name, base, tip in edges:
        for end in (base, tip):
            if end not in nodes:
                raise ConfigError(f"edge {name!r} ends at {end!r}, which is no node of the drawing")
    sources, readers = dict(sources or {}), dict(readers or {})
    anchors = [*sources, *([ground] if ground is not None else [])]
    places = dict(positions) if positions is not None else layout(nodes, edges, anchors, list(readers))
    xy = np.array([places[node] for node in nodes])
    low, high = xy.min(axis=0) - np.array([0.75, 0.7]), xy.max(axis=0) + np.array([0.75, 0.6])
    size = np.clip(1.35 * (high - low), 2.2, 11.0)
    made = figure(float(size[0]) + 0.9, float(size[1]) + 0.3)
    axes = made.add_subplot()
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    _edges(made, axes, edges, places, conductance)
    _nodes(axes, nodes, places, voltage or {}, sources, readers, notes or {}, ground)
    if title:
        axes.set_title(title, loc="left", fontsize=11, color=INK)
    return made


def layout(
    nodes: Sequence[str], edges: Sequence[tuple[str, str, str]], left: Sequence[str], right: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Node -> (x, y): ``left`` nodes in a column, ``right`` ones in another, the rest between them by springs."""
    if len(nodes) > _LAID_OUT_UP_TO:
        raise ConfigError(f"{len(nodes)} nodes are too many to be laid out; give their `positions`")
    index = {node: k for k, node in enumerate(nodes)}
    first = [node for node in nodes if node in left]
    last = [node for node in nodes if node in right and node not in left]
    adjacent = np.zeros((len(nodes), len(nodes)))
    for _, base, tip in edges:
        adjacent[index[base], index[tip]] = adjacent[index[tip], index[base]] = 1.0
    inner = len(nodes) - len(first) - len(last)
    width = 2.4 + 0.9 * np.sqrt(max(inner, 0))
    place = np.full((len(nodes), 2), np.nan)
    for column, x in ((first, 0.0), (last, width)):
        # nodes of a column stand in the order in which their neighbours stand
        known = np.nan_to_num(place[:, 1])
        ordered = sorted(column, key=lambda node: -float(adjacent[index[node]] @ known))
        for node, y in zip(ordered, _spread(len(column)), strict=True):
            place[index[node]] = x, y
    free = np.isnan(place[:, 0])
    middle = np.array([0.5 * width, 0.0]) + _start(adjacent)
    if len(nodes) > _BY_MODES_ABOVE:
        free[:] = True
        middle = _turned(middle, [index[node] for node in first], [index[node] for node in last])
    place = np.where(free[:, np.newaxis], middle, place)
    for step in range(300):
        apart = place[:, np.newaxis] - place[np.newaxis]
        distance = np.hypot(apart[..., 0], apart[..., 1]) + np.eye(len(nodes))
        force = (apart / distance[..., np.newaxis] ** 3).sum(axis=1) - 0.45 * (adjacent[..., np.newaxis] * apart).sum(axis=1)
        size = np.hypot(force[:, 0], force[:, 1])[:, np.newaxis] + 1e-12
        place = place + np.where(free[:, np.newaxis], force / size * np.minimum(size, 0.2 * (1.0 - step / 300)), 0.0)
    places = {node: (float(place[k, 0]), float(place[k, 1])) for node, k in index.items()}
    return _off_the_lines(places, edges)


def _start(adjacent: FloatArray) -> FloatArray:
    """Where springs start, (n, 2): a turn for a few nodes, the two slowest modes of the graph for many."""
    n = len(adjacent)
    if n <= _BY_MODES_ABOVE:
        turn = 2.4 * np.arange(n)
        return 0.4 * np.column_stack([np.cos(turn), np.sin(turn)])
    modes = np.linalg.eigh(np.diag(adjacent.sum(axis=1)) - adjacent)[1][:, 1:3]
    # the sign of a mode is arbitrary: fix it
    modes = modes * np.sign(modes[np.abs(modes).argmax(axis=0), np.arange(2)])
    return np.asarray(np.sqrt(n) * modes)


def _turned(places: FloatArray, left: Sequence[int], right: Sequence[int]) -> FloatArray:
    """``places`` turned so that the way from the ``left`` nodes to the ``right`` ones (or to the middle) is along x."""
    start = places[list(left)].mean(axis=0) if left else places.mean(axis=0)
    end = places[list(right)].mean(axis=0) if right else places.mean(axis=0)
    x, y = end - start
    size = float(np.hypot(x, y))
    return places if size < 1e-9 else np.asarray(places @ np.array([[x, -y], [y, x]]) / size)


def _off_the_lines(
    places: dict[str, tuple[float, float]], edges: Sequence[tuple[str, str, str]]
) -> dict[str, tuple[float, float]]:
    """Nodes that a foreign edge runs straight through step aside."""
    for node, place in list(places.items()):
        at = np.array(place)
        for _, base, tip in edges:
            if node in (base, tip):
                continue
            start, along = np.array(places[base]), np.array(places[tip]) - np.array(places[base])
            share = float((at - start) @ along) / max(float(along @ along), 1e-9)
            if 0.0 < share < 1.0 and float(np.hypot(*(start + share * along - at))) < 0.25:
                at = at + 0.55 * np.array([-along[1], along[0]]) / float(np.hypot(*along))
        places[node] = (float(at[0]), float(at[1]))
    return places


def _spread(count: int) -> FloatArray:
    return np.linspace(0.85, -0.85, count) * (count - 1) if count > 1 else np.zeros(count)


def _edges(
    made: "Figure",
    axes: "Axes",
    edges: Sequence[tuple[str, str, str]],
    places: Mapping[str, tuple[float, float]],
    conductance: Mapping[str, float] | None,
) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Polygon

    values = [conductance[name] for name, _, _ in edges if conductance and conductance.get(name, 0.0) > 0.0]
    low, high = (min(values), max(values)) if values else (1.0, 1.0)
    scale = LogNorm(low / 1.05, high * 1.05)
    seen: dict[frozenset[str], int] = {}
    for name, base, tip in edges:
        twin = seen.setdefault(frozenset((base, tip)), 0)
        seen[frozenset((base, tip))] += 1
        start, end = np.array(places[base]), np.array(places[tip])
        along = (end - start) / max(float(np.hypot(*(end - start))), 1e-9)
        across = np.array([-along[1], along[0]])
        if (across[1], across[0]) < (0.0, 0.0):
            across = -across  # upwards, so that parallel devices lie side by side whichever way they point
        outward = across * (-1.0) ** twin
        shift = 0.24 * ((twin + 1) // 2) * outward
        value = conductance.get(name) if conductance else None
        colour = colormaps["viridis"](0.9 * scale(value)) if value and value > 0.0 else PALE
        middle = 0.5 * (start + end) + shift
        half = 0.25 * min(1.0, float(np.hypot(*(end - start))) / 1.4)
        points = [start, middle - half * along, middle + half * along, end]
        axes.plot(*zip(points[0], points[1], strict=True), color=INK, linewidth=1.0, zorder=1)
        axes.plot(*zip(points[2], points[3], strict=True), color=INK, linewidth=1.0, zorder=1)
        wedge = [
            middle - half * along + 0.11 * across,
            middle - half * along - 0.11 * across,
            middle + half * along - 0.035 * across,
            middle + half * along + 0.035 * across,
        ]
        axes.add_patch(Polygon(wedge, closed=True, facecolor=colour, edgecolor=INK, linewidth=0.9, zorder=2))
        if len(edges) <= _LABELS_UP_TO:
            text = f"{name}  {si(value, 'S')}" if value is not None else name
            axes.annotate(
                text,
                middle + 0.21 * outward,
                ha="center",
                va="center",
                fontsize=8,
                color=INK,
                bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.7},
                zorder=4,
            )
    if len(values) > 1 and high > 1.05 * low:
        bar = made.colorbar(ScalarMappable(scale, colormaps["viridis"]), ax=axes, shrink=0.6, pad=0.01)
        bar.set_label("conductance (S)", fontsize=9)


def _nodes(
    axes: "Axes",
    nodes: Sequence[str],
    places: Mapping[str, tuple[float, float]],
    voltage: Mapping[str, float],
    sources: Mapping[str, str],
    readers: Mapping[str, str],
    notes: Mapping[str, str],
    ground: str | None,
) -> None:
    small = len(nodes) > _LABELS_UP_TO
    for node in nodes:
        colour = COLOURS[0] if node in sources else COLOURS[1] if node in readers else "white"
        edge = COLOURS[0] if node == ground else INK
        axes.plot(*places[node], "o", markersize=6 if small else 19, markerfacecolor=colour, markeredgecolor=edge, zorder=5)
        if small:
            continue
        ink = "white" if colour != "white" else INK
        axes.annotate(node, places[node], ha="center", va="center", fontsize=9, color=ink, zorder=6)
        said = [text for text in (sources.get(node), readers.get(node), notes.get(node)) if text]
        said += ["ground"] if node == ground else []
        said += [si(voltage[node], "V", 4)] if node in voltage else []
        if said:
            axes.annotate(
                "\n".join(said),
                places[node],
                xytext=(0, -15),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=8.5,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0},
                zorder=4,
            )
