"""Order between links: what a program wrote earlier on one link takes effect before what it asks later on another.

Real instruments are reached through wires of their own, and a stepped bench must not let threads race: before a question is
answered, or time is stepped from outside, every message that has already arrived elsewhere is obeyed first.
"""

import select
import threading
import time

PATIENCE = 5e-5
"""s between two looks at the other links."""
LAZINESS = 3e-4
"""s within which the kernel carries bytes through a pseudo-terminal."""
LONGEST = 10.0
"""s after which a question is answered anyway."""


class Link:
    """What is known of one link: ``busy`` while a message is obeyed, ``waiting`` while a question stands back for others."""

    __slots__ = ("busy", "fd", "lazy", "number", "waiting")

    def __init__(self, fd: int, lazy: bool, number: int) -> None:
        self.number = number
        self.fd = fd
        self.lazy = lazy
        self.busy = False
        self.waiting = False


class Traffic:
    """All links of a bench. ``ordered`` False (real time): nobody waits for anybody."""

    def __init__(self, ordered: bool) -> None:
        self.ordered = ordered
        self._links: tuple[Link, ...] = ()
        self._joined = 0
        self._lock = threading.Lock()

    def join(self, fd: int, lazy: bool = False) -> Link:
        """A new link. ``lazy``: what was written arrives a little later (pseudo-terminals)."""
        with self._lock:
            self._joined += 1
            link = Link(fd, lazy, self._joined)
            self._links = (*self._links, link)
        return link

    def leave(self, link: Link) -> None:
        """The link is about to be closed."""
        with self._lock:
            self._links = tuple(other for other in self._links if other is not link)

    def stand_back(self, mine: Link | None = None) -> None:
        """Wait until every message that has arrived on other links has been obeyed."""
        if not self.ordered or (mine is not None and len(self._links) < 2):
            return
        if mine is not None:
            mine.waiting = True
        elif any(link.lazy for link in self._links):
            time.sleep(LAZINESS)
        try:
            until = time.perf_counter() + LONGEST
            while not self._quiet(mine) and time.perf_counter() < until:
                time.sleep(PATIENCE)  # an event would be waited for a whole tick of a coarse clock
        finally:
            if mine is not None:
                mine.waiting = False

    def _quiet(self, mine: Link | None) -> bool:
        others = [link for link in self._links if link is not mine and not link.waiting]
        if not others:
            return True
        try:
            # a link is marked busy before its bytes are taken, so that looking at the bytes first leaves no gap
            if select.select([link.fd for link in others], [], [], 0.0)[0]:
                return False
        except (OSError, ValueError):
            return False  # one of them is just being closed
        return not any(link.busy for link in others)
