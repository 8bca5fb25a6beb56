"""The world behind the instruments: one network, its wires and tubes, and time. Implements ``ports.PlantView``.

Everything here is the truth; what an instrument makes of it (range, resolution, noise, offset) is the emulator's matter.
Calls must be made with ``lock`` held; waiting in real time lets go of it.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from math import inf

import numpy as np

from hil.core.errors import ConfigError, NotConvergedError
from hil.core.types import FloatArray
from simulated_backend.description import rebuild
from simulated_backend.imperfections import Imperfections
from simulated_backend.network import Network
from simulated_backend.virtual_bench.circuit import SHORTEST, Circuit
from simulated_backend.virtual_bench.clock import RealTime, SteppedTime, Turn
from simulated_backend.virtual_bench.crosspoints import Crosspoints
from simulated_backend.virtual_bench.faults import OutputStage
from simulated_backend.virtual_bench.flow_lines import FlowLines
from simulated_backend.virtual_bench.liquids import Liquids
from simulated_backend.virtual_bench.plan import BenchPlan, PlanError
from simulated_backend.virtual_bench.pneumatics import Outlet
from simulated_backend.virtual_bench.ports import ElectricalPort, Sample
from simulated_backend.virtual_bench.terminals import Terminal

MOST_STEPS = 20_000
"""Steps of the physics in one wait; beyond, the network is oscillating and is held where it is (and said so)."""


class _Window:
    """Time integrals of node voltages and clamp currents since it was opened."""

    __slots__ = ("current", "duration", "voltage")

    def __init__(self) -> None:
        self.duration = 0.0
        self.voltage: FloatArray | None = None
        self.current: FloatArray | None = None

    def add(self, voltage: FloatArray, current: FloatArray, seconds: float) -> None:
        """Running mean over the window: exact, not merely close, while nothing changes."""
        if self.voltage is None or self.current is None:
            self.voltage, self.current, self.duration = voltage, current, seconds
            return
        self.duration += seconds
        weight = seconds / self.duration
        self.voltage = self.voltage + weight * (voltage - self.voltage)
        self.current = self.current + weight * (current - self.current)


class Plant:
    """Built from a plan; ``troubles`` are sentences about what the physics could not follow."""

    def __init__(self, plan: BenchPlan, network: Network | None = None) -> None:
        self.lock = threading.Lock()
        self.network = rebuild(plan.network) if network is None else network
        self.ideal, self.atmosphere = plan.ideal, plan.atmosphere
        self.clock = RealTime(self._step, self.lock) if plan.real_time else SteppedTime(self._step)
        self.lines = FlowLines(self.clock.now, self.clock.arrive)
        self.flow, self.valve = self.lines.flow, self.lines.valve
        self.liquids = Liquids(plan.liquids, self.lines, self.network, self._change, plan.interfaces)
        self.troubles: list[str] = []
        self.turn, self._plan = Turn(self.lock, self.clock), plan
        direct = [wire for wire in plan.wires if not wire.through]
        self._wires = {(wire.instrument, wire.port): self._position(wire.instrument, wire.port, wire.node) for wire in direct}
        self._terminals: dict[tuple[str, str], Terminal] = {}
        self._outlets: dict[tuple[str, str], Outlet] = {}
        self._outlet_nodes: list[tuple[Outlet, int]] = []
        self._circuit: Circuit | None = None
        self._dirty, self._mounted_at = True, 0.0
        self.route = Crosspoints(plan.wires, self.electrical, self._position, self._report).route
        self._windows: list[_Window] = []
        n, m = self.network.n_nodes, self.network.n_edges
        self._lowest: FloatArray = np.full(2 * n + 2 * m, inf)
        self._highest: FloatArray = np.full(2 * n + 2 * m, -inf)
        self._seeds = np.random.SeedSequence([plan.seed, 0x70])
        try:
            self._flaws = Imperfections(**plan.imperfections)
        except TypeError as error:
            raise ConfigError(f"the plant's imperfections are not understood: {error}") from error
        self._flaw_rng = np.random.default_rng([plan.seed, 0x66])

    def _position(self, instrument: str, port: str, node: str) -> int:
        try:
            return self.network.node_index[node]
        except KeyError:
            raise ConfigError(
                f"port {port!r} of {instrument!r} is wired to node {node!r}, which the network does not have; "
                f"nodes: {', '.join(self.network.node_index)}"
            ) from None

    # What emulators use --------------------------------------------------------------------------------------------

    def electrical(self, instrument: str, port: str) -> Terminal:
        """The terminal ``port`` of ``instrument``; the same object every time."""
        key = (instrument, port)
        if key not in self._terminals:
            terminal = Terminal(instrument, port, self._wires.get(key), self.clock.arrive, self._change)
            self._terminals[key] = terminal
            # In real time the plant may be running before the last instrument is switched on.
            if self._circuit is not None and terminal.node is not None:
                self._circuit.terminals.append(terminal)
                self._dirty = True
        return self._terminals[key]

    def pneumatic(self, instrument: str, port: str) -> Outlet:
        """The outlet ``port`` of ``instrument``; the same object every time. ConfigError for two outlets on one node."""
        key = (instrument, port)
        if key not in self._outlets:
            rng = np.random.default_rng(self._seeds.spawn(1)[0])
            outlet = Outlet(self.atmosphere, self.atmosphere, self._plan.pressure_time_constant, self.clock.arrive, rng)
            node = self._wires.get(key)
            if node is not None:
                outlet.head = self._plan.heads.get(self.network.nodes[node].name, 0.0)
                if any(node == other for _, other in self._outlet_nodes):
                    name = self.network.nodes[node].name
                    raise PlanError(f"node {name!r} is connected to two pressure outlets; it can have one", instrument, port)
                self._outlet_nodes.append((outlet, node))
            self._outlets[key] = outlet
        return self._outlets[key]

    def observe(self, ports: Sequence[ElectricalPort], aperture: float, count: int = 1) -> list[tuple[Sample, ...]]:
        """See ``ports.PlantView.observe``."""
        terminals = [port for port in ports if isinstance(port, Terminal)]
        self.clock.catch_up()
        rows: list[tuple[Sample, ...]] = []
        for _ in range(count):
            window, begun = _Window(), time.monotonic()
            if aperture > 0.0:
                self._windows.append(window)
                try:
                    self.clock.advance(aperture)
                finally:
                    self._windows.remove(window)
            circuit = self._ready()
            voltage = circuit.voltage if window.voltage is None else window.voltage
            current = circuit.clamp_current if window.current is None else window.current
            row = [self._sample(circuit, terminal, voltage, current) for terminal in terminals]
            for terminal, truth in zip(terminals, row, strict=True):
                terminal.see(truth, begun)
            rows.append(tuple(row if self._flaws.none else self._flawed(row)))
        return rows

    def _flawed(self, row: Sequence[Sample]) -> list[Sample]:
        """One moment's samples as the devices' own drift and noise make them; a source at its limit sets its own current."""
        (gain,) = self._flaws.gain(np.array([self.clock.now() - self._mounted_at]), self._flaw_rng)
        noise = self._flaws.read_noise * self._flaw_rng.standard_normal(len(row))
        return [
            sample if sample.limited else Sample(sample.voltage, sample.current * float(gain) + float(extra), False)
            for sample, extra in zip(row, noise, strict=True)
        ]

    def mount(self, network: Network) -> None:
        """Exchange the devices for others on the same nodes and edges, at rest; their drift starts anew. Else ConfigError."""
        if list(network.node_index) != list(self.network.node_index) or network.edge_names != self.network.edge_names:
            raise ConfigError("devices can only be exchanged for others on the same nodes and edges")
        self.clock.catch_up()
        self.network = network
        self._circuit = None
        self._dirty = True
        self._mounted_at = self.clock.now()

    @staticmethod
    def _sample(circuit: Circuit, terminal: Terminal, voltage: FloatArray, clamp_current: FloatArray) -> Sample:
        if terminal.node is None:
            alone, limited = terminal.alone()
            return Sample(alone, 0.0, limited)
        at_node = float(voltage[terminal.node])
        delivered = circuit.source_current(terminal, voltage, clamp_current)
        return Sample(at_node + terminal.offset, delivered + terminal.load_current(at_node), terminal.limit != 0)

    # What the bench itself uses ------------------------------------------------------------------------------------

    def check_wires(self) -> None:
        """PlanError for a wire to a port that no instrument has asked for."""
        ports = (*self._terminals, *self._outlets, *self.lines.lines, *self.lines.rotors)
        for instrument, port in (wire for wire in self._wires if wire not in ports):
            known = [repr(p) if p else "the instrument itself (no port)" for i, p in ports if i == instrument] or ["none"]
            known[8:] = ["…"] * (len(known) > 8)
            raise PlanError(f"instrument {instrument!r} has no port {port!r}; ports: {', '.join(known)}", instrument, port)

    def node_voltages(self) -> dict[str, float]:
        """True voltage of every node now, V."""
        self.clock.catch_up()
        return self._named(self._ready().voltage)

    def node_pressures(self) -> dict[str, float]:
        """True absolute pressure of every node now, Pa."""
        self.clock.catch_up()
        return self._named(self._ready().pressure)

    def node_concentrations(self) -> dict[str, float]:
        """True concentration of every node now, mol/m^3."""
        self.clock.catch_up()
        return self._named(self.liquids.concentrations(self.network.node_array("concentration")))

    def sources(self) -> dict[str, dict[str, dict[str, object]]]:
        """What every terminal does now, and what flows: instrument -> port -> facts."""
        self.clock.catch_up()
        circuit = self._ready()
        result: dict[str, dict[str, dict[str, object]]] = {}
        for (instrument, port), terminal in self._terminals.items():
            sample = self._sample(circuit, terminal, circuit.voltage, circuit.clamp_current)
            result.setdefault(instrument, {})[port] = {
                "source": type(terminal.source).__name__,
                "level": getattr(terminal.source, "level", None),
                "limited": sample.limited,
                "voltage": sample.voltage,
                "current": sample.current,
                "input_resistance": 1.0 / terminal.conductance if terminal.conductance > 0.0 else inf,
                "bias_current": terminal.bias,
                "since": terminal.since,
                "seen": {self.network.nodes[node].name: truth for node, truth in terminal.seen.items()},
            }
        return result

    def outlets(self) -> dict[str, dict[str, Mapping[str, object]]]:
        """Every pressure outlet now: instrument -> port -> true pressure, target (None: vented or shut), slew."""
        self.clock.catch_up()
        result: dict[str, dict[str, Mapping[str, object]]] = {}
        for (instrument, port), outlet in self._outlets.items():
            facts = {
                "pressure": outlet.true,
                "target": outlet.target,
                "slew": outlet.slew,
                "state": outlet.state,
                "since": outlet.since,
            }
            result.setdefault(instrument, {})[port] = facts
        return result

    def extremes(self) -> dict[str, dict[str, list[float]]]:
        """Smallest and largest value ever: V and Pa of nodes, and their differences (base minus tip) over edges."""
        self.clock.catch_up()
        self._mark(self._ready())
        n, m = self.network.n_nodes, self.network.n_edges
        nodes, edges = [node.name for node in self.network.nodes], list(self.network.edge_names)
        pairs = [[float(low), float(high)] for low, high in zip(self._lowest, self._highest, strict=True)]
        return {
            "voltage": dict(zip(nodes, pairs[:n], strict=True)),
            "pressure": dict(zip(nodes, pairs[n : 2 * n], strict=True)),
            "voltage_difference": dict(zip(edges, pairs[2 * n : 2 * n + m], strict=True)),
            "pressure_difference": dict(zip(edges, pairs[2 * n + m :], strict=True)),
            "interface": self.liquids.interfaces.extremes(),
        }

    def forget_extremes(self) -> None:
        """Smallest and largest values are counted from now on."""
        self._lowest.fill(inf)
        self._highest.fill(-inf)
        self._dirty = True

    # Faults --------------------------------------------------------------------------------------------------------

    def place(self, fault: str, where: str) -> int:
        """Position of the edge (open, short) or the node (leak) ``where``; ValueError if there is none."""
        known = list(self.network.node_index) if fault == "leak" else list(self.network.edge_names)
        if where not in known:
            raise ValueError(f"the plant has no {'node' if fault == 'leak' else 'edge'} {where!r}: {', '.join(known)}")
        return known.index(where)

    def output(self, instrument: str, port: str) -> Terminal | Outlet:
        """The terminal or outlet ``port``; ValueError if there is none."""
        found: Terminal | Outlet | None = self._terminals.get((instrument, port)) or self._outlets.get((instrument, port))
        if found is None:
            raise ValueError(f"{instrument!r} has no output {port!r}")
        return found

    def damage(self, fault: str, where: str, ohm: float) -> None:
        """Break a device (open), make it a resistor (short), or give a node a leak to low."""
        self.clock.catch_up()
        circuit = self._ready()
        into = circuit.leaks if fault == "leak" else circuit.broken
        into[self.place(fault, where)] = 0.0 if fault == "open" else 1.0 / ohm
        self._dirty = True

    def break_output(self, instrument: str, port: str, fault: str, amount: float) -> None:
        """Freeze an output at its present level (stuck), or let it deliver ``amount`` more (drift)."""
        output = self.output(instrument, port)
        self.clock.catch_up()
        if isinstance(output, Outlet):
            now = output.true if output.target is None else output.target
        else:
            now = getattr(output.source, "level", 0.0)
        if fault == "stuck":
            output.stage.frozen = now
        else:
            output.stage.drift = amount
        if isinstance(output, Outlet):
            output.divert(output.stage.delivered(now))

    def mend(self) -> None:
        """Undo every ``damage`` and ``break_output``, and let all pressures rest at the atmosphere."""
        self.clock.catch_up()
        circuit = self._ready()
        circuit.broken.clear()
        circuit.leaks.clear()
        for terminal in self._terminals.values():
            terminal.stage = OutputStage()
        for outlet in self._outlets.values():
            outlet.renew()
        self._circuit = None
        self._dirty = True

    def _mark(self, circuit: Circuit) -> None:
        v, p, base, tip = circuit.voltage, circuit.pressure, self.network.base, self.network.tip
        now = np.concatenate([v, p, v[base] - v[tip], p[base] - p[tip]])
        np.minimum(self._lowest, now, out=self._lowest)
        np.maximum(self._highest, now, out=self._highest)

    def _named(self, values: FloatArray) -> dict[str, float]:
        return {node.name: float(value) for node, value in zip(self.network.nodes, values, strict=True)}

    # Physics -------------------------------------------------------------------------------------------------------

    def _change(self) -> None:
        self._dirty = True

    def _ready(self) -> Circuit:
        """The circuit with every pending change in effect."""
        circuit = self._circuit
        if circuit is None:
            circuit = Circuit(self.network, [*self._terminals.values(), *self.liquids.shunts])
            for outlet, node in self._outlet_nodes:
                circuit.pressure[node] = outlet.true + outlet.head
            self._circuit = circuit
        if self._dirty and not (self._plan.frozen and circuit.started):
            self._dirty = False
            self.liquids.impose(circuit)
            try:
                circuit.change()
            except NotConvergedError as error:
                self._report(f"{error} right after a source was switched; voltages stay where they were")
            self._mark(circuit)
        return circuit

    def _step(self, seconds: float) -> None:
        for span in self.liquids.advance(seconds):
            self._live(span)

    def _live(self, seconds: float) -> None:
        circuit = self.liquids.hasten(self._ready(), seconds)
        if self._plan.frozen:
            return
        remaining = seconds
        outlets = self._outlets.values()
        for outlet in outlets:
            outlet.doze(seconds)
        steps = 0
        while remaining > 0.0:
            moving = any(map(Outlet.moving, outlets))
            if circuit.at_rest and not moving:
                self._pass(circuit.voltage, circuit.clamp_current, remaining)
                break
            kink = min(map(Outlet.next_kink, outlets), default=inf)
            steps += 1
            h = self._advance(circuit, min(remaining, kink, circuit.h))
            if h == 0.0 or steps > MOST_STEPS:
                if h > 0.0:
                    self._report(f"the network does not come to rest: {steps} steps in one wait; it is held where it is")
                self._pass(circuit.voltage, circuit.clamp_current, remaining)
                for outlet in outlets:
                    outlet.step(remaining)
                break
            remaining -= h

    def _advance(self, circuit: Circuit, h: float) -> float:
        """One step of at most ``h`` s; the length taken, 0.0 when the physics found no solution."""
        while True:
            pressure = circuit.pressure
            if self._outlet_nodes:
                pressure = pressure.copy()
                for outlet, node in self._outlet_nodes:
                    pressure[node] = outlet.after(h) + outlet.head
            try:
                if circuit.attempt(h, pressure):
                    break
            except NotConvergedError as error:
                self._report(f"{error}; the voltages are held where they were")
                return 0.0
            h = max(0.5 * h, SHORTEST)
        for outlet in self._outlets.values():
            outlet.step(h)
        self._mark(circuit)
        self._pass(circuit.mean_voltage, circuit.mean_clamp_current, h)
        return h

    def _pass(self, voltage: FloatArray, current: FloatArray, seconds: float) -> None:
        for window in self._windows:
            window.add(voltage, current, seconds)

    def _report(self, sentence: str) -> None:
        text = f"at {self.clock.now():.6g} s: {sentence}"
        if len(self.troubles) < 100:
            self.troubles.append(text)
