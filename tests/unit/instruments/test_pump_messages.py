"""Syringe pumps: the exact words of the drivers, and the replies as the manuals print them."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from hil.core.errors import InstrumentError
from hil.core.types import SafeAction
from instruments.fluid_roles import Syringe
from instruments.harvard_pump import HarvardPHDUltra, HarvardPump11Elite
from instruments.new_era_ne1000 import NewEraNE1000, packet
from instruments.visa import Session
from tests.unit.instruments.conftest import IDENTITIES
from tests.unit.instruments.scripted import Exchange, ScriptedResource

BD_10_ML = Syringe(14.57e-3, 10e-6)
ML_PER_MIN = 1e-6 / 60.0


class ByteResource(ScriptedResource):
    """For drivers that read byte by byte until the pump's own end: a reply is handed out in pieces."""

    def read_bytes(self, count: int) -> bytes:
        reply = self.read_raw()
        if len(reply) > count:
            self._replies.insert(0, reply[count:])
        assert len(reply) >= count
        return reply[:count]


def pump_on(driver: type[Any], *exchanges: Exchange) -> tuple[Any, ByteResource]:
    resource = ByteResource(exchanges)
    session = Session("pump", resource.resource_name, resource, driver.link)
    session.identity = IDENTITIES[driver.__name__][0]
    return driver("pump", session=session), resource


@pytest.fixture
def closing() -> Iterator[list[tuple[Any, ByteResource]]]:
    made: list[tuple[Any, ByteResource]] = []
    yield made
    for pump, resource in made:
        pump.close()
        assert resource.script == [], "part of the conversation was never held"


def harvard(word: str, *lines: str, prompt: str = ":") -> Exchange:
    """A command and its reply in polling mode: a line feed, lines that end in CR LF, the prompt, XON."""
    return word, "\n" + "".join(line + "\r\n" for line in lines) + prompt + "\x11"


SET_UP = (
    harvard("poll on"),
    harvard("poll", "On"),
    harvard("nvram none"),
    harvard("status", "0 0 0 i...I."),
    harvard("stp"),
    harvard("diameter 14.5700"),
    harvard("diameter", "14.5700 mm"),
    harvard("svolume 10.0000 ml"),
)
CLEARED = (harvard("stp"), harvard("civolume"), harvard("cwvolume"), harvard("ctvolume"))


@pytest.mark.parametrize("driver", [HarvardPump11Elite, HarvardPHDUltra])
def test_a_harvard_pump_is_told_everything_and_asked_what_it_keeps(
    driver: type[Any], closing: list[tuple[Any, ByteResource]]
) -> None:
    pump, resource = pump_on(
        driver,
        *SET_UP,
        *CLEARED,
        harvard("irate 1000 ul/min"),
        harvard("irate", "1000 ul/min"),
        harvard("tvolume 500 ul"),
        harvard("irun", prompt=">"),
        harvard("ivolume", "250.5 ul", prompt=">"),
        harvard("ivolume", "500 ul", prompt="T*"),
        *CLEARED,
        harvard("wrate 2000 ul/min"),
        harvard("wrate", "2.0000 ml/m"),
        harvard("wrun", prompt="<"),
        harvard("wvolume", "1.25 ml", prompt="<"),
        harvard("stp"),
    )
    closing.append((pump, resource))
    assert pump.configure_pump(BD_10_ML) == []
    pump.start(ML_PER_MIN, 0.5e-6)
    assert pump.pump_state() == (True, pytest.approx(250.5e-9))
    assert pump.pump_state() == (False, pytest.approx(500e-9))
    pump.start(-2.0 * ML_PER_MIN)
    assert pump.pump_state() == (True, pytest.approx(-1.25e-6))
    pump.stop()


def test_a_harvard_pump_s_own_words_are_passed_on(closing: list[tuple[Any, ByteResource]]) -> None:
    pump, resource = pump_on(
        HarvardPHDUltra,
        *SET_UP,
        *CLEARED,
        harvard("irate 1000 ul/min", "Argument error: 1000 ul/min", "   Out of range"),
        *CLEARED,
        harvard("irate 1000 ul/min"),
        harvard("irate", "999 ul/h"),
        *CLEARED,
        harvard("irate 1000 ul/min"),
        harvard("irate", "1000 ul/min"),
        harvard("irun", prompt=">"),
        harvard("ivolume", "80 ul", prompt="*"),
    )
    closing.append((pump, resource))
    pump.configure_pump(BD_10_ML)
    with pytest.raises(InstrumentError, match=r"refused 'irate 1000 ul/min'.*Out of range"):
        pump.start(ML_PER_MIN)
    with pytest.raises(InstrumentError, match=r"keeps the rate 999 ul/h"):
        pump.start(ML_PER_MIN)
    pump.start(ML_PER_MIN)
    with pytest.raises(InstrumentError, match="has stalled"):
        pump.pump_state()


def test_a_harvard_pump_is_told_no_exponents_and_older_ones_not_to_keep_rates(closing: list[tuple[Any, ByteResource]]) -> None:
    pump, resource = pump_on(
        HarvardPHDUltra,
        harvard("poll on"),
        harvard("poll", "ON."),
        harvard("nvram none", "Argument error: none", "   Unknown mode"),
        harvard("nvram off"),
        harvard("status", "0 0 0 i...I"),
        harvard("stp"),
        harvard("diameter 0.5000"),
        harvard("diameter", "0.5000 mm"),
        harvard("svolume 0.0100 ml"),
        *CLEARED,
        harvard("irate 0.06 nl/min"),
        harvard("irate", "3.6 nl/hr"),
        harvard("tvolume 0.05 ul"),
        harvard("irun", prompt=">"),
        harvard("ivolume", "12 pl", prompt=">"),
    )
    closing.append((pump, resource))
    pump.configure_pump(Syringe(0.5e-3, 10e-9))
    pump.start(1e-15, 50e-12)
    assert pump.pump_state() == (True, pytest.approx(12e-15))


@pytest.mark.parametrize("flags", ["i.....", "w...I.", "i...I", "i.S.i.", "wW.TIT"])
def test_the_guard_understands_the_raw_status_of_a_harvard_pump_at_rest(flags: str) -> None:
    commands = HarvardPHDUltra.safe_commands("", SafeAction.STOP, 0.0, {})
    assert commands is not None
    # page 88 of 5419-002 revision A has five flags, the last of which is a capital letter; later firmware has six
    line = f"0 0 0 {flags}\r"
    assert re.search(commands.expected, line)
    assert re.search(commands.expected, line.replace(flags, flags[0].upper() + flags[1:])) is None


def new_era(command: str, reply: str) -> Exchange:
    """A packet with its checksum, and a reply of basic mode."""
    return packet(command), f"\x02{reply}\x03"


def test_the_packet_that_the_manual_prints() -> None:
    # section 10.2: the packet that returns to basic mode
    assert packet("SAF0").encode("latin-1") == b"\x02\x08SAF0\x55\x43\x03"


def test_an_ne1000_is_told_in_four_digits_and_asked_what_it_keeps(closing: list[tuple[Any, ByteResource]]) -> None:
    pump, resource = pump_on(
        NewEraNE1000,
        new_era("", "00A?R"),
        new_era("VER", "00SNE1000V3.928"),
        new_era("", "00S"),
        new_era("STP", "00S?NA"),
        new_era("PHN2", "00S"),
        new_era("FUN", "00SRAT"),
        new_era("FUNSTP", "00S"),
        new_era("PHN1", "00S"),
        new_era("FUN", "00SRAT"),
        new_era("PF", "00S1"),
        new_era("PF0", "00S"),
        new_era("DIA14.57", "00S"),
        new_era("DIA", "00S14.57"),
        new_era("STP", "00S?NA"),
        new_era("VOLUL", "00S"),
        new_era("VOL500.0", "00S"),
        new_era("VOL", "00S500.0UL"),
        new_era("RAT1000UM", "00S"),
        new_era("RAT", "00S1000.UM"),
        new_era("DIRINF", "00S"),
        new_era("CLDINF", "00S"),
        new_era("CLDWDR", "00S"),
        new_era("RUN", "00I"),
        new_era("DIS", "00II250.5W0.000UL"),
        new_era("SAF12", "00I"),
        new_era("SAF", "00I12"),
        new_era("STP", "00P"),
        new_era("STP", "00S"),
    )
    closing.append((pump, resource))
    told = pump.configure_pump(BD_10_ML)
    assert "was switched off and on" in told[0]
    assert "phase 2 of its pumping program was RAT" in told[1]
    assert "after a power failure" in told[2]
    pump.start(ML_PER_MIN, 0.5e-6)
    assert pump.pump_state() == (True, pytest.approx(250.5e-9))
    pump.set_watchdog(12.0)
    pump.stop()


def test_an_ne1000_s_alarms_and_refusals_are_told_in_words(closing: list[tuple[Any, ByteResource]]) -> None:
    pump, resource = pump_on(
        NewEraNE1000,
        new_era("", "00S"),
        new_era("", "00S"),
        new_era("STP", "00S"),
        new_era("PHN2", "00S?"),  # a model that has no programs
        new_era("PF", "00S?"),
        new_era("DIA14.57", "00S?OOR"),
        new_era("DIS", "00A?S"),
        new_era("VER", "00SNE1000V3.928"),
        new_era("DIS", "00A?T"),
        new_era("VER", "00SNE1000V3.928"),
    )
    closing.append((pump, resource))
    with pytest.raises(InstrumentError, match=r"refused 'DIA14\.57' while setting the diameter: out of range"):
        pump.configure_pump(BD_10_ML)
    with pytest.raises(InstrumentError, match="has stalled"):
        pump.pump_state()
    with pytest.raises(InstrumentError, match="longer than its watchdog allows"):
        pump.pump_state()
