"""TEAM: threshold adaptive memristor model, switched by current."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from simulated_backend.devices import windows
from simulated_backend.devices.base import Device, EdgeDrive, Parameter, Parameters, StateKind
from simulated_backend.devices.bounded import fraction, held_at_bounds, named_edges, resistance, started
from simulated_backend.spice_form import SpiceDrive, SpiceModel, SpiceState, held, number, power

RESISTANCES: tuple[str, ...] = ("linear", "exponential")
WINDOWS: tuple[str, ...] = ("none", "kvatinsky", "joglekar", "biolek", "prodromakis")


@final
class TEAM(Device):
    """State s = (x - x_on)/(x_off - x_on) in 0 (R_on) … 1 (R_off); x_off - x_on is the parameter ``thickness``.

    dx/dt = k_off (i/i_off - 1)^α_off f beyond i_off, k_on (i/i_on - 1)^α_on f beyond i_on, else 0; i_off and i_on have
    opposite signs. Option ``resistance``: R_on + (R_off - R_on) s, or R_on (R_off/R_on)^s. Option ``window``: f. For
    the Kvatinsky window a_off, a_on and w_c are given as fractions of the thickness.
    """

    name: ClassVar[str] = "team"
    source: ClassVar[str] = "Kvatinsky, Friedman, Kolodny & Weiser, IEEE Trans. Circuits Syst. I 60, 211 (2013), eqs. (9)-(12)"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "R_on": resistance(50.0, "resistance at s = 0"),
        "R_off": resistance(1000.0, "resistance at s = 1"),
        "thickness": Parameter("m", 3e-9, 1e-12, 1e-3, "x_off - x_on"),
        "k_off": Parameter("m/s", 8e-13, 0.0, 1e12, "speed towards R_off"),
        "k_on": Parameter("m/s", -8e-13, -1e12, 0.0, "speed towards R_on, negative"),
        "alpha_off": Parameter("1", 3.0, 0.0, 100.0, "exponent towards R_off"),
        "alpha_on": Parameter("1", 3.0, 0.0, 100.0, "exponent towards R_on"),
        "i_off": Parameter("A", 115e-6, -1e3, 1e3, "threshold current towards R_off"),
        "i_on": Parameter("A", -8.9e-6, -1e3, 1e3, "threshold current towards R_on, of the other sign"),
        "s_initial": fraction(0.5, "state before anything was applied"),
        **windows.PARAMETERS,
    }
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
    options: ClassVar[Mapping[str, tuple[object, ...]]] = {"resistance": RESISTANCES, "window": WINDOWS}
    kind: ClassVar[StateKind] = StateKind.RATE
    states: ClassVar[tuple[str, ...]] = ("s",)

    def __init__(self, resistance: str = "linear", window: str = "none") -> None:
        for option, value, allowed in (("resistance", resistance, RESISTANCES), ("window", window, WINDOWS)):
            if value not in allowed:
                raise ConfigError(f"law {self.name!r}: {option} {value!r} is unknown; choose one of {', '.join(allowed)}")
        self.resistance = resistance
        self.window = window

    def memristance(self, parameters: Parameters, state: FloatArray) -> FloatArray:
        """R(s) in Ω."""
        s = np.clip(state[0], 0.0, 1.0)
        on, off = parameters["R_on"], parameters["R_off"]
        return np.asarray(on * (off / on) ** s if self.resistance == "exponential" else on + (off - on) * s)

    def current(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """v/R(s)."""
        return drive.voltage / self.memristance(parameters, state)

    def conductance(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """1/R(s): at held state the device is a resistor."""
        return np.asarray(np.ones_like(drive.voltage) / self.memristance(parameters, state))

    def initial_state(self, parameters: Parameters, drive: EdgeDrive) -> FloatArray:
        """s = s_initial."""
        return started(parameters["s_initial"], drive)

    def state_rate(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """ds/dt in 1/s with hard stops at 0 and 1; the current is the one that flows."""
        i = self.current(parameters, drive, state)
        off = np.maximum(i / parameters["i_off"] - 1.0, 0.0)
        on = np.maximum(i / parameters["i_on"] - 1.0, 0.0)
        # a power of 0 must not turn "below the threshold" into 1
        push_off = np.where(off > 0.0, parameters["k_off"] * off ** parameters["alpha_off"], 0.0)
        push_on = np.where(on > 0.0, parameters["k_on"] * on ** parameters["alpha_on"], 0.0)
        speed = (push_off + push_on) / parameters["thickness"]
        s = np.clip(state[0], 0.0, 1.0)
        return held_at_bounds(speed * windows.window(self.window, parameters, s, speed), state[0])[np.newaxis]

    def decay(self, parameters: Parameters, state: FloatArray, duration: float) -> FloatArray:
        """Below the thresholds nothing moves."""
        return state

    def clip(self, parameters: Parameters, state: FloatArray) -> FloatArray:
        """s in 0 … 1."""
        return np.clip(state, 0.0, 1.0)

    def check(self, parameters: Parameters) -> Sequence[str]:
        """R_on below R_off; thresholds of opposite sign."""
        problems = []
        if np.any(parameters["R_on"] >= parameters["R_off"]):
            problems.append("R_on must be smaller than R_off")
        if np.any(parameters["i_off"] * parameters["i_on"] >= 0.0):
            problems.append("i_off and i_on must have opposite signs and neither may be zero")
        return problems

    def validity(self, parameters: Parameters, drive: EdgeDrive) -> Sequence[str]:
        """Where a step of the state is so fast that the model says nothing about the device any more."""
        rate = np.abs(self.state_rate(parameters, drive, self.initial_state(parameters, drive))[0])
        if np.any(rate > 1e13):
            return (f"team: the state would cross its range in less than 0.1 ps on {named_edges(rate > 1e13)}",)
        return ()

    def spice(self, parameters: Mapping[str, float], drive: SpiceDrive, nodes: Sequence[str]) -> SpiceModel:
        """The same as SPICE expressions."""
        s = f"min(max({nodes[0]},0),1)"
        on, off = parameters["R_on"], parameters["R_off"]
        linear = f"({number(on)}+{number(off - on)}*{s})"
        i = (
            f"(({drive.voltage})/"
            + (linear if self.resistance == "linear" else f"({number(on)}*exp({number(np.log(off / on))}*{s}))")
            + ")"
        )
        speeds = []
        for side in ("off", "on"):
            ratio = f"({i}/{number(parameters[f'i_{side}'])}-1)"
            factor = number(parameters[f"k_{side}"] / parameters["thickness"])
            speeds.append(f"({ratio}>0 ? {factor}*{power(ratio, parameters[f'alpha_{side}'])} : 0)")
        speed = f"({speeds[0]}+{speeds[1]})"
        direction = f"({i}*{number(np.sign(parameters['i_off']))})"
        rate = f"{speed}*{windows.spice_window(self.window, parameters, s, direction)}"
        return SpiceModel(i, (SpiceState(held(rate, nodes[0])),))
