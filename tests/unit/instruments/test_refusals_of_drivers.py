"""What a driver refuses while it is configured names a field of the bench file, which the loader turns into file and line."""

from unittest import mock

import pytest

from hil.core.errors import ConfigError
from hil.core.types import Stimulus
from hil.experiment.fields import FieldError
from instruments.terminals import settings_in_si
from tests.unit.instruments import fake_instruments
from tests.unit.instruments.fake_instruments import POLICY, Bench, two_volts

bench = fake_instruments.bench


@pytest.mark.parametrize(("what", "field"), [("configure_source", "controls.V1"), ("configure_meter", "outputs.out")])
def test_the_control_or_output_that_a_driver_refuses_is_named(bench: Bench, what: str, field: str) -> None:
    port = bench.instruments["smu"].ports["a"]
    refused = mock.patch.object(port, what, side_effect=ConfigError("smu.a: compliance 10 A is outside 1e-09 … 0.1 A"))
    with two_volts(bench) as backend, refused:
        with pytest.raises(FieldError, match="compliance 10 A is outside") as caught:
            backend.measure([Stimulus.of([0.1, 0.0])], POLICY)
        assert caught.value.field == field


@pytest.mark.parametrize("key", ["nplc", "in_limits"])
def test_only_ranges_are_found_automatically(key: str) -> None:
    assert settings_in_si({"range": "auto", "current_range": "auto"}, "V", "here") == {"range": "auto", "current_range": "auto"}
    with pytest.raises(ConfigError, match="'auto'"):
        settings_in_si({key: "auto"}, "V", "here")
