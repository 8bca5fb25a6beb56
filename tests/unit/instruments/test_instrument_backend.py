"""The backend's own rules, on instruments made of Python: order, ramps, wiring. The wire is tested elsewhere."""

import warnings

import numpy as np
import pytest

from hil.core.errors import ConfigError
from hil.core.types import Stimulus
from instruments.wiring import ControlWire
from tests.unit.instruments import fake_instruments
from tests.unit.instruments.fake_instruments import POLICY, Bench, make, pascal, two_volts, volt

bench = fake_instruments.bench


def test_connecting_says_nothing_and_closing_untouched_says_nothing(bench: Bench) -> None:
    with two_volts(bench):
        assert bench.log == []
    assert [entry[2] for entry in bench.log] == ["closed"]


def test_sources_are_configured_off_then_switched_on_at_zero_then_ramped_together(bench: Bench) -> None:
    with two_volts(bench) as backend:
        backend.apply(Stimulus.of([1.0, -0.5]))
    what = [entry[1:3] for entry in bench.log]
    assert what[:5] == [
        ("smu", "a meter"),
        ("smu", "a configure"),
        ("smu", "a on"),
        ("other", "a configure"),
        ("other", "a on"),
    ]
    assert [value for _, _, name, value in bench.log if name == "a on"] == [0.0, 0.0]
    ramp = [entry for entry in bench.log if entry[2] == "a level"]
    assert [entry[1] for entry in ramp[:4]] == ["smu", "other", "smu", "other"]


def test_no_step_of_a_ramp_is_faster_than_the_slew_rate_on_the_way_up_or_home(bench: Bench) -> None:
    with two_volts(bench) as backend:
        backend.apply(Stimulus.of([2.0, -1.0]))
        backend.apply(Stimulus.of([1.5, -1.0]))
    for name in ("smu", "other"):
        times = np.array([entry[0] for entry in bench.log if entry[1:3] == (name, "a level")])
        levels = np.array([entry[3] for entry in bench.log if entry[1:3] == (name, "a level")])
        steps = np.abs(np.diff(levels, prepend=0.0))
        assert steps.max() <= 10.0 * 0.02 * (1 + 1e-9)
        moving = steps[1:] > 0
        assert np.all(np.diff(times)[moving] >= steps[1:][moving] / 10.0 - 1e-9)
        assert levels[-1] == 0.0


def test_a_control_that_does_not_change_is_not_written_again(bench: Bench) -> None:
    with two_volts(bench) as backend:
        backend.apply(Stimulus.of([1.0, 0.5]))
        backend.settle(POLICY)
        bench.log.clear()
        backend.apply(Stimulus.of([1.1, 0.5]))
        assert bench.done("level") == [("smu", "a level", 1.1)]


def test_a_ramp_begins_where_the_terminal_is_and_not_where_it_was_sent(bench: Bench) -> None:
    with two_volts(bench) as backend:
        backend.apply(Stimulus.of([2.0, 0.0]))
        bench.instruments["smu"].ports["a"].level = 0.0  # somebody turned the knob
        backend.settle(POLICY)
        bench.log.clear()
        backend.apply(Stimulus.of([2.0, 0.0]))
        levels = [value for _, _, value in bench.done("level")]
        assert levels[0] == pytest.approx(0.2)
        assert levels[-1] == 2.0


def test_after_a_long_pause_the_level_is_looked_at_first(bench: Bench) -> None:
    with two_volts(bench) as backend:
        backend.apply(Stimulus.of([2.0, 0.0]))
        bench.clock.sleep(60.0)
        bench.instruments["smu"].ports["a"].level = 0.0
        bench.log.clear()
        backend.apply(Stimulus.of([2.1, 0.0]))
        assert bench.done("level")[0][2] < 0.25


def test_an_output_found_on_is_brought_home_before_it_is_configured(bench: Bench) -> None:
    port = bench.instruments["smu"].ports["a"]
    port.on, port.level = True, 1.0
    said: list[str] = []
    with two_volts(bench, warn=said.append) as backend:
        backend.apply(Stimulus.of([0.1, 0.0]))
    first = [entry[2:] for entry in bench.log if entry[1] == "smu"]
    names = [name for name, _ in first]
    assert names.index("a level") < names.index("a configure")
    before = first[: names.index("a configure")]
    assert [value for name, value in before if name == "a level"][-1] == 0.0
    assert before[-1][0] == "a level"  # and off, which is what its safe state means
    assert any("found switched on at 1 V" in text for text in said)


def test_a_disconnected_control_floats_and_comes_back_from_zero(bench: Bench) -> None:
    with two_volts(bench) as backend:
        backend.apply(Stimulus.of([1.0, 1.0], [True, False]))
        assert ("other", "a high_impedance", 0.0) in bench.done("high_impedance")
        assert ("other", "a on", 0.0) not in bench.done("on")
        bench.log.clear()
        backend.apply(Stimulus.of([1.0, 1.0], [True, False]))
        assert bench.log == []
        backend.apply(Stimulus.of([1.0, 0.1]))
        assert bench.done("on") == [("other", "a on", 0.0)]


def test_a_control_of_another_quantity_than_its_port_is_refused_on_opening(bench: Bench) -> None:
    backend = make(bench, [ControlWire(pascal("P1"), "smu.a.volt")])
    with pytest.raises(ConfigError, match=r"smu\.a\.volt would be driven in Pa, and this port drives volt \(V\)"):
        backend.open()
    assert ("station", "closed", 0.0) in bench.done("closed")


def test_settings_with_units_are_understood_and_unknown_ones_refused(bench: Bench) -> None:
    said: list[str] = []
    with make(bench, [ControlWire(volt("V1"), "smu.a.volt", 1e-5, {"range": "6 V"})], warn=said.append) as backend:
        backend.apply(Stimulus.of([0.1]))
        assert bench.instruments["smu"].ports["a"].plan.settings == {"range": 6.0}
    assert said == ["a word of warning"]
    for setup, sentence in (({"colour": 1}, "unknown setup 'colour'"), ({"range": "6 A"}, "'6 A'")):
        with warnings.catch_warnings(), pytest.raises(ConfigError, match=sentence):
            make(bench, [ControlWire(volt("V1"), "smu.a.volt", 1e-5, setup)]).open()
