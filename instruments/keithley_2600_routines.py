"""The Lua that a Keithley 2600B runs for us. See ``keithley_2600`` for the manual."""

from collections.abc import Sequence

MARK = "hil_alive"
"""Global variable that is set when an instrument is first spoken to; nil once it has been switched off and on."""
LETTER = {"volt": "v", "curr": "i"}
"""Parameter name -> the letter TSP uses for it."""


LATEST = 1e-3
"""s that a waveform may be behind its times."""
LONGEST_LINE = 900
"""Characters of one line: the instrument takes about a thousand between two line feeds, and loses longer ones (so its maker says
in a report on tm_devices)."""


def in_lines(call: str) -> str:
    """A call that is too long for one line, as a script without a name that is run at once; it breaks after commas."""
    if len(call) <= LONGEST_LINE:
        return call
    lines = ["loadandrunscript"]
    while len(call) > LONGEST_LINE:
        end = call.rindex(",", 0, LONGEST_LINE) + 1
        lines.append(call[:end])
        call = call[end:]
    return "\n".join((*lines, call, "endscript"))


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
    return [
        *(f"{buffer}.clear() {buffer}.appendmode = 1" for buffer in _buffers(readers)),
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
        *(f"{buffer}.clear() {buffer}.appendmode = 0" for buffer in _buffers(readers)),
    ]


def playing(ports: Sequence[str], lists: Sequence[str], terminals: Sequence[tuple[str, str]]) -> list[str]:
    """A waveform as one function: at ``times[k]`` (s) the next levels are set, or readings taken where ``reads[k]`` is 1.

    Times count from the beginning, so that nothing that a command takes adds up; the levels are 0 at ``finish``, or as soon as
    it is ``LATEST`` behind: a pulse must not last longer than it was meant to. It prints by how many seconds it was; the
    readings wait for ``handing``.
    """
    readers, actions, _ = _plan(terminals)
    return [
        *(f"{buffer}.clear() {buffer}.appendmode = 1" for buffer in _buffers(readers)),
        *(f"{port}.measure.count = 1" for port in readers),
        "local segment, late = 0, 0",
        "timer.reset()",
        "for event = 1, table.getn(times) do",
        "local left = times[event] - timer.measure.t()",
        f"if left < -{LATEST:g} then late = -left break end",
        "if left > 0 then delay(left) end",
        "if reads[event] == 1 then",
        *actions,
        "waitcomplete()",
        "else",
        "segment = segment + 1",
        *(f"{port}.source.levelv = {levels}[segment]" for port, levels in zip(ports, lists, strict=True)),
        "end",
        "end",
        "local rest = finish - timer.measure.t()",
        "if late == 0 and rest > 0 then delay(rest) end",
        *(f"{port}.source.levelv = 0" for port in ports),
        "print(math.max(late, -rest, 0))",
    ]


def handing(terminals: Sequence[tuple[str, str]]) -> list[str]:
    """Lines that print the first ``count`` readings of what was played as one block, and leave the buffers as they were."""
    readers, _, columns = _plan(terminals)
    return [
        "format.data = format.REAL64",
        f"printbuffer(1, count, {', '.join(columns)})",
        *(f"{buffer}.clear() {buffer}.appendmode = 0" for buffer in _buffers(readers)),
    ]


def _buffers(readers: Sequence[str]) -> list[str]:
    return [f"{port}.nvbuffer{number}" for port in readers for number in (1, 2)]


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
