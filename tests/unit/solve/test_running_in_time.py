"""Order of every integrator, events at pulse edges, exact decay, and agreement of the two relaxation paths."""

import numpy as np
import pytest

from hil.core.errors import ConfigError
from simulated_backend.devices.registry import law
from simulated_backend.network import Edge, Network, Node
from simulated_backend.solve.relaxation import relax
from simulated_backend.solve.relaxing import RelaxingNetwork
from simulated_backend.solve.transient import segments, simulate


def ladder(tau: tuple[float, ...] = (1.0, 0.3, 1.0, 2.0, 0.3)) -> Network:
    ends = (("a", "m"), ("m", "k"), ("k", "c"), ("m", "c"), ("a", "k"))
    return Network.build(
        [Node(name) for name in "amkc"],
        [
            Edge(
                str(i),
                base,
                tip,
                law("saturating"),
                {"conductance": 1e-3 * (1 + 0.3 * i), "time_constant": tau[i]},
                parallel=1 + i,
            )
            for i, (base, tip) in enumerate(ends)
        ],
    )


CLAMPED = np.array([True, False, False, True])
VOLTAGE = np.array([2.0, 0.0, 0.0, -1.0])


@pytest.mark.parametrize(("order", "expected"), [(0, 1), (1, 1), (2, 2)])
def test_order_of_the_compiled_steps(order: int, expected: int) -> None:
    net = ladder()
    prepared = RelaxingNetwork.of(net, CLAMPED)
    assert prepared is not None
    cut, wanted = segments([0.0], [VOLTAGE], [0.6], CLAMPED)
    rest = (
        (net.groups[0].parameters["conductance"][np.newaxis],)
        if len(net.groups) == 1
        else tuple(group.parameters["conductance"][np.newaxis] for group in net.groups)
    )
    exact = prepared.run(cut, wanted, rest, np.zeros(4), 1.0, step=0.6 / 4096, order=2).voltage
    errors = [
        np.max(np.abs(prepared.run(cut, wanted, rest, np.zeros(4), 1.0, step=0.6 / k, order=order).voltage - exact))
        for k in (16, 32, 64)
    ]
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(slopes, expected, atol=0.2)


def test_compiled_and_general_relaxation_agree_under_a_waveform() -> None:
    net = ladder()
    levels = np.array([VOLTAGE, [0.0, 0, 0, 0], [-1.0, 0, 0, 0.5]])
    edges, samples = [0.0, 0.7, 1.1], np.array([0.3, 0.7, 0.9, 1.1, 1.8])
    course = simulate(net, edges, levels, CLAMPED, samples, tolerance=1e-5)
    state, now, k, found = None, 0.0, 0, []
    for sample in samples:
        while k + 1 < len(edges) and now >= edges[k + 1]:
            k += 1
        part = relax(net, levels[k], CLAMPED, [sample - now], state=state, max_step=2e-3)
        state, now = part.state, float(sample)
        found.append(part.voltage[-1].ravel())
    np.testing.assert_allclose(course.voltage, np.array(found), atol=3e-5)


def test_a_step_that_controls_itself_meets_its_tolerance_better_when_asked() -> None:
    net = ladder()
    exact = simulate(net, [0.0], [VOLTAGE], CLAMPED, [0.2, 1.0], tolerance=1e-9).voltage
    errors = [
        np.max(np.abs(simulate(net, [0.0], [VOLTAGE], CLAMPED, [0.2, 1.0], tolerance=tol).voltage - exact))
        for tol in (1e-2, 1e-4, 1e-6)
    ]
    assert errors[0] < 1e-2
    assert errors[1] < 0.1 * errors[0]
    assert errors[2] < 0.1 * errors[1]


def flux_pair(gain: float = 5e4) -> Network:
    gate = {"flux_gain": gain, "flux_decay": 1e3, "R0": 100.0, "R3": 5e5}
    volatile = law("flux_volatile")
    return Network.build(
        [Node("a"), Node("b"), Node("m"), Node("g", ground=True)],
        [
            Edge("1", "a", "m", volatile, gate),
            Edge("2", "b", "m", volatile, gate),
            Edge("load", "m", "g", law("ohmic"), {"conductance": 1 / 4060.0}),
        ],
    )


DRIVEN = np.array([True, True, False, True])


def test_gate_of_two_flux_devices_gives_the_published_output() -> None:
    times = np.linspace(0.0, 1e-3, 201)
    course = simulate(flux_pair(), [0.0], [[0.1, 0.0, 0.0, 0.0]], DRIVEN, times, tolerance=1e-5)
    assert np.trapezoid(course.voltage[:, 2], times) == pytest.approx(3.20e-6, rel=1e-2)


def test_rate_integrator_converges_with_its_tolerance() -> None:
    def end(tolerance: float) -> np.ndarray:
        return simulate(flux_pair(), [0.0], [[0.1, 0.03, 0.0, 0.0]], DRIVEN, [0.4e-3, 1e-3], tolerance=tolerance).voltage

    exact = end(1e-11)
    errors = [np.max(np.abs(end(tolerance) - exact)) for tolerance in (1e-3, 1e-5, 1e-7)]
    assert errors[0] < 1e-3
    assert errors[1] < 0.1 * errors[0]
    assert errors[2] < 0.1 * errors[1]


def test_flux_decays_exactly_between_pulses() -> None:
    course = simulate(
        flux_pair(), [0.0, 1e-3, 9e-3], [[0.1, 0, 0, 0], [0] * 4, [0.1, 0.1, 0, 0]], DRIVEN, [1e-3, 3e-3, 9e-3, 1e-2]
    )
    flux = course.states[0][:, 0, 0]
    assert flux[1] == pytest.approx(flux[0] * np.exp(-2.0), rel=1e-12)
    assert flux[2] == pytest.approx(flux[0] * np.exp(-8.0), rel=1e-12)
    assert flux[3] > 10 * flux[2]


def test_relaxing_and_integrating_devices_share_a_network() -> None:
    net = Network.build(
        [Node("a"), Node("m"), Node("g", ground=True)],
        [
            Edge("s", "a", "m", law("saturating"), {"conductance": 1e-3}),
            Edge("n", "m", "g", law("flux_nonvolatile"), {"flux_gain": 1.0, "flux_decay": 1.0, "R0": 100.0, "R1": 1e6}),
        ],
    )
    clamped = [True, False, True]
    course = simulate(net, [0.0, 1.0], [[0.1, 0, 0], [0, 0, 0]], clamped, [0.5, 1.0, 3.0], tolerance=1e-6)
    conductance, flux = course.states[0][:, 0, 0], course.states[1][:, 0, 0]
    assert flux[2] == flux[1] > flux[0] > 0.0, "a non-volatile flux stays without drive"
    assert conductance[2] - 1e-3 == pytest.approx((conductance[1] - 1e-3) * np.exp(-2.0), rel=1e-9)


@pytest.mark.parametrize(
    ("edges", "samples", "message"),
    [
        ([0.0, 0.0], [1.0], "must be finite and rise"),
        ([0.0, 1.0], [-1.0], "before the waveform begins"),
        ([0.0, 1.0], [2.0, 1.0], "rise"),
        ([0.0, np.nan], [1.0], "must be finite"),
    ],
)
def test_times_that_make_no_sense_are_refused(edges: list[float], samples: list[float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        simulate(ladder(), edges, [VOLTAGE, VOLTAGE], CLAMPED, samples)


def test_nan_voltage_in_a_waveform_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a finite number"):
        simulate(ladder(), [0.0], [[np.nan, 0, 0, 0]], CLAMPED, [1.0])
