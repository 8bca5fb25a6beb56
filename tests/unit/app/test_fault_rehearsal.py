"""Which faults are rehearsed, and how the plant is judged after them."""

from typing import Any

import numpy as np
import pytest

from hil.bench import Target, assemble, shipped_protocols
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import read
from hil.fault_rehearsal import MOMENTS, PATIENCE, beyond, cases, impatient, left_on, lines
from simulated_backend.virtual_bench.faults import FAULTS, LIQUID_FAULTS

BENCHES = sorted((shipped_protocols() / "benches").glob("*.yaml"))


class Door:
    """A plant that was left as the test says."""

    def __init__(
        self,
        voltage: float = 0.0,
        state: str = "vent",
        highest: float = 5.0,
        source: str = "VoltageSource",
        flow: float = 0.0,
        level: float | None = None,
    ) -> None:
        self._level = voltage if level is None else level
        self._voltage, self._state, self._highest, self._source, self._flow = voltage, state, highest, source, flow

    def sources(self) -> Any:
        return {"smu": {"smua": {"source": self._source, "level": self._level, "voltage": self._voltage}}}

    def outlets(self) -> Any:
        return {"pace1": {"a": {"state": self._state, "pressure": 1.05e5}}}

    def flows(self) -> Any:
        return {"pump": {"": {"flow": self._flow}}, "valve": {"": {"position": 4}}}

    def extremes(self) -> Any:
        nodes = {node: [101_325.0, 101_325.0] for node in "123"}
        return {"voltage": {"1": [0.0, self._highest], "2": [0.0, 1.0], "3": [0.0, 0.0]}, "pressure": nodes}


@pytest.mark.parametrize("path", BENCHES, ids=lambda path: path.stem)
def test_every_fault_is_put_on_every_bench_where_there_is_something_for_it(path: Any) -> None:
    bench = read(path).model(BenchFile)
    found = cases(bench, np.random.default_rng(1), 50)
    kinds = set(FAULTS) - ({"stuck", "drift"} if bench.replicas else set()) | (set(LIQUID_FAULTS) if bench.mixers else set())
    assert {(case.fault, case.moment) for case in found} == {(kind, moment) for kind in kinds for moment in MOMENTS}
    for case in found:
        assert case.instrument in bench.station.instruments
        assert (case.at_reading == 0) == (case.moment == "switching on")
        if case.fault in ("stuck", "drift"):
            assert any(control.parameter.startswith(f"{case.instrument}.{case.where}") for control in bench.controls.values())
        if case.fault in ("open", "short"):
            assert case.where in bench.twin.edges


def test_the_same_seed_draws_the_same_faults() -> None:
    bench = read(BENCHES[0]).model(BenchFile)
    one, same, other = (cases(bench, np.random.default_rng(seed), 50) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_an_output_that_is_on_or_a_pressure_that_is_held_is_found() -> None:
    assert left_on(Door()) == []
    assert left_on(Door(voltage=0.5, source="Open")) == []
    assert left_on(Door(voltage=0.5)) == ["smu.smua at 0.5 V"]
    assert left_on(Door(voltage=0.5, level=-3e-4)) == [], "off, and the cable is not yet empty"
    assert left_on(Door(voltage=0.01, level=5.0)) == ["smu.smua at 5 V"], "held down by its current limit"
    assert left_on(Door(voltage=0.5, level=1e-9, source="CurrentSource")) == ["smu.smua at 0.5 V"]
    assert left_on(Door(state="control")) == ["pace1.a at 105000 Pa"]
    assert left_on(Door(flow=1e-9)) == ["pump delivers"]


def test_a_node_outside_its_limits_is_found_whatever_the_program_believes() -> None:
    bench = read(shipped_protocols() / "benches" / "divider.yaml").model(BenchFile)
    with assemble(bench, Target.SIMULATED) as assembled:
        envelope = assembled.backend.envelope
    assert beyond(Door(highest=5.01), bench, envelope) == []
    assert beyond(Door(highest=5.2), bench, envelope) == ["V1: 0 … 5.2 V at its node"]


def test_limits_of_gauge_pressures_count_from_the_air_of_the_plant() -> None:
    document = read(shipped_protocols() / "benches" / "divider.yaml")
    for name in ("P1", "P2", "P3"):
        document.data["controls"][name]["limits"] = ["-0.1 bar", "0.1 bar"]
    document.data["twin"]["pressure"] = "0 Pa"
    document.data["pressure_reference"] = "gauge"
    bench = document.model(BenchFile)
    with assemble(bench, Target.SIMULATED) as assembled:
        envelope = assembled.backend.envelope
    door = Door()
    inside = {"1": [101_325.0 - 9e3, 101_325.0 + 9e3], "2": [101_325.0] * 2, "3": [101_325.0] * 2}
    extremes = door.extremes() | {"pressure": inside}
    door.extremes = lambda: extremes  # type: ignore[method-assign] # this door only
    assert beyond(door, bench, envelope) == []
    inside["1"][0] = 101_325.0 - 11e3
    assert beyond(door, bench, envelope) == ["P1: 90325 … 110325 Pa at its node"]


def test_only_for_the_instrument_that_dies_is_the_program_impatient() -> None:
    bench = read(shipped_protocols() / "benches" / "divider.yaml").model(BenchFile)
    hasty = impatient(bench, "pace1").station.instruments
    assert hasty["pace1"].options == {**bench.station.instruments["pace1"].options, "timeout": PATIENCE}
    assert hasty["pace1"].type == bench.station.instruments["pace1"].type
    assert {name: spec for name, spec in hasty.items() if name != "pace1"} == {
        name: spec for name, spec in bench.station.instruments.items() if name != "pace1"
    }


def test_what_is_not_safe_is_said_loudly() -> None:
    led = {"fault": "stuck", "moment": "measuring", "instrument": "smu", "where": "smua", "end": "paused", "reason": "why"}
    (line,) = lines([{**led, "left_on": ["smu.smua at 1 V"], "beyond": []}])
    assert line == "  fault stuck on smu smua while measuring: paused; LEFT ON: smu.smua at 1 V; why"
