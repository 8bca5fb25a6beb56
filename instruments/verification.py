"""After every reading: does each source still deliver what was asked of it? Only then the reading counts.

A source can go off, be switched off and on with its default settings, stick at a level, drift, or run into its compliance
between two looks. What was read meanwhile belongs to another stimulus than the one on record.
"""

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any

from hil.core.errors import InstrumentError
from hil.core.types import Quantity
from instruments.roles import OVERFLOW, Delivery, Recoverable, VerifiableSource
from instruments.terminals import Drive, Output, by_instrument

Check = Callable[[], list[Delivery]]
EVERY = 1.0
"""s between two looks at what has to be so all the time, while nothing is read: ramps, settling."""


class Verification:
    """Measures what sources deliver, one round trip per instrument; compiled once for every set of sources.

    ``also``: what else has to be so with every reading, however it was taken (the guard, interlocks, power, charge), and in
    between. ``standing``: what is looked at in between only, because every reading judges it by what sources deliver.
    """

    def __init__(self, also: Sequence[Callable[[], None]] = (), standing: Callable[[], None] = lambda: None) -> None:
        self._also, self._standing = tuple(also), standing
        self._glanced = -inf
        self._checks: dict[tuple[int, ...], list[tuple[Check, list[int]]]] = {}

    def __call__(self, drives: Sequence[Drive]) -> bool:
        """Whether a source is at its compliance. InstrumentError naming the control that does not deliver its value."""
        for require in self._also:
            require()
        active = [drive for drive in drives if drive.output is Output.ON]
        limited = False
        for check, positions in self._compiled(active):
            for position, delivery in zip(positions, check(), strict=True):
                self._judge(active[position], delivery)
                limited |= delivery.limited
        looked_at = {id(drive.instrument) for drive in active}
        floating = [drive for drive in drives if drive.output is Output.FLOATING and id(drive.instrument) not in looked_at]
        for instrument, _ in by_instrument(floating):
            # Nothing to measure, but an instrument that has lost its settings may clamp the node by now.
            if isinstance(instrument, Recoverable):
                instrument.require_settings_kept()
        return limited

    def begin(self, now: float) -> None:
        """Something new is applied: what it charges in its first moments (cables, devices) is not judged. s of the clock."""
        self._glanced = now

    def glance(self, now: float) -> None:
        """While nothing is read: what has to be so is looked at, once in a while. ``now``: s of the clock."""
        if now - self._glanced >= EVERY:
            self._glanced = now
            for require in (*self._also, self._standing):
                require()

    def _compiled(self, active: Sequence[Drive]) -> list[tuple[Check, list[int]]]:
        key = tuple(map(id, active))
        if key not in self._checks:
            self._checks[key] = [
                (_check(instrument, [active[k] for k in positions]), positions) for instrument, positions in by_instrument(active)
            ]
        return self._checks[key]

    @staticmethod
    def _judge(drive: Drive, delivery: Delivery) -> None:
        name, unit = drive.channel.name, drive.channel.quantity.value
        if not delivery.on:
            raise InstrumentError(f"control {name!r}: the output of {drive.path} went off by itself; look at the instrument")
        # One that has left its limits again has been waited for.
        if drive.is_pressure and not (drive.in_limits or drive.arrived):
            return  # it is still on its way: nobody has waited for it yet
        if delivery.limited:
            return  # it cannot reach its value; what was read is marked
        if not abs(delivery.actual) < OVERFLOW:
            raise InstrumentError(f"control {name!r}: {drive.path} reads no value at its own output; look at the instrument")
        difference = delivery.actual - drive.commanded
        if not abs(difference) <= delivery.allowed:
            raise InstrumentError(
                f"control {name!r}: {drive.path} delivers {delivery.actual:.6g} {unit} although {drive.commanded:.6g} {unit} "
                f"was asked for, {abs(difference):.3g} {unit} off where {delivery.allowed:.3g} {unit} is allowed: "
                "the source is stuck or drifts; look at it, and at what is connected to it"
            )


def _check(instrument: Any, drives: Sequence[Drive]) -> Check:
    """What ``instrument`` delivers at ``drives``; one that cannot measure it is asked whether it is still on and in limits."""
    ports = [drive.port_name for drive in drives]
    if isinstance(instrument, VerifiableSource):
        return instrument.delivery_reader(ports)
    look = instrument.condition_reader(ports)

    def check() -> list[Delivery]:
        found = []
        for drive, condition in zip(drives, look(), strict=True):
            limited = drive.channel.quantity is Quantity.VOLTAGE and not condition.in_limits
            found.append(Delivery(drive.commanded, inf, condition.on, limited))
        return found

    return check


class Notices:
    """Sentences about troubles of links that were overcome: kept until it is time to tell them.

    They are never told from inside an exchange: whoever listens may fail (a full disk), and on the way to the safe state
    that would look as if the instrument had failed.
    """

    def __init__(self) -> None:
        self._kept: list[str] = []

    def listen(self, instruments: Iterable[object]) -> None:
        """Keep what these instruments have to say from now on."""
        for instrument in instruments:
            if isinstance(instrument, Recoverable):
                instrument.session.notice = self._kept.append

    def tell(self, warn: Callable[[str], None]) -> None:
        """Hand everything on."""
        while self._kept:
            warn(self._kept.pop(0))


def forget(instruments: Iterable[object]) -> None:
    """After a stop nothing is believed of any instrument's state: it is set up afresh before its next use."""
    for instrument in instruments:
        if isinstance(instrument, Recoverable):
            instrument.forget()
