"""Whether pressures and concentrations are reached closely enough for the steps that a protocol takes with them."""

from hil.core.types import Quantity
from hil.experiment.bench_file import BenchFile
from hil.experiment.fields import FieldError, Given, ProtocolFieldError
from hil.experiment.protocol import Protocol
from hil.procedures.train_settings import Settings

SHARE = 20.0
"""A band should be so many times smaller than a step: what is left of the old value must not look like a gradient."""


def wide_bands(bench: BenchFile, settings: Protocol) -> list[str]:
    """Sentences about ``setup.in_limits`` of trained pressures that are wider than a twentieth of the step.

    FieldError for a band as wide as the step itself. A control that does not give a band keeps the instrument's own.
    """
    if not isinstance(settings, Settings) or "pressure" not in settings.weights or settings.step_unit("pressure") == "1":
        return []
    step = settings.weight_sets["pressure"].step.si("Pa", "weight_sets.pressure.step")
    found = []
    for name, control in bench.controls.items():
        if control.quantity is not Quantity.PRESSURE or "in_limits" not in control.setup:
            continue
        field = f"controls.{name}.setup.in_limits"
        band = Given(control.setup["in_limits"]).si("Pa", field)
        if band >= step:
            raise FieldError(
                f"a pressure that counts as reached within {band:g} Pa cannot be moved by steps of {step:g} Pa; make the band "
                f"{step / SHARE:g} Pa, or the step of the protocol larger",
                field,
            )
        if band > step / SHARE:
            found.append(
                f"control {name!r} counts as reached within {band:g} Pa, more than a twentieth of the step of {step:g} Pa: "
                f"what is left of the old pressure blurs the gradient; set `in_limits` to {step / SHARE:g} Pa or less"
            )
    return found


FINEST = 1e-3
"""Of the largest concentration: pumps take rates of four digits, and what is left of the liquid before is of that order."""


def small_steps(bench: BenchFile, settings: Protocol) -> list[str]:
    """Sentences about a step of concentration that pumps hardly mix; ProtocolFieldError for one that they cannot mix."""
    if (
        not isinstance(settings, Settings)
        or "concentration" not in settings.weights
        or settings.step_unit("concentration") == "1"
    ):
        return []
    field = "weight_sets.concentration.step"
    step = settings.weight_sets["concentration"].step.si("mol/m^3", field)
    largest = max((control.limits[1] for control in bench.controls.values() if control.instrument in bench.mixers), default=0.0)
    advice = (
        f"pumps mix to 0.1 % ({FINEST * largest:g} mM of {largest:g} mM) at the best; take {20 * FINEST * largest:g} mM or more"
    )
    if step <= FINEST * largest:
        raise ProtocolFieldError(f"a step of {step:g} mM would not be seen: {advice}", field)
    return [f"a step of {step:g} mM is hardly seen: {advice}"] if step < 10 * FINEST * largest else []
