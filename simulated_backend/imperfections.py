"""What keeps a simulated network from being ideal; all seeded, all off by default."""

from dataclasses import dataclass
from math import isfinite

from hil.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Imperfections:
    """``read_noise``: standard deviation of one reading of an output, in the unit of that output (V or A)."""

    read_noise: float = 0.0

    def __post_init__(self) -> None:
        if not (self.read_noise >= 0.0 and isfinite(self.read_noise)):
            raise ConfigError(f"read_noise = {self.read_noise} must be 0 or above")

    @property
    def none(self) -> bool:
        """True when nothing is imperfect."""
        return self == Imperfections()
