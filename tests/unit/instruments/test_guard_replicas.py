"""The guard brings every replica home, although they share the names of their channels."""

from hil.core.safety import EdgeLimit, SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, SafeAction, SafeState
from instruments.druck_pace import DruckPACE6000
from instruments.guard_plan import guard_plan
from instruments.guard_rescue import Rescue
from instruments.wiring import ControlWire, InstrumentSpec
from simulated_backend.virtual_bench.plan import InstrumentPlan
from simulated_backend.virtual_bench.process import VirtualBench
from tests.fluid_bench import fluid_plan

NAMES = ("one", "two")


def test_pressures_of_replicas_are_all_vented() -> None:
    vent = SafeState(SafeAction.VENT)
    layout = Layout(
        tuple(Channel(name, Quantity.PRESSURE, Kind.DRIVE, 9e4, 1.3e5, max_slew=1e5, safe=vent) for name in ("P1", "P2"))
    )
    instruments = [InstrumentPlan(name, "DruckPACE6000") for name in NAMES]
    with VirtualBench.start(fluid_plan(*instruments, real_time=True)) as bench:
        specs = [
            InstrumentSpec(name, "instruments.druck_pace.DruckPACE6000", bench.addresses[name], {"visalib": "@py"})
            for name in NAMES
        ]
        for spec in specs:
            unit = DruckPACE6000(f"left_on_{spec.name}", spec.address, visalib="@py")
            try:
                for port in ("a", "b"):
                    unit.submodules[port].enable(1.05e5)
            finally:
                unit.close()
        plan = guard_plan(
            specs,
            dict.fromkeys(NAMES, DruckPACE6000),
            [ControlWire(channel, "") for channel in layout],
            {"A": {"P1": "one.a.pressure", "P2": "one.b.pressure"}, "B": {"P1": "two.a.pressure", "P2": "two.b.pressure"}},
            SafetyEnvelope.of(layout, (EdgeLimit("a", "P1", "P2", 1e3),)),
            lambda _: None,
        )
        assert [edge[:2] for edge in plan["edges"]] == [["A:P1", "A:P2"], ["B:P1", "B:P2"]]
        assert Rescue(plan, lambda _: None).run() == []
        outlets = bench.side_door.outlets()
        assert {(name, port): outlets[name][port]["state"] for name in NAMES for port in ("a", "b")} == dict.fromkeys(
            [(name, port) for name in NAMES for port in ("a", "b")], "vent"
        )
