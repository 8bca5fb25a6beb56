"""The matched pair through real drivers and emulated instruments: one list a batch, both at one moment, 0 V at the end."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest

from hil.bench import Assembled, Target
from hil.core.errors import InstrumentError, NotSettledError
from hil.core.types import Readings, SettlePolicy, Stimulus
from hil.prepared import Request, prepare
from instruments.visa import Session

POLICY = SettlePolicy(tolerance=1e-6, window=0.02, timeout=30.0, dwell=0.0)
U = 1.84


def law(v: Any) -> Any:
    return 50e-6 * np.tanh(U * v) / np.tanh(U)


def opened(*sets: str) -> Assembled:
    return prepare(Request("analog_gradient", target=Target.VIRTUAL, sets=sets)).assembled()


@pytest.fixture(scope="module")
def bench() -> Iterator[Assembled]:
    with opened("mismatch=0", "noise=0", "bench.virtual.plant.ideal=true", "bench.controls.V.compliance=40 uA") as assembled:
        yield assembled


@pytest.fixture
def lab(bench: Assembled) -> Iterator[Assembled]:
    with bench.backend:
        yield bench


def rows(first: Any, second: Any) -> list[list[Stimulus]]:
    return [[Stimulus.of([a]), Stimulus.of([b])] for a, b in zip(first, second, strict=True)]


def test_a_batch_is_one_transfer_and_right(lab: Assembled) -> None:
    a = np.array([0.1, -0.3, 0.2, 0.0, 0.45])
    lab.backend.measure_replicas(rows(a, -a), POLICY)
    sent: list[str] = []
    query = Session.query_bytes

    def watch(self: Any, message: str, count: int, **options: Any) -> bytes:
        if "{" in message:
            sent.append(message)
        return query(self, message, count, **options)

    with mock.patch.object(Session, "query_bytes", watch):
        currents = lab.backend.measure_replicas(rows(a, -a), POLICY, samples=3)
    assert len(sent) == 1
    np.testing.assert_allclose(currents[:, 0, 0], law(a), atol=3e-9)  # one step of the 100 uA range is 1 nA
    np.testing.assert_allclose(currents[:, 1, 0], law(-a), atol=3e-9)


def test_a_list_leaves_both_devices_at_0_volt(lab: Assembled) -> None:
    a = np.array([0.1, 0.2, 0.3, 0.4])
    lab.backend.measure_replicas(rows(a, a), POLICY)
    sources = lab.virtual.side_door.sources()["smu"]
    assert (sources["smua"]["level"], sources["smub"]["level"]) == (0.0, 0.0)


def test_points_in_compliance_are_marked(lab: Assembled) -> None:
    up = np.linspace(0.0, 0.9, 10)
    readings = lab.backend.measure([Stimulus.of([v]) for v in np.concatenate([up, up[::-1]])], POLICY)
    expected = np.abs(law(np.concatenate([up, up[::-1]]))) > 40e-6
    np.testing.assert_array_equal(readings.overload[:, 0], expected)
    pair = lab.backend.measure_replicas(rows([0.1, 0.9, 0.1], [0.1, 0.1, 0.1]), POLICY)
    assert np.isnan(pair[1, 0, 0])
    assert np.isfinite(pair[[0, 2], 0, 0]).all()


def test_a_long_list_is_cut_into_chunks_of_five_seconds(lab: Assembled) -> None:
    begun = lab.clock.now()
    policy = SettlePolicy(1e-6, 0.02, 30.0, dwell=1.2)
    stimuli = [Stimulus.of([0.01 * k]) for k in range(12)]
    blocks: list[int] = []
    lab.backend.observers.append(lambda block, _: blocks.append(len(block)))
    readings = lab.backend.measure(stimuli, policy)
    lab.backend.observers.pop()
    assert blocks == [4, 4, 4]
    assert np.all(np.diff(readings.time) > 1.2)
    assert lab.clock.now() - begun > 12 * 1.2


def test_every_reading_of_the_pair_goes_to_observers(lab: Assembled) -> None:
    a = np.array([0.1, -0.3, 0.2, 0.0])
    seen: list[tuple[Sequence[Stimulus], Readings]] = []
    lab.backend.observers.append(lambda stimuli, readings: seen.append((stimuli, readings)))
    try:
        lists = lab.backend.measure_replicas(rows(a, -a), POLICY, samples=2)
        singly = lab.backend.measure_replicas(rows(a[:2], -a[:2]), replace(POLICY, dwell=None), samples=2)
    finally:
        lab.backend.observers.pop()
    assert [len(readings) for _, readings in seen] == [8, 2, 2]
    whole = Readings.joined([readings for _, readings in seen])
    assert whole.replica == ("A", "B") * 6
    np.testing.assert_array_equal(whole.values, np.concatenate([lists, singly]).reshape(12, 1))
    applied = [stimulus.values[0] for stimuli, _ in seen for stimulus in stimuli]
    np.testing.assert_array_equal(applied, np.stack([np.concatenate([a, a[:2]]), -np.concatenate([a, a[:2]])], axis=1).ravel())
    assert np.all(np.diff(whole.time) >= 0.0)
    assert np.isfinite(whole.std).all()


@pytest.mark.parametrize(("verb", "fault"), [("pair list", "drift"), ("pair", "drift"), ("list", "drift"), ("pair", "restart")])
def test_what_was_read_while_a_source_was_elsewhere_never_goes_on_record(verb: str, fault: str) -> None:
    """The instrument fails within a list, or a row; its readings look like any others."""
    v = np.full(6, 0.2)
    with opened("noise=0", "bench.virtual.plant.ideal=true") as assembled, assembled.backend as backend:
        backend.measure_replicas(rows(v, v), POLICY)
        seen: list[Readings] = []
        backend.observers.append(lambda stimuli, readings: seen.append(readings))

        def measure() -> None:
            if verb == "list":
                backend.measure([Stimulus.of([one]) for one in v], POLICY)
            else:
                backend.measure_replicas(rows(v, v), POLICY if verb == "pair list" else replace(POLICY, dwell=None))

        measure()
        whole = len(seen)
        acquire = Session.query_bytes

        def failing(self: Any, message: str, count: int, **options: Any) -> bytes:
            # Together with the readings, after everything that was judged before them.
            assembled.virtual.side_door.inject("smu", fault, 0.05, where="smua", after=0)
            return acquire(self, message, count, **options)

        seen.clear()
        with mock.patch.object(Session, "query_bytes", failing), pytest.raises((InstrumentError, NotSettledError)):
            measure()
        assert whole > 0
        assert seen == []


def test_specimens_differ_and_come_back_the_same() -> None:
    with opened("mismatch=0.02", "noise=0", "bench.virtual.plant.ideal=true") as assembled, assembled.backend as backend:
        assert assembled.exchange is not None
        found = []
        for specimen in (0, 3, 0):
            assembled.exchange(specimen)
            found.append(backend.measure_replicas(rows([0.5] * 3, [0.5] * 3), POLICY)[0, :, 0])
        np.testing.assert_allclose(found[0], found[2], rtol=1e-4)
        assert abs(found[0][0] / found[1][0] - 1) > 1e-3
        assert abs(found[0][0] / found[0][1] - 1) > 1e-3


def test_devices_drift_and_are_noisy_as_the_plant_says() -> None:
    unsteady = opened("mismatch=0", "noise=0.01", "drift=0.01", "bench.virtual.plant.ideal=true")
    with unsteady as assembled, assembled.backend as backend:
        policy = SettlePolicy(5e-6, 0.02, 30.0, dwell=1.0)
        currents = backend.measure_replicas(rows(np.full(60, 0.5), np.full(60, 0.5)), policy)[:, :, 0]
        slope, start = np.polyfit(np.arange(60) * 1.02, currents[:, 1], 1)
        assert slope / start == pytest.approx(0.01, rel=0.2)
        left = currents[:, 1] - np.polyval([slope, start], np.arange(60) * 1.02)
        assert left.std() == pytest.approx(0.01 * 50e-6, rel=0.3)


def test_target_virtual_agrees_with_simulated_on_the_same_devices() -> None:
    found = []
    for target in (Target.SIMULATED, Target.VIRTUAL):
        request = Request("analog_gradient", target=target, sets=("mismatch=0.05", "noise=0", "bench.virtual.plant.ideal=true"))
        with prepare(request).assembled() as assembled, assembled.backend as backend:
            v = np.linspace(-0.8, 0.8, 9)
            found.append(backend.measure_replicas(rows(v, v[::-1]), POLICY)[:, :, 0])
    np.testing.assert_allclose(found[0], found[1], atol=5e-9)
