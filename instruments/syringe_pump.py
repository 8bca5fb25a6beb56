"""What syringe pumps share: the syringe they were told of, the rates it allows, and what they count."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

from qcodes.parameters import Parameter

from hil.core.errors import ConfigError
from instruments.base import BenchInstrument, UnheardError
from instruments.fluid_roles import PumpState, Syringe

T = TypeVar("T")


class SyringePump(BenchInstrument):
    """One syringe. A model says how it is told the syringe, how it starts and stops, and how it counts."""

    slowest: ClassVar[float]
    fastest: ClassVar[float]
    """m/s: speeds of the plunger (data sheet)."""
    answers = True

    def __init__(self, name: str, address: str | None = None, **options: Any) -> None:
        super().__init__(name, address, **options)
        self._syringe: Syringe | None = None
        self._under_way = False
        self.delivered: Parameter[float, Any] = self.add_parameter(
            "delivered",
            label="Volume since start",
            unit="m^3",
            get_cmd=lambda: self.pump_state().delivered,
            docstring="counted by the pump; what was withdrawn is negative",
        )
        self.running: Parameter[int, Any] = self.add_parameter(
            "running", label="Plunger moves", get_cmd=lambda: int(self.pump_state().running)
        )

    @abstractmethod
    def pump_state(self) -> PumpState:
        """See ``fluid_roles.Pump``."""

    @abstractmethod
    def configure_pump(self, syringe: Syringe) -> Sequence[str]:
        """See ``fluid_roles.Pump``; ends with ``_keep_syringe``."""

    def rate_span(self) -> tuple[float, float]:
        """From the speeds of the plunger; ConfigError before a syringe was named."""
        if self._syringe is None:
            raise ConfigError(f"pump {self.name!r} does not know its syringe yet; configure it first")
        return self.slowest * self._syringe.area, self.fastest * self._syringe.area

    def _begun(self, run: Callable[[], T]) -> T | None:
        """What ``run`` brings, which starts the pump and is sent once: by the time its reply is missed a dose may have ended.

        Without a reply the pump is looked at. Only one that stands still and has counted nothing since its counters were cleared
        is told again, once. None: it was obeyed, and its reply was lost.
        """
        try:
            return run()
        except UnheardError:
            state = self.pump_state()
            begun = state.running or state.delivered != 0.0
            what = "was obeyed, although no reply came" if begun else "was repeated, because the pump had not heard it"
            self._session.notice(f"instrument {self.name!r}: starting {what}")
            return None if begun else run()

    def _keep_syringe(self, syringe: Syringe) -> None:
        """Remember the syringe that the pump has been told of, and the rates it allows."""
        self._syringe = syringe
        low, high = self.rate_span()
        self.note(diameter_m=syringe.diameter, syringe_m3=syringe.volume, slowest_m3_per_s=low, fastest_m3_per_s=high)

    def _require_rate(self, rate: float) -> None:
        """ConfigError for a rate, m^3/s of either sign, that the pump cannot do with its syringe."""
        low, high = self.rate_span()
        if not low <= abs(rate) <= high:
            raise ConfigError(
                f"pump {self.name!r} cannot do {rate:g} m^3/s with this syringe: between {low:g} and {high:g}; "
                "choose another syringe or rate"
            )
