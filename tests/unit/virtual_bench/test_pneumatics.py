"""Pressure outlets: slew, lag, vent, hold, unrest."""

from math import exp, inf
from typing import Any

import numpy as np
import pytest

from hil.core.errors import ConfigError
from simulated_backend.description import describe
from simulated_backend.devices import registry
from simulated_backend.network import Edge, Network, Node
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire
from simulated_backend.virtual_bench.plant import Plant

ATMOSPHERE = 101_325.0


def plant_of(**options: Any) -> Plant:
    network = Network.build(
        [Node("1"), Node("2", ground=True)], [Edge("a", "1", "2", registry.law("ohmic"), {"conductance": 1e-9})]
    )
    wires = (Wire("pace", "a", "1"), Wire("pace", "b", "2"))
    plant = Plant(BenchPlan((InstrumentPlan("pace", "any"),), wires, describe(network), **options))
    plant.lock.acquire()
    for port in ("a", "b"):
        plant.pneumatic("pace", port)
    return plant


def test_a_pressure_follows_its_ramp_one_lag_behind() -> None:
    plant = plant_of(pressure_time_constant=0.3)
    outlet = plant.pneumatic("pace", "a")
    outlet.set_target(ATMOSPHERE + 10_000.0, 1_000.0)
    plant.clock.advance(5.0)
    assert outlet.pressure() == pytest.approx(ATMOSPHERE + 5_000.0 - 300.0 * (1.0 - exp(-5.0 / 0.3)), abs=1e-6)
    plant.clock.advance(5.0)
    assert outlet.pressure() == pytest.approx(ATMOSPHERE + 10_000.0 - 300.0, abs=1e-4)
    plant.clock.advance(0.3)
    assert outlet.pressure() == pytest.approx(ATMOSPHERE + 10_000.0 - 300.0 * exp(-1.0), abs=1e-4)
    plant.clock.advance(60.0)
    assert outlet.pressure() == ATMOSPHERE + 10_000.0
    assert plant.node_pressures() == {"1": ATMOSPHERE + 10_000.0, "2": ATMOSPHERE}


def test_hold_stops_and_vent_returns_to_the_atmosphere() -> None:
    plant = plant_of()
    outlet = plant.pneumatic("pace", "a")
    outlet.set_target(ATMOSPHERE + 10_000.0, 1_000.0)
    plant.clock.advance(5.0)
    outlet.hold()
    held = outlet.pressure()
    plant.clock.advance(100.0)
    assert outlet.pressure() == held
    outlet.set_target(None, inf)
    plant.clock.advance(0.3)
    assert outlet.pressure() == pytest.approx(ATMOSPHERE + (held - ATMOSPHERE) * exp(-1.0), rel=1e-9)
    plant.clock.advance(30.0)
    assert outlet.pressure() == ATMOSPHERE


def test_the_controllers_unrest_has_the_size_and_the_mean_it_should_have() -> None:
    plant = plant_of(seed=3)
    outlet = plant.pneumatic("pace", "a")
    outlet.set_stability(5.0, 2.0)
    outlet.set_target(ATMOSPHERE, inf)
    seen = []
    for _ in range(1500):
        plant.clock.advance(4.0)
        seen.append(outlet.pressure() - ATMOSPHERE)
    # the lag of 0.3 s takes a little off the unrest of 2 s
    assert np.std(seen) == pytest.approx(5.0 * (2.0 / 2.3) ** 0.5, rel=0.1)
    assert abs(np.mean(seen)) < 0.7


def test_a_long_wait_does_not_simulate_every_breath_of_the_controller() -> None:
    plant = plant_of(seed=1)
    outlet = plant.pneumatic("pace", "a")
    outlet.set_stability(5.0, 2.0)
    outlet.set_target(ATMOSPHERE, inf)
    steps = []
    advance = plant._advance
    plant._advance = lambda circuit, h: steps.append(h) or advance(circuit, h)
    plant.clock.advance(36_000.0)
    assert len(steps) < 300
    assert sum(steps) == pytest.approx(36_000.0)


def test_two_outlets_on_one_node_are_refused() -> None:
    network = Network.build(
        [Node("1"), Node("2", ground=True)], [Edge("a", "1", "2", registry.law("ohmic"), {"conductance": 1e-9})]
    )
    plan = BenchPlan((InstrumentPlan("pace", "x"),), (Wire("pace", "a", "1"), Wire("pace", "b", "1")), describe(network))
    plant = Plant(plan)
    plant.pneumatic("pace", "a")
    with pytest.raises(ConfigError, match="two pressure outlets"):
        plant.pneumatic("pace", "b")


def test_a_slew_must_be_positive() -> None:
    with pytest.raises(ValueError, match="above 0 Pa/s"):
        plant_of().pneumatic("pace", "a").set_target(1e5, 0.0)
