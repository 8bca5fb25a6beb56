"""Unmodified clients of others on the emulators of pressures and liquids: gepace, pymensor, vicivalve, syringe_pump."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import pyvisa

from simulated_backend.virtual_bench.plan import InstrumentPlan, Wire
from simulated_backend.virtual_bench.process import VirtualBench
from tests.fluid_bench import fluid_plan


def device(address: str) -> str:
    return address.removeprefix("ASRL").removesuffix("::INSTR")


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    plan = fluid_plan(
        InstrumentPlan("pace", "DruckPACE6000"),
        InstrumentPlan("cpc", "MensorCPC", {"transport": "prologix", "gpib": 5}),
        InstrumentPlan("valve", "ViciValve"),
        InstrumentPlan("pump", "HarvardPHDUltra"),
        wires=(Wire("pace", "a", "1"),),
    )
    with VirtualBench.start(plan) as running:
        yield running


def test_gepace_drives_the_pace(bench: VirtualBench) -> None:
    import connio
    from gepace.pace import Pace, RateMode

    port = bench.addresses["pace"].split("::")[2]
    link = connio.connection_for_url(f"tcp://127.0.0.1:{port}", concurrency="syncio", timeout=2.0)
    try:
        pace = Pace(link)
        assert "PACE6000" in pace("*IDN?")
        module = pace[1]
        assert module.unit("MBAR") == "MBAR"
        assert module.pressure_range("3.00bara") == "3.00bara"
        assert module.barometric_pressure() == pytest.approx(1013.25, abs=0.2)
        assert module.src_pressure_rate_mode(RateMode.Linear) is RateMode.Linear
        assert module.src_pressure_rate(20.0) == 20.0
        assert module.src_pressure_rate_overshoot(False) is False
        assert module.src_pressure_setpoint(1100.0) == 1100.0
        assert module.pressure_resolution(5) == 5
        assert module.start() is True
        bench.clock.sleep(2.0)
        # 20 mbar a second from 1013 mbar, and the volume behind follows late
        assert 1035.0 < module.pressure() < 1053.5
        bench.clock.sleep(10.0)
        pressure, inside = module.pressure_in_limits()
        assert (pressure, inside) == (pytest.approx(1100.0, abs=0.5), True)
        assert bench.side_door.pressures()["1"] == pytest.approx(110e3, abs=50.0)
        assert module.src_pressure_pos_ve() == pytest.approx(4000.0)
        with pace as group:
            module.pressure()
            module.pressure_control()
            module.unit()
        assert group.replies == [pytest.approx(1100.0, abs=0.5), True, "MBAR"]
        assert module.stop() is False
        assert pace(":SYST:ERR?") == "0, No error"
    finally:
        link.close()


def test_pymensor_drives_the_cpc_over_gpib(bench: VirtualBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written in 2020 for ``import visa``, as PyVISA's module was called then; nothing else of it is touched."""
    from pymensor import gpib

    monkeypatch.setattr(gpib, "visa", pyvisa, raising=False)
    manager = pyvisa.ResourceManager("@py")
    port = bench.addresses["cpc"].split("::")[2]
    adapter = manager.open_resource(f"PRLGX-TCPIP6::127.0.0.1::{port}::INTFC")
    try:
        cpc = gpib.PressureController("GPIB6::5::INSTR")
        cpc.set_unit(14)
        cpc.set_active_channel("a")
        cpc.setpoint(1.2)
        cpc.set_mode("control")
        assert cpc.is_stable() is False
        bench.clock.sleep(5.0)
        assert cpc.is_stable() is True
        assert cpc.read_pressure() == pytest.approx(1.2, abs=1e-3)
        assert cpc.read_pressure(units=True).endswith(",bar")
        cpc.set_mode("vent")
        assert bench.side_door.outlets()["cpc"][""]["state"] == "vent"
        cpc.instrument.close()
    finally:
        adapter.close()
        manager.close()


def test_vicivalve_turns_the_valve(bench: VirtualBench) -> None:
    import serial
    import vicivalve

    port = serial.Serial(device(bench.addresses["valve"]), 9600)
    try:
        valve = vicivalve.VICI(port, positions=10)
        # It expects its command back, and has it in two digits only; where the valve stands it reads by itself.
        assert valve.switch_valve(10) is True
        bench.clock.sleep(2.5)
        assert valve.current_position() == 10
        valve.move_clockwise_to_position(3)
        bench.clock.sleep(2.5)
        assert valve.current_position() == 3
        with pytest.raises(ValueError, match="Valid position"):
            valve.switch_valve(11)
    finally:
        port.close()


def test_syringe_pump_drives_the_phd_ultra(bench: VirtualBench) -> None:
    """A client of the Legato 100, which obeys the same pump-chain commands; it works in polling mode."""
    import aioserial
    import syringe_pump
    from quantiphy import Quantity

    async def session() -> None:
        serial = aioserial.AioSerial(port=device(bench.addresses["pump"]), baudrate=115200, timeout=3.0)
        try:
            async with syringe_pump.Pump(serial=serial) as pump:
                await converse(pump)
        finally:
            serial.close()

    async def converse(pump: Any) -> None:
        assert (await pump.version()).firmware == "v3.0.7"
        await pump.syringe.set_diameter(14.57)
        assert float(await pump.syringe.get_diameter()) == pytest.approx(14.57e-3)
        await pump.syringe.set_volume(Quantity("10 ml"))
        # 0.18 um/min and 190.8 mm/min of the data sheet at this diameter; the client reads litres
        low, high = await pump.infusion_rate.get_limits()
        assert [float(low), float(high)] == pytest.approx([3.001e-8, 31.81e-3], rel=1e-3)
        await pump.infusion_rate.set(Quantity("1 ml/min"))
        await pump.target_volume.set(Quantity("0.5 ml"))
        await pump.run()
        bench.clock.sleep(12.0)
        assert float(await pump.infusion_volume.get()) == pytest.approx(0.2e-3, rel=1e-3)
        bench.clock.sleep(60.0)
        with pytest.raises(syringe_pump.PumpError):
            await pump.run()  # the target is reached
        assert float(await pump.infusion_volume.get()) == pytest.approx(0.5e-3, rel=1e-3)
        await pump.infusion_volume.clear()
        with pytest.raises(syringe_pump.PumpError):
            await pump.infusion_rate.set(Quantity("1 l/min"))

    asyncio.run(session())
