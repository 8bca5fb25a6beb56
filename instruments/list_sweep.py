"""Sweeps that an instrument runs by itself: many points, one transfer per chunk.

The host cannot interfere while a list runs, so a chunk lasts ``LONGEST_CHUNK`` seconds at the most; then STOP acts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from hil.core.types import BoolArray, FloatArray, Quantity, Readings, Stimulus
from instruments.calibration import Aim, corrected, undone
from instruments.roles import Acquired, ListInstrument
from instruments.terminals import Drive, Sense

LONGEST_CHUNK = 5.0
"""s"""
MOST_POINTS = 1000
"""Points of one list: what the command line of an instrument takes, and half of its reading buffer with 30 samples each."""


@dataclass(frozen=True)
class ListSweep:
    """A prepared sweep: ``run(levels (n, n_swept), samples, home)`` runs a chunk; ``columns`` are the drives it sweeps.

    ``seconds(samples)``: how long one point takes. ``aim`` makes programmed levels of what is asked for.
    """

    drives: tuple[Drive, ...]
    columns: tuple[int, ...]
    run: Callable[[FloatArray, int, bool], Acquired]
    seconds: Callable[[int], float]
    aim: Aim

    def chunks(self, values: FloatArray, samples: int, *, home: bool) -> "list[tuple[slice, Callable[[], Acquired]]]":
        """The rows of each chunk of ``values`` (n, n_drives), and what runs it. ``home``: every chunk ends at level 0."""
        size = max(1, min(MOST_POINTS, int(LONGEST_CHUNK / max(self.seconds(samples), 1e-9))))
        levels = self.aim.levels(self.drives, values)[:, list(self.columns)]
        parts = [slice(begin, min(begin + size, len(levels))) for begin in range(0, len(levels), size)]
        return [(part, partial(self._chunk, levels[part], samples, home)) for part in parts]

    def _chunk(self, levels: FloatArray, samples: int, home: bool) -> Acquired:
        swept = [self.drives[column] for column in self.columns]
        for drive in swept:
            # Before the transfer: after a failure the terminal may be at any point of the list.
            drive.on_course = False
        acquired = self.run(levels, samples, home)
        for drive, level in zip(swept, levels[-1], strict=True):
            drive.level = drive.commanded = 0.0 if home else float(level)
            drive.on_course = True
        return acquired


def swept_values(rows: Sequence[Sequence[Stimulus]]) -> tuple[FloatArray, BoolArray]:
    """Values and connected flags of all controls of all replicas, (n, n_replicas * n_controls)."""
    values = np.array([np.concatenate([stimulus.values for stimulus in row]) for row in rows])
    connected = np.array([np.concatenate([stimulus.connected for stimulus in row]) for row in rows])
    return values, connected


def list_sweep(
    drives: Sequence[Drive],
    senses: Sequence[Sense],
    values: FloatArray,
    connected: BoolArray,
    dwell: float,
    longest_step: FloatArray,
    aim: Aim,
    *,
    home: bool = False,
) -> ListSweep | None:
    """The sweep of ``values`` (n, n_drives) as one instrument's list, or None where it has to go point by point.

    That is so where something else than voltages of one instrument changes, where it cannot run lists, where an output
    floats, or where a step is longer than ``longest_step`` (n_drives,), so that the channel's slew asks for a ramp.
    ``home``: every chunk will end at level 0, wherever in the sweep that is.
    """
    columns = np.flatnonzero(np.any(values != values[0], axis=0))
    if not len(columns):
        columns = np.arange(len(drives))  # the same point again and again is a list as well
    if not len(columns) or not connected.all():
        return None
    instrument = drives[int(columns[0])].instrument
    swept = [drives[int(column)] for column in columns]
    if not isinstance(instrument, ListInstrument):
        return None
    if any(drive.instrument is not instrument or drive.channel.quantity is not Quantity.VOLTAGE for drive in swept):
        return None
    if any(sense.instrument is not instrument or sense.port is None or sense.matrix is not None for sense in senses):
        return None
    levels = aim.levels(drives, values)
    # What is asked for and what is programmed for it: a gain may make a step longer.
    if any(np.any(np.abs(np.diff(of, axis=0)) > longest_step) for of in (values, levels)):
        return None
    if home and any(np.any(np.abs(of[:, columns]) > longest_step[columns]) for of in (values, levels)):
        return None
    if home and not all(drive.channel.minimum <= 0.0 <= drive.channel.maximum for drive in swept):
        return None
    acquire, seconds = instrument.list_acquisition(
        [drive.port_name for drive in swept], [(sense.port_name, sense.parameter) for sense in senses], dwell
    )
    undo = undone(senses)

    def run(levels: FloatArray, samples: int, home: bool) -> Acquired:
        return corrected(acquire(levels, samples, home), undo)

    return ListSweep(tuple(drives), tuple(int(column) for column in columns), run, seconds, aim)


def block_of(acquired: Acquired, samples: int, times: FloatArray, single_std: FloatArray) -> Readings:
    """Readings (n, n_outputs) of one chunk. ``single_std``: what a single reading is worth, where there is one only."""
    each = acquired.values.reshape(len(times), samples, -1)
    spread = each.std(axis=1, ddof=1) / np.sqrt(samples) if samples > 1 else single_std + 0.0 * each[:, 0]
    overload = np.asarray(acquired.overload.reshape(each.shape).any(axis=1), dtype=np.bool_)
    return Readings(each.mean(axis=1), np.nan_to_num(spread), overload, times)
