"""Compiled scalar device laws: steady current and slope of one edge from its voltage and a row of eight numbers.

A law without a kernel here is solved all the same, through its array methods; a kernel only makes it faster. Rows are
made by ``simulated_backend.solve.rows``.
"""

import math

import numpy as np
from numpy.typing import NDArray

from hil.core.types import FloatArray
from simulated_backend.solve.jit import compiled

OHMIC, SATURATING, CONICAL = 0, 1, 2
ROW = 8
"""Numbers per edge: ohmic (g); saturating (g0, a, 1/V0); conical (g0, p_V, p_P, κ/V, R_b/R_t, Δρ/ρ_b, floor)."""

_STEP = 1.0 / 16.0
_TANH = np.tanh(np.arange(0, 321) * _STEP)


def _quadrature(count: int) -> tuple[FloatArray, FloatArray]:
    """Gauss-Legendre in t with F = sin²(πt/2): nodes F and weights dF, clustered at both ends of the channel."""
    x, w = np.polynomial.legendre.leggauss(count)
    t = 0.5 * (x + 1.0)
    return np.sin(0.5 * np.pi * t) ** 2, 0.5 * w * 0.5 * np.pi * np.sin(np.pi * t)


_F, _DF = _quadrature(64)


@compiled
def tanh(x: float) -> float:
    """Hyperbolic tangent to 2 units in the last place: a table every 1/16 and the addition formula, no branches inside."""
    magnitude = min(abs(x), 20.0)
    k = np.uintp(magnitude * 16.0 + 0.5)
    b = magnitude - float(k) * 0.0625
    s = b * b
    small = b * (1.0 + s * (-1.0 / 3.0 + s * (2.0 / 15.0 + s * (-17.0 / 315.0 + s * (62.0 / 2835.0)))))
    big = _TANH[k]
    value = (big + small) / (1.0 + big * small)
    return math.copysign(value, x)


@compiled
def conical_ratio(
    per_volt: float, by_pressure: float, charge: float, r: float, drop: float, floor: float, v: float
) -> tuple[float, float]:
    """g∞/g0 of the conical channel and its slope in 1/V: 1 − (Δρ/ρ_b)<I> + κh, averaged over x by 64 nodes.

    p = p_V·V + p_P is the Péclet number of the flow, I(F,p) = (e^{pF} − 1)/(e^p − 1), φ = (F − I)/p, h = <φ>. The
    arguments are columns 1 to 6 of the row.
    """
    p = per_volt * v + by_pressure
    p = min(max(p, -700.0), 700.0)
    kappa = charge * v
    mean_i = mean_di = h = dh = 0.0
    small = abs(p) < 1e-3
    tail = math.exp(-abs(p))
    rest = -math.expm1(-abs(p))
    for q in range(_F.size):
        f = _F[q]
        stretch = 1.0 + f * (r - 1.0)
        weight = _DF[q] * r / (stretch * stretch)
        if small:
            c = f * (1.0 - f)
            phi = 0.5 * c + p * c * (2.0 * f - 1.0) / 12.0 - p * p * c * c / 24.0
            dphi = c * (2.0 * f - 1.0) / 12.0 - p * c * c / 12.0
            i = f - p * phi
            di = -phi - p * dphi
        else:
            if p > 0.0:
                low = -math.expm1(-p * f)
                far = math.exp(-p * (1.0 - f))
                i = far * low / rest
                di = i * (-(1.0 - f) - tail / rest) + far * f * math.exp(-p * f) / rest
            else:
                i = -math.expm1(p * f) / rest
                di = -f * math.exp(p * f) / rest + i * tail / rest
            phi = (f - i) / p
            dphi = -(di + phi) / p
        mean_i += weight * i
        mean_di += weight * di
        h += weight * phi
        dh += weight * dphi
    ratio = 1.0 - drop * mean_i + kappa * h
    slope = charge * h + (kappa * dh - drop * mean_di) * per_volt
    if ratio < floor:
        return floor, 0.0
    return ratio, slope


@compiled
def conical_level(rows: FloatArray, e: int, v: float) -> tuple[float, float]:
    """``conical_ratio`` of the row of edge ``e``."""
    return conical_ratio(rows[e, 1], rows[e, 2], rows[e, 3], rows[e, 4], rows[e, 5], rows[e, 6], v)


@compiled
def steady(code: int, rows: FloatArray, e: int, v: float) -> tuple[float, float]:
    """Steady current (A) and dI/dV (S) of edge ``e`` at voltage v (V)."""
    if code == SATURATING:
        x = v * rows[e, 2]
        bend = tanh(x)
        turn = rows[e, 0] * rows[e, 1]
        held = rows[e, 0] + turn * bend
        return held * v, held + turn * x * (1.0 - bend * bend)
    if code == OHMIC:
        return rows[e, 0] * v, rows[e, 0]
    ratio, slope = conical_level(rows, e, v)
    return rows[e, 0] * ratio * v, rows[e, 0] * (ratio + v * slope)


@compiled
def level(code: int, rows: FloatArray, e: int, v: float) -> float:
    """Conductance (S) that edge ``e`` relaxes to at voltage v (V)."""
    if code == SATURATING:
        return float(rows[e, 0] * (1.0 + rows[e, 1] * tanh(v * rows[e, 2])))
    if code == OHMIC:
        return float(rows[e, 0])
    return float(rows[e, 0] * conical_level(rows, e, v)[0])


@compiled
def steady_edges(codes: NDArray[np.int32], rows: FloatArray, voltage: FloatArray, current: FloatArray, slope: FloatArray) -> None:
    """``steady`` over all edges; fills ``current`` and ``slope`` (n_edges,)."""
    for e in range(voltage.size):
        current[e], slope[e] = steady(codes[e], rows, e, voltage[e])


@compiled
def level_edges(codes: NDArray[np.int32], rows: FloatArray, voltage: FloatArray, out: FloatArray) -> None:
    """``level`` over all edges; fills ``out`` (n_edges,)."""
    for e in range(voltage.size):
        out[e] = level(codes[e], rows, e, voltage[e])
