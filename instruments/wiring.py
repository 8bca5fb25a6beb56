"""What is wired to what, as data: the parsed form of a bench file's instruments, controls and outputs.

Everything is SI. Nothing here is checked against an instrument; that happens when a bench is built from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hil.core.types import Channel

Setting = float | int | bool | str

#: Settings a control or an output may carry, with the SI unit of their value: "" stands for the unit of the channel
#: itself, "1" for a pure number, None for a word or a truth value.
SETUP_UNITS: Mapping[str, str | None] = {
    "range": "",  # fixed range of source or meter; a control's default is the smallest that holds its limits
    "nplc": "1",  # integration time in power line cycles
    "current_range": "A",  # fixed range of an SMU's current measurement
    "in_limits": "Pa",  # band around a pressure set-point that counts as reached
    "reference": None,  # pressure: absolute | gauge
    "four_wire": None,  # remote sense
    "auto_zero": None,
    "input_impedance": None,  # voltmeter: auto (> 10 GOhm on the low ranges) | 10M
    "guard": None,  # electrometer: the inner shield driven to the volts of the centre
    "off_mode": None,  # what "output off" means at this terminal: high_impedance | zero
}


SWITCHES = ("four_wire", "auto_zero", "guard")
"""Settings that are on or off."""
AUTOMATIC = ("range", "current_range")
"""Settings that may be ``auto``; those without a unit go to the driver as they stand."""


@dataclass(frozen=True, slots=True)
class InstrumentSpec:
    """One instrument: ``name`` on the bench, ``type`` its driver class by dotted name, ``address`` a VISA address.

    ``options`` are arguments of the driver class (e.g. ``timeout`` in s, ``baud_rate``, ``line_ending``). ``watchdog``: the
    instrument is told to stop by itself after so many seconds of silence.
    """

    name: str
    type: str
    address: str
    options: Mapping[str, Setting] = field(default_factory=dict)
    watchdog: float | None = None


@dataclass(frozen=True, slots=True)
class Interface:
    """An electrode whose charge is followed: net C that may pass it, C that have in the beginning; F of an inert one's double
    layer, None for one that takes its charge from the salt; within how many C it is known what has passed in the beginning."""

    most: float
    charge: float = 0.0
    capacitance: float | None = None
    unsure: float = 0.0


@dataclass(frozen=True, slots=True)
class ControlWire:
    """A control and the instrument parameter that drives it, e.g. ``smu.smua.volt`` or ``pace1.a.pressure``.

    ``compliance`` is the current limit in A (voltage sources need one). ``parameter`` is empty where replicas say it.
    ``height``: of the surface that a pressure controller acts on above the node, m. ``interface``: of an
    electrode whose charge is followed.
    """

    channel: Channel
    parameter: str
    compliance: float | None = None
    setup: Mapping[str, Setting] = field(default_factory=dict)
    height: float = 0.0
    interface: Interface | None = None


@dataclass(frozen=True, slots=True)
class OutputWire:
    """An output and the instrument parameter that reads it, e.g. ``meter.volt`` or ``smu.smua.curr``.

    ``through``: the crosspoint of a switch matrix that connects its node with the meter, e.g. ``matrix.1A02``.
    """

    channel: Channel
    parameter: str
    setup: Mapping[str, Setting] = field(default_factory=dict)
    through: str = ""


@dataclass(frozen=True, slots=True)
class Correction:
    """What a source or a meter makes of a value x: offset + gain * x, SI; see ``instruments.calibration``."""

    offset: float = 0.0
    gain: float = 1.0

    def true(self, shown: float) -> float:
        """What stands behind a reading."""
        return (shown - self.offset) / self.gain


EXACT = Correction()
"""Nothing to correct."""


@dataclass(frozen=True, slots=True)
class InterlockWire:
    """An input that permits sourcing: ``parameter`` (e.g. ``smu.digio.bit1``) has to read ``expected`` (1: true)."""

    name: str
    parameter: str
    expected: float


@dataclass(frozen=True, slots=True)
class ParameterPath:
    """``instrument.port.quantity``; ``port`` is "" for an instrument with one pair of terminals (``meter.volt``)."""

    instrument: str
    port: str
    quantity: str

    @classmethod
    def parse(cls, text: str) -> "ParameterPath":
        """Split ``text``; ValueError unless it has two or more parts."""
        parts = text.split(".")
        if len(parts) < 2 or not all(parts):
            raise ValueError(f"{text!r} is not a parameter path such as smu.smua.volt or meter.volt")
        return cls(parts[0], ".".join(parts[1:-1]), parts[-1])

    def __str__(self) -> str:
        return ".".join(part for part in (self.instrument, self.port, self.quantity) if part)
