"""From instrument specifications to an open QCoDeS station: only classes on a list, nothing guessed, nothing written.

A station file must not be able to run code, so a class is looked up in the allow-list before anything is imported: drivers
of this package, the stock QCoDeS drivers named below, and drivers that an installed package registers under the entry point
``memristor_hil.instruments``.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import instruments
from hil.core.errors import ConfigError, InstrumentError
from hil.experiment.addresses import canonical
from hil.experiment.fields import FieldError
from instruments.roles import SwitchMatrix
from instruments.serial_line import CHOICES
from instruments.visa import require_known_library
from instruments.wiring import ControlWire, InstrumentSpec, InterlockWire, OutputWire, ParameterPath

if TYPE_CHECKING:
    from qcodes.station import Station

STOCK = frozenset(
    f"qcodes.instrument_drivers.{name}"
    for name in (
        "Keithley.Keithley2400",
        "Keithley.Keithley2450",
        "Keithley.Keithley2601B",
        "Keithley.Keithley2602B",
        "Keithley.Keithley2604B",
        "Keithley.Keithley2612B",
        "Keithley.Keithley2614B",
        "Keithley.Keithley2634B",
        "Keithley.Keithley2636B",
        "Keithley.Keithley2000",
        "Keithley.Keithley6500",
        "Keithley.Keithley7510",
        "Keysight.Keysight34465A",
        "yokogawa.YokogawaGS200",
    )
)
"""Stock drivers that may stand in a station. They can be read by outputs; controls need a driver that plays a role."""

WATCHDOG = 30.0
"""s of silence after which an instrument stops by itself, where it can and the bench file says nothing."""
_REFUSED = {
    "initial_value": "would write to the hardware on loading",
    "initial_values": "would write to the hardware on loading",
    "parameters": "limits belong to `controls`",
    "add_parameters": "drivers declare their parameters themselves",
    "init": "write its arguments directly into `options`",
}
_NUMBERS = {"timeout": "a number of seconds above 0", "baud_rate": "a whole number above 0"}
_RESERVED = ("self", "name", "address", "session")


def allowed_types() -> tuple[str, ...]:
    """Every driver class a station may name, sorted; imports the modules of this package only."""
    own = [f"{driver.__module__}.{driver.__name__}" for driver in own_drivers()]
    return tuple(sorted([*own, *STOCK, *_registered()]))


def own_drivers() -> list[type[Any]]:
    """The concrete driver classes of this package; imports all its modules."""
    return [driver for module_info in pkgutil.iter_modules(instruments.__path__) for driver in _drivers_of(module_info.name)]


def _drivers_of(module_name: str) -> list[type[Any]]:
    from instruments.base import BenchInstrument

    module = importlib.import_module(f"instruments.{module_name}")
    return [
        member
        for name, member in vars(module).items()
        if isinstance(member, type)
        and issubclass(member, BenchInstrument)
        and member.__module__ == module.__name__
        and member.concrete
        and not name.startswith("_")
    ]


def _registered() -> dict[str, str]:
    return {point.value.replace(":", "."): point.name for point in entry_points(group="memristor_hil.instruments")}


def driver_class(spec: InstrumentSpec) -> type[Any]:
    """The class ``spec.type`` names; ConfigError, before any import, if it is not on the list."""
    module_name, _, class_name = spec.type.rpartition(".")
    own = {f"instruments.{module.name}": module.name for module in pkgutil.iter_modules(instruments.__path__)}
    if module_name in own:
        # Only the module that was named: a fault in another driver is no business of this bench.
        for driver in _drivers_of(own[module_name]):
            if driver.__name__ == class_name:
                return driver
    elif spec.type in STOCK or spec.type in _registered():
        loaded: type[Any] = getattr(importlib.import_module(module_name), class_name)
        return loaded
    types = allowed_types()
    by_class = {allowed.rpartition(".")[2]: allowed for allowed in reversed(types)}  # our own before the stock ones
    near = get_close_matches(spec.type, types, n=1, cutoff=0.8)
    near += [by_class[name] for name in get_close_matches(class_name, by_class, n=1, cutoff=0.8)]
    hint = f"did you mean {near[0]!r}?" if near else f"drivers: {', '.join(types)}"
    raise FieldError(
        f"instrument {spec.name!r}: {spec.type!r} is not on the list of drivers a station may name; {hint}",
        f"station.instruments.{spec.name}.type",
    )


def check_station(
    specs: Sequence[InstrumentSpec],
    controls: Sequence[ControlWire],
    outputs: Sequence[OutputWire],
    interlocks: Sequence[InterlockWire] = (),
) -> dict[str, type[Any]]:
    """Everything about a station that can be judged without opening it; the driver classes by instrument name.

    Raises ConfigError: unknown type or option, two instruments on one address, two controls on one parameter, a path to no
    instrument.
    """
    classes: dict[str, type[Any]] = {}
    addresses: dict[str, str] = {}
    for spec in specs:
        if spec.name in classes:
            raise ConfigError(f"instrument {spec.name!r} stands twice in the station; give every instrument one name")
        other = addresses.setdefault(canonical(spec.address), spec.name)
        if other != spec.name:
            raise FieldError(
                f"instruments {other!r} and {spec.name!r} have the same address {spec.address}; correct one",
                f"station.instruments.{spec.name}.address",
            )
        classes[spec.name] = driver_class(spec)
        _check_options(spec, classes[spec.name])
        if spec.watchdog is not None and not hasattr(classes[spec.name], "set_watchdog"):
            raise FieldError(
                f"instrument {spec.name!r} has no watchdog of its own; remove `watchdog`",
                f"station.instruments.{spec.name}.watchdog",
            )
    driven: dict[str, str] = {}
    wires: list[ControlWire | OutputWire] = [*controls, *outputs]
    for wire in wires:
        if not wire.parameter:
            continue
        path = parse_path(wire.parameter, wire.channel.name)
        if path.instrument not in classes:
            known = ", ".join(classes) or "none"
            raise ConfigError(
                f"channel {wire.channel.name!r}: there is no instrument {path.instrument!r} in the station; instruments: {known}"
            )
        if isinstance(wire, ControlWire):
            first = driven.setdefault(str(path), wire.channel.name)
            if first != wire.channel.name:
                raise ConfigError(f"controls {first!r} and {wire.channel.name!r} both drive {path}; one output, one control")
    require_driven(
        [wire.parameter for wire in controls if wire.parameter],
        {wire.channel.name: wire.parameter for wire in outputs if wire.parameter},
        classes,
    )
    _check_crosspoints(outputs, classes)
    for interlock in interlocks:
        path = parse_path(interlock.parameter, f"interlock {interlock.name}")
        if path.instrument not in classes:
            known = ", ".join(classes) or "none"
            raise ConfigError(f"interlock {interlock.name!r}: there is no instrument {path.instrument!r}; instruments: {known}")
    return classes


def with_watchdogs(specs: Sequence[InstrumentSpec], classes: Mapping[str, type[Any]]) -> tuple[InstrumentSpec, ...]:
    """``specs`` with the usual watchdog for every instrument that has one and of which the bench file says nothing."""
    return tuple(
        replace(spec, watchdog=WATCHDOG) if spec.watchdog is None and hasattr(classes[spec.name], "set_watchdog") else spec
        for spec in specs
    )


def require_driven(driven: Sequence[str], read: Mapping[str, str], classes: Mapping[str, type[Any]]) -> None:
    """ConfigError for an output at a port that measures only while it is driven, and that no control drives.

    ``driven``: parameters of controls; ``read``: output -> parameter. A 2600B whose output is
    off clamps its terminal to 0 V in its normal off mode, and measures those 0 V (reference manual, "Output-off states").
    """
    ports = {(path.instrument, path.port) for path in (parse_path(text, text) for text in driven)}
    for name, text in read.items():
        path = parse_path(text, name)
        if (path.instrument, path.port) not in ports and not getattr(classes[path.instrument], "reads_when_off", True):
            others = [each for each in driven if parse_path(each, each).instrument == path.instrument]
            elsewhere = f" (of {path.instrument}, controls drive {', '.join(others)})" if others else ""
            raise FieldError(
                f"output {name!r}: no control drives {text.rpartition('.')[0]}, so its output stays off, and a source-measure "
                f"unit that is off holds the node at 0 V and reads that{elsewhere}; let a control drive this port, or use "
                "a voltmeter (sourcing 0 A would not make one: an offset of 2 pA is half a volt at a node of 236 GOhm)",
                f"outputs.{name}.parameter",
            )


def _check_crosspoints(outputs: Sequence[OutputWire], classes: dict[str, type[Any]]) -> None:
    """Every crosspoint exists; outputs that share a meter through a matrix share its settings."""
    setups: dict[str, OutputWire] = {}
    for wire in outputs:
        if not wire.through:
            continue
        matrix, _, crosspoint = wire.through.partition(".")
        driver = classes.get(matrix)
        if driver is None or not issubclass(driver, SwitchMatrix):
            raise FieldError(f"{matrix!r} is no switch matrix of the station", f"outputs.{wire.channel.name}.through")
        try:
            driver.check_crosspoint(crosspoint)
        except ConfigError as error:
            raise FieldError(str(error), f"outputs.{wire.channel.name}.through") from None
        first = setups.setdefault(wire.parameter, wire)
        if dict(first.setup) != dict(wire.setup):
            raise FieldError(
                f"outputs {first.channel.name!r} and {wire.channel.name!r} share {wire.parameter} through the matrix, "
                "but not its settings; write the same `setup` at both",
                f"outputs.{wire.channel.name}.setup",
            )


def parse_path(text: str, channel: str) -> ParameterPath:
    """``text`` split; ConfigError naming ``channel``."""
    try:
        return ParameterPath.parse(text)
    except ValueError as error:
        raise ConfigError(f"channel {channel!r}: {error}") from None


def _check_options(spec: InstrumentSpec, driver: type[Any]) -> None:
    from instruments.base import LINE_ENDINGS

    choices = {"line_ending": tuple(LINE_ENDINGS), **CHOICES}
    known = [name for name in _options(driver) if name not in _RESERVED]
    for key, value in spec.options.items():
        problem = ""
        if key in _REFUSED:
            problem = f"option {key!r} is refused: it {_REFUSED[key]}"
        elif key not in known:
            problem = f"unknown option {key!r}; options: {', '.join(known) or 'none'}"
        elif key in choices and value not in choices[key]:
            problem = f"{key} is one of {', '.join(map(str, choices[key]))}, not {value!r}"
        elif key in _NUMBERS and (isinstance(value, bool | str) or value <= 0):
            problem = f"{key} is {_NUMBERS[key]}, not {value!r}"
        if problem:
            raise FieldError(f"instrument {spec.name!r}: {problem}", f"station.instruments.{spec.name}.options.{key}")
    try:
        require_known_library(spec.name, spec.options.get("visalib", ""))
    except ConfigError as error:
        raise FieldError(str(error), f"station.instruments.{spec.name}.options.visalib") from None


def _options(driver: type[Any]) -> list[str]:
    from instruments.base import BenchInstrument

    target = BenchInstrument if issubclass(driver, BenchInstrument) else driver
    names: list[str] = []
    for cls in driver.__mro__ if target is BenchInstrument else (driver,):
        signature = inspect.signature(vars(cls).get("__init__", object))
        names += [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY and p.name not in names]
        if cls is target:
            break
    return names


def build_station(specs: Sequence[InstrumentSpec], classes: dict[str, type[Any]]) -> "Station":
    """Open every instrument and verify who answers. Sends identity queries only; closes everything again on failure."""
    from qcodes.instrument import Instrument
    from qcodes.station import Station

    station = Station(default=False)
    try:
        for spec in specs:
            if Instrument.exist(spec.name):
                raise InstrumentError(
                    f"an instrument {spec.name!r} is open in this process already; close the other backend before this one"
                )
            driver = classes[spec.name]
            # Without a snapshot: that would ask for every parameter, and connecting says nothing but the identity query.
            station.add_component(driver(spec.name, spec.address, **spec.options), update_snapshot=False)
    except BaseException:
        close_station(station)
        raise
    return station


def close_station(station: "Station") -> None:
    """Close every link; sends nothing."""
    for name in list(station.components):
        component: Any = station.remove_component(name)
        component.close()
