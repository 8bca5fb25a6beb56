"""What the kill benchmark counts as a limit that was exceeded."""

from pathlib import Path

import pytest

from benchmarks.kill_scenes import EDGE_LIMIT, VOLTAGE_LIMIT, Scene
from benchmarks.sigkill import EDGE_TOLERANCE, UNCALIBRATED, VOLTAGE_TOLERANCE, Verdict, largest, report


def verdict(pascal: float, volt: float, *, led: bool = False) -> Verdict:
    scene = Scene("bench", Path(), None, [], 0.0, led=frozenset({"mensor"}) if led else frozenset())
    return Verdict(scene, True, False, 0.01, 0.02, 0.0, True, {"a": pascal, "b": 0.0}, {"c": volt})


@pytest.mark.parametrize(
    ("pascal", "volt", "led", "exceeded"),
    [
        (EDGE_LIMIT + EDGE_TOLERANCE, VOLTAGE_LIMIT + VOLTAGE_TOLERANCE, False, 0),
        (EDGE_LIMIT + EDGE_TOLERANCE + 1.0, 0.0, False, 1),
        (EDGE_LIMIT + UNCALIBRATED, 0.0, True, 0),
        (0.0, VOLTAGE_LIMIT + VOLTAGE_TOLERANCE + 0.01, False, 1),
        (EDGE_LIMIT + EDGE_TOLERANCE + 1.0, VOLTAGE_LIMIT + VOLTAGE_TOLERANCE + 0.01, False, 2),
    ],
)
def test_differences_of_pressure_and_of_voltage_count(pascal: float, volt: float, led: bool, exceeded: int) -> None:
    found = report([verdict(0.0, 0.0), verdict(pascal, volt, led=led)], [(1, 0)])
    assert found["limits_exceeded"] == exceeded
    assert found["largest_difference_Pa"] == {"bench.a": round(pascal, 1), "bench.b": 0.0}
    assert found["largest_difference_V"] == {"bench.c": round(volt, 3)}


def test_a_difference_counts_either_way_round() -> None:
    assert largest({"a": [-3.0, 1.0], "b": [0.0, 2.0], "c": [0.0, 9.0]}, {"a", "b"}) == {"a": 3.0, "b": 2.0}
