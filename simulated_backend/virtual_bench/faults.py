"""What can go wrong on a bench, and where it is put on: a line, an instrument's insides, or the plant.

A fault acts at once, or when the instrument is about to get its n-th message from now (``after``): only so can it strike
between two words of one exchange. Nothing here touches the program under test.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf, nan

LINE_FAULTS = ("silence", "garbage", "delay", "half_open", "dead", "drop", "restart")
"""silence: the next ``amount`` replies never come. garbage: bytes that mean nothing come instead. delay: one reply comes
``amount`` s late. half_open: this link and the ``amount - 1`` links after it accept everything and answer nothing; on a serial
line, which knows no links, the next ``amount`` messages get lost on the way. dead: the same for good, until the bench is renewed.
drop: every link is closed, the message of that moment is obeyed (amount 1, its reply is lost) or not (amount 0). restart: the
instrument is switched off and on, with its default settings."""
INSTRUMENT_FAULTS = ("error", "overflow", "nan", "stuck", "drift")
"""error: an entry in the error queue, or the alarm of a pump. overflow, nan: the next ``amount`` readings are 9.91E37 or not a
number. stuck: the output ``where`` keeps its present level while it is on. drift: it delivers ``amount`` (V, Pa or m^3/s) more
than it should."""
PLANT_FAULTS = ("open", "short", "leak")
"""open, short: the device ``where`` (an edge) breaks, or becomes a resistor of ``amount`` ohm. leak: the same from the node
``where`` to low."""
LIQUID_FAULTS = ("clog", "empty", "turned")
"""clog: the line ``where`` of a pump or a flow controller lets nothing pass. empty: the syringe of a pump holds ``amount`` m^3
from now on. turned: somebody turns the valve to position ``amount``. A valve that is stuck does not turn."""
FAULTS = (*LINE_FAULTS, *INSTRUMENT_FAULTS, *PLANT_FAULTS)
"""What can befall every bench; ``LIQUID_FAULTS`` only one with pumps, flow controllers or valves."""
NOT_A_NUMBER = 9.91e37


@dataclass(slots=True)
class Order:
    """One fault that was asked for; it acts when ``after`` more messages have come (0: with the next one)."""

    fault: str
    amount: float
    where: str
    after: int


@dataclass(slots=True)
class LineFaults:
    """Faults that wait or act on one line. ``act``: puts a fault of an instrument or of the plant into effect; ``happened``
    is told of every fault when it begins to act."""

    act: Callable[[Order], None]
    happened: Callable[[str], None]
    messages: int = 0
    waiting: list[Order] = field(default_factory=list)
    lasting: dict[str, float] = field(default_factory=dict)

    def due(self) -> Iterator[Order]:
        """Count one message; the orders that act with it."""
        self.messages += 1
        for order in tuple(self.waiting):
            order.after -= 1
            if order.after <= 0:
                self.waiting.remove(order)
                yield order

    def begin(self, order: Order) -> None:
        """``order`` acts from now on."""
        self.happened(order.fault)
        if order.fault == "dead":
            self.lasting["half_open"] = inf
        elif order.fault in ("silence", "garbage", "delay", "half_open"):
            self.lasting[order.fault] = order.amount
        else:
            self.act(order)

    def take(self, fault: str) -> bool:
        """Whether ``fault`` spoils the present reply; one of its replies is used up."""
        left = self.lasting.get(fault, 0.0)
        if left <= 0.0:
            return False
        self.lasting[fault] = left - 1.0
        return True

    def heal(self) -> None:
        """Forget everything, and count from 0 again."""
        self.messages = 0
        self.waiting.clear()
        self.lasting.clear()


@dataclass(slots=True)
class Readings:
    """What a broken converter makes of the next readings of one instrument."""

    left: int = 0
    value: float = NOT_A_NUMBER

    def spoil(self, fault: str, amount: float) -> None:
        """The next ``amount`` readings are ``overflow`` or ``nan``."""
        self.left, self.value = round(amount), nan if fault == "nan" else NOT_A_NUMBER

    def shown(self, value: float) -> float:
        """``value`` as it is sent."""
        if self.left > 0:
            self.left -= 1
            return self.value
        return value


@dataclass(slots=True)
class OutputStage:
    """The last stage of a source: in order, stuck at a level, or off by an amount."""

    frozen: float | None = None
    drift: float = 0.0

    def delivered(self, level: float) -> float:
        """What comes out where ``level`` was asked for."""
        return level + self.drift if self.frozen is None else self.frozen
