"""Pressures of a bench file against each other: one stated reference, and what columns of liquid leave behind after a vent."""

from hil.core.hydrostatics import head
from hil.core.types import Quantity, SafeAction
from hil.experiment.bench_file import BenchFile, Control
from hil.experiment.fields import FieldError

HALF_AN_ATMOSPHERE = 5e4
"""Pa; nearer to 0 than this a pressure at rest is a gauge pressure, above it an absolute one."""


def check_pressures(bench: BenchFile) -> None:
    """FieldError for a reference that contradicts what the nodes have at rest, and for reservoirs so far apart in height that
    the channel between them sees more than its limit as soon as both controllers vent."""
    pressures = {name: one for name, one in bench.controls.items() if one.quantity is Quantity.PRESSURE}
    for name, control in pressures.items():
        _check_rest(bench, name, control)
    at_node = {control.node: (name, control) for name, control in pressures.items() if control.safe.action is SafeAction.VENT}
    for edge_name, limits in bench.edge_limits.items():
        edge = bench.twin.edges.get(edge_name)
        if edge is None or limits.pressure is None or edge.base not in at_node or edge.tip not in at_node:
            continue
        (one, base), (other, tip) = at_node[edge.base], at_node[edge.tip]
        left = abs(head(base.height) - head(tip.height))
        if left > limits.pressure:
            raise FieldError(
                f"once {one!r} and {other!r} have vented, the column of {abs(base.height - tip.height):.3g} m between their "
                f"reservoirs leaves {left:.4g} Pa across edge {edge_name!r}, whose limit is {limits.pressure:g} Pa; bring the "
                "reservoirs to one level",
                f"controls.{one}.height",
            )


def _check_rest(bench: BenchFile, name: str, control: Control) -> None:
    node = bench.twin.nodes[control.node]
    rest = bench.twin.pressure if node.pressure is None else node.pressure
    other = {"gauge": "absolute", "absolute": "gauge"}[bench.pressure_reference]
    if (bench.pressure_reference == "gauge") == (rest >= HALF_AN_ATMOSPHERE):
        raise FieldError(
            f"this bench counts {bench.pressure_reference} pressures, but {name!r} drives node {control.node!r}, which rests at "
            f"{rest:g} Pa: that is one of the other kind; say `pressure_reference: {other}`, or what `twin.pressure` is in "
            f"{bench.pressure_reference} terms",
            "pressure_reference",
        )
