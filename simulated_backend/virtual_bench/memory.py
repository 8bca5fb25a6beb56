"""The memory of the network's devices on the virtual bench: states that relax, group by group."""

import numpy as np

from hil.core.errors import ConfigError
from hil.core.types import FloatArray
from simulated_backend.devices.base import EdgeDrive, StateKind
from simulated_backend.network import Group, Network


class Memory:
    """States of one group of edges, their goals and time constants, (n_states, k); ``new_*`` belong to the step being tried.

    ConfigError for laws that give rates of their states.
    """

    def __init__(self, group: Group, network: Network) -> None:
        if group.law.kind is StateKind.RATE:
            raise ConfigError(
                f"law {group.law.name!r} gives rates of its states; the virtual bench integrates laws that relax or have no state"
            )
        self.law = group.law
        self.parameters = group.parameters
        self.edges = group.edges
        self.base = network.base[group.edges]
        self.tip = network.tip[group.edges]
        self.parallel = network.parallel[group.edges]
        self.relaxes = group.law.kind is StateKind.RELAXATION
        self.state: FloatArray = np.empty((0, len(group.edges)))
        self.goal = self.state
        self.tau = self.state
        self.new_state = self.state
        self.new_goal = self.state
        self.following: FloatArray = np.zeros(len(group.edges))
        """How much the current's slope grows (S) once the states follow the voltage; kept until Newton needs it fresh."""

    def drive(self, voltage: FloatArray, pressure: FloatArray, concentration: FloatArray) -> EdgeDrive:
        """What drives the group's edges at these node values."""
        base, tip = self.base, self.tip
        return EdgeDrive(voltage[base] - voltage[tip], pressure[base] - pressure[tip], concentration[base], concentration[tip])
