"""The flux-controlled laws against the numbers measured for the corrected equations."""

import numpy as np
import pytest

from simulated_backend.devices.base import EdgeDrive
from simulated_backend.devices.flux_controlled import memristance, saturation_flux
from simulated_backend.devices.flux_nonvolatile import FluxNonvolatile
from simulated_backend.devices.flux_volatile import FluxVolatile

VOLATILE, NONVOLATILE = FluxVolatile(), FluxNonvolatile()


def resistance(law, p, state):
    return float(1.0 / law.conductance(p, EdgeDrive.of_voltage(np.zeros(1)), state)[0])


def rk2(rate, x, duration, steps=400):
    h = duration / steps
    for _ in range(steps):
        middle = x + h / 2 * rate(x)
        x = x + h * rate(middle)
    return x


def gate(inputs, load, p):
    """Two volatile devices from two inputs to one loaded output: ∫V_out dt over 1 ms."""
    drives = np.array(inputs)

    def output(flux):
        conductances = np.array([VOLATILE.conductance(p, EdgeDrive.of_voltage(np.zeros(1)), flux[k : k + 1])[0] for k in (0, 1)])
        return float(conductances @ drives / (conductances.sum() + 1.0 / load))

    def rate(x):
        out = output(x[:2])
        across = drives - out
        change = [VOLATILE.state_rate(p, EdgeDrive.of_voltage(across[k : k + 1]), x[k : k + 1, None])[0, 0] for k in (0, 1)]
        return np.array([*change, out])

    return rk2(rate, np.zeros(3), 1e-3, 600)[2]


@pytest.mark.parametrize(
    ("load", "one_high", "both_high"),
    [
        (np.inf, 50.0e-6, 100e-6),
        (100e3, 9.23e-6, 99.95e-6),
        (10e3, 4.32e-6, 99.5e-6),
        (4.06e3, 3.20e-6, 98.6e-6),
        (2e3, 2.51e-6, 68.4e-6),
        (1e3, 1.97e-6, 31.1e-6),
    ],
)
def test_and_like_gate(load, one_high, both_high, device_arrays):
    p = device_arrays(VOLATILE, **VOLATILE.presets["gate"])
    assert gate((0.0, 0.1), load, p) == pytest.approx(one_high, rel=1e-2)
    assert gate((0.1, 0.1), load, p) == pytest.approx(both_high, rel=1e-2)


def series_pulse(p_v, p_n, flux_v, flux_n, voltage, width=1e-3, steps=400):
    """Source, volatile, non-volatile in series: each has the voltage that its resistance takes."""

    def rate(x):
        m_v, m_n = (float(memristance(p, np.array([abs(f)]))[0]) for p, f in ((p_v, x[0]), (p_n, x[1])))
        v_v, v_n = voltage * m_v / (m_v + m_n), voltage * m_n / (m_v + m_n)
        return np.array(
            [
                VOLATILE.state_rate(p_v, EdgeDrive.of_voltage(np.array([v_v])), x[:1, None])[0, 0],
                NONVOLATILE.state_rate(p_n, EdgeDrive.of_voltage(np.array([v_n])), x[1:, None])[0, 0],
            ]
        )

    return rk2(rate, np.array([flux_v, flux_n]), width, steps)


def rest(p_v, p_n, x, gap):
    return np.array([VOLATILE.decay(p_v, x[:1, None], gap)[0, 0], NONVOLATILE.decay(p_n, x[1:, None], gap)[0, 0]])


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        (0, 1099.0),
        (0.01, 1101.1),
        (0.1, 1119.6),
        (0.25, 1149.7),
        (0.5, 1197.0),
        (1, 1277.7),
        (2, 1380.4),
        (5, 1451.8),
        (10, 1455.9),
    ],
)
def test_desensitisation(gap, expected, device_arrays):
    p_v = device_arrays(VOLATILE, **VOLATILE.presets["desensitisation"])
    p_n = device_arrays(NONVOLATILE, **NONVOLATILE.presets["desensitisation"])
    x = series_pulse(p_v, p_n, 0.0, 0.0, 1.0)
    assert resistance(NONVOLATILE, p_n, x[1:, None]) == pytest.approx(599.8, abs=0.06)
    x = series_pulse(p_v, p_n, *rest(p_v, p_n, x, gap), 1.0)
    assert resistance(NONVOLATILE, p_n, x[1:, None]) == pytest.approx(expected, abs=0.06)


def test_paired_pulses_end_below_where_they_began(device_arrays):
    p_v = device_arrays(VOLATILE, **VOLATILE.presets["desensitisation"])
    p_n = device_arrays(NONVOLATILE, **NONVOLATILE.presets["spike-timing"])
    x = series_pulse(p_v, p_n, 0.0, 1e-3, 1.0)
    assert resistance(NONVOLATILE, p_n, x[1:, None]) == pytest.approx(2015, abs=1)
    x = series_pulse(p_v, p_n, *rest(p_v, p_n, x, 10e-3), -1.0)
    assert resistance(NONVOLATILE, p_n, x[1:, None]) == pytest.approx(1097, abs=1)


def timing(delay, p_v, p_n, amplitude):
    """PRE raises the cell's voltage, POST lowers it; delay > 0: PRE first. ΔΦ_n over A·V·w, and ΔR/R."""
    order = (amplitude, -amplitude) if delay > 0 else (-amplitude, amplitude)
    x = series_pulse(p_v, p_n, 0.0, 1e-3, order[0])
    x = series_pulse(p_v, p_n, *rest(p_v, p_n, x, abs(delay)), order[1])
    m0 = float(memristance(p_n, np.array([1e-3]))[0])
    return (x[1] - 1e-3) / (amplitude * 1e-3), (float(memristance(p_n, x[1:])[0]) - m0) / m0


@pytest.mark.parametrize(
    ("delay", "change"),
    [
        (2e-3, -0.166), (5e-3, -0.166), (10e-3, -0.166), (20e-3, -0.131), (50e-3, -0.014), (250e-3, -0.013),
        (-2e-3, 0.138), (-5e-3, 0.138), (-10e-3, 0.138), (-20e-3, 0.104), (-50e-3, -0.013), (-250e-3, -0.013),
    ],
)  # fmt: skip
def test_spike_timing_working_set(delay, change, device_arrays):
    p_v = device_arrays(VOLATILE, **VOLATILE.presets["spike-timing"])
    p_n = device_arrays(NONVOLATILE, **NONVOLATILE.presets["spike-timing"])
    assert timing(delay, p_v, p_n, 0.1)[0] == pytest.approx(change, abs=1.5e-3)


def test_spike_timing_sign_and_window(device_arrays):
    p_v = device_arrays(VOLATILE, **VOLATILE.presets["spike-timing"])
    p_n = device_arrays(NONVOLATILE, **NONVOLATILE.presets["spike-timing"])
    inside, outside = timing(10e-3, p_v, p_n, 0.1)[0], timing(250e-3, p_v, p_n, 0.1)[0]
    assert inside < 0 < timing(-10e-3, p_v, p_n, 0.1)[0]
    assert abs(inside) >= 10 * abs(outside)


@pytest.mark.parametrize(
    ("delay", "percent"), [(10e-3, -0.29), (0.25, -0.86), (1.0, -1.25), (-10e-3, 0.03), (-0.25, 2.6), (-1.0, 5.2)]
)
def test_spike_timing_quoted_set_has_the_signs_but_no_window(delay, percent, device_arrays):
    p_v = device_arrays(VOLATILE, **VOLATILE.presets["desensitisation"])
    p_n = device_arrays(NONVOLATILE, **NONVOLATILE.presets["spike-timing"])
    assert 100 * timing(delay, p_v, p_n, 1.0)[1] == pytest.approx(percent, abs=max(0.006, 0.02 * abs(percent)))


def test_equal_and_opposite_pulses_retrace_without_decay(device_arrays):
    p_v = device_arrays(VOLATILE, flux_decay=0.0, R1=1e6)
    p_n = device_arrays(NONVOLATILE, flux_decay=0.0, R1=1e6)
    there = series_pulse(p_v, p_n, 0.0, 1e-3, 1.0, steps=4000)
    back = series_pulse(p_v, p_n, *rest(p_v, p_n, there, 3.0), -1.0, steps=4000)
    assert there[1] > 1.5e-3
    np.testing.assert_allclose(back, [0.0, 1e-3], atol=1e-10)


def test_nonvolatile_remembers_without_voltage_and_stops_at_saturation(device_arrays, device_play):
    p = device_arrays(NONVOLATILE, flux_decay=1.0, R1=1e6, flux_initial=1e-3)
    kept = device_play(NONVOLATILE, p, lambda t: 0.0, 10.0, 50)
    assert np.all(kept.state[:, 0, 0] == 1e-3)
    driven = device_play(NONVOLATILE, p, lambda t: 0.02, 30.0, 3000)
    assert driven.state[-1, 0, 0] == pytest.approx(0.02, rel=1e-9)
    assert saturation_flux(p, np.array([0.02]))[0] == pytest.approx(0.02)
    # a smaller voltage of the same sign neither adds nor removes
    held = device_play(NONVOLATILE, p, lambda t: 0.01, 5.0, 50, state=driven.state[-1])
    assert np.all(held.state[:, 0, 0] == driven.state[-1, 0, 0])


def test_nonvolatile_resets_faster_than_it_sets_and_stops_at_zero(device_arrays, device_play):
    p = device_arrays(NONVOLATILE, flux_decay=5.0, R1=1e6, flux_initial=0.01)
    down = device_play(NONVOLATILE, p, lambda t: -0.1, 0.5, 500)
    up = device_play(NONVOLATILE, p, lambda t: 0.1, 0.05, 50)
    assert 0.01 - down.state[50, 0, 0] > up.state[-1, 0, 0] - 0.01
    assert down.state[-1, 0, 0] == 0.0
    assert down.state.min() == 0.0


def test_without_decay_nothing_divides_by_zero(device_arrays, device_play):
    for law in (VOLATILE, NONVOLATILE):
        p = device_arrays(law, flux_decay=0.0, R1=1e6)
        done = device_play(law, p, lambda t: 0.5, 1e-3, 20)
        assert done.state[-1, 0, 0] == pytest.approx(0.5e-3, rel=1e-12)
        assert np.array_equal(law.decay(p, done.state[-1], 100.0), done.state[-1])
        assert np.isinf(saturation_flux(p, np.array([0.5]))[0])
        assert saturation_flux(p, np.array([0.0]))[0] == 0.0


def test_volatile_decay_is_the_exact_solution(device_arrays, device_play):
    p = device_arrays(VOLATILE, flux_decay=200.0, R3=5e5)
    start = np.full((1, 1), 0.3)
    stepped = device_play(VOLATILE, p, lambda t: 0.0, 0.02, 4000, state=start).state[-1, 0, 0]
    assert VOLATILE.decay(p, start, 0.02)[0, 0] == pytest.approx(0.3 * np.exp(-4.0), rel=1e-14)
    assert stepped == pytest.approx(0.3 * np.exp(-4.0), rel=1e-9)


def test_memristance_is_even_in_the_flux_linkage(device_arrays):
    p = device_arrays(VOLATILE, R0=3.0, R1=5.0, R2=7.0, R3=11.0, R4=13.0)
    for flux in (-0.5, 0.5):
        assert memristance(p, np.array([flux]))[0] == pytest.approx(3 + 2.5 + 7 / 4 + 11 / 8 + 13 / 16, rel=1e-15)
