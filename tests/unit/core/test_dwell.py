"""Time away from the safe state: counted from before the first write, until every channel is known to be back."""

from dataclasses import replace

import numpy as np
import pytest

from hil.core.clock import SteppedClock
from hil.core.dwell import DwellWatch, WatchedClock
from hil.core.errors import LimitExceededError
from hil.core.safety import SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, Readings, SafeAction, SafeState, SettlePolicy, Stimulus, Waveform

AIR = SafeState(SafeAction.VENT, 100.0)
RESTING = Layout(
    (
        Channel("V", Quantity.VOLTAGE, Kind.DRIVE, max_dwell=10.0),
        Channel(
            "P",
            Quantity.PRESSURE,
            Kind.DRIVE,
            max_slew=1e12,
            max_dwell=5.0,
            resolution=1.0,
            safe=SafeState(SafeAction.VENT, 100.0),
        ),
        Channel("Z", Quantity.VOLTAGE, Kind.DRIVE, max_dwell=3.0, safe=SafeState(SafeAction.HIGH_IMPEDANCE)),
        Channel("N", Quantity.VOLTAGE, Kind.DRIVE, max_dwell=1.0, safe=SafeState(SafeAction.NONE)),
        Channel("F", Quantity.VOLTAGE, Kind.DRIVE),
    )
)


def watch() -> tuple[DwellWatch, SteppedClock]:
    clock = SteppedClock()
    return DwellWatch(SafetyEnvelope.of(RESTING, source="bench.yaml"), clock.now), clock


def standing(v: float = 0.0, p: float = 100.0, z: bool = False, v_connected: bool = True) -> Stimulus:
    return Stimulus.of([v, p, 0.0, 1.0, 1.0], [v_connected, True, z, True, True])


@pytest.mark.parametrize(
    ("stimulus", "name", "limit"),
    [(standing(v=1.0), "V", 10.0), (standing(p=102.0), "P", 5.0), (standing(z=True), "Z", 3.0)],
)
def test_a_channel_away_from_its_safe_state_for_too_long_is_named(stimulus: Stimulus, name: str, limit: float) -> None:
    dwell, clock = watch()
    dwell.note(stimulus)
    clock.sleep(limit - 0.25)
    dwell.note(stimulus)  # standing on does not start the count anew
    dwell.check()
    clock.sleep(0.75)
    with pytest.raises(LimitExceededError, match=rf"'{name}': {limit + 0.5} s .* limit of {limit:g} s \(set in bench\.yaml\)"):
        dwell.check()


def test_what_rests_or_floats_or_has_no_safe_state_is_not_counted() -> None:
    dwell, clock = watch()
    for stimulus in (standing(p=100.5), standing(v=4.0, v_connected=False)):
        dwell.note(stimulus)
        clock.sleep(100.0)
        dwell.check()


def test_every_replica_is_counted_by_itself() -> None:
    clock = SteppedClock()
    dwell = DwellWatch(SafetyEnvelope.of(RESTING), clock.now, ("A", "B"))
    dwell.begin([standing(v=1.0)])
    clock.sleep(6.0)
    dwell.begin([standing(), standing(v=1.0)])
    dwell.arrived([standing(), standing(v=1.0)])
    clock.sleep(9.0)
    dwell.begin([standing(v=1.0)])  # that the other one still stands does not make this one older, nor the reverse
    dwell.check()
    clock.sleep(2.0)
    with pytest.raises(LimitExceededError, match="'V': 11 s"):
        dwell.check()
    dwell.arrived([standing(v=1.0), standing()])
    dwell.check()


def test_resting_in_between_starts_the_count_anew() -> None:
    dwell, clock = watch()
    dwell.begin([standing(v=1.0)])
    clock.sleep(9.0)
    dwell.begin([standing()])
    dwell.arrived([standing()])
    clock.sleep(50.0)
    dwell.check()
    dwell.begin([standing(v=1.0)])
    clock.sleep(9.0)
    with dwell.homeward():
        clock.sleep(20.0)
        dwell.check()  # nobody is held up on the way to the safe state
    dwell.begin([standing(v=1.0)])
    clock.sleep(11.0)
    with pytest.raises(LimitExceededError, match="'V': 11 s"):
        dwell.check()


def test_a_channel_is_away_from_before_the_first_write_until_it_is_known_to_be_back() -> None:
    dwell, clock = watch()
    dwell.begin([standing(v=1.0)])
    clock.sleep(8.0)  # a slow ramp, its own or that of another instrument
    dwell.arrived([standing(v=1.0)])
    clock.sleep(1.0)
    dwell.check()
    dwell.begin([standing()])
    clock.sleep(1.5)  # the way back is still time away
    with pytest.raises(LimitExceededError, match=r"'V': 10\.5 s"):
        dwell.check()


def test_a_way_home_that_fails_leaves_the_count_as_it_is() -> None:
    dwell, clock = watch()
    dwell.begin([standing(v=1.0)])
    with pytest.raises(RuntimeError), dwell.homeward():
        raise RuntimeError("no answer")
    clock.sleep(11.0)
    with pytest.raises(LimitExceededError, match="'V': 11 s"):
        dwell.check()


def slow(*order: list[int]) -> tuple[DwellWatch, SteppedClock]:
    """1 V, 20 kPa and 2 V, all from 0, are 2 s, 4 s and 1 s from home."""
    layout = Layout(
        (
            Channel("V", Quantity.VOLTAGE, Kind.DRIVE, max_slew=0.5, max_dwell=10.0),
            Channel("P", Quantity.PRESSURE, Kind.DRIVE, max_slew=1.0, emergency_slew=5e3, safe=SafeState(SafeAction.VENT)),
            Channel("W", Quantity.VOLTAGE, Kind.DRIVE, max_slew=2.0),
        )
    )
    clock = SteppedClock()
    dwell = DwellWatch(SafetyEnvelope.of(layout), clock.now)
    if order:
        dwell.order(order)
    return dwell, clock


@pytest.mark.parametrize(("order", "home"), [((), 6.0), (([0, 1, 2],), 6.0), (([0], [2], [1]), 7.0)])
def test_the_way_home_belongs_to_the_time_of_whoever_goes_there_beside_others(order: tuple[list[int], ...], home: float) -> None:
    dwell, clock = slow(*order)
    dwell.begin([Stimulus.of([1.0, 2e4, 2.0])])
    dwell.arrived([Stimulus.of([1.0, 2e4, 2.0])])
    clock.sleep(10.0 - home - 0.1)
    dwell.check()
    clock.sleep(0.2)
    with pytest.raises(LimitExceededError, match=rf"'V': .* and {home:g} s on the way there is more than .* 10 s"):
        dwell.check()


def test_a_pressure_without_a_slew_goes_home_at_the_usual_one() -> None:
    layout = Layout((Channel("P", Quantity.PRESSURE, Kind.DRIVE, max_dwell=5.0, safe=SafeState(SafeAction.VENT)),))
    clock = SteppedClock()
    dwell = DwellWatch(SafetyEnvelope.of(layout), clock.now)
    dwell.begin([Stimulus.of([2e4])])
    clock.sleep(3.5)
    with pytest.raises(LimitExceededError, match="and 2 s on the way"):
        dwell.check()


def test_a_channel_that_comes_nearer_is_as_far_away_as_it_was_until_it_is_there() -> None:
    dwell, clock = slow()
    dwell.begin([Stimulus.of([4.0, 0.0, 0.0])])
    dwell.arrived([Stimulus.of([4.0, 0.0, 0.0])])
    clock.sleep(1.9)
    dwell.begin([Stimulus.of([0.5, 0.0, 0.0])])
    clock.sleep(0.2)
    with pytest.raises(LimitExceededError, match="and 8 s on the way"):
        dwell.check()
    dwell.arrived([Stimulus.of([0.5, 0.0, 0.0])])
    clock.sleep(6.8)
    dwell.check()


def readings(*times: float) -> Readings:
    shape = (len(times), 1)
    return Readings(np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=np.bool_), np.array(times))


def test_what_is_read_without_a_word_before_has_stood_since_the_reading_before() -> None:
    dwell, clock = watch()
    clock.sleep(100.0)
    dwell.mark()
    clock.sleep(20.0)
    dwell.judge([standing(), standing(v=1.0), standing(v=2.0)], readings(105.0, 109.0, 115.0))
    with pytest.raises(LimitExceededError, match=r"'V': 10\.5 s"):
        dwell.judge([standing(v=1.0)], readings(115.5))
    with dwell.homeward():
        pass
    dwell.mark()
    with pytest.raises(LimitExceededError, match=r"'V': 10\.5 s"):
        dwell.judge([standing(v=1.0)], readings(130.5))


def test_a_list_is_refused_before_it_runs() -> None:
    dwell, clock = watch()
    rows = [[standing(v=value)] for value in (0.0, 1.0, 2.0, 0.0)]
    dwell.ahead(rows, 2.4)
    assert clock.now() == 0.0
    with pytest.raises(LimitExceededError, match=r"'V': 10\.4 s"):
        dwell.ahead(rows, 2.6)


def test_nobody_begins_a_wait_that_would_end_too_late() -> None:
    dwell, clock = watch()
    watched = WatchedClock(clock, dwell)
    watched.sleep(50.0)
    dwell.begin([standing(v=1.0)])
    watched.sleep(9.0)
    with pytest.raises(LimitExceededError, match="'V': 11 s"):
        watched.sleep(2.0)
    assert watched.now() == 59.0
    with dwell.homeward():
        watched.sleep(2.0)
    assert watched.now() == 61.0


def test_a_reading_that_would_last_too_long_is_foreseen_from_those_before() -> None:
    dwell, clock = watch()

    def read(samples: int) -> int:
        clock.sleep(0.5 * samples)
        return samples

    read_watched = dwell.foreseen(read)
    dwell.begin([standing(v=1.0)])
    assert read_watched(1) == 1
    assert read_watched(10) == 10
    with pytest.raises(LimitExceededError, match=r"'V': 10\.5 s"):
        read_watched(10)
    assert clock.now() == 5.5
    bare = DwellWatch(SafetyEnvelope.of(Layout((Channel("V", Quantity.VOLTAGE, Kind.DRIVE),))), clock.now)
    assert bare.foreseen(read) is read


def test_a_waveform_is_judged_before_it_is_played() -> None:
    dwell, _ = watch()
    rows = [standing(v=1.0), standing(v=2.0), standing(), standing(v=1.0)]

    def wave(*times: float, end: float) -> Waveform:
        chosen = rows[: len(times)]
        return Waveform(np.array(times), np.array([r.values for r in chosen]), np.array([r.connected for r in chosen]), end)

    dwell.check_plan(wave(0.0, 4.0, 9.0, 12.0, end=20.0))
    with pytest.raises(LimitExceededError, match="'V': 11 s"):
        dwell.check_plan(wave(0.0, 4.0, 11.0, end=12.0))


def test_a_waveform_counts_what_a_channel_that_does_not_move_has_been_away_before() -> None:
    dwell, clock = watch()
    dwell.begin([standing(v=1.0)])
    clock.sleep(7.0)
    values = np.array([[1.0, 102.0, 0.0, 1.0, 1.0], [1.0, 103.0, 0.0, 1.0, 1.0]])
    connected = np.array([[True, True, False, True, True]] * 2)
    dwell.check_plan(Waveform(np.array([0.0, 1.0]), values, connected, 2.5))
    with pytest.raises(LimitExceededError, match=r"'V': 10\.5 s"):
        dwell.check_plan(Waveform(np.array([0.0, 1.0]), values, connected, 3.5))


def test_a_waveform_leaves_time_for_the_way_home_of_a_channel_that_does_not_move() -> None:
    slow = Channel("V", Quantity.VOLTAGE, Kind.DRIVE, -5.0, 5.0, max_slew=1.0, max_dwell=10.0)
    layout, clock = Layout((slow, Channel("W", Quantity.VOLTAGE, Kind.DRIVE))), SteppedClock()
    dwell = DwellWatch(SafetyEnvelope.of(layout), clock.now)
    dwell.begin([Stimulus.of([4.0, 0.0])])
    clock.sleep(4.0)
    dwell.arrived([Stimulus.of([4.0, 0.0])])
    values, connected = np.array([[4.0, 1.0], [4.0, 2.0]]), np.ones((2, 2), dtype=np.bool_)
    dwell.check_plan(Waveform(np.array([0.0, 1.0]), values, connected, 1.5))
    with pytest.raises(LimitExceededError, match=r"'V': 7 s away from its safe state and 4 s on the way there"):
        dwell.check_plan(Waveform(np.array([0.0, 1.0]), values, connected, 3.0))


def test_an_envelope_without_dwell_limits_counts_nothing() -> None:
    bare = SafetyEnvelope(RESTING, *(RESTING.array(name) for name in ("minimum", "maximum", "max_slew")))
    dwell = DwellWatch(bare, lambda: 1e9)
    dwell.note(standing(v=5.0), at=0.0)
    dwell.check()


def test_a_dwell_limit_nobody_named_a_file_for_says_so_too() -> None:
    dwell = DwellWatch(SafetyEnvelope.of(RESTING), lambda: 20.0)
    dwell.note(standing(v=1.0), at=0.0)
    with pytest.raises(LimitExceededError, match="dwell limit of 10 s; shorten"):
        dwell.check()


def test_nobody_waits_longer_than_a_channel_may_be_away() -> None:
    layout = Layout((Channel("V", Quantity.VOLTAGE, Kind.DRIVE, 0.0, 5.0, max_dwell=10.0),))
    clock = SteppedClock()
    watch = DwellWatch(SafetyEnvelope.of(layout), clock.now)
    policy = SettlePolicy(tolerance=1e-3, window=0.02, timeout=60.0)
    assert watch.within(policy) is policy
    watch.note(Stimulus.of([1.0]))
    clock.sleep(4.0)
    waited = watch.within(policy).timeout
    assert waited == pytest.approx(6.0, abs=0.01)
    watch.check()
    clock.sleep(waited)
    with pytest.raises(LimitExceededError, match="dwell limit of 10 s"):
        watch.check()
    assert watch.within(policy).timeout < 0.01
    assert watch.within(replace(policy, timeout=1e-4)).timeout == 1e-4
