"""Pulses that a Keysight B2912A plays as a list stepped by its timer: the charge that passes, the way home, what is refused."""

from pathlib import Path

import numpy as np
import pytest

from hil.bench import Target, assemble
from hil.core.errors import CapabilityError
from hil.core.types import Waveform
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import read

BENCH = """\
format: hil-bench/1
title: one non-volatile memristor on a B2912A
station:
  instruments:
    smu: {type: instruments.keysight_b2900.KeysightB2912A, address: "TCPIP0::192.0.2.11::5025::SOCKET"}
twin:
  law:
    name: flux_nonvolatile
    parameters: {flux_gain: 1, flux_decay: 1 1/s, R0: 10 kohm, R1: 1e6 ohm/(V*s)}
  nodes: {"1": {}, "0": {ground: true}}
  edges: {device: {base: "1", tip: "0"}}
virtual: {seed: 1, plant: ideal}
controls:
  V: {node: "1", parameter: smu.ch2.volt, limits: [-1 V, 1 V], compliance: 500 uA, safe: 0 V}
outputs:
  I: {node: "1", parameter: smu.ch2.curr, setup: {range: 100 uA, nplc: 0.01}}
"""
PULSES = 5
EDGES = np.array([20e-3 * k + half for k in range(PULSES) for half in (0.0, 10e-3)])
ENDS = np.append(EDGES[1:], 20e-3 * PULSES)


def waveform(edges: np.ndarray, end: float) -> Waveform:
    levels = np.tile([0.8, 0.0], PULSES)[: len(edges), np.newaxis]
    return Waveform(edges, levels, np.ones_like(levels, dtype=bool), end)


@pytest.fixture
def bench(tmp_path: Path) -> BenchFile:
    path = tmp_path / "bench.yaml"
    path.write_text(BENCH)
    return read(path).model(BenchFile)


def test_a_train_of_pulses_leaves_what_the_simulated_network_leaves(bench: BenchFile) -> None:
    with assemble(bench, Target.SIMULATED) as simulated, simulated.backend as backend:
        want = backend.play(waveform(EDGES, ENDS[-1]), ENDS)
    with assemble(bench, Target.VIRTUAL) as virtual, virtual.backend as backend:
        before = virtual.clock.now()
        got = backend.play(waveform(EDGES, ENDS[-1]), ENDS)
        assert virtual.clock.now() - before < ENDS[-1] + 0.2  # the unit's own time, not one message for every edge
        # the state goes on by half a percent within a reading of 0.2 ms, whose mean is taken
        np.testing.assert_allclose(got.values[::2, 0], want.values[::2, 0], rtol=0.01)
        assert np.all(np.abs(got.values[1::2, 0]) < 1e-9)
        assert not got.overload.any()
        assert np.all(np.diff(got.values[::2, 0]) < 0.0)  # the resistance grows from pulse to pulse
        assert backend.terminals()["V"] == 0.0
        door = virtual.virtual.side_door
        assert door.sources()["smu"]["ch2"]["level"] == 0.0


@pytest.mark.parametrize(
    ("edges", "samples", "said"),
    [
        ([0.0, 1e-2], [1.02e-2, 2e-2], r"multiples of 0\.0003 s or more, not of 0\.0002 s"),
        ([0.0, 3.3e-3], [3.3e-3, 4.0001], r"not of 0\.0001 s"),
        ([0.0, 1e-3], [1e-3, 4.0], r"keeps 2500 steps of a waveform; 0\.001 s is too short"),
    ],
)
def test_times_that_no_timer_steps_through_are_refused_before_anything_is_set(
    bench: BenchFile, edges: list[float], samples: list[float], said: str
) -> None:
    with assemble(bench, Target.VIRTUAL) as virtual, virtual.backend as backend:
        backend.play(waveform(EDGES[:2], ENDS[1]), ENDS[:2])
        before = virtual.virtual.side_door.extremes()
        with pytest.raises(CapabilityError, match=said):
            backend.play(waveform(np.array(edges), samples[-1]), np.array(samples))
        assert virtual.virtual.side_door.extremes() == before
        backend.play(waveform(EDGES[:2], ENDS[1]), ENDS[:2])  # and it goes on
