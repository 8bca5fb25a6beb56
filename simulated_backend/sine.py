"""A sine for each device law that moves its state, and the loop the device answers with."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hil.core.errors import ConfigError, NotConvergedError
from hil.core.types import FloatArray
from simulated_backend.devices import registry
from simulated_backend.devices.base import EdgeDrive, StateKind
from simulated_backend.network import Edge, Network, Node
from simulated_backend.solve.transient import simulate


@dataclass(frozen=True, slots=True)
class Sine:
    """``amplitude`` V, ``frequency`` Hz, and the parameters (SI) that differ from the law's defaults."""

    amplitude: float
    frequency: float
    parameters: Mapping[str, float] = field(default_factory=dict)


SINES: Mapping[str, Sine] = {
    "conical_channel": Sine(1.0, 30.0),
    "saturating": Sine(1.0, 160.0, {"conductance": 1e-9, "time_constant": 1e-3}),
    "flux_volatile": Sine(1.0, 50.0, {"flux_decay": 200.0, "R1": 1e5}),
    "flux_nonvolatile": Sine(1.0, 50.0, {"flux_decay": 20.0, "R1": 1e5, "flux_initial": 2e-3}),
    "hp_linear_drift": Sine(1.0, 1.0, {"x_initial": 0.3}),
    "threshold": Sine(0.6, 500.0, {"x_initial": 0.3}),
    "team": Sine(0.5, 20.0, {"s_initial": 0.9}),
    "vteam": Sine(0.3, 2e6, {"s_initial": 0.9}),
    "yakopcic": Sine(0.45, 100.0),
    "stochastic": Sine(2.2, 0.2),
    "liquid_memristor_hysteretic": Sine(1.0, 0.4, {"loop": 0.3}),
}
"""Known to move the state of the shipped laws; a law of the user's own needs a sine of the user's own."""


def stateful() -> tuple[str, ...]:
    """Names of all laws with a memory."""
    return tuple(name for name in registry.names() if registry.law_class(name).kind is not StateKind.NONE)


def loop(name: str, sine: Sine | None = None, *, periods: int = 3, points: int = 400) -> tuple[FloatArray, FloatArray]:
    """Voltage (V) and current (A) of one device on a staircase sine of ``points`` steps a period, (periods*points + 1,).

    Raises ConfigError for a law without memory or without a known sine, NotConvergedError where the integrator gives up.
    """
    if name not in stateful():
        raise ConfigError(f"law {name!r} has no memory, so no loop; laws that have: {', '.join(stateful())}")
    chosen = SINES.get(name) if sine is None else sine
    if chosen is None:
        raise ConfigError(f"law {name!r}: no sine is known that moves its state; give an amplitude and a frequency")
    law = registry.law(name)
    concentration = law.default("reference_concentration") if "reference_concentration" in law.parameters else None
    nodes = [Node("base", concentration=concentration or 0.0), Node("tip", ground=True, concentration=concentration or 0.0)]
    network = Network.build(nodes, [Edge("device", "base", "tip", law, chosen.parameters)])
    times = np.arange(periods * points + 1) / (points * chosen.frequency)
    wave = chosen.amplitude * np.sin(2 * np.pi * chosen.frequency * times)
    wave[:: points // 2] = 0.0
    drives = np.stack([wave, np.zeros_like(wave)], axis=1)
    course = simulate(network, times, drives, np.array([True, True]), times, tolerance=1e-4)
    if not course.converged:
        raise NotConvergedError(f"law {name!r}: {course.message}")
    group = network.groups[0]
    currents = np.empty_like(wave)
    for k, voltage in enumerate(wave):
        drive = _drive(voltage, network)
        currents[k] = group.law.current(group.parameters, drive, course.states[0][k])[0]
    return wave, currents


def _drive(voltage: float, network: Network) -> EdgeDrive:
    salt = np.array([network.nodes[0].concentration])
    return EdgeDrive(np.array([voltage]), np.zeros(1), salt, salt)
