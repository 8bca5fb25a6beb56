"""`hil plot` and `hil netlist`: what a user gets from a shipped bench file."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hil.cli import app
from simulated_backend import netlist_run

PNG = b"\x89PNG"


def hil(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize(
    "words",
    [
        ("plot", "network", "divider"),
        ("plot", "network", "regression", "--apply", "Vin=0.5 V"),
        ("plot", "transient", "divider", "--apply", "V1=5 V", "--duration", "20 ms"),
        ("plot", "law", "conical_channel"),
        ("plot", "law", "ohmic"),
        ("plot", "loops", "saturating"),
    ],
    ids=lambda words: "-".join(words[1:3]),
)
def test_a_picture_is_written(words: tuple[str, ...], tmp_path: Path) -> None:
    target = tmp_path / "picture.png"
    hil(*words, "--write", str(target))
    assert target.read_bytes()[:4] == PNG


def test_a_training_run_is_drawn(tmp_path: Path) -> None:
    hil("run", "voltage_divider_1v", "--data", str(tmp_path), "--json")
    hil("plot", "run", "1", "--data", str(tmp_path), "--write", str(tmp_path / "run.png"))
    assert (tmp_path / "run.png").read_bytes()[:4] == PNG


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("plot", "network", "divider", "--apply", "V9=1 V"), "one of V1, V3"),
        (("plot", "network", "divider", "--apply", "V1=9 V"), "outside the limits"),
        (("plot", "network", "divider", "--apply", "V1=9 A"), "a quantity in V is needed"),
        (("plot", "transient", "divider", "--duration", "0 s"), "--duration: 0 s is no time to follow it for"),
        (("plot", "transient", "divider", "--duration", "-1 s"), "--duration: -1 s is no time to follow it for"),
        (("plot", "law", "team"), "has no steady state"),
        (("plot", "loops", "ohmic"), "has no memory"),
        (("plot", "loops", "team", "--amplitude", "1"), "both --amplitude and --frequency"),
        (("plot", "network", "nowhere"), "nowhere"),
        (("plot", "run", "1", "--data", "nowhere"), "nowhere"),
    ],
    ids=lambda value: "-".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_drawn_is_said_in_a_sentence(words: tuple[str, ...], said: str) -> None:
    assert said in hil(*words, code=2)


def test_the_deck_of_a_bench_is_what_ngspice_solves(tmp_path: Path) -> None:
    target = tmp_path / "divider.cir"
    hil("netlist", "divider", "--apply", "V1=5 V", "--write", str(target))
    text = target.read_text(encoding="utf-8")
    assert "n1 = node 2" in text
    if netlist_run.find() is not None:
        assert netlist_run.run(text)["v(n1)"][0] == pytest.approx(2.5, abs=1e-6)
    assert ".tran" in hil("netlist", "divider", "--duration", "20 ms")
