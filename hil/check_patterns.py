"""How a network answers to pressures that are not what was asked for, and which stimuli tell whose pressure that is.

Unknown are the error of every pressure (Pa, more at the node than was asked for), and beside them what the twin need not have
right: the conductance of every edge, and by which factor an edge feels a pressure. Only differences of pressures act, so that
one level common to all errors stays unknown. At rest an error that all edges of a node feel looks much the same whichever end
it is at; with other pressures applied, one edge after the other is emptied of salt, and then it feels a few pascals.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from hil.bench import Assembled
from hil.bench_check import conducting
from hil.core.errors import LimitExceededError
from hil.core.types import BoolArray, Channel, FloatArray, Layout, Quantity, Stimulus

if TYPE_CHECKING:
    from simulated_backend.twin import SimulatedTwin

BIAS = (0.25, 0.5)
"""Of the way from rest to the limits of a pressure."""
PATTERNS = 24
"""Of several pressures at once that are considered; with three or fewer all there are."""
MOST = 6
"""Stimuli that are applied, besides those at rest."""
ENOUGH = 4.0
"""Standard deviations between the error looked for of one pressure, and any error of another that resembles it most."""
UNKNOWN = 2e3
"""Pa: standard deviation of an error before anything is known of it, 20 cm of water."""
EXACT = 10.0
"""Pa: the same of an error that is not looked for: what a controller whose zero is known holds a pressure to."""
CONDUCTANCE, SENSITIVITY = 0.01, 0.02
"""Standard deviations of the logarithms of what small voltages say of an edge, and of what an edge makes of a pressure."""
MODEL_ERROR, FLOOR = 0.002, 0.001
"""What leads, meters and the law may be off by: of a signal, and of the largest one of that output."""
LITTLE, TOO_MUCH = 500.0, 0.15
"""Pa, and share of the largest signal that so much may change in a stimulus that is of use."""


class Pressures:
    """Outputs of the twin as a function of x: errors of the n pressures, logarithms of conductances, and of the sensitivity."""

    def __init__(self, assembled: Assembled, factors: FloatArray, rest: Stimulus) -> None:
        self.controls: Layout = assembled.backend.capabilities.controls
        self.channels: list[Channel] = list(self.controls.of(Quantity.PRESSURE))
        self._columns = [self.controls.index(channel.name) for channel in self.channels]
        self._assembled, self._factors, self.rest = assembled, factors, rest
        self.n_pressures, self.size = len(self.channels), len(self.channels) + len(factors) + 1

    def signals(self, stimuli: Sequence[Stimulus], *points: FloatArray) -> FloatArray:
        """Differences to what is read at rest, (n, n_outputs), or (n_points, n, n_outputs) for several x that differ in the
        errors of pressures only. NaN in rows in which Newton's method finds no steady state."""
        moved = [self._moved(one, x) for x in points for one in (self.rest, *stimuli)]
        found = self._twin(points[0]).attempted(moved).reshape(len(points), len(stimuli) + 1, -1)
        difference: FloatArray = found[:, 1:] - found[:, :1]
        return difference if len(points) > 1 else difference[0]

    def jacobian(self, stimuli: Sequence[Stimulus], x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """``signals``, and their derivatives by x, (n, n_outputs, len(x))."""
        moved = [self._moved(one, x) for one in (self.rest, *stimuli)]
        found, by_control, by_edge = self._twin(x).linearised(moved)
        by_pressure = by_control[..., self._columns]
        # What the sensitivity adds to every pressure.
        added = np.array([one.values[self._columns] for one in moved]) - self.rest.values[self._columns] - x[: self.n_pressures]
        by_sensitivity = np.einsum("nop,np->no", by_pressure, added)
        slopes = np.concatenate([by_pressure, by_edge, by_sensitivity[..., None]], axis=-1)
        return found[1:] - found[0], slopes[1:] - slopes[0]

    def _twin(self, x: FloatArray) -> "SimulatedTwin":
        return conducting(self._assembled, self._factors * np.exp(x[self.n_pressures : -1]))

    def _moved(self, stimulus: Stimulus, x: FloatArray) -> Stimulus:
        values, rest = stimulus.values.copy(), self.rest.values[self._columns]
        values[self._columns] = rest + (values[self._columns] - rest) * np.exp(x[-1]) + x[: self.n_pressures]
        return Stimulus(values, stimulus.connected)


def priors(model: Pressures, free: Sequence[int]) -> FloatArray:
    """Standard deviations of x before anything is measured, where the errors of the pressures ``free`` are looked for."""
    found = np.full(model.size, CONDUCTANCE)
    found[: model.n_pressures], found[-1] = EXACT, SENSITIVITY
    found[list(free)] = UNKNOWN
    return found


def doubts(signal: FloatArray, slopes: FloatArray, n_pressures: int) -> FloatArray:
    """Standard deviation of every signal (n, n_outputs) beside its noise: model, and unrest of the pressures while it is read."""
    unrest = EXACT * np.sqrt((slopes[..., :n_pressures] ** 2).sum(axis=-1))
    largest = np.maximum(np.abs(signal).max(axis=0, initial=0.0), 1e-300)
    found: FloatArray = np.sqrt(unrest**2 + (MODEL_ERROR * signal) ** 2 + (FLOOR * largest) ** 2)
    return found


def chosen(model: Pressures, sources: Sequence[Stimulus], error: float, assembled: Assembled) -> list[Stimulus]:
    """The few stimuli that tell ``error`` (Pa) of every pressure apart best: ``sources``, with pressures moved.

    Greedy D-optimal design (Fedorov, Theory of Optimal Experiments, 1972, chapter 3): the next stimulus is the one that makes
    the determinant of the covariance of the errors smallest, until every error of the size looked for stands out from those of
    the other pressures that resemble it most. What the limits do not allow is not considered.
    """
    candidates = [one for one in _candidates(model, sources) if _allowed(assembled, one)]
    if not candidates:
        return []
    candidates = [one for one, delicate in zip(candidates, _delicate(model, candidates), strict=True) if not delicate]
    if not candidates:
        return []
    signal, slopes = model.jacobian(candidates, np.zeros(model.size))
    weighted = slopes / doubts(signal, slopes, model.n_pressures)[..., None]
    each = np.einsum("noi,noj->nij", weighted, weighted)
    n = model.n_pressures
    known = np.diag(priors(model, range(n)) ** -2.0)
    found: list[int] = []
    while len(found) < min(MOST, len(candidates)):
        gain = np.linalg.slogdet(np.linalg.inv(known + each)[:, :n, :n])[1]
        gain[found] = np.inf
        found.append(int(np.argmin(gain)))
        known = known + each[found[-1]]
        if _distance(known, n, error) >= ENOUGH:
            break
    return [candidates[k] for k in found]


def _delicate(model: Pressures, candidates: Sequence[Stimulus]) -> BoolArray:
    """Stimuli at which a little pressure more or less turns everything over: emptied channels in series have several steady
    states, and which one they take, no model says. Newton's method does not find one there, or finds another."""
    points = [np.zeros(model.size)]
    for k, sign in product(range(model.n_pressures), (-1.0, 1.0)):
        points.append(sign * LITTLE * np.eye(model.size)[k])
    usual, *moved = model.signals(candidates, *points)
    largest = np.nanmax(np.abs(usual), axis=0, initial=0.0)
    steady = np.array([(np.abs(one - usual) <= TOO_MUCH * largest).all(axis=1) for one in moved])
    return np.asarray(~steady.all(axis=0))


def _distance(known: FloatArray, n: int, error: float) -> float:
    """Standard deviations between ``error`` of the pressure that is told apart worst, and the likest error of another one."""
    covariance = np.linalg.inv(known)[:n, :n] + EXACT**2 * np.eye(n)
    information = np.linalg.inv(covariance)
    own = np.diag(information)
    apart = own[:, None] - information**2 / own[None, :] + np.diag(own)
    return float(error * np.sqrt(max(apart.min(), 0.0)))


def _candidates(model: Pressures, sources: Sequence[Stimulus]) -> Iterator[Stimulus]:
    """Every source with pressures at rest, with one of them moved, and with several."""
    n = model.n_pressures
    single = [sign * row for row in np.eye(n) for sign in (-1.0, 1.0)]
    if 3**n <= PATTERNS + 3:
        several = [np.array(signs, dtype=np.float64) for signs in product((-1, 0, 1), repeat=n) if np.count_nonzero(signs) > 1]
    else:
        several = list(np.random.default_rng(n).integers(-1, 2, (PATTERNS, n)).astype(np.float64))
    for source in sources:
        values = source.values
        yield source
        for pattern, bias in [(one, bias) for one in single for bias in BIAS] + [(one, BIAS[-1]) for one in several]:
            moved = values.copy()
            for channel, sign in zip(model.channels, pattern, strict=True):
                column = model.controls.index(channel.name)
                room = channel.maximum - values[column] if sign > 0.0 else values[column] - channel.minimum
                moved[column] += bias * sign * room
            yield Stimulus(moved, model.rest.connected)


def _allowed(assembled: Assembled, stimulus: Stimulus) -> bool:
    try:
        assembled.backend.envelope.check(stimulus.values, stimulus.connected)
    except LimitExceededError:
        return False
    return True
