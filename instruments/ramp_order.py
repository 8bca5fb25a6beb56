"""Which controls move first: groups in a declared order on the way up, in reverse order on the way down."""

from collections.abc import Sequence

import numpy as np

from hil.core.errors import ConfigError
from hil.core.safety import SafetyEnvelope
from hil.core.types import BoolArray, FloatArray
from instruments.coupled import linked


def groups_of(order: Sequence[Sequence[str]], envelope: SafetyEnvelope) -> list[list[int]]:
    """``order`` (names of controls) as positions; controls it does not name move last, together. [] for no order.

    Raises ConfigError for an unknown or repeated name, and for controls in different groups whose difference is limited, or
    whose pressures share a channel: they move together.
    """
    if not order:
        return []
    layout = envelope.layout
    groups = [[layout.index(name) for name in group] for group in order]
    named = [position for group in groups for position in group]
    for position in named:
        if named.count(position) > 1:
            raise ConfigError(f"ramp_order names {layout.names[position]!r} twice")
    rest = [position for position in range(len(layout)) if position not in named]
    if rest:
        groups.append(rest)
    for together in linked(layout.names, [(edge.plus, edge.minus) for edge in envelope.edges if edge.minus is not None]):
        places = {k for k, group in enumerate(groups) for name in together if layout.index(name) in group}
        if len(places) > 1:
            raise ConfigError(
                f"ramp_order takes {', '.join(map(repr, together))} apart, but they share channels or a limit of their "
                "difference; keep them in one group"
            )
    return groups


def ordered_ramp(
    envelope: SafetyEnvelope,
    start: FloatArray,
    stop: FloatArray,
    period: float,
    groups: Sequence[Sequence[int]],
    connected: BoolArray | None = None,
) -> FloatArray:
    """Points of the way from ``start`` to ``stop``, as ``SafetyEnvelope.ramp`` gives them, one group after the other.

    First what comes nearer to its safe value, last group first; then what goes away from it, first group first. Every corner
    is checked like any other value. A ``start`` outside the limits is left by all together, on the straight way.
    """
    inside = bool(np.all((start >= envelope.minimum) & (start <= envelope.maximum)))
    if len(groups) < 2 or not inside:
        return envelope.ramp(start, stop, period, connected)
    safe = np.array([channel.safe.value for channel in envelope.layout])
    down = np.abs(stop - safe) < np.abs(start - safe)
    corners: list[FloatArray] = []
    for positions, wanted in [*((group, True) for group in reversed(groups)), *((group, False) for group in groups)]:
        corner = (corners[-1] if corners else start).copy()
        chosen = [position for position in positions if down[position] == wanted]
        corner[chosen] = stop[chosen]
        corners.append(corner)
    points, here = [], start
    for corner in corners:
        if np.any(corner != here):
            points.append(envelope.ramp(here, corner, period, connected))
            here = corner
    return np.concatenate(points) if points else envelope.ramp(start, stop, period, connected)
