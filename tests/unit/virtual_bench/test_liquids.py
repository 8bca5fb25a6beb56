"""Liquids of the plant against formulas: plugs, wash-out, conducting lines, electrodes; whatever steps time takes."""

from math import exp, pi
from typing import Any

import pytest

from hil.core.errors import ConfigError
from simulated_backend.description import describe, with_salt
from simulated_backend.devices import registry
from simulated_backend.network import Edge, Network, Node
from simulated_backend.virtual_bench.liquids import PlugLine, conductivity, electrode
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire
from simulated_backend.virtual_bench.plant import Plant
from simulated_backend.virtual_bench.ports import VoltageSource

BORE, LENGTH, RESERVOIR, DEAD = 0.5e-3, 0.2, 200e-9, 20e-9
AREA = 0.25 * pi * BORE**2
WEAK, STRONG, START = 0.05, 0.8, 0.2
FLOW = 1e-6 / 60.0


def liquids(electrodes: str = "ideal") -> dict[str, Any]:
    outlets = {str(k): {"node": str(k), "length": LENGTH, "reservoir": RESERVOIR} for k in (1, 2)}
    mixer = {"pumps": {"a": WEAK, "b": STRONG}, "valve": "valve", "dead_volume": DEAD, "bore": BORE, "outlets": outlets}
    return {"electrodes": electrodes, "mixers": [mixer]}


def plant(facts: dict[str, Any]) -> Plant:
    law = registry.law("conical_channel", preset="network")
    nodes = [Node("1", concentration=START), Node("2", concentration=START, capacitance=1e-10), Node("3", ground=True)]
    network = Network.build(*with_salt(nodes, [Edge("x", "1", "2", law, {}, 200.0), Edge("y", "2", "3", law, {}, 200.0)]))
    instruments = tuple(InstrumentPlan(name, "Keithley2602B") for name in ("smu", "meter"))
    wires = (Wire("smu", "smua", "1"), Wire("meter", "smua", "2"))
    made = Plant(BenchPlan(instruments, wires, describe(network), liquids=facts))
    made.electrical("smu", "smua").set_source(VoltageSource(1.0))
    made.electrical("meter", "smua")
    return made


def deliver(bench: Plant, position: int, seconds: float, step: float, share: float = 0.5) -> None:
    bench.valve("valve", "").set_position(position, 0.0)
    for pump, part in (("a", 1.0 - share), ("b", share)):
        bench.flow(pump, "").set_flow(part * FLOW, part * FLOW * seconds)
    passed = 0.0
    while passed < 1.2 * seconds:
        bench.clock.advance(step)
        passed += step


def test_a_metre_of_tubing_is_1_7_gigaohm_at_0_2_millimolar() -> None:
    assert 1.0 / (conductivity(0.2) * 0.25 * pi * 0.5e-3**2) == pytest.approx(1.7e9, rel=0.03)


def test_a_silver_chloride_electrode_falls_by_18_millivolts_when_the_concentration_doubles() -> None:
    assert electrode(0.4, 0.2) == pytest.approx(-17.5e-3, rel=0.01)
    assert electrode(0.1, 0.2) == pytest.approx(-electrode(0.4, 0.2))


def test_a_plug_comes_out_as_it_went_in() -> None:
    line = PlugLine(3.0, 1.0)
    assert line.push(2.0, 5.0) == [(2.0, 1.0)]
    assert line.push(2.0, 7.0) == [(1.0, 1.0), (1.0, 5.0)]
    # 1 of 5 and 2 of 7 are in it now: resistances in series
    assert line.resistance(1.0) == pytest.approx(1.0 / conductivity(5.0) + 2.0 / conductivity(7.0))


@pytest.mark.parametrize("step", [0.37, 200.0])
def test_a_reservoir_is_washed_exponentially_after_the_dead_time(step: float) -> None:
    bench = plant(liquids())
    deliver(bench, 2, seconds=60.0, step=step)
    mixed = 0.5 * (WEAK + STRONG)
    washed = FLOW * 60.0 - DEAD - AREA * LENGTH
    found = bench.node_concentrations()
    assert found["2"] == pytest.approx(mixed + (START - mixed) * exp(-washed / RESERVOIR), rel=1e-9)
    assert found["1"] == found["3"] == START


def test_what_goes_to_waste_changes_no_reservoir_but_stands_in_the_common_line() -> None:
    bench = plant(liquids())
    deliver(bench, 3, seconds=10.0, step=50.0, share=1.0)
    assert bench.node_concentrations()["1"] == START
    deliver(bench, 1, seconds=(DEAD + AREA * LENGTH) / FLOW, step=50.0, share=0.0)
    # exactly the line's content has been pushed out by what stood in the common line, which is strong
    assert bench.node_concentrations()["1"] == pytest.approx(STRONG + (START - STRONG) * exp(-DEAD / RESERVOIR), rel=1e-6)


def test_a_joined_line_conducts_and_an_isolated_node_does_not_notice() -> None:
    bench = plant(liquids())
    bench.valve("valve", "").set_position(3, 0.0)
    bench.clock.advance(10.0)
    alone = bench.node_voltages()["2"]
    bench.valve("valve", "").set_position(2, 0.0)
    bench.clock.advance(10.0)
    joined = bench.node_voltages()["2"]
    bench.valve("valve", "").set_position(3, 0.0)
    bench.clock.advance(10.0)
    assert joined < 0.5 * alone
    assert bench.node_voltages()["2"] == pytest.approx(alone, rel=1e-6)


def test_electrodes_add_what_the_concentration_makes_of_them() -> None:
    true, seen = plant(liquids()), plant(liquids("silver_chloride"))
    readings = []
    for bench in (true, seen):
        deliver(bench, 2, seconds=200.0, step=500.0)
        bench.valve("valve", "").set_position(3, 0.0)
        bench.clock.advance(10.0)
        ((reading,),) = bench.observe([bench.electrical("meter", "smua")], 0.0)
        readings.append(reading.voltage)
    offset = electrode(seen.node_concentrations()["2"], START)
    assert readings[1] - readings[0] == pytest.approx(offset, rel=1e-6)


def test_a_line_to_a_node_that_is_not_there_is_refused() -> None:
    facts = liquids()
    facts["mixers"][0]["outlets"]["1"]["node"] = "9"
    with pytest.raises(ConfigError, match="node '9'"):
        plant(facts)
