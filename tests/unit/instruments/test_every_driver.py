"""House rules, checked on every driver class of the package. The exceptions may only become fewer."""

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest
from qcodes.instrument import VisaInstrument
from qcodes.parameters import ParameterBase
from qcodes.validators import Arrays, Numbers

from hil.core.types import SafeAction
from instruments import station
from instruments.base import BenchInstrument
from instruments.roles import Identified, Meter, MeterInstrument, Source, SourceInstrument
from instruments.vendor_pressure import VendorPressure
from tests.unit.instruments.conftest import Build

DRIVERS = station.own_drivers()
TALKING = ("build", "pump_on", "scripted")
"""Functions of tests that are given a driver and what it says and hears."""

# Parameters of the stock QCoDeS 2600 driver that we do not use: sweeps and traces bring their own checks.
STOCK_WITHOUT_VALIDATOR = {"timeout"}
STOCK_WITHOUT_UNIT = {"timetrace_npts"}


def parameters(instrument: Any) -> list[ParameterBase]:
    found = list(instrument.parameters.values())
    for module in instrument.submodules.values():
        found += module.parameters.values()
    return found


def ports(instrument: Any) -> list[Any]:
    return [instrument, *instrument.submodules.values()]


@pytest.fixture(params=DRIVERS, ids=lambda driver: driver.__name__)
def driver(request: pytest.FixtureRequest, build: Build) -> Any:
    # The script holds the identity query of the model and nothing else: one more word on connecting would fail.
    return build(request.param)[0]


def test_there_are_drivers_and_all_are_found() -> None:
    assert {"Keithley2602B", "Keithley2636B", "Keithley6517B", "KeithleyDAQ6510", "DruckPACE6000"} <= {
        d.__name__ for d in DRIVERS
    }


def test_it_is_a_bench_instrument_in_the_registry(driver: Any) -> None:
    assert isinstance(driver, BenchInstrument)
    assert isinstance(driver, VisaInstrument)
    assert isinstance(driver, Identified)
    assert f"{type(driver).__module__}.{type(driver).__name__}" in station.allowed_types()


def test_its_docstring_names_the_manual(driver: Any) -> None:
    assert "manual" in (inspect.getdoc(type(driver)) or "").lower()
    assert "manual" in (inspect.getdoc(inspect.getmodule(type(driver))) or "").lower()


def test_every_settable_parameter_has_a_validator(driver: Any) -> None:
    for parameter in parameters(driver):
        if parameter.settable and parameter.name not in STOCK_WITHOUT_VALIDATOR:
            mapped = getattr(parameter, "val_mapping", None)
            assert parameter.validators or mapped, f"{parameter.full_name} takes anything"


def test_every_number_has_a_unit(driver: Any) -> None:
    for parameter in parameters(driver):
        numeric = any(isinstance(validator, Numbers | Arrays) for validator in parameter.validators)
        if numeric and parameter.settable and parameter.name not in STOCK_WITHOUT_UNIT:
            assert getattr(parameter, "unit", ""), f"{parameter.full_name} has no unit"


def test_what_is_read_or_driven_has_the_unit_of_its_quantity(driver: Any) -> None:
    for port in ports(driver):
        quantities = {}
        if isinstance(port, Meter):
            quantities.update(port.meter_quantities())
        if isinstance(port, Source):
            quantities.update(port.source_quantities())
        for name, quantity in quantities.items():
            parameter = port.parameters[name]
            assert parameter.unit == quantity.value
            assert parameter.label


def test_sources_have_a_safe_off_and_can_be_moved_together(driver: Any) -> None:
    sources = [port for port in ports(driver) if isinstance(port, Source)]
    assert isinstance(driver, SourceInstrument) or not sources
    for port in sources:
        assert list(inspect.signature(port.disable).parameters) == ["action"]
        assert inspect.signature(port.disable).parameters["action"].annotation in (SafeAction, "SafeAction")


def test_meters_are_read_in_one_transfer(driver: Any) -> None:
    assert isinstance(driver, MeterInstrument) or not any(isinstance(port, Meter) for port in ports(driver))


def test_unknown_settings_are_refused(driver: Any) -> None:
    for port in ports(driver):
        if isinstance(port, Meter):
            for name in port.meter_quantities():
                with pytest.raises(ValueError, match=r"no setting 'colour'"):
                    port.configure_meter(name, {"colour": 1})


def test_errors_are_taken_from_the_queue_until_it_is_empty(driver: Any) -> None:
    assert type(driver).errors is not BenchInstrument.errors


def test_identity_and_settings_are_known_without_asking(driver: Any) -> None:
    idn = driver.get_idn()
    assert set(idn) == {"vendor", "model", "serial", "firmware"}
    assert all(isinstance(value, str) and value for value in idn.values())
    assert driver.settings() == {}


def test_connecting_prints_nothing(driver: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert capsys.readouterr().out == ""


def spoken_for() -> set[str]:
    """Drivers that a test of this folder holds a conversation with, word for word."""
    found: set[str] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            nodes = list(ast.walk(function))
            calls = [(node.func, node.args) for node in nodes if isinstance(node, ast.Call)]
            if any(isinstance(called, ast.Name) and called.id in TALKING and len(given) > 1 for called, given in calls):
                found |= {node.id for node in nodes if isinstance(node, ast.Name)}
    return found


def test_its_words_are_tested_one_by_one(driver: Any) -> None:
    without_words = isinstance(driver, VendorPressure)  # a library of its maker has them
    assert without_words or type(driver).__name__ in spoken_for()
