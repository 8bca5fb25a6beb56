"""The network as a backend: everything simulated, nothing measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
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
)
from simulated_backend import description, states
from simulated_backend.controls import Applied, ControlMap, Loads
from simulated_backend.devices.base import StateKind
from simulated_backend.imperfections import Imperfections, World
from simulated_backend.network import Network
from simulated_backend.solve.kirchhoff import State
from simulated_backend.solve.operating_point import OperatingPoint, Status
from simulated_backend.solve.relaxation import relax
from simulated_backend.solve.steady_states import steady_states

_SEARCH_EDGES = 200
"""Networks up to this many edges are searched for several steady states, once, at the first stimulus."""
_TRACE_POINTS = 64


class SimulatedBackend(Backend):
    """Steady states of ``network`` under the controls; outputs are read without any instrument in between.

    Controls: DRIVE or TUNE with a ``node`` and VOLTAGE, PRESSURE or CONCENTRATION; TUNE with an ``edge`` and the name of a
    tunable in ``parameter``. Outputs: VOLTAGE of a node, or CURRENT that the terminal delivers into a node. A control that
    is not connected leaves its node floating (voltage) or at the node's own value. ``loads``: shunts and bias currents of
    the terminals. ``warn`` receives each sentence the user should know once; one that begins with "clamped:" says that the
    floor of a law is active (also in ``snapshot()["clamped_edges"]``, for the latest reading).

    Time is that of ``clock``: settling takes as long as the slowest device and node need, sources ramp and rest as their
    channels declare. Ideal networks are EXACT; with imperfections readings are SEEDED.
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
        # What several replicas remember is not captured: a resume would bring one of them back and not the others.
        capabilities = Capabilities(
            controls,
            outputs,
            exact,
            can_reset=True,
            can_capture=not others,
            replicas=tuple(others),
            simultaneous=tuple(simultaneous),
        )
        self.clock: Clock = clock or SteppedClock()
        super().__init__(name, capabilities, envelope, self.clock)
        self._world = World(self.imperfections, network, controls, outputs, seed)
        self.network = self._world.network
        self.map = ControlMap(self.network, controls, outputs, loads)
        self.seed = seed
        self._loads = dict(loads or {})
        self._warn = warn
        self._said: set[str] = set()
        self._rng = np.random.default_rng(seed)
        self._stimulus: Stimulus | None = None
        self._state: State | None = None
        self._values: FloatArray | None = None
        self._clamped: tuple[str, ...] = ()
        self._searched = False
        self._mounted_at = self.clock.now()
        self._others = [
            SimulatedBackend(other, controls, outputs, envelope, warn=warn, loads=loads, name=f"{name} {label}")
            for label, other in list(others.items())[1:]
        ]

    # -- life cycle -----------------------------------------------------------------------------------------------

    def _open(self) -> None:
        pass

    def _close(self) -> None:
        pass

    def _make_safe(self) -> None:
        channels = self.capabilities.controls.channels
        previous = np.array([channel.minimum if np.isfinite(channel.minimum) else 0.0 for channel in channels])
        if self._stimulus is not None:
            previous = self._stimulus.values
        level = np.array([channel.safe.action is SafeAction.LEVEL for channel in channels], dtype=np.bool_)
        keep = np.array([channel.safe.action is SafeAction.NONE for channel in channels], dtype=np.bool_)
        connected = level if self._stimulus is None else level | (keep & self._stimulus.connected)
        self._stimulus = Stimulus(np.where(level, [channel.safe.value for channel in channels], previous), connected)
        self._values = None

    def _reset(self) -> None:
        self._state = None
        self._values = None
        for other in self._others:
            other._reset()

    def mount(self, networks: Mapping[str, Network]) -> None:
        """Exchange the devices for others, all at rest; drift starts anew. One network per replica (or a single one)."""
        if list(networks) != list(self.capabilities.replicas or networks) or not networks:
            raise ConfigError(f"one network for each of {self.capabilities.replicas} is needed, not for {list(networks)}")
        for backend, network in zip([self, *self._others], networks.values(), strict=True):
            backend.network = network
            backend.map = ControlMap(network, self.capabilities.controls, self.capabilities.outputs, self._loads)
            backend._stimulus = backend._state = backend._values = None
            backend._searched = False
        self._applied = None
        self._mounted_at = self.clock.now()

    # -- one stimulus ---------------------------------------------------------------------------------------------

    def _apply(self, stimulus: Stimulus) -> None:
        self._world.renew(self._rng)
        (applied,) = self._acting([stimulus])  # refuses what cannot be before anything changes
        duration = self._source_time(stimulus)
        if self._state is None:
            self._state = states.at_rest(self.map.problem(applied))
        self._stimulus = stimulus
        self._values = None
        if duration > 0.0:
            self.clock.sleep(duration)

    def _settle(self, policy: SettlePolicy) -> SettleReport:
        (applied,) = self._acting([self._current()])
        before = self._now(applied)
        point = self._steady(applied)
        after = self.map.read(point.voltage, point.terminal_current)[0]
        change = float(np.max(np.abs(after - before), initial=0.0))
        tau = float(states.slowest(self.map.problem(applied), point.voltage)[0]) * self._world.slow_factor
        elapsed, residual = _settling(change, tau, policy)
        settled = elapsed <= policy.timeout and residual <= policy.tolerance
        elapsed = min(elapsed, policy.timeout)
        if settled:
            self._state = states.relaxed(self.map.problem(applied), point.voltage)
            self._values = after
        else:
            residual = self._run_for(applied, elapsed, policy.window)
        self.clock.sleep(elapsed)
        return SettleReport(settled, elapsed, residual)

    def _read(self, samples: int) -> Reading:
        if self._values is None:
            (applied,) = self._acting([self._current()])
            self._values = self._now(applied)
        if self.imperfections.aperture:
            self.clock.sleep(samples * self.imperfections.aperture)
        values, std = self._noisy(self._values[np.newaxis], samples, [self.clock.now()])
        return Reading(values[0], std[0], np.zeros(values.shape[-1], dtype=np.bool_), self.clock.now())

    # -- many stimuli ---------------------------------------------------------------------------------------------

    def _measure(self, stimuli: Sequence[Stimulus], policy: SettlePolicy, samples: int) -> Readings:
        if self._world.imperfections.moves:  # every stimulus meets other devices
            return super()._measure(stimuli, policy, samples)
        values, elapsed, failure = self._relaxed(stimuli, policy)
        times = self._pass(elapsed, samples)
        done = len(values)
        noisy, std = self._noisy(values, samples, times)
        readings = Readings(noisy, std, np.zeros(noisy.shape, dtype=np.bool_), times)
        if done:
            self._notify(stimuli[:done], readings)
        if failure is not None:
            raise failure
        return readings

    def _measure_replicas(self, stimuli: Sequence[Sequence[Stimulus]], policy: SettlePolicy, samples: int) -> FloatArray:
        if not stimuli:
            return np.empty((0, len(self.capabilities.replicas), len(self.capabilities.outputs)))
        parts = [
            backend._relaxed([row[position] for row in stimuli], policy) for position, backend in enumerate((self, *self._others))
        ]
        for _, _, failure in parts:
            if failure is not None:
                raise failure
        times = self._pass(np.max([elapsed for _, elapsed, _ in parts], axis=0), samples)
        values = np.stack([values for values, _, _ in parts], axis=1)
        noisy, _ = self._noisy(values, samples, times)
        return noisy

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
        parts = self._acting(stimuli)
        state = self._state
        if state is None:
            state = states.at_rest(self.map.problem(self._acting(stimuli[:1])[0]))
        after = tuple(np.empty((len(one), len(stimuli), one.shape[-1])) for one in state)
        clamped: set[str] = set()
        for applied in parts:
            point = self._steady(applied)
            clamped.update(self._clamped)
            problem = self.map.problem(applied)
            values[applied.rows] = self.map.read(point.voltage, point.terminal_current)
            tau[applied.rows] = states.slowest(problem, point.voltage) * self._world.slow_factor
            for whole, one in zip(after, states.relaxed(problem, point.voltage), strict=True):
                whole[:, applied.rows] = one
        self._clamped = tuple(name for name in self.network.edge_names if name in clamped)
        for applied in parts:  # the moment each stimulus is applied, devices still where the one before left them
            held = tuple(
                np.concatenate((first[:, :1], whole[:, :-1]), axis=1)[:, applied.rows]
                for first, whole in zip(state, after, strict=True)
            )
            before[applied.rows] = self._instant(applied, held)
        seconds = np.empty(len(stimuli))
        for number, stimulus in enumerate(stimuli):
            change = float(np.max(np.abs(values[number] - before[number]), initial=0.0))
            elapsed, residual = _settling(change, float(tau[number]), policy)
            seconds[number] = self._source_time(stimulus) + min(elapsed, policy.timeout)
            self._stimulus = stimulus
            self.relaxations += 1
            if elapsed > policy.timeout or residual > policy.tolerance:
                failure = NotSettledError(
                    f"stimulus {number + 1} of {len(stimuli)}: outputs would still move by {residual:g} in {policy.window:g} s "
                    f"after {min(elapsed, policy.timeout):g} s (tolerance {policy.tolerance:g}); allow a longer "
                    "`settle.timeout` or a wider tolerance"
                )
                self.clock.sleep(float(seconds[number]))
                return values[:number], seconds[:number], failure
        self._state, self._values = tuple(one[:, -1:] for one in after), values[-1]
        return values, seconds, None

    # -- physics --------------------------------------------------------------------------------------------------

    def _acting(self, stimuli: Sequence[Stimulus]) -> list[Applied]:
        """What the stimuli do to the devices of the present cycle, through sources as they are."""
        world = self._world
        if self.imperfections.quantise_sources:
            stimuli = [Stimulus(world.sourced(stimulus.values), stimulus.connected) for stimulus in stimuli]
        return [replace(applied, network=world.present(applied.network)) for applied in self.map.applied(stimuli)]

    def _current(self) -> Stimulus:
        if self._stimulus is None:
            raise ConfigError("nothing has been applied")
        return self._stimulus

    def _steady(self, applied: Applied) -> OperatingPoint:
        """Operating points of ``applied``, with everything worth a warning said."""
        point = self.map.solve(applied, validity=True)
        if point.status is not Status.CONVERGED:
            raise NotConvergedError(point.message)
        for text in point.warnings:
            if not text.startswith("clamped:"):
                self._say(text)
        self._find_clamped(applied, point)
        if not self._searched:
            self._searched = True
            self._search(applied)
        return point

    def _find_clamped(self, applied: Applied, point: OperatingPoint) -> None:
        held = states.clamped_edges(self.map.problem(applied), point.voltage).any(axis=0)
        self._clamped = tuple(self.network.edge_names[i] for i in np.flatnonzero(held))
        if self._clamped:
            self._say(
                f"clamped: the floor of the law holds edges {', '.join(self._clamped)}, so that their gradient vanishes; reduce "
                "the voltage or the pressure difference"
            )

    def _search(self, applied: Applied) -> None:
        if self.network.n_edges > _SEARCH_EDGES or all(
            group.law.kind is not StateKind.RELAXATION for group in self.network.groups
        ):
            return
        first = [
            {name: values[0] if np.ndim(values) > 1 else values for name, values in group.parameters.items()}
            for group in applied.network.groups
        ]
        found = steady_states(
            applied.network.with_parameters(first),
            applied.voltage[0],
            applied.clamped,
            pressure=applied.pressure[0],
            concentration=applied.concentration[0],
            injected=self.map.injected,
            shunt=self.map.shunt,
        )
        if len(found.voltage) and found.ambiguous:
            self._say(found.message)

    def _now(self, applied: Applied) -> FloatArray:
        """Outputs with the devices as they are, (n_outputs,)."""
        return np.asarray(self._instant(applied, self._state)[0])

    def _instant(self, applied: Applied, state: State | None) -> FloatArray:
        """Outputs with the devices held at ``state``, (m, n_outputs)."""
        point = self.map.solve(applied, state=state)
        if point.status is not Status.CONVERGED:
            raise NotConvergedError(point.message)
        return self.map.read(point.voltage, point.terminal_current)

    def _run_for(self, applied: Applied, duration: float, window: float) -> float:
        """Let the devices relax for ``duration`` seconds; the outputs' change over the last ``window``."""
        times = np.linspace(0.0, duration, _TRACE_POINTS + 1)
        run = relax(
            applied.network,
            applied.voltage,
            applied.clamped,
            np.sort(np.append(times, max(0.0, duration - window))) / self._world.slow_factor,
            pressure=applied.pressure,
            concentration=applied.concentration,
            injected=self.map.injected,
            shunt=self.map.shunt,
            state=self._state,
        )
        outputs = self.map.read(run.voltage, run.terminal_current)[:, 0]
        self._state, self._values = run.state, outputs[-1]
        recent = outputs[run.times * self._world.slow_factor >= (duration - window) * (1.0 - 1e-12)]
        return float(np.max(np.ptp(recent, axis=0), initial=0.0))

    def _source_time(self, stimulus: Stimulus) -> float:
        """Seconds until every source has arrived: its ramp and its dead time."""
        if self._stimulus is None:
            return 0.0
        longest = 0.0
        for position, channel in enumerate(self.capabilities.controls):
            change = abs(float(stimulus.values[position] - self._stimulus.values[position]))
            if stimulus.connected[position] and (change > 0.0 or not self._stimulus.connected[position]):
                longest = max(longest, change / float(self.envelope.max_slew[position]) + channel.dead_time)
        return longest

    # -- noise, warnings, state -----------------------------------------------------------------------------------

    def _noisy(self, values: FloatArray, samples: int, times: Sequence[float] | FloatArray) -> tuple[FloatArray, FloatArray]:
        """Means of ``samples`` readings of (n, ..., n_outputs) taken at ``times`` (n,), and their standard error."""
        at = np.asarray(times, dtype=np.float64)
        return self._world.read(values, samples, at, at - self._mounted_at, self.map.reads_current, self._rng)

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            if self._warn is not None:
                self._warn(text)

    def snapshot(self) -> Mapping[str, object]:
        """The network, its loads, imperfections and seed, the solver's bounds, and the edges that a floor holds now."""
        return {
            "backend": "simulated",
            "name": self.name,
            "network": description.describe(self.network),
            "loads": {node: list(load) for node, load in self._loads.items()},
            "imperfections": asdict(self.imperfections),
            "seed": self.seed,
            "clamped_edges": list(self._clamped),
        }

    def _capture(self) -> object:
        stimulus = self._stimulus
        return {
            "stimulus": None if stimulus is None else [stimulus.values.tolist(), stimulus.connected.tolist()],
            "applied": self._applied is not None,
            "state": None
            if self._state is None
            else [{"shape": list(one.shape), "values": one.ravel().tolist()} for one in self._state],
            "values": None if self._values is None else self._values.tolist(),
            "generator": self._rng.bit_generator.state,
            "world": self._world.capture(),
            "clock": self.clock.now(),
            "relaxations": self.relaxations,
            "clamped": list(self._clamped),
            "searched": self._searched,
        }

    def _restore(self, state: object) -> None:
        if not isinstance(state, Mapping):
            raise ConfigError(f"a captured state is a mapping, not {type(state).__name__}")
        kept: Mapping[str, Any] = state
        try:
            stimulus = kept["stimulus"]
            self._stimulus = None if stimulus is None else Stimulus.of(stimulus[0], stimulus[1])
            self._applied = self._stimulus if kept["applied"] else None
            self._state = (
                None
                if kept["state"] is None
                else tuple(np.array(one["values"], dtype=np.float64).reshape(one["shape"]) for one in kept["state"])
            )
            self._values = None if kept["values"] is None else np.array(kept["values"], dtype=np.float64)
            self._rng.bit_generator.state = kept["generator"]
            self._world.restore(kept["world"])
            self.relaxations = int(kept["relaxations"])
            self._clamped = tuple(kept["clamped"])
            self._searched = bool(kept["searched"])
            behind = float(kept["clock"]) - self.clock.now()
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"this is no captured state of a simulated backend: {error}") from error
        if behind > 0.0 and isinstance(self.clock, SteppedClock):
            self.clock.sleep(behind)


def _settling(change: float, tau: float, policy: SettlePolicy) -> tuple[float, float]:
    """Time until outputs that approach by ``change`` with ``tau`` are flat to the policy, and their last change then.

    The change over a window w that ends at t is change·e^{−t/τ}(e^{w/τ} − 1). With ``dwell`` the time is fixed.
    """

    def moved(at: float) -> float:
        if tau <= 0.0:
            return 0.0
        return float(change * np.exp(-max(at - policy.window, 0.0) / tau) * -np.expm1(-policy.window / tau))

    if policy.dwell is not None:
        return policy.dwell, moved(policy.dwell)
    elapsed = policy.window
    if moved(elapsed) > policy.tolerance:
        elapsed += tau * float(np.log(moved(elapsed) / policy.tolerance))
    return elapsed, moved(min(elapsed, policy.timeout)) if elapsed > policy.timeout else min(moved(elapsed), policy.tolerance)
