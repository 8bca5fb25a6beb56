"""The GPIB adapter's one link: what is said to it, in which order, and how long it is listened to."""

from collections.abc import Iterator
from typing import Any

import pytest
from pyvisa.constants import StatusCode
from pyvisa.errors import VisaIOError

from instruments.prologix import AdaptedResource

ADDRESS = "PRLGX-TCPIP0::192.0.2.7::1234::GPIB::5"
SAVED = ("mode", "addr", "auto", "eoi", "eos", "eot_enable", "eot_char")
"""What the manual (section 8, savecfg) says is written to memory at every change, until that is forbidden."""


class Adapter:
    """A link to an adapter that gives up reading after its time-out, and an instrument that answers after ``slowness`` ms."""

    session = 1

    def __init__(self, slowness: float = 0.0) -> None:
        self.said: list[str] = []
        self.slowness = slowness
        self.timeout: Any = 0.0
        self.read_termination = self.write_termination = "\n"
        self._answers = False

    def write(self, message: str) -> None:
        self.said.append(message)
        if message == "++read eoi":
            patience = float(next(one for one in reversed(self.said) if one.startswith("++read_tmo_ms")).split()[1])
            assert patience < self.timeout, "the adapter still reads when the program has given up"
            self._answers = self.slowness <= patience
            self.slowness -= patience

    def write_raw(self, message: bytes) -> None:
        self.said.append(message.decode())

    def read_raw(self) -> bytes:
        if not self._answers:
            raise VisaIOError(StatusCode.error_timeout)
        return b"1.0\n"

    def close(self) -> None:
        self.said.append("closed")


@pytest.fixture
def resources() -> Iterator[list[AdaptedResource]]:
    made: list[AdaptedResource] = []
    yield made
    for resource in made:
        resource.close()


def behind(link: Adapter, made: list[AdaptedResource]) -> AdaptedResource:
    made.append(AdaptedResource(ADDRESS, lambda _: link))
    return made[-1]


def test_nothing_is_written_to_the_memory_of_the_adapter(resources: list[AdaptedResource]) -> None:
    link = Adapter()
    behind(link, resources).write("*IDN?")
    forbidden = link.said.index("++savecfg 0")
    assert not [one for one in link.said[:forbidden] if one.split()[0].removeprefix("++") in SAVED]
    assert "++addr 5" in link.said[forbidden:]


@pytest.mark.parametrize(("slowness", "asked"), [(0.0, 1), (2500.0, 1), (3500.0, 2), (9500.0, 4)])
def test_a_reply_that_takes_longer_than_the_adapter_waits_is_asked_for_again(
    resources: list[AdaptedResource], slowness: float, asked: int
) -> None:
    link = Adapter(slowness)
    resource = behind(link, resources)
    resource.timeout = 10_000.0
    resource.write("READ?")
    assert resource.read() == "1.0"
    assert link.said.count("++read eoi") == asked


def test_silence_ends_with_the_time_that_was_given(resources: list[AdaptedResource]) -> None:
    link = Adapter(1e9)
    resource = behind(link, resources)
    for timeout, asked in ((500.0, 1), (7000.0, 3)):
        link.said.clear()
        resource.timeout = timeout
        with pytest.raises(VisaIOError, match="VI_ERROR_TMO"):
            resource.read_raw()
        assert link.said.count("++read eoi") == asked
    assert "++read_tmo_ms 1000" in link.said
