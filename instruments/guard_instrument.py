"""One instrument of the guard's plan: everything is said until it is confirmed, over a link that is made anew when it breaks."""

import re
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from instruments.coupled import Course
from instruments.guard_links import Link, LinkError, connect, release

PATIENCE = 60.0
"""s during which an instrument that does not answer is tried again."""
REPLY_TIMEOUT = 1.0
FIRST_PAUSE, QUICK_PAUSE, LONGEST_PAUSE = 0.001, 0.004, 0.25
QUICK = 0.25
"""s for which an instrument that does not let us in yet is tried again at once: it has only to notice that its client is gone."""
RELEASE_AFTER = 1.0
_NO_VALUE = re.compile(r"9\.9\d*[eE]\+?3[78]|\b(?:NAN|INF)", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")

Say = Callable[[str], None]
Stand = dict[str, tuple[float, bool]]
"""Channel -> where it stands (SI), and whether its source controls."""


class UnreachableError(Exception):
    """An instrument did not confirm in time."""


class Instrument:
    """One instrument of the guard's plan.

    Its terminals are left at once, or come down in steps with others (the channels of ``stepped``), or are slow.
    """

    def __init__(self, plan: dict[str, Any], say: Say, deadline: float, stepped: Collection[str] = ()) -> None:
        self.name: str = plan["name"]
        self._plan = plan
        self._say = say
        self._deadline = deadline
        self._link: Link | None = None
        self._lock = threading.Lock()
        self.at_once = [terminal for terminal in plan["terminals"] if not terminal["move"]]
        self.stepped = [terminal for terminal in plan["terminals"] if terminal["move"] and terminal["channel"] in stepped]
        self.slow = [terminal for terminal in plan["terminals"] if terminal["move"] and terminal["channel"] not in stepped]

    def start(self) -> Stand:
        """Leave what can be left at once, look at the rest: channel -> (where it stands, whether its source controls)."""
        found: Stand = {}
        if self.at_once or self.stepped:
            confirmations = [(terminal["query"], terminal["expected"]) for terminal in self.at_once]
            replies = self._confirmed(
                [message for terminal in self.at_once for message in terminal["leave"]],
                confirmations + _questions(self.stepped),
            )
            found = _understood(self.stepped, replies[len(confirmations) :])
        return found | self.look()

    def look(self) -> Stand:
        """Where the slow terminals stand (SI), and whether their sources control."""
        return _understood(self.slow, self._confirmed([], _questions(self.slow))) if self.slow else {}

    def step(self, levels: dict[str, float], patience: float) -> None:
        """Bring stepped terminals to ``levels`` (SI). LinkError, and the link is given up, unless they obey in ``patience`` s."""
        moving = [terminal for terminal in self.stepped if terminal["channel"] in levels]
        messages = [message.format(level=levels[one["channel"]], slew=0.0) for one in moving for message in one["move"]]
        with self._lock:
            try:
                self._attempt(messages, _questions(moving), patience)
            except LinkError:
                self.close()
                raise

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

    def leave(self, channels: Collection[str]) -> None:
        """Leave slow or stepped terminals in their safe states."""
        there = [*self.slow, *self.stepped]
        leaving = [terminal for terminal in there if terminal["channel"] in channels and terminal["leave"]]
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

    def _attempt(self, messages: list[str], queries: list[tuple[str, str]], patience: float | None = None) -> list[str]:
        patience = REPLY_TIMEOUT if patience is None else patience
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
                link.line(patience)
            return [self._asked(link, query, expected, patience) for query, expected in queries]
        compound = self._plan["query_joiner"]
        if compound and queries:
            link.send([*attention, *together, compound.join(query for query, _ in queries)])
            return self._replies(link, compound, [expected for _, expected in queries], patience)
        if len(queries) > 1 and not link.pipelined:
            link.send([*attention, *together])
            return [self._asked(link, query, expected, patience) for query, expected in queries]
        link.send([*attention, *together, *(query for query, _ in queries)])
        # A late reply to the dead program may come first: it is taken for an answer only if it could be one.
        return [self._reply(link, expected, patience) for _, expected in queries]

    def _asked(self, link: Link, query: str, expected: str, patience: float) -> str:
        link.send([query])
        return self._reply(link, expected, patience)

    @staticmethod
    def _replies(link: Link, compound: str, expected: list[str], patience: float) -> list[str]:
        """The replies to a compound query, which come in one line."""
        until = time.monotonic() + patience
        seen = ""
        while (left := until - time.monotonic()) > 0.0:
            seen = link.line(left)
            parts = [part.strip() for part in seen.split(compound)]
            if len(parts) == len(expected) and all(map(_answered, expected, parts)):
                return parts
        raise LinkError(f"answered {seen!r}, which does not match {expected!r}")

    @staticmethod
    def _reply(link: Link, expected: str, patience: float) -> str:
        until = time.monotonic() + patience
        seen = ""
        while (left := until - time.monotonic()) > 0.0:
            seen = link.line(left)
            if _answered(expected, seen):
                return seen
        raise LinkError(f"answered {seen!r}, which does not match {expected!r}")


def _answered(expected: str, reply: str) -> bool:
    """Whether ``reply`` could be one; LinkError for one that stands for no value, which is asked for again."""
    found = re.search(expected, reply) is not None
    if found and _NO_VALUE.search(reply):
        raise LinkError(f"answered {reply!r}, which stands for no value")
    return found


def _questions(terminals: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Where ``terminals`` stand and whether their sources control: queries, and what their replies match."""
    found = []
    for one in terminals:
        found += [(one["measure"], one["measured"]), *([(one["state"], one["states"])] if one["state"] else [])]
    return found


def _understood(terminals: Sequence[dict[str, Any]], replies: Sequence[str]) -> Stand:
    """What ``replies`` to the questions about ``terminals`` say."""
    left, found = list(replies), {}
    for terminal in terminals:
        measured = left.pop(0)
        told = re.search(terminal["measured"], measured)
        value = float(told.group(1) if told and told.re.groups else _NUMBER.findall(measured)[-1])
        state = left.pop(0) if terminal["state"] else measured
        found[terminal["channel"]] = (value + terminal.get("head", 0.0), re.search(terminal["active"], state) is not None)
    return found
