"""Mixers in a bench file: what is read, and what is refused by name."""

from pathlib import Path
from typing import Any

import pytest

from hil.bench_mixers import liquids, mixer_specs
from hil.core.errors import ConfigError
from hil.prepared import Request, prepare

PROTOCOL = "voltage_divider_concentration"


def prepared(*sets: str) -> Any:
    return prepare(Request(protocol=PROTOCOL, sets=sets))


def test_the_weaker_stock_comes_first_and_an_exchange_fills_lines_and_washes_the_reservoir() -> None:
    swapped = (
        "bench.mixers.mix.pumps.pump_weak.concentration=0.6 mM",
        "bench.mixers.mix.pumps.pump_strong.concentration=0.02 mM",
    )
    bench = prepared(*swapped).bench
    (spec,) = mixer_specs(bench)
    assert [stock.pump for stock in spec.stocks] == ["pump_strong", "pump_weak"]
    line = 0.25 * 3.14159265 * 0.5e-3**2 * 0.2
    assert spec.volume == pytest.approx(20e-9 + line + 5 * 200e-9)
    assert spec.flow == pytest.approx(1e-6 / 60.0)


def test_waste_is_a_position_of_its_own_or_the_one_that_isolates_or_none() -> None:
    for text, position in (("4", 4), ("5", 5), ("null", None)):
        (spec,) = mixer_specs(prepared(f"bench.mixers.mix.waste={text}").bench)
        assert (spec.closed, spec.waste) == (4, position)


def test_the_plant_gets_an_outlet_for_every_control() -> None:
    facts = liquids(prepared().bench)
    (mixer,) = facts["mixers"]
    assert facts["electrodes"] == "silver_chloride"
    assert {place: one["node"] for place, one in mixer["outlets"].items()} == {"1": "1", "2": "2", "3": "3"}
    assert mixer["pumps"] == {"pump_weak": 0.02, "pump_strong": 0.6}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("bench.controls.C1.limits=[0.01 mM, 0.5 mM]", r"controls\.C1\.limits.*mix to 0\.02 … 0\.6 mol/m\^3 only"),
        ("bench.controls.C1.parameter=mix.n9.concentration", r"no concentration of that mixer; known: mix\.n1\.concentration"),
        ("bench.mixers.mix.valve=tap", "no instrument 'tap'"),
        ("bench.mixers.mix.valve=pump_weak", "is a pump of this mixer already"),
        ("bench.mixers.mix.closed=2", "position 2 of the valve is used twice"),
        ("bench.mixers.mix.waste=3", "position 3 of the valve is used twice"),
        ("bench.mixers.mix.pumps.pump_weak.volume=61 mL", "the syringe holds 60 mL, not 61 mL"),
        ("bench.mixers.mix.pumps.pump_weak.concentration=0.6 mM", "both stocks have the same concentration"),
        ("bench.mixers.mix.flow=1 mL", "flow"),
        ("bench.mixers.mix.reservoir=20 mL", r"volume: one exchange within the limits of 'C1' takes up to 94\.9 mL of it"),
        ("bench.controls.C2.safe=0.2 mM", r"controls\.C2\.safe.* no liquid is exchanged, its pumps stop: write `safe: stop`"),
        ("bench.controls.C2.safe=none", "write `safe: stop`"),
    ],
)
def test_a_mixer_that_cannot_be_is_refused(change: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        prepared(change)


def test_the_shipped_bench_file_says_what_its_comment_says() -> None:
    text = (Path(__file__).parents[3] / "protocols" / "benches" / "divider_concentration.yaml").read_text(encoding="utf-8")
    bench = prepared().bench
    assert "200 channels" in text
    assert bench.twin.law.parallel == 200
