"""Linear dopant drift, the first model of a memristor."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from simulated_backend.devices import windows
from simulated_backend.devices.base import EdgeDrive, Parameter, Parameters
from simulated_backend.devices.bounded import fraction, held_at_bounds, named_edges, resistance
from simulated_backend.devices.resistive import Doped
from simulated_backend.spice_form import SpiceDrive, SpiceModel, SpiceState, held, number


@final
class HPLinearDrift(Doped):
    """v = [R_on x + R_off (1 - x)] i, dx/dt = (μ R_on/D²) i f(x). State: x = w/D in 0 … 1.

    Option ``window``: f(x), one of windows.NAMES. With the Joglekar window a state that has reached a bound never
    leaves it; the Biolek window lets it go.
    """

    name: ClassVar[str] = "hp_linear_drift"
    source: ClassVar[str] = "Strukov, Snider, Stewart & Williams, Nature 453, 80 (2008), eqs. (5) and (6)"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "R_on": resistance(100.0, "resistance fully doped, x = 1"),
        "R_off": resistance(16e3, "resistance without dopants, x = 0"),
        "thickness": Parameter("m", 10e-9, 1e-10, 1e-3, "D, thickness of the film"),
        "mobility": Parameter("m^2/(V*s)", 1e-14, 0.0, 1.0, "μ, mobility of the dopants"),
        "x_initial": fraction(0.1, "state before anything was applied"),
        **windows.PARAMETERS,
    }
    presets: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "strukov-2008": {"R_on": 100.0, "R_off": 16e3, "thickness": 10e-9, "mobility": 1e-14},
        "thick-film": {"R_on": 10e3, "R_off": 100e3, "thickness": 27e-9, "mobility": 1e-14},
        # meant for the Biolek window
        "biolek-p7": {"R_on": 100.0, "R_off": 1e3, "thickness": 16e-9, "mobility": 4e-14, "window_power": 7.0},
        # meant for the Joglekar window
        "joglekar-p7": {"R_on": 100.0, "R_off": 10e3, "thickness": 12e-9, "mobility": 5e-14, "window_power": 7.0},
    }
    options: ClassVar[Mapping[str, tuple[object, ...]]] = {"window": windows.NAMES}

    def __init__(self, window: str = "joglekar") -> None:
        if window not in windows.NAMES:
            raise ConfigError(f"law {self.name!r}: window {window!r} is unknown; choose one of {', '.join(windows.NAMES)}")
        self.window = window

    def state_rate(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """(μ R_on/D²) i f(x) in 1/s, with hard stops at 0 and 1."""
        i = self.current(parameters, drive, state)
        factor = parameters["mobility"] * parameters["R_on"] / parameters["thickness"] ** 2
        x = np.clip(state[0], 0.0, 1.0)
        return held_at_bounds(factor * i * windows.window(self.window, parameters, x, i), state[0])[np.newaxis]

    def validity(self, parameters: Parameters, drive: EdgeDrive) -> Sequence[str]:
        """Drift grows exponentially above about 1 MV/cm (Strukov & Williams, Appl. Phys. A 94, 515 (2009))."""
        strong = np.abs(drive.voltage) > 1e8 * parameters["thickness"]
        if np.any(strong):
            return (
                f"hp_linear_drift: the field exceeds 0.1 V/nm on {named_edges(strong)}; real dopants drift faster than "
                "linearly there",
            )
        return ()

    def spice(self, parameters: Mapping[str, float], drive: SpiceDrive, nodes: Sequence[str]) -> SpiceModel:
        """The same as SPICE expressions."""
        x = f"min(max({nodes[0]},0),1)"
        i = self.spice_current(parameters, drive, x)
        factor = number(parameters["mobility"] * parameters["R_on"] / parameters["thickness"] ** 2)
        rate = f"{factor}*{i}*{windows.spice_window(self.window, parameters, x, i)}"
        return SpiceModel(i, (SpiceState(held(rate, nodes[0])),))
