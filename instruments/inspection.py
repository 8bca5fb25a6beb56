"""A look at one instrument that changes nothing: who it is, what it holds, whether something is on, what its errors are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from hil.core.errors import HilError
from hil.core.types import Quantity, SafeAction
from instruments.base import BenchInstrument
from instruments.housekeeping import Watched
from instruments.outputs import Interlocks
from instruments.plain_meter import port_of
from instruments.roles import Source, Telling
from instruments.station import parse_path
from instruments.wiring import ControlWire, InstrumentSpec, InterlockWire

CURRENT_LIMITS = ("compliance", "limiti")
"""Parameters of a port that tell the current limit it holds."""


class Verdict(StrEnum):
    """``NOTE`` is nothing wrong, but worth reading."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: an instrument or a channel, what of it, what was found."""

    where: str
    what: str
    found: str
    verdict: Verdict = Verdict.OK


def inspect(
    spec: InstrumentSpec,
    driver: type[Any],
    controls: Sequence[ControlWire] = (),
    interlocks: Sequence[InterlockWire] = (),
    data: Path | None = None,
    watched: Mapping[str, str] | None = None,
) -> list[Finding]:
    """Connect, ask, disconnect; what belongs to other instruments is left out. Writes no setting.

    ``watched``: name -> parameter of the housekeeping; that it is there is looked at, and no value is taken, because a reading
    may need a setting.

    ``data``: the data folder, with this lab's own records of drivers tried on hardware. The error queue is emptied by asking
    for it. Whatever cannot be asked is a finding, not an exception.
    """
    try:
        instrument: Any = driver(spec.name, spec.address, **spec.options)
    except (HilError, OSError) as error:
        return [Finding(spec.name, "identity", str(error), Verdict.WRONG)]
    try:
        found = [_asked(spec.name, "identity", lambda: _identity(instrument)), *_origin(spec.name, instrument, data)]
        if hasattr(instrument, "errors"):
            found.append(_asked(spec.name, "error queue", lambda: _errors(instrument)))
        for control in controls:
            if control.parameter and parse_path(control.parameter, control.channel.name).instrument == spec.name:
                found += _control(instrument, control)
        for wire in interlocks:
            if parse_path(wire.parameter, wire.name).instrument == spec.name:
                found.append(_asked(wire.name, "interlock", partial(_interlock, instrument, wire)))
        for name, text in (watched or {}).items():
            if parse_path(text, name).instrument == spec.name:
                found.append(_asked(name, "housekeeping", partial(_watched, name, text)))
        return found
    finally:
        instrument.close()


def _asked(where: str, what: str, ask: Callable[[], tuple[str, Verdict]]) -> Finding:
    try:
        found, verdict = ask()
    except (HilError, OSError, ValueError) as error:
        return Finding(where, what, str(error), Verdict.WRONG)
    return Finding(where, what, found, verdict)


def _identity(instrument: Any) -> tuple[str, Verdict]:
    said = instrument.identity() if hasattr(instrument, "identity") else instrument.get_idn()
    return str(said), Verdict.OK


def _origin(name: str, instrument: Any, data: Path | None) -> Iterator[Finding]:
    firmware = instrument.get_idn().get("firmware")
    yield Finding(name, "firmware", firmware or "it does not say", Verdict.OK if firmware else Verdict.NOTE)
    if isinstance(instrument, BenchInstrument):
        yield _asked(name, "driver", partial(_tried, type(instrument), data))


def _tried(driver: type[BenchInstrument], data: Path | None) -> tuple[str, Verdict]:
    records = driver.checked_on_hardware(data)
    if records:
        return f"tried on hardware: {records}", Verdict.OK
    return (
        "never tried on hardware, only on an emulator written from its manual; docs/instruments/first-check.md tells how to "
        "try it and to report back",
        Verdict.NOTE,
    )


def _errors(instrument: Any) -> tuple[str, Verdict]:
    found = instrument.errors()
    return ("; ".join(found), Verdict.NOTE) if found else ("empty", Verdict.OK)


def _control(instrument: Any, wire: ControlWire) -> Iterator[Finding]:
    channel = wire.channel
    try:
        port = port_of(instrument, parse_path(wire.parameter, channel.name).port)
    except HilError as error:
        yield Finding(channel.name, "port", str(error), Verdict.WRONG)
        return
    if isinstance(port, Source):
        yield _asked(channel.name, "output", lambda: _output(port, channel.quantity))
    if isinstance(port, Telling):
        try:
            held = port.held()
        except (HilError, OSError, ValueError) as error:
            yield Finding(channel.name, "settings", str(error), Verdict.WRONG)
            held = {}
        for what, value in held.items():
            yield _held(wire, what, value)
    if wire.compliance is not None and channel.quantity is Quantity.VOLTAGE:
        for name in CURRENT_LIMITS:
            if name in port.parameters:
                yield _asked(channel.name, "compliance", partial(_limit, port.parameters[name], wire.compliance))
                break


def _held(wire: ControlWire, what: str, value: float | str) -> Finding:
    """A setting as it stands, against what the bench file will make of it."""
    channel = wire.channel
    si = channel.quantity.value
    wanted: float | str
    if what == "slew":
        wanted, unit = channel.max_slew, f"{si}/s"
        good = isinstance(value, float) and value <= wanted * (1 + 1e-3)
    elif what == "range":
        wanted, unit = max(abs(channel.minimum), abs(channel.maximum)), si
        good = isinstance(value, float) and value >= wanted * (1 - 1e-9)
    elif what == "off_mode":
        floats = channel.safe.action is SafeAction.HIGH_IMPEDANCE
        wanted, unit = "high_impedance" if floats else str(wire.setup.get("off_mode", "zero")), ""
        good = value == wanted
    else:
        wanted, unit = si, ""
        good = str(value).lower() == si.lower()
    shown, aim = (f"{one:g} {unit}" if isinstance(one, float) else str(one) for one in (value, wanted))
    text = f"{shown} held now, the bench file wants {aim}" + ("" if good else "; set before the output goes on")
    return Finding(channel.name, what.replace("_", " "), text, Verdict.OK if good else Verdict.NOTE)


def _watched(name: str, text: str) -> tuple[str, Verdict]:
    (unit,) = Watched([(name, text)]).units.values()
    return f"{text} can be read{f' ({unit})' if unit else ''}", Verdict.OK


def _output(port: Source, quantity: Quantity) -> tuple[str, Verdict]:
    state = port.source_state()
    if not state.on:
        return "off", Verdict.OK
    # Which unit a pressure controller speaks is known only once it has been configured, and nothing is written here.
    level = f" at {state.level:g} V" if quantity is Quantity.VOLTAGE else ""
    return f"ON{level}; a run brings it home first", Verdict.NOTE


def _limit(parameter: Any, wanted: float) -> tuple[str, Verdict]:
    held = float(parameter.get())
    if held <= wanted * (1 + 1e-3):
        return f"{held:g} A held now, the bench file wants {wanted:g} A", Verdict.OK
    return f"{held:g} A held now; set to {wanted:g} A before the output goes on", Verdict.NOTE


def _interlock(instrument: Any, wire: InterlockWire) -> tuple[str, Verdict]:
    Interlocks((wire,), {instrument.name: instrument}).check()
    return f"{wire.parameter} reads {wire.expected:g} and permits sourcing", Verdict.OK
