"""Conical channel law against the table, closed forms and limits of the physics reference."""

import numpy as np
import pytest

from hil.core.errors import ConfigError
from simulated_backend.devices import conical_profile
from simulated_backend.devices.base import EdgeDrive
from simulated_backend.devices.conical_channel import ConicalChannel

VOLTS = np.array([-5.0, -1.0, -0.5, -0.1, 0.0, 0.1, 0.5, 1.0, 5.0])


def numbers(device, count, **changed):
    return {name: np.full(count, changed.get(name, device.default(name))) for name in device.parameters}


def drive(voltage, salt, pressure=0.0, tip_over_base=1.0):
    shape = np.shape(voltage)
    return EdgeDrive(
        np.asarray(voltage, float), np.full(shape, pressure), np.full(shape, salt), np.full(shape, salt * tip_over_base)
    )


def relative(device, voltage=VOLTS, salt=None, pressure=0.0, tip_over_base=1.0, **changed):
    salt = salt or device.default("reference_concentration")
    return device.relative(numbers(device, len(voltage), **changed), drive(voltage, salt, pressure, tip_over_base))[0]


LETTER, NETWORK = ConicalChannel("letter"), ConicalChannel()
TABLE = [
    (LETTER, {}, [3.0239, 1.9644, 1.5226, 1.1036, 1, 0.9001, 0.5627, 0.3065, 0.0313]),
    (NETWORK, {}, [2.3063, 1.5099, 1.2630, 1.0516, 1, 0.9497, 0.7687, 0.6013, 0.3327]),
    (NETWORK, {"pressure": 1e5}, [1.3904, 1.0544, 1.0262, 1.0051, 1, 0.9950, 0.9756, 0.9528, 0.8131]),
    (NETWORK, {"pressure": -1e5}, [1.4377, 1.1085, 1.0559, 1.0115, 1, 0.9884, 0.9404, 0.8768, 0.1554]),
    (NETWORK, {"pressure": 1e4}, [2.6175, 1.4759, 1.2070, 1.0362, 1, 0.9662, 0.8528, 0.7498, 0.4683]),
    (NETWORK, {"pressure": -1e4}, [2.0920, 1.4043, 1.2220, 1.0476, 1, 0.9508, 0.7420, 0.4746, 0.1084]),
    (NETWORK, {"tip_over_base": 0.5}, [1.9069, 1.2678, 1.0696, 0.9, 0.8586, 0.8182, 0.6730, 0.5386, 0.3231]),
    (NETWORK, {"tip_over_base": 2.0}, [3.1050, 1.9942, 1.6497, 1.3548, 1.2828, 1.2126, 0.9601, 0.7266, 0.3520]),
]


@pytest.mark.parametrize(("device", "case", "expected"), TABLE)
def test_table_of_relative_conductance(device, case, expected):
    assert relative(device, **case) == pytest.approx(expected, abs=1e-4)


def test_table_row_with_the_surface_potential_of_the_letter():
    # printed as -10.25 mV; 0.005 mV of rounding is worth 5e-4 at -5 V, and -10.246 mV meets every entry
    device = ConicalChannel(surface_potential_policy="fixed")
    expected = [2.0122, 1.4822, 1.2613, 1.0518, 1, 0.95, 0.7813, 0.6532, 0.5155]
    assert relative(device, surface_potential=-10.246e-3) == pytest.approx(expected, abs=1e-4)


def test_surface_potential_with_the_wrong_sign_gives_the_slip_of_the_source_text():
    device = ConicalChannel(surface_potential_policy="fixed")
    literal = [1.6673, 1.3987, 1.2313, 1.0503, 1, 0.9484, 0.7370, 0.4901, -0.3063]
    assert relative(device, surface_potential=7.27e-3) == pytest.approx(literal, abs=3e-4)


def test_no_drive_gives_exactly_one():
    assert relative(NETWORK, np.zeros(1))[0] == 1.0


def test_base_conductance_and_surface_potential():
    for device, g0, psi in ((LETTER, 4.20e-12, -10.25e-3), (NETWORK, 8.40e-12, -7.27e-3)):
        at = drive([0.0], device.default("reference_concentration"))
        assert device.reduced(numbers(device, 1), at).g0[0] == pytest.approx(g0, rel=1e-3)
        assert device.zeta(numbers(device, 1), at)[0] == pytest.approx(psi, rel=1e-3)


@pytest.mark.parametrize("ratio", [2.0, 4.0, 8.0])
def test_averages_have_their_closed_forms_at_rest(ratio):
    a = 1.0 / (ratio - 1.0)
    f = a * ((1.0 + a) * np.log(ratio) - 1.0)
    f2 = ratio * a**3 * (ratio - 1.0 / ratio - 2.0 * np.log(ratio))
    found = conical_profile.averages(np.zeros(1), np.array([ratio]))
    assert found.mean_i[0] == pytest.approx(f, abs=1e-10)
    assert found.h[0] == pytest.approx(0.5 * (f - f2), abs=1e-10)


@pytest.mark.parametrize("p", [-20.0, -3.0, -0.6, 0.4, 3.0, 20.0])
def test_mean_profile_equals_the_exponential_integral_form(p):
    from scipy.special import expi

    r, a = 4.0, 1.0 / 3.0
    j = r * a * (1.0 - np.exp(p) / r + p * a * np.exp(-p * a) * (expi(p * a * r) - expi(p * a)))
    assert conical_profile.averages(np.array([p]), np.array([r])).mean_i[0] == pytest.approx((j - 1.0) / np.expm1(p), abs=1e-11)


def test_strong_flow_stays_finite_and_reaches_the_upstream_reservoir():
    p = np.array([-1e4, -600.0, 600.0, 1e4])
    found = conical_profile.averages(p, np.full(4, 4.0))
    for part in (found.mean_i, found.mean_i_slope, found.h, found.h_slope):
        assert np.all(np.isfinite(part))
    finer = conical_profile.averages(p[1:3], np.full(2, 4.0), conical_profile.Quadrature.gauss(256))
    assert found.mean_i[1:3] == pytest.approx(finer.mean_i, abs=1e-11)
    assert relative(NETWORK, np.array([0.1, 0.1]), pressure=1.4e6) == pytest.approx(1.0, abs=5e-3)


def test_series_and_direct_form_agree_where_they_meet():
    p = np.array([0.5 - 1e-9, 0.5 + 1e-9, -0.5 + 1e-9, -0.5 - 1e-9])
    found = conical_profile.averages(p, np.full(4, 4.0))
    for part in (found.mean_i, found.mean_i_slope, found.h, found.h_slope):
        assert part[0] == pytest.approx(part[1], abs=3e-9)
        assert part[2] == pytest.approx(part[3], abs=3e-9)
    f = np.linspace(0.0, 1.0, 7)
    printed = [f * (1 - f) / 2, f * (1 - f) * (2 * f - 1) / 12, -(f**2) * (1 - f) ** 2 / 24]
    assert conical_profile.phi_series(f, 3) == pytest.approx(np.array(printed), abs=1e-15)


def test_slope_at_rest_and_asymptotes_of_the_letter():
    step = 1e-4
    slope = np.diff(relative(LETTER, np.array([-step, step])))[0] / (2 * step)
    assert slope == pytest.approx(-1.0205, abs=2e-4)
    # the boundary layer at the base is worth 3.6 * 4/|p|, 0.023 at -150 V
    assert relative(LETTER, np.array([-150.0, 150.0])) == pytest.approx([1 + 3.592 * (1 - 0.2828), 1 - 3.592 * 0.2828], abs=0.03)


def test_best_diode_without_flow_and_with_fixed_tip():
    inverse = np.linspace(0.1, 0.4, 601)
    h = conical_profile.averages(np.zeros(601), 1.0 / inverse).h
    assert inverse[np.argmax((1.0 - inverse) * h)] == pytest.approx(0.223, abs=5e-3)


def test_length_scales_conductance_and_time_but_not_the_shape():
    assert relative(NETWORK, length=3e-6) == pytest.approx(relative(NETWORK, length=50e-6), abs=0)
    tau = NETWORK.time_constant(numbers(NETWORK, 1), drive([0.0], 0.2))
    assert tau[0, 0] == pytest.approx(4.762e-3, abs=1e-6)


def test_law_is_smooth_where_pressure_stops_the_flow():
    reduced = NETWORK.reduced(numbers(NETWORK, 1), drive([0.0], 0.2, pressure=1.0))
    stop = -float(reduced.p_per_volt[0] / reduced.p_pressure[0])  # Pa at 1 V
    # the pressure that stops the flow, 8 eps psi0 <R^2>/(R_b^2 R_t^2) per volt, for psi0 = -10.25 mV
    assert stop * 10.249052 / 7.271848 == pytest.approx(-102e2, rel=5e-3)
    values = np.concatenate([relative(NETWORK, np.ones(1), pressure=stop * (1 + e)) for e in (-1e-7, 0.0, 1e-7)])
    assert np.all(np.isfinite(values))
    assert np.ptp(values) < 1e-6
    assert values[1] == pytest.approx(0.5 * (values[0] + values[2]), abs=1e-12)


@pytest.mark.parametrize("form", ["analytic", "self-consistent"])
@pytest.mark.parametrize(("pressure", "tip_over_base"), [(0.0, 1.0), (3e4, 1.0), (-2e4, 0.7), (0.0, 1.6)])
def test_slope_equals_the_numeric_derivative_of_the_current(form, pressure, tip_over_base):
    device = ConicalChannel(form=form)
    volts, h = np.array([-2.0, -0.3, 0.0, 0.2, 1.5]), 1e-3
    given = numbers(device, len(volts), minimum_conductance=0.0)
    at = [device.steady(given, drive(volts + k * h, 0.2, pressure, tip_over_base)) for k in (-2, -1, 0, 1, 2)]
    numeric = (at[0][0] - 8 * at[1][0] + 8 * at[3][0] - at[4][0]) / (12 * h)
    assert at[2][1] == pytest.approx(numeric, rel=2e-8)


@pytest.mark.parametrize(
    ("device", "volts", "expected"),
    [
        (ConicalChannel(form="self-consistent"), [-5, -1, -0.5, 0.5, 1, 2, 5], [3.78, 1.646, 1.318, 0.736, 0.606, 0.512, 0.436]),
        (ConicalChannel("letter", form="self-consistent"), [-5, -1, 1, 5], [5.68, 2.24, 0.543, 0.454]),
    ],
)
def test_self_consistent_values(device, volts, expected):
    assert relative(device, np.array(volts, float)) == pytest.approx(expected, abs=6e-3, rel=1e-3)


def test_self_consistent_law_obeys_its_own_flux_balance():
    """An independent solver (scipy's collocation) finds the same conductance."""
    from scipy.integrate import solve_bvp

    p, kappa, r, tip = 2.0, -1.5, 4.0, 0.8
    a = 1.0 / (r - 1.0)

    def rates(f, y, parameters):
        gamma, flux = parameters
        return np.vstack([p * y[0] - kappa * (a + f) * gamma / y[0] + flux, 1.0 / y[0]])

    def ends(left, right, parameters):
        return np.array([left[0] - 1.0, right[0] - tip, left[1], right[1] * parameters[0] - 1.0])

    grid = np.linspace(0, 1, 50)
    found = solve_bvp(rates, ends, grid, np.vstack([1 + (tip - 1) * grid, grid]), p=[1.0, -1.0], tol=1e-10, max_nodes=20000)
    assert found.success
    from simulated_backend.devices.conical_self_consistent import conductance

    gamma, _, _ = conductance(np.array([p]), np.array([kappa]), np.array([r]), np.array([tip]))
    assert gamma[0] == pytest.approx(found.p[0], rel=1e-8)


def test_self_consistent_slope_at_rest_weighs_salt_by_resistance():
    """At first order in kappa the resistance averages phi over F: 1/12, where the published law averages over x: 0.069."""
    law_numbers = NETWORK.reduced(numbers(NETWORK, 1), drive([0.0], 0.2))
    given, at = numbers(NETWORK, 1), drive([0.0], 0.2)
    _, slope, _ = ConicalChannel(form="self-consistent").relative(given, at)
    assert slope[0] == pytest.approx(law_numbers.kappa_per_volt[0] / 12.0, rel=1e-9)
    _, published, _ = NETWORK.relative(given, at)
    assert published[0] == pytest.approx(law_numbers.kappa_per_volt[0] * 0.06900, rel=1e-4)


def test_floor_holds_and_says_so_and_can_be_switched_off():
    at = drive([5.0], 0.1, pressure=-1e5)
    given = numbers(LETTER, 1)
    current, slope = LETTER.steady(given, at)
    g0 = LETTER.reduced(given, at).g0[0]
    assert current[0] == pytest.approx(0.02 * g0 * 5.0)
    assert slope[0] == pytest.approx(0.02 * g0)
    assert LETTER.clamped(given, at).all()
    assert any(text.startswith("clamped:") for text in LETTER.validity(given, at))
    free = numbers(LETTER, 1, minimum_conductance=0.0)
    assert LETTER.steady_state(free, at)[0, 0] / g0 == pytest.approx(-1.08, abs=5e-3)
    assert not LETTER.clamped(free, at).any()
    assert any("negative" in text for text in LETTER.validity(free, at))


@pytest.mark.parametrize(("device", "limit"), [(LETTER, 0.59), (NETWORK, 1.27)])
def test_negative_local_salt_is_reported_from_the_right_voltage(device, limit):
    salt = device.default("reference_concentration")

    def complains(volts):
        return any("negative salt" in text for text in device.validity(numbers(device, 1), drive([volts], salt)))

    assert complains(limit + 0.02)
    assert not complains(limit - 0.02)


def test_range_of_accuracy_and_short_channels_are_reported():
    def said(volts, **changed):
        return " ".join(NETWORK.validity(numbers(NETWORK, 1, **changed), drive([volts], 0.2)))

    assert said(0.45) == ""
    assert "5 %" in said(0.6)
    assert "ten base radii" in said(0.1, length=1.9e-6)


def test_policies_of_the_surface_potential():
    at = drive([0.0], 0.4)
    given = numbers(NETWORK, 1)
    kept = NETWORK.zeta(given, at)[0]
    again = ConicalChannel(surface_potential_policy="base").zeta(given, at)[0]
    assert kept == pytest.approx(-7.2718e-3, abs=1e-7)
    assert again == pytest.approx(-5.15e-3, abs=2e-5)
    assert ConicalChannel("published-code").zeta(numbers(ConicalChannel("published-code"), 1), at)[0] == -10e-3


def test_explicit_concentration_term_can_be_left_out():
    without = ConicalChannel(explicit_concentration_term=False)
    assert relative(without, tip_over_base=2.0) == pytest.approx(relative(NETWORK), abs=0)
    assert ConicalChannel("published-code").explicit_concentration_term is False
    assert ConicalChannel("published-code", explicit_concentration_term=True).explicit_concentration_term is True


def test_radius_ratio_keeps_the_radius_it_promises_to_keep():
    given = numbers(NETWORK, 1)
    base = NETWORK.tuned(given, "radius_ratio_fixed_base", np.array([8.0]))
    tip = NETWORK.tuned(given, "radius_ratio_fixed_tip", np.array([8.0]))
    assert (base["base_radius"][0], base["tip_radius"][0]) == (200e-9, 25e-9)
    assert (tip["base_radius"][0], tip["tip_radius"][0]) == (400e-9, 50e-9)


@pytest.mark.parametrize("wrong", [{"preset": "paper"}, {"form": "exact"}, {"surface_potential_policy": "tip"}])
def test_unknown_options_are_refused(wrong):
    with pytest.raises(ConfigError, match="is not one of"):
        ConicalChannel(**wrong)


def test_a_cone_that_narrows_towards_its_base_is_refused():
    assert NETWORK.check(numbers(NETWORK, 1, tip_radius=300e-9))
    assert not NETWORK.check(numbers(NETWORK, 1))
