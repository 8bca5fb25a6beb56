"""The way to the safe state keeps the limits of differences, whatever the safe states are; judged in the plant."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from hil.bench import Target, assemble, shipped_protocols
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
