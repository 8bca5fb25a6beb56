"""Readings of the Keithley 2400 as they are sent and kept (user's manual 2400S-900-01: FORMat:ELEMents, TRACe, CALCulate3)."""

from collections.abc import Callable
from math import isinf, isnan, nan
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simulated_backend.virtual_bench.scpi import ScpiError, choice, number

if TYPE_CHECKING:
    from simulated_backend.virtual_bench.scpi import CommandTree

ELEMENTS = ("VOLTage", "CURRent", "RESistance", "TIME", "STATus")
ORDER = ("VOLT", "CURR", "RES", "TIME", "STAT")
OVERFLOW, NOT_A_NUMBER = 9.9e37, 9.91e37
LONGEST_BUFFER = 2500
STATISTICS: dict[str, Callable[[list[float]], float]] = {
    "MEAN": lambda values: float(np.mean(values)),
    "MAX": max,
    "MIN": min,
    "SDEV": lambda values: float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
    "PKPK": lambda values: max(values) - min(values),
}


class Reading(NamedTuple):
    """V and A (NaN: not measured, ±inf: overflow), s, status bits."""

    volts: float
    amperes: float
    time: float
    status: int


class Store:
    """The sample buffer (what FETCh? sends), the trace buffer, and the elements of both."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """All elements, both buffers empty."""
        self.elements = list(ORDER)
        self._sample: list[Reading] = []
        self._trace: list[Reading] = []
        self._points = 100
        self._filling = False
        self._statistic = "MEAN"

    def declare(self, tree: "CommandTree") -> None:
        """Add the TRACe and CALCulate3 commands."""
        add = tree.add
        add("TRACe:POINts", lambda _s, p: self._resize(p), lambda _s, _p: str(self._points))
        add("TRACe:POINts:ACTual", query=lambda _s, _p: str(len(self._trace)))
        add("TRACe:FEED", lambda _s, p: choice(p, ("SENSe#", "SENSe", "SENSe1")) and None, lambda _s, _p: "SENS1")
        add("TRACe:FEED:CONTrol", lambda _s, p: self._feed(p), lambda _s, _p: "NEXT" if self._filling else "NEV")
        add("TRACe:CLEar", lambda _s, _p: self._trace.clear())
        add("TRACe:DATA", query=lambda _s, _p: self.sent(self._trace))
        words = ("MEAN", "SDEViation", "MAXimum", "MINimum", "PKPK")
        add("CALCulate3:FORMat", lambda _s, p: setattr(self, "_statistic", choice(p, words)), lambda _s, _p: self._statistic)
        add("CALCulate3:DATA", query=lambda _s, _p: self._statistics())

    def choose(self, chosen: set[str]) -> None:
        """Send these elements from now on, in the instrument's own order."""
        self.elements = [name for name in ORDER if name in chosen]

    def take(self, readings: list[Reading]) -> None:
        """Keep what one run has measured."""
        self._sample = readings
        if self._filling:
            self._trace.extend(readings[: self._points - len(self._trace)])
            self._filling = len(self._trace) < self._points

    def fetch(self) -> str:
        """The readings of the last run."""
        if not self._sample:
            raise ScpiError(-230)
        return self.sent(self._sample)

    def sent(self, readings: list[Reading]) -> str:
        """Readings as text."""
        return ",".join(f"{self._element(reading, name):+.6E}" for reading in readings for name in self.elements)

    @staticmethod
    def _element(reading: Reading, name: str) -> float:
        if name == "RES":
            value = reading.volts / reading.amperes if reading.amperes not in (0.0,) and not isinf(reading.amperes) else nan
        else:
            value = {"VOLT": reading.volts, "CURR": reading.amperes, "TIME": reading.time, "STAT": float(reading.status)}[name]
        if isnan(value):
            return NOT_A_NUMBER
        return (OVERFLOW if value > 0.0 else -OVERFLOW) if isinf(value) else value

    def _resize(self, parameters: list[str]) -> None:
        self._points = round(number(parameters, 1, LONGEST_BUFFER, 100))
        self._trace.clear()

    def _feed(self, parameters: list[str]) -> None:
        self._filling = choice(parameters, ("NEXT", "NEVer")) == "NEXT"
        if self._filling:
            self._trace.clear()

    def _statistics(self) -> str:
        if not self._trace:
            raise ScpiError(-230)
        columns = [name for name in self.elements if name in ("VOLT", "CURR", "RES")]
        made = STATISTICS[self._statistic]
        return ",".join(f"{made([self._element(reading, name) for reading in self._trace]):+.6E}" for name in columns)
