"""What the guard does when the program is gone: every instrument at once, each until it has confirmed.

Terminals without a course (voltages, currents) are left in their safe states first: at once, or in a few steps where their
difference is limited and they stand on several instruments (``guard_descent``). Pressures that share an edge are read, sent
together to one value on their emergency slews, and vented together when they have arrived; nobody moves while a partner does
not answer, because that could put the full pressure across a channel.
"""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from instruments.coupled import Course, excess, linked, meeting
from instruments.guard_descent import Descent
from instruments.guard_instrument import PATIENCE, Instrument, Say, Stand, UnreachableError

LEAD_PERIOD = 0.03
"""s between two steps of a pressure whose controller holds no slew."""
ARRIVAL_TIME = 10.0
"""s beyond the computed duration of a course until arriving is given up."""
ARRIVED = 100.0
"""Pa: nearer than this to its goal a pressure has arrived."""


class Rescue:
    """Makes a bench safe from the guard's ``plan``; ``say`` writes the guard's log."""

    def __init__(self, plan: dict[str, Any], say: Say) -> None:
        self._say = say
        self._begun = time.monotonic()
        self._edges = [tuple(edge) for edge in plan["edges"]]
        deadline = self._begun + PATIENCE
        descents = plan.get("descents", [])
        stepped = {channel for group in descents for channel in group["channels"]}
        self._instruments = [Instrument(one, say, deadline, stepped) for one in plan["instruments"]]
        self._descents = [Descent(group, self._instruments, say, self._begun) for group in descents]
        self._slow = {
            terminal["channel"]: (instrument, terminal) for instrument in self._instruments for terminal in instrument.slow
        }
        self._problems: list[str] = []

    def run(self) -> list[str]:
        """Make everything safe and stay until it is. Returns what could not be done; empty means safe."""
        groups = linked(list(self._slow), [(plus, minus) for plus, minus, _ in self._edges])
        # A thread for everybody: an instrument may have many pressures that go home each by itself.
        with ThreadPoolExecutor(max(1, len(self._instruments) + len(self._descents) + len(groups))) as pool:
            looks = {instrument.name: pool.submit(self._start, instrument) for instrument in self._instruments}
            ways = [pool.submit(descent.run, looks) for descent in self._descents]
            ways += [pool.submit(self._group, group, looks) for group in groups]
            self._collect(looks.values())
            self._collect(ways)
        for instrument in self._instruments:
            instrument.close()
        return self._problems

    def _collect(self, futures: Iterable["Future[Any]"]) -> None:
        for future in futures:
            try:
                future.result()
            except UnreachableError as error:
                self._note(str(error))
            except Exception as error:  # noqa: BLE001 - whatever goes wrong with one instrument, the others are made safe
                self._note(f"{type(error).__name__}: {error}")

    def _start(self, instrument: Instrument) -> Stand:
        found = instrument.start()
        if instrument.at_once:
            names = ", ".join(terminal["channel"] for terminal in instrument.at_once)
            self._say(f"{instrument.name}: {names} left in the safe state after {self._elapsed()}")
        return found

    def _group(self, names: list[str], looks: dict[str, "Future[Stand]"]) -> None:
        """One group of linked pressures, from where it stands to the safe state."""
        stand: Stand = {}
        members = {self._slow[name][0].name: self._slow[name][0] for name in names}
        try:
            for instrument in members:
                stand |= looks[instrument].result()
        except UnreachableError:
            self._note(f"{', '.join(names)} hold their pressures: one of them does not answer, and they share a channel")
            return
        moving = [name for name in names if stand[name][1]]
        if moving:
            courses, duration = self._courses(moving, stand)
            self._each(members, lambda one: one.move({n: c for n, c in courses.items() if self._slow[n][0] is one}))
            ways = ", ".join(f"{n} {c.start:.0f} -> {c.goal:.0f} Pa at {c.slew:.0f} Pa/s" for n, c in courses.items())
            self._say(f"on their way after {self._elapsed()}: {ways}")
            if not self._arrive(members, courses, duration):
                return
        self._each(members, lambda one: one.leave(names))
        self._say(f"{', '.join(names)} left in the safe state after {self._elapsed()}")

    def _courses(self, moving: list[str], stand: Stand) -> tuple[dict[str, Course], float]:
        terminals = [self._slow[name][1] for name in moving]
        courses, duration = meeting(
            [stand[name][0] for name in moving],
            [(terminal["minimum"], terminal["maximum"]) for terminal in terminals],
            [terminal["goal"] for terminal in terminals],
            [terminal["slew"] for terminal in terminals],
        )
        return dict(zip(moving, courses, strict=True)), duration

    def _arrive(self, members: dict[str, Instrument], courses: dict[str, Course], duration: float) -> bool:
        self._lead(members, courses, duration)
        until = time.monotonic() + ARRIVAL_TIME
        while True:
            stand = {name: value for one in members.values() for name, (value, _) in one.look().items()}
            if all(abs(stand[name] - course.goal) < ARRIVED for name, course in courses.items()):
                return True
            if time.monotonic() > until:
                # Late, but harmless as long as nobody is far from its neighbours.
                problem = excess(stand, self._edges)
                if problem:
                    self._note(f"{', '.join(courses)} were not vented: {problem}")
                return not problem
            threading.Event().wait(0.05)

    def _lead(self, members: dict[str, Instrument], courses: dict[str, Course], duration: float) -> None:
        """Wait for ``duration`` s, and meanwhile lead those that hold no slew, in step with the others."""
        led = {name: one for name, one in members.items() if any(terminal.get("led") for terminal in one.slow)}
        begun, share = time.monotonic(), 0.0
        while led and (passed := time.monotonic() - begun) < duration:
            threading.Event().wait(min(LEAD_PERIOD, duration - passed))
            # Ahead of the straight line by as much as it will be behind it before the next step.
            share = min((time.monotonic() - begun + 0.5 * LEAD_PERIOD) / duration, 1.0)
            self._each(led, partial(Instrument.move, courses=courses, share=share))
        if led and duration > 0.0 and share < 1.0:  # the last word took until after the end
            self._each(led, partial(Instrument.move, courses=courses, share=1.0))
        if not led:
            threading.Event().wait(duration)

    def _each(self, members: dict[str, Instrument], action: Callable[[Instrument], None]) -> None:
        if len(members) == 1:  # a thread costs more than many a word
            action(next(iter(members.values())))
            return
        with ThreadPoolExecutor(len(members)) as pool:
            for future in [pool.submit(action, instrument) for instrument in members.values()]:
                future.result()

    def _elapsed(self) -> str:
        return f"{1000.0 * (time.monotonic() - self._begun):.1f} ms"

    def _note(self, problem: str) -> None:
        if problem not in self._problems:
            self._problems.append(problem)
            self._say(f"NOT SAFE: {problem}")
