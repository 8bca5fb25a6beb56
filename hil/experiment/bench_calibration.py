"""Which calibration a bench uses, and what it trusts when it is calibrated."""

from typing import Annotated

from hil.experiment.fields import AsTuple, Name, Strict, choice, quantity

PARTS = ("sources", "meters", "pressures")


class Calibration(Strict):
    """Nothing is corrected unless ``use`` names a record of `hil calibrate` (a path, from where the program is started).

    ``correct``: what of it is applied. ``reference``: the output that is taken as true where it stands on a node (default: the
    first voltmeter on a driven node). ``max_age``: an older record is refused.
    """

    use: str | None = None
    correct: Annotated[tuple[Annotated[str, choice(*PARTS)], ...], AsTuple] = PARTS
    reference: Name | None = None
    max_age: Annotated[float, quantity("s", above=0.0)] | None = None
