"""Gradient estimators by name: every class with a ``name`` and ``estimate`` in a module of this folder, and entry points."""

from collections.abc import Callable
from functools import lru_cache
from types import ModuleType

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from hil.learn.gradients.base import GradientEstimator
from hil.learn.registry import offered

GROUP = "memristor_hil.gradients"


@lru_cache(maxsize=1)
def _classes() -> dict[str, Callable[..., GradientEstimator]]:
    found: dict[str, Callable[..., GradientEstimator]] = {}
    for thing in offered("hil.learn.gradients", GROUP).values():
        candidates = vars(thing).values() if isinstance(thing, ModuleType) else [thing]
        for candidate in candidates:
            name = getattr(candidate, "name", None)
            if isinstance(candidate, type) and isinstance(name, str) and callable(getattr(candidate, "estimate", None)):
                found[name] = candidate
    return found


def names() -> tuple[str, ...]:
    """Names of all gradient estimators."""
    return tuple(sorted(_classes()))


def gradient_estimator(
    name: str, step: FloatArray, lower: FloatArray, upper: FloatArray, **options: float | str
) -> GradientEstimator:
    """Build one by name. ``step``, ``lower``, ``upper``: (n,), coordinates.

    ConfigError for an unknown name (names the known ones), an unknown option, or a step that does not fit.
    """
    classes = _classes()
    if name not in classes:
        raise ConfigError(f"there is no gradient method {name!r}; known: {', '.join(names())}")
    try:
        return classes[name](step=step, lower=lower, upper=upper, **options)
    except TypeError as error:
        raise ConfigError(f"gradient method {name!r} does not take these options: {error}") from None
