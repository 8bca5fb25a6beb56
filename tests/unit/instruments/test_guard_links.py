"""The links of the guard: plain sockets, serial lines, and a port that lets dead ones go."""

import os
import socket

import pytest

from instruments.guard_links import LinkError, SocketLink, connect, is_socket, release
from instruments.serial_line import USUAL
from tests.marks import needs_posix
from tests.unit.instruments.guard_kit import devices, off


def test_addresses_that_are_plain_sockets() -> None:
    assert is_socket("TCPIP0::127.0.0.1::5025::SOCKET")
    assert is_socket("tcpip::host::5025::socket")
    assert not is_socket("TCPIP0::127.0.0.1::inst0::INSTR")
    assert not is_socket("ASRL/dev/ttyS0::INSTR")


def test_nobody_at_the_door_is_a_link_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens: while it is held, nobody else can
        port = taken.getsockname()[1]
        plan = {"address": f"TCPIP0::127.0.0.1::{port}::SOCKET", "write_termination": "\n", "read_termination": "\n"}
        with pytest.raises(LinkError):
            connect(plan)
    with pytest.raises(LinkError, match="no socket address"):
        SocketLink({**plan, "address": "GPIB0::1::INSTR"})
    with pytest.raises(LinkError):
        connect({**plan, "address": "ASRL/dev/there-is-no-such-port::INSTR", "visalib": "@py"})


def test_an_instrument_with_a_release_port_is_asked_there() -> None:
    with devices(off) as (door,):
        release({"address": f"TCPIP0::127.0.0.1::{door.port}::SOCKET", "release_port": door.port})
        release({"address": f"TCPIP0::127.0.0.1::{door.port}::SOCKET", "release_port": None})
        door.close()
        release({"address": f"TCPIP0::127.0.0.1::{door.port}::SOCKET", "release_port": door.port})


@needs_posix
def test_a_serial_line_is_cleaned_of_what_the_dead_program_left() -> None:
    import pty
    import tty

    host, device = pty.openpty()
    tty.setraw(device)
    os.write(host, b"late reply\n")
    line = {"baud_rate": 9600, **USUAL, "write_termination": "\r\n", "read_termination": "\n"}
    plan = {"address": f"ASRL{os.ttyname(device)}::INSTR", "visalib": "@py", **line}
    link = connect(plan)
    try:
        link.send(["OUTP 0", "OUTP?"])
        heard = b""
        while heard.count(b"\n") < 3:
            heard += os.read(host, 100)
        assert heard == b"\r\nOUTP 0\r\nOUTP?\r\n"
        os.write(host, b"OUTP 0\n")
        assert link.line(60.0) == "OUTP 0"
        with pytest.raises(LinkError):
            link.line(0.05)
    finally:
        link.close()
        os.close(host)
        os.close(device)
    with pytest.raises(LinkError):
        link.send(["too late"])
