"""What the Keithley 2400 and 2450 do alike: refusals, safe commands, levels, lists and off states on the emulated units."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from hil.core.errors import ConfigError, InstrumentError
from hil.core.types import SafeAction
from instruments.keithley_2400 import Keithley2400
from instruments.keithley_2450 import Keithley2450
from instruments.scpi_smu_front import FrontSmu
from simulated_backend.virtual_bench.process import VirtualBench
from tests.fluid_bench import hasty
from tests.smu_rig import plan, resistors
from tests.unit.instruments.conftest import Build


class Model(NamedTuple):
    """A driver, the header of its off state, and how exact the unit is: V, A, and the share of the time a list takes."""

    driver: type[Any]
    off_mode: str
    volts: float
    amperes: float
    timing: float


MODELS = (
    Model(Keithley2400, ":OUTP:SMOD", 6e-3, 2e-8, 0.02),
    Model(Keithley2450, ":OUTP:VOLT:SMOD", 4e-3, 5e-9, 0.01),
)


@pytest.fixture(scope="module", params=MODELS, ids=lambda one: one.driver.__name__)
def model(request: pytest.FixtureRequest) -> Model:
    found: Model = request.param
    return found


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"compliance": None}, "needs a compliance"),
        ({"compliance": 2.0}, "outside 1e-09 … 1.05 A"),
        ({"maximum": 300.0}, "range 300 is above the largest, 200"),
        ({"settings": {"colour": 1}}, "no setting 'colour'"),
        ({"settings": {"off_mode": "open"}}, "off_mode must be zero or high_impedance"),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_is_sent(
    build: Build, model: Model, changes: dict[str, object], sentence: str
) -> None:
    smu, _ = build(model.driver)
    with pytest.raises(ConfigError, match=sentence):
        smu.configure_source(plan(**changes))


def test_an_unfinished_driver_is_refused_when_it_is_made() -> None:
    class Unfinished(FrontSmu):
        limited = 1

    with pytest.raises(TypeError, match=r"abstract.*prepare_meter.*readings"):
        Unfinished("smu", session=None)


def test_levels_are_one_message_and_an_output_that_went_off_is_an_error(build: Build, model: Model) -> None:
    message, fine = ":SOUR:VOLT 2.5;:SOUR:VOLT?;:OUTP?;:SYST:ERR?", '0,"No error"'
    replies = [f"2.5E+00;1;{fine}", f"2.5E+00;0;{fine}", f"2.4E+00;1;{fine}"]
    smu, _ = build(model.driver, *[(message, reply) for reply in replies])
    write = smu.level_writer([""])
    write([2.5])
    with pytest.raises(InstrumentError, match=r"output off, although it was on"):
        write([2.5])
    with pytest.raises(InstrumentError, match=r"is at 2\.4 V, although 2\.5 V was sent"):
        write([2.5])


def test_safe_commands_say_how_to_tell_that_it_worked(model: Model) -> None:
    off = model.driver.safe_commands("", SafeAction.LEVEL, 0.0, {})
    assert off is not None
    assert off.leave == (f"{model.off_mode} NORM", ":OUTP OFF", ":SOUR:VOLT 0")
    assert off.query == f"{model.off_mode}?;:OUTP?"
    floating = model.driver.safe_commands("", SafeAction.HIGH_IMPEDANCE, 0.0, {})
    assert floating is not None
    assert floating.leave == (f"{model.off_mode} HIMP", ":OUTP OFF", ":SOUR:VOLT 0")
    assert floating.query == f"{model.off_mode}?;:OUTP?"
    held = model.driver.safe_commands("", SafeAction.LEVEL, 0.5, {})
    assert held is not None
    assert held.leave == (":SOUR:VOLT 0.5",)


# On the emulated units ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench(model: Model) -> Iterator[VirtualBench]:
    with VirtualBench.start(resistors(model.driver.__name__, {"1": ""})) as running:
        yield running


@pytest.fixture
def smu(model: Model, bench: VirtualBench) -> Iterator[Any]:
    unit = model.driver("smu", bench.addresses["it"])
    yield unit
    unit.disable(SafeAction.HIGH_IMPEDANCE)
    unit.close()


def test_a_list_is_run_by_the_unit_and_ends_where_it_should(model: Model, bench: VirtualBench, smu: Any) -> None:
    smu.configure_source(plan(compliance=1e-5, settings={"nplc": 0.1}))
    smu.enable(0.0)
    levels = np.concatenate([np.linspace(0.0, 3.0, 130), np.linspace(3.0, -1.0, 40)])[:, None]
    run, seconds = smu.list_acquisition([""], [("", "curr"), ("", "volt")], 0.01)
    before = bench.clock.now()
    acquired = run(levels, 2, False)
    assert bench.clock.now() - before == pytest.approx(len(levels) * seconds(2), rel=model.timing)
    assert acquired.values.shape == (340, 2)
    np.testing.assert_allclose(acquired.values[::2, 1], levels[:, 0], atol=model.volts)
    np.testing.assert_allclose(acquired.values[1::2, 0], levels[:, 0] * 1e-6, atol=model.amperes)
    state = smu.source_state()
    assert state.on
    assert state.level == -1.0
    assert bench.side_door.voltages()["1"] == pytest.approx(-1.0, abs=4e-3)
    run(levels, 1, True)
    assert smu.source_state().level == 0.0
    assert bench.side_door.voltages()["1"] == pytest.approx(0.0, abs=4e-3)


def test_no_part_of_a_list_is_there_twice_when_a_reply_is_lost(model: Model, bench: VirtualBench, smu: Any) -> None:
    smu.configure_source(plan(compliance=1e-5, settings={"nplc": 0.1}))
    smu.enable(0.0)
    hasty(smu, bench)
    levels = np.linspace(0.0, 3.0, 130)[:, None]  # sent in three parts, of which two are appended
    run, _ = smu.list_acquisition([""], [("", "volt")], 0.01)
    for after in range(3):
        bench.side_door.inject("it", "silence", after=after)
        np.testing.assert_allclose(run(levels, 1, True).values, levels, atol=model.volts)
    assert [fault for _, fault in bench.side_door.happened()] == ["silence"] * 3
    bench.side_door.renew()


def test_off_states_hold_zero_or_let_go(bench: VirtualBench, smu: Any) -> None:
    smu.configure_source(plan(compliance=1e-5))
    smu.enable(1.0)
    smu.disable(SafeAction.LEVEL)
    assert bench.side_door.sources()["it"][""]["source"] == "VoltageSource"
    smu.enable(1.0)
    smu.disable(SafeAction.HIGH_IMPEDANCE)
    assert bench.side_door.sources()["it"][""]["source"] == "Open"


def test_the_unit_itself_never_goes_above_its_protection(bench: VirtualBench, smu: Any) -> None:
    """Somebody else writes a level on the same range: a program, or a hand at the front panel."""
    smu.configure_source(plan(maximum=9.0, minimum=-1.0))
    smu.enable(1.0)
    held = smu.settings()["protection_V"]
    assert held in (10.0, 20.0)
    # 20.5 V are within the 20 V range
    smu.session.query(f"{smu.words.limit} 1e-4;:SOUR:VOLT 20.5;:OUTP?")
    assert bench.side_door.voltages()["1"] == pytest.approx(held, abs=1e-2)
    with pytest.raises(InstrumentError):
        smu.level_writer([""])([1e3])  # and what is beyond the range is refused by the unit


def test_a_limit_that_is_too_much_for_the_new_range_is_no_obstacle(bench: VirtualBench, smu: Any) -> None:
    """Somebody left 1 A on the 20 V range; on the 200 V range 0.1 A is the most."""
    smu.write(
        f"{smu.words.output} OFF;{smu.words.level} 0;{smu.words.range} 20;{smu.words.current_range}:AUTO ON;{smu.words.limit} 1"
    )
    smu.configure_source(plan(minimum=-100.0, maximum=100.0, compliance=0.05))
    assert smu.held()["range"] == 200.0
    assert smu.compliance() == 0.05


def test_the_time_of_a_list_is_that_of_the_settings_it_runs_with(smu: Any) -> None:
    """A control may be set up after its list was prepared."""
    smu.configure_meter("curr", {})
    _, seconds = smu.list_acquisition([""], [("", "curr")], 0.0)
    before = seconds(1)
    smu.configure_source(plan(settings={"nplc": 10.0}))
    assert seconds(1) == pytest.approx(10.0 * before)
