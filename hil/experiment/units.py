"""Units at the file edge: text such as ``5 V`` or ``3e-4 bar^2/V^2`` becomes one SI float, once."""

from decimal import Decimal, InvalidOperation
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Any

from hil.core.errors import ConfigError

if TYPE_CHECKING:
    from pint import UnitRegistry


@lru_cache(maxsize=1)
def registry() -> "UnitRegistry[Any]":
    """The one unit registry; imported late because pint takes a third of a second to load."""
    import pint

    # decimal arithmetic makes 10 um exactly the float 1e-05
    return pint.UnitRegistry(autoconvert_offset_to_baseunit=True, non_int_type=Decimal)


def parse(value: object, unit: str) -> float:
    """SI value of ``value`` measured in ``unit`` (an SI unit; "1" for a pure number).

    Text must carry its unit unless ``unit`` is "1"; a bare number is accepted for "1" and for 0 only. Raises
    ConfigError for a wrong or missing unit, NaN or infinity.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ConfigError(f"expected a quantity in {_shown(unit)}, not {value!r}")
    if isinstance(value, int | float):
        number = float(value)
        if unit != "1" and number != 0.0 and isfinite(number):
            raise ConfigError(f"{value!r} has no unit; write for example '{value} {_shown(unit)}'")
    else:
        number = _convert(value, unit)
    if not isfinite(number):
        raise ConfigError(f"{value!r} is not a finite number")
    return number


def format_si(value: float, unit: str) -> str:
    """Text that ``parse`` turns back into exactly ``value``."""
    return repr(float(value)) if unit == "1" else f"{float(value)!r} {unit}"


@lru_cache(maxsize=4096)
def _convert(text: str, unit: str) -> float:
    from tokenize import TokenError

    import pint

    try:
        target = registry().Unit("dimensionless" if unit == "1" else unit)
        quantity: Any = registry().Quantity(text)
    except (pint.errors.PintError, TokenError, AttributeError, ValueError, TypeError, AssertionError, InvalidOperation) as error:
        raise ConfigError(f"{text!r} is not a quantity ({error}); write for example '1 {_shown(unit)}'") from None
    if quantity.dimensionality != target.dimensionality:
        had = "no unit" if quantity.dimensionless else f"the unit {quantity.units:~}"
        raise ConfigError(f"{text!r} has {had}, but a quantity in {_shown(unit)} is needed")
    return float(quantity.to(target).magnitude)


def _shown(unit: str) -> str:
    return "a pure number" if unit == "1" else unit
