"""One delivery of a mixer: its pumps run side by side, are asked again and again, and stop by themselves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hil.core.clock import Clock
from hil.core.errors import InstrumentError
from instruments.fluid_roles import Course, Pump
from instruments.mixer_spec import TURN_LOOK

LOOK_EVERY = 5.0
"""s between two looks at pumps that run without a watchdog."""


@dataclass
class Delivery:
    """``seconds``: how long it should take. ``patience``: s between two looks. ``joined``, ``also``: raise where the line leads
    elsewhere, or something else is not as it has to be meanwhile."""

    name: str
    pumps: Mapping[str, Pump]
    clock: Clock
    seconds: float
    patience: float
    joined: Callable[[], None]
    also: Callable[[], None]
    courses: dict[str, Course] = field(default_factory=dict)

    def start(self, pump: str, rate: float, volume: float) -> None:
        """``pump`` delivers ``volume`` m^3 at ``rate`` m^3/s."""
        asked = self.clock.now()
        self.pumps[pump].start(rate, volume)
        self.courses[pump] = Course(rate, volume, asked, self.clock.now())

    def watch(self) -> None:
        """Until all have stopped by themselves. InstrumentError as soon as one strays: the other alone mixes something else."""
        ends = self.clock.now() + self.seconds
        deadline = ends + 0.05 * self.seconds + 2.0 * LOOK_EVERY
        while True:
            self.clock.sleep(min(max(ends - self.clock.now(), TURN_LOOK), self.patience))
            running, strayed = False, list[str]()
            # All are asked every time: that keeps their watchdogs quiet.
            for pump, course in self.courses.items():
                asked = self.clock.now()
                state = self.pumps[pump].pump_state()
                running |= state.running
                if course.left(state.delivered, asked, self.clock.now()):
                    strayed.append(pump)
            if strayed:
                raise InstrumentError(
                    f"mixer {self.name!r}: pump {', '.join(map(repr, strayed))} did not keep to its rate, so that the mixture "
                    "is not what was ordered; look at its syringe and at the line"
                )
            self.joined()
            if not running:
                return
            self.also()
            if self.clock.now() > deadline:
                raise InstrumentError(f"mixer {self.name!r}: its pumps still run {self.seconds:.3g} s after they were started")
