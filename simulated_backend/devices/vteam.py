"""VTEAM: threshold adaptive memristor model, switched by voltage."""

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
class VTEAM(Device):
    """State s = (x - x_on)/(x_off - x_on) in 0 (R_on) … 1 (R_off); x_off - x_on is the parameter ``thickness``.

    dx/dt = k_off (v/v_off - 1)^α_off f beyond v_off, k_on (v/v_on - 1)^α_on f beyond v_on, else 0; v_off and v_on have
    opposite signs, either may be the positive one. Options ``resistance`` and ``window`` as in TEAM.
    """

    name: ClassVar[str] = "vteam"
    source: ClassVar[str] = "Kvatinsky, Ramadan, Friedman & Kolodny, IEEE Trans. Circuits Syst. II 62, 786 (2015), eqs. (3)-(5)"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "R_on": resistance(50.0, "resistance at s = 0"),
        "R_off": resistance(1000.0, "resistance at s = 1"),
        "thickness": Parameter("m", 3e-9, 1e-12, 1e-3, "x_off - x_on"),
        "k_off": Parameter("m/s", 5e-4, 0.0, 1e12, "speed towards R_off"),
        "k_on": Parameter("m/s", -10.0, -1e12, 0.0, "speed towards R_on, negative"),
        "alpha_off": Parameter("1", 1.0, 0.0, 100.0, "exponent towards R_off"),
        "alpha_on": Parameter("1", 3.0, 0.0, 100.0, "exponent towards R_on"),
        "v_off": Parameter("V", 0.02, -1e3, 1e3, "threshold voltage towards R_off"),
        "v_on": Parameter("V", -0.2, -1e3, 1e3, "threshold voltage towards R_on, of the other sign"),
        "s_initial": fraction(0.5, "state before anything was applied"),
        **windows.PARAMETERS,
    }
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
        """ds/dt in 1/s with hard stops at 0 and 1."""
        off = np.maximum(drive.voltage / parameters["v_off"] - 1.0, 0.0)
        on = np.maximum(drive.voltage / parameters["v_on"] - 1.0, 0.0)
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
        if np.any(parameters["v_off"] * parameters["v_on"] >= 0.0):
            problems.append("v_off and v_on must have opposite signs and neither may be zero")
        return problems

    def validity(self, parameters: Parameters, drive: EdgeDrive) -> Sequence[str]:
        """Where a step of the state is so fast that the model says nothing about the device any more."""
        rate = np.abs(self.state_rate(parameters, drive, self.initial_state(parameters, drive))[0])
        if np.any(rate > 1e13):
            return (f"vteam: the state would cross its range in less than 0.1 ps on {named_edges(rate > 1e13)}",)
        return ()

    def spice(self, parameters: Mapping[str, float], drive: SpiceDrive, nodes: Sequence[str]) -> SpiceModel:
        """The same as SPICE expressions."""
        s = f"min(max({nodes[0]},0),1)"
        v = f"({drive.voltage})"
        on, off = parameters["R_on"], parameters["R_off"]
        linear = f"({number(on)}+{number(off - on)}*{s})"
        resistance = linear if self.resistance == "linear" else f"({number(on)}*exp({number(np.log(off / on))}*{s}))"
        speeds = []
        for side in ("off", "on"):
            ratio = f"({v}/{number(parameters[f'v_{side}'])}-1)"
            factor = number(parameters[f"k_{side}"] / parameters["thickness"])
            speeds.append(f"({ratio}>0 ? {factor}*{power(ratio, parameters[f'alpha_{side}'])} : 0)")
        direction = f"({v}*{number(np.sign(parameters['v_off']))})"
        rate = f"({speeds[0]}+{speeds[1]})*{windows.spice_window(self.window, parameters, s, direction)}"
        return SpiceModel(f"{v}/{resistance}", (SpiceState(held(rate, nodes[0])),))
