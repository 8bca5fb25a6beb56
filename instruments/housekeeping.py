"""What is watched beside the measurement: any readable parameters of open drivers, such as supplies, temperatures, leaks."""

from collections.abc import Sequence
from typing import Any

from hil.core.errors import HilError
from hil.experiment.fields import FieldError
from instruments.plain_meter import asked, number_of
from instruments.station import parse_path


class Watched:
    """Parameters by name: ``wires`` are pairs of a name and a path ``instrument.port.parameter``.

    Construct it once the instruments are open. Raises ConfigError for a parameter that no open driver has, or that cannot
    be read.
    """

    def __init__(self, wires: Sequence[tuple[str, str]]) -> None:
        from qcodes.instrument import Instrument

        self._parameters: dict[str, Any] = {}
        for name, text in wires:
            path = parse_path(text, name)
            try:
                port: Any = Instrument.find_instrument(path.instrument)
            except KeyError:
                raise FieldError(f"there is no open instrument {path.instrument!r}", f"housekeeping.{name}") from None
            for part in path.port.split(".") if path.port else ():
                port = port.submodules.get(part)
                if port is None:
                    raise FieldError(f"instrument {path.instrument!r} has no port {path.port!r}", f"housekeeping.{name}")
            parameter = port.parameters.get(path.quantity)
            if parameter is None or not parameter.gettable:
                known = ", ".join(sorted(key for key, one in port.parameters.items() if one.gettable))
                raise FieldError(f"{text} cannot be read; readable are: {known}", f"housekeeping.{name}")
            self._parameters[name] = parameter

    @property
    def units(self) -> dict[str, str]:
        """Unit of every parameter, as its driver tells."""
        return {name: str(parameter.unit) for name, parameter in self._parameters.items()}

    def read(self) -> tuple[dict[str, float], dict[str, str]]:
        """Present values, and for those that could not be read the reason; these are not asked again.

        A parameter that does not answer costs its whole time-out each time, and that would disturb the measurement.
        """
        values: dict[str, float] = {}
        problems: dict[str, str] = {}
        for name, parameter in tuple(self._parameters.items()):
            try:
                values[name] = number_of(asked(parameter))
            except HilError as error:
                problems[name] = str(error)
                del self._parameters[name]
        return values, problems
