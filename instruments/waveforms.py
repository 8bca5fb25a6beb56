"""Waveforms that one instrument plays by itself, from the first segment to 0 V, and samples on the way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from hil.core.errors import CapabilityError
from hil.core.safety import SafetyEnvelope
from hil.core.types import FloatArray, Quantity, Trace, Waveform, WaveformLimits
from hil.core.waveforms import moved, rest_of
from instruments.calibration import Aim, corrected, undone
from instruments.list_sweep import LONGEST_CHUNK, MOST_POINTS
from instruments.roles import Acquired
from instruments.station import parse_path
from instruments.terminals import Drive, Output, Sense, unblinded
from instruments.wiring import ControlWire, OutputWire

SHORTEST_SEGMENT = 1e-3
"""s; an instrument's own commands take some tens of microseconds each."""


@runtime_checkable
class WaveformInstrument(Protocol):
    """An instrument that plays voltages at given times and reads at given times, in one transfer."""

    def waveform_player(
        self, ports: Sequence[str], terminals: Sequence[tuple[str, str]]
    ) -> tuple[Callable[[FloatArray, FloatArray, FloatArray, float], Acquired], float]:
        """A function (levels (n, n_ports), their times (n,), times of the samples (m,), end) that plays the levels and ends at
        0 V, and returns all (port, parameter) at each sample, (m, n_terminals). And how long before its sample a reading begins,
        in s."""
        ...


@runtime_checkable
class Stepping(Protocol):
    """An instrument that goes through a waveform in equal steps."""

    def require_steps(self, times: FloatArray, lead: float) -> float:
        """The longest step, s, of which all ``times`` (levels, samples, end) are multiples. CapabilityError where it is shorter
        than the ``lead`` s of a reading, or there would be more steps than the instrument keeps."""
        ...


def waveform_limits(
    classes: Mapping[str, type[Any]], controls: Sequence[ControlWire], outputs: Sequence[OutputWire]
) -> WaveformLimits | None:
    """What a bench can play: None unless one instrument that can drives a voltage and reads every output.

    As long as a list sweep may last: the host cannot interfere while the instrument plays.
    """
    if not (all(wire.parameter for wire in controls) and all(wire.parameter for wire in outputs)):
        return None
    readers = {parse_path(wire.parameter, wire.channel.name).instrument for wire in outputs}
    if len(readers) != 1 or any(wire.through for wire in outputs):
        return None
    (name,) = readers
    drives = [wire for wire in controls if wire.channel.quantity is Quantity.VOLTAGE]
    able = any(parse_path(wire.parameter, wire.channel.name).instrument == name for wire in drives)
    if not able or not hasattr(classes.get(name), "waveform_player"):
        return None
    return WaveformLimits(MOST_POINTS, MOST_POINTS, SHORTEST_SEGMENT, LONGEST_CHUNK)


@dataclass(frozen=True)
class Playing:
    """A waveform that has been judged and can be played."""

    drives: tuple[Drive, ...]
    levels: FloatArray
    waveform: Waveform
    samples: FloatArray
    run: Callable[[FloatArray, FloatArray, FloatArray, float], Acquired]

    def __call__(self, permitted: Callable[[], None]) -> Trace:
        """Play, if ``permitted`` raises nothing; all moved drives are at 0 V afterwards."""
        permitted()
        for drive in self.drives:
            # Before the transfer: after a failure the terminal may be at any level of the waveform.
            drive.on_course = False
        acquired = self.run(self.levels, self.waveform.times, self.samples, self.waveform.end)
        for drive in self.drives:
            drive.level = drive.commanded = 0.0
            drive.on_course = True
        return Trace(self.samples, acquired.values, acquired.overload)


def prepared(
    waveform: Waveform, samples: FloatArray, drives: Sequence[Drive], senses: Sequence[Sense], envelope: SafetyEnvelope, aim: Aim
) -> Playing:
    """``waveform`` on these terminals. CapabilityError, before anything is written, where they cannot play it."""
    columns = np.flatnonzero(moved(waveform))
    rest = rest_of(envelope.layout, waveform).values
    if not len(columns):
        raise CapabilityError("no channel moves within the waveform; apply a stimulus instead")
    if not np.array_equal(waveform.connected, np.ones_like(waveform.connected) * waveform.connected[0]):
        raise CapabilityError("an instrument cannot disconnect a terminal within a waveform; leave `connected` as it is")
    swept = tuple(drives[int(column)] for column in columns)
    instrument = senses[0].instrument
    for column, drive in zip(columns, swept, strict=True):
        if drive.instrument is not instrument or drive.channel.quantity is not Quantity.VOLTAGE:
            raise CapabilityError(f"control {drive.channel.name!r} is no voltage of the instrument that plays and reads")
        if not waveform.connected[0, column]:
            raise CapabilityError(f"control {drive.channel.name!r} moves within the waveform, but is not connected")
        highest = float(np.max(np.abs(waveform.values[:, column])))
        if not highest * (drive.plan.compliance or np.inf) <= drive.channel.max_power:
            raise CapabilityError(
                f"control {drive.channel.name!r} has a power limit of {drive.channel.max_power:g} W, and nobody measures while "
                f"an instrument plays; choose a compliance that keeps it at {highest:g} V by itself"
            )
        if rest[column] != 0.0:
            raise CapabilityError(f"a waveform ends at 0 V, but the safe value of {drive.channel.name!r} is {rest[column]:g} V")
    if envelope.edges and len(swept) > 1:
        raise CapabilityError("edge limits are not checked between two levels that change one after the other; move one control")
    play, lead = instrument.waveform_player(
        [drive.port_name for drive in swept], [(sense.port_name, sense.parameter) for sense in senses]
    )
    wanted = np.asarray(samples, dtype=np.float64)
    gap = float(np.min(np.diff(np.append(0.0, wanted)), initial=np.inf))
    if not len(wanted) or gap < lead * (1.0 - 1e-9):
        raise CapabilityError(
            f"a reading takes {lead:g} s here, but two samples (or the beginning and the first) are {gap:g} s apart; "
            "take fewer samples, or a shorter integration time (`nplc`)"
        )
    if isinstance(instrument, Stepping):
        instrument.require_steps(np.concatenate([waveform.times, wanted, [waveform.end]]), lead)
    undo = undone(senses)

    def run(levels: FloatArray, begins: FloatArray, reads: FloatArray, end: float) -> Acquired:
        return corrected(unblinded(play(levels, begins, reads, end), senses), undo)

    return Playing(swept, aim.levels(drives, waveform.values)[:, columns], waveform, wanted, run)


def at_compliance(drives: Sequence[Drive]) -> list[Drive]:
    """Voltage sources that are on and at their compliance."""
    return [drive for drive in drives if drive.output is Output.ON and not drive.is_pressure and not drive.in_limits]
