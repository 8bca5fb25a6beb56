"""TEAM: threshold adaptive memristor model, switched by current."""

from collections.abc import Mapping
from typing import ClassVar, final

from hil.core.types import FloatArray
from simulated_backend.devices.base import EdgeDrive, Parameter, Parameters
from simulated_backend.devices.threshold_adaptive import ThresholdAdaptive, parameters_of
from simulated_backend.spice_form import SpiceDrive


@final
class TEAM(ThresholdAdaptive):
    """State s = (x - x_on)/(x_off - x_on) in 0 (R_on) … 1 (R_off); x_off - x_on is the parameter ``thickness``.

    dx/dt = k_off (i/i_off - 1)^α_off f beyond i_off, k_on (i/i_on - 1)^α_on f beyond i_on, else 0; i_off and i_on have
    opposite signs. Option ``resistance``: R_on + (R_off - R_on) s, or R_on (R_off/R_on)^s. Option ``window``: f. For
    the Kvatinsky window a_off, a_on and w_c are given as fractions of the thickness.
    """

    name: ClassVar[str] = "team"
    source: ClassVar[str] = "Kvatinsky, Friedman, Kolodny & Weiser, IEEE Trans. Circuits Syst. I 60, 211 (2013), eqs. (9)-(12)"
    symbol = "i"
    parameters: ClassVar[Mapping[str, Parameter]] = parameters_of(
        *(8e-13, -8e-13, 3.0, 3.0),
        {
            "i_off": Parameter("A", 115e-6, -1e3, 1e3, "threshold current towards R_off"),
            "i_on": Parameter("A", -8.9e-6, -1e3, 1e3, "threshold current towards R_on, of the other sign"),
        },
    )
    presets: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "technion": {"k_off": 8e-13, "k_on": -8e-13, "alpha_off": 3.0, "alpha_on": 3.0, "i_off": 115e-6, "i_on": -8.9e-6},
        # a third party's numbers (alpha 10, another copy has 12; k in nm/s): unverified. a_off 1.2, a_on 1.8, w_c 0.107 nm
        "simmons-fit": {
            "k_off": 1.46e-18,
            "k_on": -4.68e-22,
            "alpha_off": 10.0,
            "alpha_on": 10.0,
            "window_upper": 0.4,
            "window_lower": 0.6,
            "window_width": 0.107 / 3.0,
        },
    }

    def switching(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """The current that flows, A."""
        return self.current(parameters, drive, state)

    def spice_switching(self, drive: SpiceDrive, current: str) -> str:
        """The same for SPICE."""
        return current
