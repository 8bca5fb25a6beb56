"""Controls that a mixer drives, among all others of a bench: which they are, how they come to their values, who guards them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hil.core.types import Quantity, SafeAction, SafeState
from instruments.mixer import Mixer
from instruments.mixer_spec import MixerSpec
from instruments.station import parse_path
from instruments.terminals import Drive
from instruments.wiring import ControlWire


def is_mixed(drive: Drive) -> bool:
    """Whether a control changes by an exchange of liquid instead of a ramp."""
    return drive.channel.quantity is Quantity.CONCENTRATION


def exchange(mixed: Sequence[tuple[Drive, float]]) -> None:
    """Bring concentrations to their values, one node after the other."""
    for drive, target in mixed:
        drive.on_course = False  # after a failure nobody knows what is in the reservoir
        drive.instrument.level_writer([drive.port_name])([target])
        drive.level = drive.commanded = target
        drive.on_course = drive.in_limits = True


def without_mixed(wires: Sequence[ControlWire], mixers: Sequence[MixerSpec]) -> list[ControlWire]:
    """Controls that an instrument of the station drives by itself."""
    names = {mixer.name for mixer in mixers}
    return [wire for wire in wires if not wire.parameter or parse_path(wire.parameter, wire.channel.name).instrument not in names]


def guarded(wires: Sequence[ControlWire], mixers: Sequence[MixerSpec]) -> list[ControlWire]:
    """What a guard has to make safe: of a mixer its pumps, which stop, and a valve that leads to waste; the rest as it is."""
    found = without_mixed(wires, mixers)
    for mixer in mixers:
        mixed = [wire.channel for wire in wires if wire.parameter.startswith(f"{mixer.name}.")]
        for stock in mixer.stocks if mixed else ():
            channel = replace(mixed[0], name=stock.pump, safe=SafeState(SafeAction.STOP))
            found.append(ControlWire(channel, f"{stock.pump}.rate"))
        if mixed and mixer.waste is not None:
            safe = SafeState(SafeAction.LEVEL, float(mixer.waste))
            found.append(ControlWire(replace(mixed[0], name=mixer.valve, safe=safe), f"{mixer.valve}.position"))
    return found


def usage(mixers: Sequence[Mixer]) -> dict[str, Any]:
    """``liquids``: what every mixer used; empty without any."""
    return {"liquids": {mixer.spec.name: mixer.usage() for mixer in mixers}} if mixers else {}
