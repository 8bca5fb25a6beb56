"""The NE-1000: packets word by word, the driver on the emulated pump, and nesp-lib, which nobody here wrote, on the same."""

import binascii
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hil.core.errors import ConfigError, InstrumentError
from hil.core.types import Quantity, SafeAction, SafeState
from instruments.fluid_roles import Pump
from instruments.new_era_ne1000 import NewEraNE1000, packet
from instruments.safe_commands import Guarded, HardwareWatchdog
from simulated_backend.virtual_bench.emulators.new_era_ne1000 import NewEraNE1000 as Emulated
from simulated_backend.virtual_bench.plan import InstrumentPlan
from simulated_backend.virtual_bench.plant import Plant
from simulated_backend.virtual_bench.process import VirtualBench
from tests.fluid_bench import ML_PER_MIN, TEN_ML, fluid_plan, hasty, rescue


@pytest.fixture
def plant() -> Plant:
    return Plant(fluid_plan(ideal=True))


def pump_on(plant: Plant, **options: object) -> Emulated:
    made = Emulated("pump", plant, {**Emulated.models["NewEraNE1000"], "identity": None, **options}, np.random.default_rng(1))
    assert made.receive(b"\r") == b"\x0200A?R\x03", "the first reply after switching on tells of the reset"
    return made


def say(pump: Emulated, *lines: str) -> list[str]:
    return [(pump.receive(line.encode() + b"\r") or b"").decode().strip("\x02\x03") for line in lines]


# The emulator against the manual ------------------------------------------------------------------------------------


def test_the_manual_s_own_packet_returns_to_basic_mode(plant: Plant) -> None:
    pump = pump_on(plant)
    assert (pump.receive(b"SAF 20\r") or b"")[:5] == b"\x02\x0700S", "the reply is a packet by now"
    assert pump.receive(b"\r") is None, "in safe mode a plain line is nothing"
    assert pump.receive(b"\x02\x08SAF0\x55\x43\x03") == b"\x0200S\x03"


def test_a_reply_in_safe_mode_has_length_and_checksum(plant: Plant) -> None:
    pump = pump_on(plant)
    pump.receive(b"SAF5\r")
    reply = pump.receive(packet("VER").encode("latin-1"))
    assert reply is not None
    body = reply[2:-3]
    assert body == b"00SNE1000V3.928"
    assert reply[0] == 2
    assert reply[1] == len(reply) - 1
    assert reply[-1] == 3
    assert binascii.crc_hqx(body, 0).to_bytes(2, "big") == reply[-3:-1]
    damaged = bytearray(packet("VER").encode("latin-1"))
    damaged[3] ^= 1
    assert b"00S?COM" in (pump.receive(bytes(damaged)) or b"")


def test_packets_and_lines_are_told_apart_however_they_arrive(plant: Plant) -> None:
    pump = pump_on(plant)
    whole = packet("VER").encode("latin-1")
    buffer = bytearray(b"DIA\r" + whole[:4])
    assert pump.frames(buffer) == [b"DIA\r"]
    buffer += whole[4:] + b"\r"
    assert pump.frames(buffer) == [whole, b"\r"]
    assert not buffer


def test_numbers_limits_and_refusals(plant: Plant) -> None:
    pump = pump_on(plant)
    assert say(pump, "dia 14.57", "DIA", "RAT 500 UH", "RAT", "VOL", "DIA 50.01", "DIA 12.345", "XYZ") == [
        "00S", "00S14.57", "00S", "00S500.0UH", "00S0.000ML", "00S?OOR", "00S?OOR", "00S?",
    ]  # fmt: skip
    # 5.1005 cm/min through 14.57 mm is 8.504 mL/min
    assert say(pump, "RAT 8.50 MM", "RAT 8.60 MM", "RAT") == ["00S", "00S?OOR", "00S8.500MM"]
    assert say(pump, "RUN", "RUN", "DIA 10", "VOL 1", "RAT 1 UH", "RAT 2", "STP", "STP", "STP") == [
        "00I", "00I?NA", "00I?NA", "00I?NA", "00I?NA", "00I", "00P", "00S", "00S?NA",
    ]  # fmt: skip


def test_a_volume_is_delivered_and_counted_on_the_plant_s_clock(plant: Plant) -> None:
    pump = pump_on(plant)
    say(pump, "DIA14.57", "RAT1MM", "VOL UL", "VOL500")
    assert say(pump, "RUN") == ["00I"]
    plant.clock.advance(15.0)
    assert say(pump, "DIS") == ["00II250.0W0.000UL"]
    assert plant.flow("pump", "").delivered() == pytest.approx(0.25e-6)
    say(pump, "STP")
    plant.clock.advance(60.0)
    assert say(pump, "RUN") == ["00I"]
    plant.clock.advance(3600.0)
    assert say(pump, "", "DIS") == ["00S", "00SI500.0W0.000UL"]
    assert plant.flow("pump", "").delivered() == pytest.approx(0.5e-6)


def test_a_wrong_diameter_and_the_pump_s_own_error_show_in_the_plant() -> None:
    plant = Plant(fluid_plan(ideal=False))
    pump = pump_on(plant, content=30e-6, diameter=20e-3)
    say(pump, "DIA10", "RAT1MM", "VOLML", "VOL1", "RUN")
    plant.clock.advance(61.0)
    assert say(pump, "DIS") == ["00SI1.000W0.000ML"]
    true = plant.flow("pump", "").delivered()
    assert true != 4e-6
    assert true == pytest.approx(4e-6, rel=0.01)


def test_the_plunger_stalls_at_the_end_and_the_alarm_comes_first(plant: Plant) -> None:
    pump = pump_on(plant, content=1e-6)
    say(pump, "DIA14.57", "RAT1MM", "VOL0", "RUN")
    plant.clock.advance(120.0)
    assert plant.flow("pump", "").delivered() == pytest.approx(1e-6)
    assert say(pump, "DIS", "DIS", "DIRWDR", "RUN") == ["00A?S", "00SI1.000W0.000ML", "00S", "00W"]
    plant.clock.advance(30.0)
    assert say(pump, "DIS") == ["00WI1.000W0.500ML"]


def test_a_blocked_line_stalls(plant: Plant) -> None:
    pump = pump_on(plant)
    say(pump, "DIA14.57", "RAT1MM", "VOL0", "RUN")
    plant.clock.advance(6.0)
    plant.flow("pump", "").block(True)
    plant.clock.advance(6.0)
    assert say(pump, "", "DIS") == ["00A?S", "00SI0.100W0.000ML"]


def test_silence_stops_the_plunger_after_the_time_out_and_not_before(plant: Plant) -> None:
    pump = pump_on(plant)
    say(pump, "DIA14.57", "RAT1MM", "VOL0", "RUN")
    pump.receive(b"SAF6\r")
    status = packet("").encode("latin-1")
    for _ in range(3):
        plant.clock.advance(5.0)
        assert b"00I" in (pump.receive(status) or b"")
    plant.clock.advance(600.0)
    assert plant.flow("pump", "").delivered() == pytest.approx(21.0 * ML_PER_MIN)
    assert b"00A?T" in (pump.receive(status) or b"")
    assert b"00S" in (pump.receive(status) or b"")


def test_in_safe_mode_an_alarm_is_told_unasked_and_again_as_the_reply(plant: Plant) -> None:
    pump = pump_on(plant, content=1e-6)
    say(pump, "DIA14.57", "RAT1MM", "VOL0", "RUN")
    pump.receive(b"SAF200\r")
    plant.clock.advance(120.0)
    status = packet("").encode("latin-1")
    told = pump.receive(status) or b""
    assert told.count(b"00A?S") == 2, "what was sent unasked does not clear the alarm (section 10.2.3)"
    assert (pump.receive(status) or b"").count(b"00S") == 1


def test_a_program_runs_from_its_first_phase_on_whichever_is_chosen(plant: Plant) -> None:
    pump = pump_on(plant)
    say(pump, "DIA14.57", "VOLUL", "PHN2", "FUNRAT", "RAT2MM", "VOL100", "DIRWDR", "PHN1", "RAT1MM", "VOL100", "PHN2")
    assert say(pump, "PHN", "FUN", "PHN42", "FUNJMP1") == ["00S2", "00SRAT", "00S?OOR", "00S?"]
    assert say(pump, "RUN") == ["00I"]
    plant.clock.advance(6.1)
    assert say(pump, "") == ["00W"], "then comes the second"
    plant.clock.advance(3.1)
    assert say(pump, "DIS") == ["00SI100.0W100.0UL"], "the third stops, as delivered"


def test_it_goes_on_after_a_power_failure_if_it_was_told_to(plant: Plant) -> None:
    pump = pump_on(plant)
    say(pump, "DIA14.57", "RAT1MM", "VOL0")
    for word, after in (("PF0", "00S"), ("PF1", "00I")):
        assert say(pump, word, "PF", "RUN")[1] == f"00S{word[2]}"
        pump.power_on()
        assert say(pump, "", "") == ["00A?R", after]
        say(pump, "STP", "STP")


# Through the port ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench() -> Iterator[VirtualBench]:
    with VirtualBench.start(
        fluid_plan(InstrumentPlan("pump", "NewEraNE1000"), InstrumentPlan("other", "NewEraNE1000"))
    ) as running:
        yield running


@pytest.fixture
def pump(bench: VirtualBench) -> Iterator[Any]:
    bench.side_door.renew()
    made = hasty(NewEraNE1000("ne1000", bench.addresses["pump"], visalib="@py"), bench)
    yield made
    made.set_watchdog(0.0)
    made.close()


def test_it_plays_its_roles(pump: Any) -> None:
    assert isinstance(pump, Pump)
    assert isinstance(pump, Guarded)
    assert isinstance(pump, HardwareWatchdog)
    assert pump.get_idn() == {"vendor": "New Era", "model": "NE1000", "serial": "not told", "firmware": "3.928"}


def test_its_rate_can_be_changed_while_it_runs(pump: Any, bench: VirtualBench) -> None:
    assert pump.configure_pump(TEN_ML) == []
    assert pump.rate_span()[1] == pytest.approx(8.504 * ML_PER_MIN, rel=1e-3)
    pump.start(2.0 * ML_PER_MIN, 1e-6)
    bench.clock.sleep(15.0)
    assert pump.pump_state() == (True, pytest.approx(0.5e-6))
    pump.rate(1.0 * ML_PER_MIN)
    assert pump.rate() == pytest.approx(1.0 * ML_PER_MIN)
    bench.clock.sleep(29.0)
    assert pump.pump_state().running
    bench.clock.sleep(2.0)
    assert pump.pump_state() == (False, pytest.approx(1e-6))


def test_the_watchdog_stops_a_forgotten_pump_and_the_driver_says_so(pump: Any, bench: VirtualBench) -> None:
    pump.configure_pump(TEN_ML)
    with pytest.raises(ConfigError, match="1 to 255 s"):
        pump.set_watchdog(300.0)
    pump.set_watchdog(7.0)
    assert pump.settings()["watchdog_s"] == 7
    pump.start(1.0 * ML_PER_MIN)
    bench.clock.sleep(6.0)
    assert pump.pump_state().running
    bench.clock.sleep(60.0)
    with pytest.raises(InstrumentError, match="longer than its watchdog allows"):
        pump.pump_state()
    assert pump.pump_state() == (False, pytest.approx(13.0 / 60.0 * 1e-6, rel=2e-2))


def test_a_pump_switched_off_and_on_is_noticed_in_both_modes(pump: Any, bench: VirtualBench) -> None:
    pump.configure_pump(TEN_ML)
    for watchdog in (0.0, 200.0):
        pump.set_watchdog(watchdog)
        pump.start(1.0 * ML_PER_MIN)
        bench.clock.sleep(6.0)
        bench.side_door.inject("pump", "restart")
        with pytest.raises(InstrumentError, match="switched off and on"):
            pump.pump_state()
        assert not pump.pump_state().running


def test_it_is_found_in_safe_mode_and_running(pump: Any, bench: VirtualBench) -> None:
    pump.configure_pump(TEN_ML)
    pump.set_watchdog(250.0)
    pump.start(1.0 * ML_PER_MIN)
    again = NewEraNE1000("ne1000_again", bench.addresses["pump"], visalib="@py")
    assert "found running" in "".join(again.configure_pump(TEN_ML))
    assert not again.pump_state().running
    again.close()


@pytest.mark.parametrize("watchdog", [0.0, 100.0])
def test_the_guard_stops_it_in_either_mode(pump: Any, bench: VirtualBench, watchdog: float) -> None:
    pump.configure_pump(TEN_ML)
    pump.set_watchdog(watchdog)
    pump.start(1.0 * ML_PER_MIN)
    problems = rescue(
        "pump", NewEraNE1000, bench.addresses["pump"], "pump.rate", Quantity.CONCENTRATION, SafeState(SafeAction.STOP)
    )
    assert problems == []
    pump.session.resynchronise()  # some answers to the guard are still on the line that it shared with us
    assert not pump.pump_state().running


def test_an_alarm_told_unasked_does_not_answer_the_next_question(pump: Any, bench: VirtualBench) -> None:
    pump.configure_pump(TEN_ML)
    pump.set_watchdog(200.0)
    pump.start(1.0 * ML_PER_MIN)
    bench.side_door.inject("pump", "error")
    with pytest.raises(InstrumentError, match="has stalled"):
        pump.pump_state()
    assert pump.diameter() == pytest.approx(14.57e-3)
    assert not pump.pump_state().running
    pump.start(1.0 * ML_PER_MIN)
    assert pump.pump_state().running
    pump.stop()


def test_a_program_that_stood_in_the_pump_is_none_any_more(pump: Any, bench: VirtualBench) -> None:
    for word in ("PHN2", "FUNRAT", "VOLUL", "VOL500", "DIA14.57", "RAT1MM", "PHN3", "RAT1MM", "PF1"):
        pump.ask_pump(word, "leaving a program behind", anyway=True)
    told = " ".join(pump.configure_pump(TEN_ML))
    assert "phase 2 of its pumping program was RAT; it is STP now" in told
    assert "would have gone on pumping after a power failure" in told
    pump.start(2.0 * ML_PER_MIN, 0.5e-6)
    bench.clock.sleep(20.0)
    assert pump.pump_state() == (False, pytest.approx(0.5e-6))
    assert pump.configure_pump(TEN_ML) == []


def test_the_guard_stops_one_that_has_just_told_an_alarm(pump: Any, bench: VirtualBench) -> None:
    pump.configure_pump(TEN_ML)
    pump.set_watchdog(100.0)
    pump.start(1.0 * ML_PER_MIN)
    bench.side_door.inject("pump", "error")
    safe = SafeState(SafeAction.STOP)
    assert rescue("pump", NewEraNE1000, bench.addresses["pump"], "pump.rate", Quantity.CONCENTRATION, safe) == []
    pump.session.resynchronise()


def test_nesp_lib_drives_it_in_basic_and_safe_mode(bench: VirtualBench) -> None:
    import nesp_lib

    port = nesp_lib.Port(bench.addresses["other"].removeprefix("ASRL").removesuffix("::INSTR"), 19200)
    try:
        pump = nesp_lib.Pump(port)
        assert pump.model_number == 1000
        assert pump.firmware_version == (3, 928)
        pump.syringe_diameter_mm = 14.57
        assert pump.syringe_diameter_mm == 14.57
        pump.pumping_direction = nesp_lib.PumpingDirection.INFUSE
        pump.pumping_volume_ml = 0.5
        pump.pumping_rate_ml_per_min = 3.0
        assert pump.pumping_rate_ml_per_min == pytest.approx(3.0)
        with pytest.raises(ValueError, match="exceeds limit"):
            pump.pumping_rate_ml_per_min = 20.0
        pump.run(wait_while_running=False)
        assert pump.status is nesp_lib.Status.INFUSING
        bench.clock.sleep(5.0)
        assert pump.volume_infused_ml == pytest.approx(0.25)
        bench.clock.sleep(10.0)
        assert not pump.running
        assert pump.volume_infused_ml == pytest.approx(0.5)
        pump.volume_infused_clear()
        pump.safe_mode_timeout_s = 20
        assert pump.safe_mode_timeout_s == 20
        pump.pumping_volume_ml = 5.0
        pump.run(wait_while_running=False)
        bench.clock.sleep(40.0)
        with pytest.raises(nesp_lib.StatusAlarmException):
            _ = pump.status
        # It takes the alarm that was sent unasked for the reply, which is left on the line: it has to be thrown away for it.
        port._Port__serial.reset_input_buffer()
        assert pump.status is nesp_lib.Status.STOPPED
        assert pump.volume_infused_ml == pytest.approx(1.0)
        pump.safe_mode_timeout_s = 0
    finally:
        port.close()
