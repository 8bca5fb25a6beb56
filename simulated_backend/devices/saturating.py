"""Saturating relaxation law: the smallest memristor with memory, used for golden data and for speed comparisons."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.devices.base import Device, EdgeDrive, Parameter, Parameters, StateKind


class Saturating(Device):
    """Conductance that relaxes towards g∞(V) = g0·(1 + a·tanh(V/V0)) with one time constant: dg/dt = (g∞ − g)/τ.

    The shape is that of the conical channel (monotone and bounded on both sides) in closed form, without its
    electrolyte. The slope of the steady current stays positive for |a| < 0.83, whatever the voltage.
    """

    name = "saturating"
    source = "closed-form stand-in for the bounded g∞(V) of Kamsma et al., PRL 130, 268401 (2023), eqs. (4)-(5)"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "conductance": Parameter("S", None, 0.0, np.inf, "conductance at zero voltage, g0"),
        "amplitude": Parameter("1", 0.5, -1.0, 1.0, "largest relative change of the conductance, a"),
        "voltage_scale": Parameter("V", 1.0, 1e-9, np.inf, "voltage of the bend, V0"),
        "time_constant": Parameter("s", 1.0, 1e-15, np.inf, "relaxation time, τ"),
    }
    presets: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "golden": {"amplitude": 0.5, "voltage_scale": 1.0, "time_constant": 1.0},
    }
    kind = StateKind.RELAXATION
    states = ("conductance",)

    def current(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """I = g·V at the present conductance, A."""
        return np.asarray(state[0] * drive.voltage)

    def conductance(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """dI/dV = g at a held state, S."""
        return np.asarray(state[0] + np.zeros_like(drive.voltage))

    def steady(self, parameters: Parameters, drive: EdgeDrive) -> tuple[FloatArray, FloatArray]:
        """I = g∞(V)·V and its slope g∞ + V·dg∞/dV."""
        reduced = drive.voltage / parameters["voltage_scale"]
        bend = np.tanh(reduced)
        g0, a = parameters["conductance"], parameters["amplitude"]
        level = g0 * (1.0 + a * bend)
        return np.asarray(level * drive.voltage), np.asarray(level + g0 * a * reduced * (1.0 - bend * bend))

    def initial_state(self, parameters: Parameters, drive: EdgeDrive) -> FloatArray:
        """The conductance at rest, g0."""
        return np.asarray(parameters["conductance"] + np.zeros_like(drive.voltage))[np.newaxis]

    def steady_state(self, parameters: Parameters, drive: EdgeDrive) -> FloatArray:
        """g∞(V)."""
        bend = np.tanh(drive.voltage / parameters["voltage_scale"])
        return np.asarray(parameters["conductance"] * (1.0 + parameters["amplitude"] * bend))[np.newaxis]

    def time_constant(self, parameters: Parameters, drive: EdgeDrive) -> FloatArray:
        """τ, the same at every voltage."""
        return np.asarray(parameters["time_constant"] + np.zeros_like(drive.voltage))[np.newaxis]

    def check(self, parameters: Parameters) -> Sequence[str]:
        """A zero conductance would cut the edge; say so instead of solving a network that falls apart."""
        if np.any(parameters["conductance"] <= 0.0):
            return ("`conductance` must be above 0 S; leave the edge out to open it",)
        return ()
