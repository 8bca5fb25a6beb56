"""Which parameter every control and output of every replica is, checked before anything is opened."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from hil.core.errors import ConfigError
from instruments.station import parse_path, require_driven
from instruments.wiring import ControlWire, OutputWire

Replicas = Mapping[str, Mapping[str, str]]
"""Replica name -> channel name -> parameter path."""


def paths_of(wires: Sequence[ControlWire] | Sequence[OutputWire], replicas: Replicas) -> list[list[str]]:
    """Parameter paths of ``wires``, one list per replica; without replicas one list, that of the wires themselves."""
    if not replicas:
        return [[wire.parameter for wire in wires]]
    return [[paths[wire.channel.name] for wire in wires] for paths in replicas.values()]


Wire = TypeVar("Wire", ControlWire, OutputWire)
Tied = TypeVar("Tied")


def tied(
    tie: Callable[[Wire, str, Mapping[str, Any]], Tied], wires: Sequence[Wire], replicas: Replicas, components: Mapping[str, Any]
) -> list[list[Tied]]:
    """Every wire tied by ``tie`` to its open instrument, one list per replica."""
    return [[tie(wire, path, components) for wire, path in zip(wires, paths, strict=True)] for paths in paths_of(wires, replicas)]


def check_replicas(
    controls: Sequence[ControlWire],
    outputs: Sequence[OutputWire],
    replicas: Replicas,
    simultaneous: Sequence[tuple[str, str]],
    classes: Mapping[str, type[Any]],
) -> None:
    """ConfigError for a path that is missing, unknown or used twice, and for a pair that cannot be measured at one moment.

    ``classes``: driver class by instrument name.
    """
    wires: list[ControlWire | OutputWire] = [*controls, *outputs]
    if not replicas:
        for wire in wires:
            if not wire.parameter:
                raise ConfigError(f"channel {wire.channel.name!r} has no parameter")
    names = [wire.channel.name for wire in wires]
    driven: dict[str, str] = {}
    for replica, paths in replicas.items():
        for name in names:
            if name not in paths:
                raise ConfigError(f"replica {replica!r} does not say which parameter {name!r} is")
        for name, text in paths.items():
            if name not in names:
                raise ConfigError(f"replica {replica!r} names {name!r}, which is no control or output")
            path = parse_path(text, name)
            if path.instrument not in classes:
                raise ConfigError(f"replica {replica!r}: there is no instrument {path.instrument!r} in the station")
            if name in names[: len(controls)]:
                first = driven.setdefault(str(path), replica)
                if first != replica:
                    raise ConfigError(f"replicas {first!r} and {replica!r} both drive {path}")
        read = {wire.channel.name: paths[wire.channel.name] for wire in outputs}
        require_driven([paths[wire.channel.name] for wire in controls], read, classes)
    for pair in simultaneous:
        _check_pair(pair, replicas, classes)


def _check_pair(pair: tuple[str, str], replicas: Replicas, classes: Mapping[str, type[Any]]) -> None:
    for replica in pair:
        if replica not in replicas:
            raise ConfigError(f"simultaneous names {replica!r}, which is no replica")
    used = {parse_path(text, name).instrument for replica in pair for name, text in replicas[replica].items()}
    if len(used) != 1 or not getattr(classes[next(iter(used))], "simultaneous", False):
        raise ConfigError(
            f"replicas {pair[0]!r} and {pair[1]!r} cannot be measured at one moment: that needs two channels of one "
            "instrument that measures them together (e.g. a Keithley 2602B); leave the pair out of `simultaneous`"
        )
