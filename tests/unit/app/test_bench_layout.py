"""From the bench file to channels, networks, wires and plans."""

from pathlib import Path

import numpy as np
import pytest

from hil.bench import Target, assemble
from hil.bench_layout import control_channels, envelope, tunable_channels
from hil.bench_network import node_rest, plant_network, present_values, twin_network
from hil.bench_station import check_packages, setup, virtual_plan
from hil.core.errors import ConfigError, LimitExceededError
from hil.core.types import Kind, Layout, Quantity, SafeAction
from hil.experiment.bench_file import BenchFile
from hil.experiment.fields import FieldError
from hil.experiment.loader import read
from simulated_backend.virtual_bench.plan import BenchPlan, Wire

SHIPPED = Path(__file__).parents[3] / "protocols" / "benches"


def divider(*overrides: str) -> BenchFile:
    document = read(SHIPPED / "divider.yaml")
    for override in overrides:
        path, _, value = override.partition("=")
        document.override(path, value, f"--set bench.{override}")
    return document.model(BenchFile)


def layout(bench: BenchFile, tuned_as: dict[str, str] | None = None) -> Layout:
    network = twin_network(bench)
    rest = node_rest(network)
    wired = control_channels(bench, rest)
    return Layout((*wired, *tunable_channels(bench, present_values(network), rest, tuned_as or {}, wired)))


def test_channels_of_the_divider() -> None:
    channels = layout(divider())
    assert channels.names[:5] == ("V1", "V3", "P1", "P2", "P3")
    assert channels["length.a"].kind is Kind.TUNE
    assert channels["length.a"].safe.value == 1e-5
    assert channels["radius_ratio.b"].safe.value == 4.0
    assert channels["radius_ratio.b"].parameter == "radius_ratio_fixed_base"
    assert channels["concentration.2"].safe.value == 0.2
    assert channels["P2"].safe.action is SafeAction.VENT
    assert channels["P2"].safe.value == 1e5


def test_a_wired_quantity_is_not_tunable_at_its_node() -> None:
    bench = divider("twin.tunable.pressure=[0.5 bar, 2 bar]")
    assert not [name for name in layout(bench).names if name.startswith("pressure.")]


def test_the_protocol_may_choose_the_radius_that_stays() -> None:
    channels = layout(divider(), {"radius_ratio": "radius_ratio_fixed_tip"})
    assert channels["radius_ratio.a"].parameter == "radius_ratio_fixed_tip"
    assert layout(divider("twin.fixed_radius=tip"))["radius_ratio.a"].parameter == "radius_ratio_fixed_tip"


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("twin.tunable.length=[20 um, 30 um]", "twin.tunable.length"),
        ("twin.law={name: ohmic, parameters: {conductance: 1 uS}}", "twin.tunable.length"),
        ("twin.law={name: conical_chanel}", "twin.law"),
        ("twin.law.preset=leter", "twin.law"),
        ("twin.law.parameters={lenght: 1 um}", "twin.law.parameters.lenght"),
        ("twin.law.parameters={length: 1 V}", "twin.law.parameters.length"),
        ("controls.P1.limits=[2 bar, 3 bar]", "controls.P1.limits"),
    ],
)
def test_what_only_the_law_can_judge_is_an_error_with_a_field(override: str, field: str) -> None:
    with pytest.raises(FieldError) as caught:
        layout(divider(override))
    assert caught.value.field == field


def test_law_parameters_are_read_in_the_unit_of_the_law() -> None:
    network = twin_network(divider("twin.edges.a.parameters={length: 20 um}", "twin.edges.b.parallel=10"))
    values = present_values(network)
    assert values["a"]["length"] == 2e-5
    assert values["b"]["length"] == 1e-5
    assert list(network.parallel) == [20000.0, 10.0]


def test_the_plant_differs_from_the_twin_only_where_the_file_says_so() -> None:
    bench = divider("virtual.plant={edges: {a: {parameters: {length: 12 um}}}, nodes: {'2': {cable_capacitance: 1 nF}}}")
    twin, plant = twin_network(bench), plant_network(bench, 1)
    assert present_values(twin)["a"]["length"] == 1e-5
    assert present_values(plant)["a"]["length"] == 1.2e-5
    assert plant.nodes[1].capacitance == 1e-9
    assert twin.nodes[1].capacitance == 1e-10


GAUGE = (
    "pressure_reference=gauge",
    "twin.pressure=0 Pa",
    *(f"controls.P{number}.limits=[-0.1 bar, 0.1 bar]" for number in (1, 2, 3)),
)


def test_the_plant_of_a_gauge_bench_is_under_air() -> None:
    bench = divider(*GAUGE)
    assert list(twin_network(bench).node_array("pressure")) == [0.0, 0.0, 0.0]
    assert list(plant_network(bench, 1).node_array("pressure")) == [101_325.0] * 3
    assert list(plant_network(divider(), 1).node_array("pressure")) == [1e5] * 3
    assert BenchPlan.__dataclass_fields__["atmosphere"].default == 101_325.0


def test_mismatch_is_drawn_from_the_seed() -> None:
    bench = divider("virtual.plant.mismatch=0.02")
    one, again, other = (plant_network(bench, seed).parallel / 20000.0 for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    many = np.concatenate([plant_network(bench, seed).parallel / 20000.0 - 1.0 for seed in range(300)])
    assert abs(np.std(many) - 0.02) < 0.002
    np.testing.assert_array_equal(plant_network(divider(), 3).parallel, [20000.0, 20000.0])


def test_edge_limits_hold_between_the_ends_of_an_edge() -> None:
    bench = divider("edge_limits={a: {pressure: 20 mbar}}")
    channels = layout(bench)
    limits = envelope(bench, channels)
    values = channels.array("maximum") * 0 + [channel.safe.value for channel in channels]
    values[channels.index("P1")] += 2000.0
    limits.check(values)
    values[channels.index("P2")] -= 1.0
    with pytest.raises(LimitExceededError, match="edge 'a'"):
        limits.check(values)


@pytest.mark.parametrize("override", ["edge_limits={a: {voltage: 1 V}}", "edge_limits={a: {pressure: 0 Pa}}"])
def test_edge_limits_that_could_not_be_checked_are_refused(override: str) -> None:
    bench = divider(override)
    with pytest.raises(FieldError) as caught:
        envelope(bench, layout(bench))
    assert caught.value.field.startswith("edge_limits.a.")


def test_setup_is_read_in_the_unit_of_each_setting() -> None:
    bench = divider("outputs.V2.setup={range: 200 mV, nplc: 5}", "controls.P1.setup={in_limits: 0.05 mbar}")
    assert setup(bench.outputs["V2"], "outputs.V2.setup") == {"range": 0.2, "nplc": 5.0}
    assert setup(bench.controls["P1"], "controls.P1.setup") == {"in_limits": 5.0}
    with pytest.raises(FieldError, match="did you mean 'nplc'") as caught:
        setup(divider("outputs.V2.setup={nplcs: 1}").outputs["V2"], "outputs.V2.setup")
    assert caught.value.field == "outputs.V2.setup.nplcs"
    with pytest.raises(FieldError, match="a quantity in V"):
        setup(divider("outputs.V2.setup={range: 1 A}").outputs["V2"], "outputs.V2.setup")


def test_the_plan_of_the_virtual_bench_is_json_and_complete() -> None:
    plan = virtual_plan(divider("virtual.plant=ideal"), 7)
    assert BenchPlan.from_json(plan.to_json()).to_json() == plan.to_json()
    assert {instrument.model for instrument in plan.instruments} == {"Keithley2602B", "KeithleyDAQ6510", "DruckPACE6000"}
    assert Wire("pace1", "b", "2") in plan.wires
    assert Wire("meter", "", "2") in plan.wires
    assert plan.ideal
    assert plan.seed == 7


def test_another_projects_instruments_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys
    import types

    foreign = types.ModuleType("instruments")
    foreign.__file__ = str(tmp_path / "instruments" / "__init__.py")
    monkeypatch.setitem(sys.modules, "instruments", foreign)
    with pytest.raises(ConfigError, match="InstrumentKit") as caught:
        check_packages()
    assert foreign.__file__ in str(caught.value)


def test_simulated_backend_has_the_wired_and_the_tunable_controls() -> None:
    with assemble(divider(), Target.SIMULATED, name="divider") as assembled:
        controls = assembled.backend.capabilities.controls
        assert len(controls.of(Quantity.PRESSURE)) == 3
        assert len(controls.of(Quantity.LENGTH)) == 2
        assert assembled.backend.envelope.layout.names == controls.names
