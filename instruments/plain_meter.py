"""Outputs of drivers that play no role of this package, the stock QCoDeS ones: read parameter by parameter, never driven."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hil.core.errors import ConfigError, HilError, InstrumentError
from instruments.roles import Acquired, Identified

SWITCHES = ("output", "output_enabled", "output_state")
"""What drivers call the parameter that says whether the output of a source is on."""
ON, OFF = ("on", "1", "true"), ("off", "0", "false")


def port_of(instrument: Any, name: str) -> Any:
    """The port ``name`` of an open instrument ("" is the instrument itself); ConfigError if there is none."""
    if isinstance(instrument, Identified):
        return instrument.port(name)
    port = instrument
    for part in name.split(".") if name else ():
        if part not in port.submodules:
            raise ConfigError(
                f"instrument {instrument.name!r} has no port {part!r}; ports: {', '.join(port.submodules) or 'none'}"
            )
        port = port.submodules[part]
    return port


def switch_of(instrument: Any, name: str) -> Any:
    """The parameter that says whether the output at port ``name`` is on: there, or nearest above it; None where there is none."""
    parts = name.split(".") if name else []
    for depth in range(len(parts), -1, -1):
        port = instrument if depth == 0 else port_of(instrument, ".".join(parts[:depth]))
        for switch in SWITCHES:
            if switch in port.parameters:
                return port.parameters[switch]
    return None


class PlainMeter:
    """Reads the parameters of a driver that plays no role of its own, one query each.

    Where the driver tells whether an output is on, it is asked with every reading: a source-measure unit that is off holds its
    node at 0 V, or reads nothing, and both would be data.
    """

    simultaneous = False

    def __init__(self, instrument: Any) -> None:
        self._instrument = instrument

    def acquisition(self, terminals: Sequence[tuple[str, str]]) -> Callable[[int], Acquired]:
        """A function that gets every parameter ``n`` times. InstrumentError where an output is off, or a reading fails."""
        parameters = [port_of(self._instrument, port).parameters[name] for port, name in terminals]
        switches = {id(switch): switch for port, _ in terminals if (switch := switch_of(self._instrument, port)) is not None}

        def read(samples: int) -> Acquired:
            for switch in switches.values():
                self._require_on(switch)
            values = np.array([[number_of(asked(parameter)) for parameter in parameters] for _ in range(samples)])
            for switch in switches.values():
                self._require_on(switch)
            return Acquired.of(values)

        return read

    def _require_on(self, switch: Any) -> None:
        found = asked(switch)
        # A word or a truth value; a driver may call an amplitude its output, which is a number with a point.
        if not isinstance(found, float) and str(found).strip().lower() in OFF:
            raise InstrumentError(
                f"instrument {self._instrument.name!r}: {switch.full_name} is off, and a source that is off holds its node at "
                "0 V or reads nothing; switch it on, or use a driver of this package, which drives and reads it within limits"
            )


def asked(parameter: Any) -> Any:
    """What a parameter of any driver says; InstrumentError whatever goes wrong."""
    try:
        return parameter.get()
    except HilError:
        raise
    except Exception as error:
        # A stock driver raises whatever its link or its parser does.
        raise InstrumentError(f"{parameter.full_name} could not be read: {error}") from error


def number_of(found: Any) -> float:
    """A number, a truth value, or the words on and off; InstrumentError for anything else."""
    word = str(found).strip().lower()
    if word in ON or word in OFF:
        return float(word in ON)
    try:
        return float(found)
    except (TypeError, ValueError):
        raise InstrumentError(f"{found!r} was read where a number was expected") from None
