"""What the guard does when the program is gone: every instrument at once, each until it has confirmed.

Terminals without a course (voltages, currents) are left in their safe states first. Pressures that share an edge are read,
sent together to one value on their emergency slews, and vented together when they have arrived; nobody moves while a partner
does not answer, because that could put the full pressure across a channel.
"""

import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from instruments.coupled import Course, excess, linked, meeting
from instruments.guard_links import Link, LinkError, connect, release

PATIENCE = 60.0
"""s during which an instrument that does not answer is tried again."""
REPLY_TIMEOUT = 1.0
FIRST_PAUSE, QUICK_PAUSE, LONGEST_PAUSE = 0.001, 0.004, 0.25
QUICK = 0.25
"""s for which an instrument that does not let us in yet is tried again at once: it has only to notice that its client is gone."""
RELEASE_AFTER = 1.0
LEAD_PERIOD = 0.03
"""s between two steps of a pressure whose controller holds no slew."""
ARRIVAL_TIME = 10.0
"""s beyond the computed duration of a course until arriving is given up."""
ARRIVED = 100.0
"""Pa: nearer than this to its goal a pressure has arrived."""
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")

Say = Callable[[str], None]


class UnreachableError(Exception):
    """An instrument did not confirm in time."""


class Instrument:
    """One instrument of the guard's plan."""

    def __init__(self, plan: dict[str, Any], say: Say, deadline: float) -> None:
        self.name: str = plan["name"]
        self._plan = plan
        self._say = say
        self._deadline = deadline
        self._link: Link | None = None
        self._lock = threading.Lock()
        self.at_once = [terminal for terminal in plan["terminals"] if not terminal["move"]]
        self.slow = [terminal for terminal in plan["terminals"] if terminal["move"]]

    def start(self) -> dict[str, tuple[float, bool]]:
        """Leave what can be left at once, look at the rest: channel -> (where it stands, whether its source controls)."""
        if self.at_once:
            self._confirmed(
                [message for terminal in self.at_once for message in terminal["leave"]],
                [(terminal["query"], terminal["expected"]) for terminal in self.at_once],
            )
        return self.look()

    def look(self) -> dict[str, tuple[float, bool]]:
        """Where the slow terminals stand (SI), and whether their sources control."""
        if not self.slow:
            return {}
        queries = []
        for terminal in self.slow:
            queries += [(terminal["measure"], terminal["measured"]), (terminal["state"], terminal["states"])]
        replies = self._confirmed([], queries)
        found = {}
        for place, terminal in enumerate(self.slow):
            told = re.search(terminal["measured"], replies[2 * place])
            value = float(told.group(1) if told and told.re.groups else _NUMBER.findall(replies[2 * place])[-1])
            found[terminal["channel"]] = (
                value + terminal.get("head", 0.0),
                re.search(terminal["active"], replies[2 * place + 1]) is not None,
            )
        return found

    def move(self, courses: dict[str, Course], share: float | None = None) -> None:
        """Send slow terminals on their way; those that are led as far as ``share`` of it, and only those if it is given."""
        moving = [one for one in self.slow if one["channel"] in courses and (share is None or one.get("led"))]
        messages = []
        for terminal in moving:
            course = courses[terminal["channel"]]
            done = (share or 0.0) if terminal.get("led") else 1.0
            level = course.start + (course.goal - course.start) * done - terminal.get("head", 0.0)
            messages += [message.format(level=level, slew=course.slew) for message in terminal["move"]]
        if moving:
            self._confirmed(messages, [(terminal["state"], terminal["active"]) for terminal in moving])

    def leave(self, channels: list[str]) -> None:
        """Leave slow terminals in their safe states."""
        leaving = [terminal for terminal in self.slow if terminal["channel"] in channels and terminal["leave"]]
        if leaving:
            self._confirmed(
                [message for terminal in leaving for message in terminal["leave"]],
                [(terminal["query"], terminal["expected"]) for terminal in leaving],
            )

    def close(self) -> None:
        """End the link."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _confirmed(self, messages: list[str], queries: list[tuple[str, str]]) -> list[str]:
        """Send until every query is answered as expected; everything here may safely be sent twice."""
        pause, begun, released = FIRST_PAUSE, time.monotonic(), False
        while True:
            with self._lock:
                try:
                    return self._attempt(messages, queries)
                except LinkError as error:
                    problem = str(error)
                    self.close()
            now = time.monotonic()
            if now > self._deadline:
                raise UnreachableError(f"{self.name} at {self._plan['address']}: {problem}")
            if now - begun > RELEASE_AFTER and not released:
                released = True
                self._say(f"{self.name}: {problem}; asking it to drop dead links")
                release(self._plan)
            threading.Event().wait(pause)
            pause = min(2 * pause, QUICK_PAUSE if now - begun < QUICK else LONGEST_PAUSE)

    def _attempt(self, messages: list[str], queries: list[tuple[str, str]]) -> list[str]:
        link = self._link
        attention: list[str] = []
        if link is None:
            link = self._link = connect(self._plan)
            attention = list(dict.fromkeys(line for terminal in self._plan["terminals"] for line in terminal["attention"]))
        joiner = self._plan["joiner"]
        # In one line they are obeyed at one moment, so that nobody sees one terminal off and its neighbour still on.
        together = [joiner.join(messages)] if joiner and messages else messages
        if self._plan.get("answers"):
            for message in (*attention, *messages):
                link.send([message])
                link.line(REPLY_TIMEOUT)
            return [self._asked(link, query, expected) for query, expected in queries]
        compound = self._plan["query_joiner"]
        if compound and queries:
            link.send([*attention, *together, compound.join(query for query, _ in queries)])
            return self._replies(link, compound, [expected for _, expected in queries])
        link.send([*attention, *together, *(query for query, _ in queries)])
        # A late reply to the dead program may come first: it is taken for an answer only if it could be one.
        return [self._reply(link, expected) for _, expected in queries]

    def _asked(self, link: Link, query: str, expected: str) -> str:
        link.send([query])
        return self._reply(link, expected)

    @staticmethod
    def _replies(link: Link, compound: str, expected: list[str]) -> list[str]:
        """The replies to a compound query, which come in one line."""
        until = time.monotonic() + REPLY_TIMEOUT
        seen = ""
        while (left := until - time.monotonic()) > 0.0:
            seen = link.line(left)
            parts = [part.strip() for part in seen.split(compound)]
            if len(parts) == len(expected) and all(map(re.search, expected, parts)):
                return parts
        raise LinkError(f"answered {seen!r}, which does not match {expected!r}")

    @staticmethod
    def _reply(link: Link, expected: str) -> str:
        until = time.monotonic() + REPLY_TIMEOUT
        seen = ""
        while (left := until - time.monotonic()) > 0.0:
            seen = link.line(left)
            if re.search(expected, seen):
                return seen
        raise LinkError(f"answered {seen!r}, which does not match {expected!r}")


class Rescue:
    """Makes a bench safe from the guard's ``plan``; ``say`` writes the guard's log."""

    def __init__(self, plan: dict[str, Any], say: Say) -> None:
        self._say = say
        self._begun = time.monotonic()
        self._edges = [tuple(edge) for edge in plan["edges"]]
        deadline = self._begun + PATIENCE
        self._instruments = [Instrument(one, say, deadline) for one in plan["instruments"]]
        self._slow = {
            terminal["channel"]: (instrument, terminal) for instrument in self._instruments for terminal in instrument.slow
        }
        self._problems: list[str] = []

    def run(self) -> list[str]:
        """Make everything safe and stay until it is. Returns what could not be done; empty means safe."""
        with ThreadPoolExecutor(max(1, 2 * len(self._instruments))) as pool:
            looks = {instrument.name: pool.submit(self._start, instrument) for instrument in self._instruments}
            groups = linked(list(self._slow), [(plus, minus) for plus, minus, _ in self._edges])
            ways = [pool.submit(self._group, group, looks) for group in groups]
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

    def _start(self, instrument: Instrument) -> dict[str, tuple[float, bool]]:
        found = instrument.start()
        if instrument.at_once:
            names = ", ".join(terminal["channel"] for terminal in instrument.at_once)
            self._say(f"{instrument.name}: {names} left in the safe state after {self._elapsed()}")
        return found

    def _group(self, names: list[str], looks: dict[str, "Future[dict[str, tuple[float, bool]]]"]) -> None:
        """One group of linked pressures, from where it stands to the safe state."""
        stand: dict[str, tuple[float, bool]] = {}
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

    def _courses(self, moving: list[str], stand: dict[str, tuple[float, bool]]) -> tuple[dict[str, Course], float]:
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
