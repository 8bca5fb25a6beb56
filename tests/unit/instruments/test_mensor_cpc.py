"""Mensor CPC: words against the operating instructions, the driver in place of any other controller, plain pyvisa."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hil.core.errors import InstrumentError
from hil.core.types import Quantity, SafeAction, SafeState, SettlePolicy, Stimulus
from instruments.mensor_cpc import MensorCPC
from instruments.roles import PressurePort
from simulated_backend.virtual_bench.emulators.mensor_cpc import MensorCPC as Emulated
from simulated_backend.virtual_bench.plan import InstrumentPlan, Wire
from simulated_backend.virtual_bench.plant import Plant
from simulated_backend.virtual_bench.process import VirtualBench
from tests.fluid_bench import fluid_plan, linked_backend, outcome_under, pressure_backend, rescue
from tests.unit.instruments.conftest import Build

POLICY = SettlePolicy(tolerance=50.0, window=0.1, timeout=60.0)


def say(unit: Emulated, *lines: str) -> list[str | None]:
    replies = [unit.receive(line.encode()) for line in lines]
    return [None if reply is None else reply.decode() for reply in replies]


def test_replies_begin_with_a_space_or_with_the_error_flag() -> None:
    plant = Plant(fluid_plan(InstrumentPlan("unit", "MensorCPC"), wires=(Wire("unit", "", "1"),), ideal=True))
    unit = Emulated("unit", plant, {**Emulated.models["MensorCPC"], "identity": None}, np.random.default_rng(1))
    assert say(unit, "A?", "mode?", "Units 15", "A?", "Units?") == [
        " +1.013250E+02\r\n", " STANDBY\r\n", None, " +1.013250E+03\r\n", " mbar\r\n",
    ]  # fmt: skip
    assert say(unit, "Setpt 4000", "Foo", "Setpt?", "Error?", "Error?", "Setpt?") == [
        None, None, "E+0.000000E+00\r\n", "E05 - Set-point outside the limits\r\n", " 01 - Unknown command\r\n",
        " +0.000000E+00\r\n",
    ]  # fmt: skip
    say(unit, "Setpt 1500", "Mode control")
    plant.clock.advance(5.0)
    assert plant.node_pressures()["1"] == pytest.approx(150e3, abs=1.0)
    assert say(unit, "Stable?") == [" YES\r\n"]
    say(unit, "Mode measure", "Setpt 1200")
    plant.clock.advance(5.0)
    assert plant.node_pressures()["1"] == pytest.approx(150e3, abs=1.0)
    say(unit, "Mode vent")
    plant.clock.advance(5.0)
    assert plant.node_pressures()["1"] == pytest.approx(plant.atmosphere, abs=1.0)


def test_words_of_the_driver(build: Build) -> None:
    unit, _ = build(
        MensorCPC,
        ("Mode?", "ESTANDBY"),
        ("Mode?", "ESTANDBY"),
        ("Error?", "E07 - Old"),
        ("Mode?", " STANDBY"),
        ("Setpt 120000.00", None),
        ("Setpt?", " +1.200000E+05"),
        ("Mode?", " STANDBY"),
        ("Setpt 990000.00", None),
        ("Setpt?", "E+1.200000E+05"),
        ("Mode?", "ESTANDBY"),
        ("Error?", "E05 - Outside"),
        ("Mode?", " STANDBY"),
    )
    unit.pressure(120e3)
    with pytest.raises(InstrumentError, match="reported 05 - Outside after setting a pressure"):
        unit.pressure(990e3)


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    plan = fluid_plan(InstrumentPlan("unit", "MensorCPC"), InstrumentPlan("other", "MensorCPC"), wires=(Wire("unit", "", "1"),))
    with VirtualBench.start(plan) as running:
        yield running


def test_it_stands_in_a_bench_in_place_of_any_pressure_controller(bench: VirtualBench) -> None:
    bench.side_door.renew()
    backend = pressure_backend(MensorCPC, bench, "unit", in_limits=100.0, reference="absolute")
    with backend:
        begun = bench.clock.now()
        backend.apply(Stimulus.of([150e3]))
        assert bench.clock.now() - begun == pytest.approx(48.675e3 / 2e4, abs=0.1), "led by the bench at 20 kPa/s"
        assert backend.settle(POLICY).settled
        assert bench.side_door.pressures()["1"] == pytest.approx(150e3, abs=130.0)
        assert backend.read(4).values[0] == pytest.approx(150e3, abs=110.0)
        bench.side_door.inject("unit", "error")
        backend.apply(Stimulus.of([140e3]))
        bench.side_door.inject("unit", "restart")
        with pytest.raises(InstrumentError):
            backend.read(1)
    assert bench.side_door.outlets()["unit"][""]["state"] == "vent"


@pytest.mark.parametrize("fault", ["silence", "garbage"])
def test_lost_replies_are_overcome(bench: VirtualBench, fault: str) -> None:
    bench.side_door.renew()
    unit: Any = MensorCPC("cpc_lossy", bench.addresses["unit"], visalib="@py", timeout=0.1)
    try:
        assert isinstance(unit, PressurePort)
        assert unit.prepare_unit() == (300e3, False, ())
        for after in range(1, 6):
            bench.side_door.inject("unit", fault, after=after)
            assert unit.look().actual == pytest.approx(101_325.0, abs=100.0)
            assert unit.pressure_now() == pytest.approx(101_325.0, abs=100.0)
    finally:
        unit.close()


@pytest.mark.parametrize(
    ("action", "state"), [(SafeAction.VENT, "vent"), (SafeAction.STOP, "shut"), (SafeAction.LEVEL, "control")]
)
def test_the_guard_brings_it_home(bench: VirtualBench, action: SafeAction, state: str) -> None:
    bench.side_door.renew()
    unit: Any = MensorCPC("cpc_left", bench.addresses["unit"], visalib="@py")
    try:
        unit.prepare_unit()
        unit.enable(105e3)
    finally:
        unit.close()
    address = bench.addresses["unit"]
    assert rescue("unit", MensorCPC, address, "unit.pressure", Quantity.PRESSURE, SafeState(action, 104e3)) == []
    assert bench.side_door.outlets()["unit"][""]["state"] == state


def test_plain_pyvisa_can_use_it(bench: VirtualBench) -> None:
    import pyvisa

    manager = pyvisa.ResourceManager("@py")
    unit = manager.open_resource(bench.addresses["other"], read_termination="\r\n", write_termination="\r")
    try:
        assert isinstance(unit, pyvisa.resources.MessageBasedResource)
        assert unit.query("*IDN?").startswith(" MENSOR,CPC6050")
        unit.write("Units 14")
        unit.write("Setpt 1.2")
        unit.write("Mode CONTROL")
        assert unit.query("Mode?") == " CONTROL"
        bench.clock.sleep(5.0)
        assert float(unit.query("A?")) == pytest.approx(1.2, abs=1e-3)
        assert unit.query("Stable?") == " YES"
    finally:
        unit.close()
        manager.close()


def test_a_controller_left_on_in_its_own_unit_is_brought_home_first(bench: VirtualBench) -> None:
    bench.side_door.renew()
    unit: Any = MensorCPC("cpc_before", bench.addresses["unit"], visalib="@py")
    try:
        unit.prepare_unit()
        unit.set_slew(float("inf"))
        unit.enable(130e3)
        unit.session.write("Units 22")
        assert unit.source_state() == (pytest.approx(130e3, abs=1.0), pytest.approx(101e3, abs=2e3), True)
    finally:
        unit.close()
    bench.clock.sleep(5.0)
    warnings: list[str] = []
    backend = pressure_backend(MensorCPC, bench, "unit", in_limits=500.0, warn=warnings.append)
    with backend:
        backend.apply(Stimulus.of([110e3]))
        assert backend.settle(POLICY).settled
        assert bench.side_door.pressures()["1"] == pytest.approx(110e3, abs=1500.0)
    assert "was found switched on at 130000 Pa" in "".join(warnings)


def test_linked_pressures_stay_within_their_limit_all_the_way() -> None:
    plan = fluid_plan(
        InstrumentPlan("left", "MensorCPC"),
        InstrumentPlan("right", "MensorCPC"),
        wires=(Wire("left", "", "1"), Wire("right", "", "low")),
    )
    with VirtualBench.start(plan) as bench:
        with linked_backend(MensorCPC, bench, ("left", "right"), 3e4) as backend:
            backend.apply(Stimulus.of([180e3, 160e3]))
            assert backend.settle(POLICY).settled
            assert bench.side_door.pressures()["1"] == pytest.approx(180e3, abs=1500.0)
        bench.clock.sleep(3.0)
        assert bench.side_door.pressures()["1"] == pytest.approx(101_325.0, abs=20.0)
        low, high = bench.side_door.extremes()["pressure_difference"]["a"]
        assert 18e3 < high < 3e4
        assert low > -3e4


@pytest.mark.parametrize(
    ("fault", "amount", "outcomes"),
    [("silence", 1.0, {"right"}), ("garbage", 1.0, {"right"}), ("restart", 1.0, {"refused"}), ("drift", 5e3, {"refused"})],
)
def test_faults_end_in_a_right_reading_or_in_an_error(bench: VirtualBench, fault: str, amount: float, outcomes: set[str]) -> None:
    assert {outcome_under(MensorCPC, bench, fault, amount, after) for after in (2, 9, 17)} <= outcomes
