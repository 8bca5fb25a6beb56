"""A virtual bench of liquid and pressure instruments around a network that does not matter."""

import select
from dataclasses import replace
from functools import partial
from typing import Any

from hil.core.errors import HilError, NotSettledError
from hil.core.safety import EdgeLimit, SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, SafeAction, SafeState, SettlePolicy, Stimulus
from instruments.backend import InstrumentBackend
from instruments.fluid_roles import Syringe
from instruments.guard_plan import guard_plan
from instruments.guard_rescue import Rescue
from instruments.wiring import ControlWire, InstrumentSpec, OutputWire
from simulated_backend.description import describe
from simulated_backend.devices.registry import law
from simulated_backend.network import Edge, Network, Node
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire
from simulated_backend.virtual_bench.process import VirtualBench

POLICY = SettlePolicy(tolerance=50.0, window=0.1, timeout=60.0)
"""When a pressure counts as settled: Pa and s."""
ML_PER_MIN = 1e-6 / 60.0
TEN_ML = Syringe(14.57e-3, 12e-6)


def fluid_plan(
    *instruments: InstrumentPlan, wires: tuple[Wire, ...] = (), ideal: bool = False, real_time: bool = False
) -> BenchPlan:
    """Instruments beside a resistor between ``low`` and ``1``; pressures may be wired to node 1."""
    nodes = [Node("low", ground=True), Node("1")]
    edges = [Edge("a", "1", "low", law("ohmic"), parameters={"conductance": 1e-6})]
    network = describe(Network.build(nodes, edges))
    return BenchPlan(tuple(instruments), wires, network, ideal=ideal, seed=3, real_time=real_time)


class Attentive:
    """A serial line that takes no reply for lost before the bench has obeyed what was sent, however busy the machine is."""

    def __init__(self, resource: Any, bench: VirtualBench) -> None:
        self.__dict__.update(resource=resource, bench=bench)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.__dict__["resource"], name)
        return partial(self._attentively, found) if name in ("read", "read_raw", "read_bytes") else found

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["resource"], name, value)

    def _attentively(self, read: Any, *arguments: Any) -> Any:
        resource = self.__dict__["resource"]
        if not self._waiting():
            self.__dict__["bench"].side_door.messages()  # answered when everything has been obeyed: now it is here, or never
            if not self._waiting():
                return read(*arguments)
        patience, resource.timeout = resource.timeout, 60_000
        try:
            return read(*arguments)
        finally:
            resource.timeout = patience

    def _waiting(self) -> bool:
        resource = self.__dict__["resource"]
        line = resource.visalib.sessions[resource.session].interface
        return bool(select.select([line], [], [], resource.timeout / 1000.0)[0])


def hasty(instrument: Any, bench: VirtualBench) -> Any:
    """``instrument`` on a stepped ``bench``: does not wait long for a reply that never comes."""
    session = instrument.session
    serial = session.address.startswith("ASRL")
    session.link = replace(session.link, timeout=0.1, first_timeout=0.1) if serial else replace(session.link, timeout=0.5)
    session.resource.timeout = 1000.0 * session.link.timeout
    if serial:
        session.resource = Attentive(session.resource, bench)
    return instrument


def pressure_backend(
    driver: type[Any], bench: VirtualBench, instrument: str, *, slew: float = 2e4, warn: Any = None, **setup: Any
) -> InstrumentBackend:
    """One pressure of one controller, driven and read; vented in the end."""
    spec = InstrumentSpec("unit", f"{driver.__module__}.{driver.__name__}", bench.addresses[instrument], {"visalib": "@py"})
    control = Channel(
        "p", Quantity.PRESSURE, Kind.DRIVE, 9e4, 2e5, max_slew=slew, emergency_slew=5e4, safe=SafeState(SafeAction.VENT)
    )
    output = Channel("p_read", Quantity.PRESSURE, Kind.SENSE)
    wire = ControlWire(control, "unit.pressure", setup=setup)
    return InstrumentBackend(
        "one pressure",
        [spec],
        [wire],
        [OutputWire(output, "unit.pressure")],
        SafetyEnvelope.of(Layout((control,))),
        bench.clock,
        warn=warn,
    )


def outcome_under(driver: type[Any], bench: VirtualBench, fault: str, amount: float, after: int) -> str:
    """Apply and read two pressures while ``fault`` strikes at one message: "right" or "refused"; anything else fails.

    In the end the outlet vents, whatever happened on the way.
    """
    bench.side_door.renew()
    where = "" if fault in ("stuck", "drift") else "-"
    policy = SettlePolicy(tolerance=50.0, window=0.05, timeout=10.0)
    result = "right"
    try:
        with pressure_backend(driver, bench, "unit", in_limits=400.0) as backend:
            backend.apply(Stimulus.of([105e3]))
            bench.side_door.inject("unit", fault, amount, where=where, after=after)
            for wanted in (110e3, 112e3):
                backend.apply(Stimulus.of([wanted]))
                if not backend.settle(policy).settled:
                    raise NotSettledError("the pressure does not come to rest")
                told = float(backend.read(1).values[0])
                if abs(told - wanted) > 1300.0 or abs(bench.side_door.pressures()["1"] - wanted) > 2300.0:
                    return f"{told:g} Pa was read where {wanted:g} Pa was wanted"
    except HilError:
        result = "refused"
    state = str(bench.side_door.outlets()["unit"][""]["state"])
    return result if state == "vent" else f"{result}, and left in the state {state}"


def linked_backend(driver: type[Any], bench: VirtualBench, instruments: tuple[str, str], difference: float) -> InstrumentBackend:
    """Two pressures on the ends of one edge that bears ``difference`` (Pa); vented in the end."""
    path = f"{driver.__module__}.{driver.__name__}"
    specs = [InstrumentSpec(name, path, bench.addresses[name], {"visalib": "@py"}) for name in instruments]
    channels = [
        Channel(
            f"p_{name}",
            Quantity.PRESSURE,
            Kind.DRIVE,
            9e4,
            2e5,
            max_slew=1e4,
            emergency_slew=2e4,
            safe=SafeState(SafeAction.VENT),
        )
        for name in instruments
    ]
    wires = [
        ControlWire(channel, f"{name}.pressure", setup={"in_limits": 300.0})
        for channel, name in zip(channels, instruments, strict=True)
    ]
    limits = (EdgeLimit("a", channels[0].name, channels[1].name, difference),)
    return InstrumentBackend("two pressures", specs, wires, [], SafetyEnvelope.of(Layout(tuple(channels)), limits), bench.clock)


def rescue(name: str, driver: type[Any], address: str, parameter: str, quantity: Quantity, safe: SafeState) -> list[str]:
    """What a guard could not do that knows one control of one instrument; empty means safe."""
    spec = InstrumentSpec(name, f"{driver.__module__}.{driver.__name__}", address, {"visalib": "@py"})
    channel = Channel("it", quantity, Kind.DRIVE, 0.0, 2e5, max_slew=1e5, emergency_slew=1e5, safe=safe)
    warnings: list[str] = []
    envelope = SafetyEnvelope.of(Layout((channel,)))
    plan = guard_plan([spec], {name: driver}, [ControlWire(channel, parameter)], {}, envelope, warnings.append)
    assert warnings == []
    return Rescue(plan, lambda _: None).run()
