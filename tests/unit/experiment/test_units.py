"""Quantities as people type them: what is read, and what is refused rather than guessed."""

import pytest

from hil.core.errors import ConfigError
from hil.experiment.units import parse


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("5 V", "V", 5.0),
        ("5V", "V", 5.0),
        (" +5.0e3 mV ", "V", 5.0),
        ("\N{MINUS SIGN}1 V", "V", -1.0),
        (".5 volt", "V", 0.5),
        ("10 \N{MICRO SIGN}A", "A", 1e-5),
        ("3e-4 bar^2/V^2", "Pa^2/V^2", 3e6),
        ("0.3 V^-2", "1/V^2", 0.3),
        ("2 1/V", "1/V", 2.0),
        ("1 %", "1", 0.01),
        ("36 %/h", "1/s", 1e-4),
        ("3 mol/(m^3)", "mol/m^3", 3.0),
        ("20 \N{DEGREE SIGN}C", "K", 293.15),
        ("5 cmH2O", "Pa", 490.3325),
    ],
)
def test_read(text: str, unit: str, value: float) -> None:
    assert parse(text, unit) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5,0 V", "decimal point as '.'"),  # a library of units reads 50 V
        ("1,000 V", "nothing between thousands"),
        ("1 000 V", "one number with a unit"),  # ... 0 V
        ("1_000 V", "one number with a unit"),
        ("--5 V", "one number with a unit"),  # ... 5 V
        ("5 V + 1 V", "one number with a unit"),
        ("5 +/- 1 V", "one number with a unit"),
        ("5 V 5", "one number with a unit"),
        ("9**9**9 V", "one number with a unit"),
        ("5 V**9**9**9", "one number with a unit"),
        ("V", "one number with a unit"),
        ("", "one number with a unit"),
        ("5 V/", "one number with a unit"),
        (f"5 {40 * 'a'}!", "one number with a unit"),  # at once, and not after 2^40 ways to divide the word
        ("5 Volt", "no unit 'Volt' (upper and lower case differ); write for example '1 V'"),
        ("5 A", "has the unit A, but a quantity in V is needed"),
        ("5", "has no unit"),
        ("\N{ARABIC-INDIC DIGIT FIVE} V", "one number with a unit"),
        ("nan V", "not a finite number"),
        ("-inf V", "not a finite number"),
        ("1e999 V", "not a finite number"),
        ("1e99999999999999999999 V", "not a finite number"),
    ],
)
def test_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(text, "V")
    assert repr(text) in str(refused.value)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
