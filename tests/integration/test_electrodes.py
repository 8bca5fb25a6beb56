"""Inert electrodes: refused where nobody could keep track, planned, followed while they are used, judged in the plant."""

from pathlib import Path
from typing import Any

import pytest

from hil.bench import Target, assemble
from hil.charge_plan import require_bearable
from hil.core.errors import ConfigError, LimitExceededError, RecordError
from hil.core.types import SettlePolicy, Stimulus
from hil.electrodes import check_electrodes
from hil.experiment.bench_file import BenchFile
from hil.liquid_plan import planned_use
from hil.prepared import Prepared, Request, prepare
from hil.stock_book import charge_of, read
from tests.command_line import hil

PROTOCOL = "voltage_divider"
V1 = "bench.controls.V1.electrode"
REST = [1.0e5, 1.0e5, 1.0e5]


def prepared(*sets: str) -> Prepared:
    return prepare(Request(protocol=PROTOCOL, sets=sets))


def inert(capacitance: str = "1 uF", limit: str = "0.5 V", more: str = "") -> str:
    return f"{V1}={{kind: inert, limit: {limit}, capacitance: {capacitance}{more}}}"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (f"{V1}={{kind: inert}}", r"controls\.V1\.electrode\.limit: an inert electrode needs a `limit`"),
        (f"{V1}={{kind: silver_chloride, limit: 1 V}}", "only an inert electrode has a limit"),
        (f"{V1}={{kind: inert, limit: 1 V, reservoir: 1 mL}}", "takes no salt from its reservoir"),
        (f"{V1}={{kind: gold}}", "no choice 'gold'"),
        (f"{V1}={{kind: inert, limit: 1 V, charge: 1 uC}}", "without the `capacitance`"),
        ("bench.controls.P1.electrode={kind: silver_chloride}", r"controls\.P1\.electrode: an electrode belongs to a source"),
    ],
)
def test_an_electrode_that_is_not_described_is_refused(change: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        prepared(change)


def test_without_a_capacitance_all_that_may_be_applied_counts() -> None:
    bench = prepared(f"{V1}={{kind: inert, limit: 0.6 V}}").bench
    with pytest.raises(ConfigError, match=r"5 V may be applied between this electrode and node '3'.* whose limit is 0\.6 V"):
        check_electrodes(bench)
    check_electrodes(prepared(f"{V1}={{kind: inert, limit: 5 V}}").bench)
    check_electrodes(prepared(f"{V1}={{kind: silver_chloride}}").bench)


def test_a_plan_that_charges_it_too_far_is_refused_before_anything_is_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, facts, said = hil("run", PROTOCOL, "--on", "virtual", "--set", inert("1 nF"))
    assert code == 4
    assert "the plan charges its inert electrode to" in said
    assert "beyond its limit of 0.5 V" in said
    assert facts["relaxations"] == 0


def test_a_plan_foretells_the_interfacial_voltage() -> None:
    small, large = (planned_use(prepared(inert(size)))["charges"]["V1"]["interface_V"] for size in ("10 uF", "100 uF"))
    assert small == pytest.approx(10.0 * large)
    assert small > 0.0
    with pytest.raises(LimitExceededError, match="inert electrode to"):
        require_bearable(prepared(inert("10 uF", "1 uV")).bench, {"V1": {"interface_V": small}})


def assembled_lab(bench: BenchFile) -> Any:
    return assemble(bench, Target.VIRTUAL)


def test_it_is_charged_in_the_plant_and_followed_by_the_bench() -> None:
    """A membrane of 12 MOhm per edge: 5 V pass about 0.2 uA, which is 0.2 V/s on 1 uF."""
    with assembled_lab(prepared(inert("1 uF", "0.8 V")).bench) as lab, lab.backend as backend:
        door = lab.virtual.side_door
        backend.apply(Stimulus.of([0.0, 0.0, *REST]))
        backend.settle(SettlePolicy(tolerance=0.1, window=0.2, timeout=10.0))
        backend.read(1)
        backend.apply(Stimulus.of([5.0, 0.0, *REST]))
        told: list[float] = []
        true: list[float] = []
        missing: list[float] = []

        def use_it() -> None:
            for _ in range(200):
                backend.read(1)
                told.append(backend.usage()["electrodes"]["V1"] / 1e-6)
                true.append(door.extremes()["interface"]["smu.smua"][1])
                missing.append(5.0 - door.voltages()["1"])
                lab.clock.sleep(0.02)

        with pytest.raises(LimitExceededError, match=r"'V1': .* its inert electrode to \d\.\d+ V, beyond its limit of 0\.8 V"):
            use_it()
        assert len(told) > 3
        assert told == pytest.approx(true, abs=0.03)  # the ramp counts in full
        lowest, highest = door.extremes()["interface"]["smu.smua"]
        assert missing == pytest.approx(true, abs=0.02), "what stands at the interface is missing at the node"
        assert lowest == 0.0
        assert 0.7 < highest < 0.9  # judged in the plant: it did not run away after the refusal
        backend.make_safe()
        with pytest.raises(LimitExceededError, match="beyond its limit of 0"):
            backend.apply(Stimulus.of([1.0, 0.0, *REST]))


def test_a_resumed_run_begins_with_the_charge_that_is_there() -> None:
    with assembled_lab(prepared(inert("1 uF", "0.5 V", ", charge: 0.6 uC")).bench) as lab, lab.backend as backend:
        assert backend.usage()["electrodes"] == {"V1": pytest.approx(0.6e-6)}
        with pytest.raises(LimitExceededError, match=r"to 0\.\d+ V, beyond its limit"):
            backend.apply(Stimulus.of([0.1, 0.0, *REST]))
        assert lab.virtual.side_door.extremes()["interface"]["smu.smua"][1] == pytest.approx(0.6, abs=1e-3)


def test_at_every_moment_the_charge_that_has_passed_is_between_the_ends_of_the_book_on_disk(tmp_path: Path) -> None:
    """Whoever kills the program leaves a book that is right within a few percent of the limit, in both directions."""
    path = tmp_path / "1.stocks.json"
    with assembled_lab(prepared(inert("1 uF", "0.8 V", ", charge: 0.1 uC")).bench) as lab, lab.backend as backend:
        lab.stocks.keep(path)
        assert read(path)["V1"]["charge"] == pytest.approx(0.1e-6)
        ahead: list[float] = []
        behind: list[float] = []
        clock, waits = lab.virtual.clock, lab.virtual.clock.sleep

        def look(seconds: float) -> None:
            waits(seconds)
            true = lab.virtual.side_door.extremes()["interface"]["smu.smua"][1]  # it only grows
            charge, unsure = charge_of(read(path)["V1"])
            ahead.append((charge + unsure) / 1e-6 - true)
            behind.append(true - (charge - unsure) / 1e-6)

        clock.sleep = look
        backend.apply(Stimulus.of([0.0, 0.0, *REST]))
        assert charge_of(read(path)["V1"]) == pytest.approx((0.1e-6, 0.04e-6)), "5 % of what it bears, before any of it passes"
        backend.read(1)
        backend.apply(Stimulus.of([3.0, 0.0, *REST]))
        for _ in range(15):
            backend.read(1)
            lab.clock.sleep(0.05)
        assert len(ahead) > 15
        assert min(*ahead, *behind) > 0.0
        assert max(*ahead, *behind) < 0.1
        backend.make_safe()
        true, counted = lab.virtual.side_door.extremes()["interface"]["smu.smua"][1], backend.usage()["electrodes"]["V1"]
        assert 0.2 < true < counted / 1e-6 < true + 0.1, "the way home counts in full, too"
        assert charge_of(read(path)["V1"]) == pytest.approx((counted, 0.0), rel=1e-9, abs=0.0), "what did not pass is given back"


def test_a_source_whose_charge_cannot_be_booked_is_left_at_its_first_level(tmp_path: Path) -> None:
    with assembled_lab(prepared(inert("1 uF", "0.8 V")).bench) as lab, lab.backend as backend:
        (tmp_path / "folder").write_text("in the way")
        lab.stocks.keep(tmp_path / "1.stocks.json")
        lab.stocks._path = tmp_path / "folder" / "1.stocks.json"
        with pytest.raises(RecordError):
            backend.apply(Stimulus.of([5.0, 0.0, *REST]))
        assert lab.virtual.side_door.extremes()["voltage"]["1"] == pytest.approx((0.0, 0.0), abs=1e-3)


SMALL_CELL = f"{V1}={{kind: silver_chloride, reservoir: 20 uL}}"


def test_salt_that_nobody_exchanges_is_planned_followed_and_limited() -> None:
    """1 % of the salt in 20 uL of 0.2 mM are 3.9 uC; the membrane passes 0.2 uA at 5 V."""
    large, small = (
        planned_use(prepared(f"{V1}={{kind: silver_chloride, reservoir: {size}}}"))["charges"]["V1"]["salt_share"]
        for size in ("1 mL", "100 uL")
    )
    assert small == pytest.approx(10.0 * large)
    with assembled_lab(prepared(SMALL_CELL).bench) as lab, lab.backend as backend:
        backend.measure([Stimulus.of([5.0, 0.0, *REST])], SettlePolicy(tolerance=2e-3, window=0.2, timeout=30.0))
        assert 0.0 < backend.usage()["electrodes"]["V1"] < 3.9e-6
        lab.clock.sleep(30.0)
        with pytest.raises(LimitExceededError, match=r"'V1': .* more than 1 % of the 0\.00038\d C of salt in its reservoir"):
            backend.read(1)


def test_a_reservoir_is_said_once() -> None:
    twice = prepare(
        Request(protocol="voltage_divider_concentration", sets=(f"{V1}={{kind: silver_chloride, reservoir: 1 mL}}",))
    ).bench
    with pytest.raises(ConfigError, match="the mixer says how large it is"):
        check_electrodes(twice)
