"""The crossbar solver against the general solver on the same wires, in every corner of its wiring."""

import numpy as np
import pytest

from hil.core.errors import ConfigError, NotConvergedError
from simulated_backend.crossbar import Crossbar
from simulated_backend.devices.registry import law
from simulated_backend.solve.operating_point import solve_operating_point


def cells(n: int, m: int, seed: int = 0) -> np.ndarray:
    return 1.0 / np.random.default_rng(seed).uniform(1e3, 1e5, (n, m))


def by_network(crossbar: Crossbar, v: np.ndarray, device: str = "ohmic") -> np.ndarray:
    net = crossbar.network(law(device))
    clamped = np.zeros(net.n_nodes, dtype=bool)
    voltage = np.zeros(net.n_nodes)
    clamped[net.node_index["gnd"]] = True
    for i, value in enumerate(v):
        clamped[net.node_index[f"s{i}"]], voltage[net.node_index[f"s{i}"]] = True, value
    point = solve_operating_point(net, voltage, clamped)
    last = crossbar.shape[0] - 1
    return np.array([point.current[net.edge_index[f"B{last}.{j}"]] for j in range(crossbar.shape[1])])


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (6, 1), (7, 4), (4, 9)])
@pytest.mark.parametrize("wires", [(1.0, 1.0, 0.0, 0.0), (20.0, 3.0, 50.0, 10.0)])
def test_equals_the_general_solver(shape: tuple[int, int], wires: tuple[float, float, float, float]) -> None:
    crossbar = Crossbar(cells(*shape), *wires)
    v = np.linspace(0.2, 1.0, shape[0])
    np.testing.assert_allclose(crossbar.solve(v).output[0], by_network(crossbar, v), rtol=1e-9)


def test_ideal_lines_are_a_matrix_product() -> None:
    g = cells(5, 3)
    v = np.random.default_rng(1).standard_normal((4, 5))
    np.testing.assert_allclose(Crossbar(g, 0.0, 0.0).solve(v).output, v @ g, rtol=1e-12)


@pytest.mark.parametrize("ideal", ["word_segment", "bit_segment"])
def test_one_ideal_side_is_the_limit_of_a_small_resistance(ideal: str) -> None:
    g, v = cells(6, 5), np.linspace(0.0, 1.0, 6)
    exact = Crossbar(g, **{"word_segment": 2.0, "bit_segment": 2.0, ideal: 0.0}).solve(v).output
    near = Crossbar(g, **{"word_segment": 2.0, "bit_segment": 2.0, ideal: 1e-5}).solve(v).output
    np.testing.assert_allclose(near, exact, rtol=1e-5)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_many_inputs_go_through_the_transfer_matrix(shape: tuple[int, int]) -> None:
    crossbar = Crossbar(cells(*shape), 5.0, 7.0, 11.0, 13.0)
    v = np.random.default_rng(2).standard_normal((30, shape[0]))
    np.testing.assert_allclose(crossbar.currents(v), crossbar.solve(v).output, rtol=0, atol=1e-12)


def test_nonlinear_cells_by_newton() -> None:
    crossbar = Crossbar(cells(4, 3), 10.0, 10.0)
    v = np.array([1.0, -0.5, 0.3, 2.0])

    def saturating(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        bend = np.tanh(u)
        level = crossbar.cells * (1.0 + 0.5 * bend)
        return level * u, level + crossbar.cells * 0.5 * u * (1.0 - bend**2)

    np.testing.assert_allclose(
        crossbar.solve_nonlinear(v, saturating).output[0], by_network(crossbar, v, "saturating"), rtol=1e-8
    )


def test_cells_that_never_balance_are_an_error() -> None:
    crossbar = Crossbar(cells(3, 3), 1e3, 1e3)
    with pytest.raises(NotConvergedError):
        crossbar.solve_nonlinear(np.ones(3), lambda u: (np.sign(u) * 1e-3 + 1e-3 * np.sin(1e6 * u), np.full(u.shape, 1e-6)))


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (np.array([[1e-3, -1e-3]]), {}, "cell \\(0, 1\\)"),
        (np.array([1e-3]), {}, "table"),
        (np.array([[np.nan]]), {}, "finite"),
        (np.ones((2, 2)), {"word_segment": -1.0}, "word_segment"),
        (np.ones((2, 2)), {"word_segment": 0.0, "source_resistance": 1.0}, "source_resistance"),
    ],
)
def test_bad_crossbars_are_refused(table: np.ndarray, options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Crossbar(table, **options)


def test_bad_inputs_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 word lines"):
        Crossbar(np.ones((2, 2))).solve([1.0, 2.0, 3.0])
    with pytest.raises(ConfigError, match="finite"):
        Crossbar(np.ones((2, 2))).solve([1.0, np.nan])
