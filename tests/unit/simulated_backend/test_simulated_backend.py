"""The simulated backend: the published runs, time, memory, warnings, resume."""

import json

import numpy as np
import pytest

from hil.core.clock import SteppedClock
from hil.core.errors import ConfigError, LimitExceededError, NotConvergedError, NotSettledError
from hil.core.safety import SafetyEnvelope
from hil.core.types import Channel, Determinism, Kind, Layout, Quantity, SafeAction, SafeState, SettlePolicy, Stimulus
from simulated_backend.backend import SimulatedBackend
from simulated_backend.description import rebuild
from simulated_backend.devices.registry import law
from simulated_backend.imperfections import Imperfections

POLICY = SettlePolicy()


# -- the papers' figures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "start", "unit", "step", "rate", "updates", "expected"),
    [
        ("length", [10, 10], 1e-6, 0.01, 3.0, 13, [5.74, 13.24]),
        ("length", [10, 10], 1e-6, 0.01, 10.0, 5, [6.55, 15.13]),
        ("radius_ratio_fixed_base", [4, 4], 1.0, 1e-3, 0.3, 10, [3.167, 4.678]),
        ("radius_ratio_fixed_tip", [4, 4], 1.0, 0.01, 1.0, 19, [5.71, 2.28]),
        ("pressure", [1, 1, 1], 1e5, 1e-3, 3e-4, 13, [1.015, 0.957, 1.026]),
        ("concentration", [0.2, 0.2, 0.2], 1.0, 1e-4, 3e-4, 6, [0.227, 0.165, 0.199]),
    ],
)
def test_divider_trains_in_the_published_number_of_steps(
    make_backend, descend, weights, start, unit, step, rate, updates, expected
):
    backend = make_backend(weights=weights)
    losses, found, v2 = descend(backend, start, unit=unit, target=4.0, step=step, rate=rate, updates=updates)
    assert len(losses) == updates + 1
    assert losses[-1] < 1e-6
    assert losses[-2] >= 1e-6
    assert abs(v2 - 4.0) < 1e-3
    assert found == pytest.approx(expected, abs=6e-3)
    assert backend.snapshot()["clamped_edges"] == []


@pytest.mark.parametrize(
    ("weights", "start", "unit", "step", "rate", "expected"),
    [
        ("pressure", [1, 1, 1], 1e5, 1e-3, 1e7 * 1e-10, [1, 0.604471657, 0.363197285, 0.215699107, 0.126378939]),
        ("concentration", [0.2, 0.2, 0.2], 1.0, 1e-4, 4e-4, [1, 0.509590528, 0.258259897]),
    ],
)
def test_published_training_run_is_met(make_backend, make_divider, descend, weights, start, unit, step, rate, expected):
    network = make_divider(law("conical_channel", preset="published-code"))
    losses, _, _ = descend(
        make_backend(network, weights), start, unit=unit, target=3.0, step=step, rate=rate, updates=len(expected) - 1
    )
    assert losses / losses[0] == pytest.approx(expected, abs=1e-7)


# -- readings ---------------------------------------------------------------------------------------------------------


def test_measuring_together_equals_measuring_one_by_one(make_backend):
    points = [Stimulus.of([v, 0.0, p, 1e5, 1e5]) for v, p in ((5.0, 1e5), (1.0, 1.01e5), (-2.0, 0.99e5), (5.0, 1e5))]
    together = make_backend(weights="pressure").measure(points, POLICY)
    alone = make_backend(weights="pressure")
    for row, point in enumerate(points):
        alone.apply(point)
        alone.settle(POLICY)
        reading = alone.read()
        assert np.array_equal(reading.values, together.values[row])
        assert reading.time == pytest.approx(together.time[row], abs=1e-9)
    assert np.array_equal(together.values[0], together.values[3])


def test_mixed_connections_are_measured_in_order(make_backend):
    points = [
        Stimulus.of([5.0, 0.0]),
        Stimulus.of([5.0, 1.0], [True, False]),
        Stimulus.of([5.0, 1.0], [False, True]),
        Stimulus.of([5.0, 0.0]),
    ]
    values = make_backend().measure(points, POLICY).values
    assert values[:, 0] == pytest.approx([2.5, 5.0, 1.0, 2.5])
    assert values[1, 1] == pytest.approx(0.0, abs=1e-25)
    assert values[2, 1] == 0.0


def test_current_is_what_the_terminal_delivers_and_loads_count(make_backend):
    free = make_backend().measure([Stimulus.of([5.0, 0.0])], POLICY).values[0]
    loaded = make_backend(loads={"2": (1e-10, 0.0), "1": (1e-12, 0.0)}).measure([Stimulus.of([5.0, 0.0])], POLICY).values[0]
    assert free[0] == pytest.approx(2.5)
    assert loaded[0] == pytest.approx(0.1268, abs=1e-3)  # 10 GOhm on one channel per edge takes 95 % away
    assert loaded[1] > 5e-12


def test_node_without_a_source_anywhere_is_refused_before_anything_changes(make_backend):
    backend = make_backend()
    backend.measure([Stimulus.of([5.0, 0.0])], POLICY)
    with pytest.raises(ConfigError, match="float"):
        backend.measure([Stimulus.of([5.0, 0.0], [False, False])], POLICY)


def test_no_steady_state_is_an_error_with_a_reason(make_backend, make_divider):
    backend = make_backend(make_divider(minimum_conductance=0.0), "pressure")
    with pytest.raises(NotConvergedError, match="steady state"):
        backend.measure([Stimulus.of([5.0, 0.0, 1e5, 1.3e5, 1e5])], POLICY)


def test_tuned_value_outside_the_law_is_refused_by_channel():
    wide = Layout(
        (
            Channel("V1", Quantity.VOLTAGE, Kind.DRIVE, -5, 5, node="1"),
            Channel("La", Quantity.LENGTH, Kind.TUNE, -1.0, 1.0, edge="a", parameter="length"),
        )
    )
    backend = SimulatedBackend(
        _divider(), wide, Layout((Channel("V2", Quantity.VOLTAGE, Kind.SENSE, node="2"),)), SafetyEnvelope.of(wide)
    )
    backend.open()
    with pytest.raises(LimitExceededError, match="'La'"):
        backend.apply(Stimulus.of([1.0, -1e-6]))


# -- time -------------------------------------------------------------------------------------------------------------


def test_settling_takes_as_long_as_the_devices_do(make_backend, make_divider):
    clock = SteppedClock()
    backend = make_backend(make_divider(reverse=(True, False)), clock=clock)
    backend.apply(Stimulus.of([5.0, 0.0]))
    at_once = backend.read().values[0]
    report = backend.settle(POLICY)
    tau = 4.762e-3
    assert at_once == pytest.approx(2.5)
    assert report.settled
    assert clock.now() == report.elapsed
    assert 5 * tau < report.elapsed < 15 * tau
    assert backend.read().values[0] == pytest.approx(4.055, abs=1e-3)
    assert backend.settle(POLICY).elapsed == POLICY.window


def test_longer_channels_take_quadratically_longer(make_backend, make_divider):
    times = []
    for length in (1e-5, 4e-5):
        backend = make_backend(make_divider(reverse=(True, False), length=length))
        backend.apply(Stimulus.of([5.0, 0.0]))
        times.append(backend.settle(SettlePolicy(window=1e-3 * (length / 1e-5) ** 2)).elapsed)
    assert times[1] / times[0] == pytest.approx(16, rel=1e-9)


def test_time_out_is_reported_and_the_reading_is_the_one_of_that_moment(make_backend, make_divider):
    from simulated_backend.solve.relaxation import relax

    network = make_divider(reverse=(True, False))
    backend = make_backend(network)
    backend.apply(Stimulus.of([5.0, 0.0]))
    report = backend.settle(SettlePolicy(window=2e-3, timeout=6e-3))
    run = relax(network, [5.0, 0, 0], [True, False, True], [4e-3, 6e-3]).voltage[:, 0, 1]
    assert not report.settled
    assert report.elapsed == 6e-3
    assert report.residual == pytest.approx(run[1] - run[0], rel=1e-3)
    assert backend.read().values[0] == pytest.approx(run[1], abs=1e-3)
    assert backend.settle(POLICY).settled
    assert backend.read().values[0] == pytest.approx(4.0549, abs=1e-3)


def test_measure_raises_where_the_time_is_too_short_and_names_the_stimulus(make_backend, make_divider):
    backend = make_backend(make_divider(reverse=(True, False)))
    seen = []
    backend.observers.append(lambda stimuli, readings: seen.append(len(readings)))
    quick = SettlePolicy(window=1e-3, timeout=2e-2)
    with pytest.raises(NotSettledError, match=r"stimulus 2 of 3: output '\w+' still moved by \S+ V in .*\(tolerance \S+ V\)"):
        backend.measure([Stimulus.of([1e-3, 0.0]), Stimulus.of([5.0, 0.0]), Stimulus.of([5.0, 0.0])], quick)
    assert seen == [1]


def test_dwell_is_a_fixed_time_that_is_checked(make_backend, make_divider):
    backend = make_backend(make_divider(reverse=(True, False)))
    backend.apply(Stimulus.of([5.0, 0.0]))
    assert not backend.settle(SettlePolicy(dwell=0.01)).settled
    assert backend.settle(SettlePolicy(dwell=0.2)).settled


def test_slow_sources_take_their_time():
    channel = Channel("V1", Quantity.VOLTAGE, Kind.DRIVE, -5, 5, max_slew=10.0, dead_time=0.5, node="1")
    controls = Layout((channel, Channel("V3", Quantity.VOLTAGE, Kind.DRIVE, -5, 5, node="3")))
    outputs = Layout((Channel("V2", Quantity.VOLTAGE, Kind.SENSE, node="2"),))
    clock = SteppedClock()
    backend = SimulatedBackend(_divider(), controls, outputs, SafetyEnvelope.of(controls), clock=clock)
    backend.open()
    backend.apply(Stimulus.of([0.0, 0.0]))
    before = clock.now()
    backend.apply(Stimulus.of([5.0, 0.0]))
    assert clock.now() - before == pytest.approx(0.5 + 0.5)


# -- noise, state, warnings -------------------------------------------------------------------------------------------


def test_noise_is_declared_and_falls_as_one_over_root_n(make_backend):
    backend = make_backend(imperfections=Imperfections(read_noise=1e-3))
    assert backend.capabilities.determinism is Determinism.SEEDED
    readings = backend.measure([Stimulus.of([5.0, 0.0])] * 400, POLICY, samples=4)
    assert readings.std[0, 0] == pytest.approx(0.5e-3)
    assert np.std(readings.values[:, 0]) == pytest.approx(0.5e-3, rel=0.12)
    assert np.mean(readings.values[:, 0]) == pytest.approx(2.5, abs=1e-4)


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_a_captured_state_continues_bit_for_bit(make_backend, noise):
    points = [Stimulus.of([v, 0.1 * v]) for v in (1.0, 2.0, 3.0, 4.0)]
    whole = make_backend(imperfections=Imperfections(noise))
    expected = whole.measure(points, POLICY, samples=3)
    first = make_backend(imperfections=Imperfections(noise))
    first.measure(points[:2], POLICY, samples=3)
    state = json.loads(json.dumps(first.capture_state()))
    second = make_backend(imperfections=Imperfections(noise), seed=99)
    second.restore_state(state)
    rest = second.measure(points[2:], POLICY, samples=3)
    assert np.array_equal(rest.values, expected.values[2:])
    assert np.array_equal(rest.time, expected.time[2:])
    assert second.relaxations == 4


def test_a_state_captured_before_settling_continues_too(make_backend, make_divider):
    network = make_divider(reverse=(True, False))
    short = SettlePolicy(window=1e-3, timeout=3e-3)
    one = make_backend(network)
    one.apply(Stimulus.of([5.0, 0.0]))
    one.settle(short)
    two = make_backend(network)
    two.restore_state(json.loads(json.dumps(one.capture_state())))
    assert np.array_equal(two.read().values, one.read().values)
    assert two.settle(short) == one.settle(short)
    assert np.array_equal(two.read().values, one.read().values)


@pytest.mark.parametrize("state", [None, {}, {"stimulus": 3}])
def test_what_is_no_state_is_refused(make_backend, state):
    with pytest.raises(ConfigError, match="captured state"):
        make_backend().restore_state(state)


def test_reset_forgets(make_backend, make_divider):
    backend = make_backend(make_divider(reverse=(True, False)))
    backend.measure([Stimulus.of([5.0, 0.0])], POLICY)
    backend.reset()
    backend.apply(Stimulus.of([5.0, 0.0]))
    assert backend.read().values[0] == pytest.approx(2.5)


def test_active_floor_is_said_once_and_kept_in_the_snapshot(make_backend, said):
    backend = make_backend(weights="pressure")
    hard = Stimulus.of([5.0, 0.0, 1e5, 1.3e5, 1e5])
    for _ in range(2):
        backend.measure([hard], POLICY)
    assert [text for text in said if text.startswith("clamped:")] == [next(t for t in said if t.startswith("clamped:"))]
    assert backend.snapshot()["clamped_edges"] == ["a"]
    backend.measure([Stimulus.of([5.0, 0.0, 1e5, 1e5, 1e5])], POLICY)
    assert backend.snapshot()["clamped_edges"] == []


def test_several_steady_states_are_said(make_backend, make_divider, said):
    backend = make_backend(make_divider(law("conical_channel", preset="letter"), concentration=0.1))
    backend.measure([Stimulus.of([5.0, 0.0])], POLICY)
    assert any("3 steady states" in text for text in said)


def test_quiet_inside_the_range_of_validity(make_backend, said):
    make_backend().measure([Stimulus.of([0.4, 0.0])], POLICY)
    assert said == []


def test_snapshot_is_json_and_rebuilds_the_network(make_backend, make_divider):
    network = make_divider(law("conical_channel", preset="published-code"), length=7e-6, parallel=20000.0)
    snapshot = json.loads(json.dumps(make_backend(network, loads={"2": (1e-10, 1e-12)}).snapshot()))
    again = rebuild(snapshot["network"])
    one = make_backend(network).measure([Stimulus.of([3.0, 0.0])], POLICY)
    two = make_backend(again).measure([Stimulus.of([3.0, 0.0])], POLICY)
    assert np.array_equal(one.values, two.values)
    assert snapshot["loads"] == {"2": [1e-10, 1e-12]}


def test_safe_state_reaches_the_declared_levels():
    controls = Layout(
        (
            Channel("V1", Quantity.VOLTAGE, Kind.DRIVE, -5, 5, node="1", safe=SafeState(SafeAction.LEVEL, 0.25)),
            Channel("V3", Quantity.VOLTAGE, Kind.DRIVE, -5, 5, node="3", safe=SafeState(SafeAction.HIGH_IMPEDANCE)),
        )
    )
    outputs = Layout((Channel("V2", Quantity.VOLTAGE, Kind.SENSE, node="2"),))
    backend = SimulatedBackend(_divider(), controls, outputs, SafetyEnvelope.of(controls))
    backend.open()
    backend.measure([Stimulus.of([5.0, 0.0])], POLICY)
    backend.make_safe()
    state = backend.capture_state()
    assert state["stimulus"] == [[0.25, 0.0], [True, False]]


# -- channels that do not fit -----------------------------------------------------------------------------------------


def _divider():
    from simulated_backend.network import Edge, Network, Node

    device = law("conical_channel")
    nodes = [Node(n, concentration=0.2, pressure=1e5, ground=n == "g") for n in ("1", "2", "3", "g")]
    ends = (("a", "1", "2"), ("b", "2", "3"), ("c", "3", "g"))
    return Network.build(nodes, [Edge(name, base, tip, device, {}) for name, base, tip in ends])


def _drive(name, node, quantity=Quantity.VOLTAGE):
    return Channel(name, quantity, Kind.DRIVE, -5, 5, node=node)


def _tune(name, edge, parameter):
    return Channel(name, Quantity.LENGTH, Kind.TUNE, 1e-6, 1e-4, edge=edge, parameter=parameter)


@pytest.mark.parametrize(
    ("controls", "sentence"),
    [
        ([_drive("A", "1"), _drive("B", "1")], "'A' and 'B' both set the voltage of node '1'"),
        ([_drive("A", "g")], "drives node 'g', the ground"),
        ([_drive("A", "9")], "there is no node '9'"),
        ([_drive("A", None)], "there is no node None"),
        ([_drive("A", "1", Quantity.LENGTH)], "name an edge"),
        ([_tune("A", "z", "length")], "there is no edge 'z'"),
        ([_tune("A", "a", "colour")], "cannot tune 'colour'"),
        ([_tune("A", "a", "length"), _tune("B", "a", "length")], "set by another control"),
        ([Channel("A", Quantity.VOLTAGE, Kind.SENSE, node="1")], "only reads"),
    ],
)
def test_channels_that_do_not_fit_are_refused(controls, sentence):
    layout = Layout(tuple(controls))
    with pytest.raises(ConfigError, match=sentence):
        SimulatedBackend(_divider(), layout, Layout(()), SafetyEnvelope.of(layout))


def test_outputs_and_loads_that_do_not_fit_are_refused():
    layout = Layout((_drive("A", "1"),))
    pressure = Layout((Channel("p", Quantity.PRESSURE, Kind.SENSE, node="2"),))
    with pytest.raises(ConfigError, match="voltages and currents"):
        SimulatedBackend(_divider(), layout, pressure, SafetyEnvelope.of(layout))
    for loads, sentence in (({"x": (0.0, 0.0)}, "no such node"), ({"2": (-1.0, 0.0)}, "no load")):
        with pytest.raises(ConfigError, match=sentence):
            SimulatedBackend(_divider(), layout, Layout(()), SafetyEnvelope.of(layout), loads=loads)
    with pytest.raises(ConfigError, match="read_noise"):
        Imperfections(read_noise=float("nan"))
