"""What asks a program to end, and what does not."""

import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.core.child import STOPS
from hil.run import Request, run
from hil.stopping import stoppable
from simulated_backend.backend import SimulatedBackend

HERE = [getattr(signal, name) for name in STOPS if hasattr(signal, name)]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in HERE}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", HERE)
def test_every_way_to_ask_stops_once_and_is_then_as_before(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_DFL)  # whoever runs the tests may have started them with nohup
    with stoppable() as stopper:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(number)  # while everything is being made safe
        assert stopper.asked
    assert signal.getsignal(number) is signal.SIG_DFL


class Terminal(io.StringIO):
    """Standard error of somebody who looks; ``number``: of the file that it stands for."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.number


def test_somebody_at_a_terminal_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    heard, told = os.pipe()
    monkeypatch.setattr("sys.stderr", Terminal(told))
    with stoppable(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert b"stopping; every output goes to its safe state" in os.read(heard, 1000)
    os.close(heard)
    os.close(told)
    with stoppable(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)  # nobody can be told; it stops all the same


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_program_started_with_nohup_survives_its_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stoppable() as stopper:
        signal.raise_signal(signal.SIGHUP)
        assert not stopper.asked


def test_a_program_in_the_background_can_still_be_stopped() -> None:
    """Shells without job control ignore Ctrl-C for it, and ``hil stop`` is a Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with pytest.raises(KeyboardInterrupt), stoppable():
        signal.raise_signal(signal.SIGINT)


def test_a_signal_is_held_until_what_must_be_finished_is_done() -> None:
    done = []

    def on_record() -> None:
        with stoppable() as stopper, stopper.held():
            signal.raise_signal(signal.SIGTERM)
            done.append("record")

    with pytest.raises(KeyboardInterrupt):
        on_record()
    assert done == ["record"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_a_complete_run_is_left_changes_nothing(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave, asked = SimulatedBackend._make_safe, []

    def slow(backend: SimulatedBackend) -> None:
        asked.append(number)
        signal.raise_signal(number)
        leave(backend)

    monkeypatch.setattr(SimulatedBackend, "_make_safe", slow)
    result = run(Request("voltage_divider", sets=("stop.max_steps=1",), data=tmp_path))
    assert asked
    assert (result.exit_code, result.summary["outcome"], result.error) == (1, "not_converged", "")
