"""What an emulated instrument sees of the plant: terminals, pressure outlets, liquid lines, valves, and time.

Signs: a current is positive when it flows out of the terminal into the node. Volts, amperes, ohms, pascals, cubic
metres, seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, Protocol

from simulated_backend.virtual_bench.faults import OutputStage


@dataclass(frozen=True, slots=True)
class Open:
    """The terminal is disconnected inside the instrument; only its load (input resistance, bias current) remains."""


@dataclass(frozen=True, slots=True)
class VoltageSource:
    """Holds ``level`` V as long as the current stays within ±``current_limit`` A; beyond, it is a current source there.

    ``output_resistance`` is in series with the terminal (ohm).
    """

    level: float
    current_limit: float = inf
    output_resistance: float = 0.0


@dataclass(frozen=True, slots=True)
class CurrentSource:
    """Drives ``level`` A as long as the voltage stays within ±``voltage_limit`` V; beyond, it is a voltage source there."""

    level: float
    voltage_limit: float = inf


Source = Open | VoltageSource | CurrentSource


class Sample(NamedTuple):
    """True means over one aperture at one terminal: V, A, and whether its source was at its limit at the end."""

    voltage: float
    current: float
    limited: bool


class ElectricalPort(Protocol):
    """One terminal (against the bench's common low). Unwired terminals exist too: nothing is connected to them."""

    stage: OutputStage
    """What a source's last stage makes of a level, while its output is on."""

    @property
    def wired(self) -> bool:
        """Whether something is connected to the terminal."""
        ...

    def set_source(self, source: Source) -> None:
        """What the terminal does to its node from now on."""
        ...

    def set_load(self, input_resistance: float, bias_current: float) -> None:
        """Physics of the terminal, present whatever the source does: ohm to low, and A out of it (inf, 0: ideal)."""
        ...


class PressurePort(Protocol):
    """One outlet of a pressure controller. Pressures are absolute."""

    def set_target(self, pascal: float | None, slew: float) -> None:
        """Control towards ``pascal`` at ``slew`` Pa/s (inf: as fast as the pneumatics go); None vents to the atmosphere."""
        ...

    def hold(self) -> None:
        """Stop controlling and shut the valves: the pressure stays where it is."""
        ...

    def set_stability(self, deviation: float, correlation_time: float) -> None:
        """Standard deviation (Pa) and correlation time (s) of the controlled pressure about its target."""
        ...

    def pressure(self) -> float:
        """True pressure at the outlet now, Pa."""
        ...


class FlowPort(Protocol):
    """The fluid connection of a pump or of a flow controller. Flow is positive out of the instrument."""

    def set_flow(self, rate: float, most: float = inf) -> None:
        """Deliver ``rate`` m^3/s from now on, and stop by itself once ``most`` m^3 have passed since now (its absolute value).

        Everything that ends a flow between two messages (a target, an empty syringe, a watchdog) is said through ``most``.
        """
        ...

    def flow(self) -> float:
        """True flow now, m^3/s; 0 if the line is blocked or the volume has been delivered."""
        ...

    def delivered(self) -> float:
        """True net volume that has left the instrument since it was switched on, m^3."""
        ...


class ValvePort(Protocol):
    """The rotor of a selector valve: one common line joined to one of its positions, counted from 1."""

    def set_position(self, position: int, travel: float) -> None:
        """Turn; the common line is shut for ``travel`` s and joined to ``position`` afterwards."""
        ...

    def position(self) -> int | None:
        """Where it is; None while it turns."""
        ...


class PlantTime(Protocol):
    """Time as the instruments live it."""

    def now(self) -> float:
        """Seconds since the bench was switched on."""
        ...

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass before the caller goes on: steps the plant, or waits in real time."""
        ...


class PlantView(Protocol):
    """All that an emulator knows of the world."""

    @property
    def clock(self) -> PlantTime:
        """Time."""
        ...

    @property
    def ideal(self) -> bool:
        """True: instruments have no noise, no offset, no load; range and resolution stay."""
        ...

    @property
    def atmosphere(self) -> float:
        """Absolute pressure of the laboratory, Pa."""
        ...

    def electrical(self, instrument: str, port: str) -> ElectricalPort:
        """The terminal ``port``; the same object every time. Ask for every terminal in the constructor."""
        ...

    def pneumatic(self, instrument: str, port: str) -> PressurePort:
        """The pressure outlet ``port``; the same object every time. Ask for every outlet in the constructor."""
        ...

    def flow(self, instrument: str, port: str) -> FlowPort:
        """The fluid connection ``port``; the same object every time. Ask for every connection in the constructor."""
        ...

    def valve(self, instrument: str, port: str) -> ValvePort:
        """The rotor ``port``; the same object every time. Ask for every rotor in the constructor."""
        ...

    def route(self, instrument: str, crosspoint: str, closed: bool) -> None:
        """A crosspoint of the switch matrix ``instrument`` has closed or opened."""
        ...

    def observe(self, ports: Sequence[ElectricalPort], aperture: float, count: int = 1) -> list[tuple[Sample, ...]]:
        """Mean values over ``count`` consecutive apertures of ``aperture`` s at all ``ports`` together.

        Returns ``count`` rows with one Sample per port; ``count * aperture`` seconds pass. An aperture of 0 looks at this moment.
        """
        ...
