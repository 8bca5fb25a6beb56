"""What a procedure is told once more, where the answers of a whole run would hide it."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from hil.core.types import Readings, SettlePolicy, Stimulus
from hil.record.kept import Kept
from hil.replay import Replay

POLICY = SettlePolicy(tolerance=1e-3, window=0.1, timeout=1.0)
ROWS = [(Stimulus.of([level]),) for level in (1.0, 0.0)]


class Bench:
    """Devices that do not come back with a state; every measurement is remembered."""

    def __init__(self) -> None:
        self.capabilities = SimpleNamespace(can_capture=False, replicas=())
        self.measured: list[Any] = []

    def measure(self, row: Any, policy: SettlePolicy, samples: int) -> None:
        self.measured.append((row, samples))


def replay_of(bench: Bench) -> Replay:
    table = np.array([[1.0], [0.0]])
    readings = Readings(table, np.full((2, 1), np.nan), np.zeros((2, 1), dtype=np.bool_), np.array([0.1, 0.2]))
    lab: Any = SimpleNamespace(backend=bench, clock=None, events=SimpleNamespace(warnings=[]), exchange=None)
    keeper: Any = SimpleNamespace(state={}, readings=2)
    return Replay(lab, keeper, Kept(table, np.ones((2, 1), dtype=np.bool_), readings))


def test_a_waveform_that_nobody_read_is_not_played_again_before_the_answers_end() -> None:
    replay = replay_of(Bench())
    found = replay.recall([], None, 1)
    assert found is not None
    assert found.values.shape == (0, 1)
    assert replay.active
    known = replay.recall(ROWS, None, 1)
    assert known is not None
    assert known.values.ravel().tolist() == [1.0, 0.0]
    # What came after the last answer is not known to have happened.
    assert replay.recall([], None, 1) is None


def test_a_moment_of_a_waveform_is_not_applied_to_look_at_it_once_more() -> None:
    bench = Bench()
    replay = replay_of(bench)
    replay.recall(ROWS, None, 1)
    assert replay.recall(ROWS[:1], POLICY, 1) is None
    assert bench.measured == []
