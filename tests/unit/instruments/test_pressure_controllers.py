"""What every pressure controller does alike, each driver on its emulated instrument: found switched on, linked, faulty, left."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from hil.core.safety import EdgeLimit, SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, SafeAction, SafeState, Stimulus
from instruments.alicat_pressure import AlicatPressure
from instruments.backend import InstrumentBackend
from instruments.druck_pace import DruckPACE6000
from instruments.mensor_cpc import MensorCPC
from instruments.roles import PressurePort
from instruments.wiring import ControlWire, InstrumentSpec
from simulated_backend.virtual_bench.plan import InstrumentPlan, Wire
from simulated_backend.virtual_bench.process import VirtualBench
from tests.fluid_bench import POLICY, fluid_plan, hasty, linked_backend, outcome_under, pressure_backend, rescue


class Controller(NamedTuple):
    """A driver, how its instrument is told by hand to count in kilopascals, and how far it may read off, Pa."""

    driver: type[Any]
    choose_kilopascals: Callable[[Any], object]
    error: float


CONTROLLERS = (
    Controller(AlicatPressure, lambda unit: unit.say("ADCU 2 1 4", "choosing kilopascals", len), 750.0),
    Controller(MensorCPC, lambda unit: unit.session.write("Units 22"), 100.0),
)


@pytest.fixture(scope="module", params=CONTROLLERS, ids=lambda one: one.driver.__name__)
def controller(request: pytest.FixtureRequest) -> Controller:
    found: Controller = request.param
    return found


@pytest.fixture(scope="module")
def bench(controller: Controller) -> Iterator[VirtualBench]:
    unit = InstrumentPlan("unit", controller.driver.__name__)
    with VirtualBench.start(fluid_plan(unit, wires=(Wire("unit", "", "1"),))) as running:
        yield running


def test_one_left_on_in_its_own_unit_is_brought_home_first(controller: Controller, bench: VirtualBench) -> None:
    bench.side_door.renew()
    unit: Any = controller.driver("left_before", bench.addresses["unit"], visalib="@py")
    try:
        unit.prepare_unit()
        unit.set_slew(float("inf"))
        unit.enable(130e3)
        controller.choose_kilopascals(unit)
        assert unit.source_state() == (pytest.approx(130e3, abs=1.0), pytest.approx(101e3, abs=2e3), True)
    finally:
        unit.close()
    bench.clock.sleep(5.0)
    warnings: list[str] = []
    backend = pressure_backend(controller.driver, bench, "unit", in_limits=500.0, warn=warnings.append)
    with backend:
        backend.apply(Stimulus.of([110e3]))
        assert backend.settle(POLICY).settled
        assert bench.side_door.pressures()["1"] == pytest.approx(110e3, abs=1500.0)
    assert "was found switched on at 130000 Pa" in "".join(warnings)


class Found(NamedTuple):
    """A controller as somebody left it: the options of its emulator, and the words that make it control 20 mbar gauge."""

    driver: type[Any]
    options: dict[str, object]
    words: tuple[str, ...]
    answers: bool = False
    port: str = ""


IN_MILLIBAR = (
    Found(AlicatPressure, {"reference": "gauge", "unit": "mbar"}, ("ALS 20", "AC"), answers=True),
    Found(AlicatPressure, {"reference": "gauge", "unit": "mbar", "group_first": False}, ("ALS 20", "AC"), answers=True),
    Found(MensorCPC, {"reference": "gauge", "unit": 15}, ("Setpt 20", "Mode CONTROL")),
    Found(DruckPACE6000, {"range": "2.00barg"}, (":UNIT1:PRES MBAR", ":SOUR1:PRES 20", ":OUTP1:STAT 1"), port="a"),
)


def name_of(found: Found) -> str:
    return found.driver.__name__ + str(found.options.get("group_first", ""))


def left_in_millibar(found: Found, *names: str) -> Any:
    """A bench on which controllers of these names stand at nodes 1 and low, controlling 20 mbar gauge."""
    instruments = [InstrumentPlan(name, found.driver.__name__, found.options) for name in names]
    wires = tuple(Wire(name, found.port, node) for name, node in zip(names, ("1", "low"), strict=False))
    bench = VirtualBench.start(fluid_plan(*instruments, wires=wires, ideal=True))
    for name in names:
        unit: Any = found.driver("left", bench.addresses[name], visalib="@py")
        try:
            for word in found.words:
                if found.answers:
                    unit.session.query(word)
                else:
                    unit.session.write(word)
            unit.port(found.port).source_state()  # it has been obeyed
        finally:
            unit.close()
    bench.clock.sleep(20.0)
    assert bench.side_door.pressures()["1"] == pytest.approx(103_325.0, abs=5.0)
    return bench


def up_to_20_kilopascals(found: Found, bench: VirtualBench, *names: str, safe: SafeState, difference: float) -> InstrumentBackend:
    """Controls without an output wire, so that nothing has chosen a unit before the way home."""
    path = f"{found.driver.__module__}.{found.driver.__name__}"
    specs = [InstrumentSpec(name, path, bench.addresses[name], {"visalib": "@py"}) for name in names]
    channels = tuple(
        Channel(f"p_{name}", Quantity.PRESSURE, Kind.DRIVE, 0.0, 2e4, max_slew=2e3, emergency_slew=5e3, safe=safe)
        for name in names
    )
    port = f"{found.port}." if found.port else ""
    wires = [
        ControlWire(one, f"{name}.{port}pressure", setup={"reference": "gauge"})
        for one, name in zip(channels, names, strict=True)
    ]
    edges = (EdgeLimit("a", channels[0].name, channels[1].name, difference),) if len(channels) == 2 else ()
    envelope = SafetyEnvelope.of(Layout(channels), edges)
    return InstrumentBackend("left in mbar", specs, wires, [], envelope, bench.clock, warn=lambda _: None)


@pytest.mark.parametrize("found", IN_MILLIBAR, ids=name_of)
def test_one_left_on_in_millibar_is_brought_home_in_pascals(found: Found) -> None:
    with left_in_millibar(found, "unit") as bench:
        backend = up_to_20_kilopascals(found, bench, "unit", safe=SafeState(SafeAction.LEVEL, 0.0), difference=0.0)
        with backend:
            backend.apply(Stimulus.of([1500.0]))
            bench.clock.sleep(5.0)
            assert bench.side_door.pressures()["1"] == pytest.approx(102_825.0, abs=5.0)
        bench.clock.sleep(5.0)
        assert bench.side_door.pressures()["1"] == pytest.approx(101_325.0, abs=5.0)
        _, high = bench.side_door.extremes()["pressure_difference"]["a"]  # from vacuum, for nothing stands at the other end
        assert high == pytest.approx(103_325.0, abs=10.0), "nowhere above where it was found"


@pytest.mark.parametrize("found", IN_MILLIBAR, ids=name_of)
def test_two_left_on_in_millibar_go_home_on_slews_in_pascals(found: Found) -> None:
    with left_in_millibar(found, "unit", "other") as bench:
        safe = SafeState(SafeAction.LEVEL, 0.0)
        with up_to_20_kilopascals(found, bench, "unit", "other", safe=safe, difference=1e3) as backend:
            backend.apply(Stimulus.of([1500.0, 1500.0]))
            bench.clock.sleep(5.0)
            assert bench.side_door.pressures()["1"] == pytest.approx(102_825.0, abs=5.0)
        low, high = bench.side_door.extremes()["pressure_difference"]["a"]
        # What they found each other at counts too: the first was sent on its way a moment before the second.
        assert -1e3 < low <= high < 2010.0


@pytest.mark.parametrize("found", [one for one in IN_MILLIBAR if one.driver is not MensorCPC], ids=name_of)
def test_the_first_slew_counts_in_pascals(found: Found) -> None:
    with left_in_millibar(found, "unit") as bench:
        unit: Any = found.driver("slewing", bench.addresses["unit"], visalib="@py")
        try:
            unit.port(found.port).set_slew(1e3)
            unit.level_writer([found.port])([1000.0])
        finally:
            unit.close()
        bench.clock.sleep(0.5)
        assert 102_800.0 < bench.side_door.pressures()["1"] < 103_325.0, "1 kPa/s, not 1000 mbar/s"


@pytest.mark.parametrize("found", IN_MILLIBAR, ids=name_of)
def test_the_guard_of_one_left_on_in_millibar_counts_in_pascals(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instruments.guard_rescue.ARRIVAL_TIME", 0.5)
    with left_in_millibar(found, "unit") as bench:
        port = f"{found.port}." if found.port else ""
        safe = SafeState(SafeAction.LEVEL, 1000.0)
        address = bench.addresses["unit"]
        assert rescue("unit", found.driver, address, f"unit.{port}pressure", Quantity.PRESSURE, safe) == []
        bench.clock.sleep(10.0)
        assert bench.side_door.pressures()["1"] == pytest.approx(102_325.0, abs=5.0)


@pytest.fixture
def lossy(controller: Controller, bench: VirtualBench) -> Iterator[Any]:
    bench.side_door.renew()
    unit = hasty(controller.driver("lossy", bench.addresses["unit"], visalib="@py"), bench)
    assert isinstance(unit, PressurePort)
    assert unit.prepare_unit() == (300e3, False, ())
    yield unit
    unit.close()


@pytest.mark.parametrize("fault", ["silence", "garbage"])
def test_replies_lost_while_reading_are_overcome(controller: Controller, bench: VirtualBench, lossy: Any, fault: str) -> None:
    for after in range(1, 6):
        bench.side_door.inject("unit", fault, after=after)
        while len(bench.side_door.happened()) < after:  # each has acted before the next one waits
            assert lossy.look().actual == pytest.approx(101_325.0, abs=controller.error)
            assert lossy.pressure_now() == pytest.approx(101_325.0, abs=controller.error)


@pytest.mark.parametrize("fault", ["silence", "garbage"])
def test_replies_lost_while_switching_are_overcome(bench: VirtualBench, lossy: Any, fault: str) -> None:
    for after in range(1, 8):
        bench.side_door.inject("unit", fault, after=after)
        while len(bench.side_door.happened()) < after:
            lossy.enable(110e3)
            lossy.disable(SafeAction.NONE)


@pytest.mark.parametrize(
    ("action", "state"), [(SafeAction.VENT, "vent"), (SafeAction.STOP, "shut"), (SafeAction.LEVEL, "control")]
)
def test_the_guard_brings_it_home(
    controller: Controller, bench: VirtualBench, action: SafeAction, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing arrives on a bench whose time stands still; the guard need not wait long for it.
    monkeypatch.setattr("instruments.guard_rescue.ARRIVAL_TIME", 0.5)
    bench.side_door.renew()
    unit: Any = controller.driver("left_on", bench.addresses["unit"], visalib="@py")
    try:
        unit.prepare_unit()
        unit.set_slew(float("inf"))
        unit.enable(105e3)
    finally:
        unit.close()
    bench.clock.sleep(3.0)
    safe = SafeState(action, 104e3)
    assert rescue("unit", controller.driver, bench.addresses["unit"], "unit.pressure", Quantity.PRESSURE, safe) == []
    assert bench.side_door.outlets()["unit"][""]["state"] == state


@pytest.mark.parametrize(
    ("fault", "amount", "outcomes"),
    [("silence", 1.0, {"right"}), ("garbage", 1.0, {"right"}), ("restart", 1.0, {"refused"}), ("drift", 5e3, {"refused"})],
)
def test_faults_end_in_a_right_reading_or_in_an_error(
    controller: Controller, bench: VirtualBench, fault: str, amount: float, outcomes: set[str]
) -> None:
    assert {outcome_under(controller.driver, bench, fault, amount, after) for after in (2, 9, 17)} <= outcomes


def test_linked_pressures_stay_within_their_limit_all_the_way(controller: Controller) -> None:
    model = controller.driver.__name__
    plan = fluid_plan(
        InstrumentPlan("left", model), InstrumentPlan("right", model), wires=(Wire("left", "", "1"), Wire("right", "", "low"))
    )
    with VirtualBench.start(plan) as bench:
        with linked_backend(controller.driver, bench, ("left", "right"), 3e4) as backend:
            backend.apply(Stimulus.of([180e3, 160e3]))
            assert backend.settle(POLICY).settled
            assert bench.side_door.pressures()["1"] == pytest.approx(180e3, abs=1500.0)
        bench.clock.sleep(3.0)
        assert bench.side_door.pressures()["1"] == pytest.approx(101_325.0, abs=20.0)
        low, high = bench.side_door.extremes()["pressure_difference"]["a"]
        assert 18e3 < high < 3e4
        assert low > -3e4
