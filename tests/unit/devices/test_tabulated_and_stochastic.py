"""The tabulated curve and the two-state device that switches at random."""

import numpy as np
import pytest

from hil.core.errors import ConfigError
from simulated_backend.devices.base import EdgeDrive
from simulated_backend.devices.stochastic import Stochastic
from simulated_backend.devices.tabulated import Tabulated

VOLTS = [-1.0, -0.4, -0.1, 0.0, 0.2, 0.5, 1.0]
AMPERES = [-3.0, -0.5, -0.4, 0.0, 0.0, 1.0, 1.5]
NO_STATE = np.empty((0, 1))


def at(v):
    return EdgeDrive.of_voltage(np.atleast_1d(np.asarray(v, dtype=np.float64)))


def test_table_is_met_and_stays_monotone(device_arrays):
    law = Tabulated(VOLTS, AMPERES)
    p = device_arrays(law, 1, scale=2e-6)
    np.testing.assert_allclose(law.current(p, at(VOLTS), NO_STATE), 2e-6 * np.array(AMPERES), atol=1e-20)
    fine = np.linspace(-1, 1, 2001)
    current = law.current(p, at(fine), NO_STATE)
    assert np.all(np.diff(current) >= -1e-20)
    assert np.all(law.conductance(p, at(fine), NO_STATE) >= 0.0)


@pytest.mark.parametrize("outside", ["linear", "clip"])
def test_outside_behaviour_is_as_declared_and_reported(outside, device_arrays):
    law = Tabulated(VOLTS, AMPERES, outside=outside)
    p = device_arrays(law)
    end = law.conductance(p, at(1.0), NO_STATE)[0]
    expected = 1.5 + (end if outside == "linear" else 0.0)
    assert law.current(p, at(2.0), NO_STATE)[0] == pytest.approx(expected, rel=1e-12)
    assert law.conductance(p, at(2.0), NO_STATE)[0] == (end if outside == "linear" else 0.0)
    assert "-1 … 1 V" in law.validity(p, at(2.0))[0]
    assert law.validity(p, at(0.9)) == ()


@pytest.mark.parametrize(
    ("volts", "amperes", "says"),
    [
        ([0.0], [0.0], "at least 2"),
        ([0.0, 1.0], [0.0], "equal length"),
        ([0.0, np.nan], [0.0, 1.0], "not finite"),
        ([0.0, 1.0, 1.0], [0.0, 1.0, 2.0], "must ascend, but 1 V follows 1 V"),
    ],
)
def test_bad_tables_are_refused(volts, amperes, says):
    with pytest.raises(ConfigError, match=says):
        Tabulated(volts, amperes)


def switched_share(law, p, n, v, duration, steps):
    drive = at(np.full(n, v))
    state = law.initial_state(p, drive)
    for _ in range(steps):
        state = law.clip(p, state + duration / steps * law.state_rate(p, drive, state))
    return state


def test_waiting_times_are_poisson(device_arrays):
    law, n, v = Stochastic(seed=3), 20_000, 2.0
    p = device_arrays(law, n)
    tau = 2.85e5 * np.exp(-v / 0.156)
    assert law.waiting_time(p, at(np.full(n, v)), law.initial_state(p, at(np.full(n, v))))[0] == pytest.approx(tau, rel=1e-12)
    for multiple in (0.3, 1.0, 2.0):
        on = switched_share(law, p, n, v, multiple * tau, 7)[0].mean()
        expected = 1 - np.exp(-multiple)
        assert on == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / n))


def test_cycles_draw_new_numbers_and_directions_differ(device_arrays):
    law, n = Stochastic(seed=1), 4000
    p = device_arrays(law, n)
    up, down = at(np.full(n, 2.0)), at(np.full(n, -2.0))
    tau = float(law.waiting_time(p, up, law.initial_state(p, up))[0])
    state = law.initial_state(p, up)
    first = np.full(n, np.nan)
    second = np.full(n, np.nan)
    for k in range(400):
        state = law.clip(p, state + tau / 40 * law.state_rate(p, up, state))
        first = np.where(np.isnan(first) & (state[0] == 1.0), k, first)
    assert np.all(state[0] == 1.0)
    assert np.all(law.state_rate(p, up, state) == 0.0)
    for k in range(400):
        state = law.clip(p, state + tau / 40 * law.state_rate(p, down, state))
        second = np.where(np.isnan(second) & (state[0] == 0.0), k, second)
    assert np.all(state[0] == 0.0)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.06


def test_seeded_and_resumable(device_arrays):
    n, v = 500, 2.0
    runs = []
    for seed in (5, 5, 6):
        law = Stochastic(seed=seed)
        p = device_arrays(law, n)
        runs.append(switched_share(law, p, n, v, 1.0, 4))
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    # the state is all there is: a fresh object goes on from a copy exactly
    law, other = Stochastic(seed=5), Stochastic(seed=99)
    p = device_arrays(law, n)
    drive, saved = at(np.full(n, v)), runs[0].copy()
    assert np.array_equal(
        law.clip(p, runs[0] + 0.3 * law.state_rate(p, drive, runs[0])),
        other.clip(p, saved + 0.3 * other.state_rate(p, drive, saved)),
    )


def test_without_voltage_nothing_switches(device_arrays):
    law = Stochastic()
    p = device_arrays(law, 10, tau_set=1e-6, tau_reset=1e-6)
    for on in (0.0, 1.0):
        state = law.initial_state({**p, "on_initial": np.full(10, on)}, at(np.zeros(10)))
        assert np.all(law.state_rate(p, at(np.zeros(10)), state) == 0.0)
        assert np.all(np.isinf(law.waiting_time(p, at(np.zeros(10)), state)))
        assert law.decay(p, state, 1e9) is state


def test_bad_seed_is_refused():
    for seed in (-1, 1.5, True):
        with pytest.raises(ConfigError, match="whole number"):
            Stochastic(seed=seed)
