"""Building blocks of the file models: strict models and quantities that are SI floats from here on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from hil.core.errors import ConfigError
from hil.experiment.units import parse


class FieldError(ConfigError):
    """A ConfigError about one field of a file; ``field`` is its dotted path, so that the loader can name the line."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class ProtocolFieldError(FieldError):
    """A FieldError about the protocol, raised while the bench is put together (most of those are about the bench file)."""


class Strict(BaseModel):
    """Base of every file model: unknown keys are refused with the nearest known one, nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for key in data:
                if key not in cls.model_fields:
                    refuse(unknown("key", str(key), list(cls.model_fields)), str(key))
        return data


def unknown(what: str, name: str, known: list[str]) -> str:
    """The sentence for a name that does not exist, with the nearest one that does."""
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
    return f"there is no {what} {name!r}; {hint}"


def refuse(message: str, field: str = "") -> None:
    """Raise, from inside a validator, an error about ``field`` (dotted, below the model that is being validated)."""
    raise PydanticCustomError("hil", "{message}", {"message": message, "field": field})


def quantity(
    unit: str, *, above: float | None = None, minimum: float | None = None, maximum: float | None = None
) -> BeforeValidator:
    """Marks a float field as a quantity in SI ``unit`` ("1": a pure number): ``Annotated[float, quantity("V")]``.

    ``above``, ``minimum`` and ``maximum`` (SI) are the limits that the error will name.
    """

    def convert(value: object) -> float:
        number = parse(value, unit)
        shown = "" if unit == "1" else f" {unit}"
        if above is not None and not number > above:
            raise ConfigError(f"{value!r} must be above {above:g}{shown}")
        if minimum is not None and number < minimum:
            raise ConfigError(f"{value!r} is below {minimum:g}{shown}")
        if maximum is not None and number > maximum:
            raise ConfigError(f"{value!r} is above {maximum:g}{shown}")
        return number

    return BeforeValidator(convert)


def parse_span(value: object, unit: str) -> tuple[float, float]:
    """``[0 V, 5 V]`` -> (0.0, 5.0) in SI ``unit``; ConfigError unless it is two rising quantities."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ConfigError(f"{value!r} is not a range; write for example '[0 {unit}, 1 {unit}]'")
    low, high = parse(value[0], unit), parse(value[1], unit)
    if not low < high:
        raise ConfigError(f"range [{value[0]}, {value[1]}]: the first value must be below the second")
    return low, high


def span(unit: str) -> BeforeValidator:
    """Marks a ``tuple[float, float]`` field as a rising range in SI ``unit``."""
    return BeforeValidator(lambda value: parse_span(value, unit))


@dataclass(frozen=True, slots=True)
class Given:
    """A quantity as written; its unit is checked once the channel it is for is known: ``given.si("V", "apply.V1")``."""

    text: str | float

    def si(self, unit: str, field: str) -> float:
        """SI value in ``unit``; FieldError naming ``field`` for another unit, a missing one, NaN or infinity."""
        try:
            return parse(self.text, unit)
        except ConfigError as error:
            raise FieldError(str(error), field) from None

    def __str__(self) -> str:
        return str(self.text)


def one_given(value: object) -> Given:
    """``value`` as a quantity whose unit is checked later; ConfigError for what is no quantity."""
    if isinstance(value, Given):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ConfigError(f"expected a quantity such as '5 V', not {value!r}")
    return Given(value)


def _name(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _chosen(options: tuple[str, ...]) -> Callable[[object], object]:
    def check(value: object) -> object:
        if value not in options:
            raise ConfigError(unknown("choice", str(value), list(options)))
        return value

    return check


def choice(*options: str) -> BeforeValidator:
    """Marks a ``str`` field as one of ``options``; the error suggests the nearest."""
    return BeforeValidator(_chosen(options))


Name = Annotated[str, BeforeValidator(_name)]
"""A name; ``1`` and ``"1"`` are the same."""
AnyQuantity = Annotated[Given, BeforeValidator(one_given)]
"""A quantity whose unit depends on a channel that the file model does not know."""
Number = Annotated[float, quantity("1")]
Positive = Annotated[float, quantity("1", above=0.0)]
Fraction = Annotated[float, quantity("1", minimum=0.0, maximum=1.0)]
Seconds = Annotated[float, quantity("s", minimum=0.0)]
Volts = Annotated[float, quantity("V")]
Amperes = Annotated[float, quantity("A")]
Pascals = Annotated[float, quantity("Pa")]
Metres = Annotated[float, quantity("m")]
Farads = Annotated[float, quantity("F", minimum=0.0)]
Siemens = Annotated[float, quantity("S", minimum=0.0)]
Concentration = Annotated[float, quantity("mol/m^3", minimum=0.0)]
AsTuple = BeforeValidator(_tuple)
"""Marks a ``tuple[...]`` field that a YAML list may fill."""

__all__ = [
    "Amperes", "AnyQuantity", "AsTuple", "Concentration", "Farads", "FieldError", "Fraction", "Given", "Metres", "Name", "Number",
    "Pascals", "Positive", "ProtocolFieldError", "Seconds", "Siemens", "Strict",
    "Volts", "choice", "one_given", "parse_span", "quantity", "refuse", "span",
    "unknown",
]  # fmt: skip
