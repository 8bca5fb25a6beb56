"""Value types, clocks and the event stream."""

import time

import numpy as np
import pytest

from hil.core.clock import SteppedClock, WallClock
from hil.core.errors import (
    BackendError,
    CapabilityError,
    ConfigError,
    InstrumentError,
    LimitExceededError,
    NotConvergedError,
    NotSettledError,
    RecordError,
)
from hil.core.events import Event, EventStream, Progress, Warned
from hil.core.types import Channel, Kind, Layout, Quantity, Reading, Readings, Stimulus


def layout() -> Layout:
    return Layout(
        (Channel("V1", Quantity.VOLTAGE, Kind.DRIVE, maximum=5.0), Channel("P1", Quantity.PRESSURE, Kind.DRIVE, minimum=-1.0))
    )


def test_layout_answers_by_name_and_position() -> None:
    channels = layout()
    assert channels.names == ("V1", "P1")
    assert channels.index("P1") == 1
    assert list(channels.indices(["P1", "V1"])) == [1, 0]
    assert channels["V1"].maximum == 5.0
    assert "V1" in channels
    assert "V9" not in channels
    assert [channel.name for channel in channels.of(Quantity.PRESSURE)] == ["P1"]
    np.testing.assert_array_equal(channels.array("minimum"), [-np.inf, -1.0])
    assert len(channels) == 2
    with pytest.raises(ConfigError, match="no channel 'V9'; channels: V1, P1"):
        channels.index("V9")


def test_a_channel_declared_twice_is_refused() -> None:
    channel = Channel("V1", Quantity.VOLTAGE, Kind.DRIVE)
    with pytest.raises(ConfigError, match="'V1' is declared twice"):
        Layout((channel, channel))


def test_stimuli_are_connected_unless_said_otherwise_and_readings_stack() -> None:
    assert Stimulus.of([1.0, 2.0]).connected.all()
    assert list(Stimulus.of([1.0, 2.0], [True, False]).connected) == [True, False]
    one = Reading(np.array([1.0]), np.array([0.1]), np.array([False]), 3.0)
    stacked = Readings.stack([one, one])
    assert len(stacked) == 2
    assert stacked.values.shape == (2, 1)
    assert stacked.overload.dtype == np.bool_


def test_the_stepped_clock_passes_time_only_when_told() -> None:
    clock = SteppedClock(10.0)
    clock.sleep(5.0)
    assert clock.now() == 15.0
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="backwards"):
            clock.sleep(wrong)


def test_the_wall_clock_waits() -> None:
    clock = WallClock()
    before = time.monotonic()
    clock.sleep(0.01)
    assert clock.now() - before >= 0.01


def test_a_broken_listener_is_dropped_with_a_warning_and_the_others_go_on() -> None:
    heard: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError("pipe closed")

    stream = EventStream(listeners=[broken, heard.append])
    with pytest.warns(RuntimeWarning, match="pipe closed"):
        stream.emit(Progress(1, None, "one"))
    stream.emit(Progress(2, None, "two"))
    assert [event.done for event in heard if isinstance(event, Progress)] == [1, 2]


def test_a_broken_recorder_stops_the_run() -> None:
    class Full:
        def emit(self, event: Event) -> None:
            raise RecordError("no space left on data folder")

    with pytest.raises(RecordError, match="no space"):
        EventStream(Full()).emit(Progress(1, None, "one"))


def test_a_warning_is_told_once() -> None:
    heard: list[Event] = []
    stream = EventStream(listeners=[heard.append])
    stream.warn("clamped")
    stream.warn("clamped")
    assert heard == [Warned("clamped")]
    assert stream.warnings == ["clamped"]


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (ConfigError, ValueError),
        (CapabilityError, TypeError),
        (NotSettledError, TimeoutError),
        (InstrumentError, OSError),
        (NotConvergedError, ArithmeticError),
        (RecordError, OSError),
    ],
)
def test_errors_can_be_caught_as_the_builtin_one_expects(error: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(error, builtin)
    assert not issubclass(LimitExceededError, BackendError)


def test_what_a_driver_library_adds_to_an_error_still_reads_as_a_sentence() -> None:
    error = InstrumentError("instrument 'smu' does not answer")
    error.args = (*error.args, "getting smu_model")
    assert str(error) == "instrument 'smu' does not answer; while getting smu_model"
    assert str(InstrumentError("plain")) == "plain"
