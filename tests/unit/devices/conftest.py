"""One device on an ideal source, integrated by the classical Runge-Kutta rule: independent of the project's solvers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from simulated_backend.devices.base import Device, EdgeDrive, Parameters, StateKind


@dataclass(frozen=True)
class Played:
    """time, voltage, current (n,); state (n, n_states, n_edges)."""

    time: np.ndarray
    voltage: np.ndarray
    current: np.ndarray
    state: np.ndarray


def arrays(law: Device, n_edges: int = 1, **given: float) -> Parameters:
    unknown = set(given) - set(law.parameters)
    assert not unknown, unknown
    values = {name: given.get(name, parameter.default) for name, parameter in law.parameters.items()}
    return {name: np.full(n_edges, 1.0 if value is None else value) for name, value in values.items()}


def play(
    law: Device,
    parameters: Mapping[str, np.ndarray],
    voltage: Callable[[float], float],
    duration: float,
    steps: int,
    state: np.ndarray | None = None,
) -> Played:
    n_edges = len(next(iter(parameters.values())))

    def at(v: float) -> EdgeDrive:
        return EdgeDrive(np.full(n_edges, v), np.zeros(n_edges), np.full(n_edges, 0.2), np.full(n_edges, 0.2))

    def rate(t: float, x: np.ndarray) -> np.ndarray:
        if law.kind is StateKind.RELAXATION:
            drive = at(voltage(t))
            return (law.steady_state(parameters, drive) - x) / law.time_constant(parameters, drive)
        return law.state_rate(parameters, at(voltage(t)), x)

    x = law.initial_state(parameters, at(0.0)) if state is None else state
    h = duration / steps
    times = np.arange(steps + 1) * h
    states, currents = [x], [law.current(parameters, at(voltage(0.0)), x)]
    for t in times[:-1]:
        k1 = rate(t, x)
        k2 = rate(t + h / 2, law.clip(parameters, x + h / 2 * k1))
        k3 = rate(t + h / 2, law.clip(parameters, x + h / 2 * k2))
        k4 = rate(t + h, law.clip(parameters, x + h * k3))
        x = law.clip(parameters, x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
        states.append(x)
        currents.append(law.current(parameters, at(voltage(t + h)), x))
    return Played(times, np.array([voltage(t) for t in times]), np.array(currents)[:, 0], np.array(states))


@pytest.fixture
def device_arrays():
    return arrays


@pytest.fixture
def device_play():
    return play
