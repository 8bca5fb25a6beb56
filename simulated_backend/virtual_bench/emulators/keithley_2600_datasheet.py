"""Figures of the Series 2600B data sheets as tables: ranges, accuracy, resolution, noise, settling, limits.

Sources: "Models 2601B, 2602B and 2604B instrument specifications" (SPEC-2602B), "2611B, 2612B and 2614B" (SPEC-2612B),
"2634B, 2635B and 2636B" (SPEC-2636B): one year, 23 °C ± 5 °C, 1 NPLC. Every line reads: full scale, programming
resolution, source ±(fraction of value + offset), typical noise 0.1 Hz to 10 Hz peak to peak, display resolution,
measure ±(fraction of reading + offset), settling time. SI units.
The lines of the 2602B and the amperes of the 2612B were compared with the sheets; the volts of the 2612B and the ranges of
the 2636B below 1 uA are from memory (docs/instruments/keithley_2600.md).
"""

from dataclasses import dataclass
from itertools import pairwise
from math import inf

from simulated_backend.virtual_bench.smu import SmuRange


@dataclass(frozen=True, slots=True)
class Range(SmuRange):
    """One range of one quantity (volts or amperes), and how long it takes to settle, s. ``programming`` 0: it measures only."""

    settling: float


@dataclass(frozen=True, slots=True)
class Family:
    """What the models of one data sheet have in common.

    ``area``: (voltage up to, current up to): the corners of the operating area. ``input_resistance``: of the voltmeter.
    ``interlock_above``: ranges above this voltage need the interlock (inf: there is none).
    """

    volts: tuple[Range, ...]
    amperes: tuple[Range, ...]
    area: tuple[tuple[float, float], ...]
    minimum_voltage_limit: float
    minimum_current_limit: float
    default_voltage_limit: float
    default_current_limit: float
    input_resistance: float
    auto_measure_delay: bool
    interlock_above: float


OVERRANGE = 1.01
"""Source and measure ranges reach 101 % of full scale (40.4 V, 202 V, 3.03 A)."""

DERATING = ((0.1, 1e-4, 1e-4), (0.01, 8e-4, 1e-3), (0.001, 8e-3, 1e-2))
"""(NPLC, fraction of the voltage range, fraction of the current range) to add to the error term below 1 NPLC."""

_VOLTS_2602 = (
    Range(100e-3, 5e-6, 2e-4, 250e-6, 20e-6, 100e-9, 1.5e-4, 150e-6, 50e-6),
    Range(1.0, 50e-6, 2e-4, 400e-6, 50e-6, 1e-6, 1.5e-4, 200e-6, 50e-6),
    Range(6.0, 50e-6, 2e-4, 1.8e-3, 100e-6, 10e-6, 1.5e-4, 1e-3, 100e-6),
    Range(40.0, 500e-6, 2e-4, 12e-3, 500e-6, 10e-6, 1.5e-4, 8e-3, 150e-6),
)
_VOLTS_2612 = (
    Range(200e-3, 5e-6, 2e-4, 375e-6, 20e-6, 100e-9, 1.5e-4, 225e-6, 50e-6),
    Range(2.0, 50e-6, 2e-4, 600e-6, 50e-6, 1e-6, 2e-4, 350e-6, 50e-6),
    Range(20.0, 500e-6, 2e-4, 5e-3, 300e-6, 10e-6, 1.5e-4, 5e-3, 110e-6),
    Range(200.0, 5e-3, 2e-4, 50e-3, 2e-3, 100e-6, 1.5e-4, 50e-3, 700e-6),
)
# 10 µA to 1 A are the same lines on all three data sheets.
_AMPERES_COMMON = (
    Range(10e-6, 200e-12, 3e-4, 5e-9, 60e-12, 10e-12, 2.5e-4, 1.5e-9, 500e-6),
    Range(100e-6, 2e-9, 3e-4, 60e-9, 3e-9, 100e-12, 2e-4, 25e-9, 150e-6),
    Range(1e-3, 20e-9, 3e-4, 300e-9, 6e-9, 1e-9, 2e-4, 200e-9, 100e-6),
    Range(10e-3, 200e-9, 3e-4, 6e-6, 200e-9, 10e-9, 2e-4, 2.5e-6, 80e-6),
    Range(100e-3, 2e-6, 3e-4, 30e-6, 600e-9, 100e-9, 2e-4, 20e-6, 80e-6),
    Range(1.0, 20e-6, 5e-4, 1.8e-3, 70e-6, 1e-6, 3e-4, 1.5e-3, 80e-6),
)
_AMPERES_LOW = (
    Range(100e-9, 2e-12, 6e-4, 100e-12, 5e-12, 100e-15, 5e-4, 100e-12, 20e-3),
    Range(1e-6, 20e-12, 3e-4, 800e-12, 25e-12, 1e-12, 2.5e-4, 500e-12, 2e-3),
)
_AMPERES_2602 = (*_AMPERES_LOW, *_AMPERES_COMMON, Range(3.0, 20e-6, 6e-4, 4e-3, 150e-6, 1e-6, 5e-4, 3.5e-3, 80e-6))
_TOP_1A5 = Range(1.5, 20e-6, 6e-4, 4e-3, 150e-6, 1e-6, 5e-4, 3.5e-3, 120e-6)
_AMPERES_2612 = (*_AMPERES_LOW, *_AMPERES_COMMON, _TOP_1A5)
_AMPERES_2634 = (
    Range(1e-9, 20e-15, 1.5e-3, 2e-12, 800e-15, 1e-15, 1.5e-3, 240e-15, 360e-3),
    Range(10e-9, 200e-15, 1.5e-3, 5e-12, 2e-12, 10e-15, 1.5e-3, 3e-12, 90e-3),
    Range(100e-9, 2e-12, 6e-4, 50e-12, 5e-12, 100e-15, 6e-4, 40e-12, 15e-3),
    Range(1e-6, 20e-12, 3e-4, 700e-12, 25e-12, 1e-12, 2.5e-4, 400e-12, 2.5e-3),
    *_AMPERES_COMMON,
    _TOP_1A5,
)
_AMPERES_2636 = (Range(100e-12, 0.0, 0.0, 0.0, 0.0, 0.1e-15, 1.5e-3, 120e-15, 360e-3), *_AMPERES_2634)

_2602 = Family(_VOLTS_2602, _AMPERES_2602, ((6.0, 3.0), (40.0, 1.0)), 10e-3, 10e-9, 40.0, 1.0, 10e9, False, inf)
_2612 = Family(_VOLTS_2612, _AMPERES_2612, ((20.0, 1.5), (200.0, 0.1)), 20e-3, 10e-9, 20.0, 0.1, 10e9, False, 20.0)
_2634 = Family(_VOLTS_2612, _AMPERES_2634, ((20.0, 1.5), (200.0, 0.1)), 20e-3, 100e-12, 20.0, 0.1, 1e14, True, 20.0)
_2636 = Family(_VOLTS_2612, _AMPERES_2636, ((20.0, 1.5), (200.0, 0.1)), 20e-3, 100e-12, 20.0, 0.1, 1e14, True, 20.0)

MODELS: dict[str, tuple[Family, tuple[str, ...]]] = {
    "2601B": (_2602, ("smua",)),
    "2602B": (_2602, ("smua", "smub")),
    "2604B": (_2602, ("smua", "smub")),
    "2611B": (_2612, ("smua",)),
    "2612B": (_2612, ("smua", "smub")),
    "2614B": (_2612, ("smua", "smub")),
    "2634B": (_2634, ("smua", "smub")),
    "2635B": (_2636, ("smua",)),
    "2636B": (_2636, ("smua", "smub")),
}
"""Model number -> (its family, its channels)."""


def range_for(ranges: tuple[Range, ...], value: float, lowest: float = 0.0) -> Range:
    """The lowest range that reaches ``value`` and is not below ``lowest``; the highest if none does."""
    size = abs(value)
    for candidate in ranges:
        if candidate.full_scale >= lowest * (1.0 - 1e-9) and size <= candidate.full_scale * OVERRANGE * (1.0 + 1e-12):
            return candidate
    return ranges[-1]


def derating(nplc: float, current: bool) -> float:
    """Error to add below 1 NPLC, as a fraction of range: the table's lines, geometric between them, 0 from 1 NPLC on."""
    if nplc >= 1.0:
        return 0.0
    column = 2 if current else 1
    points = [(1.0, DERATING[0][column] * 0.1), *((line[0], line[column]) for line in DERATING)]
    for (upper, small), (lower, large) in pairwise(points):
        if nplc >= lower:
            share = (upper - nplc) / (upper - lower)
            return float(small ** (1.0 - share) * large**share)
    return points[-1][1]
