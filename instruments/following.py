"""Pressures that share a limited difference follow their set-points, or nobody goes on: judged by what the controllers measure.

A ramp keeps a limit between set-points. A controller that sticks, leaks or has no supply stands elsewhere, and the others would
leave it behind.
"""

from collections.abc import Callable, Sequence

import numpy as np

from hil.core.clock import Clock
from hil.core.errors import LimitExceededError
from hil.core.safety import SafetyEnvelope
from hil.core.types import FloatArray, Quantity
from instruments.terminals import Drive, Movers, Output, look_at

PATIENCE = 10.0
"""s that a controller may take to follow one step of a ramp."""


class Following:
    """Compares measured pressures with limits of their differences. ``period``: s between two looks at one who is late.

    ``watch``: is told the time (s of the clock) at every look of a wait, and raises where the bench does not permit to go on.
    """

    def __init__(
        self, envelope: SafetyEnvelope, clock: Clock, period: float, watch: Callable[[float], None] = lambda _: None
    ) -> None:
        self._envelope, self._clock, self._period, self._watch = envelope, clock, period, watch
        pressures = {channel.name for channel in envelope.layout.of(Quantity.PRESSURE)}
        self.needed = any(
            np.isfinite(edge.maximum) and edge.plus in pressures and (edge.minus is None or edge.minus in pressures)
            for edge in envelope.edges
        )
        """Whether any difference of pressures is limited."""

    def wait(self, drives: Sequence[Drive], coming: FloatArray, movers: Movers) -> float:
        """Wait until the drives of a replica are near enough for ``coming`` (n_controls,), their next set-points; s it took.

        Nobody is looked at who is near enough wherever between its last look and its last set-point. LimitExceededError naming
        the edge and who does not follow.
        """
        if not self.needed or not self._ahead(drives, coming):
            return 0.0
        begun = self._clock.now()
        while True:
            self._look(drives, movers)
            found = self._ahead(drives, coming)
            now = self._clock.now()
            if not found:
                return now - begun
            if now >= begun + PATIENCE:
                raise LimitExceededError(f"{found}; nothing was sent beyond it, look at the controllers, supplies and leaks")
            self._watch(now)
            self._clock.sleep(self._period)

    def check(self, drives: Sequence[Drive], movers: Movers) -> None:
        """LimitExceededError where pressures that stand have drifted apart; looks at them."""
        if self.needed:
            self._look(drives, movers)
            found = self._ahead(drives, np.array([drive.level for drive in drives]))
            if found:
                raise LimitExceededError(f"{found}; look at the controllers, supplies and leaks")

    @staticmethod
    def _look(drives: Sequence[Drive], movers: Movers) -> None:
        look_at([drive for drive in drives if drive.is_pressure and drive.output is Output.ON], movers)

    def _ahead(self, drives: Sequence[Drive], coming: FloatArray) -> str:
        active = np.array([drive.is_pressure and drive.output is Output.ON for drive in drives], dtype=np.bool_)
        low, high = (
            np.where(active, values, np.nan) for values in zip(*((one.lowest, one.highest) for one in drives), strict=True)
        )
        bands = np.array([_band(drive) for drive in drives])
        edge = self._envelope.exceeded_on_the_way(low, high, np.where(active, coming, np.nan), bands)
        if edge is None:
            return ""
        stand = " and ".join(
            f"{drive.channel.name!r} stands at {drive.lowest:g} Pa"
            for drive in drives
            if drive.channel.name in (edge.plus, edge.minus)
        )
        where = f" (set in {self._envelope.source})" if self._envelope.source else ""
        return f"edge {edge.edge!r}: {stand}, and the difference would exceed its limit of {edge.maximum:g} Pa{where}"


def _band(drive: Drive) -> float:
    """Pa by which a pressure that has arrived may be off."""
    told = drive.plan.settings.get("in_limits")
    return float(told) if isinstance(told, int | float) else drive.channel.resolution
