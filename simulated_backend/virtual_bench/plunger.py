"""The plunger of an emulated syringe pump: what it moves, up to the first thing that ends it, and what the pump counts of it."""

from collections.abc import Mapping
from math import pi

from simulated_backend.virtual_bench.ports import FlowPort

ROUNDING = 1e-16
"""m^3 (a tenth of a picolitre): sums of volumes are no more exact, and what is missing by that much has been delivered."""
STALLED = "stalled"
"""What ends it at the end of the syringe, or where the line is blocked."""


class Plunger:
    """One syringe of ``true_diameter`` (mm) that holds ``capacity`` m^3 and ``content`` m^3 now.

    ``error``: share by which the pump moves farther than it believes. ``diameter``: the one that it believes in, mm.
    """

    def __init__(
        self, port: FlowPort, true_diameter: float, diameter: float, capacity: float, content: float, error: float
    ) -> None:
        self._port = port
        self._true_diameter, self.diameter = true_diameter, diameter
        self._capacity, self._content, self._error = capacity, content, error
        self._ends: dict[str, float] = {}
        self._begun = 0.0
        self.fill(None)

    def fill(self, volume: float | None) -> None:
        """The syringe holds ``volume`` m^3 (None: as much as in the beginning); the plunger does not move for it."""
        self._full = self._port.delivered() + (self._content if volume is None else volume)

    @property
    def area(self) -> float:
        """Of the syringe that the pump believes to hold, m^2."""
        return 0.25 * pi * (1e-3 * self.diameter) ** 2

    @property
    def truth(self) -> float:
        """True volume per volume that the pump counts."""
        return (self._true_diameter / self.diameter) ** 2 * (1.0 + self._error)

    def stop(self) -> None:
        """Stand still; what was moved is forgotten."""
        self._port.set_flow(0.0)
        self._begun = self._port.delivered()
        self._ends = {}

    def rest(self) -> None:
        """Stand still."""
        self._port.set_flow(0.0)

    def push(self, infusing: bool, rate: float, ends: Mapping[str, float]) -> None:
        """Move at ``rate`` (m^3/s, as the pump counts); ``ends``: what else ends it, and after which true volume, m^3."""
        inside = self._full - self._port.delivered()
        self._ends = {STALLED: max(inside if infusing else self._capacity - inside, 0.0), **ends}
        self._begun = self._port.delivered()
        true = rate * self.truth
        self._port.set_flow(true if infusing else -true, min(self._ends.values()))

    def moved(self) -> tuple[float, str | None]:
        """Volume since the last look, m^3 as the pump counts; and what has ended the movement, None while it goes on."""
        now = self._port.delivered()
        passed = abs(now - self._begun)
        self._begun = now
        if self._port.flow() != 0.0:
            return passed / self.truth, None
        end = min(self._ends, key=lambda name: self._ends[name])
        return passed / self.truth, end if passed >= self._ends[end] * (1.0 - 1e-9) - ROUNDING else STALLED
