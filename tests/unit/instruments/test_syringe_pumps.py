"""What every syringe pump does alike, each driver on its emulated pump: it delivers what was asked for, once."""

from collections.abc import Iterator
from typing import Any

import pytest

from hil.core.errors import ConfigError
from instruments.fluid_roles import Pump
from instruments.harvard_pump import HarvardPump11Elite
from instruments.new_era_ne1000 import NewEraNE1000
from instruments.safe_commands import Guarded
from simulated_backend.virtual_bench.plan import InstrumentPlan
from simulated_backend.virtual_bench.process import VirtualBench
from tests.fluid_bench import ML_PER_MIN, TEN_ML, fluid_plan, hasty


@pytest.fixture(scope="module", params=[HarvardPump11Elite, NewEraNE1000])
def driver(request: pytest.FixtureRequest) -> type[Any]:
    found: type[Any] = request.param
    return found


@pytest.fixture(scope="module")
def bench(driver: type[Any]) -> Iterator[VirtualBench]:
    with VirtualBench.start(fluid_plan(InstrumentPlan("pump", driver.__name__))) as running:
        yield running


@pytest.fixture
def pump(driver: type[Any], bench: VirtualBench) -> Iterator[Any]:
    bench.side_door.renew()
    made = hasty(driver("a_pump", bench.addresses["pump"], visalib="@py"), bench)
    yield made
    made.stop()
    made.close()


def test_it_delivers_what_was_asked_for(pump: Any, bench: VirtualBench) -> None:
    assert isinstance(pump, Pump)
    assert isinstance(pump, Guarded)
    with pytest.raises(ConfigError, match="does not know its syringe yet"):
        pump.start(1.0 * ML_PER_MIN)
    assert pump.configure_pump(TEN_ML) == []
    low, high = pump.rate_span()
    for rate in (1.1 * high, 0.9 * low):
        with pytest.raises(ConfigError, match=r"between .* choose another syringe or rate"):
            pump.start(rate)
    pump.start(2.0 * ML_PER_MIN, 1e-6)
    bench.clock.sleep(15.0)
    assert pump.pump_state() == (True, pytest.approx(0.5e-6))
    bench.clock.sleep(31.0)
    assert pump.pump_state() == (False, pytest.approx(1e-6))
    pump.start(-4.0 * ML_PER_MIN)
    bench.clock.sleep(6.0)
    assert pump.delivered() == pytest.approx(-0.4e-6)
    pump.stop()
    bench.clock.sleep(60.0)
    assert pump.pump_state() == (False, pytest.approx(-0.4e-6))
    pump.stop()


@pytest.mark.parametrize("fault", ["silence", "garbage"])
def test_a_lost_reply_is_overcome_and_nothing_is_done_twice(pump: Any, bench: VirtualBench, fault: str) -> None:
    pump.configure_pump(TEN_ML)
    for after in range(1, 11):
        bench.side_door.inject("pump", fault, after=after)
        pump.start(1.0 * ML_PER_MIN, 0.1e-6)
        bench.clock.sleep(3.0)
        assert pump.pump_state() == (True, pytest.approx(0.05e-6, rel=1e-6))
        pump.stop()
