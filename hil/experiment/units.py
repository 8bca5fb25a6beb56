"""Units at the file edge: text such as ``5 V`` or ``3e-4 bar^2/V^2`` becomes one SI float, once."""

import re
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Any

from hil.core.errors import ConfigError

if TYPE_CHECKING:
    from pint import UnitRegistry

# pint reads text as a sum of anything: it drops the comma of "5,0 V" (50 V) and the minus sign of typesetters (U+2212), adds,
# and raises to powers. So what it may see is one plain number, and one unit without numbers other than small exponents. A word is
# taken as a whole (``*+``): tried in every way to divide it, a long one that is no unit would take minutes.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_UNIT = re.compile(r"(?:°?[^\W0-9_]\w*+|%|1(?=\s*/)|[/*·()\s]|(?:\^|\*\*)\s*\(?-?[0-9]{1,2}\)?(?!\s*(?:\^|\*\*)))*")
_SIMPLE = re.compile(r"\(\w+\)(?:[\^/]\w+|/\(\w+\))*")
_MINUS = str.maketrans("\N{MINUS SIGN}", "-")


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

    plain = text.strip().translate(_MINUS)
    found = _NUMBER.match(plain)
    symbol = plain[found.end() :].strip() if found else plain
    example = f"write for example '{'1' if unit == '1' else f'1 {_shown(unit)}'}'"
    if symbol.startswith(","):
        raise ConfigError(f"{text!r} is not a quantity; write the decimal point as '.', and nothing between thousands")
    if found is None and symbol.lstrip("+-").lower().startswith(("nan", "inf")):
        raise ConfigError(f"{text!r} is not a finite number")
    if found is None or not _UNIT.fullmatch(symbol):
        raise ConfigError(f"{text!r} is not one number with a unit; {example}")
    target = registry().Unit("dimensionless" if unit == "1" else unit)
    try:
        measured = registry().parse_units(symbol)
    except pint.errors.UndefinedUnitError:
        raise ConfigError(f"{text!r}: there is no unit {symbol!r} (upper and lower case differ); {example}") from None
    except (pint.errors.PintError, TokenError, AttributeError, ValueError, TypeError, AssertionError, ArithmeticError):
        raise ConfigError(f"{text!r} is not one number with a unit; {example}") from None
    if measured.dimensionality != target.dimensionality:
        needed = _shown(unit) if unit == "1" else f"a quantity in {_shown(unit)}"
        raise ConfigError(f"{text!r} has {f'the unit {symbol}' if symbol else 'no unit'}, but {needed} is needed")
    try:
        quantity: Any = registry().Quantity(Decimal(found.group()), measured)
        return float(quantity.to(target).magnitude)
    except ArithmeticError:
        raise ConfigError(f"{text!r} is not a finite number") from None


def _shown(unit: str) -> str:
    return "a pure number" if unit == "1" else unit.replace("(", "").replace(")", "") if _SIMPLE.fullmatch(unit) else unit
