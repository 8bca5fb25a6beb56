"""Devices that integrate rates, on the virtual bench: the plant against the simulator's own integrator, for every such law."""

import numpy as np
import pytest

from simulated_backend.description import describe
from simulated_backend.devices import registry
from simulated_backend.devices.base import EdgeDrive, StateKind
from simulated_backend.network import Edge, Network, Node
from simulated_backend.solve.transient import simulate
from simulated_backend.virtual_bench.plan import BenchPlan, InstrumentPlan, Wire
from simulated_backend.virtual_bench.plant import Plant
from simulated_backend.virtual_bench.ports import VoltageSource

RATES = [name for name in registry.names() if registry.law_class(name).kind is StateKind.RATE]
# law -> (parameters, pulse in V, its length in s): pulses that move the state by a good part of its range
PULSES = {
    "flux_volatile": ({"flux_decay": 200.0, "R1": 1e5}, 1.0, 5e-3),
    "flux_nonvolatile": ({"flux_decay": 20.0, "R1": 1e5}, 1.0, 5e-3),
    "hp_linear_drift": ({"x_initial": 0.3}, 1.0, 0.1),
    "threshold": ({"x_initial": 0.3}, 0.6, 5e-4),
    "team": ({"s_initial": 0.5}, 0.5, 1e-2),
    "vteam": ({"s_initial": 0.5}, 0.3, 1e-7),
    "yakopcic": ({}, 0.45, 2e-3),
    "stochastic": ({}, 2.2, 1.0),
}


def plant_of(network: Network) -> Plant:
    plant = Plant(BenchPlan((InstrumentPlan("source", "any"),), (Wire("source", "hi", "1"),), describe(network)))
    plant.lock.acquire()
    plant.electrical("source", "hi")
    plant.node_voltages()
    return plant


def network_of(name: str, *, alone: bool = False) -> tuple[Network, float, float]:
    given, pulse, length = PULSES[name]
    law = registry.law(name)
    single = Network.build([Node("1"), Node("3", ground=True)], [Edge("device", "1", "3", law, given)])
    if alone:
        return single, pulse, length
    group, drive = single.groups[0], EdgeDrive.of_voltage(np.full(1, 0.1 * pulse))
    conductance = float(law.conductance(group.parameters, drive, law.initial_state(group.parameters, drive))[0])
    edges = [Edge("device", "1", "2", law, given), Edge("r", "2", "3", registry.law("ohmic"), {"conductance": 3.0 * conductance})]
    return Network.build([Node("1"), Node("2"), Node("3", ground=True)], edges), pulse, length


def test_every_law_with_rates_is_in_the_list():
    assert set(RATES) <= set(PULSES), f"give a pulse that moves the state of {set(RATES) - set(PULSES)}"


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("name", sorted(set(RATES) - {"stochastic"}))
def test_the_plant_integrates_what_the_simulator_integrates(name, alone):
    network, pulse, length = network_of(name, alone=alone)
    plant = plant_of(network)
    source = plant.electrical("source", "hi")
    levels = np.array([1.0, 0.0, 1.2, 0.0, -0.8, 0.4]) * pulse
    edges = np.arange(len(levels)) * length
    seen = []
    for level in levels:
        source.set_source(VoltageSource(float(level)))
        seen.append([plant.observe([source], 0.0)[0][0].current])
        plant.clock.advance(length)
        seen[-1].append(plant.observe([source], 0.0)[0][0].current)
    assert plant.troubles == []
    voltages = np.zeros((len(levels), network.n_nodes))
    voltages[:, 0] = levels
    clamped = np.array([node.name in ("1", "3") for node in network.nodes])
    course = simulate(network, edges, voltages, clamped, edges + length, tolerance=1e-5)
    assert course.converged
    first = network.groups[0]
    states = np.concatenate(
        [first.law.initial_state(first.parameters, EdgeDrive.of_voltage(np.zeros(1)))[np.newaxis], course.states[0]]
    )
    reached = next(m for m in plant._ready()._memory if m.law.kind is StateKind.RATE).state
    np.testing.assert_allclose(reached, course.states[0][-1], rtol=1e-3, atol=1e-6 * np.max(np.abs(states)))
    for k, level in enumerate(levels):
        if level:
            ends = course.voltage[k]
            drive = EdgeDrive.of_voltage(np.array([ends[network.base[0]] - ends[network.tip[0]]]))
            expected = float(first.law.current(first.parameters, drive, course.states[0][k])[0])
            assert seen[k][1] == pytest.approx(expected, rel=2e-3)
    moved = np.ptp(states, axis=0).max()
    assert moved > 1e-2 * np.max(np.abs(states)), "the pulses did not move the state: this checks nothing"


def test_a_volatile_flux_decays_exactly_for_an_hour_in_few_steps():
    network, _, _ = network_of("flux_volatile", alone=True)
    plant = plant_of(network)
    source = plant.electrical("source", "hi")
    source.set_source(VoltageSource(1.0))
    plant.clock.advance(5e-3)
    source.set_source(VoltageSource(0.0))
    memory = plant._ready()._memory[0]
    begin = float(memory.state[0, 0])
    plant.clock.advance(0.01)
    assert float(memory.state[0, 0]) == pytest.approx(begin * np.exp(-200.0 * 0.01), rel=1e-9)
    plant.clock.advance(3600.0)
    assert plant._ready().at_rest
    assert plant.troubles == []


def test_a_device_that_forgets_nothing_rests_without_voltage_and_drifts_with_it():
    network, _, _ = network_of("flux_nonvolatile")
    plant = plant_of(network)
    source = plant.electrical("source", "hi")
    source.set_source(VoltageSource(1.0))
    plant.clock.advance(2e-3)
    memory = plant._ready()._memory[0]
    kept = memory.state.copy()
    assert kept[0, 0] > 0.0
    assert not plant._ready().at_rest
    source.set_source(VoltageSource(0.0))
    plant.clock.advance(100.0)
    assert np.array_equal(memory.state, kept)


def test_a_stochastic_device_switches_when_its_hazard_is_gathered():
    network, pulse, _ = network_of("stochastic", alone=True)
    plant = plant_of(network)
    source = plant.electrical("source", "hi")
    source.set_source(VoltageSource(pulse))
    law, memory = network.groups[0].law, plant._ready()._memory[0]
    rate = float(law.state_rate(memory.parameters, EdgeDrive.of_voltage(np.full(1, pulse)), memory.state)[1, 0])
    stream = memory.state[2].copy()
    from simulated_backend.devices.stochastic import _threshold

    waits = float(_threshold(stream)[0]) / rate
    plant.clock.advance(0.999 * waits)
    assert plant.observe([source], 0.0)[0][0].current == pytest.approx(pulse / 10e6, rel=1e-6)
    plant.clock.advance(0.002 * waits)
    assert plant.observe([source], 0.0)[0][0].current == pytest.approx(pulse / 10e3, rel=1e-6)
