"""What a bench allows, as data, and the one check every write passes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf

import numpy as np

from hil.core.errors import ConfigError, LimitExceededError
from hil.core.types import BoolArray, FloatArray, Layout


@dataclass(frozen=True, slots=True)
class EdgeLimit:
    """Largest |value at ``plus`` - value at ``minus``| (SI) allowed across one edge, e.g. of pressure.

    ``plus`` and ``minus`` name controls of one quantity; ``minus`` None means the common reference (0).
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
            layout, layout.array("minimum"), layout.array("maximum"), layout.array("max_slew"), tuple(edges), None, None, source
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
        for limit in self.edges:
            self._check_edge(limit, rows, connected)

    def _check_edge(self, limit: EdgeLimit, rows: FloatArray, connected: BoolArray | None) -> None:
        plus = self.layout.index(limit.plus)
        minus = None if limit.minus is None else self.layout.index(limit.minus)
        difference = rows[:, plus] - (0.0 if minus is None else rows[:, minus])
        if connected is not None:
            both = np.atleast_2d(connected)
            difference = np.where(both[:, plus] & (True if minus is None else both[:, minus]), difference, 0.0)
        worst = float(np.max(np.abs(difference), initial=0.0))
        # One rounding of the difference is no reason to refuse a value that stands exactly on the limit.
        if worst > limit.maximum * (1 + 1e-12):
            unit = self.layout[limit.plus].quantity.value
            raise LimitExceededError(
                f"edge {limit.edge!r}: {worst:g} {unit} between {limit.plus!r} and {limit.minus or 'the reference'!r} exceeds "
                f"its limit of {limit.maximum:g} {unit}{self._where}; nothing was applied"
            )

    @property
    def _where(self) -> str:
        return f" (set in {self.source})" if self.source else ""

    def ramp(self, start: FloatArray, stop: FloatArray, period: float) -> FloatArray:
        """Points from ``start`` (excluded) to ``stop`` (included), one every ``period`` seconds: (n, n_controls).

        All channels move together along a straight line, so that an edge limit which both ends keep is kept on the
        way (the set is convex); every point is checked all the same. ``start`` may lie outside (a measured value).
        """
        if not period > 0:
            raise ConfigError(f"a ramp needs a period above 0 s, not {period}")
        self.check(stop)
        change = np.abs(np.asarray(stop) - np.asarray(start))
        with np.errstate(invalid="ignore", divide="ignore"):
            steps = np.where(change > 0, change / (self.max_slew * period), 0.0)
        count = max(1, int(np.ceil(np.max(steps, initial=0.0) * (1 - 1e-12))))
        fractions = np.arange(1, count + 1) / count
        points: FloatArray = np.asarray(start) + fractions[:, None] * (np.asarray(stop) - np.asarray(start))
        points[-1] = stop
        for limit in self.edges:
            before = abs(
                start[self.layout.index(limit.plus)] - (0.0 if limit.minus is None else start[self.layout.index(limit.minus)])
            )
            self._check_edge(replace(limit, maximum=max(limit.maximum, before)), points, None)
        return points

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
        return replace(
            other,
            edges=self.edges + other.edges,
            max_power=_tighter(self.max_power, other.max_power),
            max_dwell=_tighter(self.max_dwell, other.max_dwell),
        )


def _tighter(one: FloatArray | None, other: FloatArray | None) -> FloatArray | None:
    if one is None or other is None:
        return one if other is None else other
    return np.fmin(np.where(np.isnan(one), inf, one), np.where(np.isnan(other), inf, other))
