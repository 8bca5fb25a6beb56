"""Status registers of a TSP instrument (reference manual, "Status model"): condition, transition filters, event, enable."""

from collections.abc import Callable

from simulated_backend.virtual_bench.tsp_errors import ErrorQueue
from simulated_backend.virtual_bench.tsp_tree import Namespace

ALL_BITS = 0xFFFF


class Register:
    """One register set. ``bits``: name -> bit value; a summary bit of a child is set while child.event & child.enable."""

    def __init__(self, name: str, bits: dict[str, int], enable: int = 0) -> None:
        self.name = name
        self.bits = bits
        self._default_enable = enable
        self.own = 0
        self._children: list[tuple[int, Register]] = []
        self._seen = 0
        self.latched = 0
        self.reset()

    def reset(self) -> None:
        """status.reset(): enables and filters at their defaults; events forgotten."""
        self.enable = self._default_enable
        self.ptr = ALL_BITS
        self.ntr = 0
        self.latched = 0
        for _, child in self._children:
            child.reset()

    def add(self, bit: int, child: "Register") -> "Register":
        """Make ``bit`` the summary of ``child``."""
        self._children.append((bit, child))
        return child

    def set_condition(self, bit: int, state: bool) -> None:
        """A condition of the instrument itself begins or ends; transitions are latched at once."""
        self.own = self.own | bit if state else self.own & ~bit
        self.update()

    def update(self) -> int:
        """Follow the conditions, latch transitions; returns the condition register."""
        now = self.own
        for bit, child in self._children:
            child.update()
            if child.latched & child.enable:
                now |= bit
        rising, falling = now & ~self._seen, self._seen & ~now
        self.latched |= (rising & self.ptr) | (falling & self.ntr)
        self._seen = now
        return now

    def read_event(self) -> int:
        """The event register; reading clears it."""
        self.update()
        event = self.latched
        self.latched = 0
        return event

    def namespace(self, errors: ErrorQueue, root: Callable[[], None] = lambda: None) -> Namespace:
        """What scripts see; ``root`` lets the registers above follow before one is read."""
        space = Namespace(self.name)

        def condition() -> int:
            root()
            return self.update()

        def event() -> int:
            root()
            return self.read_event()

        space.constants.update(self.bits)
        space.attribute("condition", condition)
        space.attribute("event", event)
        for setting in ("enable", "ptr", "ntr"):
            space.number(setting, self, setting, errors, 0, ALL_BITS, integer=True)
        return space
