"""What has to be so while nothing is read: pressures that follow, interlocks, power, in ramps and while outputs settle."""

from functools import partial
from math import inf
from typing import Any

import numpy as np
import pytest

from hil.core.errors import InstrumentError, InterlockError, LimitExceededError
from hil.core.safety import EdgeLimit, SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, SafeAction, SafeState, SettlePolicy, Stimulus
from instruments.roles import Condition
from instruments.wiring import ControlWire
from tests.unit.instruments import fake_instruments
from tests.unit.instruments.fake_instruments import POLICY, Bench, make, pascal, volt

bench = fake_instruments.bench
AIR = 101_325.0
LIMIT = 2e3


def two_pressures(bench: Bench, **options: Any) -> Any:
    changes = {"max_slew": 5e4, "safe": SafeState(SafeAction.VENT, AIR)}
    wires = [ControlWire(pascal(name, **changes), path) for name, path in (("P1", "pace.a.pressure"), ("P2", "pace.b.pressure"))]
    return make(bench, wires, edges=[EdgeLimit("e", "P1", "P2", LIMIT)], **options)


def late(bench: Bench, lag: dict[str, Any]) -> list[float]:
    """Controllers whose pressure is what ``lag`` makes of the set-point; the list holds the largest difference there was."""
    pace, apart = bench.instruments["pace"], [0.0]

    def actual(name: str) -> float:
        port = pace.ports[name]
        return float(lag[name](port.level)) if name in lag else port.level

    def writer(ports: Any) -> Any:
        def write(levels: Any) -> None:
            for name, level in zip(ports, levels, strict=True):
                pace.ports[name].level = level
                apart[0] = max(apart[0], abs(actual("a") - actual("b")))

        return write

    pace.level_writer = writer
    pace.condition_reader = lambda ports: (
        lambda: [Condition(actual(name), pace.ports[name].on, abs(actual(name) - pace.ports[name].level) < 1.0) for name in ports]
    )
    return apart


def test_a_controller_that_sticks_is_not_left_behind_beyond_the_limit(bench: Bench) -> None:
    apart = late(bench, {"a": lambda level: AIR})
    with (
        two_pressures(bench) as backend,
        pytest.raises(
            LimitExceededError,
            match=r"edge 'e': 'P1' stands at 101325 Pa and 'P2' stands at .* would exceed its limit of 2000 Pa",
        ),
    ):
        backend.apply(Stimulus.of([1.08e5, 1.08e5]))
    assert 0.5 * LIMIT < apart[0] <= 1.05 * LIMIT


def test_a_controller_that_is_slow_is_waited_for(bench: Bench) -> None:
    begun = bench.clock.now
    apart = late(bench, {"a": lambda level: min(level, AIR + 4e3 * begun())})
    with two_pressures(bench) as backend:
        backend.apply(Stimulus.of([1.08e5, 1.08e5]))
        assert bench.instruments["pace"].ports["b"].level == 1.08e5
        assert bench.clock.now() > 1.0  # 0.13 s by the slew of the ramp
        assert apart[0] <= 1.05 * LIMIT


def test_pressures_that_drift_apart_while_outputs_settle_are_noticed(bench: Bench) -> None:
    drift = [0.0]
    late(bench, {"a": lambda level: level - drift[0] * bench.clock.now()})
    moving = iter(range(10_000))
    bench.instruments["smu"].noise = lambda: float(next(moving))
    with two_pressures(bench) as backend:
        backend.apply(Stimulus.of([AIR, AIR]))
        backend.settle(POLICY)
        drift[0] = 500.0
        begun = bench.clock.now()
        with pytest.raises((LimitExceededError, InstrumentError), match="edge 'e'"):
            backend.settle(SettlePolicy(tolerance=1e-3, window=0.05, timeout=60.0))
        assert bench.clock.now() - begun < 6.0


def test_pressures_without_a_limit_between_them_are_not_looked_at(bench: Bench) -> None:
    wires = [ControlWire(pascal("P1"), "pace.a.pressure"), ControlWire(volt("V1"), "smu.a.volt", 1e-5)]
    late(bench, {"a": lambda level: AIR})
    with make(bench, wires, edges=[EdgeLimit("v", "V1", None, 4.0)]) as backend:
        backend.apply(Stimulus.of([1.08e5, 1.0]))


class Interlocked:
    """Inputs that a test opens."""

    def __init__(self) -> None:
        self.asked, self.open_from = 0, float("inf")

    def check(self, now: float) -> None:
        self.asked += 1
        if now >= self.open_from:
            raise InterlockError("interlock 'lid': open")


@pytest.mark.parametrize("doing", ["ramp", "settle"])
def test_interlocks_are_asked_once_a_second_in_ramps_and_settling(bench: Bench, doing: str) -> None:
    """A ramp of 40 s, or outputs that never come to rest."""
    lid = Interlocked()
    moving = iter(range(10_000))
    bench.instruments["smu"].noise = lambda: float(next(moving))
    with make(bench, [ControlWire(volt("V1", max_slew=0.1), "smu.a.volt", 1e-5)]) as backend:
        backend._switchboard._interlocks.check = lambda: lid.check(bench.clock.now())  # type: ignore[method-assign] # a lid
        if doing == "settle":
            backend.apply(Stimulus.of([0.0]))
        begun = bench.clock.now()
        lid.open_from = begun + 5.0
        patient = SettlePolicy(tolerance=1e-6, window=0.05, timeout=60.0)
        act = partial(backend.apply, Stimulus.of([4.0])) if doing == "ramp" else partial(backend.settle, patient)
        with pytest.raises(InterlockError, match="'lid'"):
            act()
        assert bench.clock.now() - begun < 12.0  # the way home included
        assert 4 <= lid.asked <= 8
        assert not bench.instruments["smu"].ports["a"].on


def test_settling_asks_for_the_time_once_a_look(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a virtual bench that costs a round trip."""
    smu, asked = bench.instruments["smu"], []
    moving = iter(range(10_000))
    smu.noise = lambda: float(next(moving))
    with make(bench, [ControlWire(volt("V1"), "smu.a.volt", 1e-5)]) as backend:
        backend.apply(Stimulus.of([1.0]))
        bench.log.clear()
        monkeypatch.setattr(backend._clock, "now", lambda: asked.append(None) or bench.clock.now())
        assert not backend.settle(POLICY).settled
        assert len(bench.done("read")) > 50
        assert len(asked) <= len(bench.done("read")) + 1


def test_interlocks_are_asked_while_a_controller_is_waited_for(bench: Bench) -> None:
    """A ramp of 0.13 s that takes 13 s, because a controller is slow."""
    lid, begun = Interlocked(), bench.clock.now()
    late(bench, {"a": lambda level: min(level, AIR + 500.0 * (bench.clock.now() - begun))})
    with two_pressures(bench) as backend:
        backend.apply(Stimulus.of([AIR, AIR]))
        lid.asked = 0
        backend._switchboard._interlocks.check = lambda: lid.check(bench.clock.now())  # type: ignore[method-assign] # a lid
        lid.open_from = begun + 8.0
        with pytest.raises(InterlockError, match="'lid'"):
            backend.apply(Stimulus.of([1.08e5, 1.08e5]))
        assert 7 <= lid.asked <= 10


def test_interlocks_are_asked_after_an_exchange_before_anything_moves(bench: Bench) -> None:
    lid, mixer, source = Interlocked(), bench.instruments["other"], bench.instruments["smu"].ports["a"]
    mixer.parameter, mixer.quantity = "concentration", Quantity.CONCENTRATION
    mixer.level_writer = lambda ports: lambda levels: bench.clock.sleep(100.0)
    liquid = Channel("C1", Quantity.CONCENTRATION, Kind.DRIVE, 0.1, 0.5, node="C1")
    with make(bench, [ControlWire(volt("V1"), "smu.a.volt", 1e-5), ControlWire(liquid, "other.a.concentration")]) as backend:
        backend.apply(Stimulus.of([1.0, 0.1]))
        backend._switchboard._interlocks.check = lambda: lid.check(bench.clock.now())  # type: ignore[method-assign] # a lid
        lid.open_from = bench.clock.now() + 50.0
        bench.log.clear()
        with pytest.raises(InterlockError, match="'lid'"):
            backend.apply(Stimulus.of([4.0, 0.2]))
        assert all(value <= 1.0 for _, who, what, value in bench.log if (who, what) == ("smu", "a level"))
        assert not source.on


@pytest.mark.parametrize("first", ["V1", "V2"])
def test_a_pair_at_its_limit_keeps_it_at_every_message_of_a_ramp(bench: Bench, first: str) -> None:
    """Two instruments, told one after the other."""
    paths = {"V1": "smu.a.volt", "V2": "other.a.volt"}
    wires = [ControlWire(volt(name), paths[name], 1e-5) for name in sorted(paths, key=lambda name: name != first)]
    with make(bench, wires, edges=[EdgeLimit("e", "V1", "V2", 1.0)]) as backend:
        for stimulus in ([1.0, 0.0], [4.0, 3.0], [2.0, 3.0], [-3.0, -2.0], [0.0, 0.0], [1.0, 2.0], [-1.0, 0.0]):
            backend.apply(Stimulus.of(stimulus))
    now = {"smu": 0.0, "other": 0.0}
    for who, _, level in bench.done("level"):
        now[who] = level
        assert abs(now["smu"] - now["other"]) <= 1.0 + 1e-9


LAYOUT = Layout(tuple(Channel(name, Quantity.PRESSURE, Kind.DRIVE, 0.0, 10.0) for name in ("P1", "P2")))
NAN = float("nan")


@pytest.mark.parametrize(
    ("actual", "coming", "bands", "allowed"),
    [
        ((1.0, 1.0), (2.0, 2.0), (0.0, 0.0), True),
        ((1.0, 1.0), (4.0, 4.0), (0.0, 0.0), False),  # either may be there before the other
        ((1.0, 3.0), (1.0, 3.1), (0.0, 0.0), True),  # within a twentieth of the limit
        ((1.0, 3.0), (1.0, 3.2), (0.0, 0.0), False),
        ((1.0, 3.0), (1.0, 3.2), (0.1, 0.1), True),
        ((1.0, 5.0), (1.0, 4.9), (0.0, 0.0), True),  # found too far apart, it comes nearer
        ((1.0, 5.0), (1.0, 5.1), (0.0, 0.0), False),
        ((1.0, 5.0), (1.0, 5.0), (0.0, 0.0), False),  # and does not stay
        ((1.0, NAN), (9.0, NAN), (0.0, 0.0), True),  # one that is not driven has no difference
    ],
)
def test_what_may_stand_apart_on_the_way(
    actual: tuple[float, float], coming: tuple[float, float], bands: tuple[float, float], allowed: bool
) -> None:
    envelope = SafetyEnvelope.of(LAYOUT, [EdgeLimit("e", "P1", "P2", 2.0)])
    found = envelope.exceeded_on_the_way(*(np.array(one) for one in (actual, actual, coming, bands)))
    assert (found is None) is allowed


def test_a_channel_may_stand_wherever_it_was_sent_since_it_was_seen() -> None:
    envelope, none = SafetyEnvelope.of(LAYOUT, [EdgeLimit("e", "P1", "P2", 2.0)]), np.zeros(2)
    assert envelope.exceeded_on_the_way(np.array([1.0, 2.0]), np.array([2.0, 2.0]), np.array([3.0, 3.0]), none) is None
    assert envelope.exceeded_on_the_way(np.array([0.5, 2.0]), np.array([2.0, 2.0]), np.array([3.0, 3.0]), none) is not None
    assert envelope.exceeded_on_the_way(np.array([0.5, 2.0]), np.array([9.0, 2.0]), np.array([2.0, 2.0]), none) is not None
    # And one that nobody has looked at may be anywhere.
    assert envelope.exceeded_on_the_way(np.array([-inf, 2.0]), np.array([inf, 2.0]), np.array([2.0, 2.0]), none) is not None


def test_a_limit_against_the_reference_counts_on_the_way_too() -> None:
    envelope = SafetyEnvelope.of(LAYOUT, [EdgeLimit("e", "P1", None, 2.0)])
    at = np.array
    assert envelope.exceeded_on_the_way(at([1.0, 9.0]), at([1.0, 9.0]), at([2.0, 9.0]), np.zeros(2)) is None
    assert envelope.exceeded_on_the_way(at([1.0, 9.0]), at([1.0, 9.0]), at([3.0, 9.0]), np.zeros(2)) == envelope.edges[0]
    assert SafetyEnvelope.of(LAYOUT).exceeded_on_the_way(at([1.0, 9.0]), at([1.0, 9.0]), at([3.0, 9.0]), np.zeros(2)) is None
