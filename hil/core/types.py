"""Value types that cross every border of the program: frozen, float64, SI, in a fixed channel order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.core.errors import ConfigError

FloatArray = NDArray[np.float64]
RealArray = NDArray[np.floating[Any]]
"""Single or double precision: for data sets large enough that it matters."""
BoolArray = NDArray[np.bool_]


class Quantity(StrEnum):
    """Physical quantity of a channel; the value is its SI unit."""

    VOLTAGE = "V"
    CURRENT = "A"
    PRESSURE = "Pa"
    CONCENTRATION = "mol/m^3"
    LENGTH = "m"
    RATIO = "1"
    CONDUCTANCE = "S"


class Kind(StrEnum):
    """What a channel is: driven from outside, an edge property that can be set, or read."""

    DRIVE = "drive"
    TUNE = "tune"
    SENSE = "sense"


class SafeAction(StrEnum):
    """How a channel is left alone."""

    LEVEL = "level"
    HIGH_IMPEDANCE = "high_impedance"
    VENT = "vent"
    STOP = "stop"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class SafeState:
    """The state a channel is left in; ``value`` (SI) is used by ``LEVEL`` only."""

    action: SafeAction = SafeAction.LEVEL
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Channel:
    """One control or output. All numbers are SI; slews are per second, ``dead_time`` in seconds.

    ``max_power`` (W) may flow into the network at this channel; ``max_dwell`` (s) it may stay away from its safe state.
    ``node`` or ``edge`` says where it acts; ``parameter`` which property of the edge a TUNE channel sets.
    """

    name: str
    quantity: Quantity
    kind: Kind
    minimum: float = -inf
    maximum: float = inf
    resolution: float = 0.0
    max_slew: float = inf
    emergency_slew: float = inf
    dead_time: float = 0.0
    safe: SafeState = field(default_factory=SafeState)
    node: str | None = None
    edge: str | None = None
    parameter: str | None = None
    max_power: float = inf
    max_dwell: float = inf


@dataclass(frozen=True)
class Layout:
    """The fixed order of channels: position ``i`` of every array belongs to ``channels[i]``."""

    channels: tuple[Channel, ...]

    def __post_init__(self) -> None:
        names = [channel.name for channel in self.channels]
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if twice:
            raise ConfigError(f"channel {twice[0]!r} is declared twice; give every channel a name of its own")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Channel names in order."""
        return tuple(channel.name for channel in self.channels)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.names)}

    def index(self, name: str) -> int:
        """Position of channel ``name``; ConfigError names the channels there are."""
        try:
            return self._positions[name]
        except KeyError:
            known = ", ".join(self.names) or "none"
            raise ConfigError(f"there is no channel {name!r}; channels: {known}") from None

    def indices(self, names: Sequence[str]) -> NDArray[np.intp]:
        """Positions of several channels, (n,)."""
        return np.array([self.index(name) for name in names], dtype=np.intp)

    def of(self, quantity: Quantity) -> tuple[Channel, ...]:
        """All channels of one quantity, in order."""
        return tuple(channel for channel in self.channels if channel.quantity is quantity)

    def array(self, attribute: str) -> FloatArray:
        """One numeric attribute of all channels, (n,)."""
        return np.array([getattr(channel, attribute) for channel in self.channels], dtype=np.float64)

    def __getitem__(self, name: str) -> Channel:
        return self.channels[self.index(name)]

    def __contains__(self, name: object) -> bool:
        return name in self._positions

    def __iter__(self) -> Iterator[Channel]:
        return iter(self.channels)

    def __len__(self) -> int:
        return len(self.channels)


@dataclass(frozen=True, slots=True)
class Stimulus:
    """One value for every control (SI); ``connected`` False leaves that channel at high impedance.

    values, connected: (n_controls,). A value is required (finite) even where the channel floats.
    """

    values: FloatArray
    connected: BoolArray

    @classmethod
    def of(cls, values: Sequence[float] | FloatArray, connected: Sequence[bool] | BoolArray | None = None) -> "Stimulus":
        """Build from any sequence; all channels connected unless said otherwise."""
        array = np.array(values, dtype=np.float64)
        mask = np.ones(array.shape, dtype=np.bool_) if connected is None else np.array(connected, dtype=np.bool_)
        return cls(array, mask)


@dataclass(frozen=True, slots=True)
class Waveform:
    """Piecewise-constant drive: segment ``k`` starts at ``times[k]`` (s, ascending, first 0).

    times: (n_segments,); values, connected: (n_segments, n_controls); ``end`` is when the last segment ends (s).
    """

    times: FloatArray
    values: FloatArray
    connected: BoolArray
    end: float


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of all outputs: values, std, overload (n_outputs,); ``time`` in seconds of the backend's clock.

    ``std`` is the standard error of ``values`` (0 where the backend is exact).
    """

    values: FloatArray
    std: FloatArray
    overload: BoolArray
    time: float


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings of n stimuli: values, std, overload (n, n_outputs), time (n,).

    ``replica``: name of the device that each row belongs to, where several identical ones were read at the same moment, one row
    each; empty where there is one device, or the first was read alone. ``std`` is nan where nothing tells it.
    """

    values: FloatArray
    std: FloatArray
    overload: BoolArray
    time: FloatArray
    replica: tuple[str, ...] = ()

    @classmethod
    def stack(cls, readings: Sequence[Reading]) -> "Readings":
        """Join single readings in order."""
        return cls(
            np.array([reading.values for reading in readings], dtype=np.float64),
            np.array([reading.std for reading in readings], dtype=np.float64),
            np.array([reading.overload for reading in readings], dtype=np.bool_),
            np.array([reading.time for reading in readings], dtype=np.float64),
        )

    @classmethod
    def joined(cls, parts: "Sequence[Readings]") -> "Readings":
        """Blocks in order, as one."""
        return cls(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.std for part in parts]),
            np.concatenate([part.overload for part in parts]),
            np.concatenate([part.time for part in parts]),
            tuple(name for part in parts for name in part.replica),
        )

    def part(self, rows: "slice | NDArray[np.intp]") -> "Readings":
        """Some of them."""
        replica = tuple(np.array(self.replica, dtype=object)[rows]) if self.replica else ()
        return Readings(self.values[rows], self.std[rows], self.overload[rows], self.time[rows], replica)

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True, slots=True)
class Trace:
    """Outputs sampled while a waveform played: times (n_samples,), values, overload (n_samples, n_outputs)."""

    times: FloatArray
    values: FloatArray
    overload: BoolArray


@dataclass(frozen=True, slots=True)
class SettlePolicy:
    """When outputs count as steady: all change by less than ``tolerance`` over ``window`` seconds, within ``timeout``.

    ``dwell`` is a fixed time per point (s) for sweeps that the hardware runs on its own; it is checked against the
    tolerance on the first and the last point. ``tolerance`` is in the SI unit of the outputs; with ``quantity`` it is for
    outputs of that quantity, because a tolerance in amperes says nothing about volts. ``also``: tolerances of other quantities,
    SI; outputs of a quantity with no tolerance are not judged.
    """

    tolerance: float = 1e-4
    window: float = 0.02
    timeout: float = 60.0
    dwell: float | None = None
    quantity: Quantity | None = None
    also: tuple[tuple[Quantity, float], ...] = ()

    def weight(self, channel: Channel) -> float:
        """What a change of an output is multiplied by to be compared with ``tolerance``; 0 where it is not judged."""
        if self.quantity is None or channel.quantity is self.quantity:
            return 1.0
        return self.tolerance / dict(self.also).get(channel.quantity, np.inf)

    def changes(self, outputs: Layout, differences: FloatArray) -> FloatArray:
        """Sizes of ``differences``, (..., n_replicas * n_outputs) in the order of ``outputs``, to be compared with ``tolerance``:
        those of other quantities as if they had it, and 0 where nothing is judged."""
        sizes: FloatArray = np.abs(differences)
        if self.quantity is None:
            return sizes
        weights = np.array([self.weight(channel) for channel in outputs])
        weights = np.tile(weights, sizes.shape[-1] // max(len(weights), 1))
        compared: FloatArray = np.multiply(sizes, weights, out=np.zeros_like(sizes), where=weights > 0.0)
        return compared


@dataclass(frozen=True, slots=True)
class SettleReport:
    """Outcome of settling: ``elapsed`` seconds, ``residual`` the last change over one window (see ``SettlePolicy.changes``), and
    of which output (the one that changed most, where the backend tells)."""

    settled: bool
    elapsed: float
    residual: float
    moved: Channel | None = None

    def trouble(self, policy: SettlePolicy) -> str:
        """What did not come to rest, by how much it moved and by how much it may, with units, and what to do."""
        unit = "" if self.moved is None else f" {self.moved.quantity.value}"
        name = "outputs" if self.moved is None else f"output {self.moved.name!r}"
        weight = (1.0 if self.moved is None else policy.weight(self.moved)) or 1.0
        far = f"by {self.residual / weight:.3g}{unit}" if np.isfinite(self.residual) else "into or out of overload"
        return (
            f"{name} still moved {far} in {policy.window:g} s after {self.elapsed:.3g} s "
            f"(tolerance {policy.tolerance / weight:g}{unit}); "
            "allow a longer `settle.timeout` or a wider `settle.tolerance`"
        )


class Determinism(StrEnum):
    """EXACT: same stimulus, same reading. SEEDED: repeatable from a captured state. PHYSICAL: neither."""

    EXACT = "exact"
    SEEDED = "seeded"
    PHYSICAL = "physical"


@dataclass(frozen=True, slots=True)
class WaveformLimits:
    """What ``play`` accepts: segments and samples at the most, shortest segment and total duration (s)."""

    max_segments: int
    max_samples: int
    min_segment: float
    max_duration: float


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do. Code above the backend may ask for this and nothing else.

    ``replicas`` names identical devices behind the same controls and outputs; ``simultaneous`` the pairs of
    them that can be measured at one moment.
    """

    controls: Layout
    outputs: Layout
    determinism: Determinism
    has_memory: bool = False
    can_reset: bool = False
    can_capture: bool = False
    replicas: tuple[str, ...] = ()
    simultaneous: tuple[tuple[str, str], ...] = ()
    waveforms: WaveformLimits | None = None
