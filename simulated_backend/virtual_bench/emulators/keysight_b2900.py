"""Keysight (Agilent) B2901A and B2912A source-measure units, one and two channels.

Language: B2900 series SCPI command reference B2910-90030, chapters 1 (data output format, table 1-2: bits of the status
element) and 4 (SOURce, SENSe, OUTPut, TRIGger, FETCh and READ with channel lists; data of the channels are interleaved reading
by reading, 9.91E+37 where a channel has none). Figures: data sheet 5990-7009EN, one year, 23 °C ± 5 °C, 1 PLC.

Ports: "ch1" and "ch2". A triggered run steps all its channels together. After a list the source returns to its immediate level,
unless FUNCtion:TRIGgered:CONTinuous is on. Every trigger switches outputs on until OUTPut:ON:AUTO is off. The first trigger of
the timer comes at once (assumed). Not imitated: pulse shapes, arbitrary waves, limits tests, digital lines, calculations.
"""

from collections.abc import Callable, Mapping, Sequence
from math import isinf, nan
from typing import ClassVar

import numpy as np

from simulated_backend.virtual_bench.emulators.keysight_b2900_channel import Channel, data, functions, written
from simulated_backend.virtual_bench.ports import PlantView
from simulated_backend.virtual_bench.scpi import (
    Handler,
    ScpiEmulator,
    ScpiError,
    boolean,
    channel_list,
    choice,
    keyword,
    number,
)
from simulated_backend.virtual_bench.smu import CURR, VOLT, SmuReading, SourceMeter

NAMES = {VOLT: "VOLTage", CURR: "CURRent"}
ELEMENTS = ("VOLTage", "CURRent", "RESistance", "TIME", "STATus", "SOURce")
ORDER = ("VOLT", "CURR", "RES", "TIME", "STAT", "SOUR")
LIMIT_BITS, OVERFLOW_BIT, CURRENT_SOURCE_BIT = 2, 8192, 1
LONGEST_LIST = 2500


class KeysightB2900(ScpiEmulator):
    """The unit."""

    models: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "KeysightB2901A": {
            "line_frequency": 50.0,
            "interlock": True,
            "identity": "Keysight Technologies,B2901A,MY51140123,3.4.2011.5100",
        },
        "KeysightB2912A": {
            "line_frequency": 50.0,
            "interlock": True,
            "identity": "Keysight Technologies,B2912A,MY51140124,3.4.2011.5100",
        },
    }
    identity = ""

    def __init__(self, name: str, plant: PlantView, options: Mapping[str, object], rng: np.random.Generator) -> None:
        self.name, self.options = name, options  # an option that cannot be is told with its instrument
        two = "B2912A" in str(options["identity"])
        figures = data(fine=two)
        hertz = self.number("line_frequency")
        ports = [plant.electrical(name, port) for port in ("ch1", "ch2")[: 2 if two else 1]]
        self._channels = [Channel(SourceMeter(figures, plant, port, rng, self._shown, hertz)) for port in ports]
        super().__init__(name, plant, options, rng)

    def _shown(self, value: float) -> float:
        return self.broken.shown(value)

    # Language ------------------------------------------------------------------------------------------------------

    def declare(self) -> None:
        """The commands of the manual that this emulator obeys."""
        add = self.tree.add
        self._per_channel(
            "[:SOURce#]:FUNCtion:MODE",
            lambda c, p: c.smu.set_function(choice(p, ("VOLTage", "CURRent"))),
            lambda c: c.smu.func,
        )
        self._per_channel("[:SOURce#]:FUNCtion[:SHAPe]", lambda c, p: choice(p, ("DC",)), lambda c: "DC")
        self._per_channel(
            "[:SOURce#]:FUNCtion:TRIGgered:CONTinuous", lambda c, p: setattr(c, "keeps", boolean(p)), lambda c: str(int(c.keeps))
        )
        for quantity in (VOLT, CURR):
            self._declare_source(quantity, f"[:SOURce#]:{NAMES[quantity]}")
            self._declare_sense(quantity, f":SENSe#:{NAMES[quantity]}[:DC]")
        sensed = ":SENSe#:FUNCtion"
        self._per_channel(
            f"{sensed}[:ON]",
            lambda c, p: c.functions.update(functions(p)),
            lambda c: ",".join(f'"{one}"' for one in (VOLT, CURR) if one in c.functions),
        )
        self._per_channel(f"{sensed}:OFF", lambda c, p: c.functions.difference_update(functions(p)))
        self._per_channel(f"{sensed}:ALL", lambda c, _p: c.functions.update((VOLT, CURR)))
        self._per_channel(f"{sensed}:OFF:ALL", lambda c, _p: c.functions.clear())
        self._per_channel(":SENSe#:REMote", self._set_remote, lambda c: str(int(c.smu.remote)))
        self._per_channel(":OUTPut#[:STATe]", lambda c, p: c.smu.set_output(boolean(p)), lambda c: str(int(c.smu.output)))
        self._per_channel(
            ":OUTPut#:OFF:MODE", self._set_off_mode, lambda c: "HIZ" if c.smu.off_mode == "HIMP" else c.smu.off_mode
        )
        self._per_channel(":OUTPut#:ON:AUTO", lambda c, p: setattr(c, "auto_on", boolean(p)), lambda c: str(int(c.auto_on)))
        self._declare_arm()
        for layer, names in (("[:ALL]", ("TRAN", "ACQ")), (":TRANsient", ("TRAN",)), (":ACQuire", ("ACQ",))):
            self._declare_trigger(layer, names)
        add("INITiate[:IMMediate][:ALL]", lambda _s, p: self._run(self._listed(p), transient=True))
        add("INITiate[:IMMediate]:ACQuire", lambda _s, p: self._run(self._listed(p), transient=False))
        add("ABORt[:ALL]", lambda _s, _p: None)
        add("FETCh:ARRay", query=lambda _s, p: self._sent(self._listed(p)))
        add("FETCh[:SCALar]", query=lambda _s, p: self._sent(self._listed(p), last=True))
        add("READ:ARRay", query=lambda _s, p: self._read(p, last=False))
        add("READ[:SCALar]", query=lambda _s, p: self._read(p, last=True))
        add("MEASure", query=lambda _s, p: self._spot(p, None))
        self._declare_spot("VOLT", "VOLTage")
        self._declare_spot("CURR", "CURRent")
        self._declare_spot("RES", "RESistance")
        add("FORMat:ELEMents:SENSe", self._set_elements, lambda _s, _p: ",".join(self._elements))
        add("FORMat[:DATA]", lambda _s, p: choice(p, ("ASCii",)) and None, lambda _s, _p: "ASC")
        add("SYSTem:INTerlock:TRIPped", query=lambda _s, _p: str(int(not self.options["interlock"])))
        add("SYSTem:LFRequency", query=lambda _s, _p: f"{self.number('line_frequency'):.0f}")
        add("SYSTem:ERRor[:NEXT]", query=self._error)
        add("SYSTem:ERRor:COUNt", query=lambda _s, _p: f"+{len(self.errors)}")
        add("SYSTem:VERSion", query=lambda _s, _p: "1999.0")
        for ignored in ("SYSTem:BEEPer:STATe", "DISPlay:ENABle", "STATus:PRESet", "SYSTem:TIME:TIMer:COUNt:RESet"):
            add(ignored, lambda _s, _p: None)

    def _per_channel(
        self,
        notation: str,
        command: Callable[[Channel, list[str]], object] | None = None,
        query: Callable[[Channel], str] | None = None,
    ) -> None:
        """A header whose first suffix chooses the channel."""

        def chosen(suffixes: tuple[int, ...]) -> Channel:
            return self._channel(suffixes[0] if suffixes else 1)

        def obeying(act: Callable[[Channel, list[str]], object]) -> Handler:
            def obey(suffixes: tuple[int, ...], parameters: list[str]) -> None:
                act(chosen(suffixes), parameters)

            return obey

        def answering(ask: Callable[[Channel], str]) -> Handler:
            return lambda suffixes, _p: ask(chosen(suffixes))

        self.tree.add(notation, command and obeying(command), query and answering(query))

    def _declare_source(self, quantity: str, root: str) -> None:
        per, top = self._per_channel, self._channels[0].smu.top(quantity)

        def set_level(c: Channel, p: list[str]) -> None:
            level = number(p, -top, top, 0.0)
            c.smu.set_level(quantity, level)
            c.immediate[quantity] = c.triggered[quantity] = level

        def set_list(c: Channel, p: list[str], before: Sequence[float]) -> None:
            if not p or len(before) + len(p) > LONGEST_LIST:
                raise ScpiError(-223 if p else -109)
            c.lists[quantity] = [*before, *(number([text], -top, top) for text in p)]

        def set_mode(c: Channel, p: list[str]) -> None:
            c.mode[quantity] = choice(p, ("FIXed", "LIST", "SWEep"))
            if c.mode[quantity] == "FIX":
                c.smu.set_level(quantity, c.immediate[quantity])

        per(f"{root}[:LEVel][:IMMediate][:AMPLitude]", set_level, lambda c: f"{c.immediate[quantity]:+.6E}")
        per(f"{root}[:LEVel]:TRIGgered[:AMPLitude]", lambda c, p: c.triggered.update({quantity: number(p, -top, top, 0.0)}),
            lambda c: f"{c.triggered[quantity]:+.6E}")  # fmt: skip
        per(f"{root}:MODE", set_mode, lambda c: c.mode[quantity])
        per(f"{root}:RANGe", lambda c, p: c.smu.set_range(quantity, number(p, -top, top)),
            lambda c: f"{c.smu.full_scale(quantity):+.6E}")  # fmt: skip
        per(f"{root}:RANGe:AUTO", lambda c, p: c.smu.set_autorange(quantity, boolean(p)),
            lambda c: str(int(c.smu.autorange[quantity])))  # fmt: skip
        for word, low, high in (("STARt", -top, top), ("STOP", -top, top), ("POINts", 1.0, LONGEST_LIST)):
            self._declare_sweep(quantity, f"{root}:{word}", word[:4].upper(), low, high)
        lists = f"[:SOURce#]:LIST:{NAMES[quantity]}"
        per(lists, lambda c, p: set_list(c, p, ()), lambda c: ",".join(f"{level:+.6E}" for level in c.lists[quantity]))
        per(f"{lists}:APPend", lambda c, p: set_list(c, p, c.lists[quantity]))
        per(f"{lists}:POINts", query=lambda c: str(len(c.lists[quantity])))

    def _declare_sweep(self, quantity: str, notation: str, key: str, low: float, high: float) -> None:
        self._per_channel(
            notation,
            lambda c, p: c.sweep[quantity].update({key: number(p, low, high)}),
            lambda c: f"{c.sweep[quantity][key]:+.6E}",
        )

    def _declare_sense(self, quantity: str, root: str) -> None:
        per, top = self._per_channel, self._channels[0].smu.top(quantity)
        ranges = self._channels[0].smu.data.ranges(quantity)

        def set_limit(c: Channel, p: list[str]) -> None:
            least = 0.01 * c.smu.data.ranges(quantity)[0].full_scale
            c.smu.set_limit(quantity, number(p, least, top, least))

        def set_least(c: Channel, p: list[str]) -> None:
            c.smu.sense_least[quantity] = c.smu.selected(quantity, number(p, ranges[0].full_scale, top, ranges[0].full_scale))

        per(f"{root}:RANGe[:UPPer]", lambda c, p: c.smu.set_sense_range(quantity, number(p, -top, top)),
            lambda c: f"{c.smu.sense_full_scale(quantity):+.6E}")  # fmt: skip
        per(f"{root}:RANGe:AUTO", lambda c, p: c.smu.set_sense_auto(quantity, boolean(p)),
            lambda c: str(int(c.smu.sense_auto[quantity])))  # fmt: skip
        per(f"{root}:RANGe:AUTO:LLIMit", set_least, lambda c: f"{ranges[c.smu.sense_least[quantity]].full_scale:+.6E}")
        per(f"{root}:NPLCycles", lambda c, p: setattr(c, "nplc", number(p, 4e-4, 100.0, 1.0)), lambda c: f"{c.nplc:+.6E}")
        per(f"{root}:PROTection[:LEVel][:BOTH]", set_limit, lambda c: f"{c.smu.limits[quantity]:+.6E}")
        per(f"{root}:PROTection:TRIPped", query=lambda c: str(int(c.smu.func != quantity and c.smu.tripped())))

    def _declare_trigger(self, layer: str, names: tuple[str, ...]) -> None:
        root = f":TRIGger#{layer}"

        def put(c: Channel, key: str, value: object) -> None:
            for name in names:
                getattr(c, key)[name] = value

        self._per_channel(f"{root}:COUNt", lambda c, p: put(c, "counts", round(number(p, 1, 100_000, 1))),
                          lambda c: str(c.counts[names[0]]))  # fmt: skip
        self._per_channel(f"{root}:DELay", lambda c, p: put(c, "delays", number(p, 0.0, 1e5, 0.0)),
                          lambda c: f"{c.delays[names[0]]:+.6E}")  # fmt: skip
        self._per_channel(f"{root}:SOURce", lambda c, p: put(c, "sources", choice(p, ("AINT", "TIMer"))),
                          lambda c: c.sources[names[0]])  # fmt: skip
        self._per_channel(f"{root}:TIMer", lambda c, p: put(c, "timers", number(p, 1e-5, 1e5, 1e-5)),
                          lambda c: f"{c.timers[names[0]]:+.6E}")  # fmt: skip

    def _declare_arm(self) -> None:
        per = self._per_channel
        per(":ARM#[:ALL]:COUNt", lambda c, p: setattr(c, "arms", round(number(p, 1, 100_000, 1))), lambda c: str(c.arms))
        per(":ARM#[:ALL]:DELay", lambda c, p: setattr(c, "arm_delay", number(p, 0.0, 1e5, 0.0)), lambda c: f"{c.arm_delay:+.6E}")
        per(":ARM#[:ALL]:SOURce[:SIGNal]", lambda c, p: choice(p, ("AINT",)), lambda c: "AINT")

    def _declare_spot(self, element: str, name: str) -> None:
        self.tree.add(f"MEASure:{name}[:DC]", query=lambda _s, p: self._spot(p, element))

    # Settings ------------------------------------------------------------------------------------------------------

    def _channel(self, wanted: int) -> Channel:
        if not 1 <= wanted <= len(self._channels):
            raise ScpiError(-114)
        return self._channels[wanted - 1]

    def _listed(self, parameters: list[str]) -> list[Channel]:
        numbers = channel_list(parameters[0]) if parameters else [1]
        return [self._channel(wanted) for wanted in sorted(set(numbers))]

    def reset(self) -> None:
        """The defaults of *RST."""
        for channel in self._channels:
            channel.reset()
        self._elements = ["VOLT", "CURR", "RES", "TIME", "STAT", "SOUR"]

    def redrive(self) -> None:
        """An output stage has changed."""
        for channel in self._channels:
            channel.smu.drive()

    @staticmethod
    def _set_remote(channel: Channel, parameters: list[str]) -> None:
        channel.smu.remote = boolean(parameters)
        channel.smu.drive()

    @staticmethod
    def _set_off_mode(channel: Channel, parameters: list[str]) -> None:
        word = choice(parameters, ("ZERO", "HIZ", "NORMal"))
        channel.smu.off_mode = "HIMP" if word == "HIZ" else word
        channel.smu.drive()

    def _set_elements(self, _s: tuple[int, ...], parameters: list[str]) -> None:
        chosen = {keyword(text, ELEMENTS) for text in parameters}
        if not chosen:
            raise ScpiError(-109)
        self._elements = [name for name in ORDER if name in chosen]

    # Measuring -----------------------------------------------------------------------------------------------------

    def _run(self, channels: list[Channel], *, transient: bool) -> None:
        """Step and read ``channels`` together until all counts are full; nothing is stepped unless ``transient``."""
        for channel in channels:
            channel.trigger()
            channel.taken = []
        turns = max(max(c.counts["ACQ"], c.counts["TRAN"] if transient else 0) for c in channels)
        for _ in range(max(channel.arms for channel in channels)):
            self._wait(max(channel.arm_delay for channel in channels))
            self._step(channels, turns, transient=transient)
        for channel in channels if transient else ():
            if not channel.keeps:
                channel.smu.set_level(channel.smu.func, channel.immediate[channel.smu.func])

    def _step(self, channels: list[Channel], turns: int, *, transient: bool) -> None:
        began, layer = self.plant.clock.now(), "TRAN" if transient else "ACQ"
        period = max((c.timers[layer] for c in channels if c.sources[layer] == "TIM"), default=0.0)
        for turn in range(turns):
            self._wait(began + turn * period - self.plant.clock.now() if period else 0.0)
            self._wait(max(c.delays["TRAN"] for c in channels) if transient else 0.0)
            for channel in channels if transient else ():
                if turn < channel.counts["TRAN"]:
                    levels = channel.levels()
                    channel.smu.set_level(channel.smu.func, levels[turn % len(levels)])
            self._wait(max(c.delays["ACQ"] for c in channels))
            self._acquire([channel for channel in channels if turn < channel.counts["ACQ"]])

    def _wait(self, seconds: float) -> None:
        if seconds > 0.0:
            self.plant.clock.advance(seconds)

    def _acquire(self, channels: list[Channel]) -> None:
        """One reading of every channel, over the same time."""
        if not channels:
            return
        longest = max(channel.nplc for channel in channels)
        ports = [channel.smu.port for channel in channels]
        samples = self.plant.observe(ports, longest / self.number("line_frequency"))[0]
        for channel, sample in zip(channels, samples, strict=True):
            channel.taken.append(self._record(channel, channel.smu.judge(sample, channel.nplc)))

    @staticmethod
    def _record(channel: Channel, found: SmuReading) -> dict[str, float]:
        smu = channel.smu
        volts = found.volts if VOLT in channel.functions else nan
        amperes = found.amperes if CURR in channel.functions else nan
        status = (LIMIT_BITS if found.limited else 0) | (CURRENT_SOURCE_BIT if smu.func == CURR else 0)
        if isinf(found.volts) or isinf(found.amperes):
            status |= OVERFLOW_BIT
        return {
            "VOLT": volts,
            "CURR": amperes,
            "RES": volts / amperes if amperes not in (0.0,) and not isinf(amperes) else nan,
            "TIME": found.time,
            "STAT": float(status),
            "SOUR": smu.levels[smu.func],
        }

    def _sent(self, channels: list[Channel], *, last: bool = False, elements: Sequence[str] | None = None) -> str:
        chosen = elements or self._elements
        rows = 1 if last else max((len(channel.taken) for channel in channels), default=0)
        parts = []
        for row in range(rows):
            for channel in channels:
                there = channel.taken[-1:] if last else channel.taken[row : row + 1]
                parts += [written(there[0][name] if there else nan) for name in chosen]
        return ",".join(parts)

    def _read(self, parameters: list[str], *, last: bool) -> str:
        channels = self._listed(parameters)
        self._run(channels, transient=True)
        return self._sent(channels, last=last)

    def _spot(self, parameters: list[str], element: str | None) -> str:
        channels = self._listed(parameters)
        for channel in channels:
            channel.trigger()
            channel.taken = []
        self._acquire(channels)
        return self._sent(channels, last=True, elements=[element] if element else None)

    def _error(self, _s: tuple[int, ...], _p: list[str]) -> str:
        code, text = self.next_error()
        return f'{code:+d},"{text}"'
