"""Device laws by name, from the modules of this folder and from the entry points ``memristor_hil.devices``.

A new law is one new file: a module here (or an entry point of any package) with a ``Device`` subclass that has a ``name``.
"""

import inspect
import pkgutil
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points

from hil.core.errors import ConfigError
from simulated_backend.devices.base import Device

ENTRY_POINTS = "memristor_hil.devices"
_PACKAGE = "simulated_backend.devices"
_RECIPE = "_registry_recipe"


def law(name: str, preset: str | None = None, **options: object) -> Device:
    """The law ``name`` with its constructor ``options``; equal requests give one and the same object.

    ``preset`` names the set of numbers that edges take where they give none. Edges that share the object are evaluated
    together. Raises ConfigError for an unknown law, preset or option.
    """
    try:
        return _law(name, preset, tuple(sorted(options.items())))
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return _made(name, preset, options)


def names() -> tuple[str, ...]:
    """Names of all laws there are, sorted."""
    return tuple(sorted(_classes()))


def law_class(name: str) -> type[Device]:
    """The class of law ``name``: parameters, presets, options and source without making one. Raises ConfigError."""
    found = _in_module(name) or _classes().get(name)
    if found is None:
        raise ConfigError(f"there is no device law {name!r}; laws: {', '.join(names())}")
    return found


def recipe(device: Device) -> dict[str, object]:
    """What ``law(**recipe)`` makes an equal law of: name, preset and options.

    Laws that were constructed directly must keep every constructor option in an attribute of the same name.
    """
    kept = vars(device).get(_RECIPE)
    if kept is not None:
        return dict(kept)
    missing = [option for option in device.options if not hasattr(device, option)]
    if missing:
        raise ConfigError(f"law {device.name!r} does not keep its option {missing[0]!r}; make it with registry.law")
    return {"name": device.name, "preset": device.preset, **{option: getattr(device, option) for option in device.options}}


@lru_cache(maxsize=1024)
def _law(name: str, preset: str | None, options: tuple[tuple[str, object], ...]) -> Device:
    return _made(name, preset, dict(options))


def _made(name: str, preset: str | None, options: Mapping[str, object]) -> Device:
    chosen = law_class(name)
    accepted = set(inspect.signature(chosen).parameters)
    unknown = sorted(set(options) - accepted)
    if unknown:
        has = ", ".join(sorted(accepted)) or "none"
        raise ConfigError(f"law {name!r} has no option {unknown[0]!r}; options: {has}")
    if preset is not None and preset not in chosen.presets:
        has = ", ".join(chosen.presets) or "none"
        raise ConfigError(f"law {name!r} has no preset {preset!r}; presets: {has}")
    own = "preset" in accepted
    device = chosen(**({"preset": preset, **options} if own and preset is not None else options))
    if preset is not None and not own:
        device.preset = preset
    setattr(device, _RECIPE, {"name": name, "preset": preset, **options})
    return device


def _in_module(name: str) -> type[Device] | None:
    """The law from the module of its own name, so that one law does not load all the others."""
    if not name.isidentifier():
        return None
    path = f"{_PACKAGE}.{name}"
    try:
        module = import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise
        return None
    return _laws_of(vars(module)).get(name)


@lru_cache(maxsize=1)
def _classes() -> dict[str, type[Device]]:
    found: dict[str, type[Device]] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        loaded = entry.load()
        if not (isinstance(loaded, type) and issubclass(loaded, Device)):
            raise ConfigError(f"entry point {entry.name!r} of {ENTRY_POINTS} is no device law: {loaded!r}")
        found[loaded.name] = loaded
    package = import_module(_PACKAGE)
    for module in pkgutil.iter_modules(package.__path__):
        found.update(_laws_of(vars(import_module(f"{_PACKAGE}.{module.name}"))))
    return found


def _laws_of(namespace: Mapping[str, object]) -> dict[str, type[Device]]:
    return {
        value.name: value
        for value in namespace.values()
        if isinstance(value, type)
        and issubclass(value, Device)
        and not inspect.isabstract(value)
        and value.__module__ == namespace["__name__"]
    }
