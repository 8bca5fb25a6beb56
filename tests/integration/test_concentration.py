"""Concentration applied through pumps and a valve: trained, rehearsed, and refused where the stock is not there."""

import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hil.bench import Target, assemble
from hil.core.errors import ConfigError, LimitExceededError
from hil.core.types import SettlePolicy, Stimulus
from hil.liquid_plan import planned_use, refilled, require_enough
from hil.prepared import Request, prepare
from hil.stock_book import read
from tests.command_line import hil

PROTOCOL = "voltage_divider_concentration"


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_trains_within_lab_tolerances_and_uses_what_the_rehearsal_said() -> None:
    code, summary, said = hil("run", PROTOCOL, "--on", "virtual")
    assert (code, said) == (0, "")
    assert abs(summary["outputs"]["V2"] - 4.0) <= 50e-3
    assert summary["weights"]["C1"] > 0.21 > 0.18 > summary["weights"]["C2"]
    used = summary["results"]["liquids"]["mix"]
    assert used["exchanges"] >= 11 * summary["steps"]  # every probe changes a node, most of them two
    code, facts, _ = hil("dry-run", PROTOCOL)
    assert code == 0
    rehearsed, planned = facts["results"]["liquids"]["mix"], facts["planned"]["liquids"]["mix"]
    assert facts["hours"] > rehearsed["hours"] > 0.5
    # The rehearsal has drawn other pumps and other sources than the run; the plan knows of neither.
    assert facts["loss"] != pytest.approx(summary["loss"], rel=1e-3)
    assert summary["results"]["planned"]["liquids"]["mix"] == planned
    for foretold in (rehearsed, planned):
        assert foretold["exchanges"] == pytest.approx(used["exchanges"], rel=0.02)
        assert foretold["hours"] == pytest.approx(used["hours"], rel=0.02)
        assert foretold["stock_used"] == pytest.approx(used["stock_used"], rel=0.02)
    total = sum(used["stock_used"].values())
    assert total == pytest.approx(used["exchanges"] * 1.059e-6, rel=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3])  # with the run and the rehearsal above: three draws
def test_other_draws_of_pumps_and_meters_cost_what_was_planned(seed: int) -> None:
    """The plan of one file against benches whose imperfections nobody knew when it was made."""
    code, summary, _ = hil("run", PROTOCOL, "--on", "virtual", "--set", f"bench.virtual.seed={seed}")
    assert code == 0
    assert abs(summary["outputs"]["V2"] - 4.0) <= 50e-3
    used, planned = summary["results"]["liquids"]["mix"], summary["results"]["planned"]["liquids"]["mix"]
    assert planned["exchanges"] == pytest.approx(used["exchanges"], rel=0.02)
    assert planned["hours"] == pytest.approx(used["hours"], rel=0.02)
    assert planned["stock_used"] == pytest.approx(used["stock_used"], rel=0.02)


WEAK = "bench.mixers.mix.pumps.pump_weak"


@pytest.mark.parametrize("words", [("dry-run",), ("run", "--on", "virtual")])
def test_stock_that_does_not_last_is_refused_before_anything_is_applied(words: tuple[str, ...]) -> None:
    code, facts, said = hil(words[0], PROTOCOL, *words[1:], "--set", f"{WEAK}.volume=5 mL")
    assert code == 2
    sentence = facts.get("refusal") or said
    assert "pump_weak.volume: the plan takes 34.4 mL of it (47 exchanges" in sentence
    assert "there are 5 mL" in sentence
    assert facts["relaxations"] == 0


def test_a_supply_beside_the_syringe_is_counted_and_so_are_the_refills() -> None:
    small = prepare(
        Request(protocol=PROTOCOL, sets=(f"{WEAK}.volume=5 mL", f"{WEAK}.supply=40 mL", f"{WEAK}.syringe.volume=10 mL"))
    )
    planned = planned_use(small)
    require_enough(small.bench, planned)
    assert planned["liquids"]["mix"]["refills"] == {"pump_weak": 3, "pump_strong": 0}  # 34.4 mL: 5, and three times 10
    less = prepare(Request(protocol=PROTOCOL, sets=(f"{WEAK}.volume=5 mL", f"{WEAK}.supply=30 mL")))
    with pytest.raises(ConfigError, match=r"takes 34\.4 mL .* there are 30 mL"):
        require_enough(less.bench, planned)
    bench = refilled(small.bench)
    assert bench.mixers["mix"].pumps["pump_weak"].volume == pytest.approx(40e-6)
    assert bench.virtual.instruments["pump_weak"]["content"] == pytest.approx(40e-6)


def test_at_every_moment_of_an_exchange_the_book_on_disk_promises_no_more_than_the_syringes_hold(tmp_path: Path) -> None:
    """Whoever kills the program leaves a book that is right within one exchange, and never on the wrong side."""
    bench = prepare(Request(protocol=PROTOCOL)).bench
    path = tmp_path / "1.stocks.json"
    with assemble(bench, Target.VIRTUAL) as lab, lab.backend as backend:
        assert lab.stocks is not None
        lab.stocks.keep(path)
        assert read(path)["pump_weak"]["left"] == 50e-6
        looked: list[tuple[float, float]] = []
        clock, waits = lab.virtual.clock, lab.virtual.clock.sleep

        def look(seconds: float) -> None:
            waits(seconds)
            flows, entries = lab.virtual.side_door.flows(), read(path)
            for pump, entry in entries.items():
                gone = float(flows[pump][""]["delivered"])
                # A pump counts within 1 % of what it delivers.
                assert entry["left"] <= 50e-6 - 0.99 * gone + 1e-12
                assert entry["left"] >= 50e-6 - 1.01 * gone - 1.06e-6
                looked.append((gone, 50e-6 - entry["left"]))

        clock.sleep = look
        backend.measure([Stimulus.of([5.0, 0.0, 0.25, 0.15, 0.2])], SettlePolicy(2e-3, 1.0, 120.0))
        # It was looked at in the middle of exchanges, and what was booked too much came back.
        assert max(booked - gone for gone, booked in looked) > 0.3e-6
        used: Any = backend.usage()
        left = used["liquids"]["mix"]["stock_left"]
        assert {pump: entry["left"] for pump, entry in read(path).items()} == pytest.approx(left)


def test_a_run_that_was_killed_in_an_exchange_goes_on_with_no_more_stock_than_there_is(tmp_path: Path) -> None:
    words = f"run {PROTOCOL} --on virtual --set stop.max_steps=1".split()
    words = [sys.executable, "-c", "from hil.cli import main; main()", *words]
    killed = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        path, before = tmp_path / "data" / "checkpoints" / "1.stocks.json", dict[str, Any]()
        while killed.poll() is None and (not before or 50e-6 - before["pump_weak"]["left"] < 3e-6):
            before = read(path)
    finally:
        killed.kill()
        killed.wait()
    left = {pump: entry["left"] for pump, entry in read(path).items()}
    assert killed.returncode == -signal.SIGKILL  # it had not ended by itself
    assert 50e-6 - left["pump_weak"] >= 3e-6
    code, last, said = hil("resume", "1")
    assert (code, last["outcome"]) == (1, "not_converged"), said
    used = last["results"]["liquids"]["mix"]
    for pump, volume in left.items():
        assert used["stock_used"][pump] + used["stock_left"][pump] == pytest.approx(volume, rel=1e-8)
    # Every node was given its liquid anew, whatever was in it.
    assert used["exchanges"] >= 3
    assert not list(path.parent.glob("2.*"))


def test_an_empty_syringe_pauses_the_run_and_it_goes_on_once_it_was_refilled() -> None:
    sets = ("--set", f"{WEAK}.volume=7 mL", "--set", f"{WEAK}.supply=60 mL")
    code, first, said = hil("run", PROTOCOL, "--on", "virtual", *sets)
    assert (code, first["outcome"], first["results"]["resumable"]) == (3, "stopped", True)
    assert "fill it up and go on with `hil resume ID --refill pump_weak=VOLUME`" in said
    left = first["results"]["liquids"]["mix"]["stock_left"]["pump_weak"]
    assert 0.0 < left < 1.0e-6
    # Nobody has filled it: what was left is still all there is.
    _, again, said = hil("resume", str(first["run_id"]))
    assert again["outcome"] == "stopped"
    assert f"pump 'pump_weak' has {1e6 * left:.3g} mL" in said
    code, _, said = hil("resume", str(again["run_id"]), "--refill", "pump_wek=50 mL")
    assert code == 2
    assert "--refill pump_wek: this run has neither such a pump nor an electrode" in said
    code, _, said = hil("resume", str(again["run_id"]), "--refill", "pump_weak=70 mL")
    assert code == 2
    assert "the syringe holds 60 mL, not 70 mL" in said
    code, last, said = hil("resume", str(again["run_id"]), "--refill", "pump_weak=50 mL")
    assert (code, last["outcome"]) == (0, "converged"), said
    assert abs(last["outputs"]["V2"] - 4.0) <= 50e-3
    assert last["loss_history"][0] == first["loss_history"][0]
    # Going on costs one exchange of every node, because nobody knows what was in them meanwhile.
    exchanges = [run["results"]["liquids"]["mix"]["exchanges"] for run in (first, again, last)]
    assert 47 <= sum(exchanges) <= 47 + 2 * 3 + 3


def test_a_syringe_that_is_emptier_than_the_file_says_ends_the_run_safely_and_it_can_go_on() -> None:
    """The pump stalls in the middle of an exchange: an error in its words, and a run that can be resumed."""
    code, summary, said = hil("run", PROTOCOL, "--on", "virtual", "--set", "bench.virtual.instruments.pump_weak.content=2.0e-6")
    assert code == 3
    assert "pump_weak" in said
    assert "stalled" in said
    assert summary["results"]["resumable"] is True


def test_the_reservoirs_hold_what_was_asked_for_within_the_pumps_error_and_are_isolated_when_read() -> None:
    bench = prepare(Request(protocol=PROTOCOL)).bench
    policy = SettlePolicy(2e-3, 1.0, 120.0)
    with assemble(bench, Target.VIRTUAL) as lab, lab.backend as backend:
        wanted = {"1": 0.25, "2": 0.15, "3": 0.2}
        stimulus = Stimulus.of([5.0, 0.0, *wanted.values()])
        reading = backend.measure([stimulus], policy).values[0, 0]
        true = lab.virtual.side_door.concentrations()
        for node, value in wanted.items():
            assert true[node] == pytest.approx(value, rel=0.015)  # 1 % of each pump, and what was left of the old liquid
        assert any(abs(true[node] / value - 1.0) > 1e-4 for node, value in wanted.items())  # pumps are not perfect
        voltages = lab.virtual.side_door.voltages()
        # Solutions differ from their terminals by what the electrodes make of 0.25 and 0.2 mM.
        assert voltages["1"] - 5.0 == pytest.approx(25.26e-3 * math.log(true["1"] / 0.2), abs=1e-3)
        assert reading == pytest.approx(voltages["2"] - 25.26e-3 * math.log(true["2"] / 0.2), abs=5e-3)
        backend.make_safe()
        assert backend.measure([stimulus], policy).values[0, 0] == pytest.approx(reading, abs=5e-3)
        used: Any = backend.usage()
        assert used["liquids"]["mix"]["exchanges"] == 3


MANY = ("bench.twin.law.parallel=20000", "settle.tolerance=50 mV")


def test_a_plan_that_uses_up_the_salt_is_refused_before_anything_is_applied() -> None:
    code, facts, _ = hil("dry-run", PROTOCOL, *(word for one in MANY for word in ("--set", one)))
    assert code == 4
    assert (
        "by the plan 1.86 % of the salt in its reservoir passes its electrode before its liquid is exchanged" in facts["refusal"]
    )
    assert "fewer channels" in facts["refusal"]
    assert facts["relaxations"] == 0


def test_too_many_channels_use_up_the_salt_and_are_stopped_until_the_liquid_is_exchanged() -> None:
    bench = prepare(Request(protocol=PROTOCOL, sets=MANY)).bench
    with assemble(bench, Target.VIRTUAL) as lab, lab.backend as backend:
        policy = SettlePolicy(50e-3, 1.0, 120.0)
        backend.measure([Stimulus.of([5.0, 0.0, 0.25, 0.15, 0.2])], policy)
        lab.clock.sleep(60.0)
        backend.read(1)
        # A few tenths of a microampere for ten minutes are more than 1 % of the salt in 200 uL of 0.2 mM.
        lab.clock.sleep(600.0)
        with pytest.raises(LimitExceededError, match=r"'V[13]': .* C have passed its electrode since the liquid there was"):
            backend.read(1)
        backend.measure([Stimulus.of([5.0, 0.0, 0.26, 0.15, 0.21])], policy)


def test_an_inert_electrode_is_followed_during_an_exchange_which_takes_a_minute() -> None:
    electrode = "bench.controls.V1.electrode={kind: inert, limit: 0.5 V, capacitance: 20 uF}"
    bench = prepare(Request(protocol=PROTOCOL, sets=(*MANY, electrode))).bench
    with assemble(bench, Target.VIRTUAL) as lab, lab.backend as backend:
        backend.measure([Stimulus.of([5.0, 0.0, 0.25, 0.15, 0.2])], SettlePolicy(50e-3, 1.0, 120.0))
        lab.clock.sleep(300.0)  # at a tenth of a microampere
        begun = lab.clock.now()
        with pytest.raises(LimitExceededError, match=r"'V1': .* C have charged its inert electrode to"):
            backend.apply(Stimulus.of([5.0, 0.0, 0.25, 0.16, 0.2]))
        assert lab.clock.now() - begun < 15.0
