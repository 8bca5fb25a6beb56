"""A pressure controller that sticks while its neighbours ramp: judged in the plant, by the difference across the channel."""

import numpy as np
import pytest

from hil.bench import Target, assemble, shipped_protocols
from hil.core.errors import LimitExceededError
from hil.core.types import SettlePolicy, Stimulus
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import find, read


def test_neighbours_do_not_leave_a_controller_behind_that_sticks() -> None:
    document = read(find("divider", None, shipped_protocols() / "benches", "bench file"))
    document.data["edge_limits"] = {"a": {"pressure": "20 mbar"}}
    with assemble(document.model(BenchFile), Target.VIRTUAL) as assembled, assembled.backend as backend:
        names = backend.capabilities.controls.names

        def pressures(value: float) -> Stimulus:
            values = np.array([value if name.startswith("P") else 0.0 for name in names])
            return Stimulus(values, np.array([name.startswith("P") for name in names]))

        backend.apply(pressures(1.0e5))
        backend.settle(SettlePolicy(tolerance=1.0, window=0.1, timeout=60.0))
        assembled.virtual.side_door.inject("pace1", "stuck", where="a")
        with pytest.raises(LimitExceededError, match=r"edge 'a': 'P1' stands at .* exceed its limit of 2000 Pa"):
            backend.apply(pressures(1.06e5))
        apart = assembled.virtual.side_door.extremes()["pressure_difference"]["a"]
        assert max(map(abs, apart)) <= 1.06 * 2000.0
        assert max(map(abs, apart)) > 0.5 * 2000.0
