"""What the two flux-controlled laws share: the memristance polynomial of their flux linkage.

Zivasatienraj & Doolittle, Front. Neurosci. 17, 1153183 (2023), eq. (2) with its sum restored:
i = v/M(Φ), M(Φ) = Σ_n R_n |Φ|^n, R_n in Ω/(V s)^n. Eqs. (3) and (4) are read as dΦ/dt = A v - D Φ: the printed forms
have lost the dots of the time derivatives.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.devices.base import Parameter, Parameters
from simulated_backend.devices.resistive import Resistive
from simulated_backend.spice_form import number, power

ORDER = 4
"""Highest power of the flux linkage in the polynomial."""

PARAMETERS: Mapping[str, Parameter] = {
    "flux_gain": Parameter("1", 1.0, 0.0, 1e12, "A, flux linkage gained per volt second across the device"),
    "flux_decay": Parameter("1/s", 1.0, 0.0, 1e12, "D, rate at which flux linkage decays; 0 for none"),
    "R0": Parameter("ohm", 100.0, 1e-9, 1e18, "resistance without flux linkage"),
    **{
        f"R{n}": Parameter(f"ohm/(V*s)^{n}", 0.0, 0.0, 1e30, f"factor of |flux linkage|^{n} in the memristance")
        for n in range(1, ORDER + 1)
    },
    "flux_initial": Parameter("V*s", 0.0, -1e6, 1e6, "flux linkage before anything was applied"),
}

GATE = {"flux_gain": 5e4, "flux_decay": 1e3, "R0": 100.0, "R3": 5e5}
"""Section 'VALVeD' of the paper."""
DESENSITISATION = {"flux_gain": 1.0, "flux_decay": 1.0, "R0": 100.0, "R1": 1e6}
"""The set quoted for desensitisation, paired pulses and spike timing."""


class FluxControlled(Resistive):
    """i = v/M(Φ). State: the flux linkage Φ in V s."""

    states: ClassVar[tuple[str, ...]] = ("flux",)
    initial = "flux_initial"

    def memristance(self, parameters: Parameters, state: FloatArray) -> FloatArray:
        """M(Φ) in Ω."""
        return memristance(parameters, state[0])


def memristance(parameters: Parameters, flux: FloatArray) -> FloatArray:
    """M(Φ) in Ω for the flux linkage Φ in V s; shapes broadcast."""
    size = np.abs(flux)
    total: FloatArray = np.asarray(parameters[f"R{ORDER}"], dtype=np.float64)
    for n in range(ORDER - 1, -1, -1):
        total = total * size + parameters[f"R{n}"]
    return total


def saturation_flux(parameters: Parameters, voltage: FloatArray) -> FloatArray:
    """Φ_sat = A V/D in V s, the level that a lasting voltage approaches; infinite where D = 0 and V is not."""
    with np.errstate(divide="ignore", invalid="ignore"):
        level: FloatArray = parameters["flux_gain"] * voltage / parameters["flux_decay"]
    return np.where(parameters["flux_gain"] * voltage == 0.0, 0.0, level)


def spice_memristance(parameters: Mapping[str, float], flux: str) -> str:
    """M(Φ) as a SPICE expression of the expression ``flux``."""
    terms = [f"{number(parameters[f'R{n}'])}*{power(f'abs({flux})', n)}" for n in range(ORDER + 1) if parameters[f"R{n}"]]
    return f"({'+'.join(terms)})"


def spice_scale(parameters: Mapping[str, float]) -> float:
    """V s per volt of the state node: the flux linkage at which the memristance has doubled, so that nodes are of order 1."""
    levels = [(parameters["R0"] / parameters[f"R{n}"]) ** (1 / n) for n in range(1, ORDER + 1) if parameters[f"R{n}"] > 0]
    return min(levels, default=1.0)
