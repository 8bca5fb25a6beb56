"""What begins a dose is not said twice: by the time its reply is missed the dose may have ended, and another would follow."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from hil.core.errors import InstrumentError
from instruments.bronkhorst_flow import BronkhorstFlow
from instruments.harvard_pump import HarvardPump11Elite
from instruments.new_era_ne1000 import NewEraNE1000, packet
from instruments.visa import Link, Session
from simulated_backend.virtual_bench.emulator import Emulator
from simulated_backend.virtual_bench.emulators import bronkhorst_flow, harvard_pump, new_era_ne1000
from simulated_backend.virtual_bench.plant import Plant
from tests.fluid_bench import ML_PER_MIN, TEN_ML, fluid_plan

DOSE = 5e-9  # m^3, over in less than the time a reply is waited for


class Line:
    """A serial line to an emulated instrument. A message with ``lost`` in it is not answered (``times`` times), or not even
    ``heard``; ``patience`` s pass until that is noticed, and ``meanwhile`` it is sent something by somebody else."""

    timeout = 1000.0
    session = 1
    visalib = None
    resource_name = "ASRL7::INSTR"

    def __init__(self, emulator: Emulator, plant: Plant, link: Link) -> None:
        self.emulator, self.plant = emulator, plant
        self.ending = (link.write_termination or "").encode()
        self.read_ending = (link.read_termination or "").encode()
        self.replies = b""
        self.lost, self.heard, self.patience, self.times = "", True, 1.0, 1
        self.meanwhile = b""
        self.sent: list[str] = []

    def write(self, message: str) -> None:
        self.sent.append(message)
        struck = bool(self.lost) and self.lost in message and self.times > 0
        reply = b"" if struck and not self.heard else self.emulator.receive(message.encode("latin-1") + self.ending) or b""
        if struck:
            self.times -= 1
            self.plant.clock.advance(self.patience)
            self.emulator.receive(self.meanwhile)
        else:
            self.replies += reply

    def read(self) -> str:
        end = self.replies.find(self.read_ending)
        if end < 0:
            raise TimeoutError("no reply came")
        line, self.replies = self.replies[:end], self.replies[end + len(self.read_ending) :]
        return line.decode("latin-1")

    def read_raw(self) -> bytes:
        return self.read().encode("latin-1") + self.read_ending

    def read_bytes(self, count: int) -> bytes:
        if len(self.replies) < count:
            raise TimeoutError("no reply came")
        found, self.replies = self.replies[:count], self.replies[count:]
        return found

    def flush(self, *_: object) -> None:
        self.replies = b""

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Stage:
    """A pump that is ready to start, its line, and what it delivered (m^3)."""

    pump: Any
    rate: float
    line: Line
    start: str
    stop: bytes
    notices: list[str]
    delivered: Callable[[], float]
    clock: Any

    def starts(self) -> int:
        return sum(self.start in message for message in self.line.sent)


@pytest.fixture(
    params=[
        (NewEraNE1000, new_era_ne1000.NewEraNE1000, 1.0 * ML_PER_MIN, "RUN", packet("STP").encode("latin-1")),
        (HarvardPump11Elite, harvard_pump.HarvardPump, 1.0 * ML_PER_MIN, "irun", b"stp\r"),
        (BronkhorstFlow, bronkhorst_flow.BronkhorstFlow, 0.5 * ML_PER_MIN, "0121682B", b":06800101210000\r\n"),
    ],
    ids=["new_era", "harvard", "bronkhorst"],
)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    driver, emulated, rate, start, stop = request.param
    plant = Plant(fluid_plan(ideal=True))
    options = {**emulated.models[driver.__name__], "identity": None}
    if driver is BronkhorstFlow:
        options["full_scale"] = 0.6 * ML_PER_MIN
    emulator = emulated("pump", plant, options, np.random.default_rng(1))
    line = Line(emulator, plant, driver.link)
    session = Session("pump", line.resource_name, line, driver.link)  # type: ignore[arg-type] # as much of one as is used
    notices: list[str] = []
    session.notice = notices.append
    session.verify()
    pump = driver("lost_start", session=session)
    pump.configure_pump(TEN_ML)
    line.sent.clear()
    line.lost = start
    begun = plant.flow("pump", "").delivered()
    yield Stage(pump, rate, line, start, stop, notices, lambda: plant.flow("pump", "").delivered() - begun, plant.clock)
    pump.close()


def test_a_dose_that_ended_before_its_reply_was_missed_is_delivered_once(stage: Stage) -> None:
    stage.pump.start(stage.rate, DOSE)
    stage.clock.advance(10.0)
    assert stage.starts() == 1
    assert stage.delivered() == pytest.approx(DOSE, rel=1e-3)
    assert stage.pump.pump_state() == (False, pytest.approx(DOSE, rel=1e-3))
    assert "no reply came" in stage.notices[-1]


def test_one_that_is_under_way_goes_on(stage: Stage) -> None:
    stage.line.patience = 0.1
    stage.pump.start(stage.rate, DOSE)
    assert stage.pump.pump_state().running
    stage.clock.advance(10.0)
    assert stage.starts() == 1
    assert stage.pump.pump_state() == (False, pytest.approx(DOSE, rel=1e-3))


def test_one_that_was_not_heard_is_said_again(stage: Stage) -> None:
    stage.line.heard = False
    stage.pump.start(stage.rate, DOSE)
    stage.clock.advance(10.0)
    assert stage.starts() == 2
    assert stage.delivered() == pytest.approx(DOSE, rel=1e-3)
    assert "was repeated" in stage.notices[-1]


def test_one_that_is_never_heard_is_an_error(stage: Stage) -> None:
    stage.line.heard, stage.line.times = False, 100
    with pytest.raises(InstrumentError, match="failed while"):
        stage.pump.start(stage.rate, DOSE)
    assert stage.starts() == 2
    assert stage.delivered() == 0.0


def test_one_that_somebody_stopped_meanwhile_is_not_taken_for_one_that_was_not_heard(stage: Stage) -> None:
    """Something has flowed: told again it would deliver the whole dose on top of that."""
    stage.line.patience = 0.15
    stage.line.meanwhile = stage.stop
    with suppress(InstrumentError):
        stage.pump.start(stage.rate, DOSE)
    stage.clock.advance(10.0)
    assert stage.starts() == 1
    assert 0.0 < stage.delivered() < 0.9 * DOSE
