"""Pressure controllers that only their maker's software can speak to: a small role, and the way from it into a bench.

A lab (or this package) gives an adapter: a class that can be called with the address and plays ``VendorChannel``. Adapters of
others are found under the entry point group ``memristor_hil.vendor_channels``, by the name a driver looks for. The maker's
software itself is never a dependency: without it a bench that needs it is refused, with what to do.

Such an outlet counts gauge pressures, cannot shut its volume, holds no slew (the bench ramps its set-points) and ends with
the program: a guard process cannot reach it. Manual: of the maker's software development kit.
"""

from collections.abc import Callable
from importlib.metadata import entry_points
from math import isfinite
from typing import Any, ClassVar, Protocol

from hil.core.errors import ConfigError, HilError
from instruments.pressure_unit import Look, PressureUnit, Valves
from instruments.visa import Link, Session

GROUP = "memristor_hil.vendor_channels"


class VendorChannel(Protocol):
    """One outlet of a pressure controller, as an adapter offers it. Pascals, gauge. May raise anything when it fails."""

    def identify(self) -> str:
        """Maker, model, serial number, firmware, with commas."""
        ...

    def full_scale(self) -> float:
        """Highest pressure."""
        ...

    def set_pressure(self, pascal: float) -> None:
        """Control to this pressure; 0 opens the outlet to the atmosphere."""
        ...

    def pressure(self) -> float:
        """Measured pressure."""
        ...

    def close(self) -> None:
        """Give the instrument back."""
        ...


Adapter = Callable[[str], VendorChannel]


def adapter_named(name: str) -> Adapter | None:
    """The adapter an installed package registers under ``name``; None if there is none."""
    found = tuple(entry_points(group=GROUP, name=name))
    return found[0].load() if found else None


class VendorResource:
    """Looks like a VISA resource and speaks to an adapter: ``ID?``, ``FS?``, ``P?``, ``P x``, ``OFF``; every word is answered."""

    session = 0

    def __init__(self, address: str, channel: VendorChannel) -> None:
        self.resource_name = address
        self.timeout: Any = 1000.0
        self.read_termination: Any = None
        self.write_termination: Any = None
        self._channel = channel
        self._level = 0.0
        self._controlling = False
        self._replies: list[str] = []

    def write(self, message: str) -> None:
        """Obey one word."""
        try:
            self._replies.append(self._obey(*message.split(" ")))
        except HilError:
            raise
        except Exception as error:  # the maker's software raises whatever it likes
            raise OSError(f"{type(error).__name__}: {error}") from error

    def _obey(self, word: str, value: str = "") -> str:
        if word == "ID?":
            return self._channel.identify()
        if word == "FS?":
            return repr(float(self._channel.full_scale()))
        if word in ("P", "OFF"):
            self._level = float(value) if word == "P" else 0.0
            self._channel.set_pressure(self._level)
            self._controlling = word == "P"
        return f"{self._channel.pressure()!r} {self._level!r} {int(self._controlling)}"

    def read(self) -> str:
        """The oldest reply."""
        if not self._replies:
            raise OSError("nothing was asked")
        return self._replies.pop(0)

    def read_raw(self) -> bytes:
        """As ``read``."""
        return self.read().encode()

    def read_bytes(self, count: int) -> bytes:
        """The first bytes of the oldest reply."""
        return self.read_raw()[:count]

    def close(self) -> None:
        """Give the instrument back, without pressure: some spike to their maximum when they are left under pressure."""
        if self._controlling:
            self._channel.set_pressure(0.0)
            self._controlling = False
        self._channel.close()


class VendorPressure(PressureUnit):
    """One outlet behind an adapter. Manual: of the maker's software. ``address`` is what the adapter understands."""

    sdk: ClassVar[str]
    """Name of the adapter."""
    missing: ClassVar[str]
    """What the user reads where there is neither an adapter nor the maker's software."""
    holds_slew = False

    def __init__(self, name: str, address: str | None = None, *, session: Session | None = None, **options: Any) -> None:
        if session is None:
            if address is None:
                raise ConfigError(f"instrument {name!r} has no address")
            session = Session(name, address, VendorResource(address, self.channel_at(name, address)), self.link)
            try:
                session.verify()
            except BaseException:
                session.close()
                raise
        super().__init__(name, address, session=session, **options)

    @classmethod
    def channel_at(cls, name: str, address: str) -> VendorChannel:
        """The outlet at ``address``; ConfigError with what to do where nothing can speak to it."""
        adapter = adapter_named(cls.sdk) or cls.own_adapter()
        if adapter is None:
            raise ConfigError(f"instrument {name!r} at {address}: {cls.missing}")
        return adapter(address)

    @classmethod
    def own_adapter(cls) -> Adapter | None:
        """The adapter this package brings itself, if the maker's software is there."""
        return None

    def errors(self) -> list[str]:
        """Adapters keep no errors: a failure is raised at once."""
        return []

    # What PressureUnit asks for --------------------------------------------------------------------------------------

    def prepare_unit(self) -> tuple[float, bool, list[str]]:
        """Full scale; gauge pressures, always."""
        return self.inquire("FS?", float, "asking for full scale"), True, []

    def look(self, *, anyway: bool = False) -> Look:
        """Pressure, set-point and whether it controls, in one call."""
        return self.inquire("P?", _look, "looking at the pressure", anyway=anyway)

    def send_level(self, level: float) -> float:
        """The set-point as it was sent on."""
        return self.inquire(f"P {level!r}", _look, "setting a pressure").level

    def send_slew(self, pascal_per_second: float) -> None:
        """Kept in mind only: the bench moves the set-point in steps."""
        self._slew = pascal_per_second

    def switch(self, valves: Valves) -> None:
        """Open to the atmosphere; a volume cannot be shut."""
        if valves is Valves.SHUT:
            raise self.fault("cannot shut its volume; declare the safe action of its control as vent")
        if valves is Valves.VENT:
            self.inquire("OFF", _look, "opening to the atmosphere", anyway=True)

    def enable(self, level: float) -> None:
        """Control at ``level``."""
        self._keep(level)

    def vented(self) -> bool:
        """Whether it is open and no pressure is left."""
        seen = self.look(anyway=True)
        return seen.valves is Valves.VENT and abs(seen.actual) < 200.0


def _look(reply: str) -> Look:
    actual, level, controlling = (float(word) for word in reply.split())
    if not isfinite(actual):
        raise ValueError(f"{reply[:40]!r}")
    return Look(level, actual, Valves.CONTROL if controlling else Valves.VENT)


class ElveflowPressure(VendorPressure):
    """Elveflow OB1 and AF1 through an adapter of the lab. Manual: of the Elveflow SDK."""

    link = Link(identity=r"(?i)elveflow", identify="ID?")
    sdk = "elveflow"
    missing = (
        "Elveflow controllers need the maker's SDK, whose functions differ between its versions, so that this package brings "
        "no adapter; write one of a few lines that plays VendorChannel and register it as 'elveflow' under the entry point "
        f"{GROUP!r}"
    )
    concrete = True


__all__ = ["ElveflowPressure", "VendorChannel", "VendorPressure"]
