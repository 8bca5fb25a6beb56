"""Flux-linkage-controlled memristor that forgets."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.devices import flux_controlled as flux
from simulated_backend.devices.base import EdgeDrive, Parameter, Parameters
from simulated_backend.spice_form import SpiceDrive, SpiceModel, SpiceState, number


@final
class FluxVolatile(flux.FluxControlled):
    """dΦ/dt = A v - D Φ, i = v/M(Φ). State: the flux linkage Φ in V s.

    D = 0 is allowed: the device then integrates for ever. Between pulses Φ decays by exactly exp(-D t).
    """

    name: ClassVar[str] = "flux_volatile"
    source: ClassVar[str] = "Zivasatienraj & Doolittle, Front. Neurosci. 17, 1153183 (2023), eqs. (2) and (3), corrected"
    parameters: ClassVar[Mapping[str, Parameter]] = flux.PARAMETERS
    presets: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "desensitisation": flux.DESENSITISATION,
        "gate": flux.GATE,
        # not from the paper: its own set has the right signs but no window (see docs/user/device-laws.md)
        "spike-timing": {"flux_gain": 5e4, "flux_decay": 200.0, "R0": 100.0, "R3": 5e5},
    }

    def state_rate(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """A v - D Φ in V."""
        return np.asarray((parameters["flux_gain"] * drive.voltage - parameters["flux_decay"] * state[0])[np.newaxis])

    def decay(self, parameters: Parameters, state: FloatArray, duration: float) -> FloatArray:
        """Φ exp(-D t)."""
        return state * np.exp(-parameters["flux_decay"] * duration)

    def spice(self, parameters: Mapping[str, float], drive: SpiceDrive, nodes: Sequence[str]) -> SpiceModel:
        """The same as SPICE expressions."""
        scale = flux.spice_scale(parameters)
        gain, decay = parameters["flux_gain"] / scale, parameters["flux_decay"]
        return SpiceModel(
            f"({drive.voltage})/{flux.spice_memristance(parameters, f'({number(scale)}*{nodes[0]})')}",
            (SpiceState(f"{number(gain)}*({drive.voltage})-{number(decay)}*{nodes[0]}", scale),),
        )
