"""What a run was told before it was interrupted, told once more: how a procedure comes back to where it stood."""

from collections.abc import Sequence
from typing import Protocol

from hil.core.types import Readings, SettlePolicy, Stimulus

Row = Sequence[Stimulus]
"""What is read at one moment: one stimulus, or one for every replica."""


class Recollection(Protocol):
    """Answers of a backend, given again in the order in which they were asked for."""

    @property
    def active(self) -> bool:
        """Whether there are answers left."""
        ...

    def recall(self, rows: Sequence[Row], policy: SettlePolicy | None, samples: int) -> Readings | None:
        """The readings that these rows gave then, as far as there are any (the rest is measured now); None: there are none.

        ``policy`` None: they are samples of a waveform, which is known as a whole or not at all.
        """
        ...
