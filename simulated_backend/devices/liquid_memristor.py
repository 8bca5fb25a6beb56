"""Liquid memristor as a neuron: the shape of its current-voltage curve, in units of its safe voltage."""

from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.devices.base import Device, EdgeDrive, Parameter, Parameters
from simulated_backend.devices.registry import law

FAMILIES: tuple[str, ...] = ("tanh", "sinh", "cone")
_SHAPES = {"tanh": 1.84, "sinh": 2.50, "cone": 1.0}


@final
class LiquidMemristor(Device):
    """I = I_max [f(V/V_max) + offset] with f(1) = 1 for the odd families and max |f| = 1 for the rectifying one.

    "tanh": f = tanh(Uv)/tanh U, "sinh": f = sinh(Uv)/sinh U, "cone": f(v) = I_c(U v · 1 V)/|I_c(-U · 1 V)| of the conical
    channel's default preset. U is ``shape``; its default belongs to the family. Assumption: the device paper could not be
    consulted; the two odd families and their U are those for which a root-mean-square error of 8.38 % of the mean slope means
    R² = 0.98 (std/mean of dI/dV = 0.593 over |v| ≤ 1). No memory: see ``liquid_memristor_hysteretic`` for that.
    """

    name: ClassVar[str] = "liquid_memristor"
    source: ClassVar[str] = "Acharya et al., liquid memristors as neurons (abstract only); families derived from its RMSE and R²"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "safe_voltage": Parameter("V", 1.0, 1e-6, 1e6, "largest voltage of normal use, V_max"),
        "full_current": Parameter("A", 1e-5, 1e-18, 1e6, "current at V_max, I_max"),
        "shape": Parameter("1", None, 1e-3, 50.0, "U: how strongly the curve bends"),
        "offset": Parameter("1", 0.0, -1.0, 1.0, "current at 0 V in units of I_max"),
    }
    options: ClassVar[Mapping[str, tuple[object, ...]]] = {"family": FAMILIES}

    def __init__(self, family: str = "tanh") -> None:
        from hil.core.errors import ConfigError

        if family not in FAMILIES:
            raise ConfigError(f"law {self.name!r}: family {family!r} is unknown; choose one of {', '.join(FAMILIES)}")
        self.family = family
        self._cone = law("conical_channel") if family == "cone" else None

    def default(self, name: str) -> float | None:
        """U of the family where an edge gives none."""
        return _SHAPES[self.family] if name == "shape" else super().default(name)

    def current(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """I, A."""
        return self._pair(parameters, drive.voltage)[0]

    def conductance(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """dI/dV, S."""
        return self._pair(parameters, drive.voltage)[1]

    def _pair(self, parameters: Parameters, voltage: FloatArray) -> tuple[FloatArray, FloatArray]:
        scale, u = parameters["full_current"], parameters["shape"]
        v = np.asarray(voltage, dtype=np.float64) / parameters["safe_voltage"]
        value, slope = self._curve(v, u)
        return scale * (value + parameters["offset"]), scale / parameters["safe_voltage"] * slope

    def _curve(self, v: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        if self.family == "tanh":
            top, t = np.tanh(u), np.tanh(u * v)
            return t / top, u * (1.0 - t * t) / top
        if self.family == "sinh":
            top = np.sinh(u)
            return np.sinh(u * v) / top, u * np.cosh(u * v) / top
        (value, slope), (end, _) = self._conical(u * v), self._conical(-u)
        return value / np.abs(end), u * slope / np.abs(end)

    def _conical(self, volts: FloatArray) -> tuple[FloatArray, FloatArray]:
        cone = self._cone
        if cone is None:
            raise TypeError("only the cone family is a conical channel")
        shape = np.shape(volts)
        flat = np.atleast_1d(np.asarray(volts, dtype=np.float64))
        parameters = {name: np.full(flat.shape, cone.default(name)) for name in cone.parameters}
        salt = np.full(flat.shape, parameters["reference_concentration"][0])
        drive = EdgeDrive(flat, np.zeros_like(flat), salt, salt)
        current, slope = cone.steady(parameters, drive)
        return current.reshape(shape), slope.reshape(shape)
