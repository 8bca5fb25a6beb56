"""Reading buffers of the 2600B: smuX.nvbuffer1, nvbuffer2 and those of smuX.makebuffer(n)."""

from typing import NamedTuple

from simulated_backend.virtual_bench.tsp_errors import ErrorQueue
from simulated_backend.virtual_bench.tsp_tree import Namespace

OVER_TEMPERATURE, AUTORANGE_MEASURE, AUTORANGE_SOURCE = 0x02, 0x04, 0x08
FOUR_WIRE, RELATIVE, COMPLIANCE, FILTERED = 0x10, 0x20, 0x40, 0x80
"""Bits of bufferVar.statuses (reference manual, "Buffer status bits")."""

DEDICATED_CAPACITY = 60_000
COLUMNS = (
    "readings", "statuses", "timestamps", "sourcevalues", "measureranges", "sourceranges", "measurefunctions",
    "sourcefunctions", "sourceoutputstates",
)  # fmt: skip


class Record(NamedTuple):
    """One stored reading, in the order of ``COLUMNS``; timestamps in seconds of the instrument's clock."""

    readings: float
    statuses: int
    timestamps: float
    sourcevalues: float
    measureranges: float
    sourceranges: float
    measurefunctions: str
    sourcefunctions: str
    sourceoutputstates: str


class ReadingBuffer:
    """Readings of one channel. ``append`` returns False when it is full."""

    def __init__(self, owner: str, capacity: int, *, collect: bool) -> None:
        self.owner = owner
        self.capacity = capacity
        self.appendmode = 0
        self.collectsourcevalues = int(collect)
        self.collecttimestamps = int(collect)
        self.fillmode = 0
        self.cachemode = 1
        self.timestampresolution = 1e-6
        self.basetimestamp = 0.0
        self.records: list[Record] = []

    def clear(self) -> None:
        """Forget all readings."""
        self.records.clear()
        self.basetimestamp = 0.0

    def append(self, record: Record) -> bool:
        """Store one reading; in window mode the oldest gives way."""
        if len(self.records) >= self.capacity:
            if self.fillmode == 0:
                return False
            del self.records[0]
        if not self.records:
            self.basetimestamp = record.timestamps
        self.records.append(record)
        return True

    def column(self, name: str) -> list[float | str]:
        """All values of one column; timestamps count from the first reading."""
        index = COLUMNS.index(name)
        values: list[float | str] = [record[index] for record in self.records]
        if name == "timestamps":
            return [value - self.basetimestamp for value in values if not isinstance(value, str)]
        return values

    def collects(self, name: str) -> bool:
        """Whether the column exists with the present settings."""
        if name == "timestamps":
            return bool(self.collecttimestamps)
        return bool(self.collectsourcevalues) if name in ("sourcevalues", "sourceranges") else True


class BufferColumn:
    """bufferVar.readings and its like, as a script hands it to printbuffer."""

    def __init__(self, buffer: ReadingBuffer, name: str) -> None:
        self.buffer = buffer
        self.name = name

    def values(self) -> list[float | str]:
        """All values; empty where the buffer does not collect them."""
        return self.buffer.column(self.name) if self.buffer.collects(self.name) else []

    def item(self, number: float) -> float | str | None:
        """Value ``number``, counted from 1; None where there is none."""
        index = int(number) - 1
        if index != number - 1 or not 0 <= index < len(self.buffer.records) or not self.buffer.collects(self.name):
            return None
        record = self.buffer.records[index]
        if self.name == "timestamps":
            return record.timestamps - self.buffer.basetimestamp
        value: float | str = record[COLUMNS.index(self.name)]
        return value


def buffer_namespace(name: str, buffer: ReadingBuffer, errors: ErrorQueue) -> Namespace:
    """What a script sees of a buffer."""
    space = Namespace(name, handle=buffer)
    columns = {column: BufferColumn(buffer, column) for column in COLUMNS}
    for column, values in columns.items():
        space.children[column] = Namespace(f"{name}.{column}", handle=values, item=values.item)
    space.item = columns["readings"].item
    space.functions["clear"] = lambda *_: buffer.clear()
    space.functions["clearcache"] = lambda *_: None
    space.attribute("n", lambda: len(buffer.records))
    space.attribute("next", lambda: len(buffer.records) % buffer.capacity + 1)
    space.attribute("capacity", lambda: buffer.capacity)
    space.attribute("basetimestamp", lambda: buffer.basetimestamp)
    space.constants.update(FILL_ONCE=0, FILL_WINDOW=1)
    space.choice("appendmode", buffer, "appendmode", errors, (0, 1))
    space.choice("fillmode", buffer, "fillmode", errors, (0, 1))
    space.choice("cachemode", buffer, "cachemode", errors, (0, 1))
    space.number("timestampresolution", buffer, "timestampresolution", errors, 1e-6, 1.0)
    for setting in ("collectsourcevalues", "collecttimestamps"):
        _only_when_empty(space, buffer, setting, errors)
    return space


def _only_when_empty(space: Namespace, buffer: ReadingBuffer, setting: str, errors: ErrorQueue) -> None:
    space.choice(setting, buffer, setting, errors, (0, 1))
    put = space.setters[setting]

    def guarded(value: object) -> None:
        if buffer.records and value != getattr(buffer, setting):
            errors.add(-221)
        else:
            put(value)

    space.setters[setting] = guarded
