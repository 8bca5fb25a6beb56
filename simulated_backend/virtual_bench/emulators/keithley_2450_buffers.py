"""Reading buffers of an emulated Keithley 2450: every reading carries what the source did. See ``keithley_2450``."""

from dataclasses import dataclass

from simulated_backend.virtual_bench.emulators.keithley_daq6510_buffer import Buffers, ReadingRecord


@dataclass(frozen=True, slots=True)
class SourceRecord(ReadingRecord):
    """A reading with the source value and status beside it."""

    source: float
    source_status: int
    unit: str
    source_unit: str


class SourceBuffers(Buffers):
    """Buffers whose readings carry the source."""

    elements = (
        *("DATE", "FORMatted", "FRACtional", "READing", "RELative", "SEConds", "SOURce", "SOURFORMatted"),
        *("SOURSTATus", "SOURUNIT", "STATus", "TIME", "TSTamp", "UNIT"),
    )

    def _text(self, reading: ReadingRecord, element: str, start: float) -> str:
        if isinstance(reading, SourceRecord):
            digits = (self._digits or 7) - 1
            special: dict[str, str] = {
                "SOUR": f"{reading.source:.{digits}E}",
                "SOURFORM": f"{reading.source:+.6f} {reading.source_unit[0]}",
                "SOURSTAT": str(reading.source_status),
                "SOURUNIT": reading.source_unit,
                "UNIT": reading.unit,
                "FORM": f"{reading.value:+.6f} {reading.unit[0]}",
                "DATE": "01/01/2020",
                "TIME": f"{reading.time:.6f}",
            }
            if element in special:
                return special[element]
        return super()._text(reading, element, start)
