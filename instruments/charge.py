"""Charge that passes electrodes. A silver chloride electrode makes or takes one ion for every elementary charge, so that a
percent of the reservoir's inventory c V F is a percent of its concentration. An inert electrode keeps it in its double layer.

Measured with every reading, as I times the time since the last look: at the sources whose node has a mixer the amount, counted
from the last exchange of that node's liquid; at inert electrodes, and where nobody exchanges the liquid, with the sign, for as
long as the electrode is used. While a source is on, both ends are booked of what may have passed until the next look, a little
more and a little less than what was counted, and exactly that once it is off. Whoever kills the program leaves a book with the
truth between its ends. The next one counts on from both and judges the worse, so that no chain of killed programs passes the
limit in either direction. A reading beyond its range widens it, too, by all that the compliance lets through meanwhile.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import isfinite

from hil.core.clock import Clock
from hil.core.errors import CapabilityError, ConfigError, LimitExceededError, RecordError
from hil.core.safety import SafetyEnvelope
from hil.core.types import Quantity
from instruments.calibration import Corrections
from instruments.mixer import Outlet
from instruments.mixer_controls import is_mixed
from instruments.outputs import PowerMeter
from instruments.roles import Acquired, MeterInstrument
from instruments.terminals import Drive, Output
from instruments.wiring import ControlWire, Correction, Interface

FARADAY = 96_485.33212
"""C/mol."""
SHARE = 0.01
"""Of the inventory that may pass."""
AHEAD = 0.05
"""Of what an electrode bears: how much is booked ahead at least, in both directions. Between two looks passes more than one has
seen."""
Book = Callable[[Mapping[str, float], Mapping[str, float]], None]
"""Told what will have passed an electrode (control -> C), and within how much of that (control -> C, 0 or more), before it does;
whatever it raises keeps it from passing."""


class _Ammeter:
    """Charge through one voltage source that is on, by the current it measures: as shown, and as corrected."""

    def __init__(self, drive: Drive, correction: Correction, count: Callable[[float], float]) -> None:
        self.drive, self._correction, self._count = drive, correction, count
        self._acquire: Callable[[int], Acquired] = drive.instrument.acquisition([(drive.port_name, "curr")])
        self.shown = self.passed = self.unsure = 0.0
        self.looked: float | None = None
        self._rates: tuple[float, float, float] | None = None

    def begin(self, charge: float, at: float | None, unsure: float = 0.0) -> None:
        """From ``charge`` (C), known within ``unsure`` (C), counted since ``at``."""
        self.shown = self.passed = charge
        self.unsure, self.looked = unsure, at

    def look(self, now: float) -> bool:
        """Count what has passed since the last look, where the source is on. LimitExceededError where nobody can know."""
        if self.drive.output is not Output.ON:
            self._add(now)
            self.looked = None
            return False
        current, compliance = float(self._acquire(1).values[0, 0]), self.drive.plan.compliance
        if isfinite(current):
            self._rates = self._count(current), self._count(self._correction.true(current)), 0.0
        elif compliance is not None:
            self._rates = 0.0, 0.0, compliance  # in either direction
        else:
            self._rates = None
            raise LimitExceededError(
                f"control {self.drive.channel.name!r}: the current of {self.drive.path} is beyond its range, and it has no "
                "compliance that would bound the charge that passes its electrode; look for a short circuit, lower the value, or "
                "choose a larger range"
            )
        self._add(now)
        return True

    def end(self, now: float) -> bool:
        """The source is off: until ``now`` (s) no more has passed than at the last look. Whether that told a current."""
        seen = self._rates is not None and not self._rates[2]
        self._add(now)
        self.looked = self._rates = None
        return seen

    def _add(self, now: float) -> None:
        if self.looked is not None and self._rates is not None:
            self.shown += self._rates[0] * (now - self.looked)
            self.passed += self._rates[1] * (now - self.looked)
            self.unsure += self._rates[2] * (now - self.looked)
        self.looked = now

    @property
    def ends(self) -> tuple[float, float]:
        """C, the least and the most that may have passed."""
        return min(self.passed, self.shown) - self.unsure, max(self.passed, self.shown) + self.unsure

    @property
    def worst(self) -> float:
        """C, the end that is farther from 0."""
        return max(self.ends, key=abs)

    @property
    def doubt(self) -> str:
        """For a refusal."""
        return f" ({self.unsure:.3g} C of that in doubt: a reading beyond its range, a killed program)" if self.unsure else ""


class _Node:
    """One voltage source at a reservoir whose liquid is exchanged."""

    def __init__(self, drive: Drive, outlet: Outlet, correction: Correction) -> None:
        self.meter, self._outlet = _Ammeter(drive, correction, abs), outlet
        self._exchanges = outlet.exchanges

    def rest(self, now: float) -> None:
        """The source is off."""
        self.meter.end(now)

    def check(self, now: float) -> None:
        """Look, count, judge."""
        outlet, meter = self._outlet, self.meter
        if self._exchanges != outlet.exchanges:
            self._exchanges = outlet.exchanges
            meter.begin(0.0, outlet.exchanged_at)
        if not meter.look(now):
            return
        # What passes while nobody knows the concentration is counted, and judged as soon as it is known.
        inventory = (outlet.level or 0.0) * outlet.mixer.spec.reservoir * FARADAY
        if meter.worst > SHARE * inventory and outlet.level is not None:
            raise LimitExceededError(
                f"control {meter.drive.channel.name!r}: {meter.worst:.3g} C have passed its electrode since the liquid there was "
                f"exchanged{meter.doubt}, more than {100 * SHARE:g} % of the {inventory:.3g} C of salt in its reservoir; "
                "take fewer channels in parallel, larger reservoirs, or shorter settling"
            )


class _Electrode:
    """One voltage source whose electrode bears so much and no more: an inert one, or one whose reservoir nobody exchanges."""

    def __init__(self, drive: Drive, interface: Interface, correction: Correction, book: Book) -> None:
        if not isinstance(drive.instrument, MeterInstrument):
            raise ConfigError(f"control {drive.channel.name!r}: {drive.path} does not measure the current of its electrode")
        self.meter, self._interface, self._book = _Ammeter(drive, correction, float), interface, book
        self.meter.begin(interface.charge, None, interface.unsure)
        self._booked = self.meter.ends

    def begin(self) -> None:
        """The source has just been switched on. LimitExceededError where more may have passed already than it bears."""
        self._judge()
        self._book_ahead()

    def _book_ahead(self, step: float = 0.0) -> None:
        """At least what will have passed until the next look, if that is as much as the last ``step`` (C), in any direction."""
        (low, high), (least, most) = self.meter.ends, self._booked
        ahead = max(AHEAD * self._interface.most, 2.0 * step)
        near = max(step, 0.1 * ahead)
        if least > low - near or most < high + near or most - least > high - low + 4.0 * ahead:
            self._write(low - ahead, high + ahead)

    def rest(self, now: float) -> None:
        """The source is off: write down what was counted, and keep what was booked ahead if the last reading told nothing."""
        seen, booked = self.meter.end(now), self._booked
        low, high = self.meter.ends
        with suppress(RecordError):  # what is on disk is more than that, unless it was the disk that ended the run
            self._write(*((low, high) if seen else (min(low, booked[0]), max(high, booked[1]))))

    def _write(self, low: float, high: float) -> None:
        if (low, high) != self._booked:
            name = self.meter.drive.channel.name
            self._book({name: 0.5 * (low + high)}, {name: 0.5 * (high - low)})
            self._booked = low, high

    def check(self, now: float) -> None:
        """Look, count, book, judge."""
        before = self.meter.ends
        if self.meter.look(now):
            self._book_ahead(max(abs(new - old) for new, old in zip(self.meter.ends, before, strict=True)))
            self._judge()

    def _judge(self) -> None:
        """LimitExceededError if more may have passed than the electrode bears."""
        passed, doubt, name = self.meter.worst, self.meter.doubt, self.meter.drive.channel.name
        most, capacitance = self._interface.most, self._interface.capacitance
        if abs(passed) <= most:
            return
        tell = f"(`hil resume ID --refill '{name}=0 C'`)"
        if capacitance is None:
            raise LimitExceededError(
                f"control {name!r}: {passed:.3g} C have passed its electrode{doubt}, more than {100 * SHARE:g} "
                f"% of the {most / SHARE:.3g} C of salt in its reservoir; exchange its liquid and tell so "
                f"{tell}, and take fewer channels in parallel, larger reservoirs, or less time"
            )
        raise LimitExceededError(
            f"control {name!r}: {passed:.3g} C have charged its inert electrode to "
            f"{passed / capacitance:.3g} V{doubt}, beyond its limit of {most / capacitance:g} V; discharge it and tell so "
            f"{tell}, and take larger or silver chloride electrodes, fewer channels in parallel, or less time"
        )


class FlowMeters:
    """What is measured at sources with every reading: power where it is limited, charge where there is a reservoir or an inert
    electrode, which its wire tells."""

    def __init__(
        self,
        drives: Sequence[Drive],
        envelope: SafetyEnvelope,
        clock: Clock,
        wires: Sequence[ControlWire] = (),
        corrections: Corrections | None = None,
        book: Book = lambda _charges, _unsure: None,
    ) -> None:
        known = corrections or Corrections()
        self._power = PowerMeter(drives, envelope, known)
        self._clock, self._limited = clock, bool(envelope.limits_power.any())
        reservoirs = {drive.channel.node: drive.port for drive in drives if is_mixed(drive)}
        self._nodes: list[_Node] = []
        for drive in drives:
            outlet = reservoirs.get(drive.channel.node)
            measures = drive.channel.quantity is Quantity.VOLTAGE and isinstance(drive.instrument, MeterInstrument)
            if isinstance(outlet, Outlet) and measures:
                self._nodes.append(_Node(drive, outlet, known.ammeter(drive)))
        interfaces = {wire.channel.name: wire.interface for wire in wires}
        self._inert = [
            _Electrode(drive, interface, known.ammeter(drive), book)
            for drive in drives
            if (interface := interfaces.get(drive.channel.name)) is not None
        ]
        self._metered: list[_Node | _Electrode] = [*self._nodes, *self._inert]

    def check(self) -> None:
        """LimitExceededError naming the source where too much flows, or has flown."""
        self._check(self._metered)

    def check_in_exchange(self) -> None:
        """The same while liquid flows: the salt of a reservoir is judged afterwards, because this may be what renews it."""
        self._check(self._inert)

    def _check(self, metered: Sequence[_Node | _Electrode]) -> None:
        self._power.check()
        now = self._clock.now() if metered else 0.0
        for one in metered:
            one.check(now)

    @property
    def watched(self) -> bool:
        """Whether power is limited or charge counted, which an instrument that works by itself would hide."""
        return self._limited or bool(self._metered)

    def require_playable(self) -> None:
        """CapabilityError where a waveform would pass an electrode uncounted."""
        if self._metered:
            raise CapabilityError(
                f"the charge that passes the electrode of {self._metered[0].meter.drive.channel.name!r} is followed, and nobody "
                "measures it while an instrument plays; measure point by point"
            )

    def begin(self, drive: Drive) -> None:
        """A source has just been switched on: what flows is counted from now on."""
        for one in self._metered:
            if one.meter.drive is drive:
                one.meter.looked = self._clock.now()
                if isinstance(one, _Electrode):
                    one.begin()

    def rest(self) -> None:
        """Sources have been switched off: of those nothing passes any more, and what has is booked as it was counted."""
        now = self._clock.now() if self._metered else 0.0
        for one in self._metered:
            if one.meter.drive.output is not Output.ON:
                one.rest(now)

    def usage(self) -> dict[str, object]:
        """``electrodes``: C that have passed every electrode that is followed, corrected; empty without any."""
        return {"electrodes": {one.meter.drive.channel.name: one.meter.passed for one in self._inert}} if self._inert else {}
