"""Networks that cannot be, through the bench file and through Python: a clear error each, never a wrong number."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hil.cli import app
from hil.core.errors import ConfigError, HilError, LimitExceededError
from hil.core.safety import SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, SettlePolicy, Stimulus
from simulated_backend.backend import SimulatedBackend
from simulated_backend.controls import ControlMap
from simulated_backend.devices.registry import law
from simulated_backend.network import Edge, Network, Node
from simulated_backend.solve.compiled import PreparedNetwork
from simulated_backend.solve.copies import Copies
from simulated_backend.solve.operating_point import Status, solve_operating_point
from simulated_backend.solve.transient import simulate

OHM = law("ohmic")
LAW = "bench.twin.law"


def refused(data: Path, protocol: str, *sets: str) -> str:
    arguments = [item for one in sets for item in ("--set", one)]
    done = CliRunner().invoke(app, ["run", protocol, "--json", "--data", str(data), *arguments])
    assert done.exit_code in (2, 4), done.output
    assert len(done.stderr.splitlines()) == 1, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["outcome"] == "failed"
    assert summary["relaxations"] == 0
    return done.stderr


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ((f"{LAW}.parameters={{length: -10 um}}",), ("edge 'a'", "length = -1e-05 m", "outside")),
        ((f"{LAW}.parameters={{length: nan m}}",), ("twin.law.parameters.length", "not a finite")),
        ((f"{LAW}.parameters={{length: inf m}}",), ("twin.law.parameters.length", "not a finite")),
        ((f"{LAW}={{name: ohmic, parameters: {{conductance: 0 S}}}}",), ("conductance", "outside")),
        ((f"{LAW}={{name: ohmic, parameters: {{conductance: -1 uS}}}}",), ("conductance", "outside")),
        ((f"{LAW}.parallel=0",), ("twin.law.parallel", "above 0")),
        ((f"{LAW}={{name: vteam, parameters: {{R_on: 100 kohm, R_off: 1 kohm}}}}",), ("R_on",)),
        (
            (
                "bench.twin.nodes={'1': {}, '2': {}, '3': {}, '4': {}, '5': {}}",
                "bench.twin.edges.c={base: '4', tip: '5'}",
            ),
            ("'4', '5'", "potential floats"),
        ),
        (("bench.controls.V3.node='1'",), ("controls.V3.node", "node '1' is driven by 'V1' already")),
        (("bench.twin.edges.a={base: '1', tip: '1'}",), ("begins and ends",)),
    ],
    ids=["negative length", "nan", "infinite", "zero conductance", "negative conductance", "none in parallel", "R_on above R_off",
         "floating part", "two sources", "loop"],
)  # fmt: skip
def test_refused_by_the_bench_file(tmp_path: Path, sets: tuple[str, ...], said: tuple[str, ...]) -> None:
    told = refused(tmp_path, "voltage_divider", *sets)
    for part in said:
        assert part in told


def test_the_same_law_is_refused_whatever_its_states(tmp_path: Path) -> None:
    for name in ("hp_linear_drift", "stochastic", "threshold"):
        told = refused(tmp_path / name, "pulses", f"{LAW}={{name: {name}, parameters: {{R_on: 20 kohm, R_off: 10 kohm}}}}")
        assert "R_on" in told, name


def build(*edges: Edge, nodes: int = 3, ground: bool = True) -> Network:
    return Network.build([Node(str(k), ground=ground and k == 0) for k in range(nodes)], list(edges))


def line(conductance: float = 1e-3) -> Network:
    return build(Edge("a", "0", "1", OHM, {"conductance": conductance}), Edge("b", "1", "2", OHM, {"conductance": conductance}))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("conical_channel", {"length": -1e-5}),
        ("conical_channel", {"length": float("nan")}),
        ("conical_channel", {"length": 0.0}),
        ("conical_channel", {"base_radius": -1e-7}),
        ("ohmic", {"conductance": 0.0}),
        ("ohmic", {"conductance": float("nan")}),
        ("ohmic", {"conductance": float("inf")}),
        ("saturating", {"conductance": 1e-3, "time_constant": 0.0}),
        ("hp_linear_drift", {"R_on": 2e4, "R_off": 1e4}),
        ("threshold", {"R_on": 2e4, "R_off": 1e4}),
        ("team", {"R_on": 2e4, "R_off": 1e4}),
        ("vteam", {"R_on": 2e4, "R_off": 1e4}),
        ("stochastic", {"R_on": 2e4, "R_off": 1e4}),
    ],
)
def test_impossible_devices_are_refused_in_python(name: str, parameters: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as refusal:
        build(Edge("a", "0", "1", law(name), parameters), nodes=2)
    assert any(key in str(refusal.value) for key in parameters)


def test_every_law_refuses_nan_in_every_parameter() -> None:
    from simulated_backend.devices import registry

    checked = 0
    for name in registry.names():
        try:
            device = law(name)
        except ConfigError:  # a law whose curve or inner law has to be given
            continue
        needed = {key: 1.0 for key in device.parameters if device.default(key) is None}
        for parameter in device.parameters:
            with pytest.raises(ConfigError, match=rf"{parameter} = nan .*outside"):
                build(Edge("a", "0", "1", device, {**needed, parameter: float("nan")}), nodes=2)
            checked += 1
    assert checked > 50


def test_a_floating_part_is_named_by_every_solver() -> None:
    network = build(Edge("a", "0", "1", OHM, {"conductance": 1e-3}), Edge("b", "2", "3", OHM, {"conductance": 1e-3}), nodes=4)
    clamped = np.array([True, True, False, False])
    voltage = np.array([0.0, 1.0, 0.0, 0.0])
    for attempt in (
        lambda: solve_operating_point(network, voltage, clamped),
        lambda: PreparedNetwork(network, clamped).solve(voltage),
        lambda: simulate(network, [0.0], [voltage], clamped, [1.0]),
        lambda: Copies(network, clamped).steady(voltage),
    ):
        with pytest.raises(ConfigError, match="'2', '3' float"):
            attempt()


def test_a_network_of_inputs_alone_is_no_problem() -> None:
    point = solve_operating_point(line(), [0.0, 1.0, 3.0], [True, True, True])
    assert point.status is Status.CONVERGED
    np.testing.assert_array_equal(point.voltage, [0.0, 1.0, 3.0])
    np.testing.assert_allclose(point.terminal_current, [-1e-3, 1e-3 - 2e-3, 2e-3], rtol=1e-12)
    course = simulate(line(), [0.0], [[0.0, 1.0, 3.0]], [True, True, True], [1.0])
    np.testing.assert_array_equal(course.voltage[-1], [0.0, 1.0, 3.0])


def test_two_sources_on_a_node_are_refused_for_every_quantity() -> None:
    for quantity in (Quantity.VOLTAGE, Quantity.PRESSURE, Quantity.CONCENTRATION):
        controls = Layout(tuple(Channel(name, quantity, Kind.DRIVE, 0.0, 1.0, node="1") for name in ("one", "two")))
        with pytest.raises(ConfigError, match="'one' and 'two' both set"):
            ControlMap(line(), controls, Layout(()))


def test_a_source_on_the_ground_is_refused() -> None:
    controls = Layout((Channel("V", Quantity.VOLTAGE, Kind.DRIVE, 0.0, 1.0, node="0"),))
    with pytest.raises(ConfigError, match="the ground"):
        ControlMap(line(), controls, Layout(()))


def test_a_time_step_that_blows_up_is_refused() -> None:
    device = law("saturating")
    network = build(*(Edge(n, b, t, device, {"conductance": 1e-3}) for n, b, t in (("a", "0", "1"), ("b", "1", "2"))))
    copies = Copies(network, np.array([True, False, True]))
    with pytest.raises(ConfigError, match="step"):
        copies.relax(np.array([0.0, 0.0, 1.0]), 3.0, 10)
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="step"):
            simulate(network, [0.0], [[0.0, 0.0, 1.0]], [True, False, True], [1.0], max_step=bad)


def backend(network: Network) -> SimulatedBackend:
    controls = Layout((Channel("V", Quantity.VOLTAGE, Kind.DRIVE, -5.0, 5.0, node="2"),))
    outputs = Layout((Channel("V1", Quantity.VOLTAGE, Kind.SENSE, node="1"),))
    envelope = SafetyEnvelope(controls, *(controls.array(name) for name in ("minimum", "maximum", "max_slew")))
    return SimulatedBackend(network, controls, outputs, envelope)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 6.0])
def test_nonsense_never_reaches_the_network(value: float) -> None:
    with backend(line()) as opened:
        with pytest.raises(LimitExceededError, match="'V'"):
            opened.apply(Stimulus.of([value]))
        with pytest.raises(HilError):
            opened.read()


def test_nobody_drives_a_network_without_ground() -> None:
    network = build(
        Edge("a", "0", "1", OHM, {"conductance": 1e-3}), Edge("b", "1", "2", OHM, {"conductance": 1e-3}), ground=False
    )
    with backend(network) as opened, pytest.raises(ConfigError, match="float: no node is driven or grounded"):
        opened.measure([Stimulus.of([1.0], [False])], SettlePolicy())
