"""What we believe the network is: a model that can be asked, and differentiated, without touching anything."""

from collections.abc import Sequence
from typing import Protocol

from hil.core.types import FloatArray, Stimulus


class Twin(Protocol):
    """Model with the same controls and outputs as the backend."""

    def predict(self, stimuli: Sequence[Stimulus]) -> FloatArray:
        """Steady outputs, (n, n_outputs), SI."""
        ...

    def vjp(self, stimuli: Sequence[Stimulus], cotangent: FloatArray) -> FloatArray:
        """Gradient of sum(cotangent * outputs) by the controls, (n, n_controls); cotangent (n, n_outputs)."""
        ...
