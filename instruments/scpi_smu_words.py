"""Headers and ranges of SCPI source-measure units, and what leaves one alone: data that needs no open instrument."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hil.core.types import BoolArray, FloatArray, SafeAction
from instruments.roles import OVERFLOW
from instruments.safe_commands import SafeCommands
from instruments.wiring import Setting

MARK = 60
"""Event enable register of a unit that we configured; 0 once it has been switched off and on."""


@dataclass(frozen=True, slots=True)
class SmuWords:
    """Headers of one terminal: level and range of the source, limit, whether it is reached, output, off state and its words.

    ``function``: the command that makes it source volts. ``abort``: what ends a sweep that runs. ``protection``: the voltage that
    its terminal never exceeds, whatever the level; how a step of that is written, and that there is none. ``finest``: what lets
    autorange go down to the smallest range. ``auto_zero``: empty where there is no choice.
    """

    function: str
    level: str
    range: str
    limit: str
    tripped: str
    output: str
    off_mode: str
    off_zero: str
    off_open: str
    current_range: str
    nplc: str
    four_wire: str
    finest: str = ""
    auto_zero: str = ""
    abort: str = ":ABOR"
    protection: str = ""
    protected: str = "{:g}"
    unprotected: str = "NONE"


@dataclass(frozen=True, slots=True)
class SmuSpan:
    """Ranges (V, A), largest levels (V, A), limits that the model takes (A), integration times (PLC).

    ``protections``: steps of the voltage protection, V, rising.
    ``voltage_errors``: largest difference, V, between level and reading on each voltage range: source and meter, one year.
    """

    voltage_ranges: tuple[float, ...]
    voltage_errors: tuple[float, ...]
    current_ranges: tuple[float, ...]
    largest: tuple[float, float]
    compliance: tuple[float, float]
    nplc: tuple[float, float]
    protections: tuple[float, ...] = ()


def safe_smu(words: SmuWords, action: SafeAction, value: float, settings: Mapping[str, Setting]) -> SafeCommands:
    """Whatever runs is aborted; off as the bench file wants it, and 0 V; or held at another level."""
    where = f"{words.level}?;{words.output}?"
    moving = SafeCommands(
        leave=(),
        query=where,
        expected=r"^[-+.0-9Ee]+;\s*[01]$",
        attention=(words.abort,),
        measure=where,
        measured=r"^([-+.0-9Ee]+);\s*[01]$",
        active=r";\s*1$",
        move=(f"{words.level} {{level:.9g}}",),
    )
    if action is SafeAction.LEVEL and value != 0.0:
        return replace(moving, leave=(f"{words.level} {value:.9g}",))
    clamped = action is SafeAction.LEVEL and settings.get("off_mode", "zero") == "zero"
    mode = words.off_zero if clamped else words.off_open
    leave = (f"{words.off_mode} {mode}", f"{words.output} OFF", f"{words.level} 0")
    return replace(moving, leave=leave, query=f"{words.off_mode}?;{words.output}?", expected=rf"(?i)^{mode}\w*;\s*0$")


def flagged(status: FloatArray, bits: int) -> BoolArray:
    """Where a status word has one of ``bits``, or is none: 9.91E37 stands for that as well."""
    there = np.abs(status) < OVERFLOW
    has: BoolArray = (np.where(there, status, 0.0).astype(np.int64) & bits) != 0
    return has | ~there
