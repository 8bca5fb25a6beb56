"""The rules that every backend keeps, as one test class. A new backend supplies the fixture ``world`` and nothing else.

Tests are skipped by declared ability, never by name, and results are checked through a side door: what the world says
itself, not what the verbs under test say.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from hil.core.backend import Backend
from hil.core.errors import (
    BackendClosedError,
    BackendError,
    CapabilityError,
    ConfigError,
    HilError,
    LimitExceededError,
    NotSettledError,
)
from hil.core.types import BoolArray, Determinism, Quantity, Readings, SettlePolicy, Stimulus, Waveform


@dataclass
class World:
    """A backend, closed, in a world of its own, and the side door to it.

    ``stimuli``: three or more valid value vectors. ``hurried``: a policy under which going from the first to the second
    cannot settle, None where nothing takes time. ``controls()``: name -> true value at the terminal, None where nothing is
    driven. ``outputs(values)``: name -> what the outputs truly are at ``values``. ``tolerance``: per output, what the backend
    may be off beside its noise; ``control_tolerance``: what a terminal may be off its stimulus. ``at_rest()``: whether
    every terminal is in its safe state. ``trained``: the control that training moves.
    """

    backend: Backend
    stimuli: Sequence[Sequence[float]]
    policy: SettlePolicy
    hurried: SettlePolicy | None
    controls: Callable[[], Mapping[str, float | None]]
    outputs: Callable[[Sequence[float]], Mapping[str, float]]
    at_rest: Callable[[], bool]
    tolerance: Mapping[str, float]
    control_tolerance: Mapping[str, float]
    trained: str

    def stimulus(self, number: int) -> Stimulus:
        return Stimulus.of(self.stimuli[number])


def require_noise(noisy: BoolArray) -> BoolArray:
    """``noisy`` (n_outputs,), or a skip where no output is: a real bench may read below its last digit."""
    if not noisy.any():
        pytest.skip("this backend's outputs have no noise at this point")
    return noisy


class BackendContract:
    """Inherit, and define a fixture ``world`` that yields a World."""

    # -- life cycle ---------------------------------------------------------------------------------------------

    def test_a_closed_backend_refuses_every_verb(self, world: World) -> None:
        backend, stimulus = world.backend, world.stimulus(0)
        verbs: list[Callable[[], object]] = [
            lambda: backend.apply(stimulus),
            lambda: backend.settle(world.policy),
            backend.read,
            lambda: backend.measure([stimulus], world.policy),
            lambda: backend.measure_replicas([[stimulus]], world.policy),
            backend.make_safe,
            backend.reset,
            backend.capture_state,
        ]
        for verb in verbs:
            with pytest.raises(BackendClosedError):
                verb()

    def test_opening_twice_and_closing_twice_is_fine_and_it_opens_again(self, world: World) -> None:
        backend = world.backend
        backend.open()
        backend.open()
        backend.close()
        backend.close()
        with backend:
            backend.apply(world.stimulus(0))
            assert backend.settle(world.policy).settled

    def test_opening_touches_nothing(self, world: World) -> None:
        before = world.controls()
        with world.backend:
            assert world.controls() == before
            assert world.at_rest()
        assert world.at_rest()

    def test_nothing_is_read_before_something_is_applied(self, world: World) -> None:
        with world.backend as backend:
            with pytest.raises(BackendError, match="apply a stimulus"):
                backend.read()
            with pytest.raises(BackendError, match="apply a stimulus"):
                backend.settle(world.policy)

    def test_closing_leads_to_the_safe_state(self, world: World) -> None:
        with world.backend as backend:
            backend.apply(world.stimulus(1))
            assert not world.at_rest()
        assert world.at_rest()

    # -- apply --------------------------------------------------------------------------------------------------

    def test_every_control_gets_its_value(self, world: World) -> None:
        names = world.backend.capabilities.controls.names
        with world.backend as backend:
            for number in range(len(world.stimuli)):
                backend.apply(world.stimulus(number))
                backend.settle(world.policy)
                true = world.controls()
                for name, wanted in zip(names, world.stimuli[number], strict=True):
                    assert true[name] == pytest.approx(wanted, abs=world.control_tolerance[name])

    @pytest.mark.parametrize("bad", ["above", "below", "nan"])
    def test_a_refused_stimulus_changes_nothing(self, world: World, bad: str) -> None:
        with world.backend as backend:
            backend.apply(world.stimulus(0))
            backend.settle(world.policy)
            before = world.controls()
            for position, channel in enumerate(backend.capabilities.controls):
                values = list(world.stimuli[1])
                span = channel.maximum - channel.minimum
                values[position] = {
                    "above": channel.maximum + 0.01 * span,
                    "below": channel.minimum - 0.01 * span,
                    "nan": np.nan,
                }[bad]
                with pytest.raises(LimitExceededError, match=channel.name):
                    backend.apply(Stimulus.of(values))
            after = world.controls()
            assert after == pytest.approx(before, rel=1e-9, abs=max(world.control_tolerance.values()))
            assert np.all(np.isfinite(backend.read().values))  # what was applied before is still applied

    def test_nan_is_refused_on_a_floating_control_too(self, world: World) -> None:
        values = list(world.stimuli[0])
        values[0] = np.nan
        with world.backend as backend, pytest.raises(LimitExceededError):
            backend.apply(Stimulus.of(values, [False] + [True] * (len(values) - 1)))
        assert world.at_rest()

    def test_a_stimulus_of_the_wrong_length_is_refused(self, world: World) -> None:
        with world.backend as backend:
            with pytest.raises(ConfigError, match="controls"):
                backend.apply(Stimulus.of([*world.stimuli[0], 0.0]))
            assert world.at_rest()

    def test_one_bad_stimulus_among_many_is_found_before_the_first_is_applied(self, world: World) -> None:
        bad = Stimulus.of([np.inf] * len(world.stimuli[0]))
        with world.backend as backend:
            with pytest.raises(LimitExceededError):
                backend.measure([world.stimulus(0), bad], world.policy)
            assert world.at_rest()

    def test_measuring_nothing_is_an_error(self, world: World) -> None:
        with world.backend as backend, pytest.raises(ConfigError):
            backend.measure([], world.policy)

    def test_a_disconnected_voltage_floats(self, world: World) -> None:
        layout = world.backend.capabilities.controls
        voltages = [k for k, channel in enumerate(layout) if channel.quantity is Quantity.VOLTAGE and channel.node is not None]
        if len(voltages) < 2:
            pytest.skip("needs two voltage controls")
        connected = [k != voltages[-1] for k in range(len(layout))]
        with world.backend as backend:
            backend.apply(Stimulus.of(world.stimuli[1], connected))
            true = world.controls()
            assert true[layout.names[voltages[-1]]] is None
            assert true[layout.names[voltages[0]]] == pytest.approx(world.stimuli[1][voltages[0]], abs=1e-2)
            backend.apply(world.stimulus(1))
            assert world.controls()[layout.names[voltages[-1]]] is not None

    # -- read ---------------------------------------------------------------------------------------------------

    def test_readings_are_true(self, world: World) -> None:
        names = world.backend.capabilities.outputs.names
        with world.backend as backend:
            for number in range(len(world.stimuli)):
                backend.apply(world.stimulus(number))
                assert backend.settle(world.policy).settled
                reading = backend.read(16)
                true = world.outputs(world.stimuli[number])
                assert not reading.overload.any()
                for name, value, std in zip(names, reading.values, reading.std, strict=True):
                    assert value == pytest.approx(true[name], abs=world.tolerance[name] + 5 * std)

    def test_measure_is_apply_settle_read_in_order(self, world: World) -> None:
        order = [1, 0, 2, 1]
        with world.backend as backend:
            readings = backend.measure([world.stimulus(k) for k in order], world.policy, samples=8)
        names = backend.capabilities.outputs.names
        assert readings.values.shape == (len(order), len(names))
        assert np.all(np.diff(readings.time) >= 0)
        for row, k in enumerate(order):
            true = world.outputs(world.stimuli[k])
            for column, name in enumerate(names):
                wanted = pytest.approx(true[name], abs=world.tolerance[name] + 5 * readings.std[row, column])
                assert readings.values[row, column] == wanted

    def test_std_falls_as_one_over_root_n(self, world: World) -> None:
        with world.backend as backend:
            backend.apply(world.stimulus(1))
            backend.settle(world.policy)
            few = np.array([backend.read(4).std for _ in range(16)])
            many = np.array([backend.read(36).std for _ in range(16)])
        if backend.capabilities.determinism is Determinism.EXACT:
            assert not few.any()
            assert not many.any()
            return
        noisy = require_noise(np.sqrt((many**2).mean(axis=0)) > 0)
        ratio = np.sqrt((few**2).mean(axis=0)[noisy] / (many**2).mean(axis=0)[noisy])
        assert ratio == pytest.approx(np.full(ratio.shape, 3.0), rel=0.4)

    def test_the_stated_std_is_the_scatter_of_repeated_readings(self, world: World) -> None:
        with world.backend as backend:
            backend.apply(world.stimulus(1))
            backend.settle(world.policy)
            readings = [backend.read(8) for _ in range(30)]
        values = np.array([reading.values for reading in readings])
        stated = np.sqrt(np.mean([reading.std**2 for reading in readings], axis=0))
        if backend.capabilities.determinism is Determinism.EXACT:
            assert not stated.any()
            assert not np.ptp(values, axis=0).any()
            return
        noisy = require_noise(stated > 0)
        # 30 readings tell their own scatter to 13 %; the last digits on the wire add to it.
        assert values.std(axis=0, ddof=1)[noisy] == pytest.approx(stated[noisy], rel=0.6)

    def test_no_samples_is_an_error(self, world: World) -> None:
        with world.backend as backend:
            backend.apply(world.stimulus(0))
            with pytest.raises(ConfigError, match="samples"):
                backend.read(0)

    def test_observers_see_every_reading_once(self, world: World) -> None:
        seen: list[tuple[Sequence[Stimulus], Readings]] = []
        with world.backend as backend:
            backend.observers.append(lambda stimuli, readings: seen.append((stimuli, readings)))
            first = backend.measure([world.stimulus(0), world.stimulus(1)], world.policy)
            second = backend.read()
        values = np.concatenate([readings.values for _, readings in seen])
        assert values == pytest.approx(np.vstack([first.values, second.values]), abs=0)
        assert sum(len(stimuli) for stimuli, _ in seen) == 3
        assert backend.relaxations == 2

    # -- settle -------------------------------------------------------------------------------------------------

    def test_settling_that_cannot_succeed_is_reported_and_takes_its_time(self, world: World) -> None:
        with world.backend as backend:
            backend.measure([world.stimulus(0)], world.policy)
            backend.apply(world.stimulus(1))
            if world.hurried is None:  # nothing takes time here: one look over the window is enough
                report = backend.settle(world.policy)
                assert report.settled
                assert report.elapsed <= world.policy.window * (1 + 1e-9)
                return
            report = backend.settle(world.hurried)
            assert not report.settled
            assert report.elapsed >= world.hurried.timeout * (1 - 1e-9)
            assert report.residual > world.hurried.tolerance
            assert backend.settle(world.policy).settled  # a report is no failure: waiting longer helps

    def test_measure_says_which_stimulus_did_not_settle_and_goes_safe(self, world: World) -> None:
        with world.backend as backend:
            backend.measure([world.stimulus(0)], world.policy)
            if world.hurried is None:  # nothing takes time here, so that nothing fails to settle
                assert len(backend.measure([world.stimulus(1), world.stimulus(2)], world.policy).values) == 2
                return
            with pytest.raises(
                NotSettledError,
                match=r"stimulus 1 of 2: (output '\w+' still moved by \S+ [VA] in|a source was not in its limits)",
            ):
                backend.measure([world.stimulus(1), world.stimulus(2)], world.hurried)
            assert world.at_rest()

    # -- declared abilities --------------------------------------------------------------------------------------

    def test_declared_abilities_are_true(self, world: World) -> None:
        with world.backend as backend:
            able = backend.capabilities
            first = world.stimulus(0)
            backend.measure([first], world.policy)
            if able.can_capture:
                state = json.loads(json.dumps(backend.capture_state()))
                one = backend.measure([world.stimulus(1)], world.policy, samples=3)
                backend.restore_state(state)
                two = backend.measure([world.stimulus(1)], world.policy, samples=3)
                assert np.array_equal(one.values, two.values)
                assert np.array_equal(one.std, two.std)
            else:
                for refused in (backend.capture_state, lambda: backend.restore_state({})):
                    with pytest.raises(CapabilityError):
                        refused()
            if able.can_reset:
                backend.reset()
                with pytest.raises(BackendError):
                    backend.read()
            else:
                with pytest.raises(CapabilityError):
                    backend.reset()
            if able.waveforms is None:
                still = Waveform(np.array([0.0]), first.values[np.newaxis], first.connected[np.newaxis], 1.0)
                with pytest.raises(CapabilityError):
                    backend.play(still, np.array([0.5]))
            if able.replicas:
                seen: list[Readings] = []
                backend.observers.append(lambda stimuli, readings: seen.append(readings))
                measured = backend.measure_replicas([[first] * len(able.replicas)], world.policy, samples=4)
                assert measured.shape == (1, len(able.replicas), len(able.outputs))
                assert np.all(np.isfinite(measured))
                assert seen[0].replica == able.replicas
                assert np.array_equal(seen[0].values, measured[0])
            else:
                with pytest.raises(CapabilityError):
                    backend.measure_replicas([[first]], world.policy)

    def test_the_snapshot_is_json_and_names_every_node(self, world: World) -> None:
        with world.backend as backend:
            backend.measure([world.stimulus(0)], world.policy)
            text = json.dumps(backend.snapshot(), allow_nan=False)
        for channel in (*backend.capabilities.controls, *backend.capabilities.outputs):
            assert channel.node is None or json.dumps(channel.node) in text

    # -- failure ------------------------------------------------------------------------------------------------

    def test_any_error_on_the_way_ends_in_the_safe_state(self, world: World) -> None:
        def broken(_stimuli: Sequence[Stimulus], _readings: Readings) -> None:
            raise RuntimeError("the disk is full")

        with world.backend as backend:
            backend.observers.append(broken)
            with pytest.raises((RuntimeError, HilError), match="the disk is full"):
                backend.measure([world.stimulus(1), world.stimulus(2)], world.policy)
            assert world.at_rest()
            with pytest.raises(BackendError):
                backend.read()
            backend.observers.clear()
            readings = backend.measure([world.stimulus(1)], world.policy)  # and it goes on afterwards
            assert np.all(np.isfinite(readings.values))

    def test_make_safe_is_safe_and_can_be_left_again(self, world: World) -> None:
        with world.backend as backend:
            backend.measure([world.stimulus(1)], world.policy)
            backend.make_safe()
            assert world.at_rest()
            backend.measure([world.stimulus(2)], world.policy)
            assert not world.at_rest()

    # -- the purpose --------------------------------------------------------------------------------------------

    def test_training_lowers_the_loss(self, world: World) -> None:
        layout = world.backend.capabilities.controls
        moved, values = layout.index(world.trained), np.array(world.stimuli[0])
        channel = layout[world.trained]
        step = 0.05 * (channel.maximum - channel.minimum)
        goal_values = values.copy()
        goal_values[moved] += 4 * step
        goal = np.array(list(world.outputs(list(goal_values)).values()))
        losses = []
        with world.backend as backend:
            for _ in range(4):
                probe = values.copy()
                probe[moved] += step
                base, shifted = backend.measure([Stimulus.of(values), Stimulus.of(probe)], world.policy, samples=4).values
                losses.append(float(np.sum((base - goal) ** 2)))
                slope = (shifted - base) / step
                values[moved] += np.clip(float(slope @ (goal - base) / (slope @ slope)), -2 * step, 2 * step)
        assert losses[-1] < 0.05 * losses[0]
