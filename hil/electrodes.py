"""Inert electrodes of a bench file against what may be applied to them, before anything is."""

from hil.core.types import Quantity
from hil.experiment.bench_file import BenchFile, Control
from hil.experiment.fields import FieldError


def inert(bench: BenchFile) -> dict[str, Control]:
    """The sources that end in an inert electrode, by the names of their controls."""
    return {name: one for name, one in bench.controls.items() if one.electrode is not None and one.electrode.kind == "inert"}


def followed(bench: BenchFile) -> bool:
    """Whether the charge of any electrode is."""
    return bool(inert(bench)) or any(one.electrode is not None and one.electrode.reservoir for one in bench.controls.values())


def check_electrodes(bench: BenchFile) -> None:
    """FieldError for an inert electrode whose interfacial voltage nobody can keep track of, and that could exceed its limit.

    Without a capacitance there is no telling how fast it is charged: given time the whole difference between it and any other
    driven node of its part of the network stands at the interface.
    """
    sources = {control.node: control.limits for control in bench.controls.values() if control.quantity is Quantity.VOLTAGE} | {
        node: (0.0, 0.0) for node, one in bench.twin.nodes.items() if one.ground
    }
    mixed = {one.node for one in bench.controls.values() if one.instrument in bench.mixers}
    for name, control in bench.controls.items():
        reservoir = None if control.electrode is None else control.electrode.reservoir
        if reservoir is not None and (control.node in mixed or bench.replicas):
            raise FieldError(
                "the mixer says how large it is; remove it here"
                if control.node in mixed
                else "replicas are not followed one by one",
                f"controls.{name}.electrode.reservoir",
            )
    for name, control in inert(bench).items():
        electrode = control.electrode
        if electrode is None or electrode.limit is None:
            continue
        here = f"controls.{name}.electrode"
        if bench.replicas:
            raise FieldError("inert electrodes are followed one by one, which replicas do not allow", here)
        if electrode.capacitance is not None:
            continue
        part = next(part for part in bench.twin.parts() if control.node in part)
        for node, (low, high) in sources.items():
            largest = max(abs(control.limits[1] - low), abs(high - control.limits[0]))
            if node != control.node and node in part and largest > electrode.limit:
                raise FieldError(
                    f"{largest:g} V may be applied between this electrode and node {node!r}, and in time all of it stands at an "
                    f"inert interface, whose limit is {electrode.limit:g} V; take silver chloride, tighten the limits of the "
                    "sources, or give the `capacitance` of its double layer, by which its charge is followed",
                    f"{here}.limit",
                )
