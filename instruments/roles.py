"""What a bench needs of an instrument: the roles a driver plays, as protocols and plain data.

A driver's *port* (a QCoDeS submodule such as ``smu.smua``, or the instrument itself) can be a Source, a Meter, or both.
The *instrument* moves all its sources in one message and reads all its meters in one transfer, because round trips cost.
Values are SI. Everything here may raise InstrumentError.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from hil.core.types import BoolArray, FloatArray, Quantity, SafeAction
from instruments.wiring import Setting

OVERFLOW = 9.8e37
"""|x| at or above this is no reading: 9.91e37 is not-a-number, ±9.9e37 infinity."""


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """How a source will be used: span of its levels, compliance (A), greatest slew (per s), its settings."""

    quantity: Quantity
    minimum: float
    maximum: float
    compliance: float | None
    slew: float
    settings: Mapping[str, Setting] = field(default_factory=dict)


class SourceState(NamedTuple):
    """What the instrument itself says: programmed level, level measured now (NaN if it cannot), output on."""

    level: float
    actual: float
    on: bool


class Condition(NamedTuple):
    """One look at a source that is on: level read back, output still on, in limits (reached, and not at compliance)."""

    level: float
    on: bool
    in_limits: bool


class Delivery(NamedTuple):
    """What a source that is on really delivers: measured level, how far it may be from its set-point by the data sheets,
    output still on, at its compliance."""

    actual: float
    allowed: float
    on: bool
    limited: bool


class Acquired(NamedTuple):
    """Readings of some terminals: values and overload, (samples, n). A value in overload may be NaN."""

    values: FloatArray
    overload: BoolArray

    @classmethod
    def of(cls, values: FloatArray, overload: BoolArray | bool = False) -> "Acquired":
        """``values`` (samples, n) as an instrument sent them: what stands for an overflow becomes NaN, in overload."""
        lost: BoolArray = ~(np.abs(values) < OVERFLOW)
        return cls(np.where(lost, np.nan, values), lost | overload)

    @classmethod
    def joined(cls, parts: Sequence["Acquired"]) -> "Acquired":
        """Readings that were taken one after the other."""
        return cls(np.concatenate([one.values for one in parts]), np.concatenate([one.overload for one in parts]))


@runtime_checkable
class Source(Protocol):
    """A port that can be driven."""

    def source_quantities(self) -> Mapping[str, Quantity]:
        """Parameter name -> quantity that can be driven."""
        ...

    def configure_source(self, plan: SourcePlan) -> Sequence[str]:
        """Prepare with the output off: range locked to the span, compliance set and read back. Returns warnings."""
        ...

    def source_state(self) -> SourceState:
        """Ask the instrument."""
        ...

    def enable(self, level: float) -> None:
        """Output on at ``level``; verified."""
        ...

    def disable(self, action: SafeAction) -> None:
        """Leave the terminal alone in the way ``action`` says; verified."""
        ...


@runtime_checkable
class Telling(Protocol):
    """A port that tells what it holds before anything is set."""

    def held(self) -> Mapping[str, float | str]:
        """Present settings, SI, by the words of the bench file (range, slew, off_mode, unit); asks, and writes nothing."""
        ...


@runtime_checkable
class SourceInstrument(Protocol):
    """An instrument with sources."""

    def level_writer(self, ports: Sequence[str]) -> Callable[[Sequence[float]], None]:
        """A function that sets the levels of ``ports`` in as few messages as can be and polls the error queue."""
        ...

    def condition_reader(self, ports: Sequence[str]) -> Callable[[], list[Condition]]:
        """A function that looks at ``ports``."""
        ...


@runtime_checkable
class VerifiableSource(Protocol):
    """An instrument that measures what its sources deliver."""

    def delivery_reader(self, ports: Sequence[str]) -> Callable[[], list[Delivery]]:
        """A function that measures at ``ports``, and fails if the instrument has lost its settings."""
        ...


@runtime_checkable
class Meter(Protocol):
    """A port that can be read."""

    def meter_quantities(self) -> Mapping[str, Quantity]:
        """Parameter name -> quantity that can be read."""
        ...

    def configure_meter(self, parameter: str, settings: Mapping[str, Setting]) -> Sequence[str]:
        """Range, integration time and the like; no output is touched. Returns warnings."""
        ...


@runtime_checkable
class MeterInstrument(Protocol):
    """An instrument with meters. ``simultaneous`` tells whether all its ports are read at one moment."""

    simultaneous: bool

    def acquisition(self, terminals: Sequence[tuple[str, str]]) -> Callable[[int], Acquired]:
        """A function that takes ``n`` samples of all (port, parameter) in one transfer."""
        ...


@runtime_checkable
class ListInstrument(Protocol):
    """An instrument that runs a list of levels by itself and sends all readings in one transfer."""

    def list_acquisition(
        self, ports: Sequence[str], terminals: Sequence[tuple[str, str]], dwell: float
    ) -> tuple[Callable[[FloatArray, int, bool], Acquired], Callable[[int], float]]:
        """A function (levels (n, n_ports), samples, home) that sets the levels of ``ports``, waits ``dwell`` s and takes
        samples of all (port, parameter) at every point, (n * samples, n_terminals); it ends at level 0 if ``home``. And the
        seconds one point takes, by samples."""
        ...


@runtime_checkable
class SwitchMatrix(Protocol):
    """An instrument whose crosspoints connect a meter with one of several nodes."""

    @classmethod
    def check_crosspoint(cls, crosspoint: str) -> None:
        """ConfigError unless there is such a crosspoint."""
        ...

    def switch(self, open_: Sequence[str], close: Sequence[str]) -> None:
        """Open ``open_``, then close ``close``; verified. Nothing moves where everything stands right already."""
        ...

    def require_closed(self, crosspoint: str) -> None:
        """InstrumentError where ``crosspoint`` is open, although it was closed for a reading."""
        ...


@runtime_checkable
class Identified(Protocol):
    """What every driver of this package has."""

    def identity(self) -> str:
        """The verified reply to the identity query."""
        ...

    def errors(self) -> list[str]:
        """Take everything out of the error queue; empty if there was nothing."""
        ...

    def port(self, name: str) -> Any:
        """The port of that name ("" is the instrument itself); ConfigError if there is none."""
        ...

    def settings(self) -> Mapping[str, object]:
        """JSON: ranges, integration times, limits as last set and read back; sends nothing."""
        ...


@runtime_checkable
class Recoverable(Protocol):
    """A driver that overcomes troubles of its link, and notices an instrument that has lost its settings."""

    session: Any
    """Has ``notice``, which is told a sentence about every trouble overcome."""

    def require_settings_kept(self) -> None:
        """InstrumentError if the instrument has been switched off and on since it was configured."""
        ...

    def forget(self) -> None:
        """What is believed of the instrument's state is no longer believed."""
        ...


@runtime_checkable
class PressurePort(Source, Protocol):
    """A source of pressure: slews by itself, and can vent."""

    def set_slew(self, pascal_per_second: float) -> None:
        """How fast the controller moves from now on; read back."""
        ...

    def pressure_now(self) -> float:
        """Measured pressure, Pa, in the same reference as the set-point."""
        ...

    def vented(self) -> bool:
        """Whether a vent has ended."""
        ...
