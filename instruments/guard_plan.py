"""The guard's plan: what it needs to make a bench safe without the program, as JSON built when the bench is opened."""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

from hil.core.hydrostatics import head
from hil.core.safety import SafetyEnvelope
from hil.core.types import Channel, Quantity, SafeAction
from instruments.base import BenchInstrument, chosen_link
from instruments.coupled import emergency_slew, linked
from instruments.guard_descent import largest_step
from instruments.replica_wiring import paths_of
from instruments.safe_commands import Guarded
from instruments.serial_line import USUAL
from instruments.station import parse_path
from instruments.terminals import settings_in_si
from instruments.wiring import ControlWire, InstrumentSpec


def guard_plan(
    specs: Sequence[InstrumentSpec],
    classes: Mapping[str, type[Any]],
    controls: Sequence[ControlWire],
    replicas: Mapping[str, Mapping[str, str]],
    envelope: SafetyEnvelope,
    warn: Callable[[str], None],
) -> dict[str, Any]:
    """Instruments with controls, in declared order; ``replicas`` as the backend takes them.

    ``warn`` receives a sentence for each control that the guard can do nothing for. Replicas share the names of their channels,
    but neither terminals nor edges: in the plan each has names of its own, ``replica:channel``.
    """
    terminals: dict[str, list[dict[str, Any]]] = {}
    voltages: dict[str, tuple[str, Channel, dict[str, Any]]] = {}
    owners = [f"{name}:" for name in replicas] or [""]
    every = [
        (owner, wire, text)
        for owner, paths in zip(owners, paths_of(controls, replicas), strict=True)
        for wire, text in zip(controls, paths, strict=True)
    ]
    for owner, wire, text in every:
        path = parse_path(text, wire.channel.name)
        found = _terminal(wire, path.port, classes[path.instrument])
        if found is not None:
            found["channel"] = owner + wire.channel.name
            terminals.setdefault(path.instrument, []).append(found)
            if wire.channel.quantity is Quantity.VOLTAGE:
                voltages[found["channel"]] = path.instrument, wire.channel, found
        elif wire.channel.safe.action is not SafeAction.NONE:
            warn(
                f"control {wire.channel.name!r}: {classes[path.instrument].__name__} does not say how it is made safe from "
                "outside, so this output stays on if the program is killed"
            )

    def limits(quantity: Quantity) -> list[tuple[str, str, float]]:
        edges = [edge for edge in envelope.edges if envelope.layout[edge.plus].quantity is quantity]
        return [(one + edge.plus, one + edge.minus, edge.maximum) for one in owners for edge in edges if edge.minus is not None]

    return {
        "instruments": [
            {"name": spec.name, "address": spec.address, "terminals": terminals[spec.name], **_line(spec, classes[spec.name])}
            for spec in specs
            if spec.name in terminals
        ],
        "edges": [[plus, minus, maximum if isfinite(maximum) else 1e300] for plus, minus, maximum in limits(Quantity.PRESSURE)],
        "descents": _descents(voltages, limits(Quantity.VOLTAGE), classes, warn),
    }


def _descents(
    voltages: Mapping[str, tuple[str, Channel, dict[str, Any]]],
    limits: Sequence[tuple[str, str, float]],
    classes: Mapping[str, type[Any]],
    warn: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Groups of voltages whose differences are limited and that no single message switches off.

    ``voltages``: name -> instrument, channel, terminal. A terminal that takes no part, or leaves at high impedance, where
    nothing can differ from it afterwards, loses its ``move``: it is left at once.
    """
    finite = [one for one in limits if one[0] in voltages and one[1] in voltages and isfinite(one[2])]
    found = []
    for group in linked(list(voltages), [(plus, minus) for plus, minus, _ in finite]):
        homes = {voltages[name][0] for name in group}
        apart = len(group) > 1 and (len(homes) > 1 or not getattr(classes[next(iter(homes))], "joiner", ""))
        goals: dict[str, float] = {}
        for name in group:
            home, channel, terminal = voltages[name]
            floats = channel.safe.action is SafeAction.HIGH_IMPEDANCE
            if apart and terminal["move"] and not floats:
                goals[name] = channel.safe.value
                continue
            if apart and not floats:
                warn(
                    f"control {channel.name!r}: {classes[home].__name__} does not say how its level is asked for and set, so the "
                    "limit of its difference from its neighbours may be exceeded for a moment if the program is killed"
                )
            terminal["move"] = ()
        if goals:
            step = largest_step([one for one in finite if one[0] in goals and one[1] in goals], goals)
            found.append({"channels": group, "step": min(step, 1e300)})
    return found


def _terminal(wire: ControlWire, port: str, driver: type[Any]) -> dict[str, Any] | None:
    channel = wire.channel
    if channel.safe.action is SafeAction.NONE or not issubclass(driver, Guarded):
        return None
    settings = settings_in_si(wire.setup, channel.quantity.value, f"control {channel.name!r}")
    above = head(wire.height)
    commands = driver.safe_commands(port, channel.safe.action, channel.safe.value - above, settings)
    if commands is None:
        return None
    low, high = _span(channel)
    return {
        "channel": channel.name,
        **commands.to_dict(),
        "minimum": low,
        "maximum": high,
        "goal": channel.safe.value if low <= channel.safe.value <= high else None,
        "slew": emergency_slew(channel.emergency_slew, channel.max_slew),
        "head": above,
    }


def _span(channel: Channel) -> tuple[float, float]:
    if channel.safe.action is SafeAction.LEVEL:
        return channel.safe.value, channel.safe.value
    return max(channel.minimum, -1e300), min(channel.maximum, 1e300)


def _line(spec: InstrumentSpec, driver: type[Any]) -> dict[str, Any]:
    if not issubclass(driver, BenchInstrument):
        return {}
    options: Mapping[str, Any] = spec.options  # checked against the driver's signature before
    link = chosen_link(driver.link, spec.name, {key: options.get(key) for key in ("baud_rate", "line_ending", *USUAL)})
    return {
        "visalib": str(options.get("visalib", "")),
        "read_termination": link.read_termination,
        "write_termination": link.write_termination,
        **{name: getattr(link, name) for name in ("baud_rate", *USUAL)},
        "joiner": driver.joiner,
        "query_joiner": driver.query_joiner,
        "answers": driver.answers,
        "release_port": driver.release_port,
    }
