"""Voltages whose difference is limited, on instruments that cannot be switched off at one moment: down together, in steps.

Every terminal goes to its goal plus what is left of its distance from there, cut off at a common bound; the bound shrinks
by ``largest_step`` at the most, and nobody takes the next step before everybody has confirmed the last. Cutting off at one
bound widens no difference, and where one has taken a step that the other has still to take, their difference is no larger
than it was, or than that of their goals and a step together: within the limit, in whatever order they obey.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import ceil, inf
from typing import Any

from instruments.guard_instrument import Instrument, Say, Stand
from instruments.guard_links import LinkError

PARTNERS = 0.05
"""s after which those who have answered go without the others."""
IN_TIME = 0.08
"""s after which no further step is taken, however large the last one: being off goes first."""
FIRST_PACE = 2e-3
"""s that a step is taken to last before one has been seen."""
FASTEST_PACE = 1e-5
"""s that a step lasts at least, whatever a clock says that ticks more slowly."""
SHORTEST_PATIENCE = 0.01
"""s that an instrument has for a step at least."""


def largest_step(edges: Iterable[tuple[str, str, float]], goals: Mapping[str, float]) -> float:
    """V by which the bound may shrink at a time; edges: (plus, minus, limit V) between names of ``goals`` (V).

    Infinite where no edge has both its ends there.
    """
    return max(0.0, min((limit - abs(goals[plus] - goals[minus]) for plus, minus, limit in edges), default=inf))


def bounded(levels: Mapping[str, float], goals: Mapping[str, float], bound: float) -> dict[str, float]:
    """Where those of ``levels`` have to go that are further than ``bound`` from their ``goals`` (all V)."""
    return {
        name: goals[name] + (bound if level > goals[name] else -bound)
        for name, level in levels.items()
        if abs(level - goals[name]) > bound
    }


def steps_left(bound: float, step: float) -> float:
    """Steps of ``step`` or less that take ``bound`` to 0; the last of them is the safe state itself."""
    return ceil(bound / step * (1.0 - 1e-9)) if step > 0.0 else inf


class Descent:
    """One group of the plan: ``channels`` (those that are left at once are waited for) and the ``step`` that they may take.

    ``begun``: when the rescue began, on the monotonic clock.
    """

    def __init__(self, group: Mapping[str, Any], instruments: Sequence[Instrument], say: Say, begun: float) -> None:
        self._names = frozenset(group["channels"])
        self._largest = float(group["step"])
        self._say = say
        self._begun = begun
        self._goals: dict[str, float] = {}
        self._at: dict[str, Instrument] = {}
        self._members: list[Instrument] = []
        for one in instruments:
            mine = [terminal for terminal in (*one.at_once, *one.stepped) if terminal["channel"] in self._names]
            if mine:
                self._members.append(one)
            for terminal in one.stepped:
                if terminal["channel"] in self._names:
                    self._at[terminal["channel"]] = one
                    self._goals[terminal["channel"]] = float(terminal["goal"])
        self._taken = 0

    def run(self, looks: Mapping[str, "Future[Stand]"]) -> None:
        """Down and into the safe state, whatever becomes of single instruments; raises what the first of them had to say."""
        present, stand = self._present(looks)
        names = ", ".join(sorted(self._goals))
        with ThreadPoolExecutor(len(self._members)) as pool:
            late = [pool.submit(self._late, one, looks[one.name]) for one in self._members if one not in present]
            for one in self._members:
                if one not in present:
                    self._say(
                        f"{one.name} did not answer in time: the others of {names} go without it, whatever their difference"
                    )
            try:
                self._down(list(present), {name: value for name, (value, on) in stand.items() if on}, pool)
            finally:
                parting = [pool.submit(self._leave, one) for one in present]
        for future in (*parting, *late):
            future.result()

    def _present(self, looks: Mapping[str, "Future[Stand]"]) -> tuple[list[Instrument], Stand]:
        """Who answered in time, and where their terminals stand."""
        present: list[Instrument] = []
        stand: Stand = {}
        for one in self._members:
            look = looks[one.name]
            try:
                failed = look.exception(max(0.0, self._begun + PARTNERS - time.monotonic())) is not None
            except TimeoutError:
                continue
            if not failed:
                present.append(one)
                stand |= {name: where for name, where in look.result().items() if name in self._goals}
        return present, stand

    def _late(self, one: Instrument, look: "Future[Stand]") -> None:
        look.exception()
        self._leave(one)

    def _leave(self, one: Instrument) -> None:
        one.leave(self._names)
        mine = ", ".join(terminal["channel"] for terminal in one.stepped if terminal["channel"] in self._names)
        if mine:
            self._say(f"{one.name}: {mine} left in the safe state after {self._elapsed()} (steps: {self._taken + 1})")

    def _down(self, following: list[Instrument], levels: dict[str, float], pool: ThreadPoolExecutor) -> None:
        """Take every step but the last; who does not follow is taken out of ``following``."""
        bound = max((abs(level - self._goals[name]) for name, level in levels.items()), default=0.0)
        began, hurried = time.monotonic(), False
        while (needed := steps_left(bound, self._largest)) > 1:
            now = time.monotonic()
            pace = max((now - began) / self._taken, FASTEST_PACE) if self._taken else FIRST_PACE
            count = min(needed, int((self._begun + IN_TIME - now) / pace))
            if count < needed and not hurried:
                hurried = True
                self._say(
                    f"no time for {needed:g} more steps of {self._largest:g} V: {', '.join(sorted(levels))} take larger ones"
                )
            if count <= 1:
                break
            bound -= bound / count
            for one in self._step(following, bounded(levels, self._goals, bound), pool):
                following.remove(one)
                levels = {name: level for name, level in levels.items() if self._at[name] is not one}
            self._taken += 1

    def _step(self, following: Sequence[Instrument], levels: Mapping[str, float], pool: ThreadPoolExecutor) -> list[Instrument]:
        """One step of everybody; who did not follow."""
        patience = max(SHORTEST_PATIENCE, self._begun + IN_TIME - time.monotonic())
        parts = [(one, {name: level for name, level in levels.items() if self._at[name] is one}) for one in following]
        told = [(one, pool.submit(self._followed, one, part, patience)) for one, part in parts if part]
        return [one for one, followed in told if not followed.result()]

    def _followed(self, one: Instrument, levels: dict[str, float], patience: float) -> bool:
        try:
            one.step(levels, patience)
        except LinkError as error:
            self._say(f"{one.name}: {error}; the others go down without it, whatever their difference")
            return False
        return True

    def _elapsed(self) -> str:
        return f"{1000.0 * (time.monotonic() - self._begun):.1f} ms"
