"""One network under its controls, as its devices really are: what stimuli do to it, and what is worth a warning."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from hil.core.errors import NotConvergedError
from hil.core.safety import SafetyEnvelope
from hil.core.types import FloatArray, Layout, Quantity, SettlePolicy, Stimulus
from simulated_backend import states
from simulated_backend.controls import Applied, ControlMap, Loads
from simulated_backend.devices.base import StateKind
from simulated_backend.imperfections import World
from simulated_backend.network import Network
from simulated_backend.solve.kirchhoff import State, structure
from simulated_backend.solve.operating_point import OperatingPoint, Status
from simulated_backend.solve.steady_states import steady_states

_SEARCH_EDGES = 200
"""Networks up to this many edges are searched for several steady states, once, at the first stimulus."""


class Physics:
    """``network`` (as ``world`` made it) with its controls, outputs and loads; ``warn`` hears every sentence once.

    ``clamped``: names of the edges that the floor of a law held at the last steady state; ``searched``: whether the network
    has been searched for several steady states. With an ``envelope``, what sources put into the network is judged by its power
    limits at every solution.
    """

    def __init__(
        self,
        network: Network,
        controls: Layout,
        outputs: Layout,
        loads: Loads,
        world: World,
        warn: Callable[[str], None] | None,
    ) -> None:
        self.network = network
        self.map = ControlMap(network, controls, outputs, loads)
        self.clamped: tuple[str, ...] = ()
        self.searched = False
        self.envelope: SafetyEnvelope | None = None
        self._layouts = controls, outputs, loads
        self._world = world
        self._warn = warn
        self._said: set[str] = set()

    @property
    def slow_factor(self) -> float:
        """How many times slower devices settle than their parameters say."""
        return self._world.slow_factor

    def mount(self, network: Network) -> None:
        """Exchange the network for another with the same controls and outputs."""
        self.network = network
        self.map = ControlMap(network, *self._layouts)
        self.searched = False

    def acting(self, stimuli: Sequence[Stimulus]) -> list[Applied]:
        """What the stimuli do to the devices of the present cycle, through sources as they are."""
        world = self._world
        if world.imperfections.quantise_sources:
            stimuli = [Stimulus(world.sourced(stimulus.values), stimulus.connected) for stimulus in stimuli]
        return [replace(applied, network=world.present(applied.network)) for applied in self.map.applied(stimuli)]

    def left_alone(self, applied: Applied) -> Applied:
        """The same with one node held at 0 V in every part that nothing ties: only differences act on devices there."""
        graph = structure(applied.network, applied.clamped)
        clamped = applied.clamped.copy()
        for part in np.unique(graph.parts):
            members = graph.parts == part
            if not np.any(clamped[members]) and not np.any(self.map.shunt[members] > 0.0):
                clamped[np.flatnonzero(members)[0]] = True
        return replace(applied, clamped=clamped)

    def steady(self, applied: Applied) -> OperatingPoint:
        """Operating points of ``applied``, with everything worth a warning said."""
        point = self._solved(applied, None, validity=True)
        self._tell(point)
        self._find_clamped(applied, point)
        if not self.searched:
            self.searched = True
            self._search(applied)
        return point

    def instant(self, applied: Applied, state: State | None, *, validity: bool = False) -> FloatArray:
        """Outputs with the devices held at ``state``, (m, n_outputs)."""
        point = self._solved(applied, state, validity=validity)
        if validity:
            self._tell(point)
        return self.map.read(point.voltage, point.terminal_current)

    def say(self, text: str) -> None:
        """Warn, unless it has been said."""
        if text not in self._said:
            self._said.add(text)
            if self._warn is not None:
                self._warn(text)

    def _solved(self, applied: Applied, state: State | None, *, validity: bool) -> OperatingPoint:
        point = self.map.solve(applied, state=state, validity=validity)
        if point.status is not Status.CONVERGED:
            raise NotConvergedError(point.message)
        if self.envelope is not None and self.envelope.limits_power.any():
            sources, nodes = self.map.positions[Quantity.VOLTAGE], self.map.nodes[Quantity.VOLTAGE]
            power = np.full((*point.voltage.shape[:-1], len(self.envelope.layout)), np.nan)
            power[..., sources] = np.abs(point.voltage[..., nodes] * point.terminal_current[..., nodes])
            self.envelope.check_power(power)
        return point

    def _tell(self, point: OperatingPoint) -> None:
        for text in point.warnings:
            if not text.startswith("clamped:"):
                self.say(text)

    def _find_clamped(self, applied: Applied, point: OperatingPoint) -> None:
        held = states.clamped_edges(self.map.problem(applied), point.voltage).any(axis=0)
        self.clamped = tuple(self.network.edge_names[i] for i in np.flatnonzero(held))
        if self.clamped:
            self.say(
                f"clamped: the floor of the law holds edges {', '.join(self.clamped)}, so that their gradient vanishes; reduce "
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
            self.say(found.message)


def settling(change: float, tau: float, policy: SettlePolicy) -> tuple[float, float]:
    """Time until outputs that approach by ``change`` with ``tau`` are flat to the policy, and their last change then.

    The change over a window w that ends at t is change·e^{−t/τ}(e^{w/τ} − 1). With ``dwell`` the time is fixed.
    """

    def left(at: float) -> float:
        if tau <= 0.0:
            return 0.0
        return float(change * np.exp(-max(at - policy.window, 0.0) / tau) * -np.expm1(-policy.window / tau))

    if policy.dwell is not None:
        return policy.dwell, left(policy.dwell)
    elapsed = policy.window
    if left(elapsed) > policy.tolerance:
        elapsed += tau * float(np.log(left(elapsed) / policy.tolerance))
    return elapsed, left(min(elapsed, policy.timeout)) if elapsed > policy.timeout else min(left(elapsed), policy.tolerance)
