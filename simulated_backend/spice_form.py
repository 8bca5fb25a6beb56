"""How a device law writes itself for SPICE: plain text expressions, no knowledge of nets or of the network.

A law that can be exported has a method ``spice`` (see ``SpiceWritable``); it stands in the file of the law, beside the
equations it repeats. ``simulated_backend.netlist`` turns what it returns into B sources and capacitors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class SpiceDrive:
    """What drives the device: ``voltage`` an expression (V, base minus tip); the others constants in Pa and mol/m^3."""

    voltage: str
    pressure_difference: float = 0.0
    concentration_base: float = 0.0
    concentration_tip: float = 0.0


@dataclass(frozen=True, slots=True)
class SpiceState:
    """One state on a node with a 1 F capacitor: the node's voltage is state / ``scale`` (state unit per volt).

    ``rate``: d(node voltage)/dt in V/s, an expression. Where it starts is what ``Device.initial_state`` says.
    """

    rate: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class SpiceModel:
    """``current``: A from base to tip, an expression; ``states`` in the order of ``Device.states``."""

    current: str
    states: tuple[SpiceState, ...] = ()


@runtime_checkable
class SpiceWritable(Protocol):
    """A device law that can write itself for SPICE."""

    def spice(self, parameters: Mapping[str, float], drive: SpiceDrive, nodes: Sequence[str]) -> SpiceModel:
        """Expressions for one device; ``nodes`` holds one expression per state: the voltage of its state node."""
        ...


_SOFT = 1e-5
"""Width of a bound, in units of the state node."""


def number(value: float) -> str:
    """A float as SPICE reads it back exactly, bracketed when negative."""
    text = repr(float(value))
    return f"({text})" if text.startswith("-") else text


def power(base: str, exponent: float) -> str:
    """``base`` (an expression that is never negative) to ``exponent``; whole powers as products, exact at zero."""
    if exponent == int(exponent) and 0 <= exponent <= 64:
        return _whole_power(f"({base})", int(exponent))
    # the offset keeps ln finite; it is below every rate that matters
    return f"exp({number(exponent)}*ln(max({base},1e-200)))"


def held(rate: str, x: str, low: float | None = 0.0, high: float | None = 1.0) -> str:
    """``rate``, but fading to zero within 1e-5 beyond the bound that it would carry ``x`` out of.

    A hard stop has no solution for an implicit integrator that steps across it. The law's current must clip ``x``.
    """
    up = "1" if high is None else f"min(max(({number(high + _SOFT)}-({x}))*{number(1 / _SOFT)},0),1)"
    down = "1" if low is None else f"min(max((({x})-{number(low - _SOFT)})*{number(1 / _SOFT)},0),1)"
    return f"({rate})*(({rate})>0 ? {up} : {down})"


def choose(v: str, knots: Sequence[float], pieces: Sequence[str]) -> str:
    """A balanced tree of conditions: piece k applies between knots k - 1 and k."""
    if not knots:
        return f"({pieces[0]})"
    middle = len(knots) // 2
    below = choose(v, knots[:middle], pieces[: middle + 1])
    above = choose(v, knots[middle + 1 :], pieces[middle + 1 :])
    return f"({v}<{number(knots[middle])} ? {below} : {above})"


def _whole_power(base: str, exponent: int) -> str:
    if exponent == 0:
        return "1"
    if exponent == 1:
        return base
    half = _whole_power(base, exponent // 2)
    squared = f"({half}*{half})"
    return squared if exponent % 2 == 0 else f"({squared}*{base})"
