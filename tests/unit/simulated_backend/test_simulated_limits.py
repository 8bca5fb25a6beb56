"""Power and dwell limits on the simulated backend, where both are known exactly."""

import numpy as np
import pytest

from hil.core.clock import SteppedClock
from hil.core.errors import ConfigError, LimitExceededError
from hil.core.safety import SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, SettlePolicy, Stimulus, Waveform
from simulated_backend.backend import SimulatedBackend
from simulated_backend.devices.registry import law
from simulated_backend.network import Edge, Network, Node

POLICY = SettlePolicy()
OUTPUTS = Layout((Channel("I", Quantity.CURRENT, Kind.SENSE, node="1"),))


def ohmic(clock: SteppedClock | None = None, **limits: float) -> SimulatedBackend:
    """1 V across 1 kOhm between a source and ground: 1 mW."""
    network = Network.build([Node("1"), Node("0", ground=True)], [Edge("r", "1", "0", law("ohmic"), {"conductance": 1e-3})])
    controls = Layout((Channel("V1", Quantity.VOLTAGE, Kind.DRIVE, -5.0, 5.0, node="1", **limits),))
    return SimulatedBackend(network, controls, OUTPUTS, SafetyEnvelope.of(controls), clock=clock)


def test_the_power_of_a_source_is_judged_at_every_reading() -> None:
    with ohmic(max_power=4.1e-3) as backend:
        backend.apply(Stimulus.of([2.0]))
        backend.settle(POLICY)
        assert backend.read().values == pytest.approx([2e-3])
        backend.apply(Stimulus.of([-3.0]))
        with pytest.raises(LimitExceededError, match=r"'V1': 0\.009 W"):
            backend.settle(POLICY)


def test_the_power_of_a_whole_block_is_judged() -> None:
    with ohmic(max_power=4.1e-3) as backend:
        assert len(backend.measure([Stimulus.of([1.0]), Stimulus.of([2.0])], POLICY)) == 2
        with pytest.raises(LimitExceededError, match=r"'V1': 0\.00625 W"):
            backend.measure([Stimulus.of([1.0]), Stimulus.of([2.5])], POLICY)
        # one that is not connected drives nothing
        backend.apply(Stimulus.of([5.0], [False]))
        backend.settle(POLICY)


def test_the_dwell_limit_counts_stepped_time() -> None:
    clock = SteppedClock()
    with ohmic(clock, max_dwell=10.0) as backend:
        backend.apply(Stimulus.of([1.0]))
        backend.settle(POLICY)
        clock.sleep(9.0)
        backend.read()
        clock.sleep(1.5)
        with pytest.raises(LimitExceededError, match=r"'V1'.*dwell limit of 10 s"):
            backend.read()
        backend.apply(Stimulus.of([1.0]))
        backend.settle(POLICY)


def test_a_waveform_that_would_stay_away_for_too_long_is_refused_before_it_plays() -> None:
    with ohmic(SteppedClock(), max_dwell=0.5) as backend:
        wave = Waveform(np.array([0.0, 0.4]), np.array([[1.0], [2.0]]), np.ones((2, 1), dtype=np.bool_), 0.8)
        with pytest.raises(LimitExceededError, match="dwell limit"):
            backend.play(wave, np.array([0.1]))


def test_a_restored_state_is_checked_like_any_other_value() -> None:
    with ohmic() as wide:
        wide.apply(Stimulus.of([4.0]))
        wide.settle(POLICY)
        state = wide.capture_state()
    controls = Layout((Channel("V1", Quantity.VOLTAGE, Kind.DRIVE, -1.0, 1.0, node="1"),))
    network = Network.build([Node("1"), Node("0", ground=True)], [Edge("r", "1", "0", law("ohmic"), {"conductance": 1e-3})])
    with SimulatedBackend(network, controls, OUTPUTS, SafetyEnvelope.of(controls)) as narrow:
        with pytest.raises(LimitExceededError, match="'V1': 4 V is outside"):
            narrow.restore_state(state)
        with pytest.raises(Exception, match="apply a stimulus before"):
            narrow.read()


def test_a_backend_without_a_clock_cannot_keep_a_dwell_limit() -> None:
    class Clockless(SimulatedBackend):
        def __init__(self) -> None:
            controls = Layout((Channel("V1", Quantity.VOLTAGE, Kind.DRIVE, -1.0, 1.0, node="1", max_dwell=1.0),))
            backend = ohmic()
            super(SimulatedBackend, self).__init__("clockless", backend.capabilities, SafetyEnvelope.of(controls))

    with pytest.raises(ConfigError, match="'clockless' has no clock"):
        Clockless()
