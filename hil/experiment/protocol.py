"""The part of a protocol file that every procedure shares; a procedure's ``Settings`` derive from ``Protocol``."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from hil.core.types import Quantity, SettlePolicy
from hil.experiment.fields import AnyQuantity, AsTuple, Given, Name, Seconds, Strict, quantity


class Settle(Strict):
    """When outputs count as steady; see ``hil.core.types.SettlePolicy``. Outputs in the unit of ``tolerance`` are judged."""

    tolerance: AnyQuantity = Given("0.1 mV")
    window: Seconds = 0.02
    timeout: Seconds = 60.0
    dwell: Seconds | None = None

    def policy(self, unit: str) -> SettlePolicy:
        """SI policy for outputs measured in ``unit``; FieldError when the tolerance is in another unit."""
        return SettlePolicy(self.tolerance.si(unit, "settle.tolerance"), self.window, self.timeout, self.dwell, Quantity(unit))


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
