"""How the laws that have no ``spice`` method of their own are written: closed forms by name, and a fit for any other.

Relaxing laws become a conductance on a state node, dg/dt = (g∞(V) - g)/τ. g∞ of the conical channel is written out as
its quadrature (Kamsma et al., PRL 130, 268401 (2023); see ``devices.conical_profile``) with as many nodes as the drive
needs; any other law without memory or with one relaxing conductance as polynomials piece by piece on a stated range of voltage.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from simulated_backend.devices import conical_profile
from simulated_backend.devices.base import Device, EdgeDrive, Parameters, StateKind
from simulated_backend.devices.conical_channel import ConicalChannel
from simulated_backend.spice_form import SpiceDrive, SpiceModel, SpiceState, SpiceWritable, choose, number

FIT_RANGE = 10.0
"""Volts either way in which a fitted law, and the quadrature of the conical channel, keep their accuracy."""
_FIT_DEGREE = 14
_FIT_TOLERANCE = 1e-11
_FIT_NARROWEST = 1e-7
_FIT_PIECES = 2000
_QUADRATURE_ORDERS = (12, 16, 24, 32, 48)
_SERIES_BELOW = 0.5


def model(law: Device, parameters: Mapping[str, float], drive: SpiceDrive, nodes: Sequence[str]) -> SpiceModel:
    """``law`` as SPICE expressions, by its own ``spice`` method where it has one.

    Raises ConfigError for a law with memory that has no such method and is not a single relaxing conductance.
    """
    if isinstance(law, SpiceWritable):
        return law.spice(parameters, drive, nodes)
    closed = _CLOSED_FORMS.get(law.name)
    written = closed(law, parameters, drive, nodes) if closed is not None else None
    return written if written is not None else _fitted(law, parameters, drive, nodes)


def _ohmic(law: Device, parameters: Mapping[str, float], drive: SpiceDrive, nodes: Sequence[str]) -> SpiceModel:
    return SpiceModel(f"{number(parameters['conductance'])}*({drive.voltage})")


def _saturating(law: Device, parameters: Mapping[str, float], drive: SpiceDrive, nodes: Sequence[str]) -> SpiceModel:
    level = f"1+{number(parameters['amplitude'])}*tanh(({drive.voltage})/{number(parameters['voltage_scale'])})"
    return _relaxing(level, parameters["conductance"], parameters["time_constant"], drive, nodes)


def _conical(law: Device, parameters: Mapping[str, float], drive: SpiceDrive, nodes: Sequence[str]) -> SpiceModel | None:
    if not isinstance(law, ConicalChannel) or law.form != "analytic":
        return None
    held, at = _arrays(parameters), _at(drive, np.zeros(1))
    reduced = law.reduced(held, at)
    per_volt, offset = float(reduced.p_per_volt[0]), float(reduced.p_pressure[0])
    ratio, salt_drop, floor = float(reduced.ratio[0]), float(reduced.salt_drop[0]), float(reduced.floor[0])
    p = f"({number(per_volt)}*({drive.voltage})+{number(offset)})"
    h, mean = _profile_averages(p, ratio, abs(per_volt) * FIT_RANGE + abs(offset))
    level = f"1+{number(float(reduced.kappa_per_volt[0]))}*({drive.voltage})*{h}"
    if salt_drop:
        level += f"-{number(salt_drop)}*({mean}-{p}*{h})"
    if np.isfinite(floor):
        level = f"max({level},{number(floor)})"
    tau = float(law.time_constant(held, at)[0, 0])
    return _relaxing(level, float(reduced.g0[0]), tau, drive, nodes)


def _profile_averages(p: str, ratio: float, largest: float) -> tuple[str, str]:
    """h(p) = <φ> as an expression, and <F> as a number: <I> = <F> - p h."""
    quadrature = _quadrature(ratio, largest)
    stretch = 1.0 + quadrature.F * (ratio - 1.0)
    weights = quadrature.weights * ratio / (stretch * stretch)
    total, mean = float(weights.sum()), float(weights @ quadrature.F)
    series = ""
    for coefficient in (quadrature.series @ weights)[::-1]:
        series = f"({number(float(coefficient))}+{p}*{series})" if series else number(float(coefficient))
    # no exponent is above 0: for p > 0 the mirrored form of the profile
    up = "+".join(f"{number(w)}*exp({number(F - 1.0)}*{p})" for w, F in zip(weights, quadrature.F, strict=True))
    down = "+".join(f"{number(w)}*exp({number(F)}*{p})" for w, F in zip(weights, quadrature.F, strict=True))
    above = f"({number(mean)}-(({up})-{number(total)}*exp(-{p}))/(1-exp(-{p})))/{p}"
    below = f"({number(mean)}-({number(total)}-({down}))/(1-exp({p})))/{p}"
    limit = number(_SERIES_BELOW)
    return f"({p}>{limit} ? {above} : ({p}<(-{limit}) ? {below} : {series}))", number(mean)


def _quadrature(ratio: float, largest: float) -> conical_profile.Quadrature:
    """The smallest rule that meets the finest one to 1e-13 for all |p| up to ``largest``."""
    probe = np.concatenate([np.linspace(-largest, largest, 201), [0.0]])
    exact = conical_profile.averages(probe, np.array(ratio)).h
    for order in _QUADRATURE_ORDERS:
        candidate = conical_profile.Quadrature.gauss(order)
        if np.abs(conical_profile.averages(probe, np.array(ratio), candidate).h - exact).max() < 1e-13:
            return candidate
    return conical_profile.QUADRATURE


def _relaxing(level: str, g0: float, tau: float, drive: SpiceDrive, nodes: Sequence[str]) -> SpiceModel:
    """The state node carries g/g0, of order 1 whatever the device."""
    rate = f"(({level})-{nodes[0]})*{number(1.0 / tau)}"
    return SpiceModel(f"{number(g0)}*{nodes[0]}*({drive.voltage})", (SpiceState(rate, g0),))


def _fitted(law: Device, parameters: Mapping[str, float], drive: SpiceDrive, nodes: Sequence[str]) -> SpiceModel:
    held = _arrays(parameters)
    if law.kind is StateKind.NONE:

        def current(v: FloatArray) -> FloatArray:
            return law.current(_wide(held, v.size), _at(drive, v), np.empty((0, v.size)))

        return SpiceModel(_pieces(law, current, drive.voltage))
    if law.kind is not StateKind.RELAXATION or law.states != ("conductance",):
        raise ConfigError(
            f"law {law.name!r} cannot be written as a netlist; give its class a method `spice` (see the guide to device laws)"
        )
    g0 = float(law.steady_state(held, _at(drive, np.zeros(1)))[0, 0])
    taus = law.time_constant(_wide(held, 3), _at(drive, np.array([-1.0, 0.0, 1.0])))[0]
    if np.ptp(taus) > 1e-12 * taus[1]:
        raise ConfigError(f"law {law.name!r}: its time constant depends on the voltage; give its class a method `spice`")

    def level(v: FloatArray) -> FloatArray:
        return np.asarray(law.steady_state(_wide(held, v.size), _at(drive, v))[0] / g0)

    return _relaxing(_pieces(law, level, drive.voltage), g0, float(taus[1]), drive, nodes)


def _pieces(law: Device, function: Callable[[FloatArray], FloatArray], voltage: str) -> str:
    """``function`` on ± FIT_RANGE volts as polynomials, halved until each is good to 1e-11 of the largest value.

    Outside the range it is held at its end values.
    """
    waiting, done = [(-FIT_RANGE, FIT_RANGE)], []
    largest = float(np.abs(function(np.linspace(-FIT_RANGE, FIT_RANGE, 9))).max()) or 1.0
    angle = (np.arange(_FIT_DEGREE + 1) + 0.5) * np.pi / (_FIT_DEGREE + 1)
    to_coefficients = 2.0 / (_FIT_DEGREE + 1) * np.cos(np.outer(np.arange(_FIT_DEGREE + 1), angle))
    to_coefficients[0] *= 0.5
    while waiting:
        low, high = waiting.pop()
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        series = to_coefficients @ function(middle + half * np.cos(angle))
        if np.abs(series[-3:]).max() <= _FIT_TOLERANCE * largest or half <= _FIT_NARROWEST:
            done.append((low, half, np.polynomial.chebyshev.cheb2poly(series)))
        else:
            waiting += [(low, middle), (middle, high)]
        if len(done) + len(waiting) > _FIT_PIECES:
            raise ConfigError(
                f"law {law.name!r} is not smooth enough within ±{FIT_RANGE:g} V for a fit; give its class a method `spice`"
            )
    done.sort(key=lambda piece: piece[0])
    v = f"min(max({voltage},{number(-FIT_RANGE)}),{number(FIT_RANGE)})"
    texts = []
    for low, half, polynomial in done:
        u, text = f"(({v}-{number(low + half)})*{number(1.0 / half)})", ""
        for coefficient in polynomial[::-1]:
            text = f"({number(float(coefficient))}+{u}*{text})" if text else number(float(coefficient))
        texts.append(text)
    return choose(f"({voltage})", [low for low, _, _ in done[1:]], texts)


def _arrays(parameters: Mapping[str, float]) -> Parameters:
    return {name: np.array([value]) for name, value in parameters.items()}


def _wide(parameters: Parameters, size: int) -> Parameters:
    return {name: np.broadcast_to(values, (size,)) for name, values in parameters.items()}


def _at(drive: SpiceDrive, voltage: FloatArray) -> EdgeDrive:
    return EdgeDrive(
        voltage,
        np.full_like(voltage, drive.pressure_difference),
        np.full_like(voltage, drive.concentration_base),
        np.full_like(voltage, drive.concentration_tip),
    )


_Writer = Callable[[Device, Mapping[str, float], SpiceDrive, Sequence[str]], SpiceModel | None]
_CLOSED_FORMS: Mapping[str, _Writer] = {"ohmic": _ohmic, "saturating": _saturating, "conical_channel": _conical}
