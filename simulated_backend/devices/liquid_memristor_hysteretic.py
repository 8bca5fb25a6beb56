"""Liquid memristor whose curve opens into a loop when it is swept faster than its ions follow."""

from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.devices.base import Device, EdgeDrive, Parameter, Parameters, StateKind
from simulated_backend.devices.liquid_memristor import FAMILIES, LiquidMemristor


@final
class LiquidMemristorHysteretic(Device):
    """I = I_max f(V/V_max) (1 + h s), ds/dt = (tanh(V/V_max) - s)/τ, f as in ``liquid_memristor``.

    Assumption, for rehearsing branches and sweep rates: the loop is pinched at 0 V, its area grows with ``loop`` (h) and
    vanishes for sweeps much slower or much faster than ``time_constant`` (τ).
    """

    name: ClassVar[str] = "liquid_memristor_hysteretic"
    source: ClassVar[str] = "liquid_memristor with one state that relaxes; an assumption"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        **LiquidMemristor.parameters,
        "loop": Parameter("1", 0.1, -0.9, 0.9, "relative change of the conductance between the branches, h"),
        "time_constant": Parameter("s", 0.48, 1e-9, 1e9, "relaxation time, τ"),
    }
    options: ClassVar[Mapping[str, tuple[object, ...]]] = {"family": FAMILIES}
    kind = StateKind.RELAXATION
    states: ClassVar[tuple[str, ...]] = ("enrichment",)

    def __init__(self, family: str = "tanh") -> None:
        self._shape = LiquidMemristor(family)
        self.family = family

    def default(self, name: str) -> float | None:
        """U of the family where an edge gives none."""
        return self._shape.default(name) if name == "shape" else super().default(name)

    def current(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """I, A."""
        return np.asarray(self._shape.current(parameters, drive, state) * (1.0 + parameters["loop"] * state[0]))

    def conductance(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """dI/dV at a held state, S."""
        return np.asarray(self._shape.conductance(parameters, drive, state) * (1.0 + parameters["loop"] * state[0]))

    def steady(self, parameters: Parameters, drive: EdgeDrive) -> tuple[FloatArray, FloatArray]:
        """Current and total slope with s = tanh(V/V_max)."""
        s = self.steady_state(parameters, drive)
        plain = self._shape.current(parameters, drive, s)
        turn = parameters["loop"] * (1.0 - s[0] ** 2) / parameters["safe_voltage"]
        return self.current(parameters, drive, s), self.conductance(parameters, drive, s) + plain * turn

    def initial_state(self, parameters: Parameters, drive: EdgeDrive) -> FloatArray:
        """At rest: s = 0, (1, ..., n_edges)."""
        return np.zeros((1, *np.broadcast_shapes(np.shape(drive.voltage), np.shape(parameters["loop"]))))

    def steady_state(self, parameters: Parameters, drive: EdgeDrive) -> FloatArray:
        """tanh(V/V_max), (1, ..., n_edges)."""
        return np.asarray(np.tanh(drive.voltage / parameters["safe_voltage"]))[np.newaxis]

    def time_constant(self, parameters: Parameters, drive: EdgeDrive) -> FloatArray:
        """τ, (1, ..., n_edges)."""
        return np.asarray(parameters["time_constant"] + np.zeros_like(drive.voltage))[np.newaxis]
