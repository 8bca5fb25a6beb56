"""Liquids of the plant: two stocks meet in a common line, a valve leads them to one node's reservoir, the reservoir is washed.

Lines move their content as a plug; a reservoir is well mixed and overflows, so that after a volume v of concentration c_in has
come in, c = c_in + (c0 - c_in) exp(-v/V) (exact, whatever the flow did meanwhile). A line that the valve joins to the pumps,
which stand on earth, is a resistor from its node to low: R = L/(kappa A), kappa = 2 rho e^2 D/(kT), rho = c N_A pairs of ions
(a symmetric salt whose ions both diffuse with D; here D of KCl, the mean of 1.957e-9 and 2.032e-9 m^2/s: Robinson and Stokes,
Electrolyte Solutions, appendix 6.2). An Ag/AgCl electrode stands at -(kT/e) ln(c/c0) against one in the solution of the
beginning (Nernst). Not imitated: diffusion between reservoirs, density, compliance of the tubing, bubbles.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from math import exp, inf, log, pi
from typing import Any

from hil.core.errors import ConfigError, NotConvergedError
from hil.core.types import FloatArray
from simulated_backend.network import Network
from simulated_backend.virtual_bench.circuit import Circuit
from simulated_backend.virtual_bench.flow_lines import FlowLines
from simulated_backend.virtual_bench.interfaces import Interfaces
from simulated_backend.virtual_bench.terminals import Terminal

CHARGE, BOLTZMANN, AVOGADRO = 1.602176634e-19, 1.380649e-23, 6.02214076e23
TEMPERATURE, DIFFUSIVITY = 293.15, 1.995e-9
UNHURRIED = 10.0
"""Time constants of the network after which it is taken to be steady."""
VISIBLE = 1e-4
"""Relative change of a concentration that the network is told of."""
SHARES = 3
"""How often the network is told while a reservoir's volume flows through it."""
DRY = 1e15
"""Ohm of a line that no liquid joins to anything."""


def conductivity(concentration: float) -> float:
    """S/m of the salt at ``concentration`` mol/m^3."""
    pairs = concentration * AVOGADRO
    return 2.0 * pairs * CHARGE**2 * DIFFUSIVITY / (BOLTZMANN * TEMPERATURE)


def electrode(concentration: float, reference: float) -> float:
    """V of an Ag/AgCl electrode in ``concentration`` against one in ``reference``."""
    return -BOLTZMANN * TEMPERATURE / CHARGE * log(concentration / reference)


class PlugLine:
    """A tube of ``volume`` m^3 whose content moves as a plug, and does not mix."""

    def __init__(self, volume: float, concentration: float) -> None:
        self._content: deque[tuple[float, float]] = deque([(volume, concentration)])

    def push(self, volume: float, concentration: float) -> list[tuple[float, float]]:
        """What comes out at the other end: (m^3, mol/m^3) in order."""
        self._content.append((volume, concentration))
        left, out = volume, []
        while left > 0.0:
            size, inside = self._content.popleft()
            if size > left:
                self._content.appendleft((size - left, inside))
                size = left
            out.append((size, inside))
            left -= size
        return out

    def resistance(self, area: float) -> float:
        """Ohm along the line of cross-section ``area`` m^2."""
        return sum(volume / (area * area * conductivity(inside)) for volume, inside in self._content)


class _Outlet:
    """A line from the valve to one node, and the node's reservoir."""

    def __init__(self, facts: Mapping[str, Any], area: float, network: Network, changed: Any) -> None:
        name = str(facts["node"])
        if name not in network.node_index:
            raise ConfigError(f"a liquid line ends at node {name!r}, which the network does not have")
        self.node = network.node_index[name]
        self.start = float(network.nodes[self.node].concentration)
        self.concentration = self.told = self.start
        self.reservoir = float(facts["reservoir"])
        self.line = PlugLine(area * float(facts["length"]), self.start)
        self.shunt = Terminal("liquid", name, self.node, lambda: None, changed)
        self.shunt.set_load(DRY, 0.0)

    def wash(self, arriving: Sequence[tuple[float, float]]) -> None:
        """Liquid arrives at the valve's end of the line."""
        for volume, concentration in arriving:
            for size, inside in self.line.push(volume, concentration):
                self.concentration = inside + (self.concentration - inside) * exp(-size / self.reservoir)


class _Mixer:
    """Pumps on one common line, and a valve with outlets at some of its positions; all others lead to waste."""

    def __init__(self, facts: Mapping[str, Any], lines: FlowLines, network: Network, changed: Any) -> None:
        area = 0.25 * pi * float(facts["bore"]) ** 2
        self.area = area
        self.pumps = [(lines.flow(name, ""), float(stock)) for name, stock in facts["pumps"].items()]
        self.rotor = lines.valve(str(facts["valve"]), "")
        self.outlets = {int(place): _Outlet(one, area, network, changed) for place, one in facts["outlets"].items()}
        self.common = PlugLine(float(facts["dead_volume"]), next(iter(self.outlets.values())).start)

    def flow(self) -> float:
        """m^3/s of all pumps together now."""
        return sum(abs(line.flow()) for line, _ in self.pumps)

    def next_kink(self, time: float) -> float:
        """s: when a pump ends by itself or the valve arrives, after ``time``."""
        moments = [line.ends_at() for line, _ in self.pumps] + [self.rotor.arrives_at()]
        return min((moment for moment in moments if moment > time + 1e-9), default=inf)

    def pass_time(self, begin: float, end: float) -> None:
        """What the pumps deliver between two moments goes where the valve stands."""
        parts = [(max(line.volume_at(end) - line.volume_at(begin), 0.0), stock) for line, stock in self.pumps]
        total = sum(volume for volume, _ in parts)
        if total <= 0.0:
            return
        mixed = sum(volume * stock for volume, stock in parts) / total
        out = self.common.push(total, mixed)
        outlet = self.outlets.get(self.rotor.position_at(0.5 * (begin + end)) or 0)
        if outlet is not None:
            outlet.wash(out)

    def join(self, time: float) -> None:
        """Lines are resistors where the valve joins them, and nothing elsewhere."""
        joined = self.outlets.get(self.rotor.position_at(time) or 0)
        for outlet in self.outlets.values():
            if outlet is joined:
                outlet.shunt.set_load(outlet.line.resistance(self.area) + self.common.resistance(self.area), 0.0)
            else:
                outlet.shunt.set_load(DRY, 0.0)


class Liquids:
    """All liquids of a plant; ``facts`` is ``BenchPlan.liquids``, and empty for a bench without any.

    ``changed`` is called when the network has to look again. ``interfaces``: inert electrodes, which are charged meanwhile.
    """

    def __init__(
        self,
        facts: Mapping[str, Any],
        lines: FlowLines,
        network: Network,
        changed: Any,
        interfaces: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._changed = changed
        self.interfaces = Interfaces(interfaces)
        self._time = 0.0
        try:
            self._mixers = [_Mixer(one, lines, network, changed) for one in facts.get("mixers", ())]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"the plan's liquids are not understood: {error!r}") from error
        self._electrodes = facts.get("electrodes") == "silver_chloride"
        self._outlets = [outlet for mixer in self._mixers for outlet in mixer.outlets.values()]

    @property
    def shunts(self) -> list[Terminal]:
        """Liquid lines as the network sees them."""
        return [outlet.shunt for outlet in self._outlets]

    def advance(self, seconds: float) -> Iterator[float]:
        """Let ``seconds`` pass, in spans at whose ends concentrations have changed little; each span after it has passed."""
        end = self._time + seconds
        while (self._mixers or self.interfaces) and self._time < end:
            pace = min(self._pace(), self.interfaces.pace())
            stop = min([end, *(mixer.next_kink(self._time) for mixer in self._mixers), self._time + pace])
            for mixer in self._mixers:
                mixer.pass_time(self._time, stop)
                mixer.join(stop)
            span, self._time = stop - self._time, stop
            if any(abs(one.concentration - one.told) > VISIBLE * one.told for one in self._outlets):
                self._changed()
            yield span
        if not (self._mixers or self.interfaces):
            yield seconds

    def _pace(self) -> float:
        flows = [(mixer.flow(), min(one.reservoir for one in mixer.outlets.values())) for mixer in self._mixers]
        return min((volume / (SHARES * flow) for flow, volume in flows if flow > 0.0), default=inf)

    def impose(self, circuit: Circuit) -> None:
        """Tell the network its concentrations, and the terminals what their electrodes add."""
        if self._outlets:
            self._concentrate(circuit)
        self.interfaces.impose(circuit)

    def _concentrate(self, circuit: Circuit) -> None:
        offset = dict.fromkeys(range(circuit.network.n_nodes), 0.0)
        for outlet in self._outlets:
            outlet.told = circuit.concentration[outlet.node] = outlet.concentration
            if self._electrodes:
                offset[outlet.node] = electrode(outlet.concentration, outlet.start)
        for terminal in circuit.terminals:
            if terminal.node is not None and terminal.instrument != "liquid":
                terminal.offset = offset[terminal.node]

    def hasten(self, circuit: Circuit, seconds: float) -> Circuit:
        """While liquid flows the network follows it: straight to its steady state where a span lasts much longer than that.

        Electrodes are charged by what flows in the beginning of the span.
        """
        if any(mixer.flow() > 0.0 for mixer in self._mixers) and seconds > UNHURRIED * circuit.slowest:
            with suppress(NotConvergedError):  # step by step, then
                circuit.settle_now()
        if self.interfaces and self.interfaces.charge(circuit, seconds):
            self._changed()
        return circuit

    def concentrations(self, concentration: FloatArray) -> FloatArray:
        """``concentration`` (n_nodes,) of the beginning, mol/m^3, with what the reservoirs have now."""
        true = concentration.copy()
        for outlet in self._outlets:
            true[outlet.node] = outlet.concentration
        return true
