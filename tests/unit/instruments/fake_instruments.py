"""Instruments made of Python, for the rules of the backend that no wire is needed for; and a log of all that was done."""

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hil.core.clock import SteppedClock
from hil.core.errors import InstrumentError
from hil.core.safety import EdgeLimit, SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, SafeAction, SafeState, SettlePolicy
from instruments import backend as backend_module
from instruments.backend import InstrumentBackend
from instruments.roles import Acquired, Condition, SourcePlan, SourceState
from instruments.wiring import ControlWire, InstrumentSpec, OutputWire

POLICY = SettlePolicy(tolerance=1e-3, window=0.01, timeout=1.0)


class Bench:
    """The log of everything that was done, in order, with its time."""

    def __init__(self) -> None:
        self.clock = SteppedClock()
        self.log: list[tuple[float, str, str, float]] = []
        self.broken: set[str] = set()
        self.instruments: dict[str, Any] = {}

    def note(self, instrument: str, what: str, value: float = 0.0) -> None:
        self.log.append((round(self.clock.now(), 9), instrument, what, value))

    def done(self, *what: str) -> list[tuple[str, str, float]]:
        return [entry[1:] for entry in self.log if entry[2].split(" ")[-1] in what]


class FakePort:
    """A port of volts, or of pascals that reach their set-point at once."""

    def __init__(self, unit: "FakeInstrument", name: str) -> None:
        self.unit, self.name = unit, name
        self.level, self.on, self.compliant = 0.0, False, True
        self.plan: SourcePlan | None = None

    def source_quantities(self) -> Mapping[str, Quantity]:
        return {self.unit.parameter: self.unit.quantity}

    def configure_source(self, plan: SourcePlan) -> Sequence[str]:
        assert not self.on, "configured with the output on"
        self.plan = plan
        self.unit.act(f"{self.name} configure")
        return ["a word of warning"] if plan.settings else []

    def source_state(self) -> SourceState:
        return SourceState(self.level, self.level if self.on else float("nan"), self.on)

    def enable(self, level: float) -> None:
        self.unit.act(f"{self.name} on", level)
        self.level, self.on = level, True

    def disable(self, action: SafeAction) -> None:
        self.unit.act(f"{self.name} {action.value}")
        self.on = False

    def meter_quantities(self) -> Mapping[str, Quantity]:
        return {self.unit.parameter: self.unit.quantity}

    def configure_meter(self, parameter: str, settings: Mapping[str, Any]) -> Sequence[str]:
        self.unit.act(f"{self.name} meter")
        return ()


class FakePressurePort(FakePort):
    def set_slew(self, pascal_per_second: float) -> None:
        self.unit.act(f"{self.name} slew", pascal_per_second)

    def pressure_now(self) -> float:
        self.unit.act(f"{self.name} look")
        return self.level if self.on else 101_325.0

    def vented(self) -> bool:
        return not self.on


class FakeInstrument:
    simultaneous = True
    parameter, quantity, port_class = "volt", Quantity.VOLTAGE, FakePort

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench, self.name = bench, name
        self.ports = {letter: self.port_class(self, letter) for letter in "ab"}
        self.session = SimpleNamespace(failed=False)
        self.noise: Callable[[], float] = lambda: 0.0

    def act(self, what: str, value: float = 0.0) -> None:
        if self.name in self.bench.broken:
            self.session.failed = True
            raise InstrumentError(f"instrument {self.name!r} is dead")
        self.bench.note(self.name, what, value)

    def port(self, name: str) -> FakePort:
        return self.ports[name]

    def identity(self) -> str:
        return self.name

    def errors(self) -> list[str]:
        return []

    def settings(self) -> Mapping[str, object]:
        return {}

    def get_idn(self) -> dict[str, str]:
        return {"vendor": "fake"}

    def level_writer(self, ports: Sequence[str]) -> Callable[[Sequence[float]], None]:
        def write(levels: Sequence[float]) -> None:
            for port, level in zip(ports, levels, strict=True):
                self.act(f"{port} level", level)
                self.ports[port].level = level

        return write

    def condition_reader(self, ports: Sequence[str]) -> Callable[[], list[Condition]]:
        return lambda: [Condition(self.ports[p].level, self.ports[p].on, self.ports[p].compliant) for p in ports]

    def acquisition(self, terminals: Sequence[tuple[str, str]]) -> Callable[[int], Acquired]:
        def read(samples: int) -> Acquired:
            self.act("read")
            values = np.array([[self.ports[p].level + self.noise() for p, _ in terminals] for _ in range(samples)])
            return Acquired(values, np.zeros(values.shape, dtype=np.bool_))

        return read


class FakeController(FakeInstrument):
    parameter, quantity, port_class = "pressure", Quantity.PRESSURE, FakePressurePort


def volt(name: str, **changes: Any) -> Channel:
    return Channel(
        name, Quantity.VOLTAGE, Kind.DRIVE, **{"minimum": -5.0, "maximum": 5.0, "max_slew": 10.0, "node": name, **changes}
    )


def pascal(name: str, **changes: Any) -> Channel:
    settings = {"minimum": 9e4, "maximum": 1.1e5, "max_slew": 5e4, "safe": SafeState(SafeAction.VENT), **changes}
    return Channel(name, Quantity.PRESSURE, Kind.DRIVE, node=name, **settings)


def make(bench: Bench, wires: Sequence[ControlWire], *, edges: Sequence[EdgeLimit] = (), **options: Any) -> InstrumentBackend:
    layout = Layout(tuple(wire.channel for wire in wires))
    outputs = options.pop("outputs", [OutputWire(Channel("out", Quantity.VOLTAGE, Kind.SENSE, node="x"), "smu.a.volt")])
    specs = [InstrumentSpec(name, "fake", f"fake-{name}") for name in ("smu", "other", "pace")]
    return InstrumentBackend("fake", specs, wires, outputs, SafetyEnvelope.of(layout, edges), bench.clock, **options)


def two_volts(bench: Bench, **options: Any) -> InstrumentBackend:
    return make(bench, [ControlWire(volt("V1"), "smu.a.volt", 1e-5), ControlWire(volt("V2"), "other.a.volt", 1e-5)], **options)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The bench with its instruments in place of those that the backend would open."""
    made = Bench()
    kinds = {"smu": FakeInstrument, "other": FakeInstrument, "pace": FakeController}
    made.instruments = {name: kind(made, name) for name, kind in kinds.items()}
    monkeypatch.setattr(backend_module, "check_station", lambda *_: kinds)
    monkeypatch.setattr(backend_module, "build_station", lambda *_: SimpleNamespace(components=made.instruments))
    monkeypatch.setattr(backend_module, "close_station", lambda _: made.note("station", "closed"))
    return made
