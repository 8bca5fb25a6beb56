"""Waveforms on the simulated backend, and devices that remember from verb to verb."""

import json

import numpy as np
import pytest

from hil.core.clock import SteppedClock
from hil.core.errors import CapabilityError, ConfigError, LimitExceededError
from hil.core.safety import SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, SettlePolicy, Stimulus, Waveform
from simulated_backend.backend import SimulatedBackend
from simulated_backend.devices.registry import law
from simulated_backend.imperfections import Imperfections
from simulated_backend.network import Edge, Network, Node

FLUX = {"flux_gain": 1.0, "flux_decay": 20.0, "R0": 1e4, "R1": 1e6}
DWELL = SettlePolicy(tolerance=1.0, window=1e-3, timeout=60.0, dwell=10e-3)


def channel(name, node, *, slew=np.inf):
    return Channel(name, Quantity.VOLTAGE, Kind.DRIVE, -5.0, 5.0, max_slew=slew, node=node)


def single(name="flux_nonvolatile", parameters=None, *, slew=np.inf, **options):
    nodes = [Node("1"), Node("0", ground=True)]
    network = Network.build(nodes, [Edge("d", "1", "0", law(name), FLUX if parameters is None else parameters)])
    return backend_of(network, [channel("V", "1", slew=slew)], [Channel("I", Quantity.CURRENT, Kind.SENSE, node="1")], **options)


def backend_of(network, controls, outputs, **options):
    layout = Layout(tuple(controls))
    envelope = SafetyEnvelope(layout, layout.array("minimum"), layout.array("maximum"), layout.array("max_slew"))
    backend = SimulatedBackend(network, layout, Layout(tuple(outputs)), envelope, **options)
    backend.open()
    return backend


def pulses(levels, each=10e-3, connected=None):
    levels = np.atleast_2d(np.asarray(levels, dtype=float)).reshape(len(levels), -1)
    flags = np.ones(levels.shape, dtype=bool) if connected is None else np.asarray(connected)
    return Waveform(each * np.arange(len(levels)), levels, flags, each * len(levels))


def risen(flux, voltage, seconds):
    """Flux linkage of a device that a positive voltage drives up to voltage/decay."""
    return voltage / 20.0 + (flux - voltage / 20.0) * np.exp(-20.0 * seconds)


def test_a_network_says_whether_it_remembers():
    assert single().capabilities.has_memory
    assert not single("ohmic", {"conductance": 1e-3}).capabilities.has_memory


def test_pulses_follow_the_closed_form_and_edges_belong_to_what_ends_there():
    backend = single()
    trace = backend.play(pulses([1.0, 0.0, 0.5]), np.array([0.0, 5e-3, 10e-3, 15e-3, 20e-3, 30e-3]))
    flux = [0.0, risen(0.0, 1.0, 5e-3), risen(0.0, 1.0, 10e-3)]
    last = risen(flux[2], 0.5, 10e-3)
    expected = [1.0 / (1e4 + 1e6 * f) for f in flux] + [0.0, 0.0, 0.5 / (1e4 + 1e6 * last)]
    np.testing.assert_allclose(trace.values[:, 0], expected, rtol=1e-4)
    assert backend.clock.now() == pytest.approx(30e-3)


def test_samples_of_a_waveform_go_to_their_own_observers():
    backend = single()
    seen = []
    backend.observers.append(lambda stimuli, readings: pytest.fail("a sample is no steady reading"))
    backend.trace_observers.append(lambda stimuli, readings: seen.append((stimuli, readings)))
    backend.clock.sleep(3.0)
    trace = backend.play(pulses([1.0, 0.0, 0.5]), np.array([0.0, 5e-3, 10e-3, 15e-3, 20e-3, 30e-3]))
    ((stimuli, readings),) = seen
    assert [stimulus.values[0] for stimulus in stimuli] == [1.0, 1.0, 1.0, 0.0, 0.0, 0.5]
    np.testing.assert_array_equal(readings.values, trace.values)
    np.testing.assert_allclose(readings.time, 3.0 + trace.times, rtol=1e-12)


def test_state_is_carried_through_play_apply_settle_and_pauses():
    backend = single()
    backend.play(pulses([1.0, 0.0]), np.array([10e-3]))
    flux = risen(0.0, 1.0, 10e-3)
    backend.clock.sleep(5.0)  # without voltage nothing is forgotten
    backend.apply(Stimulus.of([1.0]))
    assert backend.read().values[0] == pytest.approx(1.0 / (1e4 + 1e6 * flux), rel=1e-4)
    assert backend.settle(DWELL).elapsed == 10e-3
    flux = risen(flux, 1.0, 10e-3)
    assert backend.read().values[0] == pytest.approx(1.0 / (1e4 + 1e6 * flux), rel=1e-4)
    backend.clock.sleep(7e-3)  # a pause under voltage counts
    flux = risen(flux, 1.0, 7e-3)
    assert backend.read().values[0] == pytest.approx(1.0 / (1e4 + 1e6 * flux), rel=1e-4)
    readings = backend.measure([Stimulus.of([1.0])] * 2, DWELL)
    assert readings.values[1, 0] == pytest.approx(1.0 / (1e4 + 1e6 * risen(flux, 1.0, 20e-3)), rel=1e-4)
    backend.reset()
    backend.apply(Stimulus.of([1.0]))
    assert backend.read().values[0] == pytest.approx(1e-4, rel=1e-9)


def test_settling_without_dwell_waits_until_the_outputs_are_flat():
    backend = single()
    backend.apply(Stimulus.of([1.0]))
    report = backend.settle(SettlePolicy(tolerance=1e-8, window=20e-3, timeout=10.0))
    assert report.settled
    assert report.residual <= 1e-8
    assert backend.clock.now() == pytest.approx(report.elapsed)
    flux = risen(0.0, 1.0, report.elapsed)
    assert backend.read().values[0] == pytest.approx(1.0 / (1e4 + 1e6 * flux), rel=1e-4)
    hurried = single()
    hurried.apply(Stimulus.of([1.0]))
    late = hurried.settle(SettlePolicy(tolerance=1e-12, window=20e-3, timeout=50e-3))
    assert not late.settled
    assert late.elapsed == pytest.approx(50e-3)


def test_a_slow_source_drives_the_device_on_its_way():
    backend = single(slew=10.0)
    backend.apply(Stimulus.of([0.0]))
    backend.apply(Stimulus.of([1.0]))  # 0.1 s
    flux = 10.0 / 20.0 * (0.1 - (1.0 - np.exp(-2.0)) / 20.0)  # of a ramp: a/D (t - (1 - e^-Dt)/D)
    assert backend.read().values[0] == pytest.approx(1.0 / (1e4 + 1e6 * flux), rel=5e-3)


@pytest.mark.parametrize("flaws", [None, Imperfections(read_noise=1e-7)])
def test_capture_and_restore_are_bit_exact_between_pulses(flaws):
    first, second = single(imperfections=flaws), single(imperfections=flaws, seed=5)
    first.play(pulses([1.0, 0.0]), np.array([10e-3]))
    kept = json.loads(json.dumps(first.capture_state()))
    second.restore_state(kept)
    traces = [backend.play(pulses([0.3, -0.2, 0.7]), np.array([4e-3, 11e-3, 30e-3])) for backend in (first, second)]
    assert np.array_equal(traces[0].values, traces[1].values)
    assert first.capture_state() == second.capture_state()


def test_relaxing_devices_play_too_and_match_their_exponential():
    backend = single("saturating", {"conductance": 1e-3, "time_constant": 5e-3})
    assert not backend.capabilities.has_memory
    steady = single("saturating", {"conductance": 1e-3, "time_constant": 5e-3})
    goal = steady.measure([Stimulus.of([1.0])], SettlePolicy(1e-12, 1.0, 100.0)).values[0, 0]
    trace = backend.play(pulses([1.0, 0.0, 1.0], 5e-3), np.array([0.0, 5e-3, 15e-3]))
    begin = trace.values[0, 0]
    assert trace.values[1, 0] == pytest.approx(goal + (begin - goal) * np.exp(-1.0), rel=1e-3)
    rested = begin + (trace.values[1, 0] - begin) * np.exp(-1.0)
    assert trace.values[2, 0] == pytest.approx(goal + (rested - goal) * np.exp(-1.0), rel=1e-3)


def test_inputs_may_float_for_a_part_of_the_waveform():
    device = law("flux_nonvolatile")
    nodes = [Node("1"), Node("2"), Node("0", ground=True)]
    network = Network.build(nodes, [Edge("a", "1", "2", device, FLUX), Edge("b", "2", "0", device, FLUX)])
    outputs = [Channel("V2", Quantity.VOLTAGE, Kind.SENSE, node="2")]
    backend = backend_of(network, [channel("V1", "1"), channel("V2in", "2")], outputs)
    flags = np.array([[True, True], [True, False], [True, True]])
    trace = backend.play(pulses([[1.0, 0.2], [1.0, 0.0], [1.0, 0.2]], connected=flags), np.array([5e-3, 15e-3, 25e-3]))
    assert trace.values[0, 0] == 0.2
    assert 0.2 < trace.values[1, 0] < 0.8  # in balance between the two devices
    assert trace.values[2, 0] == 0.2


def test_devices_far_apart_in_time_stay_apart_side_by_side():
    outputs, controls = [Channel("I", Quantity.CURRENT, Kind.SENSE, node="1")], [channel("V", "1")]
    nodes = [Node("1"), Node("0", ground=True)]
    one = Network.build(nodes, [Edge("d", "1", "0", law("flux_nonvolatile"), FLUX)])
    other = Network.build(nodes, [Edge("d", "1", "0", law("flux_nonvolatile"), {**FLUX, "R0": 2e4})])
    backend = backend_of(one, controls, outputs, replicas={"A": one, "B": other}, simultaneous=[("A", "B")])
    found = backend.measure_replicas([[Stimulus.of([1.0]), Stimulus.of([0.5])]] * 2, DWELL)
    for row, seconds in enumerate((10e-3, 20e-3)):
        assert found[row, 0, 0] == pytest.approx(1.0 / (1e4 + 1e6 * risen(0.0, 1.0, seconds)), rel=1e-4)
        assert found[row, 1, 0] == pytest.approx(0.5 / (2e4 + 1e6 * risen(0.0, 0.5, seconds)), rel=1e-4)


@pytest.mark.parametrize("kind", ["flux_nonvolatile", "ohmic"])
def test_all_replicas_go_on_from_a_captured_state(kind):
    def pair():
        nodes = [Node("1"), Node("0", ground=True)]
        options = [FLUX, {**FLUX, "R0": 2e4}] if kind == "flux_nonvolatile" else [{"conductance": 1e-4}, {"conductance": 2e-4}]
        made = [Network.build(nodes, [Edge("d", "1", "0", law(kind), each)]) for each in options]
        outputs, controls = [Channel("I", Quantity.CURRENT, Kind.SENSE, node="1")], [channel("V", "1")]
        flaws = Imperfections(read_noise=1e-6, drift=0.1, aperture=1e-3)
        return backend_of(made[0], controls, outputs, replicas={"A": made[0], "B": made[1]}, imperfections=flaws)

    rows = [[Stimulus.of([1.0]), Stimulus.of([0.5])], [Stimulus.of([0.3]), Stimulus.of([0.9])]] * 2
    whole, first, second = pair(), pair(), pair()
    expected = whole.measure_replicas(rows, DWELL, 2)
    first.measure_replicas(rows[:2], DWELL, 2)
    second.restore_state(json.loads(json.dumps(first.capture_state())))
    np.testing.assert_array_equal(second.measure_replicas(rows[2:], DWELL, 2), expected[2:])
    assert second.clock.now() == whole.clock.now()


@pytest.mark.parametrize(
    ("waveform", "samples", "error", "said"),
    [
        (pulses([1.0, 9.0]), [1e-3], LimitExceededError, "'V'"),
        (pulses([1.0, 0.0]), [0.03], ConfigError, "inside the waveform"),
        (pulses([1.0, 0.0]), [np.nan], ConfigError, "inside the waveform"),
        (pulses([1.0, np.nan]), [1e-3], LimitExceededError, "nan V is outside"),
        (pulses([[1.0, 2.0], [0.0, 0.0]]), [1e-3], ConfigError, "rows of 1 values"),
        (pulses([1.0, 0.0], 1e-12), [0.0], CapabilityError, "at least"),
    ],
)
def test_waveforms_that_cannot_be_are_refused(waveform, samples, error, said):
    backend = single()
    with pytest.raises(error, match=said):
        backend.play(waveform, np.array(samples))
    assert backend.clock.now() == 0.0


def test_time_that_passes_in_the_safe_state_counts():
    clock = SteppedClock()
    backend = single("flux_volatile", {**FLUX, "flux_decay": 100.0}, clock=clock)
    backend.apply(Stimulus.of([1.0]))
    clock.sleep(50e-3)
    backend.make_safe()
    clock.sleep(10e-3)
    backend.apply(Stimulus.of([1e-9]))
    flux = 0.01 * -np.expm1(-5.0) * np.exp(-1.0)
    assert backend.read().values[0] == pytest.approx(1e-9 / (1e4 + 1e6 * flux), rel=1e-4)
