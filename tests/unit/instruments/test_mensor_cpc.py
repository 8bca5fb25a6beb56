"""Mensor CPC: words against the operating instructions, the driver in place of any other controller, plain pyvisa."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hil.core.errors import InstrumentError
from hil.core.types import Quantity, SafeAction, SafeState, Stimulus
from instruments.mensor_cpc import MensorCPC
from instruments.pressure_unit import Valves
from simulated_backend.virtual_bench.emulators.mensor_cpc import MensorCPC as Emulated
from simulated_backend.virtual_bench.plan import InstrumentPlan, Wire
from simulated_backend.virtual_bench.plant import Plant
from simulated_backend.virtual_bench.process import VirtualBench
from tests.fluid_bench import POLICY, fluid_plan, pressure_backend, rescue
from tests.unit.instruments.conftest import Build


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
        ("Chan A", None),
        ("Chan?", " A"),
        ("Mode?", " STANDBY"),
        ("Units 23", None),
        ("Units?", " Pa"),
        ("Ptype?", " ABSOLUTE"),
        ("Upperlimit?", " +3.000000E+05"),
        ("Mode?", " STANDBY"),
        ("Units 23\nSetpt 120000.00", None),
        ("Setpt?", " +1.200000E+05"),
        ("Mode?", " STANDBY"),
        ("Units 23\nSetpt 990000.00", None),
        ("Setpt?", "E+1.200000E+05"),
        ("Mode?", "ESTANDBY"),
        ("Error?", "E05 - Outside"),
        ("Mode?", " STANDBY"),
    )
    unit.pressure(120e3)
    with pytest.raises(InstrumentError, match="reported 05 - Outside after setting a pressure"):
        unit.pressure(990e3)


def test_a_model_without_channels_is_asked_for_none() -> None:
    plan = fluid_plan(InstrumentPlan("unit", "MensorCPC", {"kind": "CPC4000", "format": 6}), wires=(Wire("unit", "", "1"),))
    with VirtualBench.start(plan) as running:
        unit: Any = MensorCPC("cpc4000", running.addresses["unit"], visalib="@py")
        try:
            told: list[str] = []
            unit.session.notice = told.append
            assert unit.get_idn()["model"] == "CPC4000"
            assert unit.prepare_unit() == (300e3, False, ())
            unit.pressure(110e3)
            unit.switch(Valves.CONTROL)
            running.clock.sleep(5.0)
            assert unit.pressure_now() == pytest.approx(110e3, abs=60.0)
            assert (unit.errors(), told) == ([], [])
            with pytest.raises(InstrumentError, match=r"did not complete 'A\?'"):
                unit.session.query("A?", timeout=0.3)  # it has no such query
        finally:
            unit.close()
        safe = SafeState(SafeAction.STOP)
        assert rescue("unit", MensorCPC, running.addresses["unit"], "unit.pressure", Quantity.PRESSURE, safe) == []


@pytest.mark.parametrize("reply", [" +1.013250E+05", "E+1.013250E+05, Pa, CONTROL", " +1.013250E+05, +1.000000E+05, slewing"])
def test_a_pressure_is_understood_in_every_output_format(build: Build, reply: str) -> None:
    unit, _ = build(MensorCPC, ("Units?", " Pa"), ("?", reply), ("Mode?", " VENT"), ("Setpt?", " +0.0E+00"))
    assert unit.pressure_now() == 101_325.0
    commands = MensorCPC.safe_commands("", SafeAction.VENT, 0.0, {})
    assert commands is not None
    found = re.search(commands.measured, reply)
    assert found is not None
    assert float(found.group(1)) == 101_325.0


def test_the_identities_of_its_relatives_are_known() -> None:
    for identity in (" MENSOR,CPC6050,41000XYZ,1.12.00", "EMENSOR,CPC4000,1,2", "MENSOR, 600,610189,0.1.5"):
        assert MensorCPC.link.recognise(identity) is not None
    assert MensorCPC.link.recognise("MENSOR,CPG2500,1,2") is None


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


def test_plain_pyvisa_can_use_it(bench: VirtualBench) -> None:
    import pyvisa

    manager = pyvisa.ResourceManager("@py")
    unit = manager.open_resource(bench.addresses["other"], read_termination="\r\n", write_termination="\r", timeout=60_000)
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


def test_the_guard_leads_it_home_and_vents() -> None:
    plan = fluid_plan(InstrumentPlan("unit", "MensorCPC"), wires=(Wire("unit", "", "1"),), real_time=True)
    with VirtualBench.start(plan) as real:
        unit: Any = MensorCPC("cpc_left", real.addresses["unit"], visalib="@py")
        unit.prepare_unit()
        unit.pressure(110e3)
        unit.switch(Valves.CONTROL)
        while real.side_door.pressures()["1"] < 109.9e3:
            real.clock.sleep(0.02)
        unit.close()
        safe = SafeState(SafeAction.VENT, 101_325.0)
        begun = real.clock.now()
        assert rescue("unit", MensorCPC, real.addresses["unit"], "unit.pressure", Quantity.PRESSURE, safe) == []
        # On its emergency slew of 100 kPa/s, and a look whether it has arrived.
        assert real.clock.now() - begun > 0.08
        assert real.side_door.outlets()["unit"][""]["state"] == "vent"
