"""Pictures of recorded runs, of what a bench file describes and of the device laws; and decks for ngspice."""

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hil.bench_layout import control_channels, output_channels
from hil.bench_network import node_rest, twin_network
from hil.core.errors import ConfigError
from hil.core.types import BoolArray, Channel, FloatArray, Quantity
from hil.experiment.bench_file import BenchFile
from hil.experiment.units import parse
from hil.figures import curves, loops, network, transient

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from simulated_backend.network import Network


class Applied:
    """What a user applies to a bench in one picture: ``V1=5 V`` and so on; everything else rests."""

    def __init__(self, bench: BenchFile, sets: Sequence[str]) -> None:
        self.network: Network = twin_network(bench)
        self.controls: Mapping[str, Channel] = {
            channel.name: channel for channel in control_channels(bench, node_rest(self.network))
        }
        self.given: dict[str, float] = {}
        for item in sets:
            name, equals, text = item.partition("=")
            if not equals or name not in self.controls:
                raise ConfigError(f"--apply {item!r}: write CONTROL=VALUE with one of {', '.join(self.controls)}")
            channel = self.controls[name]
            value = parse(text.strip(), channel.quantity.value)
            if not channel.minimum <= value <= channel.maximum:
                raise ConfigError(
                    f"--apply {item!r}: outside the limits {channel.minimum:g} … {channel.maximum:g} {channel.quantity.value}"
                )
            self.given[name] = value

    def arrays(self) -> tuple[FloatArray, BoolArray, FloatArray, FloatArray]:
        """voltage, clamped, pressure and concentration of every node, (n_nodes,) each."""
        net = self.network
        voltage, clamped = np.zeros(net.n_nodes), np.array([node.ground for node in net.nodes])
        salt = {"pressure": net.node_array("pressure"), "concentration": net.node_array("concentration")}
        for name, channel in self.controls.items():
            position = net.node_index[str(channel.node)]
            value = self.given.get(name, channel.safe.value)
            if channel.quantity is Quantity.VOLTAGE:
                voltage[position], clamped[position] = value, True
            elif channel.quantity in (Quantity.PRESSURE, Quantity.CONCENTRATION):
                salt[channel.quantity.name.lower()][position] = value
        return voltage, clamped, salt["pressure"], salt["concentration"]


def network_picture(bench: BenchFile, applied: Sequence[str] = (), title: str = "") -> "Figure":
    """The bench's network with conductances and voltages at the operating point of what is applied (at rest otherwise)."""
    from simulated_backend.solve.operating_point import solve_operating_point

    what = Applied(bench, applied)
    net = what.network
    voltage, clamped, pressure, concentration = what.arrays()
    point = solve_operating_point(net, voltage, clamped, pressure=pressure, concentration=concentration)
    drop = point.voltage[net.base] - point.voltage[net.tip]
    with np.errstate(divide="ignore", invalid="ignore"):
        conductance = np.where(drop != 0.0, point.current / drop, np.nan)
    if not np.all(np.isfinite(conductance)):
        nudged = solve_operating_point(
            net,
            voltage + np.where(clamped, 1e-6 * np.arange(net.n_nodes), 0.0),
            clamped,
            pressure=pressure,
            concentration=concentration,
        )
        small = nudged.voltage[net.base] - nudged.voltage[net.tip]
        conductance = np.where(np.isfinite(conductance), conductance, nudged.current / np.where(small == 0.0, inf, small))
    sources: dict[str, list[str]] = {}
    notes: dict[str, list[str]] = {}
    for name, channel in what.controls.items():
        kind = sources if channel.quantity is Quantity.VOLTAGE else notes
        kind.setdefault(str(channel.node), []).append(name)
    readers: dict[str, list[str]] = {}
    for channel in output_channels(bench):
        readers.setdefault(str(channel.node), []).append(channel.name)
    names = [node.name for node in net.nodes]
    return network.draw_network(
        names,
        [(edge, names[b], names[t]) for edge, b, t in zip(net.edge_names, net.base, net.tip, strict=True)],
        conductance=dict(zip(net.edge_names, (float(g) for g in conductance), strict=True)),
        voltage=dict(zip(names, (float(v) for v in point.voltage), strict=True)) if applied else None,
        sources={node: ", ".join(found) for node, found in sources.items()},
        readers={node: ", ".join(found) for node, found in readers.items()},
        notes={node: ", ".join(found) for node, found in notes.items()},
        ground=next((node.name for node in net.nodes if node.ground), None),
        title=title,
    )


def transient_picture(bench: BenchFile, applied: Sequence[str], duration: float, title: str = "") -> "Figure":
    """Node voltages and terminal currents after the applied values are switched on at time 0, for ``duration`` seconds."""
    from simulated_backend.solve.transient import simulate

    if not duration > 0.0:
        raise ConfigError(f"--duration: {duration:g} s is no time to follow it for; give more than 0 s")
    what = Applied(bench, applied)
    net = what.network
    voltage, clamped, pressure, concentration = what.arrays()
    times = np.linspace(0.0, duration, 401)
    course = simulate(
        net, np.array([0.0]), voltage[np.newaxis], clamped, times, tolerance=1e-4, pressure=pressure, concentration=concentration
    )
    if not course.converged:
        raise ConfigError(course.message)
    series = {node.name: course.voltage[:, k] for k, node in enumerate(net.nodes)}
    panels: dict[str, dict[str, FloatArray]] = {"voltage": series}
    units = {"voltage": "V"}
    for group, states in zip(net.groups, course.states, strict=True):
        for number, state in enumerate(group.law.states):
            label = f"{group.law.name.replace('_', ' ')}: {state}"
            panels[label] = {net.edge_names[e]: states[:, number, k] for k, e in enumerate(group.edges)}
    return transient.transient(times, panels, units=units, title=title)


def law_picture(name: str, presets: Sequence[str], top: float, title: str = "") -> "Figure":
    """g∞(V)/g0 of a law with a steady state, from -``top`` to +``top`` V, one curve a preset."""
    from simulated_backend.devices import registry
    from simulated_backend.devices.base import EdgeDrive

    drawn: dict[str, tuple[FloatArray, FloatArray]] = {}
    rest: dict[str, float] = {}
    voltage = np.linspace(-top, top, 402)  # an even number leaves 0 V out, where I/V is not defined
    known = registry.law_class(name).presets
    for preset in presets or list(known) or [""]:
        law = registry.law(name, preset=preset or None)
        parameters = {key: np.array([law.default(key) or 1.0]) for key in law.parameters}
        salt = np.full(
            (voltage.size, 1), law.default("reference_concentration") or 0.0 if "reference_concentration" in parameters else 0.0
        )
        drive = EdgeDrive(voltage[:, np.newaxis], np.zeros((voltage.size, 1)), salt, salt)
        try:
            current, _ = law.steady(parameters, drive)
            _, slope = law.steady(parameters, EdgeDrive(np.zeros((1, 1)), np.zeros((1, 1)), salt[:1], salt[:1]))
        except TypeError:
            raise ConfigError(f"law {name!r} has no steady state to draw; draw its loop: hil plot loops {name}") from None
        label = preset or name
        drawn[label] = (voltage, current[:, 0] / voltage)
        rest[label] = float(slope[0, 0])
    return curves.steady_conductance(drawn, rest=rest, title=title)


def loops_picture(names: Sequence[str], amplitude: float | None, frequency: float | None, title: str = "") -> "Figure":
    """Loops of the laws ``names`` (all with a memory when empty) under the sine known to move each, or under one given."""
    from simulated_backend.sine import Sine, loop, stateful

    if (amplitude is None) != (frequency is None):
        raise ConfigError("give both --amplitude and --frequency, or neither")
    sine = None if amplitude is None or frequency is None else Sine(amplitude, frequency)
    return loops.pinched_loops({name: loop(name, sine) for name in (names or stateful())}, title=title)


def training_picture(run_id: int, folder: Path) -> "Figure":
    """Cost, outputs against targets and weights of a recorded training run; ConfigError for a run without steps."""
    from hil.record.reader import load

    run = load(run_id, folder)
    history = run.history
    if "loss" not in history or history.empty:
        drawn = run.summary.get("results", {}).get("plot")
        raise ConfigError(
            f"run {run_id} ({run.name}) has no training steps to draw" + (f"; its curve is drawn in {drawn}" if drawn else "")
        )
    columns = {
        part: {str(c).removeprefix(f"{part}_"): history[c].to_numpy() for c in history.columns if str(c).startswith(f"{part}_")}
        for part in ("output", "weight")
    }
    final, errors = run.summary.get("outputs", {}), run.summary.get("results", {}).get("errors", {})
    units = {run.metadata.get("units", {}).get(name, "") for name in columns["weight"]}
    return transient.training(
        history["loss"].to_numpy(),
        columns["output"],
        {name: final[name] - error for name, error in errors.items() if name in final},
        weights=columns["weight"],
        loss_floor=run.summary.get("loss_floor") or 0.0,
        weight_label=f"weights ({units.pop()})" if len(units) == 1 and units != {""} else "weights",
        title=f"run {run_id}: {run.metadata.get('protocol', '')}, {run.metadata.get('target', '')}",
    )


def deck(bench: BenchFile, applied: Sequence[str] = (), duration: float | None = None, title: str = "") -> str:
    """The bench's network for ngspice: an operating point, or a run of ``duration`` seconds from rest."""
    from simulated_backend.netlist import Transient, netlist

    what = Applied(bench, applied)
    voltage, clamped, pressure, concentration = what.arrays()
    run = None if duration is None else Transient(duration, duration / 400)
    return netlist(
        what.network,
        voltage,
        clamped,
        transient=run,
        title=title or bench.title or "memristor network",
        pressure=pressure,
        concentration=concentration,
    ).text
