"""The readings of an interrupted run as they were given to its procedure, exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hil.core.types import BoolArray, FloatArray, Readings
from hil.record.reader import readings_until


@dataclass(frozen=True)
class Kept:
    """Readings on record in order: what was applied and connected (n, n_controls), and what was read."""

    applied: FloatArray
    connected: BoolArray
    readings: Readings

    def __len__(self) -> int:
        return len(self.readings)

    def rows(self, begin: int, end: int) -> tuple[Readings, FloatArray, BoolArray]:
        """Readings from ``begin`` to before ``end``, what was applied, and what was connected."""
        return self.readings.part(slice(begin, end)), self.applied[begin:end], self.connected[begin:end]

    def without(self, asides: Sequence[Sequence[int]]) -> "Kept":
        """All but some (first, count): they were measured for another purpose."""
        chosen = np.ones(len(self), dtype=np.bool_)
        for first, count in asides:
            chosen[first : first + count] = False
        places = np.flatnonzero(chosen)
        return Kept(self.applied[places], self.connected[places], self.readings.part(places))


def kept_readings(folder: Path, run_id: int, rows: Mapping[str, int]) -> Kept:
    """The first ``rows["reading"]`` readings of run ``run_id`` and those it continues. Raises RecordError."""
    table, columns = readings_until(folder, run_id, rows)

    def values(names: Sequence[str]) -> FloatArray:
        return np.array([_column(table, name) for name in names], dtype=np.float64).reshape(len(names), len(table)).T

    controls, outputs = list(columns["controls"].values()), list(columns["outputs"].values())
    replica: tuple[str, ...] = ()
    if "replica" in columns:
        names = columns["replica"]["names"]
        replica = tuple(names[int(place)] for place in _column(table, columns["replica"]["column"]))
    readings = Readings(
        values(outputs),
        values([f"{name}_std" for name in outputs]),
        values([f"{name}_overload" for name in outputs]) != 0,
        np.array(_column(table, "time"), dtype=np.float64),
        replica,
    )
    return Kept(values(controls), values([f"{name}_connected" for name in controls]) != 0, readings)


def _column(table: Any, name: str) -> FloatArray:
    """Nan where nothing at all was written into a column."""
    return table[name].to_numpy(dtype=np.float64) if name in table else np.full(len(table), np.nan)
