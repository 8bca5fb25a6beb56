"""The bench file: what it refuses, and that everything it keeps is SI."""

from pathlib import Path

import pytest

from hil.core.errors import ConfigError
from hil.core.types import Quantity, SafeAction, SafeState
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import Document, read

SHIPPED = Path(__file__).parents[3] / "protocols" / "benches"


def divider(*overrides: str) -> BenchFile:
    document: Document = read(SHIPPED / "divider.yaml")
    for override in overrides:
        path, _, value = override.partition("=")
        document.override(path, value, f"--set bench.{override}")
    return document.model(BenchFile)


def test_everything_is_si() -> None:
    bench = divider()
    pressure = bench.controls["P1"]
    assert pressure.quantity is Quantity.PRESSURE
    assert pressure.limits == (9e4, 1.1e5)
    assert pressure.slew == 5e3
    assert pressure.safe.action is SafeAction.VENT
    assert bench.controls["V1"].compliance == 1e-5
    assert bench.controls["V1"].safe == SafeState(SafeAction.LEVEL, 0.0)
    assert bench.twin.nodes["2"].cable_capacitance == 1e-10
    assert bench.twin.tunable.length == (2e-6, 1e-4)
    assert bench.twin.tunable.concentration == (0.02, 1.0)


def test_parameter_paths_are_split_into_instrument_and_port() -> None:
    bench = divider("outputs.V2.parameter=meter.ch101.volt")
    assert (bench.controls["P1"].instrument, bench.controls["P1"].port) == ("pace1", "a")
    assert bench.outputs["V2"].port == "ch101"
    assert divider().outputs["V2"].port == ""


def test_plant_ideal_is_a_word() -> None:
    assert divider("virtual.plant=ideal").virtual.plant.ideal
    assert not divider().virtual.plant.ideal


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_benches_use_documentation_addresses(path: Path) -> None:
    bench = read(path).model(BenchFile)
    for instrument in bench.station.instruments.values():
        assert "192.0.2." in instrument.address or instrument.address.startswith("ASRL")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("twin.edges.a.base=9", "twin.edges.a.base: there is no node '9'; known: 1, 2, 3"),
        ("twin.edges.a.tip=1", "begins and ends at node '1'"),
        ("twin.edges={}", "at least one edge"),
        (
            "twin.nodes={'1': {ground: true}, '2': {}, '3': {ground: true}}",
            "twin.nodes.3.ground: nodes '1' and '3' are both ground",
        ),
        ("twin.nodes.4={}", "twin.nodes.4: no edge reaches node '4'"),
        ("twin.law.presett=x", "did you mean 'preset'?"),
        ("controls.V1.node=7", "controls.V1.node: there is no node '7'"),
        ("controls.V1.node=3", "is driven by 'V1' already"),
        ("controls.V1.parameter=smi.smua.volt", "there is no instrument 'smi'; did you mean 'smu'?"),
        ("controls.V3.parameter=smu.smua.volt", "is used by 'V1' already"),
        ("controls.V1.parameter=volt", "instrument.port.parameter"),
        ("controls.V1.parameter=smu.smua.foo", "add `quantity:`"),
        ("controls.V1.quantity=voltige", "did you mean 'voltage'?"),
        ("controls.V1.limits=[0 bar, 5 V]", "controls.V1.limits: '0 bar' has the unit bar"),
        ("controls.V1.limits=[5 V, 0 V]", "the first value must be below the second"),
        ("controls.V1.slew=-1 V/s", "must be above 0"),
        ("controls.V1.slew=1 V", "a quantity in V/s is needed"),
        ("controls.V1.compliance=1 V", "a quantity in A is needed"),
        ("controls.V1.safe=9 V", "outside the limits 0 … 5 V"),
        ("controls.V1.safe=vnet", "or one of high_impedance, vent, stop, none"),
        ("controls.V1.dead_time=-1 s", "must be 0 or more"),
        ("outputs.V1={node: '2', parameter: meter.ch102.volt}", "names a control and an output"),
        ("outputs={}", "at least one output"),
        ("edge_limits.z={voltage: 1 V}", "edge_limits.z: there is no edge 'z'"),
        ("virtual.plant.edges.z={}", "virtual.plant.edges.z"),
        ("controls.V1.parameter=smu.smua.vlot", "controls.V1.parameter: 'smu.smua.vlot' ends in 'vlot'; did you mean 'volt'?"),
        ("controls.V1.parameter=smu.smua.xyz", "cannot be told from its name"),
        ("controls.V1.safe=vent", "controls.V1.safe: only a pressure can be vented"),
        ("virtual.plant=idael", "no plant; write `ideal`"),
        ("virtual.instruments.z={}", "virtual.instruments.z"),
        ("simultaneous=[[A, B]]", "there is no replica 'A'"),
        ("format=hil-bench/2", "`format: hil-bench/1` is needed, and this file says 'hil-bench/2'"),
        ("virtual.plant.mismatch=2", "is above 1"),
    ],
)
def test_refused_with_field_and_remedy(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        divider(override)
    assert said in str(caught.value)
    assert str(caught.value).startswith("--set bench.") or "line" in str(caught.value)


@pytest.mark.parametrize(("address", "used"), [("smu_left", "smu_left"), ("ASRL3", "ASRL3"), ("COM3", "ASRL3::INSTR")])
def test_an_alias_of_visa_is_an_address_and_so_is_a_serial_port(address: str, used: str) -> None:
    assert divider(f"station.instruments.smu.address={address}").station.instruments["smu"].address == used


def test_a_source_needs_a_compliance() -> None:
    document = read(SHIPPED / "divider.yaml")
    del document.data["controls"]["V1"]["compliance"]
    with pytest.raises(ConfigError, match=r"controls\.V1\.compliance: a source .* needs a `compliance`, for example '10 uA'"):
        document.model(BenchFile)


def test_a_part_of_the_network_that_nothing_holds_is_refused() -> None:
    nodes = "twin.nodes={'1': {}, '2': {}, '3': {}, '4': {}, '5': {}}"
    with pytest.raises(ConfigError, match=r"'4', '5'.*floats; drive one of them"):
        divider(nodes, "twin.edges.c={base: '4', tip: '5'}")
    divider("twin.nodes={'1': {}, '2': {}, '3': {}, '4': {ground: true}, '5': {}}", "twin.edges.c={base: '4', tip: '5'}")
