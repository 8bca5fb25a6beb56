"""Every driver on its emulator: an instrument that was switched off and on is noticed, and an overflow is never a value.

What a driver can be asked to do follows from the roles it plays, so that a new one is tested without a word here.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from hil.core.errors import ConfigError, InstrumentError
from hil.core.types import Quantity
from instruments import station
from instruments.fluid_roles import FlowController, Pump
from instruments.roles import Acquired, Meter, Source, SourcePlan, SwitchMatrix, VerifiableSource
from instruments.vendor_pressure import VendorPressure
from simulated_backend.virtual_bench.plan import InstrumentPlan
from simulated_backend.virtual_bench.process import VirtualBench
from tests.fluid_bench import ML_PER_MIN, TEN_ML, fluid_plan, hasty

DRIVERS = {driver.__name__: driver for driver in station.own_drivers() if not issubclass(driver, VendorPressure)}
LEVELS = {Quantity.VOLTAGE: (-1.0, 1.0, 0.5), Quantity.PRESSURE: (1e5, 1.2e5, 1.1e5)}
COMPLIANCES = (1e-5, 1e-2)
"""One of these every source of volts takes, A."""
CROSSPOINT = "1A02"


@dataclass(frozen=True)
class Use:
    """What is done with an instrument: ``look`` follows every reading and fails where the instrument has lost its settings;
    ``read`` takes readings, where it measures."""

    look: Callable[[], object]
    read: Callable[[], Acquired] | None = None


def used_port(unit: Any) -> tuple[str, Any]:
    """The first port that drives or measures something."""
    for name in ("", *unit.submodules, "ch101"):
        with suppress(ConfigError):
            port = unit.port(name)
            if isinstance(port, Source | Meter):
                return name, port
    raise AssertionError("it plays no role")


def begin(unit: Any) -> Use:
    """Put a fresh driver to use, so that it holds something that a power cut takes away."""
    if isinstance(unit, Pump):
        unit.configure_pump(TEN_ML)
        unit.start(ML_PER_MIN, 1e-6)
        return Use(unit.pump_state)
    if isinstance(unit, FlowController):
        unit.set_flow(0.5 * unit.full_scale())
        return Use(unit.held)
    if isinstance(unit, SwitchMatrix):
        unit.switch([], [CROSSPOINT])
        return Use(lambda: unit.require_closed(CROSSPOINT))
    name, port = used_port(unit)
    if not isinstance(port, Source):
        (parameter, *_) = port.meter_quantities()
        port.configure_meter(parameter, {})
        read = unit.acquisition([(name, parameter)])
        return Use(lambda: read(2), lambda: read(2))
    (parameter, quantity), *_ = port.source_quantities().items()
    low, high, level = LEVELS[quantity]
    for compliance in COMPLIANCES if quantity is Quantity.VOLTAGE else (None,):
        with suppress(ConfigError):
            port.configure_source(SourcePlan(quantity, low, high, compliance, 2e4))
            break
    port.enable(level)
    reads = unit.acquisition([(name, parameter)]) if isinstance(port, Meter) else None
    return Use(lambda: look_at_source(unit, name), None if reads is None else lambda: reads(2))


def look_at_source(unit: Any, name: str) -> None:
    """As ``verification`` does it after every reading."""
    look = unit.delivery_reader if isinstance(unit, VerifiableSource) else unit.condition_reader
    if not all(found.on for found in look([name])()):
        raise InstrumentError("went off by itself")


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    """One of each; nothing is connected to them."""
    with VirtualBench.start(fluid_plan(*(InstrumentPlan(name, name) for name in DRIVERS))) as running:
        yield running


@pytest.fixture(params=sorted(DRIVERS))
def used(request: pytest.FixtureRequest, bench: VirtualBench) -> Iterator[tuple[str, Any, Use]]:
    """A driver that is in use: its name, itself, what is done with it."""
    name = request.param
    if name == "ViciValve":
        pytest.skip("stays where it is without power, and holds no setting")
    unit = DRIVERS[name](name, bench.addresses[name], visalib="@py")
    try:
        yield name, unit, begin(unit)
    finally:
        bench.side_door.renew()
        unit.close()


def test_one_that_was_switched_off_and_on_is_noticed(used: tuple[str, Any, Use], bench: VirtualBench) -> None:
    name, unit, use = used
    use.look()  # nothing has happened yet
    unit.require_settings_kept()
    hasty(unit, bench)  # a read from a socket that was closed at the other end lasts until it times out
    bench.side_door.inject(name, "restart")
    with pytest.raises(InstrumentError, match=r"switched off and on|went off by itself"):
        use.look()


def test_what_stands_for_an_overflow_is_no_value(used: tuple[str, Any, Use], bench: VirtualBench) -> None:
    name, _, use = used
    if use.read is None:
        pytest.skip("reads no numbers that can overflow")
    right = use.read().values
    assert np.isfinite(right).all()
    for fault in ("overflow", "nan"):
        bench.side_door.inject(name, fault, 2.0)
        try:
            found = use.read()
        except InstrumentError:
            continue  # refused as a whole: no value either
        taken = found.values[~found.overload]  # asked for again
        assert taken == pytest.approx(right[~found.overload], rel=1e-2, abs=1e-3)
        assert not np.isfinite(found.values[found.overload]).any()
