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

    ``rate``: d(node voltage)/dt in V/s, an expression. ``initial``: the state itself, not scaled.
    """

    rate: str
    initial: float
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


def held(rate: str, x: str, low: float = 0.0, high: float = 1.0) -> str:
    """``rate``, but zero where it would carry ``x`` further out of its bounds."""
    return f"((({x})>={number(high)} && ({rate})>0) || (({x})<={number(low)} && ({rate})<0) ? 0 : ({rate}))"


def _whole_power(base: str, exponent: int) -> str:
    if exponent == 0:
        return "1"
    if exponent == 1:
        return base
    half = _whole_power(base, exponent // 2)
    squared = f"({half}*{half})"
    return squared if exponent % 2 == 0 else f"({squared}*{base})"
