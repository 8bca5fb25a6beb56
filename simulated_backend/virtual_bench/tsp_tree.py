"""What a TSP instrument shows to its scripts: nested tables of attributes, constants and functions, with validation.

A ``Namespace`` knows nothing of Lua; ``tsp.TspInterpreter`` turns it into Lua tables. A refused value leaves the
attribute as it was and puts a line into the error queue, as the instrument does: it does not stop the script.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from math import inf, isnan
from typing import Any

from simulated_backend.virtual_bench.tsp_errors import ErrorQueue

Getter = Callable[[], object]
Setter = Callable[[Any], None]


@dataclass
class Namespace:
    """One table. ``handle``: what Python receives when a script passes this table to a function; ``item``: table[n];
    ``numbered``: fixed tables reached by number."""

    name: str
    getters: dict[str, Getter] = field(default_factory=dict)
    setters: dict[str, Setter] = field(default_factory=dict)
    constants: dict[str, object] = field(default_factory=dict)
    functions: dict[str, Callable[..., object]] = field(default_factory=dict)
    children: dict[str, "Namespace"] = field(default_factory=dict)
    numbered: dict[int, "Namespace"] = field(default_factory=dict)
    handle: object | None = None
    item: Callable[[Any], object] | None = None

    def child(self, name: str) -> "Namespace":
        """The table ``name`` inside this one, made when it is new."""
        return self.children.setdefault(name, Namespace(f"{self.name}.{name}" if self.name else name))

    def attribute(self, name: str, get: Getter, put: Setter | None = None) -> None:
        """An attribute; read-only without ``put``."""
        self.getters[name] = get
        if put is not None:
            self.setters[name] = put

    def entry(self, name: str, owner: object, store: str, key: object, put: Setter | None = None) -> None:
        """An attribute that is ``owner.store[key]``; ``put`` sets it."""
        self.attribute(name, lambda: getattr(owner, store)[key], put)

    def entry_choice(
        self, name: str, owner: object, store: str, key: object, errors: ErrorQueue, allowed: Collection[int]
    ) -> None:
        """A setting ``owner.store[key]`` out of the numbers ``allowed``."""

        def put(value: object) -> None:
            checked = as_choice(value, errors, allowed)
            if checked is not None:
                getattr(owner, store)[key] = checked

        self.entry(name, owner, store, key, put)

    def number(
        self,
        name: str,
        owner: object,
        attribute: str,
        errors: ErrorQueue,
        low: float = -inf,
        high: float = inf,
        *,
        integer: bool = False,
        after: Callable[[], None] | None = None,
    ) -> None:
        """A number ``owner.attribute`` within [low, high]; ``after`` is called when it was set."""

        def put(value: object) -> None:
            checked = as_number(value, errors, low, high)
            if checked is not None:
                setattr(owner, attribute, int(checked) if integer else checked)
                if after is not None:
                    after()

        self.attribute(name, lambda: getattr(owner, attribute), put)

    def choice(
        self,
        name: str,
        owner: object,
        attribute: str,
        errors: ErrorQueue,
        allowed: Collection[int],
        after: Callable[[], None] | None = None,
    ) -> None:
        """A setting ``owner.attribute`` out of the numbers ``allowed``."""

        def put(value: object) -> None:
            checked = as_choice(value, errors, allowed)
            if checked is not None:
                setattr(owner, attribute, checked)
                if after is not None:
                    after()

        self.attribute(name, lambda: getattr(owner, attribute), put)


def as_number(value: object, errors: ErrorQueue, low: float = -inf, high: float = inf) -> float | None:
    """``value`` as a float, or None with an error queued: no number, not a number, too big, too small."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        errors.add(-104)
        return None
    if isnan(value):
        errors.add(1401, 1)
        return None
    if value > high:
        errors.add(1101)
        return None
    if value < low:
        errors.add(1102)
        return None
    return float(value)


def as_choice(value: object, errors: ErrorQueue, allowed: Collection[int]) -> int | None:
    """``value`` as one of ``allowed``, or None with an error queued."""
    checked = as_number(value, errors, min(allowed), max(allowed))
    if checked is None:
        return None
    if checked not in allowed:
        errors.add(1401, 1)
        return None
    return int(checked)
