"""A dwell limit is kept while outputs are waited for, not only looked at afterwards."""

from dataclasses import replace
from typing import Any

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


class Plant:
    """How long a source has been away from 0 V in a row, looked at in the plant ten times a second of its time."""

    def __init__(self, virtual: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._virtual, self._original = virtual, virtual.clock.sleep
        self._since: float | None = None
        self.longest = 0.0
        monkeypatch.setattr(virtual.clock, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        while seconds > 0.0:
            self._original(min(seconds, 0.1))
            seconds -= 0.1
            self.look()

    def look(self) -> None:
        """Look now, by the plant's own time."""
        now, level = self._virtual.clock.now(), self._virtual.side_door.sources()["smu"]["smua"]["level"]
        if not level or abs(level) < 1e-6:
            self._since = None
            return
        self._since = now if self._since is None else self._since
        self.longest = max(self.longest, now - self._since)


def slow_ramp(backend: Any, stimulus: Stimulus) -> None:
    """V1 is up within 0.1 s, V3 follows for 4 s."""
    backend.apply(stimulus)


def slow_reading(backend: Any, stimulus: Stimulus) -> None:
    """20 ms for each of 200 samples."""
    backend.apply(replace(stimulus, values=np.where(stimulus.values == 4.0, 0.0, stimulus.values)))
    backend.settle(SettlePolicy(tolerance=1.0, window=0.02, timeout=5.0))
    backend.read(200)


def long_hold(backend: Any, stimulus: Stimulus) -> None:
    backend.apply(replace(stimulus, values=np.where(stimulus.values == 4.0, 0.0, stimulus.values)))
    backend.wait(2.0)
    backend.wait(10.0)


@pytest.mark.parametrize("doing", [slow_ramp, slow_reading, long_hold])
def test_the_plant_never_sees_more_than_the_dwell_limit(doing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    document = read(find("divider", None, shipped_protocols() / "benches", "bench file"))
    document.data["controls"]["V1"]["dwell"] = "3 s"
    document.data["controls"]["V3"] |= {"slew": "1 V/s", "emergency_slew": "100 V/s"}
    document.data["ramp_order"] = [["P1", "P2", "P3"], ["V1"], ["V3"]]
    with assemble(document.model(BenchFile), Target.VIRTUAL) as assembled, assembled.backend as backend:
        plant = Plant(assembled.virtual, monkeypatch)
        controls = backend.capabilities.controls
        wanted = {"V1": 1.0, "V3": 4.0}
        values = np.array([wanted.get(channel.name, channel.safe.value) for channel in controls])
        with pytest.raises(LimitExceededError, match=r"'V1'.*dwell limit of 3 s"):
            doing(backend, Stimulus(values, np.array([name in wanted for name in controls.names])))
        plant.look()
        assert plant.longest <= 3.0
        assert plant.longest > 0.0
