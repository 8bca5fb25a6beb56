"""Alicat: words against the serial primer, the driver in place of any other pressure controller, the alicat package."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hil.core.errors import ConfigError, InstrumentError
from hil.core.types import Quantity, Stimulus
from instruments.alicat_pressure import AlicatPressure
from instruments.roles import SourcePlan
from simulated_backend.virtual_bench.emulators.alicat_pressure import AlicatPressure as Emulated
from simulated_backend.virtual_bench.plan import InstrumentPlan, Wire
from simulated_backend.virtual_bench.plant import Plant
from simulated_backend.virtual_bench.process import VirtualBench
from tests.fluid_bench import POLICY, fluid_plan, pressure_backend
from tests.unit.instruments.conftest import Build


@pytest.fixture
def plant() -> Plant:
    return Plant(fluid_plan(InstrumentPlan("unit", "AlicatPressure"), wires=(Wire("unit", "", "1"),), ideal=True))


def unit_on(plant: Plant, **options: object) -> Emulated:
    given = {**Emulated.models["AlicatPressure"], "identity": None, **options}
    return Emulated("unit", plant, given, np.random.default_rng(1))


def say(unit: Emulated, *lines: str) -> list[str]:
    return [(unit.receive(line.encode()) or b"").decode().removesuffix("\r") for line in lines]


# The emulator against the primer -------------------------------------------------------------------------------------


def test_frames_units_and_refusals(plant: Plant) -> None:
    unit = unit_on(plant)
    assert say(unit, "A", "a", "B", "AXY", "ADCU 2 1 10", "A", "ADCU 2 1 99", "AFPF 2") == [
        "A +101.3250 +101.3250 HLD", "A +101.3250 +101.3250 HLD", "", "?", "A 10 PSI", "A +014.6959 +014.6959 HLD", "?",
        "A +043.5113 10 PSI",
    ]  # fmt: skip
    assert say(unit, "AS 60", "AS -1", "ALS 20", "AR122", "AW122=38", "AW122=12") == [
        "?", "?", "A +020.0000 +020.0000 10 PSI", "A   122=34", "A   122=38", "?",
    ]  # fmt: skip


def test_the_set_point_ramps_when_and_where_it_was_told_to(plant: Plant) -> None:
    unit = unit_on(plant)
    assert say(unit, "ASR 10 4", "ALSRC 1 0 1 1", "AC", "AS 121.325")[:2] == ["A 10.0000 4 4 kPa/s", "A 1 0 1 1"]
    plant.clock.advance(1.0)
    assert say(unit, "ALS") == ["A +111.3250 +121.3250 4 kPa"]
    assert plant.node_pressures()["1"] == pytest.approx(111.325e3 - 0.3 * 10e3, abs=500.0)
    plant.clock.advance(10.0)
    assert plant.node_pressures()["1"] == pytest.approx(121.325e3, abs=1.0)
    assert say(unit, "AS 101.325", "ALS")[1] == "A +101.3250 +101.3250 4 kPa", "downwards it does not ramp"


def test_valves_shut_and_exhaust(plant: Plant) -> None:
    unit = unit_on(plant)
    say(unit, "ASR 0 4", "AC", "AS 150")
    plant.clock.advance(5.0)
    assert say(unit, "AHC")[0].endswith("HLD")
    say(unit, "AS 120")
    plant.clock.advance(5.0)
    assert plant.node_pressures()["1"] == pytest.approx(150e3, abs=1.0)
    assert say(unit, "AE")[0].endswith("EXH")
    plant.clock.advance(5.0)
    assert plant.node_pressures()["1"] == pytest.approx(plant.atmosphere, abs=1.0)


def test_the_error_stays_within_the_data_sheet_and_differs_between_instruments() -> None:
    errors = []
    for seed in range(40):
        plant = Plant(fluid_plan())
        unit = Emulated("unit", plant, {**Emulated.models["AlicatPressure"], "identity": None}, np.random.default_rng(seed))
        errors.append(float(say(unit, "A")[0].split()[1]) - 101.325)
    assert 0.1 < float(np.std(errors)) < 0.4
    assert max(np.abs(errors)) < 1.5 * 0.75


# The driver ----------------------------------------------------------------------------------------------------------


def test_words_of_the_driver(build: Build) -> None:
    unit, _ = build(
        AlicatPressure,
        ("AR122", "A   122=34"),
        ("ADCU 2", "A 10 PSI"),
        ("ADCU 2 1 2", "A 2 Pa"),
        ("ADCU 2", "A 2 Pa"),
        ("AFPF 2", "A +300.0 4 kPa"),
        ("A", "A +101325.0 +101325.0 HLD"),
        ("ALS", "A +101325.0 +101325.0 2 Pa"),
        # before the first set-point, whoever has asked for its unit before
        ("AR122", "A   122=34"),
        ("ADCU 2", "A 2 Pa"),
        ("AFPF 2", "A +300000.0 2 Pa"),
        ("ALSS", "A S"),
        ("ALSRC 1 1 1 1", "A 1 1 1 1"),
        ("ALS 120000.0", "?"),
        ("ALS 120000.0", "A +101325.0 +119990.0 2 Pa"),
        ("ASR 500.0000 4", "A 50.0000 2 4 Pa/s"),
        ("ASR 500.0000 4", "A 496.0000 2 4 Pa/s"),
        # never a faster one
        ("ASR 500.0000 4", "A 504.0000 2 4 Pa/s"),
        ("ASR 490.0000 4", "A 494.0000 2 4 Pa/s"),
        ("ASR 500.0000 4", "A 504.0000 2 4 Pa/s"),
        ("ASR 490.0000 4", "A 504.0000 2 4 Pa/s"),
        ("ASR 500.0000 4", "A 5.0000 4 4 kPa/s"),
    )
    assert unit.prepare_unit() == (300e3, False, ())
    assert unit.source_state() == (101325.0, 101325.0, False)
    with pytest.raises(InstrumentError, match=r"did not accept 'ALS 120000\.0'"):
        unit.pressure(120e3)
    with pytest.raises(InstrumentError, match="has the set-point 119990 Pa"):
        unit.pressure(120e3)
    with pytest.raises(InstrumentError, match="keeps a ramp of 50"):
        unit.set_slew(500.0)
    unit.set_slew(500.0)
    unit.set_slew(500.0)
    with pytest.raises(InstrumentError, match="keeps a ramp of 504 Pa/s"):
        unit.set_slew(500.0)
    with pytest.raises(InstrumentError, match=r"keeps a ramp of 5 \(units 4, 4\)"):
        unit.set_slew(500.0)


def test_pascals_are_chosen_in_whichever_order_it_takes_or_asked_for(build: Build) -> None:
    asked, kilo = ("ADCU 6", "A 2 Pa"), ("ADCU 6", "A 4 kPa")
    gauge = (("AR122", "A   122 = 38"),)
    rest = (("AFPF 6", "A +200000.0 2 Pa"),)
    unit, resource = build(AlicatPressure, *gauge, kilo, ("ADCU 6 1 2", "?"), kilo, ("ADCU 6 2 1", "A 2 Pa"), asked, *rest)
    assert unit.prepare_unit() == (200e3, True, ())
    resource.expect(*gauge, kilo, ("ADCU 6 1 2", "?"), kilo, ("ADCU 6 2 1", "?"), kilo)
    with pytest.raises(InstrumentError, match=r"counts in kPa .* choose Pa for its pressures at the instrument"):
        unit.prepare_unit()


def test_saved_set_points_come_back_with_the_power_and_analogue_ones_are_nobody_s(plant: Plant) -> None:
    unit = unit_on(plant)
    say(unit, "AC", "AS 150")
    plant.clock.advance(5.0)
    unit.power_on()
    assert say(unit, "ALS", "A")[0].split()[2] == "+150.0000"
    assert not say(unit, "A")[0].endswith("HLD"), "it controls again, by itself"
    assert say(unit, "ALSS", "ALSS U", "AS 120", "ALSS X") == ["A S", "A U", say(unit, "A")[0], "?"]
    unit.power_on()
    assert say(unit, "ALS", "A")[0].split()[2] == "+150.0000", "the last one that was saved, not the last one that was sent"
    assert say(unit, "ALSS A", "ALS 130")[1].split()[2] != "+130.0000", "it is not taken, and nothing is said of it"
    unit = unit_on(plant)
    assert say(unit, "ALSS U", "AC", "AS 120")[0] == "A U"
    unit.power_on()
    assert say(unit, "A")[0].endswith("HLD"), "nothing was ever saved"
    unit = unit_on(plant, source="A", analogue=140e3)
    assert say(unit, "ALS")[0].split()[2] == "+140.0000"
    say(unit, "ALSS U")
    plant.clock.advance(5.0)
    assert plant.node_pressures()["1"] == pytest.approx(plant.atmosphere, abs=1.0), "who takes it away drops the pressure"


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    plan = fluid_plan(
        InstrumentPlan("unit", "AlicatPressure"),
        InstrumentPlan("gauge", "AlicatPressure", {"reference": "gauge"}),
        InstrumentPlan("flow", "AlicatPressure", {"frame": "mass flow", "unit": "PSI", "transport": "socket"}),
        wires=(Wire("unit", "", "1"),),
    )
    with VirtualBench.start(plan) as running:
        yield running


def test_it_stands_in_a_bench_in_place_of_any_pressure_controller(bench: VirtualBench) -> None:
    bench.side_door.renew()
    backend = pressure_backend(AlicatPressure, bench, "unit", in_limits=500.0, reference="absolute")
    with backend:
        begun = bench.clock.now()
        backend.apply(Stimulus.of([150e3]))
        assert backend.settle(POLICY).settled
        # 48.7 kPa at 20 kPa/s, held by the backend's ramp and by the instrument's
        assert 2.3 < bench.clock.now() - begun < 8.0
        assert bench.side_door.pressures()["1"] == pytest.approx(150e3, abs=3.0 * 250.0 + 500.0)
        assert backend.read(4).values[0] == pytest.approx(150e3, abs=600.0)
        assert bench.side_door.outlets()["unit"][""]["state"] == "control"
    assert bench.side_door.outlets()["unit"][""]["state"] == "vent"
    bench.clock.sleep(3.0)
    assert bench.side_door.pressures()["1"] == pytest.approx(101_325.0, abs=10.0)


def test_what_the_bench_file_expects_is_compared(bench: VirtualBench) -> None:
    backend = pressure_backend(AlicatPressure, bench, "gauge", reference="absolute")
    with pytest.raises(InstrumentError, match="controls gauge pressures, but the bench file wants absolute"), backend:
        backend.apply(Stimulus.of([150e3]))
    warnings: list[str] = []
    backend = pressure_backend(AlicatPressure, bench, "gauge", warn=warnings.append)
    with backend:
        backend.apply(Stimulus.of([1e5]))
    assert "say `reference: gauge`" in "".join(warnings)


def test_a_controller_switched_off_and_on_is_an_error_not_a_reading(bench: VirtualBench) -> None:
    bench.side_door.renew()
    backend = pressure_backend(AlicatPressure, bench, "unit", in_limits=500.0)
    with backend:
        backend.apply(Stimulus.of([120e3]))
        backend.settle(POLICY)
        bench.side_door.inject("unit", "restart")
        with pytest.raises(InstrumentError):
            backend.read(1)
    assert bench.side_door.outlets()["unit"][""]["state"] == "vent"


def test_a_limit_above_full_scale_is_refused(bench: VirtualBench) -> None:
    unit: Any = AlicatPressure("alicat_limits", bench.addresses["unit"], visalib="@py")
    try:
        with pytest.raises(ConfigError, match=r"400000 Pa is above its full scale of 300000 Pa"):
            unit.configure_source(SourcePlan(Quantity.PRESSURE, 0.0, 4e5, None, 1e4))
    finally:
        unit.close()


def test_reading_one_that_its_analogue_input_controls_leaves_it_to_it_and_driving_it_is_refused() -> None:
    found = InstrumentPlan("unit", "AlicatPressure", {"source": "A", "analogue": 150e3, "unit": "mbar"})
    with VirtualBench.start(fluid_plan(found, wires=(Wire("unit", "", "1"),), ideal=True)) as running:
        running.clock.sleep(5.0)
        unit: Any = AlicatPressure("analogue", running.addresses["unit"], visalib="@py")
        try:
            unit.say("ALSRC 0 1 0 1", "choosing what is ramped", len)
            unit.configure_meter("pressure", {})
            assert unit.pressure_now() == pytest.approx(150e3, abs=1.0)
            plan = SourcePlan(Quantity.PRESSURE, 9e4, 2e5, None, 1e4)
            for drive in (
                lambda: unit.configure_source(plan),
                lambda: unit.level_writer([""])([149e3]),
                lambda: unit.set_slew(1e3),
                lambda: unit.enable(120e3),
            ):
                with pytest.raises(InstrumentError, match="takes its set-points from its analogue input"):
                    drive()
            assert unit.session.query("ALSS") == "A A"
            assert unit.session.query("ALSRC") == "A 0 1 0 1"
        finally:
            unit.close()
        running.clock.sleep(5.0)
        assert running.side_door.outlets()["unit"][""]["state"] == "control"
        assert running.side_door.pressures()["1"] == pytest.approx(150e3, abs=1.0)


@pytest.mark.parametrize(("source", "reference"), [("S", "absolute"), ("U", "absolute"), ("S", "gauge"), ("U", "gauge")])
def test_what_somebody_saved_does_not_come_back_with_the_power(source: str, reference: str) -> None:
    options = {"source": source, "reference": reference, "saved": 80e3 + 101_325.0 * (reference == "absolute")}
    found = InstrumentPlan("unit", "AlicatPressure", options)
    with VirtualBench.start(fluid_plan(found, wires=(Wire("unit", "", "1"),), ideal=True)) as running:
        running.clock.sleep(5.0)
        assert running.side_door.pressures()["1"] == pytest.approx(181_325.0, abs=1.0)
        with pressure_backend(AlicatPressure, running, "unit", in_limits=500.0, reference=reference) as backend:
            backend.apply(Stimulus.of([95e3]))
            running.side_door.inject("unit", "restart")
            running.clock.sleep(10.0)
            assert running.side_door.outlets()["unit"][""]["state"] == "control"
            assert running.side_door.pressures()["1"] == pytest.approx(101_325.0, abs=5.0)
            with pytest.raises(InstrumentError, match="was switched off and on"):
                backend.read(1)


# A client that nobody here wrote -------------------------------------------------------------------------------------


def test_the_alicat_package_drives_it(bench: VirtualBench) -> None:
    import alicat

    _, _, host, port, _ = bench.addresses["flow"].replace("::", ":").replace("TCPIP0", "TCPIP:").split(":")

    async def use() -> None:
        async with alicat.FlowController(f"{host}:{port}") as controller:
            assert "10v05" in await controller.get_firmware()
            await controller.set_ramp_config({"up": True, "down": True, "zero": True, "power": False})
            assert (await controller.get_ramp_config())["power"] is False
            await controller.set_maxramp(2.5, "s")
            assert await controller.get_maxramp() == {"max_ramp": 2.5, "units": "PSI/s"}
            await controller.cancel_hold()
            await controller.set_pressure(20.0)
            state = await controller.get()
            assert state["control_point"] == "abs pressure"
            assert state["pressure"] == pytest.approx(14.7, abs=0.2)
            bench.clock.sleep(5.0)
            assert (await controller.get())["pressure"] == pytest.approx(20.0, abs=0.05)
            await controller.hold()
            await controller.hw.close()  # its own close() leaves a TCP link open

    asyncio.run(use())
    assert bench.side_door.outlets()["flow"][""]["state"] == "shut"
