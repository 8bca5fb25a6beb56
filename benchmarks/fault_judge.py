"""The judge of the fault campaign: readings, outputs and limits, compared with the truth by the side door of the plant."""

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import inf
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmarks.fault_benches import FaultBench, Places
from benchmarks.fault_draws import OF_DEVICES, OF_RECORD, PASSING
from hil.core.events import Event, Measured
from hil.core.hydrostatics import ATMOSPHERE
from hil.core.types import Quantity
from hil.experiment.bench_terminals import Output

TOLERANCE = {
    "voltage": 0.02,
    "pressure": 100.0,
    "concentration": 6e-3,
    "voltage_difference": 0.02,
    "pressure_difference": 150.0,
}
"""Accuracy of sources and controllers by their data sheets, rounded up: limits are kept by instruments, not by the program.

A concentration: 1 % of each pump, and 1 % of 0.4 mol/m^3 that stood in the reservoir before.
"""
OFF = {"V": 0.02, "Pa": 500.0}
"""A source within this of 0 V counts as off; a pressure within this of the atmosphere counts as vented. Nothing may flow."""
PUMP_ERROR, TRACE = 0.0101, 1e-12
"""By the data sheets, rounded up; and m^3 that no pump can count."""
SEEN = (Quantity.CURRENT, Quantity.VOLTAGE)
"""What meters of terminals read."""


@dataclass
class Led:
    """What one fault that acted led to. ``model``: driver class of its instrument, or device, or record."""

    fault: str
    model: str
    to: str
    reason: str = ""


@dataclass
class Tally:
    """Everything that was counted."""

    injections: int = 0
    outputs_left_on: int = 0
    limits_exceeded: int = 0
    measurements_lost: int = 0
    wrong_values_accepted: int = 0
    readings: int = 0
    stops: int = 0
    resumed: int = 0
    complete: int = 0
    runs: int = 0
    led: list[Led] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Count what ``other`` counted, too."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def note(self, sentence: str) -> None:
        """Remember what was found wrong."""
        self.notes.append(sentence)


class Judge:
    """A listener that compares every reading with the plant the moment it is accepted. ``count``: called once per block.

    ``outside``: what had gone beyond a limit by then, as ``beyond`` says it.
    """

    def __init__(self, bench: FaultBench, places: Places, door: Any, tally: Tally, count: Callable[[], None]) -> None:
        self._bench, self._door, self._tally, self._count = bench, door, tally, count
        self._limits = places.limits()
        self.outside: dict[str, str] = {}
        self._controls, self._outputs = places.file.controls, places.file.outputs
        self._broken = 0
        self._measured = self._counts(Truth(door))
        self.rows = 0

    def __call__(self, event: Event) -> None:
        """Judge a block of readings that has just been put on record."""
        if not isinstance(event, Measured):
            return
        happened = self._door.happened()
        broken = sum(kind in OF_DEVICES for _, kind in happened)
        truths = [Truth(self._door)]
        if broken > self._broken:
            # A device may break between two looks of an instrument, and before the reading is on record.
            truths.append(Truth(self._door, self._door.before()))
        self._broken = broken
        stale = self._stale(truths[0])
        for row, stimulus in enumerate(event.stimuli):
            self.rows += 1
            self._tally.readings += 1
            values = event.readings.values[row]
            if event.readings.overload[row].any() or not np.isfinite(values).all():
                continue  # marked as no data
            wrong = [
                *stale,
                *self._wrong(truths, self._outputs, values, self._bench.reading_error),
                *self._wrong(truths, self._controls, stimulus.values, self._bench.tolerance),
            ]
            if wrong:
                self._tally.wrong_values_accepted += 1
                self._tally.note(f"{self._bench.name}: accepted {', '.join(wrong)} with {happened}")
        self.outside |= beyond(self._door, self._limits)
        self._count()

    def _stale(self, truth: "Truth") -> list[str]:
        """Outputs that were not measured again for this block, or not since a source, an outlet or a pump changed last.

        Value and truth of such a reading are equally old, and agree.
        """
        changed, counts, found = truth.changed(self._controls.values()), self._counts(truth), []
        for name, count in counts.items():
            early = changed - truth.seen(self._outputs[name])[3]
            if count <= self._measured[name]:
                found.append(f"stale {name} (not measured since the reading before)")
            elif early > 0.0:
                found.append(f"stale {name} (measured {early:.3g} s before the stimulus changed last)")
        self._measured = counts
        return found

    def _counts(self, truth: "Truth") -> dict[str, int]:
        """Output that a meter reads -> how often that meter has measured there."""
        return {name: truth.seen(output)[4] for name, output in self._outputs.items() if output.quantity in SEEN}

    @staticmethod
    def _wrong(
        truths: Sequence["Truth"],
        terminals: Mapping[str, Any],
        values: Iterable[float],
        allowed: Mapping[str, float],
    ) -> list[str]:
        found = []
        for (name, terminal), taken in zip(terminals.items(), values, strict=True):
            real = [truth.at(terminal) for truth in truths]
            most = allowed[name] if name in allowed else TOLERANCE[terminal.quantity.name.lower()]
            if not any(abs(float(taken) - one) <= most for one in real):
                found.append(f"{name} {float(taken):.6g} (truth {real[0]:.6g})")
        return found


class Truth:
    """The plant; every kind of value is asked for once, when it is first needed.

    Of what a meter reads it is the truth at the meter's last measurement of that node: a device may break, a scanner or a matrix
    take its load away the moment after. Everything else is as it stands now, unless it is ``known`` of an earlier moment.
    """

    def __init__(self, door: Any, known: Mapping[str, Any] = MappingProxyType({})) -> None:
        self._door = door
        self._known = dict(known)

    def at(self, terminal: Any) -> float:
        """True value (SI) of what ``terminal``, a control or an output of a bench file, drives or reads; NaN: never measured."""
        if isinstance(terminal, Output) and terminal.quantity in SEEN:
            voltage, current, *_ = self.seen(terminal)
            return float(current if terminal.quantity is Quantity.CURRENT else voltage)
        return float(self._asked(f"{terminal.quantity.name.lower()}s")[terminal.node])

    def seen(self, output: Any) -> tuple[float, float, bool, float, int]:
        """V, A, limited, when it began (s of the bench's machine) and number of the last measurement of ``output``."""
        seen = self._asked("sources")[output.instrument].get(output.port, {}).get("seen", {})
        return tuple(seen.get(output.node, (np.nan, np.nan, False, -inf, 0)))

    def changed(self, controls: Iterable[Any]) -> float:
        """When a source, an outlet or a pump behind ``controls`` was told something new last, s of the bench's machine."""
        moments = [-inf]
        for control in controls:
            if control.quantity is Quantity.CONCENTRATION:
                moments += [facts.get("since", -inf) for ports in self._asked("flows").values() for facts in ports.values()]
            else:
                kind = "outlets" if control.quantity is Quantity.PRESSURE else "sources"
                moments.append(self._asked(kind)[control.instrument][control.port]["since"])
        return max(moments)

    def _asked(self, what: str) -> Any:
        if what not in self._known:
            self._known[what] = getattr(self._door, what)()
        return self._known[what]


def left_on(
    door: Any, valves: Mapping[str, Container[int | None]] = MappingProxyType({}), unreachable: Collection[str] = ()
) -> list[str]:
    """Outputs that drive something although the run has ended, and valves at none of the positions that are fine for them.

    ``unreachable``: instruments that nobody can reach and of which the program has said so. They keep what they had, but a pump
    among them has to have stopped by itself; and what they drive may draw along a source that is off and holds 0 V with a few nA.
    """
    left = []
    for instrument, ports in door.sources().items():
        for port, facts in ports.items():
            drawn = bool(unreachable) and facts.get("limited", False) and abs(facts["level"] or 0.0) <= OFF["V"]
            driven = facts["source"] != "Open" and abs(facts["voltage"]) > OFF["V"] and not drawn
            if instrument not in unreachable and driven:
                left.append(f"{instrument}.{port} at {facts['level']:g}")
    for instrument, ports in door.outlets().items():
        for port, facts in ports.items():
            if instrument not in unreachable and facts["state"] != "vent" and abs(facts["pressure"] - ATMOSPHERE) > OFF["Pa"]:
                left.append(f"{instrument}.{port} {facts['state']} at {facts['pressure']:.0f} Pa")
    for instrument, ports in door.flows().items():
        for facts in ports.values():
            if facts.get("flow", 0.0) != 0.0:
                left.append(f"{instrument} delivers {facts['flow']:.3g} m^3/s")
            if instrument in valves and facts["position"] not in valves[instrument]:
                left.append(f"{instrument} stands at {facts['position']}")
    return left


def beyond(
    door: Any, limits: Mapping[str, Mapping[str, tuple[float, float]]], drift: Mapping[str, float] = MappingProxyType({})
) -> dict[str, str]:
    """Nodes and edges that went outside ``limits`` since the bench was renewed, and how far.

    ``drift``: node -> V by which its source was off its level, or one that it follows. The source goes to 0 V before it is
    switched off, and stands that far beside it.
    """
    found, extremes = {}, door.extremes()
    for quantity, by_name in limits.items():
        for name, (low, high) in by_name.items():
            least, most = extremes[quantity][name]
            below = TOLERANCE[quantity] + (max(-drift.get(name, 0.0), 0.0) if quantity == "voltage" else 0.0)
            if least < low - below or most > high + TOLERANCE[quantity]:
                found[f"{quantity} of {name}"] = f"{least:.6g} … {most:.6g}"
    return found


def reservoirs_beyond(
    door: Any, places: Places, unreachable: Container[str] = (), before: Mapping[str, float] = MappingProxyType({})
) -> dict[str, str]:
    """Driven nodes whose concentration is outside the limits of its control.

    A pump that is ``unreachable`` delivers the rest of its dose alone, to the node at which the valve was left: that node may
    have anything up to its stock. It keeps that until it is washed: what stood in a node ``before`` (``concentrations`` of the
    side door), and stands there still to the last digit, was judged when it came there.
    """
    found, flows, true = {}, door.flows(), door.concentrations()
    for name, control in places.file.controls.items():
        if control.quantity is Quantity.CONCENTRATION:
            mixer = places.file.mixers[control.instrument]
            here = flows[mixer.valve][""]["position"] == mixer.outlets[control.port]
            alone = [stock.concentration for pump, stock in mixer.pumps.items() if here and pump in unreachable]
            low, high = min(control.limits[0], *alone, inf), max(control.limits[1], *alone, -inf)
            fine = low - TOLERANCE["concentration"] <= true[control.node] <= high + TOLERANCE["concentration"]
            if not fine and true[control.node] != before.get(control.node):
                found[f"concentration of {name}"] = f"{true[control.node]:.6g} mol/m^3"
    return found


def unaccounted(door: Any, before: Any, places: Places, booked: Mapping[str, Any]) -> dict[str, str]:
    """Pumps that delivered more since ``before`` (``flows`` of the side door) than ``booked`` says, or than was in the syringe.

    ``booked``: ``results.liquids`` of a summary. What is booked may be more: an exchange that fails is booked as ordered.
    """
    found = {}
    used = {pump: volume for one in booked.values() for pump, volume in one["stock_used"].items()}
    for pump, stock in places.stocks.items():
        true = door.flows()[pump][""]["delivered"] - before[pump][""]["delivered"]
        if true > used.get(pump, 0.0) * (1.0 + PUMP_ERROR) + TRACE or true > stock.volume * (1.0 + PUMP_ERROR):
            found[f"{pump} delivered"] = f"{1e6 * true:.6g} mL, {1e6 * used.get(pump, 0.0):.6g} mL of it booked"
    return found


BLAMED: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("could not be written",), OF_RECORD),
    (("opened or shorted", "overloaded"), (*OF_DEVICES, "overflow", "nan")),
    (("not in its limits", "stuck or drifts", "stuck or clogged", "keep to its rate"), ("stuck", "drift", "clog")),
    (("switched off and on", "went off by itself"), ("restart",)),
    (("does not answer", "did not complete", "means nothing"), (*PASSING, "dead")),
)
"""What an error says, and the faults that it may speak of."""


def cause(acted: Sequence[tuple[str, str]], error: str) -> int:
    """Position of the fault that the error speaks of, by its words and by the instrument that it names; else the last.

    What led to the end stands first in an error; what failed on the way to the safe state comes after it.
    """
    first = error.split("; and then")[0]
    kinds = next((kinds for words, kinds in BLAMED if any(word in first for word in words)), ())
    places = range(len(acted) - 1, -1, -1)
    named = [place for place in places if f"'{acted[place][0]}'" in first or f" {acted[place][0]}." in first]
    fitting = [place for place in places if acted[place][1] in kinds]
    return next((place for place in (*(one for one in named if one in fitting), *named, *fitting)), len(acted) - 1)
