"""Charge that passes electrodes. A silver chloride electrode makes or takes one ion for every elementary charge, so that a
percent of the reservoir's inventory c V F is a percent of its concentration. An inert electrode keeps it in its double layer.

Measured with every reading, as I times the time since the last look: at the sources whose node has a mixer the amount, counted
from the last exchange of that node's liquid; at inert electrodes, and where nobody exchanges the liquid, with the sign, for as
long as the electrode is used.
"""

from collections.abc import Callable, Sequence
from math import isfinite

from hil.core.clock import Clock
from hil.core.errors import CapabilityError, ConfigError, LimitExceededError
from hil.core.safety import SafetyEnvelope
from hil.core.types import Quantity
from instruments.mixer import Outlet, is_mixed
from instruments.outputs import PowerMeter
from instruments.roles import Acquired, MeterInstrument
from instruments.terminals import Drive, Output
from instruments.wiring import ControlWire, Interface

FARADAY = 96_485.33212
"""C/mol."""
SHARE = 0.01
"""Of the inventory that may pass."""


class _Node:
    """One voltage source at a reservoir."""

    def __init__(self, drive: Drive, outlet: Outlet, acquire: Callable[[int], Acquired]) -> None:
        self.drive, self.outlet, self._acquire = drive, outlet, acquire
        self._passed = 0.0
        self.looked: float | None = None
        self._exchanges = outlet.exchanges

    def check(self, now: float) -> None:
        """Look, count, judge."""
        if self._exchanges != self.outlet.exchanges:
            self._exchanges, self._passed = self.outlet.exchanges, 0.0
            self.looked = self.outlet.exchanged_at
        if self.drive.output is not Output.ON:
            self.looked = None
            return
        current = abs(float(self._acquire(1).values[0, 0]))
        if not isfinite(current):
            return  # the next reading counts for this time, too
        if self.looked is not None:
            self._passed += current * (now - self.looked)
        self.looked = now
        # What passes while nobody knows the concentration is counted, and judged as soon as it is known.
        inventory = (self.outlet.level or 0.0) * self.outlet.mixer.spec.reservoir * FARADAY
        if self._passed > SHARE * inventory and self.outlet.level is not None:
            raise LimitExceededError(
                f"control {self.drive.channel.name!r}: {self._passed:.3g} C have passed its electrode since the liquid there was "
                f"exchanged, more than {100 * SHARE:g} % of the {inventory:.3g} C of salt in its reservoir; take fewer channels "
                "in parallel, larger reservoirs, or shorter settling"
            )


class _Electrode:
    """One voltage source whose electrode bears so much and no more: an inert one, or one whose reservoir nobody exchanges."""

    def __init__(self, drive: Drive, interface: Interface) -> None:
        if not isinstance(drive.instrument, MeterInstrument):
            raise ConfigError(f"control {drive.channel.name!r}: {drive.path} does not measure the current of its electrode")
        self.drive, self._interface, self.passed = drive, interface, interface.charge
        self._acquire = drive.instrument.acquisition([(drive.port_name, "curr")])
        self.looked: float | None = None

    def check(self, now: float) -> None:
        """Look, count, judge."""
        if self.drive.output is not Output.ON:
            self.looked = None
            return
        current = float(self._acquire(1).values[0, 0])
        if not isfinite(current):
            return  # the next reading counts for this time, too
        if self.looked is not None:
            self.passed += current * (now - self.looked)
        self.looked = now
        most, capacitance = self._interface.most, self._interface.capacitance
        if abs(self.passed) <= most:
            return
        tell = f"(`hil resume ID --refill '{self.drive.channel.name}=0 C'`)"
        if capacitance is None:
            raise LimitExceededError(
                f"control {self.drive.channel.name!r}: {self.passed:.3g} C have passed its electrode, more than {100 * SHARE:g} "
                f"% of the {most / SHARE:.3g} C of salt in its reservoir; exchange its liquid and tell so "
                f"{tell}, and take fewer channels in parallel, larger reservoirs, or less time"
            )
        raise LimitExceededError(
            f"control {self.drive.channel.name!r}: {self.passed:.3g} C have charged its inert electrode to "
            f"{self.passed / capacitance:.3g} V, beyond its limit of {most / capacitance:g} V; discharge it and tell so "
            f"{tell}, and take larger or silver chloride electrodes, fewer channels in parallel, or less time"
        )


class FlowMeters:
    """What is measured at sources with every reading: power where it is limited, charge where there is a reservoir or an inert
    electrode, which its wire tells."""

    def __init__(
        self, drives: Sequence[Drive], envelope: SafetyEnvelope, clock: Clock, wires: Sequence[ControlWire] = ()
    ) -> None:
        self._power = PowerMeter(drives, envelope)
        self._clock, self._limited = clock, bool(envelope.limits_power.any())
        reservoirs = {drive.channel.node: drive.port for drive in drives if is_mixed(drive)}
        self._nodes: list[_Node] = []
        for drive in drives:
            outlet = reservoirs.get(drive.channel.node)
            measures = drive.channel.quantity is Quantity.VOLTAGE and isinstance(drive.instrument, MeterInstrument)
            if isinstance(outlet, Outlet) and measures:
                self._nodes.append(_Node(drive, outlet, drive.instrument.acquisition([(drive.port_name, "curr")])))
        interfaces = {wire.channel.name: wire.interface for wire in wires}
        self._inert = [
            _Electrode(drive, interface) for drive in drives if (interface := interfaces.get(drive.channel.name)) is not None
        ]
        self._metered: list[_Node | _Electrode] = [*self._nodes, *self._inert]

    def check(self) -> None:
        """LimitExceededError naming the source where too much flows, or has flown."""
        self._power.check()
        now = self._clock.now() if self._metered else 0.0
        for one in self._metered:
            one.check(now)

    @property
    def watched(self) -> bool:
        """Whether power is limited or charge counted, which an instrument that works by itself would hide."""
        return self._limited or bool(self._metered)

    def require_playable(self) -> None:
        """CapabilityError where a waveform would pass an electrode uncounted."""
        if self._metered:
            raise CapabilityError(
                f"the charge that passes the electrode of {self._metered[0].drive.channel.name!r} is followed, and nobody "
                "measures it while an instrument plays; measure point by point"
            )

    def begin(self, drive: Drive) -> None:
        """A source has just been switched on: what flows is counted from now on."""
        for one in self._metered:
            if one.drive is drive:
                one.looked = self._clock.now()

    def usage(self) -> dict[str, object]:
        """``electrodes``: C that have passed every electrode that is followed; empty without any."""
        return {"electrodes": {one.drive.channel.name: one.passed for one in self._inert}} if self._inert else {}
