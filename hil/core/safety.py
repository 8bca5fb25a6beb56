"""What a bench allows, as data, and the one check every write passes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import ConfigError, LimitExceededError
from hil.core.types import BoolArray, FloatArray, Layout, Stimulus

LEAST_MARGIN = 0.05
"""Of an edge limit: ramps near it are not cut into smaller steps than this."""


@dataclass(frozen=True, slots=True)
class EdgeLimit:
    """Largest |value at ``plus`` - value at ``minus``| (SI) allowed across one edge, e.g. of pressure.

    ``plus`` and ``minus`` name controls of one quantity; ``minus`` None means the common reference (0). A ``maximum`` of
    inf only says that the two belong together: on the way to the safe state they move together.
    """

    edge: str
    plus: str
    minus: str | None
    maximum: float


@dataclass(frozen=True)
class SafetyEnvelope:
    """Limits per channel and per edge, all SI, in the order of ``layout``.

    minimum, maximum, max_slew (per second): (n_controls,). ``max_power`` (W per drive channel) and ``max_dwell``
    (s a channel may stay away from its safe state): (n_controls,), inf where there is none.
    """

    layout: Layout
    minimum: FloatArray
    maximum: FloatArray
    max_slew: FloatArray
    edges: tuple[EdgeLimit, ...] = ()
    max_power: FloatArray | None = None
    max_dwell: FloatArray | None = None
    source: str = field(default="", compare=False)

    @classmethod
    def of(cls, layout: Layout, edges: Sequence[EdgeLimit] = (), source: str = "") -> "SafetyEnvelope":
        """The envelope that the channels of ``layout`` declare themselves."""
        return cls(
            layout,
            layout.array("minimum"),
            layout.array("maximum"),
            layout.array("max_slew"),
            tuple(edges),
            layout.array("max_power"),
            layout.array("max_dwell"),
            source,
        )

    def check(self, values: FloatArray, connected: BoolArray | None = None) -> None:
        """Raise LimitExceededError unless every one of ``values`` (n_controls,) or (n, n_controls) lies inside.

        NaN is outside, also on a channel that floats. Edge limits count channels that are connected on both sides.
        """
        rows = np.atleast_2d(values)
        if rows.shape[-1] != len(self.layout):
            raise LimitExceededError(
                f"a stimulus has {rows.shape[-1]} values, but there are {len(self.layout)} controls: "
                f"{', '.join(self.layout.names)}"
            )
        inside = (rows >= self.minimum) & (rows <= self.maximum)
        if not inside.all():
            row, column = np.argwhere(~inside)[0]
            channel = self.layout.channels[column]
            raise LimitExceededError(
                f"channel {channel.name!r}: {rows[row, column]:g} {channel.quantity.value} is outside its limits "
                f"{self.minimum[column]:g} … {self.maximum[column]:g} {channel.quantity.value}"
                f"{self._where}; nothing was applied"
            )
        self._check_edges(rows, connected, self._edges.limit)

    def check_stimuli(self, stimuli: Sequence[Stimulus]) -> None:
        """``check`` of stimuli that are about to be applied; ConfigError for one that is none of these controls."""
        count = len(self.layout)
        for stimulus in stimuli:
            if np.shape(stimulus.values) != (count,) or np.shape(stimulus.connected) != (count,):
                raise ConfigError(
                    f"a stimulus needs {count} values and {count} connected flags (controls: {', '.join(self.layout.names)}), "
                    f"not {np.shape(stimulus.values)} and {np.shape(stimulus.connected)}"
                )
        self.check(np.array([one.values for one in stimuli]), np.array([one.connected for one in stimuli]))

    def check_power(self, power: FloatArray) -> None:
        """Raise LimitExceededError where ``power`` (W, (n_controls,) or (n, n_controls), NaN: not known) exceeds its limit."""
        if self.max_power is None:
            return
        rows = np.atleast_2d(power)
        over = rows > self.max_power
        if over.any():
            row, column = np.argwhere(over)[0]
            raise LimitExceededError(
                f"channel {self.layout.channels[column].name!r}: {rows[row, column]:g} W flow into the network, more than its "
                f"limit of {self.max_power[column]:g} W{self._where}; lower the value, or look for a short circuit"
            )

    @cached_property
    def limits_power(self) -> BoolArray:
        """(n_controls,): whether the channel has a power limit."""
        return np.zeros(len(self.layout), dtype=np.bool_) if self.max_power is None else np.isfinite(self.max_power)

    @cached_property
    def _edges(self) -> "_Edges":
        return _Edges.of(self)

    def _check_edges(self, rows: FloatArray, connected: BoolArray | None, allowed: FloatArray) -> None:
        edges = self._edges
        if not edges.finite:
            return
        difference = np.abs(edges.difference(rows))
        if connected is not None:
            mask = np.atleast_2d(connected)
            difference = np.where(mask[:, edges.plus] & (mask[:, edges.minus] | edges.grounded), difference, 0.0)
        # One rounding of the difference is no reason to refuse a value that stands exactly on the limit.
        over = ~(difference <= allowed * (1 + 1e-12))
        if over.any():
            row, column = np.argwhere(over)[0]
            limit = self.edges[column]
            unit = self.layout[limit.plus].quantity.value
            raise LimitExceededError(
                f"edge {limit.edge!r}: {difference[row, column]:g} {unit} between {limit.plus!r} and "
                f"{limit.minus or 'the reference'!r} exceeds its limit of {limit.maximum:g} {unit}{self._where}; "
                "nothing was applied"
            )

    @property
    def _where(self) -> str:
        return f" (set in {self.source})" if self.source else ""

    def exceeded_on_the_way(
        self, lowest: FloatArray, highest: FloatArray, coming: FloatArray, bands: FloatArray
    ) -> EdgeLimit | None:
        """The edge whose limit may be exceeded while channels that stand between two values are sent to others; None: none.

        lowest, highest, coming: (n_controls,), NaN for a channel that does not take part. Any of them may arrive before the
        others. ``bands``: how far a channel that has arrived may be off; within ``LEAST_MARGIN`` of a limit it counts as kept.
        What moves may come from a difference that is larger, and does not make it larger.
        """
        edges = self._edges
        if not edges.finite:
            return None

        def apart(plus: FloatArray, minus: FloatArray) -> FloatArray:
            there: FloatArray = np.abs(plus[edges.plus] - np.where(edges.grounded, 0.0, minus[edges.minus]))
            return there

        with np.errstate(invalid="ignore"):
            known = (lowest == highest) & np.isfinite(lowest)
            before = np.where(known[edges.plus] & (known[edges.minus] | edges.grounded), apart(lowest, lowest), 0.0)
            off = bands[edges.plus] + np.where(edges.grounded, 0.0, bands[edges.minus])
            worst = apart(coming, coming)
            for end in (lowest, highest):
                worst = np.fmax(worst, np.fmax(apart(coming, end), apart(end, coming)))
            moves = (coming != lowest)[edges.plus] | ((coming != lowest)[edges.minus] & ~edges.grounded)
            allowed = edges.limit * (1.0 + LEAST_MARGIN) + off
            over = worst > np.where(moves, np.fmax(allowed, before), allowed)
        found = np.flatnonzero(over)
        return self.edges[int(found[0])] if len(found) else None

    def ramp(self, start: FloatArray, stop: FloatArray, period: float, connected: BoolArray | None = None) -> FloatArray:
        """Points from ``start`` (excluded) to ``stop`` (included), one every ``period`` seconds: (n, n_controls).

        All channels move together along a straight line, so that an edge limit which both ends keep is kept on the
        way (the set is convex); every point is checked all the same. Steps are small enough for one channel to take them
        before another (``fewest_steps``). ``start`` may lie outside (a measured value). What is not ``connected`` (n_controls,)
        has no difference from anything, as in ``check``.
        """
        if not period > 0:
            raise ConfigError(f"a ramp needs a period above 0 s, not {period}")
        self.check(stop, connected)
        change = np.abs(np.asarray(stop) - np.asarray(start))
        with np.errstate(invalid="ignore", divide="ignore"):
            steps = np.where(change > 0, change / (self.max_slew * period), 0.0)
        ends = (start, stop) if connected is None else tuple(np.where(connected, one, np.nan) for one in (start, stop))
        count = max(int(np.ceil(np.max(steps, initial=0.0) * (1 - 1e-12))), self.fewest_steps(*ends))
        fractions = np.arange(1, count + 1) / count
        points: FloatArray = np.asarray(start) + fractions[:, None] * (np.asarray(stop) - np.asarray(start))
        points[-1] = stop
        before = np.abs(self._edges.difference(np.atleast_2d(start)))[0]
        self._check_edges(points, connected, np.fmax(self._edges.limit, before))
        return points

    def fewest_steps(self, start: FloatArray, stop: FloatArray) -> int:
        """Steps of a straight way that keep edge limits although instruments are told one after the other; 1 or more.

        start, stop: (n_controls,), NaN for a channel that does not take part. Where a difference is nearer to its limit than
        ``LEAST_MARGIN`` of it, it may be exceeded by that much until the next message is through.
        """
        edges = self._edges
        if not edges.finite:
            return 1
        change = np.nan_to_num(np.abs(np.asarray(stop) - np.asarray(start)))
        furthest = np.fmax(*(np.abs(edges.difference(np.atleast_2d(np.asarray(one))))[0] for one in (start, stop)))
        margin = np.fmax(edges.limit - np.nan_to_num(furthest), LEAST_MARGIN * edges.limit)
        moves = np.fmax(change[edges.plus], change[edges.minus])
        apart = ~edges.grounded & np.isfinite(edges.limit) & np.isfinite(furthest)
        return max(1, int(np.ceil(np.max(moves[apart] / margin[apart], initial=0.0) * (1 - 1e-12))))

    def narrowed(self, other: "SafetyEnvelope") -> "SafetyEnvelope":
        """This envelope tightened by ``other``; ConfigError where ``other`` would widen a limit."""
        if other.layout.names != self.layout.names:
            raise ConfigError("an envelope can only be narrowed by one with the same channels in the same order")
        for position, channel in enumerate(self.layout):
            wider = (
                other.minimum[position] < self.minimum[position]
                or other.maximum[position] > self.maximum[position]
                or other.max_slew[position] > self.max_slew[position]
            )
            if wider:
                raise ConfigError(
                    f"channel {channel.name!r}: {other.source or 'the file'} asks for limits "
                    f"{other.minimum[position]:g} … {other.maximum[position]:g} {channel.quantity.value} "
                    f"(slew {other.max_slew[position]:g}/s), wider than {self.minimum[position]:g} … {self.maximum[position]:g} "
                    f"(slew {self.max_slew[position]:g}/s){self._where}; a limit can only be tightened"
                )
        allowed = {(edge.edge, edge.plus, edge.minus): edge.maximum for edge in self.edges}
        for edge in other.edges:
            present = allowed.get((edge.edge, edge.plus, edge.minus), inf)
            if edge.maximum > present:
                unit = self.layout[edge.plus].quantity.value
                raise ConfigError(
                    f"edge {edge.edge!r}: {other.source or 'the file'} asks for a limit of {edge.maximum:g} {unit} across it, "
                    f"wider than {present:g} {unit}{self._where}; a limit can only be tightened"
                )
        return replace(
            other,
            source=" and ".join(name for name in (self.source, other.source) if name),
            edges=self.edges + other.edges,
            max_power=_tighter(self.max_power, other.max_power),
            max_dwell=_tighter(self.max_dwell, other.max_dwell),
        )


@dataclass(frozen=True)
class _Edges:
    """The edge limits as arrays (n_edges,); ``grounded``: no control at the minus end."""

    plus: NDArray[np.intp]
    minus: NDArray[np.intp]
    grounded: BoolArray
    limit: FloatArray
    finite: bool

    @classmethod
    def of(cls, envelope: SafetyEnvelope) -> "_Edges":
        layout, edges = envelope.layout, envelope.edges
        plus = layout.indices([edge.plus for edge in edges])
        minus = layout.indices([edge.minus or edge.plus for edge in edges])
        grounded = np.array([edge.minus is None for edge in edges], dtype=np.bool_)
        limit = np.array([edge.maximum for edge in edges], dtype=np.float64)
        return cls(plus, minus, grounded, limit, bool(np.isfinite(limit).any()))

    def difference(self, rows: FloatArray) -> FloatArray:
        """(n, n_edges) of (n, n_controls)."""
        difference: FloatArray = rows[:, self.plus] - np.where(self.grounded, 0.0, rows[:, self.minus])
        return difference


def uninterrupted(action: Callable[[], None]) -> None:
    """Do ``action``, which may be begun twice: a stop that comes meanwhile gets what is under way, and nobody asks twice."""
    try:
        action()
    except KeyboardInterrupt:
        action()


def _tighter(one: FloatArray | None, other: FloatArray | None) -> FloatArray | None:
    if one is None or other is None:
        return one if other is None else other
    return np.fmin(np.where(np.isnan(one), inf, one), np.where(np.isnan(other), inf, other))
