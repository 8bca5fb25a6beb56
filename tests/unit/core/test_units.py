"""Units at the file edge."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.core.errors import ConfigError
from hil.experiment.units import format_si, parse


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("5 V", "V", 5.0),
        ("10 um", "m", 1e-5),
        ("1 bar", "Pa", 1e5),
        ("1 mbar", "Pa", 100.0),
        ("0.2 mM", "mol/m^3", 0.2),
        ("5 uL/min", "m^3/s", 5e-9 / 60),
        ("8 nS", "S", 8e-9),
        ("3e-4 bar^2/V^2", "Pa^2/V^2", 3e6),
        ("0.3 V^-2", "V^-2", 0.3),
        ("50 mbar/s", "Pa/s", 5e3),
        ("20 degC", "K", 293.15),
        ("4", "1", 4.0),
        (4.5, "1", 4.5),
        (0, "V", 0.0),
        ("0.5 %", "1", 0.005),
    ],
)
def test_parse(text: object, unit: str, value: float) -> None:
    assert parse(text, unit) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    "bad", ["5", "5 A", "five V", "nan V", "inf V", 7, True, None, [5], "", "5 V V", "__import__('os')", "V("]
)
def test_anything_else_is_one_clear_error(bad: object) -> None:
    with pytest.raises(ConfigError):
        parse(bad, "V")


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e30, max_value=1e30))
def test_round_trip(value: float) -> None:
    assert parse(format_si(value, "V"), "V") == value
    assert parse(format_si(value, "1"), "1") == value
