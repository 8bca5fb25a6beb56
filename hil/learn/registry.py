"""Plug-ins by name: what the modules of one folder, and one entry-point group, offer."""

import pkgutil
from importlib import import_module, metadata

from hil.core.errors import ConfigError


def module_names(package: str) -> tuple[str, ...]:
    """Names of the modules in ``package``, without those that begin with an underscore."""
    paths = import_module(package).__path__
    return tuple(sorted(found.name for found in pkgutil.iter_modules(paths) if not found.name.startswith("_")))


def offered(package: str, group: str) -> dict[str, object]:
    """Every module of ``package`` by its name, and every entry point of ``group`` loaded, by its name.

    A name that is taken twice raises ConfigError: which of the two runs must not depend on the order of import.
    """
    found: dict[str, object] = {name: import_module(f"{package}.{name}") for name in module_names(package)}
    for point in metadata.entry_points(group=group):
        if point.name in found:
            raise ConfigError(f"{point.name!r} is offered twice: by {package} and by {point.value} (entry point of {group})")
        found[point.name] = point.load()
    return found
