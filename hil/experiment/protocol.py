"""The part of a protocol file that every procedure shares; a procedure's ``Settings`` derive from ``Protocol``."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from hil.core.types import Quantity, SettlePolicy
from hil.experiment.fields import (
    AnyQuantity,
    AsTuple,
    FieldError,
    Given,
    Name,
    Seconds,
    Strict,
    one_given,
    quantity,
    refuse,
    unknown,
)
from hil.experiment.units import parse

_READ = {"voltage": Quantity.VOLTAGE, "current": Quantity.CURRENT}
"""What outputs read, by the word for it in a tolerance."""


def _tolerances(value: object) -> Given | dict[Quantity, float]:
    if not isinstance(value, Mapping):
        return one_given(value)
    found = {}
    for name, text in value.items():
        if name not in _READ:
            refuse(unknown("quantity of an output", str(name), list(_READ)), str(name))
        found[_READ[name]] = parse(text, _READ[name].value)
        if not found[_READ[name]] > 0.0:
            refuse(f"{text!r} must be above 0", str(name))
    return found


class Settle(Strict):
    """When outputs count as steady; see ``hil.core.types.SettlePolicy``.

    ``tolerance``: for outputs in its unit, others are not judged; or one for ``voltage`` and one for ``current``.
    """

    tolerance: Annotated[Given | dict[Quantity, float], BeforeValidator(_tolerances)] = Given("0.1 mV")
    window: Seconds = 0.02
    timeout: Seconds = 60.0
    dwell: Seconds | None = None

    @model_validator(mode="after")
    def _window_fits(self) -> "Settle":
        if not self.window < self.timeout:
            refuse(f"{self.window:g} s do not fit into the `timeout` of {self.timeout:g} s; make that one longer", "window")
        return self

    def policy(self, unit: str) -> SettlePolicy:
        """SI policy for outputs measured in ``unit``; FieldError when there is no tolerance for them, one in another unit, or
        one that nothing can keep."""
        main = Quantity(unit)
        if isinstance(self.tolerance, Given):
            tolerance = self.tolerance.si(unit, "settle.tolerance")
            if not tolerance > 0.0:
                raise FieldError(f"'{self.tolerance}' must be above 0", "settle.tolerance")
            return SettlePolicy(tolerance, self.window, self.timeout, self.dwell, main)
        if main not in self.tolerance:
            raise FieldError(f"add `{main.name.lower()}: …`, for outputs that are read in {unit}", "settle.tolerance")
        also = tuple((quantity, value) for quantity, value in self.tolerance.items() if quantity is not main)
        return SettlePolicy(self.tolerance[main], self.window, self.timeout, self.dwell, main, also)


class Tighter(Strict):
    """Limits of one control that are tighter than the bench file's; what is not given stays. Units as in the bench file."""

    limits: Annotated[tuple[AnyQuantity, AnyQuantity], AsTuple] | None = None
    slew: AnyQuantity | None = None
    power: AnyQuantity | None = None
    dwell: AnyQuantity | None = None


class TighterEdge(Strict):
    """Differences across one edge that are smaller than the bench file's."""

    voltage: Annotated[float, quantity("V", above=0.0)] | None = None
    pressure: Annotated[float, quantity("Pa", above=0.0)] | None = None


class Protocol(Strict):
    """Fields of every protocol file.

    ``bench`` is a path beside the protocol file (or the name of a shipped bench); ``aliases`` are short names for
    ``--set``, such as ``mismatch: bench.virtual.plant.mismatch``; ``samples`` readings are averaged per stimulus;
    ``hold`` is how long the set-points are kept after a run that ended by itself, before the safe state (0: not at all).
    ``limits`` and ``edge_limits`` tighten those of the bench file; they cannot widen them.
    A control that a procedure does not mention rests at its ``Channel.safe.value``: 0 V, the ambient pressure and salt of
    its node, the length or radius ratio the twin was described with.
    """

    format: Literal["hil-protocol/1"]
    procedure: str
    title: str = ""
    bench: str
    aliases: dict[Name, str] = Field(default_factory=dict)
    settle: Settle = Field(default_factory=Settle)
    limits: dict[Name, Tighter] = Field(default_factory=dict)
    edge_limits: dict[Name, TighterEdge] = Field(default_factory=dict)
    samples: Annotated[int, Field(ge=1, le=100_000)] = 1
    seed: Annotated[int, Field(ge=0)] = 0
    hold: Seconds = 0.0

    def tuned_as(self) -> dict[str, str]:
        """Which parameter of the device law a family of tunable channels sets, where the bench file leaves a choice.

        For example {"radius_ratio": "radius_ratio_fixed_tip"}: channels ``radius_ratio.EDGE`` keep the tip radius.
        """
        return {}

    def for_bench(self) -> Mapping[str, str]:
        """Fields of the bench file (dotted path -> YAML value) that follow from this protocol; ``--set bench.…`` goes before."""
        return {}
