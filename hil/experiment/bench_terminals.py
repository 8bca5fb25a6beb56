"""Controls and outputs of a bench file: what is wired where, and within which limits. SI once read."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Self

from pydantic import Field, model_validator

from hil.core.errors import ConfigError
from hil.core.types import Kind, Quantity, SafeAction, SafeState
from hil.experiment.bench_electrodes import Electrode
from hil.experiment.bench_model import Scalar
from hil.experiment.fields import Name, Strict, parse_span, refuse, unknown
from hil.experiment.units import parse

QUANTITIES = {
    "voltage": Quantity.VOLTAGE,
    "current": Quantity.CURRENT,
    "pressure": Quantity.PRESSURE,
    "concentration": Quantity.CONCENTRATION,
    "conductance": Quantity.CONDUCTANCE,
}
_BY_PARAMETER = {
    "volt": Quantity.VOLTAGE,
    "voltage": Quantity.VOLTAGE,
    "curr": Quantity.CURRENT,
    "current": Quantity.CURRENT,
    "pressure": Quantity.PRESSURE,
    "concentration": Quantity.CONCENTRATION,
}
_SAFE = {action.value: action for action in SafeAction if action is not SafeAction.LEVEL}


class Terminal(Strict):
    """What controls and outputs share: where it is wired (``parameter`` = instrument.port.parameter) and what it is."""

    parameter: str
    node: Name
    quantity: Quantity
    setup: dict[str, Scalar] = Field(default_factory=dict)

    @property
    def instrument(self) -> str:
        """First part of ``parameter``."""
        return self.parameter.split(".")[0]

    @property
    def port(self) -> str:
        """Middle part of ``parameter``; empty for an instrument with one terminal."""
        return ".".join(self.parameter.split(".")[1:-1])


class Output(Terminal):
    """One thing that is read. ``setup`` holds the range, nplc and the like; ``hil.bench`` knows their units.

    ``through``: the crosspoint of a switch matrix between node and meter, such as ``matrix.1A02``; closed while it is read.
    """

    through: str = ""

    @model_validator(mode="before")
    @classmethod
    def _what(cls, data: Any) -> Any:
        return _with_quantity(data)


class Control(Terminal):
    """One thing that is applied. SI values; ``slew`` and ``emergency_slew`` per second, ``compliance`` in A (V for a current).

    ``height`` (m): of the liquid's surface that a pressure controller acts on above the node. Limits, values and readings are
    those of the node. ``accuracy`` (Pa): what a pressure controller may be off by its specification; goes before what its driver
    knows. ``electrode``: what stands in the liquid at a source of voltage.
    ``power`` (W) may flow into the network here, as measured with every reading; ``dwell`` (s) it may be away from ``safe``.
    """

    kind: Kind = Kind.DRIVE
    limits: tuple[float, float]
    slew: float = float("inf")
    emergency_slew: float = float("inf")
    resolution: float = 0.0
    dead_time: float = 0.0
    power: float = float("inf")
    dwell: float = float("inf")
    compliance: float | None = None
    height: float = 0.0
    accuracy: float | None = None
    electrode: Electrode | None = None
    safe: SafeState = Field(default_factory=SafeState)

    @model_validator(mode="before")
    @classmethod
    def _si(cls, data: Any) -> Any:
        data = _with_quantity(data)
        return _converted(
            data,
            {
                "limits": parse_span,
                "slew": lambda raw, unit: _positive(raw, f"{unit}/s"),
                "emergency_slew": lambda raw, unit: _positive(raw, f"{unit}/s"),
                "resolution": lambda raw, unit: _positive(raw, unit, zero=True),
                "dead_time": lambda raw, _: _positive(raw, "s", zero=True),
                "power": lambda raw, _: _positive(raw, "W"),
                "dwell": lambda raw, _: _positive(raw, "s"),
                "compliance": lambda raw, unit: _positive(raw, "V" if unit == "A" else "A"),
                "height": lambda raw, _: parse(raw, "m"),
                "accuracy": lambda raw, unit: _positive(raw, unit, zero=True),
                "safe": _safe,
            },
        )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        low, high = self.limits
        if self.quantity is Quantity.CONCENTRATION and self.safe.action is not SafeAction.STOP:
            refuse("on the way to the safe state no liquid is exchanged, its pumps stop: write `safe: stop`", "safe")
        pressure = self.quantity is Quantity.PRESSURE
        if self.safe.action is SafeAction.VENT and not pressure:
            refuse("only a pressure can be vented; write a value such as '0 V', or `high_impedance`", "safe")
        if self.safe.action is SafeAction.LEVEL and not low <= self.safe.value <= high:
            unit = self.quantity.value
            refuse(f"the safe value {self.safe.value:g} {unit} is outside the limits {low:g} … {high:g} {unit}", "safe")
        if self.quantity in (Quantity.VOLTAGE, Quantity.CURRENT) and self.compliance is None:
            refuse("a source of voltage or current needs a `compliance`, for example '10 uA'", "compliance")
        if self.electrode is not None and self.quantity is not Quantity.VOLTAGE:
            refuse("an electrode belongs to a source of voltage; remove it here", "electrode")
        if self.accuracy is not None and not pressure:
            refuse("only that of a pressure is asked for; remove it here", "accuracy")
        if self.height and not pressure:
            refuse("only a pressure changes with the height; remove it here", "height")
        return self


def _with_quantity(data: Any) -> Any:
    """Fill ``quantity`` from its word, or from the last part of ``parameter`` (smu.smua.volt is a voltage)."""
    if not isinstance(data, Mapping) or isinstance(data.get("quantity"), Quantity):
        return data
    parameter = data.get("parameter")
    if not isinstance(parameter, str) or parameter.count(".") < 1:
        refuse("write `parameter` as instrument.port.parameter, for example smu.smua.volt", "parameter")
    word = data.get("quantity")
    if word is not None:
        if word not in QUANTITIES:
            refuse(unknown("quantity", str(word), list(QUANTITIES)), "quantity")
        return {**data, "quantity": QUANTITIES[word]}
    last = str(parameter).rsplit(".", 1)[-1]
    if last not in _BY_PARAMETER:
        near = get_close_matches(last, _BY_PARAMETER, n=1, cutoff=0.7)
        if near:
            refuse(f"{parameter!r} ends in {last!r}; did you mean {near[0]!r}? If not, add `quantity:`", "parameter")
        refuse(f"what {parameter!r} is cannot be told from its name; add `quantity:` ({', '.join(QUANTITIES)})", "quantity")
    return {**data, "quantity": _BY_PARAMETER[last]}


def _converted(data: Any, converters: Mapping[str, Any]) -> Any:
    """Every listed field of ``data`` turned into SI with the unit of its quantity; errors name the field."""
    if not isinstance(data, Mapping) or not isinstance(data.get("quantity"), Quantity):
        return data
    result = dict(data)
    for field, convert in converters.items():
        if field in result:
            try:
                result[field] = convert(result[field], result["quantity"].value)
            except ConfigError as error:
                refuse(str(error), field)
    return result


def _positive(value: object, unit: str, *, zero: bool = False) -> float:
    number = parse(value, unit)
    if number < 0 or (number == 0 and not zero):
        raise ConfigError(f"{value!r} must be {'0 or more' if zero else 'above 0'}")
    return number


def _safe(value: object, unit: str) -> SafeState:
    if isinstance(value, SafeState):
        return value
    if isinstance(value, str) and value in _SAFE:
        return SafeState(_SAFE[value])
    try:
        return SafeState(SafeAction.LEVEL, parse(value, unit))
    except ConfigError as error:
        raise ConfigError(f"{error}; or one of {', '.join(_SAFE)}") from None
