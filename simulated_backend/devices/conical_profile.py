"""Salt profile of the conical channel: its averages over the channel, exact derivatives, and the places where it is used up.

Notation of Kamsma et al., PRL 130, 268401 (2023), in the natural coordinate F = (x/L) R_t/R(x), which runs from 0 at the
base to 1 at the tip. With p the Péclet number of the flow times R_t/R_b and r = R_b/R_t,

    I(F, p) = (e^{pF} − 1)/(e^p − 1),   φ(F, p) = (F − I)/p,   <f> = ∫ f r dF/(1 + F(r − 1))²,

where <·> is the plain average over the length x. Averages are taken by Gauss-Legendre quadrature in t with F = sin²(πt/2):
the nodes cluster at both ends, where the profile has its boundary layers, so that 64 nodes serve |p| ≤ 600 to 1e-12.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import comb, factorial

import numpy as np

from hil.core.types import BoolArray, FloatArray

LARGEST_P = 700.0
"""Beyond this e^p overflows; the profile has long reached its limit, so p is held there."""
_SERIES_BELOW = 0.5
_TERMS = 16


@dataclass(frozen=True, slots=True)
class Quadrature:
    """Nodes F (n,), weights dF (n,), and the coefficients of φ in powers of p at these nodes, (n_terms, n)."""

    F: FloatArray
    weights: FloatArray
    series: FloatArray

    @classmethod
    def gauss(cls, count: int) -> "Quadrature":
        """Gauss-Legendre in t on 0 … 1 with F = sin²(πt/2)."""
        x, w = np.polynomial.legendre.leggauss(count)
        t = 0.5 * (x + 1.0)
        F = np.sin(0.5 * np.pi * t) ** 2
        return cls(F, 0.25 * np.pi * w * np.sin(np.pi * t), phi_series(F, _TERMS))


def phi_series(F: FloatArray, terms: int) -> FloatArray:
    """Coefficients c_n(F) of φ = Σ c_n p^n, (terms, n): c_n = −(B_{n+2}(F) − B_{n+2}(0))/(n + 2)!, radius of convergence 2π.

    They follow from the generating function p e^{pF}/(e^p − 1) of the Bernoulli polynomials B_n. The first three are
    F(1−F)/2, F(1−F)(2F−1)/12 and −F²(1−F)²/24.
    """
    numbers = _bernoulli_numbers(terms + 1)
    rows = np.zeros((terms, F.size))
    for n in range(terms):
        order = n + 2
        for power in range(1, order + 1):
            rows[n] -= comb(order, power) * numbers[order - power] * F**power
        rows[n] /= factorial(order)
    return rows


def _bernoulli_numbers(last: int) -> list[float]:
    """B_0 … B_last by Σ_k C(m + 1, k) B_k = 0, exactly; loading scipy.special takes every program longer than all of this."""
    numbers = [Fraction(1)]
    for m in range(1, last + 1):
        numbers.append(-sum((comb(m + 1, k) * number for k, number in enumerate(numbers)), Fraction(0)) / (m + 1))
    return [float(number) for number in numbers]


QUADRATURE = Quadrature.gauss(64)


@dataclass(frozen=True, slots=True)
class Averages:
    """<I>, d<I>/dp, h = <φ> and dh/dp, each of the shape of p."""

    mean_i: FloatArray
    mean_i_slope: FloatArray
    h: FloatArray
    h_slope: FloatArray


def averages(p: FloatArray, ratio: FloatArray, quadrature: Quadrature = QUADRATURE) -> Averages:
    """Averages over the channel at ``p`` and radius ratio ``ratio`` = R_b/R_t, which broadcast against each other."""
    weight = _weight(ratio, quadrature)
    i, phi, i_slope, phi_slope = ((weight * part).sum(axis=-1) for part in profile(p, quadrature))
    return Averages(i, i_slope, phi, phi_slope)


def means(p: FloatArray, ratio: FloatArray, quadrature: Quadrature = QUADRATURE) -> tuple[FloatArray, FloatArray]:
    """<I> and h of ``averages`` without their slopes, which take as long again."""
    weight = _weight(ratio, quadrature)
    i, phi = profile(p, quadrature, slopes=False)
    return (weight * i).sum(axis=-1), (weight * phi).sum(axis=-1)


def _weight(ratio: FloatArray, quadrature: Quadrature) -> FloatArray:
    r = np.asarray(ratio, dtype=np.float64)[..., np.newaxis]
    stretch = 1.0 + quadrature.F * (r - 1.0)
    return np.asarray(quadrature.weights * r / (stretch * stretch))


def profile(p: FloatArray, quadrature: Quadrature, *, slopes: bool = True) -> tuple[FloatArray, ...]:
    """I and φ, with ``slopes`` also dI/dp and dφ/dp, at the nodes, (..., n); free of overflow and of cancellation for every p."""
    q = np.maximum(np.minimum(p, LARGEST_P), -LARGEST_P)[..., np.newaxis]
    small = np.abs(q) < _SERIES_BELOW
    if small.all():
        return _by_series(q, quadrature, slopes)
    direct = _directly(np.where(small, 1.0, q), quadrature.F, slopes)
    if not small.any():
        return direct
    series = _by_series(np.where(small, q, 0.0), quadrature, slopes)
    return tuple(np.where(small, one, other) for one, other in zip(series, direct, strict=True))


def _by_series(p: FloatArray, quadrature: Quadrature, slopes: bool) -> tuple[FloatArray, ...]:
    shape = (*p.shape[:-1], quadrature.F.size)
    phi, slope = np.zeros(shape), np.zeros(shape)
    for row in quadrature.series[::-1]:  # Horner, value and derivative together
        if slopes:
            slope = slope * p + phi
        phi = phi * p + row
    values = quadrature.F - p * phi, phi
    return (*values, -phi - p * slope, slope) if slopes else values


def _directly(p: FloatArray, F: FloatArray, slopes: bool) -> tuple[FloatArray, ...]:
    size = np.abs(p)
    rest = -np.expm1(-size)
    # For p > 0 the mirrored form I = e^{−p(1−F)}(1 − e^{−pF})/(1 − e^{−p}) holds no exponent above 0.
    i = np.where(p > 0, np.exp(-size * (1.0 - F)), 1.0) * -np.expm1(-size * F) / rest
    phi = (F - i) / p
    if not slopes:
        return i, phi
    bernoulli = np.where(p > 0, size * np.exp(-size), size) / rest  # p/(e^p − 1)
    i_slope = phi * bernoulli - i * (1.0 - F)
    return i, phi, i_slope, -(i_slope + phi) / p


def used_up(p: FloatArray, salt_drop: FloatArray, kappa: FloatArray, quadrature: Quadrature = QUADRATURE) -> BoolArray:
    """True where the local salt 1 − (Δρ/ρ_b) I + κφ falls below zero somewhere in the channel: not physical."""
    i, phi = profile(p, quadrature, slopes=False)
    salt = 1.0 - np.asarray(salt_drop)[..., np.newaxis] * i + np.asarray(kappa)[..., np.newaxis] * phi
    return np.asarray(np.any(salt < 0.0, axis=-1))
