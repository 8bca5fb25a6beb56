"""What every device law must do, whoever wrote it: pinched loops, exact slopes, broadcasting, refusal of nonsense."""

import numpy as np
import pytest

from hil.core.errors import ConfigError
from simulated_backend.devices import registry
from simulated_backend.devices.base import EdgeDrive, StateKind
from simulated_backend.network import Edge, Network, Node
from simulated_backend.sine import SINES

# law -> (parameters, amplitude in V, frequency in Hz) of a sine that moves its state; the same that `hil plot loops` plays
LOOPS = {name: (sine.parameters, sine.amplitude, sine.frequency) for name, sine in SINES.items()}
STATEFUL = sorted(name for name in registry.names() if registry.law_class(name).kind is not StateKind.NONE)


def drive_of(voltage, pressure=0.0):
    v = np.asarray(voltage, dtype=np.float64)
    return EdgeDrive(v, np.full_like(v, pressure), np.full_like(v, 0.2), np.full_like(v, 0.2))


def test_every_law_with_a_state_is_in_the_list():
    assert set(STATEFUL) <= set(LOOPS), f"give a sine that moves the state of {set(STATEFUL) - set(LOOPS)}"


@pytest.mark.parametrize("name", STATEFUL)
def test_loop_is_pinched_at_zero_volts(name, device_arrays, device_play):
    given, amplitude, frequency = LOOPS[name]
    law = registry.law(name)
    p = device_arrays(law, **given)
    steps = 1200
    played = device_play(law, p, lambda t: amplitude * np.sin(2 * np.pi * frequency * t), 3 / frequency, steps)
    biggest = np.abs(played.current).max()
    crossings = np.flatnonzero(np.abs(played.voltage) < 1e-9 * amplitude)
    assert len(crossings) == 7
    assert np.all(np.abs(played.current[crossings]) <= 2e-9 * biggest)
    # a loop, not a line: where the second period comes back to a voltage, the current has changed
    first, gaps = steps // 3, []
    for half in (0, 200):
        there = first + half + np.arange(100)
        back = first + half + 200 - np.arange(100)
        np.testing.assert_allclose(played.voltage[there], played.voltage[back], atol=1e-9 * amplitude)
        gaps.append(np.abs(played.current[there] - played.current[back]).max())
    assert max(gaps) > 0.02 * biggest


@pytest.mark.parametrize("name", registry.names())
def test_conductance_is_the_slope_of_the_current(name, device_arrays):
    law = registry.law(name)
    given = LOOPS.get(name, ({},))[0]
    v = np.array([-0.83, -0.31, -0.07, 0.05, 0.29, 0.77])
    p = device_arrays(law, v.size, **given)
    state = law.initial_state(p, drive_of(v))
    h = 1e-5
    numeric = (law.current(p, drive_of(v + h), state) - law.current(p, drive_of(v - h), state)) / (2 * h)
    np.testing.assert_allclose(law.conductance(p, drive_of(v), state), numeric, rtol=1e-7)


@pytest.mark.parametrize("name", registry.names())
def test_arrays_broadcast_over_copies(name, device_arrays):
    law = registry.law(name)
    given = LOOPS.get(name, ({},))[0]
    p = device_arrays(law, 4, **given)
    v = np.linspace(-0.5, 0.5, 24).reshape(2, 3, 4)
    state = law.initial_state(p, drive_of(v))
    assert state.shape == (len(law.states), 2, 3, 4)
    assert law.current(p, drive_of(v), state).shape == v.shape
    assert law.conductance(p, drive_of(v), state).shape == v.shape
    assert law.clip(p, state).shape == state.shape
    one = law.current(p, drive_of(v[1, 2]), state[:, 1, 2])
    np.testing.assert_array_equal(law.current(p, drive_of(v), state)[1, 2], one)
    if law.kind is StateKind.RATE:
        np.testing.assert_array_equal(
            law.state_rate(p, drive_of(v), state)[:, 1, 2], law.state_rate(p, drive_of(v[1, 2]), state[:, 1, 2])
        )


@pytest.mark.parametrize("name", registry.names())
def test_nonsense_is_refused(name):
    law = registry.law(name)
    nodes = [Node("a"), Node("b")]
    good = {k: v for k, v in ((k, law.default(k)) for k in law.parameters) if v is not None}
    good |= {k: 1e-6 for k in law.parameters if k not in good}

    def build(**changed):
        return Network.build(nodes, [Edge("e", "a", "b", law, {**good, **changed})])

    build()
    for parameter, limits in law.parameters.items():
        with pytest.raises(ConfigError, match=parameter):
            build(**{parameter: np.nan})
        if limits.maximum < np.inf:
            with pytest.raises(ConfigError, match=parameter):
                build(**{parameter: np.inf})
        if limits.unit in ("m", "ohm", "S", "s"):
            with pytest.raises(ConfigError, match=parameter):
                build(**{parameter: -1.0})
    if "R_off" in law.parameters:
        with pytest.raises(ConfigError, match="R_on must be smaller than R_off"):
            build(R_on=2e3, R_off=1e3)


@pytest.mark.parametrize("name", registry.names())
def test_presets_make_devices_that_stand(name):
    law = registry.law_class(name)
    for preset, numbers in law.presets.items():
        assert set(numbers) <= set(law.parameters), preset
        made = registry.law(name, preset=preset)
        extra = {k: 1e-6 for k in law.parameters if made.default(k) is None}
        Network.build([Node("a"), Node("b")], [Edge("e", "a", "b", made, extra)])


def test_extreme_trial_voltages_stay_finite(device_arrays):
    for name in registry.names():
        law = registry.law(name)
        if name in ("conical_channel",):
            continue
        p = device_arrays(law, 4, **LOOPS.get(name, ({},))[0])
        v = np.array([-1e4, -1e2, 1e2, 1e4])
        state = law.initial_state(p, drive_of(v))
        assert np.isfinite(law.current(p, drive_of(v), state)).all(), name
        if law.kind is StateKind.RATE:
            assert np.isfinite(law.state_rate(p, drive_of(v), state)).all(), name
