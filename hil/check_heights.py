"""Whether pressure controllers stand where the bench file says, relative to their nodes.

A controller knows the pressure at its own outlet only, and at small voltages a channel does not feel a pressure. So equal
pressures are asked for at all nodes and a larger voltage is applied, at which the channels rectify: a column of liquid that
the bench file does not know of bends what the outputs read. The network predicts it with the conductances found before.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hil.bench import Assembled
from hil.bench_check import conducting
from hil.core.errors import LimitExceededError
from hil.core.hydrostatics import head
from hil.core.twin import Twin
from hil.core.types import BoolArray, FloatArray, Layout, Quantity, SettlePolicy, Stimulus

SHARE = 0.6
"""Of a source's limit that is applied; a tenth of it shows nothing of a pressure."""
MODEL_ERROR = 0.005
"""Of a signal: what leads, meters and the law may be off by without any height being wrong."""
SETTLE = SettlePolicy(tolerance=2e-3, window=0.5, timeout=120.0)
"""Coarser than at small voltages, because the unrest of the controllers shows here."""
CERTAIN = 3.0
"""Standard deviations."""
PROBE = 100.0
"""Pa: step of the difference quotient."""
ITERATIONS = 8


@dataclass(frozen=True)
class Strong:
    """Readings of ``stimuli``, which begin and end at 0 V: values, std (n, n_outputs), overload (n_outputs,)."""

    stimuli: Sequence[Stimulus]
    values: FloatArray
    std: FloatArray
    overload: BoolArray


@dataclass(frozen=True)
class Column:
    """What one control's height alone would have to be wrong by: Pa more at its node than was asked for, the standard deviation
    of that, and how many standard deviations are left unexplained at the worst reading."""

    pascal: float
    doubt: float
    left: float


def strong_stimuli(controls: Layout, chosen: Mapping[str, float], rest: Stimulus) -> list[Stimulus]:
    """0 V, every source of ``chosen`` (name -> small voltage) alone at a good part of its limit, 0 V. Empty with fewer than two
    pressures: only differences act."""
    if sum(channel.quantity is Quantity.PRESSURE for channel in controls) < 2:
        return []

    def alone(name: str) -> Stimulus:
        values, channel = rest.values.copy(), controls[name]
        values[controls.index(name)] = SHARE * (channel.maximum if chosen[name] > 0.0 else channel.minimum)
        return Stimulus(values, rest.connected)

    return [rest, *(alone(name) for name in chosen), rest]


def measure_strong(assembled: Assembled, stimuli: Sequence[Stimulus], samples: int) -> Strong | None:
    """None where there is nothing to measure, or where a difference across an edge would be more than it bears."""
    backend = assembled.backend
    if not stimuli or backend.capabilities.replicas:
        return None
    try:
        for stimulus in stimuli:
            backend.envelope.check(stimulus.values, stimulus.connected)
    except LimitExceededError:
        return None
    readings = backend.measure(stimuli, SETTLE, samples)
    return Strong(stimuli, readings.values, readings.std, np.logical_or.reduce(readings.overload, axis=0))


class _Bent:
    """Standardised differences between readings and predictions, as a function of one pressure's error."""

    def __init__(self, twin: Twin, controls: Layout, strong: Strong) -> None:
        self._twin, self._controls, self._strong = twin, controls, strong
        usable = ~strong.overload
        self._signal = np.where(usable, strong.values[1:-1] - strong.values[[0, -1]].mean(axis=0), 0.0)
        self._usable = usable
        expected = self._predicted("", 0.0)
        scale = np.maximum(np.abs(expected).max(axis=0), 1e-300)
        self._sigma = np.where(usable, np.sqrt(strong.std[1:-1] ** 2 + strong.std[0] ** 2 + (MODEL_ERROR * scale) ** 2), np.inf)

    def _predicted(self, name: str, pascal: float) -> FloatArray:
        moved = []
        for stimulus in self._strong.stimuli:
            values = stimulus.values.copy()
            if name:
                values[self._controls.index(name)] += pascal
            moved.append(Stimulus(values, stimulus.connected))
        found = self._twin.predict(moved)
        difference: FloatArray = np.where(self._usable, found[1:-1] - found[[0, -1]].mean(axis=0), 0.0)
        return difference

    def left(self, name: str, pascal: float) -> FloatArray:
        """(n,)"""
        return ((self._signal - self._predicted(name, pascal)) / self._sigma).ravel()

    def column(self, name: str) -> Column:
        """The error of ``name`` alone that explains the readings best: Gauss and Newton, with a difference quotient."""
        pascal, slope = 0.0, np.zeros(1)
        for _ in range(ITERATIONS):
            now = self.left(name, pascal)
            slope = (now - self.left(name, pascal + PROBE)) / PROBE
            if not slope.any():
                break
            pascal += float(np.clip(slope @ now / (slope @ slope), -2e3, 2e3))
        weight = float(slope @ slope)
        return Column(pascal, weight**-0.5 if weight > 0.0 else np.inf, float(np.abs(self.left(name, pascal)).max()))


def columns(assembled: Assembled, factors: FloatArray, strong: Strong) -> tuple[float, dict[str, Column]]:
    """How far off the readings are if every height is right (standard deviations, the worst), and what each pressure's height
    alone would have to be wrong by. ``factors`` (n_edges,): conductances over the twin's."""
    controls = assembled.backend.capabilities.controls
    bent = _Bent(conducting(assembled, factors), controls, strong)
    return float(np.abs(bent.left("", 0.0)).max()), {one.name: bent.column(one.name) for one in controls.of(Quantity.PRESSURE)}


def judged(as_declared: float, found: Mapping[str, Column], limit: float) -> Iterator[tuple[str, str, str]]:
    """Control, sentence, verdict. One is wrong that alone explains what no declared height does, by more than ``limit`` Pa."""
    explaining = {name: one for name, one in found.items() if one.left < CERTAIN and abs(one.pascal) > limit}
    if as_declared <= CERTAIN:
        for name, one in found.items():
            reach = CERTAIN * one.doubt
            if reach <= 10.0 * limit:
                yield name, f"as the bench file says, as far as {_metres(reach)} of water would show", "ok"
            else:
                yield name, "the sources and meters of this bench do not show its height", "note"
        return
    for name, one in found.items():
        others = " or ".join(f"{other!r}" for other in explaining if other != name)
        if name in explaining:
            text = f"the node has {one.pascal:+.3g} Pa more than was asked for: its `height` is off by {_metres(one.pascal)}"
            yield name, text + (f" (or that of {others} alone is)" if others else ""), "wrong"
        else:
            yield name, "its height alone does not explain what the outputs read at a larger voltage", "ok" if others else "note"


def _metres(pascal: float) -> str:
    return f"{100.0 * pascal / head(1.0):.2g} cm"
