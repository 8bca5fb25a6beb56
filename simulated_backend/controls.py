"""From stimuli to what acts on a network: which control sets which node or edge, and which output reads what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hil.core.errors import ConfigError, LimitExceededError
from hil.core.types import BoolArray, Channel, FloatArray, Kind, Layout, Quantity, Stimulus
from simulated_backend.devices.base import Parameters
from simulated_backend.network import IndexArray, Network
from simulated_backend.solve.kirchhoff import Problem, State
from simulated_backend.solve.operating_point import OperatingPoint, make_problem, solve_operating_point

Loads = Mapping[str, tuple[float, float]]
"""Node -> (shunt conductance to ground in S, bias current into the node in A)."""

_NODE_QUANTITIES = (Quantity.VOLTAGE, Quantity.PRESSURE, Quantity.CONCENTRATION)


@dataclass(frozen=True, slots=True)
class Applied:
    """What stimuli ``rows`` (m,), which connect the same sources, do to the network; the arguments of the solver.

    values, connected: (m, n_controls) as in the stimuli; voltage, pressure, concentration: (m, n_nodes); clamped (n_nodes,).
    """

    rows: IndexArray
    values: FloatArray
    connected: BoolArray
    network: Network
    voltage: FloatArray
    clamped: BoolArray
    pressure: FloatArray
    concentration: FloatArray


@dataclass(frozen=True, slots=True)
class Tuning:
    """Controls ``positions`` set tunable ``name`` of the edges in ``columns`` of group ``group``."""

    group: int
    name: str
    positions: IndexArray
    columns: IndexArray


class ControlMap:
    """The controls and outputs of one network, resolved once.

    Raises ConfigError: a channel without a place, an unknown node, edge or tunable, two sources on one node, a source on
    the ground node, an output that is neither a voltage nor a current of a node, a load that is no load.
    """

    def __init__(self, network: Network, controls: Layout, outputs: Layout, loads: Loads | None = None) -> None:
        self.network = network
        self.controls = controls
        self.outputs = outputs
        self.nodes: dict[Quantity, IndexArray] = {}
        self.positions: dict[Quantity, IndexArray] = {}
        for quantity in _NODE_QUANTITIES:
            chosen = [i for i, channel in enumerate(controls) if channel.quantity is quantity and channel.edge is None]
            self.positions[quantity] = np.array(chosen, dtype=np.intp)
            nodes = [self._node(controls.channels[i]) for i in chosen]
            self.nodes[quantity] = np.array(nodes, dtype=np.intp)
            for place, node in enumerate(nodes):
                if node in nodes[:place]:
                    one, two = (controls.channels[chosen[k]].name for k in (nodes.index(node), place))
                    raise ConfigError(
                        f"controls {one!r} and {two!r} both set the {quantity.name.lower()} of node "
                        f"{network.nodes[node].name!r}; keep one source on a node"
                    )
        for channel in controls:
            if channel.kind is Kind.SENSE:
                raise ConfigError(f"channel {channel.name!r} only reads; list it among the outputs")
            if channel.edge is None and channel.quantity not in _NODE_QUANTITIES:
                raise ConfigError(f"control {channel.name!r}: a node has no {channel.quantity.name.lower()} to set; name an edge")
        for position, node in zip(self.positions[Quantity.VOLTAGE], self.nodes[Quantity.VOLTAGE], strict=True):
            if network.nodes[node].ground:
                raise ConfigError(
                    f"control {controls.channels[position].name!r} drives node {network.nodes[node].name!r}, the ground"
                )
        self.tunings = self._tunings()
        self.grounds = np.array([node.ground for node in network.nodes], dtype=np.bool_)
        self.output_nodes = np.array([self._output(channel) for channel in outputs], dtype=np.intp)
        self.reads_current = np.array([channel.quantity is Quantity.CURRENT for channel in outputs], dtype=np.bool_)
        self.shunt, self.injected = self._loads(loads or {})

    # -- resolving ------------------------------------------------------------------------------------------------

    def _node(self, channel: Channel) -> int:
        if channel.node is None or channel.node not in self.network.node_index:
            known = ", ".join(self.network.node_index)
            raise ConfigError(f"channel {channel.name!r}: there is no node {channel.node!r}; nodes: {known}")
        return self.network.node_index[channel.node]

    def _output(self, channel: Channel) -> int:
        if channel.quantity not in (Quantity.VOLTAGE, Quantity.CURRENT):
            raise ConfigError(f"output {channel.name!r}: a network can be asked for voltages and currents of its nodes only")
        return self._node(channel)

    def _tunings(self) -> tuple[Tuning, ...]:
        network = self.network
        group_of = np.empty(network.n_edges, dtype=np.intp)
        column_of = np.empty(network.n_edges, dtype=np.intp)
        for number, group in enumerate(network.groups):
            group_of[group.edges] = number
            column_of[group.edges] = np.arange(len(group.edges))
        found: dict[tuple[bool, str, int], tuple[list[int], list[int]]] = {}
        for position, channel in enumerate(self.controls):
            if channel.edge is None:
                continue
            if channel.edge not in network.edge_index:
                known = ", ".join(network.edge_index)
                raise ConfigError(f"control {channel.name!r}: there is no edge {channel.edge!r}; edges: {known}")
            edge = network.edge_index[channel.edge]
            law = network.groups[group_of[edge]].law
            name = channel.parameter or ""
            if name not in law.tunables():
                raise ConfigError(
                    f"control {channel.name!r}: law {law.name!r} cannot tune {name!r}; it tunes {', '.join(law.tunables())}"
                )
            # plain parameters first: a derived one may build on them
            places, columns = found.setdefault((name not in law.parameters, name, int(group_of[edge])), ([], []))
            if int(column_of[edge]) in columns:
                raise ConfigError(f"control {channel.name!r}: {name} of edge {channel.edge!r} is set by another control already")
            places.append(position)
            columns.append(int(column_of[edge]))
        return tuple(
            Tuning(group, name, np.array(places, dtype=np.intp), np.array(columns, dtype=np.intp))
            for (_, name, group), (places, columns) in sorted(found.items())
        )

    def _loads(self, loads: Loads) -> tuple[FloatArray, FloatArray]:
        shunt, injected = np.zeros(self.network.n_nodes), np.zeros(self.network.n_nodes)
        for name, (conductance, bias) in loads.items():
            if name not in self.network.node_index:
                raise ConfigError(f"load on node {name!r}: there is no such node; nodes: {', '.join(self.network.node_index)}")
            if not (conductance >= 0.0 and np.isfinite(conductance) and np.isfinite(bias)):
                raise ConfigError(f"load on node {name!r}: {conductance} S and {bias} A are no load of a terminal")
            shunt[self.network.node_index[name]] += conductance
            injected[self.network.node_index[name]] += bias
        return shunt, injected

    # -- using ----------------------------------------------------------------------------------------------------

    def applied(self, stimuli: Sequence[Stimulus]) -> list[Applied]:
        """Stimuli sorted by which sources they connect; a control that is not connected leaves what it sets as it is."""
        values = np.array([stimulus.values for stimulus in stimuli], dtype=np.float64)
        connected = np.array([stimulus.connected for stimulus in stimuli], dtype=np.bool_)
        sources = self.positions[Quantity.VOLTAGE]
        patterns, member = np.unique(connected[:, sources], axis=0, return_inverse=True)
        out = []
        for number, pattern in enumerate(patterns):
            rows = np.flatnonzero(member.reshape(-1) == number)
            clamped = self.grounds.copy()
            clamped[self.nodes[Quantity.VOLTAGE][pattern]] = True
            node_values = {quantity: self._nodes_at(quantity, values[rows], connected[rows]) for quantity in _NODE_QUANTITIES}
            out.append(
                Applied(
                    rows,
                    values[rows],
                    connected[rows],
                    self.tuned(values[rows], connected[rows]),
                    node_values[Quantity.VOLTAGE],
                    clamped,
                    node_values[Quantity.PRESSURE],
                    node_values[Quantity.CONCENTRATION],
                )
            )
        return out

    def _nodes_at(self, quantity: Quantity, values: FloatArray, connected: BoolArray) -> FloatArray:
        n = self.network.n_nodes
        rest = np.zeros(n) if quantity is Quantity.VOLTAGE else self.network.node_array(quantity.name.lower())
        array = np.tile(rest, (len(values), 1))
        positions, nodes = self.positions[quantity], self.nodes[quantity]
        if positions.size:
            array[:, nodes] = np.where(connected[:, positions], values[:, positions], rest[nodes])
        return array

    def tuned(self, values: FloatArray, connected: BoolArray) -> Network:
        """The network with the tunables of every row of ``values`` (m, n_controls) set; batched (m,) where any is."""
        if not self.tunings:
            return self.network
        new: list[Parameters] = [dict(group.parameters) for group in self.network.groups]
        for tuning in self.tunings:
            law = self.network.groups[tuning.group].law
            before = new[tuning.group]
            picked = {name: array[..., tuning.columns] for name, array in before.items()}
            wanted, active = values[:, tuning.positions], connected[:, tuning.positions]
            changed: dict[str, FloatArray] = {}
            for name, array in law.tuned(picked, tuning.name, wanted).items():
                if array is picked[name]:
                    continue
                self._require_range(tuning, name, array, active)
                full = np.array(np.broadcast_to(before[name], (len(values), before[name].shape[-1])))
                full[:, tuning.columns] = np.where(active, array, full[:, tuning.columns])
                changed[name] = full
            new[tuning.group] = {**before, **changed}
        return self.network.with_parameters(new)

    def _require_range(self, tuning: Tuning, name: str, values: FloatArray, active: BoolArray) -> None:
        parameter = self.network.groups[tuning.group].law.parameters[name]
        wrong = active & ~((values >= parameter.minimum) & (values <= parameter.maximum))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            channel = self.controls.channels[tuning.positions[column]]
            raise LimitExceededError(
                f"channel {channel.name!r}: it makes {name} {values[row, column]:g} {parameter.unit}, outside the law's range "
                f"{parameter.minimum:g} … {parameter.maximum:g} {parameter.unit}"
            )

    def solve(self, applied: Applied, state: State | None = None, validity: bool = False, rescue: bool = True) -> OperatingPoint:
        """The operating points of one set of stimuli, with the loads, devices relaxed or held at ``state``."""
        return solve_operating_point(
            applied.network,
            applied.voltage,
            applied.clamped,
            pressure=applied.pressure,
            concentration=applied.concentration,
            injected=self.injected,
            shunt=self.shunt,
            state=state,
            validity=validity,
            rescue=rescue,
        )

    def problem(self, applied: Applied) -> Problem:
        """The equations of one set of stimuli, with the loads."""
        return make_problem(
            applied.network,
            applied.voltage,
            applied.clamped,
            pressure=applied.pressure,
            concentration=applied.concentration,
            injected=self.injected,
            shunt=self.shunt,
        )[0]

    def read(self, voltage: FloatArray, terminal_current: FloatArray) -> FloatArray:
        """Outputs (..., n_outputs) from node voltages and terminal currents (..., n_nodes)."""
        return np.where(self.reads_current, terminal_current[..., self.output_nodes], voltage[..., self.output_nodes])
