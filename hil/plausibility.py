"""Is what was read possible at all? A device that opened or shorted pulls its node to a neighbour that drives it.

A reading says nothing about why it is what it is; this one thing can be told from outside: an output that stands within one
hundredth of the applied span from the highest or lowest voltage applied, where the twin expects it well inside, is no
divided voltage any more. What cannot be noticed: a broken device beside others that carry its current, and one whose
reading stays inside the span.
"""

from collections.abc import Sequence

import numpy as np

from hil.core.errors import ImplausibleError
from hil.core.twin import Twin
from hil.core.types import Layout, Quantity, Readings, Stimulus

AT_THE_RAIL = 0.01
"""Of the applied span: nearer than this to its end an output counts as standing on it."""
WELL_INSIDE = 0.1
"""Of the applied span: farther than this from its ends the twin does not expect it there."""
LEAST_SPAN = 0.1
"""V: a smaller span is not judged, because offsets of instruments count in it."""


class PlausibilityWatch:
    """An observer of a backend: raises ImplausibleError for an output that a broken device has pulled to a rail.

    ``grounded``: the network has a ground node, so that 0 V is applied too.
    """

    def __init__(self, twin: Twin, controls: Layout, outputs: Layout, *, grounded: bool = False) -> None:
        self._twin = twin
        self._ground = np.zeros(int(grounded))
        self._outputs = outputs
        self._voltages = np.array([channel.quantity is Quantity.VOLTAGE for channel in controls], dtype=np.bool_)
        driven = {channel.node for channel in controls.of(Quantity.VOLTAGE)}
        self._read = [
            position
            for position, channel in enumerate(outputs)
            if channel.quantity is Quantity.VOLTAGE and channel.node is not None and channel.node not in driven
        ]

    def __call__(self, stimuli: Sequence[Stimulus], readings: Readings) -> None:
        """Judge a block of readings; overloads are marked already and are not judged."""
        if not self._read:
            return
        suspects = [row for row in range(len(stimuli)) if self._suspect(stimuli[row], readings, row)]
        if not suspects:
            return
        expected = self._twin.predict([stimuli[row] for row in suspects])
        for row, prediction in zip(suspects, expected, strict=True):
            low, high = self._span(stimuli[row])
            for position in self._read:
                value, wanted = float(readings.values[row, position]), float(prediction[position])
                margin = WELL_INSIDE * (high - low)
                if self._on_rail(value, low, high) and low + margin < wanted < high - margin:
                    name = self._outputs.channels[position].name
                    of = f" of {readings.replica[row]!r}" if readings.replica else ""
                    end = "lowest" if value < wanted else "highest"
                    raise ImplausibleError(
                        f"output {name!r}{of} reads {value:.4g} V, the {end} voltage applied, "
                        f"where about {wanted:.4g} V was expected: a device has opened or shorted, or a wire is off"
                    )

    def _suspect(self, stimulus: Stimulus, readings: Readings, row: int) -> bool:
        low, high = self._span(stimulus)
        if not high - low >= LEAST_SPAN:
            return False
        return any(
            not readings.overload[row, position] and self._on_rail(float(readings.values[row, position]), low, high)
            for position in self._read
        )

    def _span(self, stimulus: Stimulus) -> tuple[float, float]:
        applied = np.append(stimulus.values[self._voltages & stimulus.connected], self._ground)
        return (float(applied.min()), float(applied.max())) if len(applied) else (0.0, 0.0)

    @staticmethod
    def _on_rail(value: float, low: float, high: float) -> bool:
        return not low + AT_THE_RAIL * (high - low) < value < high - AT_THE_RAIL * (high - low)
