"""Mixers of a bench file: which pumps hold which stocks, which valve leads where, how much one exchange takes. SI once read."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from hil.experiment.fields import Concentration, Name, Positive, Strict, quantity, refuse

Metres = Annotated[float, quantity("m", above=0.0)]
Volume = Annotated[float, quantity("m^3", above=0.0)]
Flow = Annotated[float, quantity("m^3/s", above=0.0)]
Position = Annotated[int, Field(ge=1)]


class SyringeModel(Strict):
    """What is clamped into a pump: inner ``diameter``, and the ``volume`` it can hold. Of a flow controller it is the vessel that
    it draws from, whose diameter does not matter."""

    diameter: Metres | None = None
    volume: Volume


class StockModel(Strict):
    """What one pump delivers, and how much of it is in its syringe when a run begins.

    ``supply``: all that has been prepared, with what is in the syringe; without it there is nothing to refill from.
    """

    concentration: Concentration
    volume: Volume
    syringe: SyringeModel
    supply: Volume | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.volume > self.syringe.volume:
            refuse(f"the syringe holds {1e6 * self.syringe.volume:g} mL, not {1e6 * self.volume:g} mL", "volume")
        if self.supply is not None and self.supply < self.volume:
            refuse(f"all that there is cannot be less than the {1e6 * self.volume:g} mL in the syringe", "supply")
        return self

    @property
    def available(self) -> float:
        """What there is in all, refills included, m^3."""
        return self.volume if self.supply is None else self.supply


class LineModel(Strict):
    """The tube from the valve to a node."""

    length: Metres
    bore: Metres

    @property
    def volume(self) -> float:
        """What it holds, m^3."""
        return 0.25 * 3.141592653589793 * self.bore**2 * self.length


class MixerModel(Strict):
    """Two pumps, one valve. ``outlets``: name -> position of the valve; ``closed``: the position that isolates every node.

    ``waste``: a position that leads to an open outlet and to no node, which may be ``closed``; without it ``closed`` may be shut.
    ``flow`` is that of both pumps together; ``reservoir`` the volume at each node, exchanged ``flush`` times over (what is left
    of the old concentration falls by e for each); ``dead_volume`` from where the stocks meet to the valve.
    """

    pumps: dict[Name, StockModel]
    valve: Name
    closed: Position
    waste: Position | None = None
    outlets: Annotated[dict[Name, Position], Field(min_length=1)]
    flow: Flow
    reservoir: Volume
    flush: Positive = 7.0
    dead_volume: Volume
    line: LineModel

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if len(self.pumps) != 2:
            refuse(f"a mixer has two pumps, not {len(self.pumps)}", "pumps")
        if len({stock.concentration for stock in self.pumps.values()}) == 1:
            refuse("both stocks have the same concentration, which mixes to nothing else", "pumps")
        if self.valve in self.pumps:
            refuse(f"{self.valve!r} is a pump of this mixer already", "valve")
        taken = [*{self.closed, self.waste}, *self.outlets.values()]
        for name, position in self.outlets.items():
            if taken.count(position) > 1:
                refuse(f"position {position} of the valve is used twice", f"outlets.{name}")
        return self

    @property
    def exchange(self) -> float:
        """Volume of one exchange, m^3: what stands in the lines, and what washes the reservoir."""
        return self.dead_volume + self.line.volume + self.flush * self.reservoir

    def most(self, low: float, high: float) -> dict[str, float]:
        """Pump -> the largest volume (m^3) that one exchange to a concentration from ``low`` to ``high`` mol/m^3 takes of it."""
        (weak, thin), (strong, thick) = sorted(
            ((pump, stock.concentration) for pump, stock in self.pumps.items()), key=lambda pair: pair[1]
        )
        return {weak: self.exchange * (thick - low) / (thick - thin), strong: self.exchange * (high - thin) / (thick - thin)}

    def span(self) -> tuple[float, float]:
        """What the stocks can mix, mol/m^3."""
        concentrations = [stock.concentration for stock in self.pumps.values()]
        return min(concentrations), max(concentrations)
