import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from hil.core.errors import InstrumentError
from instruments.visa import Link, Session, open_session
from tests.unit.instruments.scripted import ScriptedResource, scripted

LINK = Link(identity="ACME", timeout=60.0, first_timeout=60.0)


class LineServer:
    """A TCP instrument: one thread, one client after the other. It answers SLOW? only when ``awake`` is set."""

    def __init__(self) -> None:
        self.awake = threading.Event()
        self.left = threading.Event()
        """A client has come and gone."""
        self.heard: list[str] = []
        self.clients = 0
        self.hang_up_next = False
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"TCPIP0::127.0.0.1::{self._server.getsockname()[1]}::SOCKET"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.clients += 1
            with client, client.makefile("rwb") as stream:
                if self.hang_up_next:
                    self.hang_up_next = False
                    continue
                try:
                    for raw in stream:
                        line = raw.decode().strip()
                        self.heard.append(line)
                        if line == "DIE":
                            break
                        if line == "SLOW?":
                            self.awake.wait()
                        if line.endswith("?"):
                            stream.write((("ACME,1" if line == "*IDN?" else f"re {line}") + "\n").encode())
                            stream.flush()
                except OSError:
                    continue
                finally:
                    self.left.set()

    def close(self) -> None:
        self.awake.set()
        self._server.close()


@contextmanager
def serving() -> Iterator[LineServer]:
    server = LineServer()
    try:
        yield server
    finally:
        server.close()


def test_a_link_that_the_other_side_closes_is_told_at_once_and_not_after_its_time_out() -> None:
    with serving() as server:
        session = open_session("unit", server.address, LINK, visalib="@py")
        with pytest.raises(InstrumentError, match="closed the connection"):
            session.query("DIE")
        assert session.query("VOLT?") == "re VOLT?"  # on a new one
        assert server.clients == 2
        session.close()


def test_opening_sends_the_identity_query_and_nothing_else() -> None:
    with serving() as server:
        session = open_session("unit", server.address, LINK, visalib="@py")
        session.close()
        server.left.wait(60.0)
        assert server.heard == ["*IDN?"]
        assert session.identity == "ACME,1"


def test_nagle_is_off() -> None:
    with serving() as server:
        session = open_session("unit", server.address, LINK, visalib="@py")
        link = session.resource.visalib.sessions[session.resource.session].interface
        assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        session.close()


def test_a_closed_port_is_one_error_that_names_instrument_and_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens: while it is held, nobody else can
        port = taken.getsockname()[1]
        with pytest.raises(InstrumentError, match=rf"'unit'.*127\.0\.0\.1::{port}.*check"):
            open_session("unit", f"TCPIP0::127.0.0.1::{port}::SOCKET", LINK, visalib="@py")


def test_somebody_else_on_the_port_is_refused_in_words() -> None:
    with serving() as server, pytest.raises(InstrumentError, match=r"answers as 'ACME,1'.*KEITHLEY.*check the address"):
        open_session("unit", server.address, Link(identity="KEITHLEY", first_timeout=60.0), visalib="@py")


def test_a_peer_that_accepts_and_hangs_up_does_not_hang_us() -> None:
    with serving() as server:
        server.hang_up_next = True
        with pytest.raises(InstrumentError):
            open_session("unit", server.address, replace(LINK, first_timeout=1.0), visalib="@py")


def test_a_late_reply_never_answers_the_next_question() -> None:
    with serving() as server:
        session = open_session("unit", server.address, LINK, visalib="@py")
        with pytest.raises(InstrumentError, match=r"SLOW"):
            session.query("SLOW?", timeout=0.1)
        server.awake.set()
        assert session.query("FAST?") == "re FAST?"
        assert session.query("NEXT?") == "re NEXT?"
        session.close()


def test_a_dropped_link_is_an_error_once_and_is_reopened_for_the_next_word() -> None:
    with serving() as server:
        session = open_session("unit", server.address, replace(LINK, first_timeout=2.0), visalib="@py")
        session.write("DIE")
        with pytest.raises(InstrumentError):
            session.query("A?", timeout=0.2)
        assert session.failed
        assert session.query("B?") == "re B?"
        assert server.clients == 2
        assert not session.failed
        session.close()


def test_two_threads_on_one_session_get_their_own_replies() -> None:
    with serving() as server:
        session = open_session("unit", server.address, LINK, visalib="@py")
        crossed: list[str] = []

        def ask(name: str) -> None:
            for number in range(150):
                question = f"{name}{number}?"
                reply = session.query(question)
                if reply != f"re {question}":
                    crossed.append(reply)

        threads = [threading.Thread(target=ask, args=(name,)) for name in "AB"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert crossed == []
        session.close()


def test_an_interrupted_query_is_cleaned_up_before_the_next() -> None:
    session, resource = scripted("unit", LINK, "ACME,1", ("A?", "reply to A"), ("*IDN?", "ACME,1"), ("B?", "reply to B"))
    read = resource.read

    def interrupted() -> str:
        raise KeyboardInterrupt

    resource.read = interrupted  # Ctrl-C between question and answer
    with pytest.raises(KeyboardInterrupt):
        session.query("A?")
    resource.read = read
    assert session.query("B?") == "reply to B"
    assert resource.script == []


def test_garbage_is_an_instrument_error() -> None:
    session, resource = scripted("unit", LINK, "ACME,1", ("A?", "x"))
    resource.read = lambda: b"\xff\xfe".decode("ascii")
    with pytest.raises(InstrumentError, match=r"'unit'.*A\?"):
        session.query("A?")


def test_an_instrument_that_stays_silent_is_reported_with_a_remedy() -> None:
    resource = ScriptedResource([("A?", None), ("*IDN?", None), ("*IDN?", None)])
    session = Session("unit", "TCPIP0::192.0.2.1::5025::SOCKET", resource, LINK)
    with pytest.raises(InstrumentError, match=r"check power"):
        session.query("A?")
    with pytest.raises(InstrumentError, match=r"does not answer any more; check power and cable"):
        session.query("B?")


def test_a_longer_patience_is_for_one_query_only() -> None:
    session, resource = scripted("unit", LINK, "ACME,1", ("A?", "x"))
    resource.timeout = 500.0
    session.query("A?", timeout=30.0)
    assert resource.timeout == 500.0


class SlowLine(ScriptedResource):
    """A serial instrument that is silent for two questions and then answers them all."""

    resource_name = "ASRL1::INSTR"

    def write(self, message: str) -> None:
        super().write(message)
        if len(self.script) == 1:
            self._replies = ["re A?", "ACME,1", "ACME,1"]


def test_a_slow_serial_line_is_read_empty_so_that_no_identity_answers_the_next_question() -> None:
    resource = SlowLine([("A?", None), ("*IDN?", None), ("*IDN?", None), ("B?", "re B?")])
    session = Session("slow", resource.resource_name, resource, LINK)
    session.identity = "ACME,1"
    with pytest.raises(InstrumentError):
        session.query("A?")
    assert session.query("B?") == "re B?"
    assert resource.script == []
