"""VTEAM: threshold adaptive memristor model, switched by voltage."""

from collections.abc import Mapping
from typing import ClassVar, final

from hil.core.types import FloatArray
from simulated_backend.devices.base import EdgeDrive, Parameter, Parameters
from simulated_backend.devices.threshold_adaptive import ThresholdAdaptive, parameters_of
from simulated_backend.spice_form import SpiceDrive


@final
class VTEAM(ThresholdAdaptive):
    """State s = (x - x_on)/(x_off - x_on) in 0 (R_on) … 1 (R_off); x_off - x_on is the parameter ``thickness``.

    dx/dt = k_off (v/v_off - 1)^α_off f beyond v_off, k_on (v/v_on - 1)^α_on f beyond v_on, else 0; v_off and v_on have
    opposite signs, either may be the positive one. Options ``resistance`` and ``window`` as in TEAM.
    """

    name: ClassVar[str] = "vteam"
    source: ClassVar[str] = "Kvatinsky, Ramadan, Friedman & Kolodny, IEEE Trans. Circuits Syst. II 62, 786 (2015), eqs. (3)-(5)"
    symbol = "v"
    parameters: ClassVar[Mapping[str, Parameter]] = parameters_of(
        *(5e-4, -10.0, 1.0, 3.0),
        {
            "v_off": Parameter("V", 0.02, -1e3, 1e3, "threshold voltage towards R_off"),
            "v_on": Parameter("V", -0.2, -1e3, 1e3, "threshold voltage towards R_on, of the other sign"),
        },
    )
    presets: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "memtorch": {
            "R_on": 50.0,
            "R_off": 1000.0,
            "thickness": 3e-9,
            "k_off": 5e-4,
            "k_on": -10.0,
            "alpha_off": 1.0,
            "alpha_on": 3.0,
            "v_off": 0.02,
            "v_on": -0.2,
        },
        # published for a normalised state, k in 1/s: here times the thickness, which gives the same ds/dt
        "normalised-fit": {
            "R_on": 3000.0,
            "R_off": 15500.0,
            "thickness": 3e-9,
            "k_off": 4.83 * 3e-9,
            "k_on": -3.59 * 3e-9,
            "alpha_off": 1.0,
            "alpha_on": 1.0,
            "v_off": -0.06,
            "v_on": 0.14,
        },
    }

    def switching(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """The voltage across the device, V."""
        return drive.voltage

    def spice_switching(self, drive: SpiceDrive, current: str) -> str:
        """The same for SPICE."""
        return f"({drive.voltage})"
