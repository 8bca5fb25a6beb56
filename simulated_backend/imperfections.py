"""What keeps a simulated network from being ideal; all seeded, all off by default.

``Imperfections`` says what is wrong, as data. ``World`` is one draw of it: the network as it really is, what its sources
put out, and what its readings say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import BoolArray, FloatArray, Kind, Layout
from simulated_backend.devices import registry
from simulated_backend.network import Group, Network

_OPEN, _SHORTED = 1e-9, 1e6
"""By how much the conductance of an opened and of a shorted device changes."""
_NUMBERS = (
    "read_noise",
    "read_noise_relative",
    "offset",
    "offset_drift",
    "device_variation",
    "pair_mismatch",
    "cycle_variation",
    "common_noise",
    "aperture",
)


@dataclass(frozen=True, slots=True)
class Imperfections:
    """Numbers are standard deviations unless said otherwise; "relative" ones are fractions.

    Readings, in the unit of the output (V or A): ``read_noise`` of one reading, ``read_noise_relative`` the same as a
    fraction of the value, ``offset`` constant for every output, ``offset_drift`` its change per second;
    ``quantise_readings`` rounds each reading to the output channel's resolution; ``aperture`` seconds one reading takes.
    Gain of all currents, the same for every device and replica at one moment: ``drift`` per second (relative, not random)
    since the devices were mounted, ``common_noise`` of every reading (relative).
    Sources: ``quantise_sources`` rounds every driven control to its channel's resolution.
    Devices: ``device_variation`` of the conductance from device to device (log-normal), ``parameter_variation`` the same
    for named parameters, ``pairs`` of edges that share one such draw and differ by ``pair_mismatch`` each,
    ``cycle_variation`` of the conductance, drawn anew for every stimulus, ``slow_factor`` how many times slower devices
    settle than their parameters say.
    Faults: ``open_edges`` (1e9 times less conductance), ``shorted_edges`` (1e6 times more), ``stuck_edges`` edge -> the
    conductance in S that nothing changes.
    """

    read_noise: float = 0.0
    read_noise_relative: float = 0.0
    offset: float = 0.0
    offset_drift: float = 0.0
    quantise_readings: bool = False
    quantise_sources: bool = False
    device_variation: float = 0.0
    parameter_variation: Mapping[str, float] = field(default_factory=dict)
    pairs: Sequence[tuple[str, str]] = ()
    pair_mismatch: float = 0.0
    cycle_variation: float = 0.0
    drift: float = 0.0
    common_noise: float = 0.0
    aperture: float = 0.0
    slow_factor: float = 1.0
    open_edges: Sequence[str] = ()
    shorted_edges: Sequence[str] = ()
    stuck_edges: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        numbers |= {f"parameter_variation.{name}": value for name, value in self.parameter_variation.items()}
        for name, value in numbers.items():
            if not (value >= 0.0 and isfinite(value)):
                raise ConfigError(f"{name} = {value} must be 0 or above")
        for name, value in self.stuck_edges.items():
            if not (value > 0.0 and isfinite(value)):
                raise ConfigError(f"stuck_edges.{name} = {value} S must be above 0; list it in `open_edges` to open it")
        if not isfinite(self.drift):
            raise ConfigError(f"drift = {self.drift} must be finite")
        if not (self.slow_factor >= 1.0 and isfinite(self.slow_factor)):
            raise ConfigError(f"slow_factor = {self.slow_factor} must be 1 or above")

    @property
    def none(self) -> bool:
        """True when nothing is imperfect."""
        return self == Imperfections()

    @property
    def moves(self) -> bool:
        """True when the devices differ from one stimulus to the next."""
        return self.cycle_variation > 0.0

    def gain(self, since: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Gain of all currents ``since`` seconds (any shape) after mounting: 1 + drift · t, and the common noise."""
        common = self.common_noise * rng.standard_normal(np.shape(since)) if self.common_noise else 0.0
        return np.asarray(1.0 + self.drift * np.asarray(since) + common)


def perturbed(network: Network, imperfections: Imperfections, seed: int) -> Network:
    """The network with its devices as they really are: varied, mismatched, opened, shorted, stuck. Drawn from ``seed``.

    Raises ConfigError for an edge or a parameter that the network does not have.
    """
    _require_edges(network, imperfections)
    rng = np.random.default_rng([seed, 1])
    partner = np.arange(network.n_edges)
    for first, second in imperfections.pairs:
        partner[network.edge_index[second]] = partner[network.edge_index[first]]
    paired = np.isin(np.arange(network.n_edges), [network.edge_index[name] for pair in imperfections.pairs for name in pair])
    gain = np.exp(imperfections.device_variation * rng.standard_normal(network.n_edges)[partner])
    mismatch = 1.0 + imperfections.pair_mismatch * rng.standard_normal(network.n_edges)
    gain = np.where(paired, gain * np.maximum(mismatch, 1e-3), gain)
    for names, factor in ((imperfections.open_edges, _OPEN), (imperfections.shorted_edges, _SHORTED)):
        for name in names:
            gain[network.edge_index[name]] *= factor
    groups = [_varied(group, imperfections.parameter_variation, partner, rng, network.n_edges) for group in network.groups]
    parallel = network.parallel * gain
    stuck = {network.edge_index[name]: value for name, value in imperfections.stuck_edges.items()}
    for edge in stuck:
        parallel[edge] = 1.0
    return replace(network, parallel=parallel, groups=tuple(part for group in groups for part in _with_stuck(group, stuck)))


class World:
    """One draw of imperfections for a network with controls and outputs. Everything that changes is in ``capture()``."""

    def __init__(self, imperfections: Imperfections, network: Network, controls: Layout, outputs: Layout, seed: int) -> None:
        self.imperfections = imperfections
        self.network = perturbed(network, imperfections, seed)
        rng = np.random.default_rng([seed, 2])
        self._offset = imperfections.offset * rng.standard_normal(len(outputs))
        self._creep = imperfections.offset_drift * rng.standard_normal(len(outputs))
        drives = np.array([channel.kind is Kind.DRIVE for channel in controls], dtype=np.bool_)
        self._source_step = np.where(drives, controls.array("resolution"), 0.0) if len(controls) else np.zeros(0)
        self._reading_step = outputs.array("resolution") if len(outputs) else np.zeros(0)
        self._gain: FloatArray = np.ones(network.n_edges)

    @property
    def slow_factor(self) -> float:
        """How many times slower devices settle than their parameters say."""
        return self.imperfections.slow_factor

    def renew(self, rng: np.random.Generator) -> None:
        """A new stimulus: draws the cycle's variation of every device."""
        if self.imperfections.moves:
            self._gain = np.exp(self.imperfections.cycle_variation * rng.standard_normal(self.network.n_edges))

    def present(self, network: Network) -> Network:
        """``network`` (this one, tuned) as its devices are in the present cycle."""
        return replace(network, parallel=network.parallel * self._gain) if self.imperfections.moves else network

    def sourced(self, values: FloatArray) -> FloatArray:
        """What sources put out when asked for ``values`` (..., n_controls)."""
        return quantised(values, self._source_step) if self.imperfections.quantise_sources else values

    def read(
        self,
        values: FloatArray,
        samples: int,
        times: FloatArray,
        since: FloatArray,
        currents: BoolArray,
        rng: np.random.Generator,
    ) -> tuple[FloatArray, FloatArray]:
        """Means of ``samples`` readings of true ``values`` (n, ..., n_outputs), and their standard error.

        ``times`` (n,) of the clock, ``since`` (n,) after mounting, s; ``currents`` (n_outputs,): which outputs are. The
        standard error is that of the noise: offsets, drifts and rounding are what a user cannot see in it.
        """
        wrong = self.imperfections
        if wrong.none:
            return values.copy(), np.zeros_like(values)
        shape = (len(values), samples, *[1] * (values.ndim - 1))
        gain = wrong.gain(np.repeat(since[:, np.newaxis], samples, axis=1), rng).reshape(shape)
        single = values[:, np.newaxis] * np.where(currents, gain, 1.0)
        noise = np.hypot(wrong.read_noise, wrong.read_noise_relative * np.abs(values))
        single = single + self._offset + self._creep * times.reshape(-1, *[1] * values.ndim)
        if noise.any():
            single = single + noise[:, np.newaxis] * rng.standard_normal((len(values), samples, *values.shape[1:]))
        if wrong.quantise_readings:
            single = quantised(single, self._reading_step)
        std = np.hypot(noise, np.where(currents, wrong.common_noise * np.abs(values), 0.0))
        return single.mean(axis=1), std / np.sqrt(samples)

    def capture(self) -> list[float]:
        """What ``restore`` needs to go on exactly."""
        return [float(gain) for gain in self._gain] if self.imperfections.moves else []

    def restore(self, kept: Sequence[float]) -> None:
        """Back to a captured cycle."""
        if self.imperfections.moves:
            self._gain = np.array(kept, dtype=np.float64)


def quantised(values: FloatArray, step: FloatArray) -> FloatArray:
    """``values`` rounded to whole multiples of ``step``; unchanged where ``step`` is 0. Shapes broadcast."""
    safe = np.where(step > 0.0, step, 1.0)
    return np.where(step > 0.0, np.round(values / safe) * safe, values)


def _require_edges(network: Network, imperfections: Imperfections) -> None:
    named: dict[str, Sequence[str]] = {
        "open_edges": imperfections.open_edges,
        "shorted_edges": imperfections.shorted_edges,
        "stuck_edges": tuple(imperfections.stuck_edges),
        "pairs": [name for pair in imperfections.pairs for name in pair],
    }
    for where, names in named.items():
        for name in names:
            if name not in network.edge_index:
                raise ConfigError(f"{where}: there is no edge {name!r}; edges: {', '.join(network.edge_index)}")
    known = {name for group in network.groups for name in group.law.parameters}
    for name in imperfections.parameter_variation:
        if name not in known:
            raise ConfigError(f"parameter_variation: no law of the network has a parameter {name!r}")


def _varied(group: Group, variation: Mapping[str, float], partner: Any, rng: np.random.Generator, n_edges: int) -> Group:
    parameters = dict(group.parameters)
    for name, sigma in variation.items():
        drawn = np.exp(sigma * rng.standard_normal(n_edges))[partner][group.edges]
        if name in parameters:
            limits = group.law.parameters[name]
            parameters[name] = np.clip(parameters[name] * drawn, limits.minimum, limits.maximum)
    problems = group.law.check(parameters)
    if problems:
        raise ConfigError(f"parameter_variation makes a device of law {group.law.name!r} impossible: {problems[0]}")
    return replace(group, parameters=parameters)


def _with_stuck(group: Group, stuck: Mapping[int, float]) -> list[Group]:
    """The group without its stuck edges, and a group of those."""
    held = np.isin(group.edges, list(stuck))
    if not held.any():
        return [group]
    recipe = registry.recipe(group.law)
    name, preset = recipe.pop("name"), recipe.pop("preset")
    law = registry.law("stuck", law=name, law_preset=preset, law_options=recipe)
    parts = []
    for device, mask in ((group.law, ~held), (law, held)):
        if mask.any():
            edges = group.edges[mask]
            parameters = {key: values[..., mask] for key, values in group.parameters.items()}
            if device is law:
                parameters["stuck_conductance"] = np.array([stuck[int(edge)] for edge in edges])
            parts.append(Group(device, edges, parameters))
    return parts
