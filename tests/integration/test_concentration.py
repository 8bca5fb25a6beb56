"""Concentration applied through pumps and a valve: trained, rehearsed, and refused where the stock is not there."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hil.bench import Target, assemble
from hil.cli import app
from hil.core.types import SettlePolicy, Stimulus
from hil.prepared import Request, prepare

PROTOCOL = "voltage_divider_concentration"


def hil(*arguments: str) -> tuple[int, dict[str, Any], str]:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    return done.exit_code, json.loads(done.stdout.splitlines()[-1]), done.stderr


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
    planned = facts["results"]["liquids"]["mix"]
    assert facts["hours"] > planned["hours"] > 0.5
    assert planned["exchanges"] == pytest.approx(used["exchanges"], rel=0.02)
    assert planned["hours"] == pytest.approx(used["hours"], rel=0.02)
    assert planned["stock_used"] == pytest.approx(used["stock_used"], rel=0.02)
    total = sum(used["stock_used"].values())
    assert total == pytest.approx(used["exchanges"] * 1.059e-6, rel=5e-3)


def test_a_rehearsal_refuses_what_the_stock_does_not_last_for() -> None:
    code, facts, _ = hil("dry-run", PROTOCOL, "--set", "bench.mixers.mix.pumps.pump_weak.volume=5 mL")
    assert code == 3
    assert "pump 'pump_weak' has" in facts["refusal"]
    assert "fill it up" in facts["refusal"]
    left = facts["results"]["liquids"]["mix"]["stock_left"]["pump_weak"]
    assert 0.0 <= left < 1.0e-6


def test_a_refill_pauses_the_run_and_resume_goes_on_from_there() -> None:
    _, summary, said = hil("run", PROTOCOL, "--on", "virtual", "--set", "bench.mixers.mix.pumps.pump_weak.volume=7 mL")
    assert "fill it up and go on with `hil resume`" in said
    assert (summary["outcome"], summary["results"]["resumable"]) == ("stopped", True)
    first = summary["relaxations"]
    # The same file again: the syringe has been filled up to what it says, which lasts for as long again.
    _, resumed, _ = hil("resume", str(summary["run_id"]))
    assert resumed["relaxations"] > first
    assert resumed["loss_history"][0] == summary["loss_history"][0]


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
        assert backend.usage()["liquids"]["mix"]["exchanges"] == 3  # type: ignore[index] # JSON


def test_too_many_channels_use_up_the_salt_and_are_stopped() -> None:
    code, facts, _ = hil("dry-run", PROTOCOL, "--set", "bench.twin.law.parallel=20000", "--set", "settle.tolerance=50 mV")
    assert code == 4
    assert "have passed its electrode" in facts["refusal"]
    assert "fewer channels" in facts["refusal"]
