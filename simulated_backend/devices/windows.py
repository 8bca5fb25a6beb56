"""Window functions f(x) of drift models: they slow the state down near its bounds. x = w/D in 0 … 1.

Joglekar & Wolf, Eur. J. Phys. 30, 661 (2009); Biolek, Biolek & Biolkova, Radioengineering 18, 210 (2009); Prodromakis
et al., IEEE Trans. Electron Devices 58, 3099 (2011); Kvatinsky et al., IEEE Trans. Circuits Syst. I 60, 211 (2013).
All return arrays of the shape of ``x`` and ``direction`` broadcast.
"""

from collections.abc import Mapping

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.devices.base import Parameter, Parameters
from simulated_backend.spice_form import number, power

NAMES: tuple[str, ...] = ("joglekar", "biolek", "prodromakis", "kvatinsky", "none")

PARAMETERS: Mapping[str, Parameter] = {
    "window_power": Parameter("1", 1.0, 0.01, 1000.0, "p of the Joglekar, Biolek and Prodromakis windows"),
    "window_scale": Parameter("1", 1.0, 0.0, 1e6, "j, the factor of the Prodromakis window"),
    # the three are a choice of ours: no paper gives them for a normalised state
    "window_upper": Parameter("1", 0.95, 0.0, 1.0, "Kvatinsky window: state at which growth has slowed to 1/e"),
    "window_lower": Parameter("1", 0.05, 0.0, 1.0, "Kvatinsky window: state at which decline has slowed to 1/e"),
    "window_width": Parameter("1", 0.02, 1e-4, 1.0, "Kvatinsky window: width of its edges, w_c over the whole range"),
}


def joglekar(x: FloatArray, p: FloatArray) -> FloatArray:
    """1 - (2x - 1)^{2p}: zero at both bounds, whichever way the state moves, so a state at a bound stays there."""
    return np.maximum(1.0 - np.abs(2.0 * x - 1.0) ** (2.0 * p), 0.0)


def biolek(x: FloatArray, direction: FloatArray, p: FloatArray) -> FloatArray:
    """1 - (x - stp(-i))^{2p} with stp(0) = 1: zero only at the bound that the state moves towards.

    ``direction`` has the sign of the current that makes x grow.
    """
    step = np.where(direction <= 0.0, 1.0, 0.0)
    return np.maximum(1.0 - np.abs(x - step) ** (2.0 * p), 0.0)


def prodromakis(x: FloatArray, p: FloatArray, j: FloatArray) -> FloatArray:
    """j [1 - ((x - 1/2)^2 + 3/4)^p]; its peak is j (1 - (3/4)^p)."""
    return np.maximum(j * (1.0 - ((x - 0.5) ** 2 + 0.75) ** p), 0.0)


def kvatinsky(x: FloatArray, direction: FloatArray, upper: FloatArray, lower: FloatArray, width: FloatArray) -> FloatArray:
    """exp[-exp((x - a_upper)/w_c)] while x grows, exp[-exp((a_lower - x)/w_c)] while it declines.

    ``upper``, ``lower``, ``width`` in the unit of ``x``.
    """
    inner = np.where(direction > 0.0, x - upper, lower - x) / width
    # exp(-exp(7)) is 0 already; the limit only keeps exp from overflowing
    return np.exp(-np.exp(np.clip(inner, -700.0, 7.0)))


def window(name: str, parameters: Parameters, x: FloatArray, direction: FloatArray) -> FloatArray:
    """The window ``name`` (one of NAMES) with the numbers of PARAMETERS; ``direction`` > 0 while x grows."""
    if name == "joglekar":
        return joglekar(x, parameters["window_power"])
    if name == "biolek":
        return biolek(x, direction, parameters["window_power"])
    if name == "prodromakis":
        return prodromakis(x, parameters["window_power"], parameters["window_scale"])
    if name == "kvatinsky":
        return kvatinsky(x, direction, parameters["window_upper"], parameters["window_lower"], parameters["window_width"])
    return np.ones(np.broadcast_shapes(np.shape(x), np.shape(direction)))


def spice_window(name: str, parameters: Mapping[str, float], x: str, direction: str) -> str:
    """The window as a SPICE expression of the expressions ``x`` and ``direction``."""
    p = parameters["window_power"] if name in ("joglekar", "biolek", "prodromakis") else 1.0
    if name == "joglekar":
        return f"max(1-{power(f'abs(2*({x})-1)', 2 * p)},0)"
    if name == "biolek":
        return f"max(1-{power(f'abs(({x})-(({direction})<=0 ? 1 : 0))', 2 * p)},0)"
    if name == "prodromakis":
        inner = f"((({x})-0.5)*(({x})-0.5)+0.75)"
        return f"max({number(parameters['window_scale'])}*(1-{power(inner, p)}),0)"
    if name == "kvatinsky":
        upper, lower = number(parameters["window_upper"]), number(parameters["window_lower"])
        inner = f"((({direction})>0 ? ({x})-{upper} : {lower}-({x}))/{number(parameters['window_width'])})"
        return f"exp(-exp(min({inner},7)))"
    return "1"
