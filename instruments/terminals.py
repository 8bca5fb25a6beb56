"""Controls and outputs tied to the ports of open drivers, and grouped so that each instrument is spoken to once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

import numpy as np

from hil.core.errors import ConfigError, InstrumentError
from hil.core.types import Channel, FloatArray, Quantity
from hil.experiment.fields import FieldError
from hil.experiment.units import parse
from instruments.calibration import undone
from instruments.plain_meter import PlainMeter, port_of
from instruments.roles import (
    Acquired,
    Condition,
    Meter,
    MeterInstrument,
    PressurePort,
    Source,
    SourceInstrument,
    SourcePlan,
)
from instruments.station import parse_path
from instruments.wiring import AUTOMATIC, EXACT, SETUP_UNITS, ControlWire, Correction, OutputWire, Setting

ROUNDED = 1e-4
"""V, and of the level: a unit that rounds its level to what it can source, or its reply to six digits, has not been moved. No
source is better than that by its data sheet."""


class Output(Enum):
    """What we know of a source's output."""

    UNTOUCHED = auto()
    OFF = auto()
    FLOATING = auto()
    ON = auto()


@dataclass(eq=False)
class Drive:
    """One control on one port. ``level``: where the terminal was last seen; ``commanded``: what was last sent there.

    Both are what the instrument calls them: ``correction`` is undone before. Replicas share the names of their channels:
    ``replica`` is the number of the one that it belongs to, a network of its own. A drive equals nothing but itself.
    """

    channel: Channel
    path: str
    instrument: Any
    port_name: str
    port: Source
    plan: SourcePlan
    output: Output = Output.UNTOUCHED
    level: float = 0.0
    commanded: float = float("nan")
    on_course: bool = False
    in_limits: bool = False
    arrived: bool = False
    """Whether it has been in its limits since it was last told to move."""
    correction: Correction = EXACT
    replica: int = 0
    lowest: float = float("-inf")
    highest: float = float("inf")
    """Of a pressure: it stands between these, where it was last measured and what was sent since."""
    is_pressure: bool = field(init=False)

    def __post_init__(self) -> None:
        # Asked for in every turn of the loop, and a check against a protocol is slow.
        self.is_pressure = isinstance(self.port, PressurePort)

    @property
    def touched(self) -> bool:
        """Whether anything may have been written to its output."""
        return self.output is not Output.UNTOUCHED


@dataclass(frozen=True)
class Sense:
    """One output on one port."""

    channel: Channel
    path: str
    instrument: Any
    port_name: str
    parameter: str
    port: Any
    settings: Mapping[str, Setting]
    matrix: Any = None
    crosspoint: str = ""
    correction: Correction = EXACT
    source: Drive | None = None
    """That of the same terminal, where it measures a voltage only while it is on."""

    @property
    def blind(self) -> bool:
        """Whether its terminal is disconnected, so that what it shows is not the voltage of the node."""
        return self.source is not None and self.source.output is not Output.ON


def settings_in_si(raw: Mapping[str, object], unit: str, where: str) -> dict[str, Setting]:
    """Settings as numbers in SI; text with a unit is parsed. ConfigError for a key no driver knows."""
    parsed: dict[str, Setting] = {}
    for key, value in raw.items():
        if key not in SETUP_UNITS:
            raise ConfigError(f"{where}: unknown setup {key!r}; known: {', '.join(SETUP_UNITS)}")
        of = SETUP_UNITS[key]
        automatic = key in AUTOMATIC and value == "auto"
        if of is None or automatic or (isinstance(value, int | float) and not isinstance(value, bool)):
            if not isinstance(value, int | float | str):
                raise ConfigError(f"{where}: setup {key!r} cannot be {value!r}")
            parsed[key] = value
        else:
            parsed[key] = parse(value, of or unit)
    return parsed


def tie_control(wire: ControlWire, parameter: str, components: Mapping[str, Any]) -> Drive:
    """The drive of one control; ConfigError where the port cannot do what is asked."""
    channel = wire.channel
    path = parse_path(parameter, channel.name)
    instrument, field = components[path.instrument], f"controls.{channel.name}.parameter"
    port = _port(instrument, path.port, field)
    if not (isinstance(port, Source) and isinstance(instrument, SourceInstrument)):
        raise FieldError(f"{parameter} cannot be driven; {type(instrument).__name__} is no source there", field)
    quantities = port.source_quantities()
    if path.quantity not in quantities or quantities[path.quantity] is not channel.quantity:
        able = ", ".join(f"{name} ({quantity.value})" for name, quantity in quantities.items())
        raise FieldError(f"{parameter} would be driven in {channel.quantity.value}, and this port drives {able}", field)
    settings = settings_in_si(wire.setup, channel.quantity.value, f"control {channel.name!r}")
    plan = SourcePlan(channel.quantity, channel.minimum, channel.maximum, wire.compliance, channel.max_slew, settings)
    return Drive(channel, parameter, instrument, path.port, port, plan)


def _port(instrument: Any, name: str, field: str) -> Any:
    """The port ``name`` of an open instrument; FieldError about the ``field`` that asks for it where there is none."""
    try:
        return port_of(instrument, name)
    except ConfigError as error:
        raise located(error, field) from None


def numbered(rows: list[list[Drive]]) -> list[list[Drive]]:
    """The drives of every replica, one list each, told which one they belong to."""
    for number, row in enumerate(rows):
        for drive in row:
            drive.replica = number
    return rows


def tie_output(wire: OutputWire, parameter: str, components: Mapping[str, Any]) -> Sense:
    """The sense of one output; ConfigError where the port cannot be read in that quantity."""
    channel = wire.channel
    path = parse_path(parameter, channel.name)
    instrument = components[path.instrument]
    field = f"outputs.{channel.name}.parameter"
    port = _port(instrument, path.port, field)
    settings = settings_in_si(wire.setup, channel.quantity.value, f"output {channel.name!r}")
    name, _, crosspoint = wire.through.partition(".")
    matrix = components[name] if name else None
    if isinstance(port, Meter):
        quantities = port.meter_quantities()
        found = quantities.get(path.quantity)
        if found is not channel.quantity:
            able = ", ".join(f"{name} ({quantity.value})" for name, quantity in quantities.items()) or "nothing"
            raise FieldError(f"{parameter} is not read in {channel.quantity.value}; this port reads {able}", field)
        return Sense(channel, parameter, instrument, path.port, path.quantity, port, settings, matrix, crosspoint)
    plain = port.parameters.get(path.quantity)
    if plain is None or plain.unit != channel.quantity.value:
        raise FieldError(f"{parameter} is no parameter read in {channel.quantity.value}", field)
    if settings:
        raise FieldError(f"{type(instrument).__name__} takes no setup through the bench file", f"outputs.{channel.name}.setup")
    return Sense(channel, parameter, instrument, path.port, path.quantity, None, settings, matrix, crosspoint)


def at_sources(drives: Sequence[Sequence[Drive]], senses: Sequence[Sequence[Sense]]) -> list[list[Sense]]:
    """Senses of every replica, each told the drive whose output has to be on for it."""
    found = []
    for of, row in zip(drives, senses, strict=True):
        there: dict[tuple[int, str] | None, Drive] = {(id(drive.instrument), drive.port_name): drive for drive in of}
        found.append(
            [replace(one, source=there.get((id(one.instrument), one.port_name)) if _needs_on(one) else None) for one in row]
        )
    return found


def _needs_on(sense: Sense) -> bool:
    return sense.channel.quantity is Quantity.VOLTAGE and not getattr(sense.instrument, "reads_when_off", True)


def unblinded(acquired: Acquired, senses: Sequence[Sense]) -> Acquired:
    """``acquired`` (samples, n_senses) without what a disconnected terminal showed: no reading, in overload."""
    blind = np.array([sense.blind for sense in senses], dtype=np.bool_)
    if not blind.any():
        return acquired
    return Acquired(np.where(blind, np.nan, acquired.values), acquired.overload | blind)


def by_instrument(members: Sequence[Any]) -> list[tuple[Any, list[int]]]:
    """(instrument, positions of its members) in the order in which instruments first appear."""
    groups: dict[int, tuple[Any, list[int]]] = {}
    for position, member in enumerate(members):
        groups.setdefault(id(member.instrument), (member.instrument, []))[1].append(position)
    return list(groups.values())


class Movers:
    """Level writers and condition readers, compiled once for every set of drives that moves together."""

    def __init__(self) -> None:
        self._writers: dict[tuple[int, ...], list[tuple[Callable[[Sequence[float]], None], list[int]]]] = {}
        self._lookers: dict[tuple[int, ...], list[tuple[Callable[[], list[Condition]], list[int]]]] = {}

    def writers(self, drives: Sequence[Drive]) -> list[tuple[Callable[[Sequence[float]], None], list[int]]]:
        """(function, positions in ``drives``) per instrument, in declared order."""
        key = tuple(map(id, drives))
        if key not in self._writers:
            self._writers[key] = [
                (instrument.level_writer([drives[k].port_name for k in positions]), positions)
                for instrument, positions in by_instrument(drives)
            ]
        return self._writers[key]

    def lookers(self, drives: Sequence[Drive]) -> list[tuple[Callable[[], list[Condition]], list[int]]]:
        """(function, positions in ``drives``) per instrument."""
        key = tuple(map(id, drives))
        if key not in self._lookers:
            self._lookers[key] = [
                (instrument.condition_reader([drives[k].port_name for k in positions]), positions)
                for instrument, positions in by_instrument(drives)
            ]
        return self._lookers[key]


def look_at(active: Sequence[Drive], movers: Movers) -> None:
    """Look at sources that are on. InstrumentError for an output that went off by itself."""
    for look, positions in movers.lookers(active) if active else ():
        for position, condition in zip(positions, look(), strict=True):
            drive = active[position]
            if not condition.on:
                raise InstrumentError(
                    f"control {drive.channel.name!r}: the output of {drive.path} went off by itself; look at the instrument"
                )
            drive.level = drive.lowest = drive.highest = condition.level
            # A pressure is where it was measured; a voltage source tells its programmed level, which nobody may change.
            moved = not abs(condition.level - drive.commanded) <= ROUNDED * (1.0 + abs(drive.commanded))
            drive.in_limits = condition.in_limits
            drive.arrived |= condition.in_limits
            drive.on_course = condition.in_limits if drive.is_pressure else not moved


def configure_meters(senses: Iterable[Sense], warn: Callable[[str], None]) -> None:
    """Ranges, integration times and the like of every output; ``warn`` is told what to know about them."""
    for sense in senses:
        if sense.port is not None:
            try:
                sentences = sense.port.configure_meter(sense.parameter, sense.settings)
            except ConfigError as error:
                raise located(error, f"outputs.{sense.channel.name}") from error
            for sentence in sentences:
                warn(sentence)


Read = Callable[[int], tuple[FloatArray, Any]]
"""Samples -> values and overload, (samples, n)."""


class Reader:
    """Takes samples of several outputs, one transfer per instrument, ``reading`` order kept.

    Outputs behind a switch matrix come one after the other: all crosspoints of this reader but one are open. Values are
    corrected where a calibration is in use.
    """

    def __init__(self, senses: Sequence[Sense]) -> None:
        self._senses, self._count = senses, len(senses)
        self._sourcing = any(sense.source is not None for sense in senses)
        self._undo = undone(senses)
        self._parts: list[tuple[Callable[[int], Acquired], list[int]]] = []
        direct = [k for k, sense in enumerate(senses) if sense.matrix is None]
        for instrument, members in by_instrument([senses[k] for k in direct]):
            self._parts.append(self._part(instrument, senses, [direct[k] for k in members]))
        routed = [k for k, sense in enumerate(senses) if sense.matrix is not None]
        for k in routed:
            acquire, positions = self._part(senses[k].instrument, senses, [k])
            others = [senses[j] for j in routed if senses[j].crosspoint != senses[k].crosspoint]
            self._parts.append((_switched(acquire, senses[k], others), positions))

    @staticmethod
    def _part(instrument: Any, senses: Sequence[Sense], positions: list[int]) -> tuple[Callable[[int], Acquired], list[int]]:
        meter: MeterInstrument = instrument if isinstance(instrument, MeterInstrument) else PlainMeter(instrument)
        return meter.acquisition([(senses[k].port_name, senses[k].parameter) for k in positions]), positions

    def __call__(self, samples: int) -> tuple[FloatArray, Any]:
        """Values and overload, (samples, n)."""
        if len(self._parts) == 1:
            values, overload = self._parts[0][0](samples)
        else:
            values = np.empty((samples, self._count))
            overload = np.empty((samples, self._count), dtype=np.bool_)
            for acquire, positions in self._parts:
                values[:, positions], overload[:, positions] = acquire(samples)
        if self._sourcing:
            values, overload = unblinded(Acquired(values, overload), self._senses)
        return values if self._undo is None else self._undo(values), overload


def _switched(acquire: Callable[[int], Acquired], sense: Sense, others: Sequence[Sense]) -> Callable[[int], Acquired]:
    """``acquire`` once the crosspoints of ``others`` are open and that of ``sense`` is closed."""
    elsewhere: dict[int, tuple[Any, list[str]]] = {}
    for other in others:
        if other.matrix is not sense.matrix:
            elsewhere.setdefault(id(other.matrix), (other.matrix, []))[1].append(other.crosspoint)
    here = [other.crosspoint for other in others if other.matrix is sense.matrix]

    def read(samples: int) -> Acquired:
        for matrix, crosspoints in elsewhere.values():
            matrix.switch(crosspoints, ())
        sense.matrix.switch(here, (sense.crosspoint,))
        acquired = acquire(samples)
        sense.matrix.require_closed(sense.crosspoint)
        return acquired

    return read


def located(error: ConfigError, field: str) -> FieldError:
    """What a driver refuses knows its terminal; the reader needs the ``field`` of the bench file that asks for it."""
    return error if isinstance(error, FieldError) else FieldError(str(error), field)
