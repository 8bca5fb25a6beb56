"""Learning-rate schedules: a factor for the rate at a fraction of the training done."""

from collections.abc import Callable, Mapping
from math import cos, pi

from hil.core.errors import ConfigError

Schedule = Callable[[float], float]

SCHEDULES: Mapping[str, Schedule] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + cos(pi * done)),
}


def schedule(name: str) -> Schedule:
    """The factor as a function of the fraction done, 0 … 1; ConfigError names the schedules there are."""
    try:
        return SCHEDULES[name]
    except KeyError:
        raise ConfigError(f"there is no schedule {name!r}; known: {', '.join(SCHEDULES)}") from None
