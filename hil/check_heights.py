"""Whether pressure controllers stand where the bench file says, relative to their nodes, and which of them does not.

A controller knows the pressure at its own outlet only, and at small voltages a channel does not feel a pressure. So a larger
voltage is applied, at which the channels rectify, together with a few patterns of pressure: a column of liquid that the bench
file does not know of bends what the outputs read. Which patterns, ``hil.check_patterns`` says.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hil.bench import Assembled
from hil.check_patterns import Pressures, chosen, doubts, priors
from hil.core.hydrostatics import head
from hil.core.types import BoolArray, FloatArray, Layout, Quantity, SettlePolicy, Stimulus

SHARE = 0.6
"""Of a source's limit that is applied; a tenth of it shows nothing of a pressure."""
SETTLE = SettlePolicy(tolerance=1e-2, window=0.5, timeout=120.0)
"""Coarser than at small voltages, because the unrest of the controllers shows here."""
LIMIT = 100.0
"""Pa; a height is right to a centimetre of water."""
CERTAIN = 3.0
"""Standard deviations."""
FURTHEST = 3.0
"""Standard deviations of what is known before, within which an explanation is looked for: 60 cm of water."""
UNEXPLAINED = 5.0
"""Standard deviations that the worst reading may be off before no error of a pressure explains it."""


@dataclass(frozen=True)
class Strong:
    """Readings of ``stimuli``, which begin and end at rest: values, std, overload (n, n_outputs)."""

    stimuli: Sequence[Stimulus]
    values: FloatArray
    std: FloatArray
    overload: BoolArray


@dataclass(frozen=True)
class Explained:
    """How well the readings are explained by errors of some pressures: ``misfit`` is chi squared, ``worst`` the standard
    deviations of the worst reading, ``left`` (n_outputs,) what is not explained, as a share of the largest signal; errors and
    their standard deviations (n_pressures,) in Pa."""

    misfit: float
    worst: float
    left: FloatArray
    errors: FloatArray
    doubt: FloatArray


@dataclass(frozen=True)
class Explanations:
    """With every height as declared, with one wrong, and with all free; ``names`` of the pressures."""

    names: Sequence[str]
    declared: Explained
    alone: Sequence[Explained]
    together: Explained | None = None


def strong_stimuli(controls: Layout, chosen: Mapping[str, float], rest: Stimulus) -> list[Stimulus]:
    """Every source of ``chosen`` (name -> small voltage) alone at a good part of its limit. Empty with fewer than two
    pressures: only differences act."""
    if sum(channel.quantity is Quantity.PRESSURE for channel in controls) < 2:
        return []

    def alone(name: str) -> Stimulus:
        values, channel = rest.values.copy(), controls[name]
        values[controls.index(name)] = SHARE * (channel.maximum if chosen[name] > 0.0 else channel.minimum)
        return Stimulus(values, rest.connected)

    return [alone(name) for name in chosen]


def measure_strong(
    assembled: Assembled, sources: Sequence[Stimulus], rest: Stimulus, factors: FloatArray, samples: int
) -> Strong | None:
    """None where there is nothing to measure: no ``sources``, replicas, or limits that allow nothing. ``factors`` (n_edges,):
    conductances over the twin's."""
    backend = assembled.backend
    if not sources or backend.capabilities.replicas:
        return None
    found = chosen(Pressures(assembled, factors, rest), sources, LIMIT, assembled)
    if not found:
        return None
    stimuli = [rest, *found, rest]
    readings = backend.measure(stimuli, SETTLE, samples)
    return Strong(stimuli, readings.values, readings.std, readings.overload)


class _Fit:
    """Least squares on x of ``Pressures``: sum(((y - signals(x)) / sigma)^2) + sum(((x - x0) / prior)^2)."""

    def __init__(self, model: Pressures, strong: Strong, zeros: FloatArray) -> None:
        self._model = model
        self._start = np.concatenate([zeros, np.zeros(model.size - len(zeros))])
        expected, slopes = model.jacobian(strong.stimuli[1:-1], self._start)
        # With what the controllers really hold, a stimulus may have no steady state of which the twin knows.
        kept = np.flatnonzero(np.isfinite(expected).all(axis=1))
        expected, slopes = expected[kept], slopes[kept]
        values, std, overload = (one[1:-1][kept] for one in (strong.values, strong.std, strong.overload))
        self._stimuli = [strong.stimuli[int(k) + 1] for k in kept]
        usable = ~(overload | strong.overload[0] | strong.overload[-1])
        self._signal = np.where(usable, values - strong.values[[0, -1]].mean(axis=0), 0.0)
        beside = doubts(self._signal, slopes, model.n_pressures)
        self._largest = np.maximum(np.abs(expected).max(axis=0, initial=0.0), 1e-300)
        self._sigma = np.where(usable, np.sqrt(std**2 + strong.std[0] ** 2 + beside**2), np.inf)

    def explained(self, free: Sequence[int]) -> Explained:
        """With errors of the pressures ``free``, all others as they were found at rest."""
        from scipy.optimize import least_squares

        model, prior, n = self._model, priors(self._model, free), self._model.n_pressures

        def residual(scaled: FloatArray) -> FloatArray:
            left = (self._signal - model.signals(self._stimuli, self._start + prior * scaled)) / self._sigma
            return np.concatenate([left.ravel(), scaled])

        def slope(scaled: FloatArray) -> FloatArray:
            _, slopes = model.jacobian(self._stimuli, self._start + prior * scaled)
            rows = -(slopes / self._sigma[..., None]).reshape(-1, model.size) * prior
            return np.vstack([rows, np.eye(model.size)])

        # A step to where Newton's method finds no steady state gives NaN, and is shortened.
        how: dict[str, Any] = {"jac": slope, "bounds": (-FURTHEST, FURTHEST), "xtol": 1e-4, "ftol": 1e-4, "max_nfev": 20}
        best = least_squares(residual, np.zeros(model.size), **how)
        covariance = np.linalg.inv(best.jac.T @ best.jac)
        left = best.fun[: -model.size]
        doubt = prior * np.sqrt(np.diag(covariance))
        share = np.where(np.isfinite(self._sigma), np.abs(left.reshape(self._sigma.shape) * self._sigma), 0.0) / self._largest
        errors = (self._start + prior * best.x)[:n]
        worst, beyond = float(np.abs(left).max(initial=0.0)), share.max(axis=0, initial=0.0)
        return Explained(2.0 * float(best.cost), worst, beyond, errors, doubt[:n])


def explanations(assembled: Assembled, factors: FloatArray, strong: Strong, at_rest: Mapping[str, float]) -> Explanations:
    """``at_rest``: what the controllers read (Pa) while all are at rest. One that shows more than the mean of all holds less
    than it is told by as much, which is no matter of its height."""
    model = Pressures(assembled, factors, strong.stimuli[0])
    names = [channel.name for channel in model.channels]
    shown = np.array([at_rest.get(name, np.nan) for name in names])
    zeros = np.zeros(len(names)) if np.isnan(shown).any() else shown.mean() - shown
    fit = _Fit(model, strong, zeros)
    declared, alone = fit.explained(()), [fit.explained((k,)) for k in range(len(names))]
    best = min(one.misfit for one in alone)
    several = len(names) > 2 and declared.misfit - best > CERTAIN**2
    return Explanations(names, declared, alone, fit.explained(range(len(names))) if several else None)


def unexplained(found: Explanations) -> FloatArray:
    """What no heights explain, (n_outputs,): a share of the largest signal that an output has at larger voltages."""
    every = [found.declared, *found.alone, *([found.together] if found.together else [])]
    return min((one.left for one in every), key=lambda left: float(left.max()))


def judged(found: Explanations) -> Iterator[tuple[str, str, str]]:
    """Control, sentence, verdict."""
    order = np.argsort([one.misfit for one in found.alone])
    best = int(order[0])
    one = found.alone[best]
    off = float(one.errors[best])
    if found.declared.misfit - one.misfit <= CERTAIN**2 or abs(off) <= LIMIT:
        yield from _right(found)
        return
    together = found.together
    # Every further height that is free has to be worth it.
    if together is not None and one.misfit - together.misfit > CERTAIN**2 + 2.0 * len(found.names):
        yield from _several(found.names, together)
        return
    if one.worst > UNEXPLAINED:
        for name in found.names:
            yield name, "no single height explains what the outputs read at larger voltages", "note"
        return
    likely = {int(k): found.alone[k] for k in order[1:] if found.alone[k].misfit - one.misfit <= CERTAIN**2}
    for k, name in enumerate(found.names):
        text = f"the node has {found.alone[k].errors[k]:+.3g} Pa more than was asked for: its `height` is off by "
        text += _centimetres(found.alone[k].errors[k])
        if k == best:
            others = " or ".join(repr(found.names[other]) for other in likely)
            yield name, text + (f" (or, less likely, that of {others})" if others else ""), "wrong"
        elif k in likely:
            yield name, f"less likely than {found.names[best]!r}, but possible: {text}", "note"
        else:
            yield name, f"its height does not explain what the outputs read; that of {found.names[best]!r} does", "ok"


def _right(found: Explanations) -> Iterator[tuple[str, str, str]]:
    for k, name in enumerate(found.names):
        reach = max(CERTAIN * float(found.alone[k].doubt[k]), LIMIT)
        if reach <= 10.0 * LIMIT:
            yield name, f"as the bench file says, as far as {_centimetres(reach)} of water would show", "ok"
        else:
            yield name, "the sources and meters of this bench do not show its height", "note"


def _several(names: Sequence[str], together: Explained) -> Iterator[tuple[str, str, str]]:
    """More than one is off; a level common to all does not act, so most are taken to be right."""
    errors = together.errors - np.median(together.errors)
    for k, name in enumerate(names):
        wrong = abs(errors[k]) > max(LIMIT, CERTAIN * together.doubt[k])
        more = f"the node has {errors[k]:+.3g} Pa more than was asked for, beside the middle of all"
        text = f"{more}: its `height` is off by {_centimetres(errors[k])}"
        yield name, text, "wrong" if wrong else "ok"


def _centimetres(pascal: float) -> str:
    return f"{100.0 * pascal / head(1.0):.2g} cm"
