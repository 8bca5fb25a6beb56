"""What a virtual bench consists of: instruments, wires, the network behind them. JSON, so that a child process can build it."""

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from hil.core.errors import ConfigError


class PlanError(ConfigError):
    """The plan is wrong about ``instrument``, or about its ``port`` (None: about the whole of it)."""

    def __init__(self, message: str, instrument: str, port: str | None = None) -> None:
        super().__init__(message)
        self.instrument, self.port = instrument, port


@contextmanager
def about(instrument: str) -> Generator[None]:
    """A ConfigError raised inside is a PlanError about ``instrument``."""
    try:
        yield
    except PlanError:
        raise
    except ConfigError as error:
        raise PlanError(str(error), instrument) from error


@dataclass(frozen=True, slots=True)
class InstrumentPlan:
    """One emulated instrument: its name on the bench, the class name of the driver it answers to, its options.

    Options every model knows: ``transport`` (socket, serial, hislip, vxi11, prologix), ``identity`` (the reply to *IDN?),
    ``tcp_port`` and ``clients`` of a network transport, and ``gpib``, the address behind a Prologix adapter (all instruments
    with that transport share one adapter).
    """

    name: str
    model: str
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wire:
    """A wire (or a tube) from a port of an instrument to a node.

    ``port`` is what stands between the instrument and the last name of a parameter path: ``smu.smua.volt`` is "smua",
    ``pace1.a.pressure`` is "a", ``meter.volt`` is "" (front terminals), ``meter.ch101.volt`` is "ch101". ``through``: a
    crosspoint of a switch matrix (``matrix.1A02``) that has to be closed for the wire to conduct.
    """

    instrument: str
    port: str
    node: str
    through: str = ""


@dataclass(frozen=True)
class BenchPlan:
    """A whole virtual bench.

    ``network``: what ``simulated_backend.description.describe`` returns. ``ideal``: instruments without imperfections.
    ``real_time``: time is the wall clock. ``frozen``: the plant answers its first operating point for ever (for timing
    the program itself). ``atmosphere``: absolute pressure of the laboratory and of vents, Pa.
    ``pressure_time_constant``: of the pneumatics between a controller and its node, s. ``imperfections``: of the devices
    themselves, by the names of ``simulated_backend.imperfections.Imperfections`` (``read_noise`` in A).
    ``liquids``: ``electrodes`` ("silver_chloride" or "") and ``mixers``, each with ``pumps`` (instrument -> stock in mol/m^3),
    ``valve``, ``dead_volume`` (m^3, from where the stocks meet to the valve), ``bore`` (m) of the lines, and ``outlets``:
    position of the valve -> ``node``, ``length`` (m) of its line, ``reservoir`` (m^3). ``heads``: node -> Pa that the column
    of liquid adds to the pressure of its outlet. ``interfaces``: inert electrodes, see ``interfaces.Interfaces``.
    """

    instruments: tuple[InstrumentPlan, ...]
    wires: tuple[Wire, ...]
    network: Mapping[str, object]
    ideal: bool = False
    seed: int = 0
    real_time: bool = False
    frozen: bool = False
    atmosphere: float = 101_325.0
    pressure_time_constant: float = 0.3
    imperfections: Mapping[str, Any] = field(default_factory=dict)
    liquids: Mapping[str, Any] = field(default_factory=dict)
    heads: Mapping[str, float] = field(default_factory=dict)
    interfaces: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        names = [instrument.name for instrument in self.instruments]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"instrument {twice[0]!r} stands twice on the virtual bench; give every instrument one name")
        seen: dict[tuple[str, str, str], str] = {}
        for wire in self.wires:
            if wire.instrument not in names:
                known = ", ".join(names) or "none"
                raise ConfigError(f"a wire begins at {wire.instrument!r}, which is no instrument of the virtual bench ({known})")
            ends = seen.setdefault((wire.instrument, wire.port, wire.through), wire.node)
            if ends != wire.node:
                raise PlanError(
                    f"port {wire.port!r} of {wire.instrument!r} is wired to the nodes {ends!r} and {wire.node!r}; choose one",
                    wire.instrument,
                    wire.port,
                )

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "BenchPlan":
        """Inverse of ``to_json``; ConfigError where the text is no plan."""
        try:
            fields = json.loads(text)
            instruments = tuple(InstrumentPlan(**instrument) for instrument in fields.pop("instruments"))
            wires = tuple(Wire(**wire) for wire in fields.pop("wires"))
            interfaces = tuple(fields.pop("interfaces"))
            return cls(instruments, wires, **fields, interfaces=interfaces)
        except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ConfigError(f"this is no plan of a virtual bench: {error}") from error
