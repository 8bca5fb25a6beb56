"""What a device law is: a two-terminal element between a base and a tip node, array-valued over edges.

A law is one file in this folder (or an entry point ``memristor_hil.devices``) with one final subclass of ``Device``.
Laws are stateless objects: options in the constructor, numbers in ``parameters`` (one array per name), device state in
``state``. Every array broadcasts over leading axes, so that thousands of copies or stimuli are one call:
drives and parameters ``(..., n_edges)``, states ``(n_states, ..., n_edges)``.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import numpy as np

from hil.core.types import BoolArray, FloatArray

Parameters = Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True)
class EdgeDrive:
    """What drives an edge, (..., n_edges) each, base minus tip: V, Pa; concentrations at the two ends in mol/m^3."""

    voltage: FloatArray
    pressure_difference: FloatArray
    concentration_base: FloatArray
    concentration_tip: FloatArray

    @classmethod
    def of_voltage(cls, voltage: FloatArray) -> "EdgeDrive":
        """Voltage alone: no pressure difference, no salt (laws that need salt must be given it)."""
        zero = np.zeros_like(voltage)
        return cls(voltage, zero, zero, zero)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number of a law: SI ``unit`` ("1" when dimensionless), default, and the closed range it must lie in."""

    unit: str
    default: float | None
    minimum: float
    maximum: float
    meaning: str


class StateKind(StrEnum):
    """NONE: no memory. RELAXATION: state relaxes to ``steady_state`` with ``time_constant``. RATE: d state/dt given."""

    NONE = "none"
    RELAXATION = "relaxation"
    RATE = "rate"


class Device(ABC):
    """A device law. Positive current flows from base to tip for positive voltage."""

    name: ClassVar[str]
    source: ClassVar[str]
    """Paper and equation."""
    parameters: ClassVar[Mapping[str, Parameter]]
    presets: ClassVar[Mapping[str, Mapping[str, float]]] = {}
    options: ClassVar[Mapping[str, tuple[object, ...]]] = {}
    """Constructor keyword -> allowed values, the default first."""
    kind: ClassVar[StateKind] = StateKind.NONE
    states: ClassVar[tuple[str, ...]] = ()
    preset: str | None = None
    """Name in ``presets`` whose numbers are this object's defaults."""

    def default(self, name: str) -> float | None:
        """Value of parameter ``name`` where an edge does not give one: the preset's, else the parameter's own."""
        numbers = self.presets[self.preset] if self.preset is not None else {}
        return numbers.get(name, self.parameters[name].default)

    @abstractmethod
    def current(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """Current in A at the given state, (..., n_edges)."""

    @abstractmethod
    def conductance(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """Exact dI/dV in S at fixed state, (..., n_edges)."""

    def steady(self, parameters: Parameters, drive: EdgeDrive) -> tuple[FloatArray, FloatArray]:
        """Current (A) and its total slope dI/dV (S) once the state has relaxed.

        NONE: the instantaneous law. RELAXATION: overridden where the closed form is cheaper than this composition.
        RATE laws have no steady state in general and raise TypeError.
        """
        if self.kind is StateKind.RATE:
            raise TypeError(f"law {self.name!r} has no steady state; its operating point is taken at a held state")
        if self.kind is StateKind.NONE:
            empty = np.empty((0, *np.shape(drive.voltage)))
            return self.current(parameters, drive, empty), self.conductance(parameters, drive, empty)
        raise TypeError(f"law {self.name!r} relaxes but does not define its steady current")

    def initial_state(self, parameters: Parameters, drive: EdgeDrive) -> FloatArray:
        """State before anything was applied, (n_states, ..., n_edges)."""
        return np.empty((0, *np.shape(drive.voltage)))

    def steady_state(self, parameters: Parameters, drive: EdgeDrive) -> FloatArray:
        """RELAXATION: the state that is approached, (n_states, ..., n_edges)."""
        raise TypeError(f"law {self.name!r} is not of the relaxation kind")

    def time_constant(self, parameters: Parameters, drive: EdgeDrive) -> FloatArray:
        """RELAXATION: seconds, (n_states, ..., n_edges)."""
        raise TypeError(f"law {self.name!r} is not of the relaxation kind")

    def state_rate(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """RATE: d state/dt, (n_states, ..., n_edges)."""
        raise TypeError(f"law {self.name!r} is not of the rate kind")

    def decay(self, parameters: Parameters, state: FloatArray, duration: float) -> FloatArray | None:
        """RATE: the exact state after ``duration`` seconds without drive, or None where no closed form exists."""
        return None

    def clip(self, parameters: Parameters, state: FloatArray) -> FloatArray:
        """The state put back inside its physical bounds."""
        return state

    def tunables(self) -> Mapping[str, str]:
        """Names that ``tuned`` accepts -> SI unit: every parameter, and any derived one."""
        return {name: parameter.unit for name, parameter in self.parameters.items()}

    def tuned(self, parameters: Parameters, name: str, values: FloatArray) -> Parameters:
        """``parameters`` with tunable ``name`` set to ``values``; override for derived tunables."""
        return {**parameters, name: values}

    def validity(self, parameters: Parameters, drive: EdgeDrive) -> Sequence[str]:
        """Sentences for the user where the law is used outside its range, or where a floor is active; empty if fine."""
        return ()

    def clamped(self, parameters: Parameters, drive: EdgeDrive) -> BoolArray:
        """True where a floor or a stop of the law holds the steady state, so that its gradient vanishes; (..., n_edges)."""
        return np.zeros(np.shape(drive.voltage), dtype=np.bool_)

    def check(self, parameters: Parameters) -> Sequence[str]:
        """Sentences for combinations of parameters that make no sense (single ranges are checked elsewhere)."""
        return ()
