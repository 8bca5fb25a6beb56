"""Benchmarks are found, not listed: every module of this folder with ``NAMES`` and ``run`` is one.

``NAMES``: tuple of names; ``run(name) -> Iterable[Result]`` runs one of them. A new benchmark is one new file.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable

import benchmarks as package
from benchmarks.result import Result

Run = Callable[[str], Iterable[Result]]
_ORDER = ("operating_point", "transient", "euler_step", "copies", "fd_gradient", "adjoint", "crossbar", "scaling")


def benchmarks() -> dict[str, Run]:
    """Name -> what runs it, solvers first."""
    found: dict[str, Run] = {}
    for info in pkgutil.iter_modules(package.__path__):
        if info.name in ("__main__", "registry", "result"):
            continue
        module = importlib.import_module(f"benchmarks.{info.name}")
        for name in getattr(module, "NAMES", ()):
            found[name] = module.run
    rank = {name: place for place, name in enumerate(_ORDER)}
    return dict(sorted(found.items(), key=lambda item: rank.get(item[0].split("/")[0], len(rank))))
