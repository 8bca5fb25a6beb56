"""Switching outputs: what must be so before a source may drive anything, and what is asked again while it does."""

from collections.abc import Callable, Mapping, Sequence
from math import inf, isfinite
from typing import Any

import numpy as np

from hil.core.errors import ConfigError, InterlockError, LimitExceededError
from hil.core.safety import SafetyEnvelope
from hil.core.types import FloatArray, Quantity, SafeAction
from hil.experiment.fields import FieldError
from instruments.calibration import Corrections
from instruments.guard_process import Guard, NoGuard
from instruments.plain_meter import asked, number_of, port_of
from instruments.roles import MeterInstrument, PressurePort, Recoverable
from instruments.safe_commands import HardwareWatchdog
from instruments.safe_state import WayHome
from instruments.station import parse_path
from instruments.terminals import Drive, Output, by_instrument, located
from instruments.wiring import InstrumentSpec, InterlockWire


class Interlocks:
    """Inputs that permit sourcing: each parameter has to read as expected. Any parameter of any driver will do."""

    def __init__(self, wires: Sequence[InterlockWire], components: Mapping[str, Any]) -> None:
        self._inputs = []
        for wire in wires:
            path = parse_path(wire.parameter, f"interlock {wire.name}")
            parameters = port_of(components[path.instrument], path.port).parameters
            if path.quantity not in parameters:
                raise FieldError(
                    f"{wire.parameter} does not exist; parameters: {', '.join(sorted(parameters))}",
                    f"interlocks.{wire.name}.parameter",
                )
            self._inputs.append((wire, parameters[path.quantity]))

    def check(self) -> None:
        """InterlockError naming the input that does not permit sourcing."""
        for wire, parameter in self._inputs:
            found = number_of(asked(parameter))
            if found != wire.expected:
                raise InterlockError(
                    f"interlock {wire.name!r}: {wire.parameter} reads {found:g}, but {wire.expected:g} is needed for sourcing; "
                    "look at the bench before you start again"
                )


class PowerMeter:
    """Measures what flows through the drives that have a power limit: as shown, or as corrected where that is more."""

    def __init__(self, drives: Sequence[Drive], envelope: SafetyEnvelope, corrections: Corrections | None = None) -> None:
        self._envelope, self._corrections = envelope, corrections or Corrections()
        count = len(envelope.layout)
        limited = [(position % count, drive) for position, drive in enumerate(drives) if envelope.limits_power[position % count]]
        self._parts = []
        for instrument, places in by_instrument([drive for _, drive in limited]):
            members = [limited[place] for place in places]
            for _, drive in members:
                if drive.channel.quantity is not Quantity.VOLTAGE or not isinstance(instrument, MeterInstrument):
                    raise ConfigError(
                        f"control {drive.channel.name!r} has a power limit, but {drive.path} does not measure voltage and current"
                    )
            names = [(drive.port_name, parameter) for _, drive in members for parameter in ("volt", "curr")]
            self._parts.append((instrument.acquisition(names), members))

    def check(self) -> None:
        """LimitExceededError naming a channel that takes too much; |V·I| of one reading, of sources that are on.

        In overflow, which is what a short circuit gives on a fixed range, the current counts as its compliance.
        """
        for acquire, members in self._parts:
            if all(drive.output is not Output.ON for _, drive in members):
                continue
            values = acquire(1).values[0]
            power: FloatArray = np.full(len(self._envelope.layout), np.nan)
            for place, (position, drive) in enumerate(members):
                if drive.output is Output.ON:
                    volts, amperes = float(values[2 * place]), float(values[2 * place + 1])
                    true = self._corrections.voltmeter(drive).true(volts), self._corrections.ammeter(drive).true(amperes)
                    flows = max(abs(volts * amperes), abs(true[0] * true[1]))
                    power[position] = np.fmax(power[position], flows if isfinite(flows) else self._at_most(drive, volts))
            self._envelope.check_power(power)

    def _at_most(self, drive: Drive, volts: float) -> float:
        """W that may flow where a reading is in overflow, |V| x compliance; LimitExceededError unless the limit allows it."""
        channel, compliance = drive.channel, drive.plan.compliance
        power = abs(volts) * (float("nan") if compliance is None else compliance)
        limits = self._envelope.max_power
        limit = inf if limits is None else float(limits[self._envelope.layout.index(channel.name)])
        if power <= limit:
            return power
        if isfinite(power):
            known = f"up to its compliance of {compliance:g} A may flow at {volts:g} V, {power:g} W"
        elif isfinite(volts):
            known = "it has no compliance that would bound the current"
        else:
            known = "its voltage is not known"
        source = self._envelope.source
        raise LimitExceededError(
            f"channel {channel.name!r}: a reading of {drive.path} is in overflow and {known}, so its limit of {limit:g} W"
            f"{f' (set in {source})' if source else ''} cannot be said to be kept; look for a short circuit, lower the value, "
            "or choose a larger range or a smaller compliance"
        )


class Switchboard:
    """Switches sources on and off, once the guard is armed, the interlocks permit it and the watchdogs are set."""

    def __init__(
        self,
        specs: Sequence[InstrumentSpec],
        interlocks: Interlocks,
        way_home: WayHome,
        guard: Guard | NoGuard,
        warn: Callable[[str], None],
    ) -> None:
        self._watchdogs = {spec.name: spec.watchdog for spec in specs if spec.watchdog is not None}
        self._interlocks = interlocks
        self._way_home = way_home
        self._guard = guard
        self._warn = warn
        self._narrowed: set[str] = set()
        self.switched: Callable[[Drive], None] = lambda _: None
        """Is told of every source that has just been switched on."""

    def check(self) -> None:
        """What has to be so all the time: the guard is there, the interlocks permit sourcing."""
        self._guard.check()
        self._interlocks.check()

    def float(self, drive: Drive, beside: Sequence[Drive] = ()) -> None:
        """Leave the terminal at high impedance."""
        if drive.output is Output.UNTOUCHED:
            self._configure(drive, beside)
        drive.port.disable(SafeAction.HIGH_IMPEDANCE)
        drive.output = Output.FLOATING

    def switch_on(self, drive: Drive, beside: Sequence[Drive] = ()) -> None:
        """Output on, at the pressure there is, or as near to 0 as edge limits against the sources ``beside`` it allow."""
        if drive.output is not Output.FLOATING:
            self._configure(drive, beside)
        elif isinstance(drive.instrument, Recoverable):
            drive.instrument.require_settings_kept()  # compliance and range, since it was configured
        self.check()
        pressure = drive.port.pressure_now() if isinstance(drive.port, PressurePort) else None
        start = self._way_home.nearest_to_zero(drive, beside) if pressure is None else pressure
        drive.output = Output.ON
        drive.level = drive.lowest = drive.highest = start
        drive.port.enable(start)
        drive.commanded = start
        drive.on_course = False
        self.switched(drive)

    def _configure(self, drive: Drive, beside: Sequence[Drive] = ()) -> None:
        """Set up a source whose output is off; one that somebody left on is brought home first, with all that were left on."""
        self._guard.arm()
        self._set_watchdog(drive)
        if self._left_on(drive):
            untouched = [other for other in beside if other.output is Output.UNTOUCHED and other is not drive]
            others = [other for other in untouched if self._left_on(other)]
            self._way_home.go([drive, *others])
            for other in others:
                other.output = Output.UNTOUCHED
        drive.output = Output.OFF
        self._narrow(drive)
        try:
            sentences = drive.port.configure_source(drive.plan)
        except ConfigError as error:
            raise located(error, f"controls.{drive.channel.name}") from error
        for sentence in sentences:
            self._warn(sentence)

    def _left_on(self, drive: Drive) -> bool:
        """Whether somebody left it on; then it counts as on, where it stands."""
        state = drive.port.source_state()
        if state.on:
            self._warn(
                f"{drive.path} was found switched on at {state.level:g} {drive.channel.quantity.value}; brought home first"
            )
            drive.level = state.actual if np.isfinite(state.actual) else state.level
            drive.output = Output.ON
        return state.on

    def _narrow(self, drive: Drive) -> None:
        """Put the limits on the driver's own parameter: who sets it past the backend is held by them, too."""
        name = drive.path.rpartition(".")[2]
        parameter = getattr(drive.port, "parameters", {}).get(name)
        if parameter is not None and drive.path not in self._narrowed:
            from qcodes.validators import Numbers

            safe = drive.channel.safe.value if drive.channel.safe.action is SafeAction.LEVEL else drive.channel.minimum
            low, high = min(drive.channel.minimum, safe), max(drive.channel.maximum, safe)
            above = getattr(drive.port, "head", 0.0)
            parameter.add_validator(Numbers(low - above, high - above))
            self._narrowed.add(drive.path)

    def _set_watchdog(self, drive: Drive) -> None:
        seconds = self._watchdogs.pop(drive.path.split(".")[0], None)
        if seconds is None:
            return
        if not isinstance(drive.instrument, HardwareWatchdog):
            raise ConfigError(
                f"instrument {drive.path.split('.')[0]!r} has no watchdog of its own; remove `watchdog` from the station"
            )
        drive.instrument.set_watchdog(seconds)
