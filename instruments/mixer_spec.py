"""What a mixer is made of and what an exchange costs: plain data, for the drivers and for the plan of a protocol alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from instruments.fluid_roles import Syringe

SAME = 1e-4
"""Relative difference below which a reservoir has what is asked for; pumps are no better by an order of magnitude."""
TURN_LOOK = 0.2
"""s between two looks at a valve that turns."""


@dataclass(frozen=True, slots=True)
class Stock:
    """What one pump delivers: mol/m^3, the m^3 there are when the bench opens, and the syringe they are in."""

    pump: str
    concentration: float
    volume: float
    syringe: Syringe


@dataclass(frozen=True, slots=True)
class MixerSpec:
    """One mixer. ``outlets``: name -> position of ``valve``; ``closed``: the position that isolates every node; ``waste``: one
    that leads to an open outlet and to no node, which may be the same (None: there is none).

    ``flow`` (m^3/s) of both pumps together; ``volume`` (m^3) that one exchange takes; ``reservoir`` (m^3) at each node.
    ``book``: told what is left in the syringes (pump -> m^3), before it flows and when the pumps have counted; whatever it raises
    keeps an exchange from beginning.
    """

    name: str
    stocks: tuple[Stock, Stock]
    valve: str
    closed: int
    outlets: Mapping[str, int]
    flow: float
    volume: float
    reservoir: float
    book: Callable[[Mapping[str, float]], None] = lambda _left: None
    waste: int | None = None

    @property
    def seconds(self) -> float:
        """How long one exchange takes: the delivery, the last look at the pumps, and the valve's way there and back."""
        return self.volume / self.flow + 3.0 * TURN_LOOK

    def shares(self, level: float) -> list[tuple[Stock, float]]:
        """What part of an exchange each stock is, for a mixture of ``level`` mol/m^3; stocks that give next to nothing are left
        out."""
        low, high = self.stocks
        share = (level - low.concentration) / (high.concentration - low.concentration)
        return [(stock, part) for stock, part in ((low, 1.0 - share), (high, share)) if part > SAME]


def needs_exchange(present: float | None, level: float) -> bool:
    """Whether a reservoir that holds ``present`` (None: nobody knows) has to be given ``level``, mol/m^3."""
    return present is None or abs(present - level) > SAME * level
