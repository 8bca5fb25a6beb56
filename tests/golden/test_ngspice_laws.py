"""Every device law against ngspice on random mixed networks: live where ngspice is installed, else its stored answers."""

import sys
from pathlib import Path

import numpy as np
import pytest

from simulated_backend import netlist_run
from simulated_backend.devices.base import EdgeDrive, StateKind
from simulated_backend.solve.operating_point import solve_operating_point
from simulated_backend.solve.transient import simulate

sys.path.insert(0, str(Path(__file__).parent))
import ngspice_cases as cases  # a neighbour: test folders are no packages

pytestmark = pytest.mark.golden
LIVE = netlist_run.find() is not None
FLAT = 2
"""A network in which a rate does not depend on a state."""


def answer(kind: str, seed: int, case: cases.Case) -> np.ndarray:
    if LIVE:
        return cases.ngspice(kind, case)
    with np.load(cases.STORED) as stored:
        assert str(stored[f"{kind}{seed}_network"]) == case.fingerprint(), "renew the stored answers: run ngspice_cases.py"
        return stored[f"{kind}{seed}"]


@pytest.mark.parametrize(("kind", "seed"), [case for case in cases.CASES if case[0] != "transient"])
def test_operating_point(kind, seed):
    case = cases.draw(kind, seed)
    ours = solve_operating_point(
        case.network, case.voltage, case.clamped, shunt=case.shunt, injected=case.injected, state=case.state
    )
    assert ours.message == ""
    theirs = answer(kind, seed, case)
    assert np.abs(ours.voltage - theirs).max() <= 1e-9 * np.abs(theirs).max()


def test_every_law_is_covered():
    names = {
        kind: {group.law.name for k, seed in cases.CASES if k == kind for group in cases.draw(kind, seed).network.groups}
        for kind in ("relaxed", "held", "transient")
    }
    assert names["held"] >= {"conical_channel", "team", "vteam", "yakopcic", "threshold", "hp_linear_drift", "stochastic"}
    assert names["relaxed"] == {"ohmic", "conical_channel", "saturating", "tabulated"}
    assert names["transient"] == names["held"] - {"stochastic"}


@pytest.mark.skipif(not LIVE, reason="ngspice is not installed; the stored answers serve the other tests")
def test_stored_answers_are_those_of_the_installed_ngspice():
    with np.load(cases.STORED) as stored:
        assert {f"{kind}{seed}" for kind, seed in cases.CASES} <= set(stored.files)
        for kind, seed in cases.CASES:
            assert str(stored[f"{kind}{seed}_network"]) == cases.draw(kind, seed).fingerprint()
        case = cases.draw("held", 1)
        np.testing.assert_allclose(stored["held1"], cases.ngspice("held", case), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", [seed for kind, seed in cases.CASES if kind == "transient"])
def test_transient(seed):
    case = cases.draw("transient", seed)
    theirs = answer("transient", seed, case)
    course = simulate(
        case.network,
        np.array([0.0, case.duration / 2]),
        np.array([case.voltage, case.second]),
        case.clamped,
        cases.SAMPLES * case.duration,
        shunt=case.shunt,
        injected=case.injected,
        state=cases.initial_state(case.network),
        tolerance=1e-5,
    )
    assert course.message == ""
    assert np.abs(course.voltage - theirs).max() <= 1e-3 * np.abs(theirs).max()
    # the states did move, or the comparison would say nothing
    assert np.abs(theirs[0] - theirs[3]).max() > 5e-3 * np.abs(theirs).max()


def test_transient_by_a_rule_that_shares_nothing_with_the_solvers():
    case = cases.draw("transient", FLAT)
    theirs = answer("transient", FLAT, case)
    assert np.abs(runge_kutta(case, 100) - theirs).max() <= 1e-3 * np.abs(theirs).max()


def runge_kutta(case: cases.Case, steps: int) -> np.ndarray:
    """Node voltages at the samples by the classical rule on all states, Kirchhoff solved at every stage."""
    network = case.network
    pressure, salt = network.node_array("pressure"), network.node_array("concentration")

    def voltages(states, drive):
        point = solve_operating_point(
            network, drive, case.clamped, shunt=case.shunt, injected=case.injected, state=clipped(states), validity=False
        )
        assert point.message == ""
        return point.voltage

    def clipped(states):
        return [group.law.clip(group.parameters, state) for group, state in zip(network.groups, states, strict=True)]

    def rates(states, drive):
        voltage, found = voltages(states, drive), []
        for group, state in zip(network.groups, clipped(states), strict=True):
            base, tip = network.base[group.edges], network.tip[group.edges]
            at = EdgeDrive(voltage[base] - voltage[tip], pressure[base] - pressure[tip], salt[base], salt[tip])
            if group.law.kind is StateKind.RELAXATION:
                target = group.law.steady_state(group.parameters, at)
                found.append((target - state) / group.law.time_constant(group.parameters, at))
            elif group.law.kind is StateKind.RATE:
                found.append(group.law.state_rate(group.parameters, at, state))
            else:
                found.append(state)
        return found

    def moved(states, step, slopes):
        return [state + step * slope for state, slope in zip(states, slopes, strict=True)]

    states, h = cases.initial_state(network), case.duration / steps
    wanted = {round(sample * steps) for sample in cases.SAMPLES}
    samples = []
    for k in range(steps):
        drive = case.voltage if k < steps // 2 else case.second
        a = rates(states, drive)
        b = rates(moved(states, h / 2, a), drive)
        c = rates(moved(states, h / 2, b), drive)
        d = rates(moved(states, h, c), drive)
        mean = [(w + 2 * x + 2 * y + z) / 6 for w, x, y, z in zip(a, b, c, d, strict=True)]
        states = clipped(moved(states, h, mean))
        if k + 1 in wanted:
            samples.append(voltages(states, drive))
    return np.array(samples)
