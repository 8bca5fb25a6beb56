"""Bands around pressures, and what pumps mix to, against the steps of a protocol; one reference for all pressures."""

import pytest

from hil.bench import Target
from hil.bench_check import control_layout
from hil.bench_station import control_wires
from hil.core.errors import ConfigError
from hil.heights import check_pressures
from hil.prepared import Prepared, Request, prepare
from hil.pressure_bands import wide_bands


def prepared(*sets: str) -> Prepared:
    return prepare(Request(protocol="voltage_divider", sets=sets))


def bands(*sets: str) -> list[str]:
    made = prepared(*sets)
    return wide_bands(made.bench, made.settings)


def test_a_twentieth_of_the_step_is_fine_and_more_is_told() -> None:
    assert bands() == []
    assert bands("bench.controls.P1.setup={in_limits: 5 Pa}") == []
    (sentence,) = bands("bench.controls.P1.setup={in_limits: 0.1 mbar}")
    assert "'P1' counts as reached within 10 Pa" in sentence
    assert "set `in_limits` to 5 Pa" in sentence


def test_other_weights_do_not_care() -> None:
    assert bands("bench.controls.P1.setup={in_limits: 0.1 mbar}", "weights=length") == []


def test_a_band_as_wide_as_the_step_is_refused_where_it_stands() -> None:
    made = prepared("bench.controls.P1.setup={in_limits: 1 mbar}")
    with (
        pytest.raises(ConfigError, match=r"controls\.P1\.setup\.in_limits: .*cannot be moved by steps of 100 Pa"),
        made.assembled(),
    ):
        pass


@pytest.mark.parametrize("text", ["auto", "5", "true"])
def test_a_band_that_is_no_pressure_is_refused_where_it_stands(text: str) -> None:
    with (
        pytest.raises(ConfigError, match=r"controls\.P1\.setup\.in_limits: "),
        prepared(f"bench.controls.P1.setup={{in_limits: {text}}}").assembled(),
    ):
        pass


def test_the_sentence_reaches_whoever_listens_to_the_lab() -> None:
    heard: list[str] = []
    with prepared("bench.controls.P1.setup={in_limits: 0.1 mbar}").assembled() as lab:
        lab.warnings.listen(heard.append)
    assert len(heard) == 1


@pytest.mark.parametrize("target", [Target.VIRTUAL, Target.BENCH])
def test_a_step_that_pumps_cannot_mix_is_refused_where_there_are_pumps(target: Target) -> None:
    step = "weight_sets.concentration.step=0.5 uM"
    made = prepare(Request("voltage_divider_concentration", target=target, sets=(step,)))
    with pytest.raises(ConfigError, match=r"weight_sets\.concentration\.step: .*pumps mix to 0\.1 %"), made.assembled():
        pass


def test_the_simulated_target_has_no_pumps() -> None:
    heard: list[str] = []
    for step in ("0.1 uM", "2 uM"):
        made = prepare(Request("voltage_divider_concentration", sets=(f"weight_sets.concentration.step={step}",)))
        with made.assembled() as lab:
            lab.warnings.listen(heard.append)
    assert not [sentence for sentence in heard if "pumps" in sentence]


def test_pressures_have_one_reference() -> None:
    with pytest.raises(ConfigError, match=r"'P1' is a gauge pressure and the bench counts absolute ones"):
        prepared("bench.controls.P1.setup={reference: gauge}")
    assert prepared("bench.controls.P1.setup={reference: absolute}").bench is not None
    with pytest.raises(ConfigError, match=r"choice 'gage'; did you mean 'gauge'"):
        prepared("bench.pressure_reference=gage")


def test_the_reference_reaches_every_controller_and_must_be_that_of_the_nodes_at_rest() -> None:
    bench = prepared().bench
    controls = control_layout(bench)
    references = {wire.channel.name: wire.setup.get("reference") for wire in control_wires(bench, controls)}
    assert references == {"V1": None, "V3": None, "P1": "absolute", "P2": "absolute", "P3": "absolute"}
    for sets, sentence in (
        (("bench.pressure_reference=gauge",), "counts gauge pressures, but 'P1' drives node '1', which rests at 100000 Pa"),
        (("bench.twin.pressure=0 bar",), "counts absolute pressures, but 'P1' drives node '1', which rests at 0 Pa"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            check_pressures(prepared(*sets).bench)


def test_the_shipped_bench_waits_for_a_twentieth_of_its_step() -> None:
    bench = prepared().bench
    assert {bench.controls[name].setup["in_limits"] for name in ("P1", "P2", "P3")} == {"5 Pa"}  # a step is 1 mbar
