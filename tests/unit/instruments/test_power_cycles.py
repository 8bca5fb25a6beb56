"""Every driver on its emulator: an instrument that was switched off and on is noticed, and an overflow is never a value."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from hil.core.errors import InstrumentError
from hil.core.types import Quantity
from instruments import station
from instruments.roles import Acquired, SourcePlan
from instruments.vendor_pressure import VendorPressure
from simulated_backend.description import describe
from simulated_backend.devices import registry
from simulated_backend.network import Edge, Network, Node
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire
from simulated_backend.virtual_bench.process import VirtualBench
from tests.fluid_bench import ML_PER_MIN, TEN_ML

VOLTS = SourcePlan(Quantity.VOLTAGE, -1.0, 1.0, 1e-5, 10.0)
PRESSURES = SourcePlan(Quantity.PRESSURE, 1e5, 1.2e5, None, 2e4)
DRIVERS = {driver.__name__: driver for driver in station.own_drivers() if not issubclass(driver, VendorPressure)}


@dataclass(frozen=True)
class Use:
    """How a driver is used: ``prepare`` makes a fresh one hold something; ``look`` is what follows a reading, and fails where
    that is lost; ``read`` takes readings, of instruments that measure."""

    prepare: Callable[[Any], object]
    look: Callable[[Any], object]
    read: Callable[[Any], Acquired] | None = None


def sourcing(port: str) -> Use:
    def prepare(unit: Any) -> None:
        unit.port(port).configure_source(VOLTS)
        unit.port(port).enable(0.5)

    return Use(prepare, lambda unit: unit.delivery_reader([port])(), lambda unit: unit.acquisition([(port, "volt")])(2))


def measuring(port: str) -> Use:
    def read(unit: Any) -> Acquired:
        return unit.acquisition([(port, "volt")])(2)  # type: ignore[no-any-return] # of any driver

    return Use(lambda unit: unit.port(port).configure_meter("volt", {}), read, read)


def controlling(port: str) -> Use:
    def prepare(unit: Any) -> None:
        unit.port(port).configure_source(PRESSURES)
        unit.port(port).enable(1.1e5)

    def look(unit: Any) -> None:
        if not all(condition.on for condition in unit.condition_reader([port])()):
            raise InstrumentError("went off by itself")  # what ``verification`` says of it

    return Use(prepare, look, lambda unit: unit.acquisition([(port, "pressure")])(2))


def pump() -> Use:
    def prepare(unit: Any) -> None:
        unit.configure_pump(TEN_ML)
        unit.start(ML_PER_MIN, 1e-6)

    return Use(prepare, lambda unit: unit.pump_state())


USES = {
    **{name: sourcing("smua") for name in ("Keithley2602B", "Keithley2636B")},
    **{name: sourcing("") for name in ("Keithley2400", "Keithley2450")},
    **{name: sourcing("ch1") for name in ("KeysightB2901A", "KeysightB2912A")},
    **{name: measuring("") for name in ("Keithley6517B", "KeithleyDAQ6510")},
    **{name: measuring("ch101") for name in ("Keysight34970A", "KeysightDAQ970A")},
    **{name: controlling("a") for name in ("DruckPACE5000", "DruckPACE6000")},
    **{name: controlling("") for name in ("AlicatPressure", "MensorCPC")},
    **{name: pump() for name in ("NewEraNE1000", "HarvardPHDUltra", "HarvardPump11Elite")},
    "BronkhorstFlow": Use(lambda unit: unit.set_flow(0.5 * unit.full_scale()), lambda unit: unit.held()),
    "Keithley707B": Use(lambda unit: unit.switch([], ["1A02"]), lambda unit: unit.require_closed("1A02")),
}
KEEPS = {"ViciValve": "it stays where it is and holds no setting"}
WIRED = dict.fromkeys(("Keithley2400", "Keithley2450", "Keithley6517B", "KeithleyDAQ6510"), "") | {
    "Keithley2602B": "smua",
    "Keithley2636B": "smua",
    "KeysightB2901A": "ch1",
    "KeysightB2912A": "ch1",
    "Keysight34970A": "ch101",
    "KeysightDAQ970A": "ch101",
}


def test_every_emulated_driver_is_here() -> None:
    assert sorted({**USES, **KEEPS}) == sorted(DRIVERS)


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    """One of each, every electrical one with a node and a resistor of its own."""
    law = registry.law("ohmic")
    edges = [Edge(f"r {name}", name, "low", law, {"conductance": 1e-6}) for name in WIRED]
    network = Network.build([Node("low", ground=True), *(Node(name) for name in WIRED)], edges)
    instruments = tuple(InstrumentPlan(name, name) for name in USES)
    wires = tuple(Wire(name, port, name) for name, port in WIRED.items())
    with VirtualBench.start(BenchPlan(instruments, wires, describe(network), seed=3)) as running:
        yield running


@pytest.fixture(params=sorted(USES))
def used(request: pytest.FixtureRequest, bench: VirtualBench) -> Iterator[tuple[str, Use, Any]]:
    """A driver that is in use, with its name."""
    name = request.param
    address = bench.addresses[name]
    # A read from a socket that was closed at the other end lasts until it times out.
    unit = DRIVERS[name](name, address, timeout=2.0 if address.startswith("ASRL") else 0.5, visalib="@py")
    try:
        USES[name].prepare(unit)
        yield name, USES[name], unit
    finally:
        bench.side_door.renew()
        unit.close()


def test_one_that_was_switched_off_and_on_is_noticed(used: tuple[str, Use, Any], bench: VirtualBench) -> None:
    name, use, unit = used
    use.look(unit)  # nothing has happened yet
    unit.require_settings_kept()
    bench.side_door.inject(name, "restart")
    with pytest.raises(InstrumentError, match=r"switched off and on|went off by itself"):
        use.look(unit)


def test_what_stands_for_an_overflow_is_no_value(used: tuple[str, Use, Any], bench: VirtualBench) -> None:
    name, use, unit = used
    if use.read is None:
        pytest.skip("reads no numbers that can overflow")
    right = use.read(unit).values
    assert np.isfinite(right).all()
    for fault in ("overflow", "nan"):
        bench.side_door.inject(name, fault, 2.0)
        try:
            found = use.read(unit)
        except InstrumentError:
            continue  # refused as a whole: no value either
        taken = found.values[~found.overload]  # asked for again
        assert taken == pytest.approx(right[~found.overload], rel=1e-2)
        assert not np.isfinite(found.values[found.overload]).any()
