"""Pressure controllers that act on a reservoir above or below their node: levels and readings are those of the node.

A controller knows the pressure at its own outlet. The column of liquid between the reservoir's surface and the node adds
rho g h. Everything above the driver (limits, differences across edges, ramps, readings) means the node; the driver checks
the same levels against its own range and supplies as it sends them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hil.core.errors import ConfigError
from hil.core.hydrostatics import head
from hil.core.types import Quantity, SafeAction
from instruments.plain_meter import port_of
from instruments.replica_wiring import paths_of
from instruments.roles import (
    Acquired,
    Condition,
    Delivery,
    MeterInstrument,
    PressurePort,
    Recoverable,
    SourceInstrument,
    SourcePlan,
    SourceState,
    VerifiableSource,
)
from instruments.safe_commands import HardwareWatchdog
from instruments.station import parse_path
from instruments.wiring import ControlWire, Setting


class ElevatedPort:
    """A ``PressurePort`` as its node sees it; ``head``: Pa that the node has more."""

    def __init__(self, port: Any, pascal: float) -> None:
        self._port, self.head = port, pascal
        self.holds_slew = getattr(port, "holds_slew", True)

    @property
    def parameters(self) -> Any:
        """Those of the driver, which mean its own outlet."""
        return getattr(self._port, "parameters", {})

    def source_quantities(self) -> Mapping[str, Quantity]:
        """As the driver."""
        found: Mapping[str, Quantity] = self._port.source_quantities()
        return found

    def meter_quantities(self) -> Mapping[str, Quantity]:
        """As the driver."""
        found: Mapping[str, Quantity] = self._port.meter_quantities()
        return found

    def configure_source(self, plan: SourcePlan) -> Sequence[str]:
        """The driver judges the span that its own outlet has to reach."""
        there = replace(plan, minimum=plan.minimum - self.head, maximum=plan.maximum - self.head)
        found: Sequence[str] = self._port.configure_source(there)
        return found

    def configure_meter(self, parameter: str, settings: Mapping[str, Setting]) -> Sequence[str]:
        """As the driver."""
        found: Sequence[str] = self._port.configure_meter(parameter, settings)
        return found

    def source_state(self) -> SourceState:
        """What the instrument says, at the node."""
        state = self._port.source_state()
        return SourceState(state.level + self.head, state.actual + self.head, state.on)

    def enable(self, level: float) -> None:
        """On at ``level`` at the node."""
        self._port.enable(level - self.head)

    def disable(self, action: SafeAction) -> None:
        """As the driver. A vent leaves the column of liquid above the node."""
        self._port.disable(action)

    def set_slew(self, pascal_per_second: float) -> None:
        """As the driver."""
        self._port.set_slew(pascal_per_second)

    def pressure_now(self) -> float:
        """Pa at the node."""
        return float(self._port.pressure_now()) + self.head

    def vented(self) -> bool:
        """As the driver."""
        return bool(self._port.vented())


class Elevated:
    """An instrument some of whose outlets act at another height than their nodes; ``heads``: port -> Pa."""

    def __init__(self, instrument: Any, heads: Mapping[str, float]) -> None:
        self._instrument = instrument
        self._heads = dict(heads)
        self._ports = {name: ElevatedPort(port_of(instrument, name), pascal) for name, pascal in heads.items()}
        self.simultaneous = bool(instrument.simultaneous)

    @property
    def session(self) -> Any:
        """The link of the instrument."""
        return self._instrument.session

    def identity(self) -> str:
        """As the driver."""
        return str(self._instrument.identity())

    def errors(self) -> list[str]:
        """As the driver."""
        found: list[str] = self._instrument.errors()
        return found

    def settings(self) -> Mapping[str, object]:
        """As the driver, which knows its own outlets only."""
        found: Mapping[str, object] = self._instrument.settings()
        return found

    def port(self, name: str) -> Any:
        """The outlet as its node sees it; others as they are."""
        return self._ports.get(name) or port_of(self._instrument, name)

    def require_settings_kept(self) -> None:
        """As the driver."""
        self._instrument.require_settings_kept()

    def forget(self) -> None:
        """As the driver."""
        self._instrument.forget()

    def _of(self, ports: Sequence[str]) -> list[float]:
        return [self._heads.get(port, 0.0) for port in ports]

    def level_writer(self, ports: Sequence[str]) -> Callable[[Sequence[float]], None]:
        """Levels at the nodes."""
        write, heads = self._instrument.level_writer(ports), self._of(ports)
        return lambda levels: write([level - pascal for level, pascal in zip(levels, heads, strict=True)])

    def condition_reader(self, ports: Sequence[str]) -> Callable[[], list[Condition]]:
        """Where the nodes stand."""
        look, heads = self._instrument.condition_reader(ports), self._of(ports)
        return lambda: [one._replace(level=one.level + pascal) for one, pascal in zip(look(), heads, strict=True)]

    def delivery_reader(self, ports: Sequence[str]) -> Callable[[], list[Delivery]]:
        """What arrives at the nodes."""
        look, heads = self._instrument.delivery_reader(ports), self._of(ports)
        return lambda: [one._replace(actual=one.actual + pascal) for one, pascal in zip(look(), heads, strict=True)]

    def acquisition(self, terminals: Sequence[tuple[str, str]]) -> Callable[[int], Acquired]:
        """Pressures of the nodes."""
        acquire, heads = self._instrument.acquisition(terminals), self._of([port for port, _ in terminals])

        def read(samples: int) -> Acquired:
            values, overload = acquire(samples)
            return Acquired(values + heads, overload)

        return read


class WatchedElevated(Elevated):
    """An ``Elevated`` instrument that stops by itself when nobody has spoken to it for a while."""

    def set_watchdog(self, seconds: float) -> None:
        """As the driver."""
        self._instrument.set_watchdog(seconds)


def at_nodes(
    components: Mapping[str, Any], wires: Sequence[ControlWire], replicas: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """``components`` with every instrument that has an outlet at another height replaced by an ``Elevated`` one.

    ConfigError for a height at something that is no pressure controller.
    """
    heads: dict[str, dict[str, float]] = {}
    for paths in paths_of(wires, replicas):
        for wire, text in zip(wires, paths, strict=True):
            if wire.height:
                path = parse_path(text, wire.channel.name)
                heads.setdefault(path.instrument, {})[path.port] = head(wire.height)
    found = dict(components)
    for name, of_ports in heads.items():
        instrument = components[name]
        able = all(isinstance(instrument, role) for role in (SourceInstrument, VerifiableSource, MeterInstrument, Recoverable))
        if not able or not all(isinstance(port_of(instrument, port), PressurePort) for port in of_ports):
            raise ConfigError(f"a height is given for {name!r}, but {type(instrument).__name__} is no pressure controller")
        # A class of its own, because an instrument has a watchdog where its class has the method.
        kind = WatchedElevated if isinstance(instrument, HardwareWatchdog) else Elevated
        found[name] = kind(instrument, of_ports)
    return found
