"""The one place that reaches for numba, typed, so that compiled functions keep their signatures for the type checker.

Importing a module that decorates with ``compiled`` imports numba (half a second): such modules are imported inside
functions, never from the top of a module on the path of ``hil --help``.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

# NaN and infinity keep their meaning (a solver must see them); sums may be reordered so that loops use vector units.
_REORDER = {"reassoc", "contract", "arcp", "nsz"}


def compiled(function: Function) -> Function:
    """Machine code on first use, kept on disk; sums may be reordered, division by zero gives infinity as in numpy."""
    return cast(Function, numba.njit(error_model="numpy", cache=True, fastmath=_REORDER, nogil=True)(function))


def inlined(function: Function) -> Function:
    """As ``compiled``, for small helpers that should be pasted into their callers."""
    return cast(Function, numba.njit(error_model="numpy", cache=True, fastmath=_REORDER, nogil=True, inline="always")(function))
