"""Procedures by name: every module of this folder with ``Settings`` and ``run``, and entry points of the group."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol, cast

from hil.core.errors import ConfigError
from hil.core.lab import Lab
from hil.core.outcome import Summary
from hil.core.types import Stimulus
from hil.experiment import protocol
from hil.experiment.fields import unknown
from hil.learn.registry import offered

GROUP = "memristor_hil.procedures"


class Procedure(Protocol):
    """One kind of experiment. Adding one is adding a module to this folder (or an entry point that names a module)."""

    Settings: type[protocol.Protocol]

    def run(self, settings: Any, lab: Lab) -> Summary:
        """Do the experiment on an opened lab; events go to ``lab.events``."""
        ...

    def plan(self, settings: Any, lab: Lab) -> Sequence[Stimulus]:
        """Every stimulus it could begin with and the extremes it could reach, for the check before anything is applied."""
        ...


@lru_cache(maxsize=1)
def _procedures() -> dict[str, Procedure]:
    found: dict[str, Procedure] = {}
    for name, thing in offered("hil.procedures", GROUP).items():
        if all(hasattr(thing, part) for part in ("Settings", "run", "plan")):
            found[name] = cast(Procedure, thing)
    return found


def names() -> tuple[str, ...]:
    """Names of all procedures."""
    return tuple(sorted(_procedures()))


def procedure(name: str) -> Procedure:
    """The procedure ``name``; ConfigError with the nearest name when there is none."""
    if name not in _procedures():
        raise ConfigError(unknown("procedure", name, list(names())))
    return _procedures()[name]
