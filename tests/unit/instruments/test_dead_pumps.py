"""A pump whose line is dead for good does not pump for ever: its dose ends, or its watchdog ends it before."""

from collections.abc import Iterator
from typing import Any

import pytest

from hil.core.errors import InstrumentError
from instruments.bronkhorst_flow import BronkhorstFlow
from instruments.fluid_roles import Pump, PumpState
from instruments.harvard_pump import HarvardPHDUltra, HarvardPump11Elite
from instruments.new_era_ne1000 import NewEraNE1000
from simulated_backend.virtual_bench.plan import InstrumentPlan
from simulated_backend.virtual_bench.process import VirtualBench
from tests.fluid_bench import ML_PER_MIN, TEN_ML, fluid_plan, hasty

DRIVERS = (BronkhorstFlow, HarvardPHDUltra, HarvardPump11Elite, NewEraNE1000)
DOSE = 1e-6


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    with VirtualBench.start(fluid_plan(*(InstrumentPlan(driver.__name__, driver.__name__) for driver in DRIVERS))) as running:
        yield running


@pytest.fixture(params=DRIVERS)
def pump(request: pytest.FixtureRequest, bench: VirtualBench) -> Iterator[Any]:
    bench.side_door.renew()
    name = request.param.__name__
    made = request.param(name, bench.addresses[name], visalib="@py")
    made.configure_pump(TEN_ML)
    yield made
    made.close()


def delivered(bench: VirtualBench, pump: Any) -> tuple[float, float]:
    facts = bench.side_door.flows()[pump.name][""]
    return facts["flow"], facts["delivered"]


def test_the_dose_ends_by_itself(bench: VirtualBench, pump: Any) -> None:
    assert isinstance(pump, Pump)
    _, before = delivered(bench, pump)
    pump.start(ML_PER_MIN, DOSE)
    bench.clock.sleep(20.0)
    bench.side_door.inject(pump.name, "dead")
    flow, part = delivered(bench, pump)
    assert flow == pytest.approx(ML_PER_MIN, rel=0.011)
    assert 0.0 < part - before < DOSE
    bench.clock.sleep(3600.0)
    flow, whole = delivered(bench, pump)
    assert flow == 0.0
    assert whole - before == pytest.approx(DOSE, rel=0.011)


@pytest.mark.parametrize("pump", [NewEraNE1000], indirect=True)
def test_a_watchdog_ends_it_before(bench: VirtualBench, pump: NewEraNE1000) -> None:
    _, before = delivered(bench, pump)
    pump.set_watchdog(5.0)
    pump.start(ML_PER_MIN, DOSE)
    bench.side_door.inject(pump.name, "dead")
    bench.clock.sleep(30.0)
    flow, part = delivered(bench, pump)
    assert flow == 0.0
    assert part - before <= 5.1 * ML_PER_MIN * 1.01


def test_no_message_gets_through_any_more_and_renewing_the_bench_mends_it(bench: VirtualBench) -> None:
    name = NewEraNE1000.__name__
    bench.side_door.renew()
    made: Any = hasty(NewEraNE1000("it", bench.addresses[name], visalib="@py"), bench)
    bench.side_door.inject(name, "dead")
    for _ in range(3):
        with pytest.raises(InstrumentError, match=r"does not answer any more|did not complete"):
            made.errors()
    assert bench.side_door.happened() == [(name, "dead")]
    bench.side_door.renew()
    assert made.pump_state() == PumpState(running=False, delivered=0.0)
    made.close()
