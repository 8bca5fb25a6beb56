"""Electrodes at the sources of a bench file: what they are made of decides what they bear. SI once read.

A silver chloride electrode makes or takes an ion for every elementary charge. An inert one (platinum, gold, carbon) does not:
its double layer is charged like a capacitor until something else reacts, so that its interfacial voltage is what has passed
over what it holds per volt, and at the most all that is applied.
"""

from typing import Annotated, Self

from pydantic import model_validator

from hil.experiment.fields import Strict, choice, quantity, refuse


class Electrode(Strict):
    """``limit`` (V) of the interfacial voltage of an inert electrode, ``capacitance`` (F) of its double layer (about 0.2 F per
    square metre of wetted surface); ``reservoir`` (m^3) of liquid at a silver chloride one that no mixer exchanges; ``charge``
    (C) that has passed it when a run begins, within ``unsure`` (C)."""

    kind: Annotated[str, choice("silver_chloride", "inert")]
    limit: Annotated[float, quantity("V", above=0.0)] | None = None
    capacitance: Annotated[float, quantity("F", above=0.0)] | None = None
    reservoir: Annotated[float, quantity("m^3", above=0.0)] | None = None
    charge: Annotated[float, quantity("C")] = 0.0
    unsure: Annotated[float, quantity("C", minimum=0.0)] = 0.0

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "inert" and self.limit is None:
            refuse("an inert electrode needs a `limit` of its interfacial voltage, for example '0.5 V'", "limit")
        if self.kind != "inert" and (self.limit is not None or self.capacitance is not None):
            refuse("only an inert electrode has a limit and a capacitance; remove them", "kind")
        if self.kind == "inert" and self.reservoir is not None:
            refuse("an inert electrode takes no salt from its reservoir; remove it", "reservoir")
        if (self.charge or self.unsure) and self.capacitance is None and self.reservoir is None:
            refuse("a charge means nothing without the `capacitance` that it is on, or the `reservoir` it went into", "charge")
        return self
