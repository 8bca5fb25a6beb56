"""Voltage-threshold model whose rate depends on the current."""

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

GUARDS: tuple[str, ...] = ("hold", "floor")


@final
class Threshold(Doped):
    """State x = w/D in 0 … 1, v = [R_on x + R_off (1 - x)] i, nothing moves while V_T- ≤ v ≤ V_T+.

    dx/dt = (μ R_on/D²) [i_off/(i - i_0)] f(x) above V_T+, (μ R_on/D²) (i/i_on) f(x) below V_T-, f the Joglekar window.
    The upper branch is singular at i = i_0 and has the wrong sign below. Option ``guard``: "hold" keeps the state where
    i ≤ i_0, "floor" replaces i - i_0 by its lower limit ``excess_minimum`` there; both limit it by ``excess_minimum``
    just above i_0. μ carries m² s⁻¹ Ω⁻¹ here: the currents are normalised.
    """

    name: ClassVar[str] = "threshold"
    source: ClassVar[str] = "Zhang, Wang, Li & Friedman, IEEE Trans. Circuits Syst. II 64, 767 (2017); review eq. (3)"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "R_on": resistance(10.0, "resistance at x = 1"),
        "R_off": resistance(200.0, "resistance at x = 0; should stay below V_T+/i_0"),
        "mobility": Parameter("m^2/(s*ohm)", 1.6e-12, 0.0, 1.0, "μ of the model, with normalised currents"),
        "thickness": Parameter("m", 3e-9, 1e-10, 1e-3, "D, thickness of the film"),
        "v_positive": Parameter("V", 0.37, 0.0, 1e3, "V_T+, threshold above which x grows"),
        "v_negative": Parameter("V", -0.19, -1e3, 0.0, "V_T-, threshold below which x declines"),
        "i_0": Parameter("A", 1e-3, 0.0, 1e3, "i_0, current at which the upper branch is singular"),
        "i_off": Parameter("A", 1e-5, 0.0, 1e3, "i_off, normalises the upper branch"),
        "i_on": Parameter("A", 1.0, 1e-12, 1e6, "i_on, normalises the lower branch"),
        "excess_minimum": Parameter("A", 1e-6, 1e-15, 1e3, "smallest i - i_0 that the upper branch divides by"),
        "window_power": windows.PARAMETERS["window_power"],
        "x_initial": fraction(0.1, "state before anything was applied"),
    }
    presets: ClassVar[Mapping[str, Mapping[str, float]]] = {
        # the numbers are a third party's, apart from R_off; the authors' own table was not available: unverified
        "bounded": {"R_on": 10.0, "R_off": 200.0},
        # as found: V_T+/i_0 = 370 Ω is below R_off, so the guard acts at small x
        "third-party": {"R_on": 10.0, "R_off": 420.0},
    }
    options: ClassVar[Mapping[str, tuple[object, ...]]] = {"guard": GUARDS}

    def __init__(self, guard: str = "hold") -> None:
        if guard not in GUARDS:
            raise ConfigError(f"law {self.name!r}: guard {guard!r} is unknown; choose one of {', '.join(GUARDS)}")
        self.guard = guard

    def state_rate(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """The three branches in 1/s, guarded, with hard stops at 0 and 1."""
        i = self.current(parameters, drive, state)
        excess = i - parameters["i_0"]
        up = parameters["i_off"] / np.maximum(excess, parameters["excess_minimum"])
        if self.guard == "hold":
            up = np.where(excess <= 0.0, 0.0, up)
        down = i / parameters["i_on"]
        above, below = drive.voltage > parameters["v_positive"], drive.voltage < parameters["v_negative"]
        branch = np.where(above, up, np.where(below, down, 0.0))
        factor = parameters["mobility"] * parameters["R_on"] / parameters["thickness"] ** 2
        x = np.clip(state[0], 0.0, 1.0)
        return held_at_bounds(factor * branch * windows.joglekar(x, parameters["window_power"]), state[0])[np.newaxis]

    def validity(self, parameters: Parameters, drive: EdgeDrive) -> Sequence[str]:
        """Where the upper branch can meet its singularity."""
        singular = parameters["R_off"] * parameters["i_0"] >= parameters["v_positive"]
        if np.any(singular):
            return (
                f"threshold: R_off is not below V_T+/i_0 on {named_edges(singular)}; the printed law changes sign there and "
                f"the guard {self.guard!r} stands in for it",
            )
        return ()

    def spice(self, parameters: Mapping[str, float], drive: SpiceDrive, nodes: Sequence[str]) -> SpiceModel:
        """The same as SPICE expressions."""
        x = f"min(max({nodes[0]},0),1)"
        v = f"({drive.voltage})"
        i = self.spice_current(parameters, drive, x)
        excess = f"({i}-{number(parameters['i_0'])})"
        up = f"{number(parameters['i_off'])}/max({excess},{number(parameters['excess_minimum'])})"
        if self.guard == "hold":
            up = f"({excess}<=0 ? 0 : {up})"
        down = f"{i}/{number(parameters['i_on'])}"
        above, below = number(parameters["v_positive"]), number(parameters["v_negative"])
        branch = f"({v}>{above} ? {up} : ({v}<{below} ? {down} : 0))"
        factor = number(parameters["mobility"] * parameters["R_on"] / parameters["thickness"] ** 2)
        rate = f"{factor}*{branch}*{windows.spice_window('joglekar', parameters, x, i)}"
        return SpiceModel(i, (SpiceState(held(rate, nodes[0])),))
