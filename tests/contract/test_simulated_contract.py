"""The contract on the simulated backend: resistors ideal and noisy, and channels that take their time."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from hil.core.clock import SteppedClock
from hil.core.safety import SafetyEnvelope
from hil.core.types import Layout, SettlePolicy
from simulated_backend.backend import SimulatedBackend
from simulated_backend.devices.registry import law
from simulated_backend.imperfections import Imperfections
from simulated_backend.network import Edge, Network, Node
from simulated_backend.solve.operating_point import solve_operating_point
from tests.backend_contract import BackendContract, World
from tests.contract.worlds import CONTROLS, I1, STIMULI, V2, divider, truth


def _world(
    network: Network,
    outputs: Callable[[Sequence[float]], Mapping[str, float]],
    tolerance: float,
    *,
    imperfections: Imperfections | None = None,
    hurried: SettlePolicy | None = None,
) -> World:
    backend = SimulatedBackend(
        network,
        CONTROLS,
        Layout((V2, I1)),
        SafetyEnvelope.of(CONTROLS),
        clock=SteppedClock(),
        seed=7,
        imperfections=imperfections,
    )

    def controls() -> Mapping[str, float | None]:
        stimulus = backend._present.stimulus
        if stimulus is None:
            return dict.fromkeys(CONTROLS.names)
        pairs = zip(CONTROLS.names, stimulus.values, stimulus.connected, strict=True)
        return {name: float(value) if connected else None for name, value, connected in pairs}

    return World(
        backend,
        STIMULI,
        SettlePolicy(tolerance=1e-9, window=0.02, timeout=10.0),
        hurried,
        controls,
        outputs,
        lambda: all(value in (None, 0.0) for value in controls().values()),
        {"V2": tolerance, "I1": tolerance * 1e-6},
        dict.fromkeys(CONTROLS.names, 1e-12),
        trained="V3",
    )


class TestIdealSimulation(BackendContract):
    @pytest.fixture
    def world(self) -> World:
        return _world(divider(), truth(["V2", "I1"]), 1e-9)


class TestNoisySimulation(BackendContract):
    @pytest.fixture
    def world(self) -> World:
        return _world(divider(), truth(["V2", "I1"]), 1e-9, imperfections=Imperfections(read_noise=1e-3))


class TestChannelSimulation(BackendContract):
    """Conical channels relax in milliseconds; the solver alone, without the backend, says where to."""

    @pytest.fixture
    def world(self) -> World:
        channel = law("conical_channel", preset="network")
        nodes = [Node(name, pressure=1e5, concentration=0.2) for name in "123"]
        network = Network.build(nodes, [Edge("a", "1", "2", channel, {}), Edge("b", "2", "3", channel, {"length": 20e-6})])

        def outputs(values: Sequence[float]) -> Mapping[str, float]:
            point = solve_operating_point(network, np.array([values[0], 0.0, values[1]]), np.array([True, False, True]))
            return {"V2": float(np.ravel(point.voltage)[1]), "I1": float(np.ravel(point.terminal_current)[0])}

        return _world(network, outputs, 1e-6, hurried=SettlePolicy(tolerance=1e-9, window=1e-3, timeout=5e-3))
