"""Curves to begin with where no device has been measured yet: an assumption, in units of the safe voltage."""

from collections.abc import Callable, Mapping

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from hil.learn.activation import Activation

TABLE_POINTS = 401

FAMILIES: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "tanh": lambda v: np.tanh(1.84 * v) / np.tanh(1.84),
    "sinh": lambda v: np.sinh(2.50 * v) / np.sinh(2.50),
}
"""The two one-parameter odd families for which an RMSE of 8.38 % of the mean slope means R² = 0.98, as Acharya et al. found
for liquid memristors: both have a slope with standard deviation/mean = 0.593 over |v| ≤ 1."""


def family_activation(name: str) -> Activation:
    """The curve of a family over ±1 V with ±1 A at the ends; ConfigError names the families there are."""
    if name not in FAMILIES:
        raise ConfigError(f"there is no family of curves {name!r}; known: {', '.join(FAMILIES)}")
    voltage = np.linspace(-1.0, 1.0, TABLE_POINTS)
    return Activation(voltage, FAMILIES[name](voltage))
