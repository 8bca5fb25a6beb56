"""The way to the safe state keeps the limits of differences, whatever the safe states are; judged in the plant."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from hil.bench import Target, assemble, shipped_protocols
from hil.core.backend import Backend
from hil.core.errors import ConfigError
from hil.core.types import SettlePolicy, Stimulus
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import find, read

Change = Callable[[dict[str, Any]], None]
SOON = SettlePolicy(tolerance=1e-3, window=0.02, timeout=60.0)
ACCURACY = {"pressure": 150.0, "voltage": 0.02}
"""Pa, V: what sources and controllers may be off by their data sheets."""


def bench(change: Change) -> BenchFile:
    document = read(find("divider", None, shipped_protocols() / "benches", "bench file"))
    change(document.data)
    return document.model(BenchFile)


def largest(change: Change, path: Sequence[Mapping[str, float]], quantity: str) -> dict[str, float]:
    """Largest difference across every edge while ``path`` is applied step by step and the bench is then left."""
    with assemble(bench(change), Target.VIRTUAL) as assembled:
        controls = assembled.backend.capabilities.controls
        with assembled.backend as backend:
            for step in path:
                values = np.array([step.get(channel.name, channel.safe.value) for channel in controls])
                backend.apply(Stimulus(values, np.ones(len(controls), dtype=np.bool_)))
                assert backend.settle(SOON).settled
        found = assembled.virtual.side_door.extremes()[f"{quantity}_difference"]
    return {edge: max(abs(low), abs(high)) for edge, (low, high) in found.items()}


def pressures(*safe: str) -> Change:
    def change(data: dict[str, Any]) -> None:
        for name, word in zip(("P1", "P2", "P3"), safe, strict=True):
            data["controls"][name]["safe"] = word
        data["edge_limits"] = {edge: {"pressure": "20 mbar"} for edge in ("a", "b")}

    return change


def voltages(safe_1: str, safe_3: str, order: object = ()) -> Change:
    """Two sources with a device between them that stands 1 V; no pressures."""

    def change(data: dict[str, Any]) -> None:
        data["twin"]["edges"]["c"] = {"base": "1", "tip": "3"}
        data["edge_limits"] = {"c": {"voltage": "1 V"}}
        data["controls"] = {name: data["controls"][name] for name in ("V1", "V3")}
        data["controls"]["V1"]["safe"], data["controls"]["V3"]["safe"] = safe_1, safe_3
        del data["station"]["instruments"]["pace1"], data["station"]["instruments"]["pace2"]
        data["ramp_order"] = order

    return change


@pytest.mark.parametrize(
    "safe",
    [
        pytest.param(("vent", "vent", "vent"), id="all vent"),
        pytest.param(("0.95 bar", "0.96 bar", "0.95 bar"), id="each holds a level"),
        pytest.param(("vent", "1.01 bar", "vent"), id="one holds a level between two that vent"),
    ],
)
def test_linked_pressures_leave_together(safe: tuple[str, ...]) -> None:
    worst = largest(pressures(*safe), [{"P1": 1.08e5, "P2": 1.09e5, "P3": 1.08e5}], "pressure")
    assert 900.0 < max(worst.values()) < 2000.0 + ACCURACY["pressure"]


@pytest.mark.parametrize("safe", [("0 V", "0 V"), ("0 V", "high_impedance"), ("high_impedance", "0 V")])
def test_linked_voltages_leave_together(safe: tuple[str, str]) -> None:
    steps = [{"V1": level, "V3": level} for level in (0.9, 1.8, 2.7, 3.6)]
    assert largest(voltages(*safe), steps, "voltage")["c"] < 1.0 + ACCURACY["voltage"]


def apply(backend: Backend, values: Sequence[float], connected: Sequence[bool] | None = None) -> None:
    backend.apply(Stimulus(np.array(values), np.ones(len(values), dtype=np.bool_) if connected is None else np.array(connected)))
    assert backend.settle(SOON).settled


def test_a_source_that_was_disconnected_comes_back_near_its_neighbour() -> None:
    with assemble(bench(voltages("0 V", "0 V")), Target.VIRTUAL) as assembled, assembled.backend as backend:
        for level in (0.9, 1.8, 2.7, 3.6):
            apply(backend, [level, level])
        apply(backend, [3.6, 3.6], [True, False])
        apply(backend, [3.6, 3.6])
        low, high = assembled.virtual.side_door.extremes()["voltage_difference"]["c"]
    assert max(abs(low), abs(high)) < 1.0 + ACCURACY["voltage"]


def test_pressures_that_a_dead_program_left_come_home_together(monkeypatch: pytest.MonkeyPatch) -> None:
    with assemble(bench(pressures("1 bar", "1 bar", "1 bar")), Target.VIRTUAL) as assembled:
        backend, up = assembled.backend, [0.0, 0.0, 1.08e5, 1.09e5, 1.08e5]
        backend.open()
        assert backend.capabilities.controls.names == ("V1", "V3", "P1", "P2", "P3")
        apply(backend, up)
        with monkeypatch.context() as dead:
            dead.setattr("instruments.safe_state.WayHome.go", lambda self, drives: None)
            backend.close()
        assert assembled.virtual.side_door.outlets()["pace1"]["a"]["state"] == "control"
        with backend:
            apply(backend, [0.0, 0.0, 1e5, 1e5, 1e5])
        found = assembled.virtual.side_door.extremes()["pressure_difference"]
    assert max(abs(value) for span in found.values() for value in span) < 2000.0 + ACCURACY["pressure"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (pressures("vent", "1.05 bar", "vent"), "in the safe state 5000 Pa stand between 'P1' and 'P2', more than 2000 Pa"),
        (pressures("vent", "none", "vent"), "'P2' stays where it is"),
        (voltages("0 V", "4 V"), "in the safe state 4 V stand between 'V1' and 'V3', more than 1 V"),
        (voltages("0 V", "0 V", ["V1", "V3"]), "ramp_order takes 'V1', 'V3' apart"),
    ],
)
def test_safe_states_that_break_a_limit_are_refused(change: Change, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint), assemble(bench(change), Target.VIRTUAL):
        pass
