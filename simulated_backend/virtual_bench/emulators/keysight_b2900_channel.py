"""Inside of an emulated Keysight B2900: figures of the data sheet, one channel, and how numbers are written."""

from math import isinf, isnan

import numpy as np

from simulated_backend.virtual_bench.scpi import keyword, quoted
from simulated_backend.virtual_bench.smu import CURR, VOLT, SmuData, SmuRange, SourceMeter

NOT_A_NUMBER, OVERFLOW = 9.91e37, 9.9e37
LEAST_AUTORANGE = 1e-6
"""A: autorange goes no lower after a reset."""
SHOWN = {1.5: 1e-6, 3.0: 1e-5}
"""Resolution of the current ranges that show no millionth of their full scale."""


def data(fine: bool) -> SmuData:
    """Ranges of the models that source in steps of 1 uV, or (``fine``) of 100 nV, which have the 10 nA range, too."""
    step = 1.0 if fine else 10.0
    volts = tuple(
        SmuRange(full, 5e-7 * full * step, gain, offset, 2.5e-5 * full if full > 0.2 else 1e-5, 5e-7 * full, gain, offset)
        for full, gain, offset in ((0.2, 1.5e-4, 225e-6), (2.0, 2e-4, 350e-6), (20.0, 1.5e-4, 5e-3), (200.0, 1.5e-4, 50e-3))
    )
    amperes = tuple(
        SmuRange(full, 1e-6 * full * step, gain, offset, 2e-5 * full, SHOWN.get(full, 1e-6 * full), gain, offset)
        for full, gain, offset in (
            *(((1e-8, 1e-3, 50e-12),) if fine else ()),
            *((1e-7, 6e-4, 100e-12), (1e-6, 2.5e-4, 500e-12), (1e-5, 2.5e-4, 1.5e-9), (1e-4, 2e-4, 25e-9)),
            *((1e-3, 2e-4, 200e-9), (1e-2, 2e-4, 2.5e-6), (1e-1, 2e-4, 20e-6), (1.0, 3e-4, 1.5e-3)),
            *((1.5, 5e-4, 3.5e-3), (3.0, 4e-3, 7e-3)),
        )
    )
    area = ((6.0, 3.0), (20.0, 1.5), (200.0, 0.1))
    return SmuData(volts, amperes, area, overrange=1.05, default_limits=(2.0, 100e-6))


class Channel:
    """One channel: its terminal and what triggers make of it."""

    def __init__(self, smu: SourceMeter) -> None:
        self.smu = smu
        self.reset()

    def reset(self) -> None:
        """The defaults of *RST."""
        self.smu.reset()
        self.smu.sense_least[CURR] = self.smu.selected(CURR, LEAST_AUTORANGE)
        self.auto_on = True
        self.arms, self.arm_delay = 1, 0.0
        self.mode = {VOLT: "FIX", CURR: "FIX"}
        self.immediate = {VOLT: 0.0, CURR: 0.0}
        self.triggered = {VOLT: 0.0, CURR: 0.0}
        self.lists: dict[str, list[float]] = {VOLT: [0.0], CURR: [0.0]}
        self.sweep = {quantity: {"STAR": 0.0, "STOP": 0.0, "POIN": 1.0} for quantity in (VOLT, CURR)}
        self.keeps = False
        self.nplc = 1.0
        self.functions = {VOLT, CURR}
        self.counts = {"TRAN": 1, "ACQ": 1}
        self.delays = {"TRAN": 0.0, "ACQ": 0.0}
        self.sources = {"TRAN": "AINT", "ACQ": "AINT"}
        self.timers = {"TRAN": 20e-6, "ACQ": 20e-6}
        self.taken: list[dict[str, float]] = []

    def trigger(self) -> None:
        """What :INITiate, :READ and :MEASure do to an output before anything else, unless they have been told not to."""
        if self.auto_on and not self.smu.output:
            self.smu.set_output(True)

    def levels(self) -> list[float]:
        """Levels that triggers step through."""
        func = self.smu.func
        if self.mode[func] == "LIST":
            return self.lists[func]
        if self.mode[func] == "SWE":
            plan = self.sweep[func]
            return [float(level) for level in np.linspace(plan["STAR"], plan["STOP"], round(plan["POIN"]))]
        return [self.triggered[func]]


def functions(parameters: list[str]) -> set[str]:
    """Quoted names of functions, as VOLT and CURR."""
    found = set()
    for one in parameters:
        word = quoted([one]).upper().removesuffix(":DC")
        found.add(keyword(word, ("VOLTage", "CURRent")))
    return found


def written(value: float) -> str:
    """A number as it is sent: what is none, and what is beyond the range, too."""
    if isnan(value):
        return f"{NOT_A_NUMBER:+.6E}"
    if isinf(value):
        return f"{OVERFLOW if value > 0.0 else -OVERFLOW:+.6E}"
    return f"{value:+.6E}"
