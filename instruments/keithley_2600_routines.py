"""The Lua that a Keithley 2600B runs for us. See ``keithley_2600`` for the manual."""

from collections.abc import Sequence

MARK = "hil_alive"
"""Global variable that is set when an instrument is first spoken to; nil once it has been switched off and on."""
LETTER = {"volt": "v", "curr": "i"}
"""Parameter name -> the letter TSP uses for it."""


def measuring(terminals: Sequence[tuple[str, str]]) -> list[str]:
    """Lines that take ``count`` readings of (port, parameter), both channels overlapped, and print them as one block."""
    ports, actions, columns = _plan(terminals)
    return [
        *(f"{port}.nvbuffer1.clear() {port}.nvbuffer2.clear() {port}.measure.count = count" for port in ports),
        *actions,
        "waitcomplete()",
        *(f"{port}.measure.count = 1" for port in ports),
        "format.data = format.REAL64",
        f"printbuffer(1, count, {', '.join(columns)})",
    ]


def listing(ports: Sequence[str], lists: Sequence[str], terminals: Sequence[tuple[str, str]], dwell: float) -> list[str]:
    """A sweep as one function: readings are appended point by point, and printed when all is done."""
    readers, actions, columns = _plan(terminals)
    buffers = [f"{port}.nvbuffer{number}" for port in readers for number in (1, 2)]
    return [
        *(f"{buffer}.clear() {buffer}.appendmode = 1" for buffer in buffers),
        *(f"{port}.measure.count = count" for port in readers),
        f"local points = table.getn({lists[0]})",
        "for point = 1, points do",
        *(f"{port}.source.levelv = {levels}[point]" for port, levels in zip(ports, lists, strict=True)),
        f"delay({dwell:.9g})",
        *actions,
        "waitcomplete()",
        "end",
        f"if home == 1 then {' '.join(f'{port}.source.levelv = 0' for port in ports)} end",
        *(f"{port}.measure.count = 1" for port in readers),
        "format.data = format.REAL64",
        f"printbuffer(1, points * count, {', '.join(columns)})",
        # a buffer takes another append mode only while it is empty
        *(f"{buffer}.clear() {buffer}.appendmode = 0" for buffer in buffers),
    ]


def _plan(terminals: Sequence[tuple[str, str]]) -> tuple[list[str], list[str], list[str]]:
    """Ports to read, the overlapped measurement of each, and the columns to print: readings, then statuses."""
    wanted: dict[str, set[str]] = {}
    for port, parameter in terminals:
        wanted.setdefault(port, set()).add(parameter)
    actions = []
    for port, parameters in wanted.items():
        if len(parameters) == 2:
            actions.append(f"{port}.measure.overlappediv({port}.nvbuffer1, {port}.nvbuffer2)")
        else:
            (parameter,) = parameters
            actions.append(f"{port}.measure.overlapped{LETTER[parameter]}({port}.nvbuffer1)")
    buffers = [f"{port}.nvbuffer{2 if parameter == 'volt' and len(wanted[port]) == 2 else 1}" for port, parameter in terminals]
    return list(wanted), actions, [f"{buffer}.readings" for buffer in buffers] + [f"{buffer}.statuses" for buffer in buffers]
