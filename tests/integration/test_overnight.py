"""A bench that is shared and left alone: locks, notes, housekeeping, notices, an end by a certain time, hold apart from safe."""

import json
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from hil.bench import Target
from hil.core.errors import ConfigError
from hil.core.events import Event, Measured, StepDone, TableRow
from hil.deadline import seconds_until
from hil.locks import HeldError, locked, locked_bench
from hil.record.logbook import add_note
from hil.record.reader import load
from hil.resume import resume
from hil.run import Request, run
from tests.marks import needs_posix

# -- locks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def _locks_of_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else on this machine holds the bench, whatever else runs here."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


HOLDER = """
import sys
from hil.locks import locked_bench
with locked_bench(sys.argv[1:], "soaking the membrane", "Ada"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def somebody_else(*addresses: str) -> Iterator["subprocess.Popen[str]"]:
    """Another program that holds the bench at ``addresses``."""
    command = [sys.executable, "-c", HOLDER, *addresses]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        try:
            yield other
        finally:
            other.kill()


@pytest.mark.usefixtures("_locks_of_our_own")
def test_a_bench_in_use_is_refused_with_who_and_why(tmp_path: Path) -> None:
    # One shared instrument is enough, however its address is written.
    with somebody_else("TCPIP0::192.0.2.13::5025::SOCKET"):
        result = run(Request("voltage_divider", target=Target.BENCH, data=tmp_path))
    assert result.exit_code == 3
    assert "in use by Ada for soaking the membrane since 20" in result.error
    assert result.summary["run_id"] is None


@pytest.mark.usefixtures("_locks_of_our_own")
def test_the_lock_of_a_program_that_was_killed_is_no_lock() -> None:
    address = "TCPIP0::192.0.2.77::1::SOCKET"
    with somebody_else(address) as other:
        with pytest.raises(HeldError) as held, locked_bench([address.lower()], "another run"):
            pass
        assert held.value.facts["pid"] == str(other.pid)
        other.kill()
        other.wait()
        with locked_bench([address], "another run"):
            pass


def test_a_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with pytest.raises(RuntimeError), locked(path, "it", "trying"):
        raise RuntimeError
    with locked(path, "it", "trying", "me"):
        with pytest.raises(HeldError, match="it is in use by me for trying"), locked(path, "it", "x"):
            pass
        # Whoever was refused has not taken the lock from its owner.
        with pytest.raises(HeldError, match="it is in use by me for trying"), locked(path, "it", "x"):
            pass


# -- notes ------------------------------------------------------------------------------------------------------


def test_notes_reach_a_run_while_it_measures_and_after(tmp_path: Path) -> None:
    def write(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 1:
            add_note(1, "the lights went off", tmp_path)

    result = run(Request("voltage_divider", sets=("stop.max_steps=2",), data=tmp_path), [write])
    add_note(1, "  membrane exchanged ", tmp_path)
    assert result.summary["outcome"] == "not_converged"
    assert [note["text"] for note in load(1, tmp_path).notes] == ["the lights went off", "membrane exchanged"]


def test_a_note_needs_a_run_and_a_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no runs"):
        add_note(1, "x", tmp_path)
    run(Request("voltage_divider", sets=("stop.max_steps=0",), data=tmp_path))
    with pytest.raises(ConfigError, match="there is no run 5"):
        add_note(5, "x", tmp_path)
    with pytest.raises(ConfigError, match="needs some text"):
        add_note(1, "  ", tmp_path)


# -- an end by a certain time -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "wanted", "hours"),
    [("22:00", "07:00", 9.0), ("06:30", "07:00", 0.5), ("07:00", "07:00", 24.0)],
)
def test_the_next_time_it_is_seven(now: str, wanted: str, hours: float) -> None:
    zone = timezone(timedelta(hours=1))
    begin = datetime.strptime(f"2026-11-22 {now}", "%Y-%m-%d %H:%M").replace(tzinfo=zone)
    assert seconds_until(wanted, begin) == hours * 3600


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system has one time zone")
@pytest.mark.parametrize(("day", "hours"), [("2026-03-28", 8.0), ("2026-10-24", 10.0), ("2026-11-21", 9.0)])
def test_a_night_in_which_clocks_change_is_an_hour_shorter_or_longer(
    day: str, hours: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        assert seconds_until("07:00", datetime.fromisoformat(f"{day}T22:00")) == hours * 3600
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_is_no_time_of_day_is_refused(tmp_path: Path) -> None:
    result = run(Request("voltage_divider", data=tmp_path, stop_by="soon"))
    assert (result.exit_code, result.summary["run_id"]) == (2, None)
    assert "--stop-by soon" in result.error


def test_a_run_ends_at_the_last_step_that_fits_and_goes_on_the_next_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(Request("voltage_divider", data=tmp_path / "whole"))
    times = load(1, tmp_path / "whole").readings["time"].to_numpy()
    allowed = 0.6 * float(times[-1])
    monkeypatch.setattr("hil.run.seconds_until", lambda text: allowed)
    stopped = run(Request("voltage_divider", data=tmp_path, stop_by="07:00"))
    assert (stopped.exit_code, stopped.summary["outcome"]) == (5, "stopped")
    assert "would not end by 07:00" in stopped.summary["results"]["reason"]
    assert stopped.summary["results"]["resumable"] is True
    ended = float(load(1, tmp_path).readings["time"].iloc[-1])
    longest = 4 * float(np.max(np.diff(times)))
    assert allowed - 2 * longest < ended <= allowed
    again = resume(1, tmp_path)
    assert {**again.summary, "run_id": 0} == {**whole.summary, "run_id": 0}


# -- hold and safe ----------------------------------------------------------------------------------------------


def test_set_points_are_kept_as_long_as_was_asked_and_watched(tmp_path: Path) -> None:
    seen: list[Event] = []
    result = run(Request("voltage_divider", data=tmp_path, hold=60.0), [seen.append])
    assert result.exit_code == 0
    measured = [event for event in seen if isinstance(event, Measured)]
    last = measured[-1].stimuli[0]
    held = [event for event in measured[-6:] if np.array_equal(event.stimuli[0].values, last.values)]
    assert len(held) == 6
    assert measured[-1].readings.time[-1] - measured[-7].readings.time[-1] == pytest.approx(60.0)
    assert run(Request("voltage_divider", data=tmp_path, sets=("hold=1 min",))).exit_code == 0
    assert len(load(2, tmp_path).readings) == len(load(1, tmp_path).readings)


def test_a_hold_longer_than_a_dwell_limit_is_refused_before_anything_is_applied(tmp_path: Path) -> None:
    result = run(Request("voltage_divider", data=tmp_path, hold=3600.0, sets=("bench.controls.V1.dwell=10 min",)))
    assert result.exit_code == 4
    assert "channel 'V1': holding for 3600 s is more than its dwell limit of 600 s" in result.error
    assert result.summary["run_id"] is None


def test_stopping_a_hold_leaves_the_outcome_alone(tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Measured) and event.readings.time[-1] > 30.0:
            raise KeyboardInterrupt

    result = run(Request("voltage_divider", data=tmp_path, hold=1e6), [stop])
    assert (result.exit_code, result.summary["outcome"]) == (0, "converged")


# -- housekeeping -----------------------------------------------------------------------------------------------

WATCH = ("bench.housekeeping.gas=pace1.a.pressure", "bench.housekeeping.leak=smu.smua.curr")


def test_housekeeping_stands_beside_the_data_once_a_second(tmp_path: Path) -> None:
    seen: list[Event] = []
    request = Request("voltage_divider", target=Target.VIRTUAL, sets=("stop.max_steps=1", *WATCH), data=tmp_path, hold=12.0)
    result = run(request, [seen.append])
    assert result.error == ""
    kept = load(1, tmp_path)
    table = kept.rows["housekeeping"]
    assert list(table.columns) == ["time", "gas", "leak"]
    assert table["gas"].between(0.8e5, 1.2e5).all()
    assert table["leak"].abs().max() < 1e-5
    steps = np.diff(table["time"])
    assert steps.min() >= 1.0 - 1e-9
    # The hold is one long pause: there it is once a second, to within one look.
    assert np.median(steps[-10:]) < 1.5
    without = run(Request("voltage_divider", target=Target.VIRTUAL, sets=("stop.max_steps=1",), data=tmp_path / "without"))
    assert without.summary["outputs"]["V2"] == pytest.approx(result.summary["outputs"]["V2"], abs=5e-3)
    assert not [event for event in seen if isinstance(event, TableRow) and event.table != "housekeeping"]


def test_housekeeping_of_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    sets = ("bench.housekeeping.gas=pace1.a.colour",)
    result = run(Request("voltage_divider", target=Target.VIRTUAL, sets=sets, data=tmp_path))
    assert result.exit_code == 2
    assert "housekeeping.gas: pace1.a.colour cannot be read; readable are: " in result.error
    nobody = run(Request("voltage_divider", sets=("bench.housekeeping.gas=nobody.pressure",), data=tmp_path))
    assert nobody.exit_code == 2
    assert "housekeeping.gas: there is no instrument 'nobody'" in nobody.error


# -- notices ----------------------------------------------------------------------------------------------------


def test_the_end_and_a_pause_are_told_to_a_file(tmp_path: Path) -> None:
    sets = ("bench.notify.file.name=notices.jsonl",)

    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            raise KeyboardInterrupt

    run(Request("voltage_divider", sets=sets, data=tmp_path), [stop])
    resume(1, tmp_path)
    first, second = [json.loads(line) for line in (tmp_path / "notices.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (first["run_id"], first["outcome"], first["resume"]) == (1, "stopped", f"hil resume 1 --data {tmp_path}")
    assert (second["run_id"], second["outcome"]) == (2, "converged")
    assert "resume" not in second


class _MailServer(socketserver.TCPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Mail)
        self.lines: list[str] = []


class _Mail(socketserver.StreamRequestHandler):
    """The little of RFC 5321 that a mail needs."""

    server: _MailServer

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        body = False
        while line := self.rfile.readline():
            self.server.lines.append(line.decode().rstrip())
            if body:
                body = line != b".\r\n"
                if not body:
                    self.wfile.write(b"250 kept\r\n")
            elif line.upper().startswith(b"DATA"):
                body = True
                self.wfile.write(b"354 go on\r\n")
            elif line.upper().startswith(b"QUIT"):
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                self.wfile.write(b"250 fine\r\n")


def test_the_end_is_told_by_email(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _MailServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HIL_SMTP_HOST", "127.0.0.1")
        monkeypatch.setenv("HIL_SMTP_PORT", str(server.server_address[1]))
        sets = ("bench.notify.email.to=me@lab.example", "stop.max_steps=1")
        result = run(Request("voltage_divider", sets=sets, data=tmp_path))
        server.shutdown()
    assert not [message for message in result.summary["warnings"] if message.startswith("notify")]
    assert "Subject: run 1 of voltage_divider: not_converged" in server.lines
    assert any(line.upper().startswith("RCPT TO:<ME@LAB.EXAMPLE>") for line in server.lines)


def test_a_notice_that_cannot_be_sent_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIL_SMTP_HOST", "127.0.0.1")
    monkeypatch.setenv("HIL_SMTP_PORT", "1")
    sets = ("bench.notify.email.to=me@lab.example", "stop.max_steps=1")
    result = run(Request("voltage_divider", sets=sets, data=tmp_path))
    assert result.exit_code == 1
    assert result.summary["warnings"][-1].startswith("notify: email did not work: ")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("bench.notify.file.name=../../etc/x", "is not the plain name of a file"),
        ("bench.notify.command.run=rm", "there is no way 'command'"),
        ("bench.notify.file.path=x", "there is no option 'path'"),
        ("bench.notify.email.to=nobody", "write an address"),
        ("bench.notify.email.to=me@lab.example", "set HIL_SMTP_HOST"),
    ],
)
def test_only_known_ways_with_known_options_are_taken(
    tmp_path: Path, setting: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HIL_SMTP_HOST", raising=False)
    result = run(Request("voltage_divider", sets=(setting,), data=tmp_path))
    assert (result.exit_code, result.summary["run_id"]) == (2, None)
    assert said in result.error


@needs_posix
def test_a_process_that_inherits_the_lock_holds_it_after_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "bench.lock"
    with locked(path, "the bench", "measuring", "me") as lock:
        guard = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock.handle,))
    with guard:
        with pytest.raises(HeldError), locked(path, "the bench", "another run"):
            pass
        assert guard.stdin is not None
        guard.stdin.write(b"\n")
    with locked(path, "the bench", "another run"):
        pass
