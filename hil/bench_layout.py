"""From the bench file to channels: what can be applied, what is read, and within which limits. SI throughout."""

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Any

from hil.core.safety import EdgeLimit, SafetyEnvelope
from hil.core.types import Channel, Kind, Layout, Quantity, SafeAction, SafeState
from hil.experiment.bench_file import BenchFile, Control, EdgeLimits
from hil.experiment.fields import FieldError, unknown
from hil.experiment.protocol import Tighter, TighterEdge

NodeRest = Mapping[str, Mapping[Quantity, float]]
"""For every node: what it has of each quantity (SI) when nothing drives it."""


def control_channels(bench: BenchFile, rest: NodeRest) -> tuple[Channel, ...]:
    """The wired controls in file order. ``safe.value`` is what a control rests at when nobody mentions it."""
    channels = []
    for name, control in bench.controls.items():
        channels.append(
            Channel(
                name,
                control.quantity,
                control.kind,
                *control.limits,
                resolution=control.resolution,
                max_slew=control.slew,
                emergency_slew=control.emergency_slew,
                dead_time=control.dead_time,
                max_power=control.power,
                max_dwell=control.dwell,
                safe=_resting(name, control, rest[control.node]),
                node=control.node,
            )
        )
    return tuple(channels)


def _resting(name: str, control: Control, rest: Mapping[Quantity, float]) -> SafeState:
    if control.safe.action is SafeAction.LEVEL:
        return control.safe
    ambient = rest.get(control.quantity, 0.0)
    low, high = control.limits
    if not low <= ambient <= high:
        unit = control.quantity.value
        raise FieldError(
            f"at rest it is {ambient:g} {unit}, outside the limits {low:g} … {high:g} {unit}", f"controls.{name}.limits"
        )
    return SafeState(control.safe.action, ambient)


def output_channels(bench: BenchFile) -> tuple[Channel, ...]:
    """The outputs in file order."""
    return tuple(
        Channel(name, output.quantity, Kind.SENSE, node=output.node, safe=SafeState(SafeAction.NONE))
        for name, output in bench.outputs.items()
    )


def tunable_channels(
    bench: BenchFile,
    edges: Mapping[str, Mapping[str, float]],
    rest: NodeRest,
    tuned_as: Mapping[str, str],
    wired: tuple[Channel, ...],
) -> tuple[Channel, ...]:
    """TUNE channels of a simulated network: ``length.EDGE``, ``radius_ratio.EDGE``, ``concentration.NODE``, ``pressure.NODE``.

    edges: for every edge, law parameter -> present value (SI) of what can be tuned. A quantity that is wired at a node
    is not tunable there. The present value is where the channel rests.
    """
    twin = bench.twin
    channels: list[Channel] = []
    for family, quantity in (("length", Quantity.LENGTH), ("radius_ratio", Quantity.RATIO)):
        limits = getattr(twin.tunable, family)
        parameter = tuned_as.get(family, f"radius_ratio_fixed_{twin.fixed_radius}" if family == "radius_ratio" else family)
        for edge, values in edges.items() if limits is not None else ():
            if parameter not in values:
                raise FieldError(f"the law of edge {edge!r} has no {parameter!r} to tune", f"twin.tunable.{family}")
            channels.append(_tunable(f"{family}.{edge}", quantity, limits, values[parameter], edge=edge, parameter=parameter))
    for family, quantity in (("concentration", Quantity.CONCENTRATION), ("pressure", Quantity.PRESSURE)):
        limits = getattr(twin.tunable, family)
        driven = {channel.node for channel in wired if channel.quantity is quantity}
        if limits is not None:
            free = [node for node in twin.nodes if node not in driven]
            channels += [_tunable(f"{family}.{node}", quantity, limits, rest[node][quantity], node=node) for node in free]
    return tuple(channels)


def _tunable(
    name: str,
    quantity: Quantity,
    limits: tuple[float, float],
    rest: float,
    *,
    node: str | None = None,
    edge: str | None = None,
    parameter: str | None = None,
) -> Channel:
    family = name.split(".", maxsplit=1)[0]
    if not limits[0] <= rest <= limits[1]:
        unit = "" if quantity is Quantity.RATIO else f" {quantity.value}"
        raise FieldError(
            f"{name} is {rest:g}{unit}, outside the range {limits[0]:g} … {limits[1]:g}{unit} it may be tuned in",
            f"twin.tunable.{family}",
        )
    return Channel(
        name, quantity, Kind.TUNE, *limits, safe=SafeState(SafeAction.LEVEL, rest), node=node, edge=edge, parameter=parameter
    )


def tightened(layout: Layout, limits: Mapping[str, Tighter]) -> Layout:
    """``layout`` with what a protocol's ``limits`` say; FieldError for an unknown control or a wrong unit."""
    channels = []
    for name in limits:
        if name not in layout:
            raise FieldError(unknown("control", name, list(layout.names)), f"limits.{name}")
    for channel in layout:
        wanted = limits.get(channel.name)
        if wanted is None:
            channels.append(channel)
            continue
        here, unit = f"limits.{channel.name}", channel.quantity.value
        changed: dict[str, Any] = {}
        if wanted.limits is not None:
            low, high = (value.si(unit, f"{here}.limits") for value in wanted.limits)
            given = f"[{', '.join(map(str, wanted.limits))}]"
            if not low < high:
                raise FieldError(f"range {given}: the first value must be below the second", f"{here}.limits")
            if low < channel.minimum or high > channel.maximum:
                raise FieldError(
                    f"{given} is wider than the bench file's {channel.minimum:g} … {channel.maximum:g} {unit}; "
                    "a limit can only be tightened",
                    f"{here}.limits",
                )
            changed["minimum"], changed["maximum"] = low, high
        for field, attribute, of in (("slew", "max_slew", f"{unit}/s"), ("power", "max_power", "W"), ("dwell", "max_dwell", "s")):
            value = getattr(wanted, field)
            if value is not None:
                changed[attribute] = value.si(of, f"{here}.{field}")
                if changed[attribute] > getattr(channel, attribute):
                    present = f"{getattr(channel, attribute):g} {of}"
                    raise FieldError(
                        f"{value} is wider than the bench file's {present}; a limit can only be tightened", f"{here}.{field}"
                    )
        channels.append(replace(channel, **changed))
    return Layout(tuple(channels))


def envelope(
    bench: BenchFile, layout: Layout, source: str = "", edge_limits: Mapping[str, EdgeLimits | TighterEdge] | None = None
) -> SafetyEnvelope:
    """Limits of the channels, and of the differences across edges that ``edge_limits`` (default: the bench file's) names.

    Pressures of two controls that share an edge belong together also where no limit is given for their difference.
    """
    limits: list[EdgeLimit] = []
    for edge_name, given in (bench.edge_limits if edge_limits is None else edge_limits).items():
        if edge_name not in bench.twin.edges:
            raise FieldError(unknown("edge", edge_name, list(bench.twin.edges)), f"edge_limits.{edge_name}")
        edge = bench.twin.edges[edge_name]
        for quantity, maximum in ((Quantity.VOLTAGE, given.voltage), (Quantity.PRESSURE, given.pressure)):
            if maximum is None:
                continue
            field = f"edge_limits.{edge_name}.{'voltage' if quantity is Quantity.VOLTAGE else 'pressure'}"
            if not maximum > 0:
                raise FieldError(f"a limit of {maximum:g} {quantity.value} allows nothing; it must be above 0", field)
            ends = [_driver(bench, layout, node, quantity, field) for node in (edge.base, edge.tip)]
            if ends[0] is None:
                ends.reverse()
            if ends[0] is None:
                raise FieldError("no end of this edge is driven, so the limit could never be checked; remove it", field)
            limits.append(EdgeLimit(edge_name, ends[0], ends[1], maximum))
            _require_safe_rest(layout, limits[-1], field)
    pressures = {channel.node: channel.name for channel in layout.of(Quantity.PRESSURE) if channel.kind is Kind.DRIVE}
    limited = {limit.edge for limit in limits if limit.plus in pressures.values()}
    for edge_name, edge in bench.twin.edges.items() if edge_limits is None else ():
        if edge_name not in limited and edge.base in pressures and edge.tip in pressures:
            limits.append(EdgeLimit(edge_name, pressures[edge.base], pressures[edge.tip], inf))
    return SafetyEnvelope.of(layout, limits, source)


def _require_safe_rest(layout: Layout, limit: EdgeLimit, field: str) -> None:
    """FieldError where the safe states of both ends would themselves put more than ``limit`` across the edge.

    Two pressures that vent both end at the atmosphere, and what is disconnected differs from nothing.
    """
    ends = [layout[limit.plus], *([] if limit.minus is None else [layout[limit.minus]])]
    actions = {channel.safe.action for channel in ends}
    if SafeAction.HIGH_IMPEDANCE in actions or actions == {SafeAction.VENT} or actions == {SafeAction.NONE}:
        return
    if SafeAction.NONE in actions:
        left, moved = sorted(ends, key=lambda channel: channel.safe.action is not SafeAction.NONE)
        raise FieldError(
            f"{left.name!r} stays where it is (safe: none) while {moved.name!r} goes to its safe state, so the difference "
            "between them could exceed this limit; give both a safe state",
            field,
        )
    values = [channel.safe.value for channel in ends]
    difference = abs(values[0] - (values[1] if len(values) > 1 else 0.0))
    if difference > limit.maximum:
        unit = ends[0].quantity.value
        raise FieldError(
            f"in the safe state {difference:g} {unit} stand between {limit.plus!r} and {limit.minus or 'ground'!r}, more than "
            f"{limit.maximum:g} {unit}; correct `safe` or the limit",
            field,
        )


def _driver(bench: BenchFile, layout: Layout, node: str, quantity: Quantity, field: str) -> str | None:
    """Name of the control that drives ``node``, None for ground; FieldError when its value is nobody's to know."""
    for channel in layout.of(quantity):
        if channel.node == node:
            return channel.name
    if quantity is Quantity.VOLTAGE and bench.twin.nodes[node].ground:
        return None
    raise FieldError(f"node {node!r} has no control of this quantity, so the difference across the edge cannot be checked", field)
