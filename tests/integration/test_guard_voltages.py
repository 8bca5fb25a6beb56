"""The guard on voltages of different instruments whose difference is limited, in real time, judged in the plant."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from hil.core.safety import EdgeLimit, SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, SafeAction, SafeState
from instruments import guard_descent
from instruments.guard_plan import guard_plan
from instruments.guard_rescue import Rescue
from instruments.roles import SourcePlan
from instruments.station import driver_class
from instruments.wiring import ControlWire, InstrumentSpec
from simulated_backend.description import describe
from simulated_backend.devices import registry
from simulated_backend.network import Edge, Network, Node
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire
from simulated_backend.virtual_bench.process import VirtualBench

LIMIT, ACCURACY = 1.5, 0.02
"""V across the device between the nodes; what two sources may be off by their data sheets."""
START = {"A": 5.0, "B": 4.5, "C": 4.0}
SMUS: Mapping[str, tuple[str, str]] = {
    "tsp": ("instruments.keithley_2600.Keithley2602B", "smua"),
    "scpi": ("instruments.keithley_2400.Keithley2400", ""),
    "channels": ("instruments.keysight_b2900.KeysightB2912A", "ch2"),
}
"""One terminal of each kind that says its level in words of its own."""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time enough for every step: limits are judged here, not how busy the machine is."""
    monkeypatch.setattr(guard_descent, "PARTNERS", 30.0)
    monkeypatch.setattr(guard_descent, "IN_TIME", 60.0)


@contextmanager
def left_on(safe: Mapping[str, SafeState]) -> Generator[tuple[VirtualBench, dict[str, Any]]]:
    """Three sources on three instruments, a device between every two of them, all left on; and the guard's plan."""
    pairs = [("A", "B"), ("B", "C"), ("A", "C")]
    law = registry.law("ohmic")
    nodes = [Node("low", ground=True), *(Node(name) for name in START)]
    # Next to nothing to low, so that a terminal that floats follows its neighbours.
    edges = [Edge(one + other, one, other, law, {"conductance": 1e-9}) for one, other in pairs]
    edges += [Edge(f"{name}-low", name, "low", law, {"conductance": 1e-12}) for name in START]
    where = dict(zip(START, SMUS.items(), strict=True))
    bench = BenchPlan(
        tuple(InstrumentPlan(name, kind.rpartition(".")[2]) for name, (kind, _) in SMUS.items()),
        tuple(Wire(name, port, node) for node, (name, (_, port)) in where.items()),
        describe(Network.build(nodes, edges)),
        seed=5,
        real_time=True,
    )
    with VirtualBench.start(bench) as running:
        specs = [InstrumentSpec(name, kind, running.addresses[name]) for name, (kind, _) in SMUS.items()]
        # Brought up in steps, as the program would.
        units = {spec.name: driver_class(spec)(spec.name, spec.address) for spec in specs}
        try:
            ports = {node: units[name].port(port) for node, (name, (_, port)) in where.items()}
            for port in ports.values():
                port.configure_source(SourcePlan(Quantity.VOLTAGE, -5.0, 5.0, 1e-5, 10.0))
                port.enable(0.0)
            for share in (0.1 * k for k in range(1, 11)):
                for node, (name, (_, port)) in where.items():
                    units[name].level_writer([port])([share * START[node]])
        finally:
            for unit in units.values():
                unit.close()
        channels = [
            Channel(node, Quantity.VOLTAGE, Kind.DRIVE, -5.0, 5.0, node=node, safe=safe.get(node, SafeState())) for node in START
        ]
        wires = [
            ControlWire(channel, ".".join(part for part in (name, port, "volt") if part), 1e-5)
            for channel, (name, (_, port)) in zip(channels, where.values(), strict=True)
        ]
        limits = tuple(EdgeLimit(one + other, one, other, LIMIT) for one, other in pairs)
        classes = {spec.name: driver_class(spec) for spec in specs}
        plan = guard_plan(specs, classes, wires, {}, SafetyEnvelope.of(Layout(tuple(channels)), limits), lambda _: None)
        assert max(largest(running).values()) < LIMIT + ACCURACY
        yield running, plan


def largest(bench: VirtualBench) -> dict[str, float]:
    found = bench.side_door.extremes()["voltage_difference"]
    return {edge: max(abs(low), abs(high)) for edge, (low, high) in found.items() if "low" not in edge}


@pytest.mark.parametrize(
    "safe",
    [
        pytest.param({}, id="all at 0 V"),
        pytest.param({"B": SafeState(SafeAction.HIGH_IMPEDANCE)}, id="one floats between the others"),
        pytest.param({"C": SafeState(SafeAction.LEVEL, 1.0)}, id="one holds a level"),
    ],
)
def test_no_difference_exceeds_its_limit_on_the_way_down(safe: Mapping[str, SafeState]) -> None:
    with left_on(safe) as (bench, plan):
        assert Rescue(plan, lambda _: None).run() == []
        worst = largest(bench)
        assert max(worst.values()) < LIMIT + ACCURACY, worst
        voltages = bench.side_door.voltages()
        if "B" not in safe:
            assert abs(voltages["A"]) < 0.06
            assert abs(voltages["B"]) < 0.06
        assert voltages["C"] == pytest.approx(safe["C"].value if "C" in safe else 0.0, abs=0.06)
