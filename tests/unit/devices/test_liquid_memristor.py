"""The curve families of the liquid memristor, and the one number they were chosen by."""

import numpy as np
import pytest

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from hil.learn.families import family_activation
from simulated_backend.devices.base import EdgeDrive
from simulated_backend.devices.registry import law


def curve(family: str, volts: FloatArray) -> tuple[FloatArray, FloatArray]:
    device = law("liquid_memristor", family=family)
    parameters = {name: np.full(volts.shape, device.default(name) or 0.0) for name in device.parameters}
    drive = EdgeDrive.of_voltage(volts)
    state = np.empty((0, *volts.shape))
    return device.current(parameters, drive, state), device.conductance(parameters, drive, state)


@pytest.mark.parametrize("family", ["tanh", "sinh"])
def test_slope_scatters_as_the_published_error_and_r2_demand(family: str) -> None:
    current, slope = curve(family, np.linspace(-1.0, 1.0, 20_001))
    assert np.std(slope) / np.mean(slope) == pytest.approx(0.593, abs=0.005)
    assert current[-1] == pytest.approx(1e-5)
    np.testing.assert_allclose(current, -current[::-1], atol=1e-18)


@pytest.mark.parametrize("family", ["tanh", "sinh"])
def test_tables_of_the_families_are_the_laws(family: str) -> None:
    volts = np.linspace(-1.0, 1.0, 333)
    np.testing.assert_allclose(family_activation(family)(volts), curve(family, volts)[0] / 1e-5, atol=1e-5)


def test_the_cone_rectifies_as_the_channel_does() -> None:
    current, slope = curve("cone", np.array([-1.0, 1.0]))
    assert current[0] == pytest.approx(-1e-5)
    assert current[1] / 1e-5 == pytest.approx(0.6013 / 1.5099, abs=1e-3)
    assert np.all(slope > 0)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(ConfigError, match="family 'cosh' is unknown"):
        law("liquid_memristor", family="cosh")
