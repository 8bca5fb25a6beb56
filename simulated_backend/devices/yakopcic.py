"""Generalised memristive device model with a hyperbolic sine and a threshold."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.devices.base import Device, EdgeDrive, Parameter, Parameters, StateKind
from simulated_backend.devices.bounded import fraction, held_at_bounds, named_edges, started
from simulated_backend.spice_form import SpiceDrive, SpiceModel, SpiceState, held, number

_LIMIT = 300.0  # of exponents: trial voltages of a solver must not overflow


def _preset(*values: float) -> Mapping[str, float]:
    names = ("a1", "a2", "b", "v_p", "v_n", "A_p", "A_n", "x_p", "x_n", "alpha_p", "alpha_n", "x_initial")
    return dict(zip(names, values, strict=True))


@final
class Yakopcic(Device):
    """I = a1 x sinh(bV) for V ≥ 0, a2 x sinh(bV) below; dx/dt = η g(V) f(x). State: x in 0 … 1.

    g = A_p (e^V - e^{v_p}) above v_p, -A_n (e^{-V} - e^{v_n}) below -v_n, else 0 (V in volts).
    f = e^{-α_p (x - x_p)} [(x_p - x)/(1 - x_p) + 1] for ηV ≥ 0 and x ≥ x_p; e^{α_n (x + x_n - 1)} x/(1 - x_n) for
    ηV < 0 and x ≤ 1 - x_n; else 1.
    """

    name: ClassVar[str] = "yakopcic"
    source: ClassVar[str] = (
        "Yakopcic, Taha, Subramanyam, Pino & Rogers, IEEE Electron Device Lett. 32, 1436 (2011), eqs. (1)-(6); "
        "IEEE Trans. CAD 32, 1201 (2013)"
    )
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "a1": Parameter("A", 0.17, 1e-18, 1e3, "current scale for V ≥ 0"),
        "a2": Parameter("A", 0.17, 1e-18, 1e3, "current scale for V < 0"),
        "b": Parameter("1/V", 0.05, 1e-6, 100.0, "steepness of the hyperbolic sine"),
        "v_p": Parameter("V", 0.16, 0.0, 100.0, "positive threshold"),
        "v_n": Parameter("V", 0.15, 0.0, 100.0, "magnitude of the negative threshold"),
        "A_p": Parameter("1/s", 4000.0, 0.0, 1e15, "speed above the positive threshold"),
        "A_n": Parameter("1/s", 4000.0, 0.0, 1e15, "speed below the negative threshold"),
        "x_p": fraction(0.3, "state above which growth slows down"),
        "x_n": fraction(0.5, "1 - x_n is the state below which decline slows down"),
        "alpha_p": Parameter("1", 1.0, 0.0, 1e3, "rate of slowing down, growth"),
        "alpha_n": Parameter("1", 5.0, 0.0, 1e3, "rate of slowing down, decline"),
        "eta": Parameter("1", 1.0, -1.0, 1.0, "1: a positive voltage makes x grow; -1: the reverse"),
        "x_initial": fraction(0.11, "state before anything was applied"),
    }
    presets: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "oblea": _preset(0.17, 0.17, 0.05, 0.16, 0.15, 4000.0, 4000.0, 0.3, 0.5, 1.0, 5.0, 0.11),
        "miao": _preset(0.11, 0.11, 0.5, 0.09, 0.75, 7.5, 2.0, 0.3, 0.5, 1.0, 5.0, 0.11),
        "jo": _preset(3.7e-7, 4.35e-7, 0.7, 1.5, 0.5, 0.005, 0.08, 0.2, 0.5, 1.2, 3.0, 0.1),
    }
    kind: ClassVar[StateKind] = StateKind.RATE
    states: ClassVar[tuple[str, ...]] = ("x",)

    def current(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """a x sinh(bV)."""
        a = np.where(drive.voltage >= 0.0, parameters["a1"], parameters["a2"])
        return np.asarray(a * state[0] * np.sinh(np.clip(parameters["b"] * drive.voltage, -_LIMIT, _LIMIT)))

    def conductance(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """a x b cosh(bV); at V = 0 the slope of the positive side."""
        a = np.where(drive.voltage >= 0.0, parameters["a1"], parameters["a2"])
        b = parameters["b"]
        return np.asarray(a * state[0] * b * np.cosh(np.clip(b * drive.voltage, -_LIMIT, _LIMIT)))

    def initial_state(self, parameters: Parameters, drive: EdgeDrive) -> FloatArray:
        """x = x_initial."""
        return started(parameters["x_initial"], drive)

    def state_rate(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """η g(V) f(x) in 1/s, with hard stops at 0 and 1."""
        v = np.clip(drive.voltage, -_LIMIT, _LIMIT)
        above, below = v > parameters["v_p"], v < -parameters["v_n"]
        up = parameters["A_p"] * (np.exp(v) - np.exp(parameters["v_p"]))
        down = -parameters["A_n"] * (np.exp(-v) - np.exp(parameters["v_n"]))
        g = np.where(above, up, np.where(below, down, 0.0))
        rate = parameters["eta"] * g * self._slowing(parameters, v, np.clip(state[0], 0.0, 1.0))
        return held_at_bounds(rate, state[0])[np.newaxis]

    def _slowing(self, parameters: Parameters, v: FloatArray, x: FloatArray) -> FloatArray:
        x_p, x_n = parameters["x_p"], parameters["x_n"]
        growing = parameters["eta"] * v >= 0.0
        # at x_p = 1 or x_n = 1 the fractions are 0/0 at the one point where they apply: 1 there
        wide_p, wide_n = np.where(x_p < 1.0, 1.0 - x_p, 1.0), np.where(x_n < 1.0, 1.0 - x_n, 1.0)
        slow_up = np.exp(-parameters["alpha_p"] * np.maximum(x - x_p, 0.0)) * ((x_p - x) / wide_p + 1.0)
        slow_down = np.exp(parameters["alpha_n"] * np.minimum(x + x_n - 1.0, 0.0)) * (x / wide_n)
        return np.where(growing, np.where(x >= x_p, slow_up, 1.0), np.where(x <= 1.0 - x_n, slow_down, 1.0))

    def decay(self, parameters: Parameters, state: FloatArray, duration: float) -> FloatArray:
        """Between the thresholds nothing moves."""
        return state

    def clip(self, parameters: Parameters, state: FloatArray) -> FloatArray:
        """x in 0 … 1."""
        return np.clip(state, 0.0, 1.0)

    def check(self, parameters: Parameters) -> Sequence[str]:
        """η is a sign."""
        if np.any(np.abs(parameters["eta"]) != 1.0):
            return ("eta must be 1 or -1",)
        return ()

    def validity(self, parameters: Parameters, drive: EdgeDrive) -> Sequence[str]:
        """The fits reach a few volts; beyond, the hyperbolic sine and the exponentials run away."""
        far = np.abs(drive.voltage) > 10.0
        if np.any(far):
            return (f"yakopcic: more than 10 V on {named_edges(far)}; the published fits reach 4 V",)
        return ()

    def spice(self, parameters: Mapping[str, float], drive: SpiceDrive, nodes: Sequence[str]) -> SpiceModel:
        """The same as SPICE expressions."""
        n = {name: number(value) for name, value in parameters.items()}
        x, v = f"min(max({nodes[0]},0),1)", f"({drive.voltage})"
        current = f"({v}>=0 ? {n['a1']} : {n['a2']})*{x}*sinh({n['b']}*{v})"
        up = f"{n['A_p']}*(exp({v})-{number(np.exp(parameters['v_p']))})"
        down = f"(-{n['A_n']})*(exp(-{v})-{number(np.exp(parameters['v_n']))})"
        g = f"({v}>{n['v_p']} ? {up} : ({v}<(-{n['v_n']}) ? {down} : 0))"
        wide_p, wide_n = 1.0 - parameters["x_p"] or 1.0, 1.0 - parameters["x_n"] or 1.0
        slow_up = f"exp(-{n['alpha_p']}*({x}-{n['x_p']}))*(({n['x_p']}-{x})/{number(wide_p)}+1)"
        slow_down = f"exp({n['alpha_n']}*({x}+{n['x_n']}-1))*{x}/{number(wide_n)}"
        f = f"({n['eta']}*{v}>=0 ? ({x}>={n['x_p']} ? {slow_up} : 1) : ({x}<=1-{n['x_n']} ? {slow_down} : 1))"
        rate = f"{n['eta']}*{g}*{f}"
        return SpiceModel(current, (SpiceState(held(rate, nodes[0])),))
