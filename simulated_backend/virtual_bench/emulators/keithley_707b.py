"""Keithley 707B switching matrix: six slots with cards of eight rows and twelve columns, spoken to in TSP.

Language: Models 707B and 708B reference manual 707B-901-01, "TSP command reference" (channel.close, open, exclusiveclose,
exclusiveslotclose, getclose, getstate, connectrule, setforbidden; a crosspoint is slot, row, column: 1A02; lists with commas and
ranges, "slot1", "allslots"; closed channels are listed in order, separated by semicolons, nil when there are none; a list with
an error closes nothing). Cards: 7174A data sheet, settling within 1 ms after 3 ms of actuation.

Ports: none; a closed crosspoint connects the wire that goes ``through`` it. Not imitated: offset current (below 100 fA) and
isolation (above 1e13 ohm) of the cards, channel patterns, DDC commands, front panel, TSP-Link.
"""

import re
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from simulated_backend.virtual_bench.emulator import Emulator
from simulated_backend.virtual_bench.ports import PlantView
from simulated_backend.virtual_bench.tsp import TspInterpreter
from simulated_backend.virtual_bench.tsp_errors import OPERATION_COMPLETE, POWER_ON, ErrorQueue
from simulated_backend.virtual_bench.tsp_tree import Namespace, as_number

FIRMWARE = "01.20a"
ROWS, COLUMNS = "ABCDEFGH", 12
RELAY_TIME = 4e-3
OFF, BREAK_BEFORE_MAKE, MAKE_BEFORE_BREAK = 0, 1, 2
_CROSSPOINT = re.compile(r"([1-6])([A-H])(\d\d)")


class Keithley707B(Emulator):
    """The mainframe. Option ``slots``: how many of its slots carry a card, from 1."""

    models: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "Keithley707B": {"slots": 6, "identity": "Keithley Instruments Inc., Model 707B, 1235678, 01.20a"}
    }

    def __init__(self, name: str, plant: PlantView, options: Mapping[str, object], rng: np.random.Generator) -> None:
        super().__init__(name, plant, options, rng)
        self._slots = int(self.number("slots"))
        self._closed: set[str] = set()
        self.power_on()

    def power_on(self) -> None:
        """All crosspoints open, break before make, scripts forgotten."""
        self.errors = ErrorQueue()
        self.tsp = TspInterpreter(self.errors, lambda: None)
        self._event_bits = POWER_ON
        self._reset()
        self.tsp.install(self._tables())
        self.tsp.run_factory_script("node = {[1] = localnode}")

        def silent(action: Callable[[], object]) -> Callable[[], str | None]:
            def command() -> None:
                action()

            return command

        self.tsp.common.update(
            {
                "*IDN?": lambda: str(self.options["identity"]),
                "*RST": silent(self._reset),
                "*CLS": silent(self.errors.clear),
                "*OPC": silent(self._operation_complete),
                "*OPC?": lambda: "1",
                "*WAI": lambda: None,
                "*TST?": lambda: "0",
                "*ESR?": lambda: str(self._take_events()),
            }
        )

    def receive(self, message: bytes) -> bytes | None:
        """One line of TSP; see ``TspInterpreter.receive``."""
        return self.tsp.receive(message)

    def complain(self) -> None:
        """Queue a settings conflict, as if somebody had pressed the wrong key."""
        self.errors.add(-221)

    def hang_up(self) -> None:
        """A half-sent script ends with its connection; crosspoints stay as they are."""
        self.tsp.forget_input()

    def _operation_complete(self) -> None:
        self._event_bits |= OPERATION_COMPLETE

    def _take_events(self) -> int:
        bits, self._event_bits = self._event_bits | self.errors.event_bits, 0
        self.errors.event_bits = 0
        return bits

    def _reset(self) -> None:
        self._connectrule = BREAK_BEFORE_MAKE
        self._beeper = 1
        self._forbidden: set[str] = set()
        self._move(open_=self._closed, close=set())

    # Relays --------------------------------------------------------------------------------------------------------

    def _move(self, open_: set[str], close: set[str]) -> None:
        """Open and close in the order of the connection rule; each of the two takes the actuation time."""
        opening, closing = sorted(open_ & self._closed), sorted(close - self._closed)
        steps = [(opening, False), (closing, True)]
        for crosspoints, closed in reversed(steps) if self._connectrule == MAKE_BEFORE_BREAK else steps:
            for crosspoint in crosspoints:
                self.plant.route(self.name, crosspoint, closed)
                (self._closed.add if closed else self._closed.discard)(crosspoint)
            if crosspoints and self._connectrule != OFF:
                self.plant.clock.advance(RELAY_TIME)

    def _listed(self, text: object, *, groups: bool = False) -> set[str] | None:
        """Crosspoints of a channel list; None after an error."""
        if not isinstance(text, str):
            self.errors.add(1400, 1)
            return None
        found: set[str] = set()
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            if groups and part.lower() in ("allslots", *(f"slot{slot}" for slot in range(1, self._slots + 1))):
                slots = range(1, self._slots + 1) if part.lower() == "allslots" else [int(part[-1])]
                found.update(f"{slot}{row}{column:02d}" for slot in slots for row in ROWS for column in range(1, COLUMNS + 1))
                continue
            ends = [self._known(end) for end in part.upper().split(":")]
            if None in ends or len(ends) > 2:
                self.errors.add(1401, 1)
                return None
            first, last = str(ends[0]), str(ends[-1])
            if first[:2] != last[:2]:  # a range runs along one row of one slot
                self.errors.add(1401, 1)
                return None
            low, high = sorted((int(first[2:]), int(last[2:])))
            found.update(f"{first[:2]}{column:02d}" for column in range(low, high + 1))
        return found

    def _known(self, text: str) -> str | None:
        match = _CROSSPOINT.fullmatch(text)
        if match is None or int(match[1]) > self._slots or not 1 <= int(match[3]) <= COLUMNS:
            return None
        return text

    def _close(self, text: object = None, *_: object) -> None:
        wanted = self._allowed(text)
        if wanted is not None:
            self._move(set(), wanted)

    def _allowed(self, text: object) -> set[str] | None:
        wanted = self._listed(text)
        if wanted is not None and wanted & self._forbidden:
            self.errors.add(-221)
            return None
        return wanted

    def _open(self, text: object = None, *_: object) -> None:
        wanted = self._listed(text, groups=True)
        if wanted is not None:
            self._move(wanted, set())

    def _exclusive_close(self, text: object = None, *_: object) -> None:
        wanted = self._allowed(text)
        if wanted is not None:
            self._move(self._closed - wanted, wanted)

    def _exclusive_slot_close(self, text: object = None, *_: object) -> None:
        wanted = self._allowed(text)
        if wanted:
            slots = {crosspoint[0] for crosspoint in wanted}
            self._move({one for one in self._closed if one[0] in slots} - wanted, wanted)
        elif wanted is not None:
            self.errors.add(1401, 1)

    def _get_close(self, text: object = None, *_: object) -> str | None:
        wanted = self._listed(text, groups=True)
        return ";".join(sorted(wanted & self._closed)) or None if wanted else None

    def _get_state(self, text: object = None, *_: object) -> str | None:
        wanted = self._listed(text, groups=True)
        return ";".join(str(int(one in self._closed)) for one in sorted(wanted)) if wanted else None

    def _forbid(self, text: object = None, *_: object) -> None:
        wanted = self._listed(text, groups=True)
        if wanted is not None:
            self._move(wanted, set())
            self._forbidden |= wanted

    # Tables --------------------------------------------------------------------------------------------------------

    def _tables(self) -> Namespace:
        root = Namespace("")
        channel = root.child("channel")
        channel.constants.update(OFF=OFF, BREAK_BEFORE_MAKE=BREAK_BEFORE_MAKE, MAKE_BEFORE_BREAK=MAKE_BEFORE_BREAK)
        channel.functions.update(
            close=self._close,
            open=self._open,
            exclusiveclose=self._exclusive_close,
            exclusiveslotclose=self._exclusive_slot_close,
            getclose=self._get_close,
            getstate=self._get_state,
            setforbidden=self._forbid,
            clearforbidden=lambda *_: self._forbidden.clear(),
            reset=lambda *_: self._reset(),
        )
        channel.choice("connectrule", self, "_connectrule", self.errors, (OFF, BREAK_BEFORE_MAKE, MAKE_BEFORE_BREAK))
        slots = root.child("slot")
        for slot in range(1, 7):
            there = slot <= self._slots
            table = Namespace(f"slot[{slot}]")
            card = "7174A,8x12 High Speed Low Leakage Matrix,01.00a,0" if there else "Empty Slot"
            table.constants["idn"] = card
            slots.numbered[slot] = table
        local = root.child("localnode")
        local.constants.update(model="707B", serialno="1235678", revision=FIRMWARE)
        local.choice("prompts", self.tsp, "prompts", self.errors, (0, 1))
        local.choice("showerrors", self.tsp, "show_errors", self.errors, (0, 1))
        root.child("beeper").choice("enable", self, "_beeper", self.errors, (0, 1))
        root.functions["delay"] = self._delay
        root.functions["reset"] = lambda *_: self._reset()
        root.functions["opc"] = lambda *_: self._operation_complete()
        root.functions["abort"] = lambda *_: None
        return root

    def _delay(self, seconds: object = None, *_: object) -> None:
        checked = as_number(seconds, self.errors, 0.0, 1e5)
        if checked:
            self.plant.clock.advance(checked)
