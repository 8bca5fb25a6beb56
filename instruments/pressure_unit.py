"""What pressure controllers with one outlet share: roles, limits, an in-limits band kept by the driver. Pascals throughout.

A driver adds the words of its instrument: how it is looked at, sent to a level, slewed and switched. The pressures of an
instrument count from vacuum or from the atmosphere as it is set up itself; a bench file can say which it expects.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, ClassVar, NamedTuple

import numpy as np
from qcodes.parameters import Parameter
from qcodes.validators import Numbers

from hil.core.errors import ConfigError
from hil.core.types import Quantity, SafeAction
from instruments.base import BenchInstrument, number_setting, refuse_unknown
from instruments.roles import Acquired, Condition, Delivery, SourcePlan, SourceState
from instruments.wiring import Setting

SETTINGS = ("in_limits", "reference")
DEFAULT_BAND = 1e-3
"""In-limits band where the bench file gives none, of full scale."""


class Valves(Enum):
    """What a controller does."""

    CONTROL = auto()
    SHUT = auto()
    VENT = auto()


class Look(NamedTuple):
    """One look: set-point it was sent to (Pa), measured pressure (Pa), what its valves do."""

    level: float
    actual: float
    valves: Valves


class PressureUnit(BenchInstrument):
    """One outlet, which is the instrument itself. Manual: see the drivers. Subclasses say ``full_scale_now`` and the rest."""

    holds_slew: ClassVar[bool] = True
    """Whether the instrument moves on its slew by itself; otherwise its set-point has to be led in steps."""
    error_share: ClassVar[float] = 0.0
    """Specified error as a share of full scale; 0 where the data sheets of what the driver serves differ."""

    def __init__(self, name: str, address: str | None = None, **options: Any) -> None:
        super().__init__(name, address, **options)
        self._band = float("inf")
        self._full_scale = 0.0
        self._wanted = float("nan")
        self._sending = float("nan")
        self._slew = float("inf")
        self._gauge = False
        self._in_hand = False  # whether pascals, and that set-points come from here, were verified since it was opened
        self.pressure: Parameter[float, Any] = self.add_parameter(
            "pressure",
            label="Pressure",
            unit="Pa",
            vals=Numbers(-1e5, 1e7),
            get_cmd=self.pressure_now,
            set_cmd=lambda value: self.level_writer([""])([value]),
            docstring="set: set-point; get: measured pressure",
        )
        self.slew: Parameter[float, Any] = self.add_parameter(
            "slew",
            label="Slew rate",
            unit="Pa/s",
            vals=Numbers(1e-3, 1e9),
            set_cmd=self.set_slew,
            docstring="speed of the controller's own set-point",
        )

    # What a driver has to say --------------------------------------------------------------------------------------

    @abstractmethod
    def look(self, *, anyway: bool = False) -> Look:
        """Ask for set-point, pressure and valves. ``anyway``: even after the instrument has lost its settings."""

    @abstractmethod
    def send_level(self, level: float) -> float:
        """Send a set-point; what the instrument kept, Pa."""

    @abstractmethod
    def send_slew(self, pascal_per_second: float) -> None:
        """Speed from now on, read back; infinity: as fast as it can."""

    @abstractmethod
    def switch(self, valves: Valves) -> None:
        """Let the valves control, shut them or vent; not yet verified."""

    @abstractmethod
    def prepare_unit(self) -> tuple[float, bool, Sequence[str]]:
        """Choose pascals, verified, and nothing else; full scale (Pa), whether it counts gauge pressures, warnings."""

    def take_in_hand(self) -> None:
        """Verify that it obeys set-points from here; after ``prepare_unit``, before the first of them."""

    def settle_in(self, plan: SourcePlan) -> None:
        """What else a source needs that is about to be used, but one that is only brought home does not."""

    # Roles -----------------------------------------------------------------------------------------------------------

    def source_quantities(self) -> Mapping[str, Quantity]:
        """Pressure through ``pressure``."""
        return {"pressure": Quantity.PRESSURE}

    def meter_quantities(self) -> Mapping[str, Quantity]:
        """Measured pressure."""
        return {"pressure": Quantity.PRESSURE}

    def configure_meter(self, parameter: str, settings: Mapping[str, Setting]) -> Sequence[str]:
        """Pascals; there is nothing else to set."""
        refuse_unknown(settings, (), f"{self.full_name}.{parameter}")
        return self.prepare_unit()[2]

    def configure_source(self, plan: SourcePlan) -> Sequence[str]:
        """Unit, reference, limits, slew; all read back. The in-limits band is kept here (default: 0.1 % of full scale)."""
        refuse_unknown(plan.settings, SETTINGS, self.full_name)
        self._in_hand = False
        full_scale, gauge, found = self.prepare_unit()
        self._gauge = gauge
        warnings = list(found)
        wanted = plan.settings.get("reference")
        if wanted not in (None, "absolute", "gauge"):
            raise ConfigError(f"{self.full_name}: reference must be absolute or gauge, not {wanted!r}")
        if wanted is not None and (wanted == "gauge") != gauge:
            is_now = "gauge" if gauge else "absolute"
            raise self.fault(
                f"controls {is_now} pressures, but the bench file wants {wanted} ones; set up the instrument for that"
            )
        if gauge and wanted is None:
            warnings.append(f"{self.full_name} counts gauge pressures; say `reference: gauge` if that is meant")
        if plan.maximum > full_scale:
            raise ConfigError(f"{self.full_name}: {plan.maximum:g} Pa is above its full scale of {full_scale:g} Pa")
        self._full_scale = full_scale
        self._band = number_setting(plan.settings, "in_limits", None) or DEFAULT_BAND * full_scale
        self.take_in_hand()
        self._in_hand = True
        self.settle_in(plan)
        self.set_slew(plan.slew)
        self.note(in_limits_Pa=self._band, full_scale_Pa=full_scale, gauge=gauge, slew_Pa_per_s=plan.slew)
        return warnings

    def specified_error(self) -> float:
        """Pa; 0 before it was configured."""
        return self.error_share * self._full_scale

    def source_state(self) -> SourceState:
        """Set-point, measured pressure, controlling."""
        seen = self.look()
        return SourceState(seen.level, seen.actual, seen.valves is Valves.CONTROL)

    def pressure_now(self) -> float:
        """Measured pressure, Pa."""
        return self.look(anyway=True).actual

    def vented(self) -> bool:
        """Whether it vents and stands at the atmosphere (an absolute gauge knows only what any weather and altitude allows)."""
        seen = self.look(anyway=True)
        low, high = (-200.0, 200.0) if self._gauge else (6.5e4, 1.1e5)
        return seen.valves is Valves.VENT and low <= seen.actual <= high

    def enable(self, level: float) -> None:
        """Set-point ``level`` at once while the valves are shut, then control on the slew."""
        slew, self._wanted = self._slew, float("nan")
        if self.look(anyway=True).valves is Valves.VENT:
            self.switch(Valves.SHUT)
        # A set-point ramp would still be on its way from an old value when the valves open.
        self.set_slew(float("inf"))
        self._keep(level)
        self._wanted = float("nan")  # nothing to have kept while the valves are shut
        self.set_slew(slew)
        self.switch(Valves.CONTROL)
        if self.look().valves is not Valves.CONTROL:
            raise self.fault("did not begin to control")
        self._wanted = level

    def disable(self, action: SafeAction) -> None:
        """VENT vents; everything else shuts the valves. Verified."""
        valves = Valves.VENT if action is SafeAction.VENT else Valves.SHUT
        self._wanted = float("nan")
        self.switch(valves)
        if self.look(anyway=True).valves is not valves:
            raise self.fault("does not vent" if valves is Valves.VENT else "does not shut its valves")

    def set_slew(self, pascal_per_second: float) -> None:
        """Speed from now on, Pa/s, read back; infinity: as fast as it can."""
        self._require_in_hand()
        self._slew = pascal_per_second
        self.send_slew(pascal_per_second)

    def forget(self) -> None:
        """The unit is chosen and verified again before anything is sent that counts in it."""
        self._in_hand = False

    def _require_in_hand(self) -> None:
        # One that was found switched on is brought home before it is configured.
        if not self._in_hand:
            self.prepare_unit()
            self.take_in_hand()
            self._in_hand = True

    def level_writer(self, ports: Sequence[str]) -> Callable[[Sequence[float]], None]:
        """The set-point, read back."""

        def write(levels: Sequence[float]) -> None:
            for level in levels:
                self._keep(level)

        return write

    def _keep(self, level: float) -> None:
        self._require_in_hand()
        self._sending = level
        kept = self.send_level(level)
        if abs(kept - level) > max(1.0, 1e-5 * abs(level)):
            raise self.fault(f"has the set-point {kept:g} Pa, although {level:g} Pa was sent")
        self._wanted = level

    def condition_reader(self, ports: Sequence[str]) -> Callable[[], list[Condition]]:
        """Measured pressure, controlling, within the band about the set-point."""

        def read() -> list[Condition]:
            seen = self._look_after()
            inside = abs(seen.actual - self._wanted) <= self._band
            return [Condition(seen.actual, seen.valves is Valves.CONTROL, inside)] * len(ports)

        return read

    def delivery_reader(self, ports: Sequence[str]) -> Callable[[], list[Delivery]]:
        """Pressure; allowed are three times the band (a controller may be just leaving it)."""

        def measure() -> list[Delivery]:
            seen = self._look_after()
            return [Delivery(seen.actual, 3.0 * self._band, seen.valves is Valves.CONTROL, False)] * len(ports)

        return measure

    def acquisition(self, terminals: Sequence[tuple[str, str]]) -> Callable[[int], Acquired]:
        """Measured pressure, one query a sample."""

        def read(samples: int) -> Acquired:
            values = np.array([[self._look_after().actual] * len(terminals) for _ in range(samples)], dtype=np.float64)
            return Acquired.of(values)

        return read

    def require_settings_kept(self) -> None:
        """A controller that was sent somewhere has not forgotten where."""
        if np.isfinite(self._wanted):
            seen = self.look(anyway=True)
            if seen.valves is not Valves.CONTROL or not self._sent_to(seen.level):
                raise self.restarted()

    def _look_after(self) -> Look:
        """One look; InstrumentError if it controls at a set-point that nobody sent it to, as after a power failure."""
        seen = self.look()
        if np.isfinite(self._wanted) and seen.valves is Valves.CONTROL and not self._sent_to(seen.level):
            raise self.restarted()
        return seen

    def _sent_to(self, level: float) -> bool:
        # Of a set-point whose reply was lost nobody knows whether it was obeyed.
        return any(abs(level - one) <= max(1.0, 1e-5 * abs(one)) for one in (self._wanted, self._sending))
