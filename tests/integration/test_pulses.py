"""Pulse trains end to end: the simulated network and the virtual bench leave the same resistance; what cannot be played."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.bench import Target
from hil.prepared import Request
from hil.run import run

SHARP = ("bench.virtual.plant=ideal", "bench.outputs.I.setup={range: 100 uA, nplc: 0.01}")


def pulsed(data: Path, on: str, *sets: str) -> dict[str, Any]:
    found = run(Request("pulses", target=Target(on), sets=sets, data=data))
    assert found.error == "", found.error
    results: dict[str, Any] = found.summary["results"]
    return results


def test_both_targets_leave_the_same_resistance_and_it_is_the_closed_form(tmp_path: Path) -> None:
    simulated = pulsed(tmp_path / "simulated", "simulated", *SHARP)
    virtual = pulsed(tmp_path / "virtual", "virtual", *SHARP)
    assert virtual["resistance_after_ohm"] == pytest.approx(simulated["resistance_after_ohm"], rel=1e-4)
    assert virtual["resistance_before_ohm"] == pytest.approx(simulated["resistance_before_ohm"], rel=5e-3)
    # dflux/dt = v - flux while a pulse lasts, from the 0.1 V and 5 ms of the first reading on
    flux = 0.1 * -np.expm1(-5e-3)
    assert simulated["resistance_before_ohm"] == pytest.approx(10e3 + 1e6 * flux, rel=1e-4)
    for _ in range(20):
        flux = 0.8 + (flux - 0.8) * np.exp(-10e-3)
    assert simulated["resistance_after_ohm"] == pytest.approx(10e3 + 1e6 * flux, rel=1e-4)


def test_long_trains_are_played_in_parts_and_leave_the_same(tmp_path: Path) -> None:
    whole = pulsed(tmp_path, "simulated", "count=30", "width=100 ms", "period=200 ms")
    parts = pulsed(tmp_path, "virtual", "count=30", "width=100 ms", "period=200 ms", *SHARP)
    assert parts["resistance_after_ohm"] == pytest.approx(whole["resistance_after_ohm"], rel=2e-3)


def test_a_volatile_device_forgets_between_pulses(tmp_path: Path) -> None:
    forgets = (
        "bench.twin.law={name: flux_volatile, parameters: {flux_gain: 1, flux_decay: 500 1/s, R0: 10 kohm, R1: 1e6 ohm/(V*s)}}"
    )
    found = pulsed(tmp_path, "simulated", forgets)
    assert found["resistance_after_ohm"] == pytest.approx(found["resistance_before_ohm"], rel=1e-2)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("width=30 ms", "does not fit into a period"),
        ("amplitude=2 V", "1 V"),
        ("amplitude=0 V", "does nothing"),
        ("bench.controls.V.slew=10 V/s", "the waveform steps by 0.8 V, but its slew"),
        ("control=I", "'I'"),
    ],
)
def test_what_cannot_be_played_is_refused_before_anything_is_applied(tmp_path: Path, setting: str, said: str) -> None:
    found = run(Request("pulses", sets=(setting,), data=tmp_path))
    assert said in found.error
    assert found.exit_code != 0


def test_a_reading_that_does_not_fit_between_samples_is_refused(tmp_path: Path) -> None:
    slow = "bench.outputs.I.setup={range: 100 uA, nplc: 10}"
    found = run(Request("pulses", target=Target.VIRTUAL, sets=(slow,), data=tmp_path))
    assert "a reading takes" in found.error
    assert "nplc" in found.error
