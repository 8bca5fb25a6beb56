"""Trigger model of the Keithley 2450: source configuration lists, and numbered blocks that are run one after the other.

Source: Model 2450 reference manual 2450-901-01, "Trigger model" and :TRIGger:BLOCk commands of section 6. A configuration
list called VoltCustomSweepList (CurrCustomSweepList) comes from SOURce:LIST, one called VoltLinearSweepList from a linear
sweep. Counters count how often their block has been reached; they go on to the next block, and begin anew, when the count is
full. A measuring block takes one reading (revision B of the manual; newer ones let it count).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulated_backend.virtual_bench.scpi import ScpiError, boolean, number, quoted

if TYPE_CHECKING:
    from simulated_backend.virtual_bench.emulators.keithley_2450 import Keithley2450
    from simulated_backend.virtual_bench.scpi import CommandTree

MOST_TURNS = 2_000_000
"""Blocks run before a model without an end is given up (the instrument would run for ever)."""
Block = Callable[[int], int]
"""Does its work; gets its own number, returns the number of the next block."""


@dataclass(frozen=True, slots=True)
class SourceConfiguration:
    """One index of a source configuration list."""

    quantity: str
    level: float
    autorange: bool
    full_scale: float
    limit: float


class TriggerModel:
    """Blocks and configuration lists of one unit."""

    def __init__(self, unit: "Keithley2450") -> None:
        self._unit = unit
        self.reset()

    def reset(self) -> None:
        """No blocks, no lists."""
        self._blocks: dict[int, Block] = {}
        self._lists: dict[str, list[SourceConfiguration]] = {}
        self._at: dict[str, int] = {}
        self._counts: dict[int, int] = {}
        self._state = "EMPTY"
        self._limited = False

    def declare(self, tree: "CommandTree") -> None:
        """Add the TRIGger commands."""
        add = tree.add
        add("TRIGger:LOAD", lambda _s, p: self._load(p))
        add("TRIGger:STATe", query=lambda _s, _p: f"{self._state};{self._state};{max(self._blocks, default=0)}")
        add("INITiate[:IMMediate]", lambda _s, _p: self.run())
        block = "TRIGger:BLOCk"
        add(f"{block}:BUFFer:CLEar", lambda _s, p: self._put(p, 1, self._clearing(_name(p, 1))))
        add(f"{block}:CONFig:RECall", lambda _s, p: self._put(p, 2, self._recalling(quoted(p[1:2]), _whole(p, 2, 1))))
        add(f"{block}:CONFig:NEXT", lambda _s, p: self._put(p, 2, self._stepping(quoted(p[1:2]), 1)))
        add(f"{block}:CONFig:PREVious", lambda _s, p: self._put(p, 2, self._stepping(quoted(p[1:2]), -1)))
        add(f"{block}:DELay:CONStant", lambda _s, p: self._put(p, 2, self._waiting(number(p[1:2], 0.0, 1e4))))
        add(f"{block}:MEASure", lambda _s, p: self._put(p, 1, self._measuring(_name(p, 1)), most=2))
        add(f"{block}:SOURce:STATe", lambda _s, p: self._put(p, 2, self._switching(boolean(p[1:2]))))
        add(f"{block}:BRANch:ALWays", lambda _s, p: self._put(p, 2, self._jumping(_whole(p, 1, 1))))
        add(f"{block}:BRANch:COUNter", lambda _s, p: self._put(p, 3, self._counting(_whole(p, 1, 1), _whole(p, 2, 1))))
        add(f"{block}:NOP", lambda _s, p: self._put(p, 1, lambda number: number + 1))

    # Lists ---------------------------------------------------------------------------------------------------------

    def list_of(self, quantity: str) -> list[SourceConfiguration]:
        """What SOURce:LIST has stored for VOLT or CURR."""
        return self._lists.get(_list_name(quantity, sweep=False), [])

    def keep_list(self, quantity: str, values: list[SourceConfiguration], *, sweep: bool = False) -> None:
        """Store a list under its name."""
        self._lists[_list_name(quantity, sweep)] = values

    def sweep(
        self,
        quantity: str,
        delay: list[str],
        count: list[str],
        abort: list[str],
        buffer: str,
        first: int,
        linear: bool,
    ) -> None:
        """The blocks that a SWEep command makes: output on, every index with a delay and a reading, output off."""
        name = _list_name(quantity, sweep=linear)
        pause = number(delay, -1.0, 1e4) if delay else 0.0
        turns = round(number(count, 1, 268_435_455)) if count else 1
        stop_at_limit = boolean(abort) if abort else True
        points = len(self._lists[name]) - first + 1
        self._blocks = {
            1: self._clearing(buffer),
            2: self._recalling(name, first),
            3: self._switching(True),
            4: self._jumping(6),
            5: self._stepping(name, 1),
            6: self._waiting(max(pause, 0.0)),
            7: self._measuring(buffer),
            8: (lambda at: 11 if self._limited else at + 1) if stop_at_limit else (lambda at: at + 1),
            9: self._counting(points, 5),
            10: self._again(turns, 2, inner=9),
            11: self._switching(False),
        }
        self._state = "IDLE"

    # Running -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run all blocks to the end; further messages wait until then."""
        if not self._blocks:
            raise ScpiError(-221, "the trigger model is empty")
        self._counts.clear()
        self._limited = False
        at, turns = min(self._blocks), 0
        while at in self._blocks:
            at = self._blocks[at](at)
            turns += 1
            if turns > MOST_TURNS:
                self._state = "ABORTED"
                raise ScpiError(-221, "the trigger model does not end")
        self._state = "IDLE"

    def _load(self, parameters: list[str]) -> None:
        name = quoted(parameters[:1]).upper()
        self._blocks = {}
        if name == "SIMPLELOOP":
            turns, pause = _whole(parameters, 1, 1), float(parameters[2]) if len(parameters) > 2 else 0.0
            buffer = _name(parameters, 3)
            self._blocks = {
                1: self._clearing(buffer),
                2: self._waiting(pause),
                3: self._measuring(buffer),
                4: self._counting(turns, 2),
            }
        elif name != "EMPTY":
            raise ScpiError(-224, "only the trigger models Empty and SimpleLoop are imitated")
        self._state = "IDLE" if self._blocks else "EMPTY"

    def _put(self, parameters: list[str], least: int, block: Block, *, most: int = 4) -> None:
        if len(parameters) < least:
            raise ScpiError(-109)
        if len(parameters) > most:
            raise ScpiError(-108)
        position = _whole(parameters, 0, 1)
        if position > max(self._blocks, default=0) + 1:
            raise ScpiError(-221, "a block would be missing before this one")
        self._blocks[position] = block
        self._state = "IDLE"

    # Blocks --------------------------------------------------------------------------------------------------------

    def _clearing(self, buffer: str) -> Block:
        def act(at: int) -> int:
            self._unit.clear_buffer(buffer)
            return at + 1

        return act

    def _recalling(self, name: str, index: int) -> Block:
        def act(at: int) -> int:
            stored = self._stored(name)
            if not 1 <= index <= len(stored):
                raise ScpiError(-222, f"{name} has no index {index}")
            self._at[name] = index
            self._unit.recall(stored[index - 1])
            self._unit.settle()
            return at + 1

        return act

    def _stepping(self, name: str, by: int) -> Block:
        def act(at: int) -> int:
            stored = self._stored(name)
            self._at[name] = (self._at.get(name, 1) - 1 + by) % len(stored) + 1
            self._unit.recall(stored[self._at[name] - 1])
            self._unit.settle()
            return at + 1

        return act

    def _stored(self, name: str) -> list[SourceConfiguration]:
        if name not in self._lists:
            raise ScpiError(-224, f"there is no configuration list {name}")
        return self._lists[name]

    def _waiting(self, seconds: float) -> Block:
        def act(at: int) -> int:
            if seconds > 0.0:
                self._unit.plant.clock.advance(seconds)
            return at + 1

        return act

    def _measuring(self, buffer: str) -> Block:
        def act(at: int) -> int:
            self._limited |= self._unit.measure(buffer, 1)
            return at + 1

        return act

    def _switching(self, on: bool) -> Block:
        def act(at: int) -> int:
            self._unit.set_output(on)
            return at + 1

        return act

    def _jumping(self, to: int) -> Block:
        return lambda _at: to

    def _counting(self, target: int, to: int) -> Block:
        def act(at: int) -> int:
            self._counts[at] = self._counts.get(at, 0) + 1
            if self._counts[at] < target:
                return to
            self._counts[at] = 0
            return at + 1

        return act

    def _again(self, target: int, to: int, *, inner: int) -> Block:
        count = self._counting(target, to)

        def act(at: int) -> int:
            self._counts[inner] = 0
            return count(at)

        return act


def _list_name(quantity: str, sweep: bool) -> str:
    return f"{quantity.capitalize()}{'Linear' if sweep else 'Custom'}SweepList"


def _whole(parameters: list[str], place: int, least: int) -> int:
    if len(parameters) <= place:
        if place == 0:
            raise ScpiError(-109)
        return 1
    return round(number(parameters[place : place + 1], least, 268_435_455))


def _name(parameters: list[str], place: int) -> str:
    return quoted(parameters[place : place + 1]) if len(parameters) > place else "defbuffer1"
