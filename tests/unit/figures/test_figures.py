"""Figures from plain arrays: they hold what they were given, refuse what does not fit, and leave no global state."""

import sys

import numpy as np
import pytest

from hil.core.errors import ConfigError, RecordError
from hil.figures import curves, loops, network, style, transient

V = np.linspace(-1, 1, 21)
EDGES = [("a", "1", "2"), ("b", "2", "3"), ("c", "3", "2")]


def lines(axes):
    return [line for line in axes.get_lines() if len(line.get_xdata()) > 2]


def test_network_drawing(tmp_path):
    made = network.draw_network(
        ["1", "2", "3"],
        EDGES,
        conductance={"a": 8.4e-12, "b": 2e-12, "c": 0.0},
        voltage={"2": 2.5},
        sources={"1": "V1"},
        readers={"2": "V2"},
        ground="3",
        title="divider",
    )
    axes = made.axes[0]
    said = {text.get_text() for text in axes.texts}
    assert {"1", "2", "3", "V1", "ground", "V2\n2.5 V", "a  8.4 pS", "b  2 pS", "c  0 S"} <= said
    assert len(axes.patches) == 3
    for name, base, tip in EDGES:
        wedge = next(patch for patch, edge in zip(axes.patches, EDGES, strict=True) if edge[0] == name).get_xy()
        wide, narrow = np.linalg.norm(wedge[0] - wedge[1]), np.linalg.norm(wedge[2] - wedge[3])
        assert wide > 2 * narrow, (base, tip)
    written = style.save(made, tmp_path / "deep" / "network.png")
    assert written.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert style.save(made, tmp_path / "network.svg").stat().st_size > 1000


def test_wedges_point_from_base_to_tip():
    places = {"1": (0.0, 0.0), "2": (4.0, 0.0)}
    for base, tip, sign in (("1", "2", 1), ("2", "1", -1)):
        axes = network.draw_network(["1", "2"], [("e", base, tip)], positions=places).axes[0]
        corners = axes.patches[0].get_xy()
        assert sign * (corners[2][0] - corners[0][0]) > 0


def test_layout_keeps_nodes_apart_and_sides_in_place():
    rng = np.random.default_rng(0)
    nodes = [str(k) for k in range(9)]
    edges = [(f"e{k}", str(rng.integers(k)), str(k)) for k in range(1, 9)] + [("x", "0", "8"), ("y", "2", "7")]
    places = network.layout(nodes, edges, ["0", "1"], ["8"])
    xy = np.array([places[node] for node in nodes])
    gaps = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1)) + 10 * np.eye(9)
    assert gaps.min() > 0.3
    assert places["8"][0] > places["0"][0]
    assert network.layout(nodes, edges, ["0", "1"], ["8"]) == places
    assert len(network.layout(["a", "b"], [("e", "a", "b")], [], [])) == 2


def test_a_large_network_is_drawn_without_labels():
    nodes = [str(k) for k in range(60)]
    edges = [(f"e{k}", str(k), str((k + 1) % 60)) for k in range(60)]
    axes = network.draw_network(nodes, edges, sources={"0": "V0"}).axes[0]
    assert not axes.texts
    assert len(axes.patches) == 60


def test_loops_have_one_panel_each_in_readable_units():
    t = np.linspace(0, 6 * np.pi, 301)
    made = loops.pinched_loops(
        {"hp_drift": (np.sin(t), 3e-6 * np.sin(t) * (1 + 0.3 * np.cos(t))), "cone": (np.sin(t), 1e-12 * np.sin(t))}
    )
    shown = [axes for axes in made.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == ["hp drift", "cone"]
    assert [axes.get_ylabel() for axes in shown] == ["I (µA)", "I (pA)"]
    drawn = np.concatenate([line.get_ydata() for line in lines(shown[0])])
    assert drawn.max() == pytest.approx(3.0, rel=0.1)


def test_curves():
    g = 8e-12 * (1 - 0.4 * np.tanh(V))
    relative = curves.steady_conductance({"one": (V, g), "two": (V, 2 * g)}, rest={"one": 8e-12, "two": 16e-12}).axes[0]
    np.testing.assert_allclose(lines(relative)[0].get_ydata(), 1 - 0.4 * np.tanh(V))
    np.testing.assert_allclose(lines(relative)[1].get_ydata(), 1 - 0.4 * np.tanh(V))
    absolute = curves.steady_conductance({"one": (V, g)}).axes[0]
    assert absolute.get_ylabel() == "g∞ (pS)"
    both = curves.current_voltage({"law": (V, g * V)}, points={"measured": (V, g * V, 1e-13 * np.ones(21))}).axes[0]
    assert [text.get_text() for text in both.get_legend().get_texts()] == ["law", "measured"]
    pair = curves.activation(V, np.tanh(V), 1 - np.tanh(V) ** 2, title="tanh")
    assert [axes.get_ylabel() for axes in pair.axes] == ["activation", "slope (per V)"]


def test_transient_and_training():
    t = np.linspace(0, 0.02, 50)
    made = transient.transient(
        t,
        {"drive": {"V1": np.sign(0.01 - t)}, "outputs": {"V2": 0.3 * t, "V3": 0.1 * t}},
        units={"drive": "V", "outputs": "V"},
        steps=["drive"],
    )
    assert made.axes[-1].get_xlabel() == "time (ms)"
    assert made.axes[1].get_ylabel() == "outputs (mV)"
    np.testing.assert_allclose(lines(made.axes[1])[0].get_ydata(), 300 * t)
    assert lines(made.axes[0])[0].get_drawstyle() == "steps-post"
    loss = np.array([1.0, 1e-2, 0.0])
    figure = transient.training(loss, {"V2": np.array([2.5, 3.9, 4.0])}, {"V2": 4.0}, weights={"P1": np.ones(3)}, loss_floor=1e-6)
    assert figure.axes[0].get_yscale() == "log"
    assert np.isnan(lines(figure.axes[0])[0].get_ydata()[2])
    assert any(line.get_linestyle() == "--" and line.get_ydata()[0] == 4.0 for line in figure.axes[1].get_lines())
    assert len(figure.axes) == 3
    assert len(transient.training(np.zeros(1), {}, {}).axes) == 2


def test_what_does_not_fit_is_refused(tmp_path):
    for draw in (
        lambda: network.draw_network(["1"], [("e", "1", "2")]),
        lambda: loops.pinched_loops({}),
        lambda: loops.pinched_loops({"a": (V, V[1:])}),
        lambda: curves.steady_conductance({}),
        lambda: curves.current_voltage({"a": (V, V[1:])}),
        lambda: transient.transient(V, {}),
        lambda: transient.transient(V, {"p": {"x": V[1:]}}),
        lambda: transient.training(np.array([]), {}, {}),
        lambda: transient.training(np.ones(3), {"V2": np.ones(2)}, {}),
    ):
        with pytest.raises(ConfigError):
            draw()
    with pytest.raises(RecordError, match="cannot be written"):
        style.save(style.figure(), tmp_path / "figure.docx")


@pytest.mark.parametrize(
    ("value", "text"),
    [(8.4e-12, "8.4 pS"), (0.0, "0 S"), (-2.5e-3, "-2.5 mS"), (1e-18, "0.001 fS"), (1.0, "1 S"), (999.99e-9, "1 µS")],
)
def test_si_numbers(value, text):
    assert style.si(value, "S") == text


def test_no_global_state():
    style.figure()
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
