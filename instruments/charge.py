"""Charge that passes an electrode against the salt in its reservoir: a silver chloride electrode makes or takes one ion for
every elementary charge, so that a percent of the reservoir's inventory c V F is a percent of its concentration.

Measured with every reading at the sources whose node has a mixer, as |I| times the time since the last look, and counted from
the last exchange of that node's liquid.
"""

from collections.abc import Callable, Sequence

from hil.core.clock import Clock
from hil.core.errors import LimitExceededError
from hil.core.safety import SafetyEnvelope
from hil.core.types import Quantity
from instruments.mixer import Outlet, is_mixed
from instruments.outputs import PowerMeter
from instruments.roles import Acquired, MeterInstrument
from instruments.terminals import Drive, Output

FARADAY = 96_485.33212
"""C/mol."""
SHARE = 0.01
"""Of the inventory that may pass."""


class _Node:
    """One voltage source at a reservoir."""

    def __init__(self, drive: Drive, outlet: Outlet, acquire: Callable[[int], Acquired]) -> None:
        self.drive, self.outlet, self._acquire = drive, outlet, acquire
        self._passed = 0.0
        self._looked: float | None = None
        self._exchanges = outlet.exchanges

    def check(self, now: float) -> None:
        """Look, count, judge."""
        if self._exchanges != self.outlet.exchanges:
            self._exchanges, self._passed, self._looked = self.outlet.exchanges, 0.0, None
        if self.drive.output is not Output.ON:
            self._looked = None
            return
        current = abs(float(self._acquire(1).values[0, 0]))
        if self._looked is not None:
            self._passed += current * (now - self._looked)
        self._looked = now
        inventory = (self.outlet.level or 0.0) * self.outlet.mixer.spec.reservoir * FARADAY
        if self._passed > SHARE * inventory and self.outlet.level is not None:
            raise LimitExceededError(
                f"control {self.drive.channel.name!r}: {self._passed:.3g} C have passed its electrode since the liquid there was "
                f"exchanged, more than {100 * SHARE:g} % of the {inventory:.3g} C of salt in its reservoir; take fewer channels "
                "in parallel, larger reservoirs, or shorter settling"
            )


class FlowMeters:
    """What is measured at sources with every reading: power where it is limited, charge where there is a reservoir."""

    def __init__(self, drives: Sequence[Drive], envelope: SafetyEnvelope, clock: Clock) -> None:
        self._power = PowerMeter(drives, envelope)
        self._clock = clock
        reservoirs = {drive.channel.node: drive.port for drive in drives if is_mixed(drive)}
        self._nodes: list[_Node] = []
        for drive in drives:
            outlet = reservoirs.get(drive.channel.node)
            measures = drive.channel.quantity is Quantity.VOLTAGE and isinstance(drive.instrument, MeterInstrument)
            if isinstance(outlet, Outlet) and measures:
                self._nodes.append(_Node(drive, outlet, drive.instrument.acquisition([(drive.port_name, "curr")])))

    def check(self) -> None:
        """LimitExceededError naming the source where too much flows, or has flown."""
        self._power.check()
        now = self._clock.now() if self._nodes else 0.0
        for node in self._nodes:
            node.check(now)
