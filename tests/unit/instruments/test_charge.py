"""The book of an electrode's charge: the truth is between its ends, however often a program is killed, and in overload, too."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from hil.core.errors import LimitExceededError
from hil.core.types import Stimulus
from instruments.backend import InstrumentBackend
from instruments.wiring import ControlWire, Interface
from tests.unit.instruments import fake_instruments
from tests.unit.instruments.fake_instruments import Bench, make, volt

bench = fake_instruments.bench
MOST = 1.0


class Cell:
    """An electrode on a fake source, whose current is its level: what truly passed, and what the file says."""

    def __init__(self, bench: Bench, charge: float, compliance: float | None = 0.01) -> None:
        self.bench, self.true, self.compliance = bench, charge, compliance
        self.booked, self.kills = (charge, 0.0), 0
        self.port = bench.instruments["other"].ports["a"]
        sleep, clock = bench.clock.sleep, bench.clock

        def passing(seconds: float) -> None:
            begun = clock.now()
            sleep(seconds)
            self.true += self.port.level * (clock.now() - begun) if self.port.on else 0.0

        clock.sleep = passing  # type: ignore[method-assign]  # the charge passes while time does

    def program(self) -> InstrumentBackend:
        """Begins with what is booked."""
        interface = Interface(MOST, self.booked[0], unsure=self.booked[1])
        return make(self.bench, [ControlWire(volt("V1"), "other.a.volt", self.compliance, interface=interface)], book=self.book)

    def book(self, charges: Mapping[str, float], unsure: Mapping[str, float]) -> None:
        self.booked = charges["V1"], unsure["V1"]

    def use(self, backend: InstrumentBackend, current: float, seconds: int) -> None:
        backend.apply(Stimulus.of([current]))
        for _ in range(seconds):
            self.bench.clock.sleep(1.0)
            low, high = self.ends
            assert low <= self.true <= high, "whoever kills it now leaves a book that is wrong"
            backend.read()

    @property
    def ends(self) -> tuple[float, float]:
        return self.booked[0] - self.booked[1], self.booked[0] + self.booked[1]

    def killed(self, current: float, seconds: int) -> None:
        """A program that leaves the file as it is at its last moment."""
        with self.program() as backend:
            self.use(backend, current, seconds)
            left = self.booked, self.true
        self.booked, self.true = left
        self.kills += 1

    def killed_in_turn(self, currents: Sequence[float], seconds: int) -> None:
        for current in currents:
            self.killed(current, seconds)


@pytest.mark.parametrize("start", [0.8, -0.8])
@pytest.mark.parametrize("lives", [(89,), (89, 89, 89), (500, 13, 200, 7)])
def test_killed_while_it_discharges_and_resumed_it_is_refused_before_the_limit(
    bench: Bench, start: float, lives: tuple[int, ...]
) -> None:
    cell = Cell(bench, start)
    current = -1e-3 if start > 0.0 else 1e-3
    for seconds in lives:
        cell.killed(current, seconds)
    with pytest.raises(LimitExceededError, match=r"in doubt: .* a killed program"), cell.program() as backend:
        cell.use(backend, current, 3000)
    # Every kill costs what was booked ahead, 5 %, and no more.
    assert MOST - 0.06 * len(lives) < abs(cell.true) <= MOST


def test_killed_over_and_over_back_and_forth_it_is_refused_in_the_end_and_never_passes_the_limit(bench: Bench) -> None:
    cell = Cell(bench, 0.6)
    with pytest.raises(LimitExceededError):
        cell.killed_in_turn([-1e-3, 1e-3] * 20, 40)
    assert 3 < cell.kills < 39
    assert abs(cell.true) <= MOST
    with pytest.raises(LimitExceededError), cell.program() as backend:
        backend.apply(Stimulus.of([1e-3]))
    assert bench.instruments["other"].ports["a"].level == 0.0, "refused before anything but 0 V is applied"
    cell.booked, cell.true = (0.0, 0.0), 0.0
    cell.killed(1e-3, 40)


def test_killed_before_its_first_look_a_program_leaves_more_doubt_each_time_until_it_is_refused(bench: Bench) -> None:
    cell = Cell(bench, 0.9)
    with pytest.raises(LimitExceededError):
        cell.killed_in_turn([1e-3] * 4, 0)
    assert cell.ends[1] > MOST


def test_in_overload_all_that_the_compliance_lets_through_is_booked_and_stays_booked(bench: Bench) -> None:
    cell, unit = Cell(bench, 0.0), bench.instruments["other"]
    with cell.program() as backend:
        cell.use(backend, 1e-3, 1)
        ahead = cell.ends
        unit.noise = lambda: float("nan")
        cell.port.level = 9e-3  # a short circuit, just below the compliance
        cell.use(backend, 9e-3, 10)
        known = _passed(backend)
    low, high = cell.ends
    assert 0.09 < cell.true <= high
    assert low <= -0.09, "nobody saw its direction"
    assert (low + high) / 2.0 == pytest.approx(known, abs=1e-3)
    assert low <= ahead[0] < ahead[1] <= high
    unit.noise = lambda: 0.0
    with cell.program() as backend:
        cell.use(backend, 1e-3, 5)
    assert cell.ends[1] - cell.ends[0] == pytest.approx(high - low), "the next program keeps the doubt, and adds none"


def test_a_moment_of_overload_as_the_last_reading_gives_nothing_back(bench: Bench) -> None:
    cell, unit = Cell(bench, 0.0, compliance=1e-3), bench.instruments["other"]
    with cell.program() as backend:
        cell.use(backend, 1e-3, 1)
        ahead = cell.ends
        unit.noise = lambda: float("nan")
        backend.read()
    assert cell.ends[0] <= ahead[0] < ahead[1] <= cell.ends[1]


def test_overload_that_lasts_is_refused_at_the_limit(bench: Bench) -> None:
    cell = Cell(bench, 0.5)
    with cell.program() as backend:
        cell.use(backend, 1e-3, 1)
        bench.instruments["other"].noise = lambda: float("nan")
        bench.clock.sleep(60.0)
        with pytest.raises(LimitExceededError, match=r"'V1': 1\.\d+ C have passed its electrode \(0\.6\d* C of that in doubt"):
            backend.read()


def test_overload_without_a_compliance_is_refused_and_what_was_booked_ahead_stays(bench: Bench) -> None:
    cell = Cell(bench, 0.0, compliance=None)
    with cell.program() as backend:
        cell.use(backend, 1e-3, 1)
        ahead = cell.ends
        bench.instruments["other"].noise = lambda: float("nan")
        with pytest.raises(
            LimitExceededError, match=r"'V1': the current of other\.a\.volt is beyond its range, and it has no comp"
        ):
            backend.read()
    assert cell.ends == ahead


def _passed(backend: InstrumentBackend) -> float:
    electrodes: Any = backend.usage()["electrodes"]
    return float(electrodes["V1"])
