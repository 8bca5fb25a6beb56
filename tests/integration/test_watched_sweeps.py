"""What has to be so with every reading has to be so in sweeps that an instrument runs by itself, and on replicas."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from hil.bench import Target, assemble, shipped_protocols
from hil.core.errors import CapabilityError, InterlockError, LimitExceededError
from hil.core.types import SettlePolicy, Stimulus, Waveform
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import find, read
from instruments.list_sweep import ListSweep
from instruments.roles import Acquired

STEPPED = SettlePolicy(tolerance=1.0, window=0.02, timeout=10.0, dwell=0.005)


@contextmanager
def opened(bench: str, **changes: Any) -> Iterator[Any]:
    """The backend of a shipped bench with an interlock, on emulated instruments; ``changes`` go into its control V."""
    document = read(find(bench, None, shipped_protocols() / "benches", "bench file"))
    document.data["interlocks"] = {"lid": {"parameter": "smu.digio.bit1", "expected": 1}}
    document.data["controls"]["V"].update(changes)
    with assemble(document.model(BenchFile), Target.VIRTUAL) as assembled, assembled.backend as backend:
        yield backend


def ramp(top: float) -> list[Stimulus]:
    levels = np.concatenate([np.linspace(0.0, top, 11), np.linspace(top, 0.0, 11)])
    return [Stimulus(np.array([level]), np.array([True])) for level in levels]


def open_the_lid(backend: Any) -> None:
    backend._station.components["smu"].session.write("digio.writebit(1,0)")


def test_a_list_sweep_asks_the_interlocks() -> None:
    with opened("single_device") as backend:
        backend.measure(ramp(0.1), STEPPED)
        open_the_lid(backend)
        with pytest.raises(InterlockError, match="'lid'"):
            backend.measure(ramp(0.1), STEPPED)


@pytest.mark.parametrize("dwell", [None, 0.005])
def test_replicas_ask_the_interlocks(dwell: float | None) -> None:
    policy = SettlePolicy(tolerance=1.0, window=0.02, timeout=10.0, dwell=dwell)
    with opened("matched_pair") as backend:
        rows = [[stimulus] * len(backend.capabilities.replicas) for stimulus in ramp(0.1)[:4]]
        backend.measure_replicas(rows, policy)
        open_the_lid(backend)
        with pytest.raises(InterlockError, match="'lid'"):
            backend.measure_replicas(rows, policy)


def test_power_inside_a_sweep_is_measured() -> None:
    """The device takes about 40 uW at 1 V and 12 uW at half of it; at both ends of the sweep it takes nothing."""
    with opened("matched_pair", power="20 uW") as backend:
        backend.measure(ramp(0.5), STEPPED)
        with pytest.raises(LimitExceededError, match="W flow into the network"):
            backend.measure(ramp(1.0), STEPPED)


def test_a_waveform_plays_only_where_the_compliance_keeps_its_power() -> None:
    """500 uA at the most: 250 uW at 0.5 V, whatever is connected."""
    moving = Waveform(np.array([0.0, 0.05]), np.array([[0.5], [0.1]]), np.full((2, 1), True), 0.1)
    samples = np.array([0.04, 0.09])
    with opened("single_device", power="200 uW") as backend, pytest.raises(CapabilityError, match=r"power limit of 0\.0002 W"):
        backend.play(moving, samples)
    with opened("single_device", power="251 uW") as backend:
        assert np.all(np.isfinite(backend.play(moving, samples).values))


@pytest.mark.parametrize(("changes", "by_list"), [({}, True), ({"slew": "1 V/s"}, False), ({"slew": "20 V/s"}, True)])
def test_a_list_of_replicas_jumps_home_only_where_the_slew_allows(
    changes: dict[str, str], by_list: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every list of a pair ends at 0 V: 1 V/s is 20 mV from one point of a ramp to the next, and 20 V/s is 0.4 V."""
    lists, original = [], ListSweep._chunk

    def noted(sweep: ListSweep, *chunk: Any) -> Acquired:
        lists.append(chunk)
        return original(sweep, *chunk)

    monkeypatch.setattr(ListSweep, "_chunk", noted)
    levels = [0.0, *np.linspace(0.0, 0.3, 31)]
    with opened("matched_pair", **changes) as backend:
        rows = [[Stimulus(np.array([level]), np.array([True]))] * 2 for level in levels]
        assert np.all(np.isfinite(backend.measure_replicas(rows, STEPPED)))
    assert bool(lists) is by_list
