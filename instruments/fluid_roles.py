"""What a bench needs of instruments that move liquids: roles beside those of ``roles.py``, as protocols and plain data.

Rates are m^3/s (positive: out of the instrument), volumes m^3, lengths m. Everything here may raise InstrumentError.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import NamedTuple, Protocol, runtime_checkable

from hil.core.clock import Clock
from hil.core.errors import InstrumentError

SHORT = 0.01
"""Share of a delivery that may be missing by the pump's own count."""
LOOK_EVERY = 0.05
"""s between two looks at a valve that turns."""


@dataclass(frozen=True, slots=True)
class Syringe:
    """What is clamped into a pump: inner diameter (m) and the volume it holds (m^3). A vessel has a diameter of 0."""

    diameter: float
    volume: float

    @property
    def area(self) -> float:
        """Cross-section, m^2."""
        return 0.25 * pi * self.diameter**2


class PumpState(NamedTuple):
    """What a pump says of itself: whether it moves, and what it counted since ``start``, m^3 (withdrawn is negative)."""

    running: bool
    delivered: float


@dataclass(frozen=True, slots=True)
class Course:
    """What a pump was told to do, between ``asked`` and ``told`` s of a clock: deliver ``volume`` m^3 at ``rate`` m^3/s.

    Two pumps of one mixture that do not keep to their rates mix something else at the end than what their volumes say.
    """

    rate: float
    volume: float
    asked: float
    told: float

    def left(self, delivered: float, asked: float, told: float) -> bool:
        """Whether it is too early or too late: it counted ``delivered`` m^3 at some moment between ``asked`` and ``told``."""
        least = min(self.rate * max(asked - self.told, 0.0), self.volume)
        most = min(self.rate * (told - self.asked), self.volume)
        return not least - 2.0 * SHORT * self.volume <= delivered <= most + 2.0 * SHORT * self.volume


@runtime_checkable
class Pump(Protocol):
    """A pump with a syringe."""

    def configure_pump(self, syringe: Syringe) -> Sequence[str]:
        """Tell a pump at rest its syringe; read back. Returns warnings."""
        ...

    def rate_span(self) -> tuple[float, float]:
        """Smallest and largest rate with this syringe, m^3/s."""
        ...

    def start(self, rate: float, volume: float | None = None) -> None:
        """Infuse (rate > 0) or withdraw (rate < 0); it stops by itself after ``volume`` m^3. Counting starts anew. Verified."""
        ...

    def stop(self) -> None:
        """Stop; verified. Fine for a pump at rest."""
        ...

    def pump_state(self) -> PumpState:
        """Ask the pump; InstrumentError in its own words where it is in alarm (stalled, restarted, silence too long)."""
        ...


@runtime_checkable
class SelectorValve(Protocol):
    """A valve that joins one line with one of several."""

    def positions(self) -> int:
        """How many positions it has; asks the valve."""
        ...

    def go(self, position: int) -> None:
        """Begin to turn to ``position`` (from 1) the short way; ConfigError if there is none."""
        ...

    def position_now(self) -> int | None:
        """Where it is; None while it turns."""
        ...


@runtime_checkable
class FlowController(Protocol):
    """An instrument that measures a flow and holds it at a set-point."""

    def full_scale(self) -> float:
        """Flow at 100 %, m^3/s; asks the instrument."""
        ...

    def set_flow(self, rate: float) -> None:
        """Set-point; read back."""
        ...

    def flow_now(self) -> float:
        """Measured flow, m^3/s."""
        ...

    def held(self) -> float:
        """Measured flow, m^3/s; InstrumentError where it is not what was set."""
        ...

    def stop(self) -> None:
        """Set-point 0; read back."""
        ...


def turn(valve: SelectorValve, position: int, clock: Clock, timeout: float = 10.0) -> None:
    """Turn ``valve`` and wait until it is there; InstrumentError after ``timeout`` s."""
    valve.go(position)
    deadline = clock.now() + timeout
    while valve.position_now() != position:
        if clock.now() >= deadline:
            raise InstrumentError(f"a valve did not reach position {position} within {timeout:g} s; look whether it is stuck")
        clock.sleep(LOOK_EVERY)
