"""A dwell limit is kept while outputs are waited for, not only looked at afterwards."""

import numpy as np
import pytest

from hil.bench import Target, assemble, shipped_protocols
from hil.core.errors import LimitExceededError
from hil.core.types import SettlePolicy, Stimulus
from hil.experiment.bench_file import BenchFile
from hil.experiment.loader import find, read


def test_waiting_ends_when_the_channel_must_rest() -> None:
    document = read(find("divider", None, shipped_protocols() / "benches", "bench file"))
    document.data["controls"]["V1"]["dwell"] = "5 s"
    document.data["twin"]["nodes"]["2"]["cable_capacitance"] = "100 uF"  # ten minutes at 6 Mohm
    patient = SettlePolicy(tolerance=1e-6, window=0.5, timeout=300.0)
    with assemble(document.model(BenchFile), Target.VIRTUAL) as assembled, assembled.backend as backend:
        controls = backend.capabilities.controls
        values = np.array([1.0 if channel.name == "V1" else channel.safe.value for channel in controls])
        backend.apply(Stimulus(values, np.ones(len(values), dtype=np.bool_)))
        begun = assembled.clock.now()
        with pytest.raises(LimitExceededError, match=r"'V1'.*dwell limit of 5 s"):
            backend.settle(patient)
        assert assembled.clock.now() - begun < 20.0  # the way home included
        assert abs(assembled.virtual.side_door.sources()["smu"]["smua"]["level"]) < 0.02
