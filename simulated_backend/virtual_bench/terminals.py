"""One terminal of an instrument at its node, with the source that may be at its limit."""

import time
from collections.abc import Callable
from math import inf
from typing import NamedTuple

from simulated_backend.virtual_bench.faults import OutputStage
from simulated_backend.virtual_bench.ports import CurrentSource, Open, Sample, Source, VoltageSource

CONTACT = 1e-3
"""Ohm: what is taken between two ideal voltage sources on one node (the resistance of leads and contacts)."""


class Seen(NamedTuple):
    """The truth at a measurement; ``begun``: s of the machine's clock; ``number``: of this node, from 1.

    ``input_resistance`` (ohm) and ``bias`` (A) of the terminal while it measured: a scanner's channel is open before and after.
    """

    voltage: float
    current: float
    limited: bool
    begun: float
    number: int
    input_resistance: float
    bias: float


class Terminal:
    """Implements ``ports.ElectricalPort``. ``node`` is its position in the network, or None when it is not wired.

    ``limit``: 0 while the source holds its level, +1 or -1 while it is held at that side of its limit. ``offset`` (V): what the
    terminal has more than its node, by the electrode between the two.
    """

    __slots__ = (
        "_arrive",
        "_changed",
        "bias",
        "conductance",
        "instrument",
        "limit",
        "node",
        "offset",
        "port",
        "seen",
        "since",
        "source",
        "stage",
        "switched",
    )

    def __init__(
        self, instrument: str, port: str, node: int | None, arrive: Callable[[], float | None], changed: Callable[[], None]
    ) -> None:
        self.instrument = instrument
        self.port = port
        self.node = node
        self.source: Source = Open()
        self.since = time.monotonic()
        """s of the machine's clock: when the message that changed the source last was taken up."""
        self.seen: dict[int, Seen] = {}
        """The truth at its last measurement of each node it has been on."""
        self.conductance = 0.0
        self.bias = 0.0
        self.offset = 0.0
        self.limit = 0
        self.stage = OutputStage()
        self.switched = False
        self._arrive = arrive
        self._changed = changed

    @property
    def wired(self) -> bool:
        """Whether the terminal is connected to a node."""
        return self.node is not None

    def see(self, truth: Sample, begun: float) -> None:
        """The terminal's instrument has measured; it began at ``begun``, s of the machine's clock."""
        if self.node is not None:
            last = self.seen.get(self.node)
            resistance = 1.0 / self.conductance if self.conductance > 0.0 else inf
            self.seen[self.node] = Seen(*truth, begun, 1 if last is None else last.number + 1, resistance, self.bias)

    def connect(self, node: int | None) -> None:
        """A switch has put the terminal on another node, or on none."""
        self._arrive()
        self.node, self.limit = node, 0
        self._changed()

    def set_source(self, source: Source) -> None:
        """What the terminal does to its node from now on."""
        if source == self.source:
            return
        self.since = self._arrive() or time.monotonic()
        if type(source) is not type(self.source):
            self.limit = 0
        self.source = source
        self._changed()

    def set_load(self, input_resistance: float, bias_current: float) -> None:
        """Input resistance to low (ohm) and bias current out of the terminal (A)."""
        if not input_resistance > 0.0:
            raise ValueError(f"an input resistance must be above 0 ohm, not {input_resistance}")
        conductance = 1.0 / input_resistance
        if conductance == self.conductance and bias_current == self.bias:
            return
        self._arrive()
        self.conductance, self.bias = conductance, bias_current
        self._changed()

    def load_current(self, voltage: float) -> float:
        """Current out of the terminal that its load alone delivers while its node is at ``voltage``."""
        return self.bias - self.conductance * (voltage + self.offset)

    def alone(self) -> tuple[float, bool]:
        """Voltage (V) of an unwired terminal, and whether its source is at its limit."""
        source = self.source
        if isinstance(source, VoltageSource):
            if source.output_resistance == 0.0:
                return source.level, False
            through = 1.0 / source.output_resistance
            return (source.level * through + self.bias) / (through + self.conductance), False
        driven = self.bias + (source.level if isinstance(source, CurrentSource) else 0.0)
        bound = source.voltage_limit if isinstance(source, CurrentSource) else inf
        if driven == 0.0:
            return 0.0, False
        voltage = driven / self.conductance if self.conductance > 0.0 else (inf if driven > 0.0 else -inf)
        if abs(voltage) >= bound:
            return (bound if voltage > 0.0 else -bound), True
        return voltage, False

    def as_voltage(self) -> tuple[float, float]:
        """Level as the node has it (V) and series resistance (ohm) of a terminal that holds a voltage at present."""
        source = self.source
        if isinstance(source, VoltageSource):
            return source.level - self.offset, source.output_resistance
        if isinstance(source, CurrentSource):
            return self.limit * source.voltage_limit - self.offset, 0.0
        raise TypeError("an open terminal holds no voltage")

    def as_current(self) -> float:
        """Current (A) of a terminal that drives one at present."""
        source = self.source
        if isinstance(source, CurrentSource):
            return source.level
        if isinstance(source, VoltageSource):
            return self.limit * source.current_limit
        raise TypeError("an open terminal drives no current")
