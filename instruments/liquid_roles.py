"""What a bench needs of instruments that move liquids: a pump that delivers a volume, a valve that selects a line. SI.

Everything here may raise InstrumentError.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class Pump(Protocol):
    """A pump port that delivers what it is told and counts it."""

    def prepare(self) -> Sequence[str]:
        """Stopped, infusing, everything set that the station says (diameter of the syringe); read back. Returns warnings."""
        ...

    def dispense(self, rate: float, volume: float) -> None:
        """Begin to infuse ``volume`` m^3 at ``rate`` m^3/s; the count of what was delivered begins at 0; read back."""
        ...

    def running(self) -> bool:
        """Whether it infuses now. InstrumentError for an alarm (stalled, out of volume, reset, its watchdog)."""
        ...

    def delivered(self) -> float:
        """m^3 since the last ``dispense`` as the pump itself counts them."""
        ...

    def stop(self) -> None:
        """Stop; verified."""
        ...


@runtime_checkable
class Selector(Protocol):
    """A valve that joins its common line to one of its positions, counted from 1."""

    positions: int

    def go(self, position: int) -> None:
        """Turn, wait until it is there, verified."""
        ...

    def position(self) -> int:
        """Where it is."""
        ...
