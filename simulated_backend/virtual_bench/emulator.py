"""An emulated instrument: a command language in front of terminals of the plant. And the registry that finds them by model."""

import importlib
import pkgutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from typing import ClassVar, Literal, get_args

import numpy as np

from hil.core.errors import ConfigError
from simulated_backend.virtual_bench.faults import Readings
from simulated_backend.virtual_bench.plan import InstrumentPlan
from simulated_backend.virtual_bench.ports import PlantView

Transport = Literal["socket", "serial", "hislip", "vxi11", "prologix"]
TRANSPORTS: tuple[Transport, ...] = get_args(Transport)


class Emulator(ABC):
    """One instrument, written from its manual. Subclasses stand in ``emulators/``, one family per file.

    ``options``: the defaults of the model, overridden by the plan's; an unknown option is refused. ``rng`` is this
    instrument's own generator. A subclass's constructor asks ``plant`` for every port it has, then calls ``power_on``.
    """

    models: ClassVar[Mapping[str, Mapping[str, object]]]
    """Model name (the class name of the driver) -> its options with their defaults."""
    transport: ClassVar[Transport] = "socket"
    """How the instrument is reached unless the plan's option ``transport`` says otherwise."""

    def __init__(self, name: str, plant: PlantView, options: Mapping[str, object], rng: np.random.Generator) -> None:
        self.name = name
        self.plant = plant
        self.options = options
        self.rng = rng
        self.broken = Readings()

    @abstractmethod
    def power_on(self) -> None:
        """The state after switching on: settings at their defaults, outputs off, queues empty."""

    @abstractmethod
    def receive(self, message: bytes) -> bytes | None:
        """Obey one complete message (terminator removed); the whole reply with its terminator, or None."""

    def asks(self, message: bytes) -> bool:
        """Whether the message may be a question. On a stepped bench it then waits for earlier messages to others."""
        return b"?" in message or b"(" in message

    def frames(self, buffer: bytearray) -> list[bytes]:
        """Take the complete messages off the front of ``buffer``. Default: lines ended by LF, CR or CRLF; blanks dropped."""
        if not buffer.endswith((b"\n", b"\r")):
            end = max(buffer.rfind(b"\n"), buffer.rfind(b"\r")) + 1
            if end == 0:
                return []
            text = bytes(buffer[:end])
            del buffer[:end]
        else:
            text = bytes(buffer)
            buffer.clear()
        return [line for line in text.replace(b"\r", b"\n").split(b"\n") if line.strip()]

    def hang_up(self) -> None:  # noqa: B027 - most instruments do nothing when a client leaves
        """A client has closed its connection."""

    def complain(self) -> None:
        """Put an entry into the error queue that no message caused. ValueError where there is no queue."""
        raise ValueError(f"{self.name!r} has no error queue")

    def fill(self, volume: float | None) -> None:  # noqa: B027 - most instruments hold no liquid
        """What a syringe holds from now on, m^3; None: as much as when the bench was built."""

    def redrive(self) -> None:  # noqa: B027 - only instruments with electrical sources have something to do
        """An output stage has broken or has been mended: let the outputs follow."""

    def number(self, option: str) -> float:
        """A numeric option; ConfigError if it is not a number."""
        value = self.options[option]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"option {option!r} of {self.name!r} must be a number, not {value!r}")
        return float(value)


COMMON_OPTIONS: Mapping[str, object] = {"transport": None, "identity": None, "tcp_port": None, "clients": None, "gpib": None}
"""Options of every model; None means: the model's own."""


@cache
def _registry() -> Mapping[str, type[Emulator]]:
    from simulated_backend.virtual_bench import emulators

    found: dict[str, type[Emulator]] = {}
    for module_info in pkgutil.iter_modules(emulators.__path__):
        module = importlib.import_module(f"{emulators.__name__}.{module_info.name}")
        for member in vars(module).values():
            if isinstance(member, type) and issubclass(member, Emulator) and member.__module__ == module.__name__:
                for model in getattr(member, "models", {}):
                    found[model] = member
    return found


def options_of(model: str) -> frozenset[str]:
    """Names of the options that the emulator of ``model`` has of its own; none where there is no emulator."""
    found = _registry().get(model)
    return frozenset() if found is None else frozenset(found.models[model])


def models() -> tuple[str, ...]:
    """Names of all models that can stand on a virtual bench."""
    return tuple(sorted(_registry()))


def identity_of(model: str) -> str:
    """What a ``model`` answers to its identity query unless an option says otherwise; empty where that is not plain text."""
    cls = _registry()[model]
    return str(cls.models[model].get("identity") or getattr(cls, "identity", ""))


def has_error_queue(model: str) -> bool:
    """Whether a ``model`` keeps a queue of errors that can be asked for."""
    return _registry()[model].complain is not Emulator.complain


def transport_of(instrument: InstrumentPlan) -> Transport:
    """How ``instrument`` will be reached; ConfigError for an unknown model or transport.

    Where nothing is said of a serial instrument it is reached through a socket on systems without pseudo-terminals (Windows).
    """
    usual = _class_of(instrument).transport
    chosen = instrument.options.get("transport") or ("socket" if usual == "serial" and sys.platform == "win32" else usual)
    for transport in TRANSPORTS:
        if chosen == transport:
            return transport
    raise ConfigError(f"option 'transport' of {instrument.name!r} must be one of {', '.join(TRANSPORTS)}, not {chosen!r}")


def create(instrument: InstrumentPlan, plant: PlantView, rng: np.random.Generator) -> Emulator:
    """Build the emulator of one instrument, switched on; ConfigError for an unknown model or option."""
    cls = _class_of(instrument)
    defaults = {**COMMON_OPTIONS, **cls.models[instrument.model]}
    unknown = sorted(set(instrument.options) - set(defaults))
    if unknown:
        raise ConfigError(
            f"instrument {instrument.name!r}: {instrument.model} has no option {unknown[0]!r} on the virtual bench; "
            f"options: {', '.join(sorted(defaults))}"
        )
    return cls(instrument.name, plant, {**defaults, **instrument.options}, rng)


def _class_of(instrument: InstrumentPlan) -> type[Emulator]:
    try:
        return _registry()[instrument.model]
    except KeyError:
        raise ConfigError(
            f"instrument {instrument.name!r}: there is no emulator for {instrument.model!r}; models: {', '.join(models())}"
        ) from None
