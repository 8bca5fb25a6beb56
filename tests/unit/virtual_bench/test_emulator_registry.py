"""Which emulators there are, and what they refuse to be made of."""

import pytest

from hil.core.errors import ConfigError
from simulated_backend.virtual_bench.emulator import models
from tests.unit.virtual_bench.scpi_rig import bench_of


def test_every_emulator_registers_its_models() -> None:
    assert {"DruckPACE6000", "Keithley6517B", "KeithleyDAQ6510"} <= set(models())


def test_unknown_models_and_options_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"there is no emulator for 'Keithley999'; models: .*DruckPACE6000"):
        bench_of("Keithley999", {})
    with pytest.raises(ConfigError, match=r"KeithleyDAQ6510 has no option 'colour'"):
        bench_of("KeithleyDAQ6510", {}, colour="red")
    with pytest.raises(ConfigError, match=r"must be one of socket, serial"):
        bench_of("KeithleyDAQ6510", {}, transport="pigeon")


@pytest.mark.parametrize("model", ["Keithley2400", "Keithley2450", "KeysightB2912A", "Keithley2602B"])
def test_a_number_that_is_none_is_refused_by_name(model: str) -> None:
    with pytest.raises(ConfigError, match=r"option 'line_frequency' of '.+' must be a number, not 'low'"):
        bench_of(model, {}, line_frequency="low")
