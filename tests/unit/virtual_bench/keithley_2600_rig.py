"""The 2600B emulator on a plant of independent resistors, and how a test speaks with it."""

from collections.abc import Sequence
from math import copysign, inf
from typing import Any

import numpy as np

from simulated_backend.virtual_bench.emulators.keithley_2600 import Keithley2600
from simulated_backend.virtual_bench.faults import OutputStage
from simulated_backend.virtual_bench.ports import CurrentSource, ElectricalPort, Open, Sample, Source, VoltageSource

ON = "smua.source.levelv = 2 smua.source.limiti = 1e-2 smua.source.output = 1"


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        assert seconds >= 0.0
        self.seconds += seconds


class Resistor:
    """A terminal with a resistor to low."""

    def __init__(self) -> None:
        self.source: Source = Open()
        self.load = (inf, 0.0)
        self.ohm = 1000.0
        self.stage = OutputStage()

    def set_source(self, source: Source) -> None:
        self.source = source

    def set_load(self, input_resistance: float, bias_current: float) -> None:
        self.load = (input_resistance, bias_current)

    def sample(self) -> Sample:
        match self.source:
            case VoltageSource(level, limit, series):
                current = level / (self.ohm + series)
                if abs(current) > limit:
                    current = copysign(limit, current)
                    return Sample(current * self.ohm, current, True)
                return Sample(current * self.ohm, current, False)
            case CurrentSource(level, limit):
                ohm = 1.0 / (1.0 / self.ohm + 1.0 / self.load[0])
                if abs(level * ohm) > limit:
                    return Sample(copysign(limit, level), copysign(limit, level) / ohm, True)
                return Sample(level * ohm, level, False)
            case _:
                return Sample(0.0, 0.0, False)


class Plant:
    def __init__(self, *, ideal: bool) -> None:
        self.clock = Clock()
        self.ideal = ideal
        self.ports: dict[str, Resistor] = {}
        self.observed: list[tuple[int, float, int]] = []

    def electrical(self, instrument: str, port: str) -> Resistor:
        return self.ports.setdefault(port, Resistor())

    def pneumatic(self, instrument: str, port: str) -> object:
        raise NotImplementedError

    def observe(self, ports: Sequence[ElectricalPort], aperture: float, count: int = 1) -> list[tuple[Sample, ...]]:
        self.observed.append((len(ports), aperture, count))
        rows = [tuple(port.sample() for port in ports if isinstance(port, Resistor)) for _ in range(count)]
        self.clock.advance(aperture * count)
        return rows


class Bench:
    def __init__(self, model: str = "Keithley2602B", *, ideal: bool = True, seed: int = 0, **options: Any) -> None:
        self.plant = Plant(ideal=ideal)
        settings = {**Keithley2600.models[model], "identity": None, **options}
        self.unit = Keithley2600("smu", self.plant, settings, np.random.default_rng(seed))  # no pneumatics here

    def write(self, *lines: str) -> None:
        for line in lines:
            assert self.unit.receive(line.encode()) is None, line

    def raw(self, line: str) -> bytes:
        reply = self.unit.receive(line.encode())
        assert reply is not None
        return reply

    def ask(self, expression: str) -> list[str]:
        return self.raw(f"print({expression})").decode().rstrip("\n").split("\t")

    def numbers(self, expression: str) -> list[float]:
        return [float(word) for word in self.ask(expression)]

    def table(self, line: str) -> list[float]:
        return [float(word) for word in self.raw(line).decode().split(",")]

    def errors(self) -> list[int]:
        codes = []
        while code := int(float(self.ask("errorqueue.next()")[0])):
            codes.append(code)
        return codes

    @property
    def a(self) -> Resistor:
        return self.plant.ports["smua"]


def drives(bench: Bench) -> Source:
    """What smua does to its node now."""
    return bench.a.source
