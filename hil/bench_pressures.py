"""What the pressure controllers of an open bench say at rest, and what they are good to."""

from typing import Any

from hil.bench import Assembled
from hil.core.errors import InstrumentError
from hil.core.types import Quantity
from hil.experiment.bench_file import BenchFile


def pressures_now(bench: BenchFile) -> dict[str, float]:
    """What every controller of a driven pressure reads now at its own outlet, Pa, by the name of the control; the backend must
    be open."""
    from instruments.housekeeping import Watched

    wires = [(name, one.parameter) for name, one in bench.controls.items() if one.quantity is Quantity.PRESSURE]
    values, problems = Watched([wire for wire in wires if wire[1]]).read()
    if problems:
        name, why = next(iter(problems.items()))
        raise InstrumentError(f"the pressure of {name!r} cannot be read: {why}")
    return values


def corrected_pressures(assembled: Assembled, shown: dict[str, float]) -> dict[str, float]:
    """Pa, by control: what the controllers hold when they show ``shown``, by the calibration in use; the same without one.

    The backend must be open.
    """
    in_use: Any = assembled.backend.snapshot().get("calibration", {})
    found: dict[str, Any] = in_use.get("controls", {})
    held = dict(shown)
    for name in shown.keys() & found.keys():
        (one,) = found[name].values()
        held[name] = one["offset"] + one["gain"] * shown[name]
    return held


def accuracies(bench: BenchFile) -> dict[str, float]:
    """Largest error (Pa) of every controller of a driven pressure within its specification: what the bench file says, or else its
    driver; 0 where neither knows. The backend must be open."""
    from qcodes.instrument import Instrument

    from instruments.plain_meter import port_of

    found: dict[str, float] = {}
    for name, control in bench.controls.items():
        if control.quantity is Quantity.PRESSURE:
            port: Any = port_of(Instrument.find_instrument(control.instrument), control.port)
            stated = control.accuracy
            found[name] = stated if stated is not None else float(getattr(port, "specified_error", float)())
    return found
