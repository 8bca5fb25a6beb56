"""Virtual benches from one process that has everything loaded: as new and as separate as those that load it themselves."""

import os
import signal
import sys
from pathlib import Path

import pytest

from hil.core.errors import BackendClosedError, ConfigError
from simulated_backend.virtual_bench.plan import InstrumentPlan
from simulated_backend.virtual_bench.process import VirtualBench, in_a_row
from tests.fluid_bench import fluid_plan

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="elsewhere every bench loads the program itself")
PUMP = InstrumentPlan("pump", "NewEraNE1000")


def test_each_is_a_world_of_its_own_that_began_when_it_was_started() -> None:
    with in_a_row():
        first = VirtualBench.start(fluid_plan(PUMP))
        first.clock.sleep(100.0)
        first.side_door.inject("pump", "clog")
        pid = first.pid
        first.stop()
        with pytest.raises(BackendClosedError):
            first.clock.now()
        with VirtualBench.start(fluid_plan(PUMP)) as second, VirtualBench.start(fluid_plan(PUMP)) as beside:
            assert second.pid == pid
            assert beside.pid != pid
            assert second.clock.now() == 0.0
            assert second.side_door.happened() == []
            beside.clock.sleep(5.0)
            assert (second.clock.now(), beside.clock.now()) == (0.0, 5.0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with VirtualBench.start(fluid_plan(PUMP)) as alone:
        assert alone.pid != pid


@pytest.mark.skipif(sys.platform != "linux", reason="what split off is found in /proc")
def test_one_that_hangs_is_ended_with_what_split_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulated_backend.virtual_bench.process.STOP_TIMEOUT", 0.2)
    with in_a_row():
        hanging = VirtualBench.start(fluid_plan(PUMP))
        (split,) = map(int, Path(f"/proc/{hanging.pid}/task/{hanging.pid}/children").read_text().split())
        os.kill(split, signal.SIGSTOP)
        hanging.stop()  # returns when nobody holds the other end of its output any more
        assert hanging._process.returncode == -signal.SIGKILL


def test_one_that_cannot_start_or_was_killed_is_no_harm_to_the_next() -> None:
    with in_a_row():
        for _ in range(2):
            with pytest.raises(ConfigError, match="cannot start"):
                VirtualBench.start(fluid_plan(InstrumentPlan("pump", "NoSuchPump")))
        killed = VirtualBench.start(fluid_plan(PUMP))
        killed._process.kill()
        killed._process.wait()
        killed.stop()
        with VirtualBench.start(fluid_plan(PUMP)) as next_one:
            assert next_one.clock.now() == 0.0
