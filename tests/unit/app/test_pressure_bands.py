"""Bands around pressures against the steps of a protocol, and one reference for all of them."""

import pytest

from hil.core.errors import ConfigError
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


def test_the_sentence_reaches_whoever_listens_to_the_lab() -> None:
    heard: list[str] = []
    with prepared("bench.controls.P1.setup={in_limits: 0.1 mbar}").assembled() as lab:
        lab.warnings.listen(heard.append)
    assert len(heard) == 1


def test_pressures_have_one_reference() -> None:
    both = "bench.controls.P1.setup={reference: gauge}", "bench.controls.P2.setup={reference: absolute}"
    with pytest.raises(ConfigError, match=r"'P1' is a gauge pressure and 'P2' an absolute one"):
        prepared(*both)
    assert prepared("bench.controls.P1.setup={reference: absolute}").bench is not None
