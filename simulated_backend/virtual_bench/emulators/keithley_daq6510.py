"""Keithley DAQ6510: a 6.5-digit voltmeter with front terminals and 7700-class multiplexer cards of twenty channels.

Language: DAQ6510 reference manual DAQ6510-901-01, SCPI command set (settings may carry a channel list; READ? takes COUNt
readings into a buffer and returns the last; after *RST the input impedance is 10 Mohm; overflow +9.9E37; the error queue
answers code, message, kind and time). Figures: data sheet 1KW-61453: DC volts, one year, (% of reading + % of range) per
range, 20 % overrange (none at 1000 V), input > 10 Gohm on the ranges up to 10 V when AUTO is chosen, 10 Mohm otherwise.
Its table of rms noise against PLC (given there for ohms, as a fraction of range) is used for volts; bias current below
50 pA is what this class of meters has. Relay cards: 7700, 3 ms actuation; its isolation (> 1 Gohm) is not imitated.

Ports: "" are the front terminals, "ch101" … "ch120" and "ch201" … "ch220" the channels. ``terminals`` is the front panel's
button: FRONT, REAR, or AUTO: where the wires are. Functions other than DC volts are not imitated.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf, isinf, log10
from typing import ClassVar

import numpy as np

from hil.core.errors import ConfigError
from simulated_backend.virtual_bench.converter import LIMIT, Converter, Range
from simulated_backend.virtual_bench.emulators.keithley_daq6510_buffer import Buffers, ReadingRecord
from simulated_backend.virtual_bench.ports import ElectricalPort, PlantView
from simulated_backend.virtual_bench.scpi import ScpiEmulator, ScpiError, boolean, channel_list, choice, number, quoted

HIGH_RESISTANCE, LOW_RESISTANCE = 10e9, 10e6
BIAS_LIMIT = 50e-12
HIGH_RESISTANCE_UP_TO = 10.0
RELAY_TIME = 3e-3
FILTERED = 10  # readings that the averaging filter waits for
AUTOZERO_FACTOR = 2.0
"""With autozero on, every reading is followed by one of the internal zero."""
NOISE_AGAINST_PLC = ((5e-4, 6.5e-5), (0.01, 7e-6), (0.1, 1.5e-6), (1.0, 3e-7), (12.0, 1e-7))
RESOLUTION = 1e-6
RANGES = [
    Range(full, top, reading, offset * full, full, RESOLUTION * full)
    for full, top, reading, offset in (
        (0.1, 0.12, 30e-6, 35e-6),
        (1.0, 1.2, 25e-6, 6e-6),
        (10.0, 12.0, 25e-6, 5e-6),
        (100.0, 120.0, 40e-6, 6e-6),
        (1000.0, 1010.0, 40e-6, 6e-6),
    )
]
"""``noise`` is the full scale here; the factor comes from NOISE_AGAINST_PLC."""
CHANNELS = tuple(100 * slot + channel for slot in (1, 2) for channel in range(1, 21))


@dataclass(frozen=True, slots=True)
class _Settings:
    """How one input is measured."""

    auto: bool = True
    position: int = len(RANGES) - 1
    nplc: float = 1.0
    high_impedance: bool = False
    autozero: bool = True
    delay: float = 0.0
    averaging: bool = False
    relative: bool = False
    zero: float = 0.0
    math: bool = False


@dataclass(slots=True)
class _Scan:
    """The scan list and how often it is run through."""

    channels: list[int] = field(default_factory=list)
    count: int = 1
    interval: float = 0.0
    buffer: str = "defbuffer1"


class KeithleyDAQ6510(ScpiEmulator):
    """The meter and its cards."""

    models: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "KeithleyDAQ6510": {"terminals": "AUTO", "line_frequency": 50.0, "command_set": "SCPI"}
    }
    identity = "KEITHLEY INSTRUMENTS,MODEL DAQ6510,04340543,1.7.12b"
    errors_kept = 32

    def __init__(self, name: str, plant: PlantView, options: Mapping[str, object], rng: np.random.Generator) -> None:
        self._front = plant.electrical(name, "")
        self._cards: dict[int, ElectricalPort] = {channel: plant.electrical(name, f"ch{channel}") for channel in CHANNELS}
        if options["terminals"] not in ("FRONT", "REAR", "AUTO"):
            raise ConfigError(f"option 'terminals' of {name!r} must be FRONT, REAR or AUTO, not {options['terminals']!r}")
        self._bias = 0.0 if plant.ideal else LIMIT * BIAS_LIMIT * float(rng.standard_normal())
        self._converter = Converter(RANGES, rng, plant.ideal)
        self._closed: int | None = None
        self._buffers = Buffers()
        super().__init__(name, plant, options, rng)

    # Language ------------------------------------------------------------------------------------------------------

    def declare(self) -> None:
        """The commands of the manual that this emulator obeys."""
        add = self.tree.add
        volts = "[:SENSe#]:VOLTage[:DC]"
        add("[:SENSe#]:FUNCtion[:ON]", self._set_function, self._function)
        self._setting(volts + ":RANGe[:UPPer]", self._set_range, lambda s: f"{RANGES[s.position].full_scale:G}")
        self._setting(volts + ":RANGe:AUTO", lambda s, p: replace(s, auto=boolean(p)), lambda s: str(int(s.auto)))
        self._setting(volts + ":NPLCycles", lambda s, p: replace(s, nplc=self._nplc(p)), lambda s: f"{s.nplc:G}")
        self._setting(volts + ":INPutimpedance", self._set_impedance, lambda s: "AUTO" if s.high_impedance else "MOHM10")
        self._setting(volts + ":AZERo[:STATe]", lambda s, p: replace(s, autozero=boolean(p)), lambda s: str(int(s.autozero)))
        self._setting(volts + ":AVERage[:STATe]", lambda s, p: replace(s, averaging=boolean(p)), lambda s: str(int(s.averaging)))
        self._setting(volts + ":RELative:STATe", lambda s, p: replace(s, relative=boolean(p)), lambda s: str(int(s.relative)))
        self._setting(volts + ":RELative", lambda s, p: replace(s, zero=number(p, -1e3, 1e3)), lambda s: f"{s.zero:G}")
        math = "CALCulate#:VOLTage[:DC]:MATH:STATe"
        self._setting(math, lambda s, p: replace(s, math=boolean(p)), lambda s: str(int(s.math)))
        self._setting("ROUTe[:CHANnel]:DELay", lambda s, p: replace(s, delay=number(p, 0.0, 60.0)), lambda s: f"{s.delay:G}")
        add("[:SENSe#]:AZERo:ONCE", lambda _s, _p: None)
        add("[:SENSe#]:COUNt", self._set_count, lambda _s, _p: str(self._count))
        add("ROUTe:TERMinals", query=lambda _s, _p: "REAR" if self._rear else "FRON")
        add("ROUTe[:CHANnel]:CLOSe", lambda _s, p: self._close(self._one_channel(p)), lambda _s, _p: self._list(self._closed))
        add("ROUTe[:CHANnel]:OPEN", self._open)
        add("ROUTe[:CHANnel]:OPEN:ALL", lambda _s, _p: self._close(None))
        add("ROUTe:SCAN[:CREate]", self._create_scan, lambda _s, _p: f"(@{','.join(map(str, self._scan.channels))})")
        add("ROUTe:SCAN:ADD[:SINGle]", self._extend_scan)
        add("ROUTe:SCAN:COUNt:SCAN", self._set_scan_count, lambda _s, _p: str(self._scan.count))
        add("ROUTe:SCAN:COUNt:STEP", query=lambda _s, _p: str(len(self._scan.channels)))
        add("ROUTe:SCAN:INTerval", self._set_interval, lambda _s, _p: f"{self._scan.interval:G}")
        add("ROUTe:SCAN:BUFFer", self._set_scan_buffer, lambda _s, _p: self._scan.buffer)
        add("ROUTe:SCAN:STATe", query=lambda _s, _p: self._scan_state())
        add("TRIGger:LOAD", self._load_trigger)
        add("TRIGger:STATe", query=lambda _s, _p: f"{self._trigger_state};{self._trigger_state};1")
        add("INITiate[:IMMediate]", lambda _s, _p: self._initiate())
        add("ABORt", lambda _s, _p: None)
        add("READ", query=self._read)
        add("FETCh", query=self._fetch)
        add("MEASure[:VOLTage][:DC]", query=self._read)
        add("TRACe:TRIGger", self._fill)
        self._buffers.declare(self.tree)
        add("SYSTem:ERRor[:NEXT]", query=self._error)
        add("SYSTem:ERRor:COUNt", query=lambda _s, _p: str(len(self.errors)))
        add("SYSTem:EVENtlog:NEXT", query=self._error)
        add("SYSTem:CLEar", lambda _s, _p: self.errors.clear())
        add("SYSTem:VERSion", query=lambda _s, _p: "1999.0")
        add("SYSTem:LFRequency", query=lambda _s, _p: f"{self.number('line_frequency'):G}")
        add("SYSTem:CARD#:IDN", query=self._card)
        add("SYSTem:BEEPer[:IMMediate]", lambda _s, _p: None)
        add("SYSTem:TIME", lambda _s, _p: None, lambda _s, _p: f"{self.plant.clock.now():.0f}")
        add("STATus:PRESet", lambda _s, _p: None)
        add("DISPlay:CLEar", lambda _s, _p: None)
        self._common["*LANG?"] = lambda _s, _p: str(self.options["command_set"])

    def _setting(
        self,
        notation: str,
        change: Callable[[_Settings, list[str]], _Settings],
        show: Callable[[_Settings], str],
    ) -> None:
        """A setting of the input, or of the channels in a list behind the value."""

        def command(_suffixes: tuple[int, ...], parameters: list[str]) -> None:
            inputs, values = self._inputs(parameters)
            for where in inputs:
                self._settings[where] = change(self._settings[where], values)
            self._connect()

        def query(_suffixes: tuple[int, ...], parameters: list[str]) -> str:
            inputs, _ = self._inputs(parameters)
            return ",".join(show(self._settings[where]) for where in inputs)

        self.tree.add(notation, command, query)

    def _inputs(self, parameters: list[str]) -> tuple[list[int], list[str]]:
        """Positions in ``_settings`` that a command is meant for (0: the input without a channel), and its other values."""
        if parameters and parameters[-1].startswith("(@"):
            return [self._known(channel) for channel in channel_list(parameters[-1])], parameters[:-1]
        return [0], parameters

    def _known(self, channel: int) -> int:
        if channel not in self._cards:
            raise ScpiError(-222, f"channel {channel} is not on a card")
        return channel

    # Settings ------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """The defaults; all channels open, all buffers but the two default ones gone."""
        self._settings = dict.fromkeys((0, *CHANNELS), _Settings())
        self._count = 1
        self._scan = _Scan()
        self._simple_loop = 0
        self._trigger_state = "IDLE"
        self._buffers.reset()
        self._close(None)

    @property
    def _rear(self) -> bool:
        choice_made = self.options["terminals"]
        if choice_made == "AUTO":
            return not self._front.wired and any(port.wired for port in self._cards.values())
        return choice_made == "REAR"

    def _set_function(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        inputs, values = self._inputs(parameters)
        if quoted(values).upper() not in ("VOLT", "VOLTAGE", "VOLT:DC", "VOLTAGE:DC"):
            raise ScpiError(-241, "only DC volts is imitated")
        for where in inputs:
            self._settings[where] = self._settings[where]

    def _function(self, _suffixes: tuple[int, ...], parameters: list[str]) -> str:
        return ",".join(['"VOLT:DC"'] * len(self._inputs(parameters)[0]))

    def _set_range(self, settings: _Settings, values: list[str]) -> _Settings:
        return replace(settings, auto=False, position=self._converter.selected(number(values, -1010.0, 1010.0, 1000.0)))

    def _nplc(self, values: list[str]) -> float:
        return number(values, 5e-4, 12.0 if self.number("line_frequency") == 50.0 else 15.0, 1.0)

    def _set_impedance(self, settings: _Settings, values: list[str]) -> _Settings:
        return replace(settings, high_impedance=choice(values, ("AUTO", "MOHM10")) == "AUTO")

    def _set_count(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        self._count = round(number(parameters, 1, 1_000_000, 1))

    # Relays --------------------------------------------------------------------------------------------------------

    def _one_channel(self, parameters: list[str]) -> int:
        channels = channel_list(parameters[0]) if parameters else []
        if len(channels) != 1:
            raise ScpiError(-222, "a multiplexer closes one channel at a time")
        return self._known(channels[0])

    def _open(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        if not parameters:
            raise ScpiError(-109)
        if self._closed in [self._known(channel) for channel in channel_list(parameters[0])]:
            self._close(None)

    def _close(self, channel: int | None) -> None:
        """Open what is closed, then close ``channel``."""
        self._closed = channel
        self._connect()
        if channel is not None:
            self.plant.clock.advance(RELAY_TIME)

    def _connect(self) -> None:
        """The meter's input on what it is connected to, nothing on everything else."""
        rear = self._rear
        self._load(self._front, None if rear else self._settings[0])
        for channel, port in self._cards.items():
            self._load(port, self._settings[channel] if rear and channel == self._closed else None)

    def _load(self, port: ElectricalPort, settings: _Settings | None) -> None:
        if settings is None or self.plant.ideal:
            port.set_load(inf, 0.0)
            return
        high = settings.high_impedance and RANGES[settings.position].full_scale <= HIGH_RESISTANCE_UP_TO
        port.set_load(HIGH_RESISTANCE if high else LOW_RESISTANCE, self._bias)

    @staticmethod
    def _list(channel: int | None) -> str:
        return "(@)" if channel is None else f"(@{channel})"

    # Measuring -----------------------------------------------------------------------------------------------------

    def _one(self) -> ReadingRecord:
        """One reading of what the meter is connected to."""
        where = self._closed if self._rear and self._closed is not None else 0
        port = self._cards[where] if where else self._front
        settings = self._settings[where]
        if settings.auto:
            settings = self._autorange(where, port)
        started = self.plant.clock.now()
        aperture = settings.nplc / self.number("line_frequency")
        if self._rear and not where:  # nothing is connected: the input rests at what its bias current makes of it
            self.plant.clock.advance(aperture)
            true = self._bias * (HIGH_RESISTANCE if settings.high_impedance else LOW_RESISTANCE)
        else:
            true = self.plant.observe([port], aperture)[0][0].voltage
        if settings.averaging:
            self.plant.clock.advance((FILTERED - 1) * aperture)
        if settings.autozero:
            self.plant.clock.advance((AUTOZERO_FACTOR - 1.0) * aperture)
        value = self._converter.read(true, settings.position, _noise(settings.nplc))
        if isinf(value):
            value = 9.9e37 if value > 0 else -9.9e37
        elif settings.relative:
            value -= settings.zero
        return ReadingRecord(self.broken.shown(value), where, started, 0 if self._rear else 8)

    def _autorange(self, where: int, port: ElectricalPort) -> _Settings:
        """Step to the range that fits; changing it may change the input resistance, and with it the voltage."""
        for _ in RANGES:
            settings = self._settings[where]
            fitting = self._converter.fitting(self.plant.observe([port], 0.0)[0][0].voltage)
            if fitting == settings.position:
                break
            self._settings[where] = replace(settings, position=fitting)
            self._connect()
        return self._settings[where]

    def _read(self, _suffixes: tuple[int, ...], parameters: list[str]) -> str:
        name, elements = self._buffers.wanted(parameters)
        for _ in range(self._count):
            self._buffers.store(name, self._one())
        return self._buffers.latest(name, elements)

    def _fill(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        """As many readings as COUNt says, into a buffer, without a reply."""
        name = self._buffers.known(quoted(parameters)) if parameters else "defbuffer1"
        for _ in range(self._count):
            self._buffers.store(name, self._one())

    def _fetch(self, _suffixes: tuple[int, ...], parameters: list[str]) -> str:
        return self._buffers.latest(*self._buffers.wanted(parameters))

    # Scanning ------------------------------------------------------------------------------------------------------

    def _create_scan(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        self._scan.channels = []
        self._extend_scan(_suffixes, parameters)
        self._simple_loop = 0

    def _extend_scan(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        if parameters:
            self._scan.channels += [self._known(channel) for channel in channel_list(parameters[0])]

    def _set_scan_count(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        self._scan.count = round(number(parameters, 1, 100_000_000, 1))

    def _set_interval(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        self._scan.interval = number(parameters, 0.0, 100_000.0, 0.0)

    def _set_scan_buffer(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        self._scan.buffer = self._buffers.known(quoted(parameters))

    def _scan_state(self) -> str:
        state = "SUCCESS" if self._trigger_state == "SUCCESS" else "EMPTY" if not self._scan.channels else "BUILDING"
        return f"{state};{self._scan.count if state == 'SUCCESS' else 0};0"

    def _load_trigger(self, _suffixes: tuple[int, ...], parameters: list[str]) -> None:
        if not parameters or quoted(parameters[:1]).upper() not in ("SIMPLELOOP", "EMPTY"):
            raise ScpiError(-224, "only the trigger models SimpleLoop and Empty are imitated")
        self._scan.channels = []
        self._simple_loop = round(number(parameters[1:2], 1, 1_000_000, 1)) if len(parameters) > 1 else 0

    def _initiate(self) -> None:
        """Run the scan, or the loop, to its end; further messages wait until then."""
        if self._scan.channels:
            if not self._rear:
                raise ScpiError(-221, "the scan needs the rear terminals")
            self._run_scan()
        elif self._simple_loop:
            for _ in range(self._simple_loop):
                self._buffers.store("defbuffer1", self._one())
        else:
            raise ScpiError(-221, "there is no trigger model and no scan")
        self._trigger_state = "SUCCESS"

    def _run_scan(self) -> None:
        self._buffers.clear(self._scan.buffer)
        for turn in range(self._scan.count):
            began = self.plant.clock.now()
            for channel in self._scan.channels:
                self._close(channel)
                delay = self._settings[channel].delay
                if delay > 0.0:
                    self.plant.clock.advance(delay)
                for _ in range(self._count):
                    self._buffers.store(self._scan.buffer, self._one())
            self._close(None)
            left = began + self._scan.interval - self.plant.clock.now()
            if left > 0.0 and turn + 1 < self._scan.count:
                self.plant.clock.advance(left)

    def trigger(self) -> None:
        """*TRG starts what INITiate starts."""
        self._initiate()

    # Reports -------------------------------------------------------------------------------------------------------

    def _card(self, suffixes: tuple[int, ...], _parameters: list[str]) -> str:
        if suffixes[0] not in (1, 2):
            raise ScpiError(-114)
        return "7700,20Ch Mux w/CJC,0.0.0a,1432765"

    def _error(self, _suffixes: tuple[int, ...], _parameters: list[str]) -> str:
        code, text = self.next_error()
        seconds = self.plant.clock.now()
        return f'{code},"{text};1;{seconds:.3f}"' if code else '0,"No error;0;0 0"'


def _noise(nplc: float) -> float:
    """Rms noise as a fraction of range, between the table's points on double logarithmic scales."""
    x = [log10(plc) for plc, _ in NOISE_AGAINST_PLC]
    y = [log10(noise) for _, noise in NOISE_AGAINST_PLC]
    exponent = float(np.interp(log10(nplc), x, y))
    return float(10.0**exponent)
