"""The error queue of a TSP instrument: codes, texts and severities of the 2600B reference manual, "Error summary list".

Numbers from 802 on and their texts are from memory: that list could not be looked up.
"""

from collections import deque
from typing import NamedTuple

NO_SEVERITY, INFORMATIONAL, RECOVERABLE, SERIOUS, FATAL = 0, 10, 20, 30, 40

OPERATION_COMPLETE, QUERY_ERROR, DEVICE_ERROR, EXECUTION_ERROR, COMMAND_ERROR, POWER_ON = 1, 4, 8, 16, 32, 128
"""Bits of the standard event register (IEEE 488.2, 11.5.1)."""

TEXTS: dict[int, str] = {
    -363: "Input buffer overrun",
    -350: "Queue overflow",
    -292: "Referenced name does not exist",
    -286: "TSP Runtime error",
    -285: "TSP Syntax error",
    -282: "Illegal program name",
    -225: "Out of memory or TSP memory allocation error",
    -221: "Settings conflict",
    -109: "Missing parameter",
    -108: "Parameter not allowed",
    -104: "Data type",
    802: "Output blocked by interlock",
    1101: "Parameter too big",
    1102: "Parameter too small",
    1400: "Expected at least %d parameters",
    1401: "Parameter %d is invalid",
    5005: "Value too big for range",
    5007: "Operation would exceed safe operating area of the instrument",
    5028: "Cannot perform requested operation while source autorange is enabled",
    5038: "Configuration not complete",
    5045: "Cannot perform requested action while an overlapped operation is in progress",
}


class TspErrorEntry(NamedTuple):
    """One line of the queue."""

    code: int
    message: str
    severity: int
    node: int


class ErrorQueue:
    """First in, first out; when full, its last line says so and later errors are lost."""

    def __init__(self, capacity: int = 100) -> None:
        self._capacity = capacity
        self._entries: deque[TspErrorEntry] = deque()
        self.event_bits = 0
        """Bits of the standard event register set since it was last read."""

    def add(self, code: int, detail: str | int | None = None, *, prefix: str = "") -> None:
        """Queue an error: ``detail`` fills the text's %d, or is put behind it; ``prefix`` names the channel."""
        text = TEXTS[code]
        if "%d" in text:
            text = text % int(detail or 1)
        elif detail is not None:
            text = f"{text} {detail}"
        self.event_bits |= COMMAND_ERROR if -200 < code < 0 else EXECUTION_ERROR if code < 0 else DEVICE_ERROR
        if len(self._entries) >= self._capacity:
            self._entries[-1] = TspErrorEntry(-350, TEXTS[-350], RECOVERABLE, 1)
            return
        self._entries.append(TspErrorEntry(code, prefix + text, RECOVERABLE, 1))

    def next(self) -> TspErrorEntry:
        """The oldest error, taken off the queue; code 0 when there is none."""
        return self._entries.popleft() if self._entries else TspErrorEntry(0, "Queue Is Empty", NO_SEVERITY, 1)

    def clear(self) -> None:
        """Forget all errors."""
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)
