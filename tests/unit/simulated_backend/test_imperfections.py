"""Imperfections: off by default, drawn from a seed, visible where they should be, gone where a state is restored."""

import json

import numpy as np
import pytest

from hil.core.errors import ConfigError
from hil.core.safety import SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, SettlePolicy, Stimulus
from simulated_backend.backend import SimulatedBackend
from simulated_backend.description import describe, rebuild
from simulated_backend.devices import registry
from simulated_backend.imperfections import Imperfections, World, perturbed
from simulated_backend.network import Edge, Network, Node
from simulated_backend.solve.operating_point import solve_operating_point

POLICY = SettlePolicy(1e-6, 1e-3, 60.0)


def ladder(n: int = 40, law_name: str = "ohmic") -> Network:
    law = registry.law(law_name)
    numbers = {"ohmic": {"conductance": 1e-3}, "conical_channel": {}}[law_name]
    nodes = [Node(str(k), concentration=0.2) for k in range(n + 1)]
    return Network.build(nodes, [Edge(f"e{k}", str(k), str(k + 1), law, numbers) for k in range(n)])


def backend(imperfections=None, seed=0, resolution=0.0, law_name="conical_channel", tune=False):
    law = registry.law(law_name)
    numbers = {"conductance": 1e-3} if law_name == "ohmic" else {}
    nodes = [Node(name, concentration=0.2) for name in "123"]
    network = Network.build(nodes, [Edge("a", "1", "2", law, numbers), Edge("b", "2", "3", law, numbers)])
    drives = [Channel(f"V{n}", Quantity.VOLTAGE, Kind.DRIVE, -5.0, 5.0, resolution=resolution, node=n) for n in "13"]
    if tune:
        drives.append(Channel("La", Quantity.LENGTH, Kind.TUNE, 1e-6, 1e-4, edge="a", parameter="length"))
    outputs = [
        Channel("V2", Quantity.VOLTAGE, Kind.SENSE, resolution=resolution, node="2"),
        Channel("I1", Quantity.CURRENT, Kind.SENSE, node="1"),
    ]
    controls = Layout(tuple(drives))
    made = SimulatedBackend(
        network, controls, Layout(tuple(outputs)), SafetyEnvelope.of(controls), seed=seed, imperfections=imperfections
    )
    made.open()
    return made


def measured(made, n=1, samples=1):
    extra = [1e-5] if len(made.capabilities.controls) == 3 else []
    return made.measure([Stimulus.of([1.0, 0.0, *extra])] * n, POLICY, samples).values


def test_off_by_default_to_the_last_bit():
    assert Imperfections().none
    network = ladder()
    same = perturbed(network, Imperfections(), 7)
    assert np.array_equal(same.parallel, network.parallel)
    assert describe(same) == describe(network)


def test_device_variation_is_drawn_from_the_seed():
    network = ladder(4000)
    flaws = Imperfections(device_variation=0.1, parameter_variation={"conductance": 0.05})
    one, again, other = perturbed(network, flaws, 1), perturbed(network, flaws, 1), perturbed(network, flaws, 2)
    assert np.array_equal(one.parallel, again.parallel)
    assert not np.array_equal(one.parallel, other.parallel)
    assert np.log(one.parallel).std() == pytest.approx(0.1, rel=0.05)
    assert np.log(one.groups[0].parameters["conductance"] / 1e-3).std() == pytest.approx(0.05, rel=0.05)


def test_pairs_share_their_variation_and_differ_by_their_mismatch():
    n = 4000
    pairs = [(f"e{2 * k}", f"e{2 * k + 1}") for k in range(n // 2)]
    gain = perturbed(ladder(n), Imperfections(device_variation=0.2, pairs=pairs, pair_mismatch=0.002), 3).parallel
    assert np.log(gain).std() == pytest.approx(0.2, rel=0.1)
    assert (gain[::2] / gain[1::2] - 1).std() == pytest.approx(0.002 * np.sqrt(2), rel=0.1)


def test_faults():
    network = ladder(4, "conical_channel")
    flaws = Imperfections(open_edges=["e0"], shorted_edges=["e1"], stuck_edges={"e3": 5e-12})
    real = perturbed(network, flaws, 0)
    voltage, clamped = np.array([1.0, 0, 0, 0, 0]), np.array([True, False, False, False, True])
    point = solve_operating_point(real, voltage, clamped)
    # nearly all of the voltage falls across the opened channel; the rest divides between short, channel and stuck device
    assert point.voltage[1] == pytest.approx(0.0, abs=1e-8)
    at = np.array([0.0, 0.0, 0.0, 1.0, 0.0])
    alone = solve_operating_point(real, at, np.array([True, True, True, True, True]))
    assert alone.current[3] == pytest.approx(5e-12, rel=1e-12)
    assert abs(alone.current[1]) == 0.0
    # still plain data: it can be handed to another process
    assert describe(rebuild(json.loads(json.dumps(describe(real))))) == describe(real)


def test_stuck_device_ignores_what_tunes_it():
    made = backend(Imperfections(stuck_edges={"a": 1e-11}), tune=True)
    values = [made.measure([Stimulus.of([1.0, 0.0, length])], POLICY).values[0] for length in (5e-6, 50e-6)]
    assert np.array_equal(values[0], values[1])


def test_cycle_variation_is_new_for_every_stimulus_and_resumes_exactly():
    flaws = Imperfections(cycle_variation=0.05)
    first = backend(flaws, seed=4)
    values = measured(first, 400)[:, 0]
    assert len(np.unique(values)) == 400
    ideal = measured(backend())[0, 0]
    assert values.mean() == pytest.approx(ideal, rel=0.02)
    whole, part = backend(flaws, seed=5), backend(flaws, seed=5)
    expected = measured(whole, 10)
    head = measured(part, 4)
    kept = json.loads(json.dumps(part.capture_state()))
    later = backend(flaws, seed=77)
    later.restore_state(kept)
    assert np.array_equal(np.concatenate([head, measured(later, 6)]), expected)


def test_reading_twice_meets_the_same_device():
    made = backend(Imperfections(cycle_variation=0.05))
    made.apply(Stimulus.of([1.0, 0.0]))
    made.settle(POLICY)
    assert np.array_equal(made.read().values, made.read().values)


def test_quantisation_of_sources_and_readings():
    rounded = backend(Imperfections(quantise_readings=True), resolution=1e-3)
    value = measured(rounded)[0, 0]
    assert value == pytest.approx(np.round(measured(backend())[0, 0], 3), abs=1e-12)
    sources = backend(Imperfections(quantise_sources=True), resolution=0.4, law_name="ohmic")
    assert measured(sources)[0, 0] == pytest.approx(0.4, rel=1e-9)  # 1 V becomes 0.8 V (ties go to even)


def test_offset_drift_and_noise():
    made = backend(Imperfections(offset=1e-3), seed=2)
    ideal = measured(backend())[0]
    shift = measured(made, 3) - ideal
    assert np.ptp(shift, axis=0).max() == pytest.approx(0.0, abs=1e-12)
    assert shift[0, 0] != 0.0
    assert shift[0, 0] != pytest.approx(measured(backend(Imperfections(offset=1e-3), seed=3))[0, 0] - ideal[0])
    creeping = backend(Imperfections(offset_drift=1e-3), seed=2)
    values = [measured(creeping)[0, 0]]
    creeping.clock.sleep(10.0)
    values.append(measured(creeping)[0, 0])
    assert abs(values[1] - values[0]) > 1e-4
    noisy = backend(Imperfections(read_noise_relative=0.01, common_noise=0.02), seed=2)
    reading = noisy.measure([Stimulus.of([1.0, 0.0])] * 4000, POLICY, 4)
    assert reading.values[:, 0].std() == pytest.approx(0.01 * ideal[0] / 2, rel=0.05)
    assert reading.values[:, 1].std() == pytest.approx(np.hypot(0.01, 0.02) * abs(ideal[1]) / 2, rel=0.05)
    np.testing.assert_allclose(reading.std[0], [0.005 * ideal[0], np.hypot(0.01, 0.02) * abs(ideal[1]) / 2], rtol=1e-9)


def test_common_drift_of_all_currents():
    made = backend(Imperfections(drift=0.005))
    before = measured(made)[0]
    start = made.clock.now()
    made.clock.sleep(10.0)
    after = measured(made)[0]
    assert after[0] == before[0]
    grown = (1 + 0.005 * made.clock.now()) / (1 + 0.005 * start)
    assert after[1] / before[1] == pytest.approx(grown, rel=1e-4)


def test_settling_slower_than_believed():
    stimulus, policy, times = Stimulus.of([1.0, 0.0, 3e-5]), SettlePolicy(1e-6, 1e-3, 60.0), []
    for factor in (1.0, 3.0):
        made = backend(Imperfections(slow_factor=factor), tune=True)
        made.apply(stimulus)
        times.append(made.settle(policy).elapsed)
    assert 2.0 * times[0] < times[1] <= 3.0 * times[0]  # a fixed window sees a slower change as a smaller one
    # given the believed time only, it says that it has not settled
    made = backend(Imperfections(slow_factor=3.0), tune=True)
    made.apply(stimulus)
    assert not made.settle(SettlePolicy(1e-6, 1e-3, times[0])).settled


@pytest.mark.parametrize(
    ("flaws", "says"),
    [
        ({"read_noise": -1.0}, "read_noise"),
        ({"cycle_variation": np.nan}, "cycle_variation"),
        ({"slow_factor": 0.5}, "slow_factor"),
        ({"drift": np.inf}, "drift"),
        ({"parameter_variation": {"length": -0.1}}, "parameter_variation.length"),
        ({"stuck_edges": {"a": 0.0}}, "stuck_edges.a"),
    ],
)
def test_nonsense_is_refused(flaws, says):
    with pytest.raises(ConfigError, match=says):
        Imperfections(**flaws)


@pytest.mark.parametrize(
    ("flaws", "says"),
    [
        ({"open_edges": ["z"]}, "open_edges: there is no edge 'z'"),
        ({"pairs": [("e0", "z")]}, "pairs: there is no edge 'z'"),
        ({"parameter_variation": {"lenght": 0.1}}, "no law of the network has a parameter 'lenght'"),
    ],
)
def test_what_is_not_there_is_refused(flaws, says):
    with pytest.raises(ConfigError, match=says):
        perturbed(ladder(3), Imperfections(**flaws), 0)


def test_impossible_variation_is_refused():
    law = registry.law("hp_linear_drift")
    network = Network.build([Node("a"), Node("b")], [Edge("e", "a", "b", law, {"R_on": 100.0, "R_off": 101.0})])
    draws = [np.random.default_rng([seed, 1]).standard_normal(3)[2] for seed in range(20)]
    seed = int(np.argmax(draws))  # the third number is the one for R_on: this seed raises it
    with pytest.raises(ConfigError, match="R_on must be smaller than R_off"):
        perturbed(network, Imperfections(parameter_variation={"R_on": 0.5}), seed)


def test_an_ideal_world_draws_nothing():
    world = World(Imperfections(), ladder(3), Layout(()), Layout(()), 0)
    rng = np.random.default_rng(0)
    state = rng.bit_generator.state
    world.renew(rng)
    assert rng.bit_generator.state == state
    assert world.capture() == []
    assert world.present(world.network) is world.network
