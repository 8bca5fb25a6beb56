"""What leaves a terminal alone, as messages: data that a process without any driver can send.

A driver class says them through the class method ``safe_commands``; nothing is opened for that.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from hil.core.types import SafeAction
from instruments.wiring import Setting


@dataclass(frozen=True, slots=True)
class SafeCommands:
    """Messages (no terminators) of one terminal.

    ``attention``: sent once when the link is fresh, whatever the dead program had begun. ``leave``: bring the terminal into
    its safe state; then the reply to ``query`` has to match ``expected`` (regular expressions are searched).
    The rest is for a terminal that has to move slowly or in step with others, such as a pressure, or a voltage whose difference
    from that of another instrument is limited: the reply to ``measure`` matches ``measured`` and ends with where it stands (SI;
    a voltage: its programmed level), or has it in its first group; that to ``state`` matches ``states``, and ``active`` while
    the source controls (no ``state``: the reply to ``measure`` does); ``move`` are messages with ``{level}`` and ``{slew}``
    (SI) that send it on its way. ``led``: it has no slew of its own, so that they are said again and again, each time a little
    nearer to the goal; voltages have none, either, and are asked for every step.

    Patterns should match no reply to another question: on a serial line an answer to the dead program may come first.
    """

    leave: tuple[str, ...]
    query: str
    expected: str
    attention: tuple[str, ...] = ()
    state: str = ""
    states: str = ""
    active: str = ""
    measure: str = ""
    measured: str = ""
    move: tuple[str, ...] = ()
    led: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


@runtime_checkable
class Guarded(Protocol):
    """A driver class whose terminals can be made safe by somebody who has only an address."""

    @classmethod
    def safe_commands(cls, port: str, action: SafeAction, value: float, settings: Mapping[str, Setting]) -> SafeCommands | None:
        """Messages for ``port``; ``value`` (SI) goes with LEVEL, ``settings`` are those of the wire. None: leave it as it is."""
        ...


@runtime_checkable
class HardwareWatchdog(Protocol):
    """An instrument that stops by itself when nobody has spoken to it for a while."""

    def set_watchdog(self, seconds: float) -> None:
        """Stop by yourself after ``seconds`` of silence from now on; 0 switches the watchdog off. Read back."""
        ...
