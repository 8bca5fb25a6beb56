"""Golden networks: steady states to 1e-9, courses to 1e-3, for every solver that claims them."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import ngspice
from benchmarks.nets import load
from simulated_backend.solve.compiled import PreparedNetwork
from simulated_backend.solve.operating_point import Status, solve_operating_point
from simulated_backend.solve.transient import simulate

NETS = ("rand6", "rand100", "grid100", "rand1000", "grid1000")
STORED = Path(__file__).parents[2] / "data" / "golden" / "saturating_networks.npz"

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("name", NETS)
def test_operating_point(name: str) -> None:
    net = load(name)
    assert net.v_inf is not None
    voltage = net.voltage.copy()
    PreparedNetwork(net.network, net.clamped).solve_in_place(voltage)
    np.testing.assert_allclose(voltage, net.v_inf, rtol=0, atol=1e-11)
    point = solve_operating_point(net.network, net.voltage, net.clamped)
    assert point.status is Status.CONVERGED
    np.testing.assert_allclose(point.voltage, net.v_inf, rtol=0, atol=1e-10)
    with np.load(STORED) as data:
        np.testing.assert_allclose(voltage, data[f"{name}/ngspice_op"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", NETS)
def test_course_in_time(name: str) -> None:
    net = load(name)
    assert net.v_t is not None
    course = simulate(net.network, [0.0], [net.voltage], net.clamped, net.times, tolerance=1e-3)
    assert course.converged
    np.testing.assert_allclose(course.voltage, net.v_t, rtol=0, atol=5e-4)


@pytest.mark.skipif(not ngspice.available(), reason=ngspice.ABSENT)
@pytest.mark.parametrize("name", ["rand6", "grid100"])
def test_ngspice_live(name: str) -> None:
    net = load(name)
    _, answer = ngspice.run(net, "op", 1)
    voltage = net.voltage.copy()
    PreparedNetwork(net.network, net.clamped).solve_in_place(voltage)
    np.testing.assert_allclose(voltage, answer, rtol=0, atol=2e-9)
    _, end = ngspice.run(net, "tran 0.1 10 uic", 1)
    course = simulate(net.network, [0.0], [net.voltage], net.clamped, [10.0])
    np.testing.assert_allclose(course.voltage[-1], end, rtol=0, atol=1e-3)
