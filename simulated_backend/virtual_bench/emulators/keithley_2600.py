"""Keithley Series 2600B source-measure units, written from the reference manual (2600BS-901-01) and the data sheets.

Not imitated: TSP-Link, triggers on digital I/O, contact check, calibration, power limits, sink mode, the speed of single
commands, autozero time, self-heating, front-panel input. Overlapped work has ended when the message that started it has.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from simulated_backend.virtual_bench.emulator import Emulator
from simulated_backend.virtual_bench.emulators.keithley_2600_buffers import BufferColumn, ReadingBuffer
from simulated_backend.virtual_bench.emulators.keithley_2600_channel import BAV, ILMT, ROF, VLMT, Channel
from simulated_backend.virtual_bench.emulators.keithley_2600_datasheet import MODELS
from simulated_backend.virtual_bench.emulators.keithley_2600_factory import FACTORY_SCRIPTS
from simulated_backend.virtual_bench.emulators.keithley_2600_schedule import Schedule
from simulated_backend.virtual_bench.emulators.keithley_2600_trigger import EventBus
from simulated_backend.virtual_bench.ports import PlantView
from simulated_backend.virtual_bench.tsp import TspInterpreter
from simulated_backend.virtual_bench.tsp_errors import OPERATION_COMPLETE, POWER_ON, ErrorQueue
from simulated_backend.virtual_bench.tsp_status import Register
from simulated_backend.virtual_bench.tsp_tree import Namespace, as_number

FIRMWARE = "3.4.2"
_MSB, _EAV, _QSB, _MAV, _ESB, _MSS, _OSB = 1, 4, 8, 16, 32, 64, 128


def _options(model: str) -> Mapping[str, object]:
    return {
        "model_number": model,
        "line_frequency": 50.0,
        "interlock": False,
        "lead_resistance": 0.0,
        "digital_low": 0,
        "instruction_limit": 50_000_000,
    }


class Keithley2600(Emulator):
    """One instrument with the channels of its model.

    Options: ``line_frequency`` (Hz), ``interlock`` (the 200 V range may be used), ``digital_low`` (digital lines that are
    pulled down from outside, as a sum of bits), ``lead_resistance`` (ohm for each of
    the two leads, seen in 2-wire operation), ``instruction_limit`` (Lua instructions a message may take).
    """

    models: ClassVar[Mapping[str, Mapping[str, object]]] = {f"Keithley{model}": _options(model) for model in MODELS}

    def __init__(self, name: str, plant: PlantView, options: Mapping[str, object], rng: np.random.Generator) -> None:
        super().__init__(name, plant, options, rng)
        self.model = str(options["model_number"])
        self.serial = f"4{int(rng.integers(100_000, 999_999))}"
        self._family, self._channel_names = MODELS[self.model]
        self._line_frequency = self.number("line_frequency")
        self._settings_drawn = rng.bit_generator.state
        self.power_on()

    def power_on(self) -> None:
        """Everything at its defaults, scripts forgotten, outputs off (NORMAL: 0 V behind 1 mA). The same device errors."""
        self.rng.bit_generator.state = self._settings_drawn
        self.errors = ErrorQueue()
        self.schedule = Schedule(self.plant)
        self.bus = EventBus(self.schedule)
        self.tsp = TspInterpreter(self.errors, self._wait_complete, instruction_limit=int(self.number("instruction_limit")))
        self._event_bits = POWER_ON
        self._event_enable = 0
        self._service_enable = 0
        self._timer_start = self.plant.clock.now()
        self._registers()
        self.channels = {
            name: Channel(
                index,
                name,
                self.name,
                self._family,
                self.plant,
                self.schedule,
                self.bus,
                self.errors,
                self._channel_status[name],
                self.rng,
                line_frequency=self._line_frequency,
                interlock=bool(self.options["interlock"]),
                lead_resistance=self.number("lead_resistance"),
                numbers=self._numbers,
            )
            for index, name in enumerate(self._channel_names)
        }
        for channel in self.channels.values():
            channel.meter.shown = self.broken.shown
        self._display = {"screen": 2, "locallockout": 0}
        self._pulled_low = 0
        self._text = ""
        self.tsp.install(self._tables())
        self.tsp.run_factory_script(FACTORY_SCRIPTS)
        self.tsp.run_factory_script("node = {[1] = localnode}")
        self._common_commands()

    def receive(self, message: bytes) -> bytes | None:
        """One line of TSP; see ``TspInterpreter.receive``."""
        reply = self.tsp.receive(message)
        if self.schedule.busy:
            self.schedule.finish_all()
        return reply

    def complain(self) -> None:
        """Queue a settings conflict, as if somebody had pressed the wrong key."""
        self.errors.add(-221)

    def redrive(self) -> None:
        """Drive every terminal as its output stage is now."""
        for channel in self.channels.values():
            channel.source.drive()

    def hang_up(self) -> None:
        """A half-sent script ends with its connection; outputs stay as they are."""
        self.tsp.forget_input()

    # ---- time and work ----------------------------------------------------------------------------------------------

    def _wait_complete(self) -> None:
        if self.schedule.busy and not self.schedule.finish_all():
            self.errors.add(-286, ": waitcomplete() would never end: a sweep waits for an event that cannot come")
            self._abort()

    def _delay(self, seconds: object = None, *_: object) -> None:
        checked = as_number(seconds, self.errors, 0.0, 1e5)
        if checked is not None:
            self.schedule.pass_time(checked)

    def _abort(self) -> None:
        for channel in self.channels.values():
            channel.abort()
        self.schedule.clear()

    def _reset(self) -> None:
        self._abort()
        for channel in self.channels.values():
            channel.reset()
        self.tsp.data_format, self.tsp.precision, self.tsp.little_endian = 1, 6, 1
        for timer in self.bus.timers:
            timer.reset()
        self._measurement.reset()

    @staticmethod
    def _numbers(table: Any) -> tuple[float, ...]:
        """Of a Lua table, which has no type; empty for anything else."""
        try:
            return tuple(float(table[index]) for index in range(1, len(table) + 1))
        except (TypeError, ValueError):
            return ()

    # ---- status model -----------------------------------------------------------------------------------------------

    def _registers(self) -> None:
        both = {name.upper(): 2 << index for index, name in enumerate(self._channel_names)}
        everything = sum(both.values())
        bits = {"VLMT": VLMT, "VOLTAGE_LIMIT": VLMT, "ILMT": ILMT, "CURRENT_LIMIT": ILMT, "ROF": ROF, "READING_OVERFLOW": ROF,
                "BAV": BAV, "BUFFER_AVAILABLE": BAV}  # fmt: skip
        self._measurement = Register("status.measurement", {**bits, "INST": 8192, "INSTRUMENT_SUMMARY": 8192})
        self._summary = self._measurement.add(8192, Register("status.measurement.instrument", both, everything))
        self._by_kind = {
            "voltage_limit": self._measurement.add(VLMT, Register("status.measurement.voltage_limit", both, everything)),
            "current_limit": self._measurement.add(ILMT, Register("status.measurement.current_limit", both, everything)),
            "reading_overflow": self._measurement.add(ROF, Register("status.measurement.reading_overflow", both, everything)),
            "buffer_available": self._measurement.add(BAV, Register("status.measurement.buffer_available", both, everything)),
        }
        self._channel_status = {
            name: self._summary.add(
                2 << index,
                Register(f"status.measurement.instrument.{name}", bits, VLMT | ILMT | ROF | BAV),
            )
            for index, name in enumerate(self._channel_names)
        }

    def _follow_channels(self) -> None:
        for kind, bit in (("voltage_limit", VLMT), ("current_limit", ILMT), ("reading_overflow", ROF), ("buffer_available", BAV)):
            for index, status in enumerate(self._channel_status.values()):
                self._by_kind[kind].set_condition(2 << index, bool(status.own & bit))
        self._measurement.update()

    def _status_byte(self) -> int:
        self._follow_channels()
        byte = _MSB if self._measurement.latched & self._measurement.enable else 0
        byte |= _EAV if len(self.errors) else 0
        self._collect_events()
        byte |= _ESB if self._event_bits & self._event_enable else 0
        return byte | (_MSS if byte & self._service_enable else 0)

    def _collect_events(self) -> None:
        self._event_bits |= self.errors.event_bits
        self.errors.event_bits = 0

    def _take_events(self) -> int:
        self._collect_events()
        bits, self._event_bits = self._event_bits, 0
        return bits

    def _clear_status(self) -> None:
        self.errors.clear()
        self._take_events()
        self._measurement.read_event()
        for register in (*self._by_kind.values(), *self._channel_status.values(), self._summary):
            register.read_event()

    def _status_table(self) -> Namespace:
        space = Namespace("status")
        space.attribute("condition", self._status_byte)
        space.number("request_enable", self, "_service_enable", self.errors, 0, 255, integer=True)
        space.number("node_enable", self, "_service_enable", self.errors, 0, 255, integer=True)
        space.functions["reset"] = lambda *_: self._measurement.reset()
        space.constants.update(MSB=_MSB, EAV=_EAV, QSB=_QSB, MAV=_MAV, ESB=_ESB, MSS=_MSS, OSB=_OSB)
        measurement = self._measurement.namespace(self.errors, self._follow_channels)
        space.children["measurement"] = measurement
        for kind, register in self._by_kind.items():
            measurement.children[kind] = register.namespace(self.errors, self._follow_channels)
        summary = self._summary.namespace(self.errors, self._follow_channels)
        measurement.children["instrument"] = summary
        for name, register in self._channel_status.items():
            summary.children[name] = register.namespace(self.errors, self._follow_channels)
        standard = space.child("standard")
        standard.attribute("condition", lambda: self._event_bits)
        standard.attribute("event", self._take_events)
        standard.number("enable", self, "_event_enable", self.errors, 0, 255, integer=True)
        standard.constants.update(OPC=1, QYE=4, DDE=8, EXE=16, CME=32, PON=128)
        sweeping = space.child("operation").child("sweeping")
        sweeping.attribute(
            "condition",
            lambda: sum(2 << index for index, channel in enumerate(self.channels.values()) if channel.sweeping),
        )
        return space

    # ---- tables -----------------------------------------------------------------------------------------------------

    def _tables(self) -> Namespace:
        root = Namespace("")
        for name, channel in self.channels.items():
            root.children[name] = channel.namespace(self.tsp.build)
        root.functions["delay"] = self._delay
        root.functions["reset"] = lambda *_: self._reset()
        root.functions["abort"] = lambda *_: self._abort()
        root.functions["opc"] = lambda *_: self._operation_complete()
        root.functions["printbuffer"] = self._print_buffer
        root.functions["makebuffer"] = lambda *_: self.errors.add(1400, 1)
        timer = root.child("timer")
        timer.functions["reset"] = lambda *_: setattr(self, "_timer_start", self.plant.clock.now())
        timer.child("measure").functions["t"] = lambda *_: self.plant.clock.now() - self._timer_start
        root.children["status"] = self._status_table()
        root.children["trigger"] = self.bus.namespace(self.errors)
        self._digital_table(root.child("digio"))
        self._node_table(root.child("localnode"))
        self._display_table(root.child("display"))
        beeper = root.child("beeper")
        self._setting(beeper, "enable", {"enable": 1})
        beeper.functions["beep"] = lambda *_: None
        return root

    def _digital_table(self, space: Namespace) -> None:
        """Lines 1 to 14: pulled up inside; what is written here or connected outside (option ``digital_low``) pulls down."""
        outside = int(self.number("digital_low"))

        def read(line: object = None, *_: object) -> int | None:
            checked = as_number(line, self.errors, 1, 14)
            return None if checked is None else 1 - (((outside | self._pulled_low) >> (int(checked) - 1)) & 1)

        def write(line: object = None, data: object = None, *_: object) -> None:
            checked, level = as_number(line, self.errors, 1, 14), as_number(data, self.errors, 0, 1)
            if checked is not None and level is not None:
                bit = 1 << (int(checked) - 1)
                self._pulled_low = self._pulled_low & ~bit if level else self._pulled_low | bit

        space.functions["readbit"] = read
        space.functions["writebit"] = write
        space.functions["readport"] = lambda *_: 0x3FFF & ~(outside | self._pulled_low)

    def _node_table(self, space: Namespace) -> None:
        space.constants.update(model=self.model, serialno=self.serial, revision=FIRMWARE, PROMPTS_ENABLE=1, ENABLE=1, DISABLE=0)
        space.attribute("linefreq", lambda: self._line_frequency, self._set_line_frequency)
        space.attribute("autolinefreq", lambda: False, lambda _value: None)
        space.choice("prompts", self.tsp, "prompts", self.errors, (0, 1))
        space.choice("showerrors", self.tsp, "show_errors", self.errors, (0, 1))
        self._setting(space, "prompts4882", {"prompts4882": 1})
        space.functions["reset"] = lambda *_: self._reset()

    def _set_line_frequency(self, value: object) -> None:
        frequency = as_number(value, self.errors, 50.0, 60.0)
        if frequency is None:
            return
        if frequency not in (50.0, 60.0):
            self.errors.add(1401, 1)
            return
        self._line_frequency = frequency
        for channel in self.channels.values():
            channel.meter.line_frequency = frequency

    def _setting(self, space: Namespace, name: str, store: dict[str, object]) -> None:
        """An attribute that is only remembered."""
        space.attribute(name, lambda: store[name], lambda value: store.__setitem__(name, value))

    def _display_table(self, space: Namespace) -> None:
        space.constants.update(SMUA=0, SMUB=1, SMUA_SMUB=2, USER=3)
        space.constants.update(MEASURE_DCAMPS=0, MEASURE_DCVOLTS=1, MEASURE_OHMS=2, MEASURE_WATTS=3)
        space.constants.update(DIGITS_4_5=4, DIGITS_5_5=5, DIGITS_6_5=6)
        store: dict[str, object] = dict(self._display)
        self._setting(space, "screen", store)
        self._setting(space, "locallockout", store)
        space.functions["clear"] = lambda *_: setattr(self, "_text", "")
        space.functions["settext"] = lambda text="", *_: setattr(self, "_text", str(text))
        space.functions["gettext"] = lambda *_: self._text
        for name in ("setcursor", "sendkey"):
            space.functions[name] = lambda *_: None
        for channel in self.channels:
            table = space.child(channel)
            self._setting(table, "digits", {"digits": 5})
            self._setting(table.child("measure"), "func", {"func": 1})
            self._setting(table.child("limit"), "func", {"func": 0})

    def _print_buffer(self, first: object = None, last: object = None, *sources: object) -> None:
        if self.schedule.busy:
            self._wait_complete()
        low, high = as_number(first, self.errors), as_number(last, self.errors)
        if low is None or high is None:
            return
        columns: list[list[float | str]] = []
        for source in sources:
            if isinstance(source, ReadingBuffer):
                columns.append(source.column("readings"))
            elif isinstance(source, BufferColumn):
                columns.append(source.values())
            else:
                self.errors.add(1401, 3)
                return
        if not columns:
            self.errors.add(1400, 3)
            return
        begin, end = max(int(low), 1) - 1, min(int(high), *(len(column) for column in columns)) if columns else 0
        if len(columns) == 1:
            values = columns[0][begin:end]
        else:
            values = [value for row in zip(*(column[begin:end] for column in columns), strict=True) for value in row]
        numbers = [value for value in values if not isinstance(value, str)]
        if len(numbers) == len(values):
            self.tsp.say_numbers(numbers)
        else:
            self.tsp.say(
                ", ".join(value if isinstance(value, str) else f"{value:.{self.tsp.precision - 1}e}" for value in values)
            )

    # ---- IEEE 488.2 -------------------------------------------------------------------------------------------------

    def _operation_complete(self) -> None:
        self._wait_complete()
        self._event_bits |= OPERATION_COMPLETE

    def _complete_query(self) -> str:
        self._wait_complete()
        return "1"

    def _common_commands(self) -> None:
        identity = self.options.get("identity")
        idn = str(identity) if identity else f"Keithley Instruments Inc., Model {self.model}, {self.serial}, {FIRMWARE}"

        def silent(action: Callable[[], object]) -> Callable[[], str | None]:
            def command() -> None:
                action()

            return command

        self.tsp.common.update(
            {
                "*IDN?": lambda: idn,
                "*RST": silent(self._reset),
                "*CLS": silent(self._clear_status),
                "*OPC": silent(self._operation_complete),
                "*OPC?": self._complete_query,
                "*WAI": silent(self._wait_complete),
                "*TRG": silent(self.bus.command),
                "*TST?": lambda: "0",
                "*STB?": lambda: str(self._status_byte()),
                "*ESR?": lambda: str(self._take_events()),
                "*ESE?": lambda: str(self._event_enable),
                "*SRE?": lambda: str(self._service_enable),
            }
        )
