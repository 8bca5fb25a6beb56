"""Conical channel with the salt profile in its own field: the boundary-value problem behind ``form: self-consistent``.

In the notation of ``conical_profile``, u = ρ̄/2ρ_b and γ = g/g0 obey

    d/dF [ −u' + p u − κ(a + F) γ/u ] = 0,   u(0) = 1,   u(1) = ρ_t/ρ_b,   γ = 1/∫ dF/u,   a = 1/(r − 1):

the flux balance of the published law with the field proportional to 1/(R²u) in place of 1/R², and the resistance of the
sections in series in place of the mean salt. It keeps u above zero at every voltage. At first order in κ it gives
g/g0 = 1 + κ∫φ dF = 1 + κ/12, where the published law averages φ over x.
"""

from functools import lru_cache

import numpy as np

from hil.core.errors import NotConvergedError
from hil.core.types import FloatArray

_NEWTON = 30
_TOLERANCE = 1e-12
_SMALLEST_STEP = 1e-4


def conductance(
    p: FloatArray, kappa: FloatArray, ratio: FloatArray, tip: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """γ = g/g0 and its derivatives by p and κ, each of the broadcast shape of the arguments.

    ``tip`` is ρ_t/ρ_b. Solved by Newton on a Chebyshev grid, continued in the drive where Newton alone does not arrive;
    solutions are remembered. Raises NotConvergedError where no profile is found.
    """
    arguments = np.broadcast_arrays(p, kappa, ratio, tip)
    flat = np.stack([np.ravel(argument) for argument in arguments], axis=-1)
    rows = np.array([_solved(*(float(number) for number in row)) for row in flat]).reshape(*arguments[0].shape, 3)
    return rows[..., 0], rows[..., 1], rows[..., 2]


@lru_cache(maxsize=4)
def _grid(count: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Chebyshev points on 0 … 1 (count + 1,), differentiation matrix, Clenshaw-Curtis weights."""
    angle = np.pi * np.arange(count + 1) / count
    x = -np.cos(angle)
    c = np.where((np.arange(count + 1) == 0) | (np.arange(count + 1) == count), 2.0, 1.0) * (-1.0) ** np.arange(count + 1)
    # x_i − x_j from a product of sines, which keeps all digits where the points crowd
    gap = 2.0 * np.sin(0.5 * (angle[:, None] + angle[None, :])) * np.sin(0.5 * (angle[:, None] - angle[None, :]))
    derivative = (c[:, None] / c[None, :]) / (gap + np.eye(count + 1))
    derivative -= np.diag(derivative.sum(axis=1))
    moments = np.where(np.arange(count + 1) % 2 == 0, 2.0 / (1.0 - np.arange(count + 1.0) ** 2 + 1e-300), 0.0)
    moments[1] = 0.0
    chebyshev = np.polynomial.chebyshev.chebvander(x, count)
    weights = np.linalg.solve(chebyshev.T, moments)
    return 0.5 * (x + 1.0), np.asarray(2.0 * derivative), np.asarray(0.5 * weights, dtype=np.float64)


@lru_cache(maxsize=65536)
def _solved(p: float, kappa: float, ratio: float, tip: float) -> tuple[float, float, float]:
    """γ, ∂γ/∂p, ∂γ/∂κ of one channel."""
    count = 32 if abs(p) < 30.0 else 64 if abs(p) < 150.0 else 128
    F, D, w = _grid(count)
    # κ(a + F) = κ(1 + F(r − 1))/(r − 1); a cylinder has κ = 0 and no wall term either
    wall = np.zeros_like(F) if ratio == 1.0 else (1.0 + F * (ratio - 1.0)) / (ratio - 1.0)
    u, reached, step = 1.0 + (tip - 1.0) * F, 0.0, 1.0
    jacobian = np.empty((0, 0))
    while reached < 1.0:
        target = min(1.0, reached + step)
        new = _newton(u, target * p, target * kappa, wall, F, D, w)
        if new is None:
            step *= 0.5
            if step < _SMALLEST_STEP:
                raise NotConvergedError(
                    f"conical_channel: no self-consistent salt profile was found at p = {p:g}, κ = {kappa:g}, "
                    f"R_b/R_t = {ratio:g}, ρ_t/ρ_b = {tip:g}; lower the voltage or the pressure difference"
                )
            continue
        u, jacobian = new
        reached, step = target, step * 2.0
    gamma = 1.0 / float(w @ (1.0 / u))
    by_p = np.zeros_like(u)
    by_kappa = np.zeros_like(u)
    by_p[1:-1] = (D @ u)[1:-1]
    by_kappa[1:-1] = -gamma * (D @ (wall / u))[1:-1]
    moved = np.linalg.solve(jacobian, -np.stack([by_p, by_kappa], axis=-1))
    slopes = gamma * gamma * ((w / (u * u)) @ moved)
    return gamma, float(slopes[0]), float(slopes[1])


def _newton(
    u: FloatArray, p: float, kappa: float, wall: FloatArray, F: FloatArray, D: FloatArray, w: FloatArray
) -> tuple[FloatArray, FloatArray] | None:
    """Profile and the Jacobian at it, or None where the iteration does not converge with u > 0."""
    second = D @ D
    ends = u[[0, -1]]
    for _ in range(_NEWTON):
        gamma = 1.0 / (w @ (1.0 / u))
        residual = -second @ u + p * (D @ u) - kappa * gamma * (D @ (wall / u))
        residual[[0, -1]] = u[[0, -1]] - ends
        gamma_by_u = gamma * gamma * w / (u * u)
        jacobian = -second + p * D + kappa * gamma * D * (wall / (u * u)) - kappa * np.outer(D @ (wall / u), gamma_by_u)
        jacobian[[0, -1]] = 0.0
        jacobian[0, 0] = jacobian[-1, -1] = 1.0
        change = -np.linalg.solve(jacobian, residual)
        fall = float(np.max(-change / u))
        u = u + change * min(1.0, 0.7 / fall if fall > 0.0 else 1.0)
        if np.max(np.abs(change)) < _TOLERANCE * max(1.0, float(np.max(u))) * (1.0 + abs(p)):
            return u, jacobian
    return None
