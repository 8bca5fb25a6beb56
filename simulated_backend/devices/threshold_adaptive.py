"""What the threshold adaptive laws share: TEAM, switched by current, and VTEAM, switched by voltage."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from simulated_backend.devices import windows
from simulated_backend.devices.base import EdgeDrive, Parameter, Parameters
from simulated_backend.devices.bounded import fraction, held_at_bounds, named_edges, resistance
from simulated_backend.devices.resistive import BoundedResistive
from simulated_backend.spice_form import SpiceDrive, SpiceModel, SpiceState, held, number, power

RESISTANCES: tuple[str, ...] = ("linear", "exponential")
WINDOWS: tuple[str, ...] = ("none", "kvatinsky", "joglekar", "biolek", "prodromakis")


def parameters_of(
    k_off: float, k_on: float, alpha_off: float, alpha_on: float, thresholds: Mapping[str, Parameter]
) -> Mapping[str, Parameter]:
    """The parameters of a law: defaults of the speeds (m/s) and exponents, and its own thresholds."""
    return {
        "R_on": resistance(50.0, "resistance at s = 0"),
        "R_off": resistance(1000.0, "resistance at s = 1"),
        "thickness": Parameter("m", 3e-9, 1e-12, 1e-3, "x_off - x_on"),
        "k_off": Parameter("m/s", k_off, 0.0, 1e12, "speed towards R_off"),
        "k_on": Parameter("m/s", k_on, -1e12, 0.0, "speed towards R_on, negative"),
        "alpha_off": Parameter("1", alpha_off, 0.0, 100.0, "exponent towards R_off"),
        "alpha_on": Parameter("1", alpha_on, 0.0, 100.0, "exponent towards R_on"),
        **thresholds,
        "s_initial": fraction(0.5, "state before anything was applied"),
        **windows.PARAMETERS,
    }


class ThresholdAdaptive(BoundedResistive):
    """State s = (x - x_on)/(x_off - x_on) in 0 (R_on) … 1 (R_off); x_off - x_on is the parameter ``thickness``.

    dx/dt = k_off (u/u_off - 1)^α_off f beyond u_off, k_on (u/u_on - 1)^α_on f beyond u_on, else 0, where u is the current or
    the voltage; u_off and u_on have opposite signs. Option ``resistance``: R_on + (R_off - R_on) s, or R_on (R_off/R_on)^s.
    Option ``window``: f. For the Kvatinsky window a_off, a_on and w_c are given as fractions of the thickness.
    """

    options: ClassVar[Mapping[str, tuple[object, ...]]] = {"resistance": RESISTANCES, "window": WINDOWS}
    states: ClassVar[tuple[str, ...]] = ("s",)
    initial = "s_initial"
    symbol: ClassVar[str]
    """Letter of u; the thresholds are the parameters ``<letter>_off`` and ``<letter>_on``."""

    def __init__(self, resistance: str = "linear", window: str = "none") -> None:
        for option, value, allowed in (("resistance", resistance, RESISTANCES), ("window", window, WINDOWS)):
            if value not in allowed:
                raise ConfigError(f"law {self.name!r}: {option} {value!r} is unknown; choose one of {', '.join(allowed)}")
        self.resistance = resistance
        self.window = window

    @abstractmethod
    def switching(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """u, A or V."""

    @abstractmethod
    def spice_switching(self, drive: SpiceDrive, current: str) -> str:
        """u as a SPICE expression; ``current`` is that of the current."""

    def memristance(self, parameters: Parameters, state: FloatArray) -> FloatArray:
        """R(s) in Ω."""
        s = np.clip(state[0], 0.0, 1.0)
        on, off = parameters["R_on"], parameters["R_off"]
        return np.asarray(on * (off / on) ** s if self.resistance == "exponential" else on + (off - on) * s)

    def state_rate(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """ds/dt in 1/s with hard stops at 0 and 1."""
        u = self.switching(parameters, drive, state)
        off = np.maximum(u / parameters[f"{self.symbol}_off"] - 1.0, 0.0)
        on = np.maximum(u / parameters[f"{self.symbol}_on"] - 1.0, 0.0)
        # a power of 0 must not turn "below the threshold" into 1
        push_off = np.where(off > 0.0, parameters["k_off"] * off ** parameters["alpha_off"], 0.0)
        push_on = np.where(on > 0.0, parameters["k_on"] * on ** parameters["alpha_on"], 0.0)
        speed = (push_off + push_on) / parameters["thickness"]
        s = np.clip(state[0], 0.0, 1.0)
        return held_at_bounds(speed * windows.window(self.window, parameters, s, speed), state[0])[np.newaxis]

    def check(self, parameters: Parameters) -> Sequence[str]:
        """R_on below R_off; thresholds of opposite sign."""
        problems = list(super().check(parameters))
        off, on = f"{self.symbol}_off", f"{self.symbol}_on"
        if np.any(parameters[off] * parameters[on] >= 0.0):
            problems.append(f"{off} and {on} must have opposite signs and neither may be zero")
        return problems

    def validity(self, parameters: Parameters, drive: EdgeDrive) -> Sequence[str]:
        """Where a step of the state is so fast that the model says nothing about the device any more."""
        rate = np.abs(self.state_rate(parameters, drive, self.initial_state(parameters, drive))[0])
        if np.any(rate > 1e13):
            return (f"{self.name}: the state would cross its range in less than 0.1 ps on {named_edges(rate > 1e13)}",)
        return ()

    def spice(self, parameters: Mapping[str, float], drive: SpiceDrive, nodes: Sequence[str]) -> SpiceModel:
        """The same as SPICE expressions."""
        s = f"min(max({nodes[0]},0),1)"
        on, off = parameters["R_on"], parameters["R_off"]
        linear = f"({number(on)}+{number(off - on)}*{s})"
        resistance = linear if self.resistance == "linear" else f"({number(on)}*exp({number(np.log(off / on))}*{s}))"
        current = f"(({drive.voltage})/{resistance})"
        u = self.spice_switching(drive, current)
        speeds = []
        for side in ("off", "on"):
            ratio = f"({u}/{number(parameters[f'{self.symbol}_{side}'])}-1)"
            factor = number(parameters[f"k_{side}"] / parameters["thickness"])
            speeds.append(f"({ratio}>0 ? {factor}*{power(ratio, parameters[f'alpha_{side}'])} : 0)")
        direction = f"({u}*{number(np.sign(parameters[f'{self.symbol}_off']))})"
        rate = f"({speeds[0]}+{speeds[1]})*{windows.spice_window(self.window, parameters, s, direction)}"
        return SpiceModel(current, (SpiceState(held(rate, nodes[0])),))
