"""The network as a backend: everything simulated, nothing measured."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np

from hil.core.backend import Backend
from hil.core.clock import Clock, SteppedClock
from hil.core.errors import ConfigError, NotConvergedError, NotSettledError
from hil.core.safety import SafetyEnvelope
from hil.core.types import (
    Capabilities,
    Determinism,
    FloatArray,
    Layout,
    Reading,
    Readings,
    SafeAction,
    SettlePolicy,
    SettleReport,
    Stimulus,
    Trace,
    Waveform,
    WaveformLimits,
)
from hil.core.waveforms import rest_of
from simulated_backend import captured, description, states
from simulated_backend.controls import ControlMap, Loads
from simulated_backend.imperfections import Imperfections, World
from simulated_backend.network import Network
from simulated_backend.physics import Physics, settling
from simulated_backend.present import Present
from simulated_backend.timeline import ramped, remembers

WAVEFORMS = WaveformLimits(max_segments=100_000, max_samples=1_000_000, min_segment=1e-9, max_duration=1e7)


class SimulatedBackend(Backend):
    """Steady states of ``network`` under the controls; outputs are read without any instrument in between.

    Controls: DRIVE or TUNE with a ``node`` and VOLTAGE, PRESSURE or CONCENTRATION; TUNE with an ``edge`` and the name of a
    tunable in ``parameter``. Outputs: VOLTAGE of a node, or CURRENT that the terminal delivers into a node. A control that
    is not connected leaves its node floating (voltage) or at the node's own value. ``loads``: shunts and bias currents of
    the terminals. ``warn`` receives each sentence the user should know once; one that begins with "clamped:" says that the
    floor of a law is active (also in ``snapshot()["clamped_edges"]``, for the latest reading).

    Time is that of ``clock``: settling takes as long as the slowest device and node need, sources ramp and rest as their
    channels declare. Where a law integrates a rate (``capabilities.has_memory``) nothing is steady but what stands still:
    devices move on while the clock runs, through ramps, settling, readings and pauses, and settling waits until outputs are
    flat to the policy. Ideal networks are EXACT; with imperfections readings are SEEDED.
    Raises ConfigError for channels that do not fit the network; NotConvergedError where there is no steady state.
    """

    def __init__(
        self,
        network: Network,
        controls: Layout,
        outputs: Layout,
        envelope: SafetyEnvelope,
        *,
        clock: Clock | None = None,
        seed: int = 0,
        warn: Callable[[str], None] | None = None,
        imperfections: Imperfections | None = None,
        loads: Loads | None = None,
        replicas: Mapping[str, Network] | None = None,
        simultaneous: Sequence[tuple[str, str]] = (),
        name: str = "simulated",
    ) -> None:
        self.imperfections = imperfections or Imperfections()
        exact = Determinism.EXACT if self.imperfections.none else Determinism.SEEDED
        others = dict(replicas or {})
        capabilities = Capabilities(
            controls,
            outputs,
            exact,
            has_memory=remembers(network) or any(map(remembers, others.values())),
            can_reset=True,
            can_capture=True,
            waveforms=WAVEFORMS,
            replicas=tuple(others),
            simultaneous=tuple(simultaneous),
        )
        self.clock: Clock = clock or SteppedClock()
        super().__init__(name, capabilities, envelope, self.clock)
        self._world = World(self.imperfections, network, controls, outputs, seed)
        self._loads = dict(loads or {})
        physics = Physics(self._world.network, controls, outputs, self._loads, self._world, warn)
        physics.envelope = envelope
        self._present = Present(physics, self.clock)
        self.seed = seed
        self._rng = np.random.default_rng(seed)
        self._mounted_at = self.clock.now()
        self._others = [
            SimulatedBackend(
                other,
                controls,
                outputs,
                envelope,
                seed=seed + 1 + place,
                warn=warn,
                imperfections=self.imperfections,
                loads=loads,
                name=f"{name} {label}",
            )
            for place, (label, other) in enumerate(list(others.items())[1:])
        ]

    @property
    def network(self) -> Network:
        """The network with its devices as they really are."""
        return self._physics.network

    @property
    def map(self) -> ControlMap:
        """Which control sets what, and what is read."""
        return self._physics.map

    @property
    def _physics(self) -> Physics:
        return self._present.physics

    # -- life cycle -----------------------------------------------------------------------------------------------

    def _open(self) -> None:
        pass

    def _close(self) -> None:
        pass

    def _make_safe(self) -> None:
        with suppress(NotConvergedError):  # becoming safe must not fail for want of a solution: the devices then stay
            self._present.catch_up()
        channels = self.capabilities.controls.channels
        previous = np.array([channel.minimum if np.isfinite(channel.minimum) else 0.0 for channel in channels])
        if self._present.stimulus is not None:
            previous = self._present.stimulus.values
        level = np.array([channel.safe.action is SafeAction.LEVEL for channel in channels], dtype=np.bool_)
        keep = np.array([channel.safe.action is SafeAction.NONE for channel in channels], dtype=np.bool_)
        connected = level if self._present.stimulus is None else level | (keep & self._present.stimulus.connected)
        self._present.become(Stimulus(np.where(level, [channel.safe.value for channel in channels], previous), connected))

    def _reset(self) -> None:
        self._present.forget()
        for other in self._others:
            other._reset()

    def mount(self, networks: Mapping[str, Network]) -> None:
        """Exchange the devices for others, all at rest; drift starts anew. One network per replica (or a single one)."""
        if list(networks) != list(self.capabilities.replicas or networks) or not networks:
            raise ConfigError(f"one network for each of {self.capabilities.replicas} is needed, not for {list(networks)}")
        for backend, network in zip([self, *self._others], networks.values(), strict=True):
            backend._physics.mount(network)
            backend._present.forget()
        self._applied = None
        self._mounted_at = self.clock.now()

    # -- one stimulus ---------------------------------------------------------------------------------------------

    def _apply(self, stimulus: Stimulus) -> None:
        present = self._present
        present.catch_up()
        self._world.renew(self._rng)
        (applied,) = self._physics.acting([stimulus])  # refuses what cannot be before anything changes
        ramp, dead_time = self._source_time(stimulus)
        if present.state is None:
            present.state = states.at_rest(self.map.problem(applied))
        rows, edges = ramped(present.stimulus or stimulus, stimulus, ramp, dead_time)
        present.become(stimulus)
        if ramp + dead_time > 0.0:
            if self.capabilities.has_memory:
                present.advance(rows, edges, ramp + dead_time)
            self.clock.sleep(ramp + dead_time)
            present.at = self.clock.now()

    def _settle(self, policy: SettlePolicy) -> SettleReport:
        self._present.catch_up()
        report = self._present.flatten(policy) if self.capabilities.has_memory else self._present.relax(policy)
        self.clock.sleep(report.elapsed)
        self._present.at = self.clock.now()
        return report

    def _read(self, samples: int) -> Reading:
        present, aperture = self._present, self.imperfections.aperture
        present.catch_up()
        values = present.now()
        if aperture:
            if self.capabilities.has_memory:
                middle = np.asarray((np.arange(samples) + 0.5) * aperture, dtype=np.float64)
                values = present.advance([present.current()], np.zeros(1), samples * aperture, middle).outputs.mean(axis=0)
            self.clock.sleep(samples * aperture)
            present.at = self.clock.now()
        noisy, std = self._noisy(values[np.newaxis], samples, [self.clock.now()])
        return Reading(noisy[0], std[0], np.zeros(noisy.shape[-1], dtype=np.bool_), self.clock.now())

    def _play(self, waveform: Waveform, sample_times: FloatArray) -> Trace:
        rest = rest_of(self.capabilities.controls, waveform)
        self._apply(rest)
        rows = [Stimulus(values, connected) for values, connected in zip(waveform.values, waveform.connected, strict=True)]
        begin = self.clock.now()
        samples = np.asarray(sample_times, dtype=np.float64)
        passage = self._present.advance(rows, np.asarray(waveform.times, dtype=np.float64), waveform.end, samples)
        self.clock.sleep(waveform.end)
        self._present.become(rest)
        values, _ = self._noisy(passage.outputs, 1, begin + samples)
        return Trace(samples.copy(), values, np.zeros(values.shape, dtype=np.bool_))

    # -- many stimuli ---------------------------------------------------------------------------------------------

    def _measure(self, stimuli: Sequence[Stimulus], policy: SettlePolicy, samples: int) -> Readings:
        if self._world.imperfections.moves or self.capabilities.has_memory:  # every stimulus meets other devices
            return super()._measure(stimuli, policy, samples)
        values, elapsed, failure = self._relaxed(stimuli, policy)
        times = self._pass(elapsed, samples)
        done = len(values)
        noisy, std = self._noisy(values, samples, times)
        readings = Readings(noisy, std, np.zeros(noisy.shape, dtype=np.bool_), times)
        if done:
            self._applied = stimuli[done - 1]
            self._notify(stimuli[:done], readings)
        if failure is not None:
            raise failure
        return readings

    def _measure_replicas(self, stimuli: Sequence[Sequence[Stimulus]], policy: SettlePolicy, samples: int) -> FloatArray:
        if not stimuli:
            return np.empty((0, len(self.capabilities.replicas), len(self.capabilities.outputs)))
        if self.capabilities.has_memory:
            rows = list[FloatArray]()
            for number, row in enumerate(stimuli):
                one = Readings.stack(self._measure_together(number, row, policy, samples))
                rows.append(one.values)
                self._notify_rows([row], one.values[None], one.std[None], one.overload[None], one.time[:1])
            return np.stack(rows)
        parts = [
            backend._relaxed([row[position] for row in stimuli], policy) for position, backend in enumerate((self, *self._others))
        ]
        for _, _, failure in parts:
            if failure is not None:
                raise failure
        times = self._pass(np.max([elapsed for _, elapsed, _ in parts], axis=0), samples)
        values = np.stack([values for values, _, _ in parts], axis=1)
        noisy, std = self._noisy(values, samples, times)
        self._notify_rows(stimuli, noisy, std, np.zeros(noisy.shape, dtype=np.bool_), times)
        return noisy

    def _measure_together(self, number: int, row: Sequence[Stimulus], policy: SettlePolicy, samples: int) -> list[Reading]:
        """Replicas that remember, side by side: each settles, and goes on until the slowest has; one reading of each."""
        backends = (self, *self._others)
        begun = [backend.clock.now() for backend in backends]
        self._dwell.begin(row)
        for backend, stimulus in zip(backends, row, strict=True):
            backend._apply(stimulus)
            report = backend._settle(policy)
            self.relaxations += backend is self
            if not report.settled:
                raise NotSettledError(f"row {number + 1}, {backend.name!r}: {report.trouble(policy)}")
        spent = [backend.clock.now() - start for backend, start in zip(backends, begun, strict=True)]
        for backend, seconds in zip(backends, spent, strict=True):
            backend.clock.sleep(max(spent) - seconds)
        return [backend._read(samples) for backend in backends]

    def _pass(self, elapsed: FloatArray, samples: int) -> FloatArray:
        """Let the time of every stimulus and of its readings pass; the moments at which it was read, (n,)."""
        times = np.empty(len(elapsed))
        for number, seconds in enumerate(elapsed):
            self.clock.sleep(float(seconds) + samples * self.imperfections.aperture)
            times[number] = self.clock.now()
        return times

    def _relaxed(
        self, stimuli: Sequence[Stimulus], policy: SettlePolicy
    ) -> tuple[FloatArray, FloatArray, NotSettledError | None]:
        """Exact outputs (m, n_outputs) and seconds (m,) of the stimuli up to the first that does not settle; that one's error.

        No time passes; devices, stimulus and values are left as after the last of them.
        """
        shape = (len(stimuli), len(self.capabilities.outputs))
        values, before, tau = np.empty(shape), np.empty(shape), np.empty(len(stimuli))
        parts = self._physics.acting(stimuli)
        state = self._present.state
        if state is None:
            state = states.at_rest(self.map.problem(self._physics.acting(stimuli[:1])[0]))
        after = tuple(np.empty((len(one), len(stimuli), one.shape[-1])) for one in state)
        clamped: set[str] = set()
        for applied in parts:
            point = self._physics.steady(applied)
            clamped.update(self._physics.clamped)
            problem = self.map.problem(applied)
            values[applied.rows] = self.map.read(point.voltage, point.terminal_current)
            tau[applied.rows] = states.slowest(problem, point.voltage) * self._world.slow_factor
            for whole, one in zip(after, states.relaxed(problem, point.voltage), strict=True):
                whole[:, applied.rows] = one
        self._physics.clamped = tuple(name for name in self.network.edge_names if name in clamped)
        for applied in parts:  # the moment each stimulus is applied, devices still where the one before left them
            held = tuple(
                np.concatenate((first[:, :1], whole[:, :-1]), axis=1)[:, applied.rows]
                for first, whole in zip(state, after, strict=True)
            )
            before[applied.rows] = self._physics.instant(applied, held)
        seconds = np.empty(len(stimuli))
        for number, stimulus in enumerate(stimuli):
            changes = policy.changes(self.capabilities.outputs, values[number] - before[number])
            change = float(np.max(changes, initial=0.0))
            elapsed, residual = settling(change, float(tau[number]), policy)
            seconds[number] = sum(self._source_time(stimulus)) + min(elapsed, policy.timeout)
            self._present.stimulus = stimulus
            self.relaxations += 1
            if elapsed > policy.timeout or residual > policy.tolerance:
                moved = self.capabilities.outputs.channels[int(np.argmax(changes))] if changes.size else None
                report = SettleReport(False, min(elapsed, policy.timeout), residual, moved)
                failure = NotSettledError(f"stimulus {number + 1} of {len(stimuli)}: {report.trouble(policy)}")
                self.clock.sleep(float(seconds[number]))
                return values[:number], seconds[:number], failure
        self._present.arrive(tuple(one[:, -1:] for one in after), None, values[-1])
        return values, seconds, None

    # -- sources, noise, state ------------------------------------------------------------------------------------

    def _source_time(self, stimulus: Stimulus) -> tuple[float, float]:
        """Seconds until every source has arrived: ramp and dead time of the slowest."""
        slowest = 0.0, 0.0
        if self._present.stimulus is None:
            return slowest
        for position, channel in enumerate(self.capabilities.controls):
            change = abs(float(stimulus.values[position] - self._present.stimulus.values[position]))
            if stimulus.connected[position] and (change > 0.0 or not self._present.stimulus.connected[position]):
                own = change / float(self.envelope.max_slew[position]), channel.dead_time
                slowest = max(slowest, own, key=sum)
        return slowest

    def _noisy(self, values: FloatArray, samples: int, times: Sequence[float] | FloatArray) -> tuple[FloatArray, FloatArray]:
        """Means of ``samples`` readings of (n, ..., n_outputs) taken at ``times`` (n,), and their standard error."""
        at = np.asarray(times, dtype=np.float64)
        return self._world.read(values, samples, at, at - self._mounted_at, self.map.reads_current, self._rng)

    def snapshot(self) -> Mapping[str, object]:
        """The network, its loads, imperfections and seed, the solver's bounds, and the edges that a floor holds now."""
        return {
            "backend": "simulated",
            "name": self.name,
            "network": description.describe(self.network),
            "loads": {node: list(load) for node, load in self._loads.items()},
            "imperfections": asdict(self.imperfections),
            "seed": self.seed,
            "clamped_edges": list(self._physics.clamped),
        }

    def _capture(self) -> object:
        return {
            **self._present.capture(),
            "applied": captured.stimulus_out(self._applied),
            "generator": self._rng.bit_generator.state,
            "world": self._world.capture(),
            "clock": self.clock.now(),
            "mounted": self._mounted_at,
            "replicas": [other._capture() for other in self._others],
            "relaxations": self.relaxations,
            "clamped": list(self._physics.clamped),
            "searched": self._physics.searched,
        }

    def _restore(self, state: object) -> None:
        if not isinstance(state, Mapping):
            raise ConfigError(f"a captured state is a mapping, not {type(state).__name__}")
        kept: Mapping[str, Any] = state
        try:
            self._present.restore(kept)
            self._applied = captured.stimulus_in(kept["applied"])
            self._rng.bit_generator.state = kept["generator"]
            self._world.restore(kept["world"])
            self.relaxations = int(kept["relaxations"])
            self._physics.clamped = tuple(kept["clamped"])
            self._physics.searched = bool(kept["searched"])
            clock, at, mounted = float(kept["clock"]), float(kept["at"]), float(kept["mounted"])
            for other, its in zip(self._others, kept["replicas"], strict=True):
                other._restore(its)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"this is no captured state of a simulated backend: {error}") from error
        behind = clock - self.clock.now()
        if behind > 0.0 and isinstance(self.clock, SteppedClock):
            self.clock.sleep(behind)
        # Not a sum where there is nothing to add: it would not always be the same number.
        now = self.clock.now()
        self._present.at, self._mounted_at = (at, mounted) if now == clock else (now - (clock - at), now - (clock - mounted))
