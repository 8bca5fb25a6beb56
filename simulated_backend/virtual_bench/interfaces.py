"""Inert electrodes of the plant: double layers that charge as current passes, and what they come to.

V = Q/C between the terminal and its node, in series with the source. Not imitated: what reacts beyond the limit (the plant
judges and lets it happen), leakage of the double layer, a capacitance that depends on voltage or concentration.
"""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from hil.core.errors import ConfigError
from simulated_backend.virtual_bench.circuit import Circuit
from simulated_backend.virtual_bench.terminals import Terminal

VISIBLE = 1e-5
"""V that an interface may change before the network is told."""
SMALL = 1e-3
"""V that an interface changes in one span of time at the most."""


class _Interface:
    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.instrument, self.port = str(facts["instrument"]), str(facts["port"])
        self.capacitance = float(facts["capacitance"])
        self.charge = float(facts["charge"])
        self.told = self.voltage
        self.current = 0.0
        self.lowest = self.highest = self.voltage

    @property
    def voltage(self) -> float:
        return self.charge / self.capacitance

    def of(self, terminal: Terminal) -> bool:
        return terminal.instrument == self.instrument and terminal.port == self.port


class Interfaces:
    """All of a plant; ``facts``: ``instrument``, ``port``, ``capacitance`` (F) and ``charge`` (C) of each."""

    def __init__(self, facts: Sequence[Mapping[str, Any]]) -> None:
        try:
            self._all = [_Interface(one) for one in facts]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"the plan's electrodes are not understood: {error!r}") from error

    def __bool__(self) -> bool:
        return bool(self._all)

    def charge(self, circuit: Circuit, seconds: float) -> bool:
        """Let what flows now flow for ``seconds``; whether the network has to look again."""
        moved = False
        for one in self._all:
            for terminal in filter(one.of, circuit.terminals):
                if terminal.node is not None:
                    one.current = circuit.source_current(terminal, circuit.voltage, circuit.clamp_current)
                    one.charge += seconds * one.current
            one.lowest, one.highest = min(one.lowest, one.voltage), max(one.highest, one.voltage)
            moved |= abs(one.voltage - one.told) > VISIBLE
        return moved

    def pace(self) -> float:
        """s in which no interface changes by more than ``SMALL``, as it was charged last."""
        return min((SMALL * one.capacitance / abs(one.current) for one in self._all if one.current), default=inf)

    def impose(self, circuit: Circuit) -> None:
        """Put the interfacial voltages between terminals and nodes; an inert electrode follows no concentration."""
        for one in self._all:
            one.told = one.voltage
            for terminal in filter(one.of, circuit.terminals):
                terminal.offset = one.voltage

    def extremes(self) -> dict[str, list[float]]:
        """Smallest and largest interfacial voltage ever, V, by ``instrument.port``."""
        return {f"{one.instrument}.{one.port}".rstrip("."): [one.lowest, one.highest] for one in self._all}
