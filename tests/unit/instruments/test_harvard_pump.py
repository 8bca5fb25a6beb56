"""Harvard pumps: prompts and words against the manual, the drivers on the emulated pumps, plain pyserial on the same."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hil.core.errors import InstrumentError
from hil.core.types import Quantity, SafeAction, SafeState
from instruments.harvard_pump import HarvardPHDUltra, HarvardPump11Elite, read_reply
from simulated_backend.virtual_bench.emulators.harvard_pump import HarvardPump as Emulated
from simulated_backend.virtual_bench.plan import InstrumentPlan
from simulated_backend.virtual_bench.plant import Plant
from simulated_backend.virtual_bench.process import VirtualBench
from tests.fluid_bench import ML_PER_MIN, TEN_ML, fluid_plan, hasty, rescue


@pytest.fixture
def plant() -> Plant:
    return Plant(fluid_plan(ideal=True))


def pump_on(plant: Plant, model: str = "HarvardPump11Elite", **options: object) -> Emulated:
    return Emulated("pump", plant, {**Emulated.models[model], "identity": None, **options}, np.random.default_rng(1))


def say(pump: Emulated, *lines: str) -> list[str]:
    return [(pump.receive(line.encode() + b"\r") or b"").decode() for line in lines]


def test_replies_are_lines_and_a_prompt(plant: Plant) -> None:
    pump = pump_on(plant)
    assert say(pump, "", "ver", "diam 14.57", "diameter", "irat 3.2 ul/min", "irate") == [
        "\n:", "\n11 ELITE I/W Single 3.0.4\r\n:", "\n:", "\n14.5700 mm\r\n:", "\n:", "\n3.2 ul/min\r\n:",
    ]  # fmt: skip
    assert say(pump, "irate 99 ml/min", "irate 3 gal/min", "foo") == [
        "\nArgument error: 99 ml/min\r\n   Out of range\r\n:",
        "\nArgument error: 3 gal/min\r\n   Unknown units\r\n:",
        "\nCommand error: foo\r\n   Unknown command\r\n:",
    ]


def test_limits_follow_from_the_pusher_s_speed(plant: Plant) -> None:
    # 159 mm/min through 14.57 mm is 26.509 mL/min
    pump = pump_on(plant)
    assert say(pump, "irate 26.5 ml/min") == ["\n:"]
    assert "Out of range" in say(pump, "irate 26.6 ml/min")[0]
    faster = pump_on(plant, "HarvardPHDUltra")
    assert say(faster, "irate 26.6 ml/min") == ["\n:"]


def test_a_target_is_reached_on_the_plant_s_clock_and_shown_by_the_prompt(plant: Plant) -> None:
    pump = pump_on(plant)
    assert say(pump, "irate 1 ml/min", "tvol 0.5 ml", "irun", "status") == [
        "\n:", "\n:", "\n>", "\n16666666667 0 0 I...I.\r\n>",
    ]  # fmt: skip
    plant.clock.advance(15.0)
    assert say(pump, "ivolume") == ["\n250 ul\r\n>"]
    plant.clock.advance(3600.0)
    # The first prompt came when the target was reached, unasked.
    assert say(pump, "", "ivolume", "irun") == ["\nT*\nT*", "\n500 ul\r\nT*", "\nCommand error: Target volume reached\r\nT*"]
    assert plant.flow("pump", "").delivered() == pytest.approx(0.5e-6)
    assert say(pump, "ctvolume", "wrate 2 ml/min", "wrun") == ["\nT*", "\nT*", "\n<"]
    plant.clock.advance(30.0)
    assert say(pump, "stp", "wvolume") == ["\n:", "\n1 ml\r\n:"]
    assert plant.flow("pump", "").delivered() == pytest.approx(-0.5e-6)


def test_the_end_of_the_syringe_and_a_blocked_line_stall(plant: Plant) -> None:
    pump = pump_on(plant, content=1e-6)
    say(pump, "irate 1 ml/min", "irun")
    plant.clock.advance(90.0)
    assert say(pump, "ivolume") == ["\n*\n1 ml\r\n*"]
    say(pump, "wrate 1 ml/min", "wrun")
    plant.clock.advance(6.0)
    plant.flow("pump", "").block(True)
    plant.clock.advance(60.0)
    assert say(pump, "wvolume") == ["\n*\n100 ul\r\n*"]
    assert say(pump, "status")[0].endswith("i.S.I.\r\n*")


def test_in_polling_mode_no_prompt_comes_unasked_and_each_is_followed_by_xon(plant: Plant) -> None:
    pump = pump_on(plant)
    assert say(pump, "poll", "poll on", "poll") == ["\nOff\r\n:", "\n:\x11", "\nOn\r\n:\x11"]
    assert say(pump, "irate 1 ml/min", "tvol 0.5 ml", "irun") == ["\n:\x11", "\n:\x11", "\n>\x11"]
    plant.clock.advance(60.0)
    assert say(pump, "ivolume") == ["\n500 ul\r\nT*\x11"]
    assert say(pump, "poll off", "poll") == ["\nT*", "\nOff\r\nT*"]


def test_the_end_of_a_reply_is_found_by_its_prompt() -> None:
    class Line:
        def __init__(self, text: bytes) -> None:
            self.text = text

        def read_bytes(self, count: int) -> bytes:
            taken, self.text = self.text[:count], self.text[count:]
            return taken or b"x"

    for reply in ("\n:", "\nT*", "\n*", "\n11 ELITE: v1 <x>\r\n>"):
        line: Any = Line(reply.encode() + b"rest")
        assert read_reply(line) == reply
    polled: Any = Line(b"\n:\x11\n1 ml\r\n>\x11")
    assert [read_reply(polled), read_reply(polled)] == ["\n:", "\n1 ml\r\n>"]
    endless: Any = Line(b"")
    with pytest.raises(ValueError, match="no prompt"):
        read_reply(endless)


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    plan = fluid_plan(
        InstrumentPlan("pump", "HarvardPump11Elite"),
        InstrumentPlan("ultra", "HarvardPHDUltra", {"content": 1e-6}),
        InstrumentPlan("polled", "HarvardPump11Elite", {"poll": "on"}),
    )
    with VirtualBench.start(plan) as running:
        yield running


@pytest.fixture
def pump(bench: VirtualBench) -> Iterator[Any]:
    bench.side_door.renew()
    made = hasty(HarvardPump11Elite("elite", bench.addresses["pump"], visalib="@py"), bench)
    yield made
    made.stop()
    made.close()


def test_it_says_which_firmware_it_has(pump: Any) -> None:
    assert pump.get_idn()["firmware"] == "3.0.4"


def test_a_stalled_pump_and_a_restarted_one_are_errors(pump: Any, bench: VirtualBench) -> None:
    ultra: Any = hasty(HarvardPHDUltra("ultra", bench.addresses["ultra"], visalib="@py"), bench)
    try:
        ultra.configure_pump(TEN_ML)
        ultra.start(3.0 * ML_PER_MIN, 5e-6)
        bench.clock.sleep(60.0)
        with pytest.raises(InstrumentError, match="has stalled"):
            ultra.pump_state()
    finally:
        ultra.close()
    pump.configure_pump(TEN_ML)
    pump.start(1.0 * ML_PER_MIN)
    bench.clock.sleep(5.0)
    bench.side_door.inject("pump", "restart")
    with pytest.raises(InstrumentError, match="switched off and on"):
        pump.pump_state()


@pytest.mark.parametrize("name", ["pump", "polled"])
def test_a_pump_in_either_polling_mode_reaches_its_target_and_is_told_the_next_one(bench: VirtualBench, name: str) -> None:
    """A prompt that comes unasked when the target is reached would be taken for the reply to the next command."""
    bench.side_door.renew()
    driver: Any = hasty(HarvardPump11Elite("elite", bench.addresses[name], visalib="@py"), bench)
    notices: list[str] = []
    driver.session.notice = notices.append
    try:
        assert driver.configure_pump(TEN_ML) == []
        for volume in (0.5e-6, 0.25e-6):
            driver.start(ML_PER_MIN, volume)
            bench.clock.sleep(40.0)
            assert driver.pump_state() == (False, pytest.approx(volume))
            driver.stop()
            assert driver.diameter() == pytest.approx(TEN_ML.diameter)
    finally:
        driver.close()
    assert notices == []


def test_a_prompt_that_came_before_the_pump_was_configured_is_no_reply(bench: VirtualBench) -> None:
    bench.side_door.renew()
    driver: Any = hasty(HarvardPump11Elite("elite", bench.addresses["pump"], visalib="@py"), bench)
    try:
        for command in ("irate 1 ml/min", "tvolume 0.1 ml", "irun"):
            driver.command(command, "running as somebody left it")
        bench.clock.sleep(60.0)
        driver.configure_pump(TEN_ML)
        driver.start(ML_PER_MIN, 0.5e-6)
        bench.clock.sleep(12.0)
        assert driver.pump_state() == (True, pytest.approx(0.2e-6))
        driver.stop()
    finally:
        driver.close()


def test_the_guard_stops_it(pump: Any, bench: VirtualBench) -> None:
    pump.configure_pump(TEN_ML)
    pump.start(1.0 * ML_PER_MIN)
    safe = SafeState(SafeAction.STOP)
    assert rescue("pump", HarvardPump11Elite, bench.addresses["pump"], "pump.rate", Quantity.CONCENTRATION, safe) == []
    pump.session.resynchronise()
    with pytest.raises(InstrumentError, match="nobody told it to"):
        pump.pump_state()
    assert not pump.pump_state().running


def test_plain_pyserial_can_use_it(bench: VirtualBench) -> None:
    import serial

    path = bench.addresses["ultra"].removeprefix("ASRL").removesuffix("::INSTR")
    with serial.Serial(path, 115200, timeout=2.0) as line:
        line.write(b"ver\r")
        assert line.read_until(b":") == b"\nPHD ULTRA I/W 3.0.7\r\n:"
