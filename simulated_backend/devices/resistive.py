"""What laws share whose device is a resistor at a held state: i = v/R(state). How the state moves is the law's own."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from hil.core.types import FloatArray
from simulated_backend.devices.base import Device, EdgeDrive, Parameters, StateKind
from simulated_backend.devices.bounded import started
from simulated_backend.spice_form import SpiceDrive, number


class Resistive(Device):
    """One state that moves at a rate; the resistance follows it."""

    kind: ClassVar[StateKind] = StateKind.RATE
    initial: ClassVar[str]
    """Parameter that holds the state before anything was applied."""

    @abstractmethod
    def memristance(self, parameters: Parameters, state: FloatArray) -> FloatArray:
        """Resistance at ``state``, Ω."""

    @abstractmethod
    def state_rate(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """d state/dt, (1, ..., n_edges)."""

    def current(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """v/R."""
        return drive.voltage / self.memristance(parameters, state)

    def conductance(self, parameters: Parameters, drive: EdgeDrive, state: FloatArray) -> FloatArray:
        """1/R: at held state the device is a resistor."""
        return np.asarray(np.ones_like(drive.voltage) / self.memristance(parameters, state))

    def initial_state(self, parameters: Parameters, drive: EdgeDrive) -> FloatArray:
        """As the parameter says, on every edge."""
        return started(parameters[self.initial], drive)


class BoundedResistive(Resistive):
    """A state in 0 … 1 between ``R_on`` and ``R_off`` that stays where it is without drive."""

    def decay(self, parameters: Parameters, state: FloatArray, duration: float) -> FloatArray:
        """Without drive nothing moves."""
        return state

    def clip(self, parameters: Parameters, state: FloatArray) -> FloatArray:
        """In 0 … 1."""
        return np.clip(state, 0.0, 1.0)

    def check(self, parameters: Parameters) -> Sequence[str]:
        """R_on below R_off."""
        if np.any(parameters["R_on"] >= parameters["R_off"]):
            return ("R_on must be smaller than R_off",)
        return ()


class Doped(BoundedResistive):
    """A film of which the fraction x is doped: R(x) = R_on x + R_off (1 - x), Strukov et al., Nature 453, 80 (2008), eq. (5)."""

    states: ClassVar[tuple[str, ...]] = ("x",)
    initial = "x_initial"

    def memristance(self, parameters: Parameters, state: FloatArray) -> FloatArray:
        """R_on x + R_off (1 - x) in Ω."""
        x = np.clip(state[0], 0.0, 1.0)
        return np.asarray(parameters["R_on"] * x + parameters["R_off"] * (1.0 - x))

    def spice_current(self, parameters: Mapping[str, float], drive: SpiceDrive, x: str) -> str:
        """The current as a SPICE expression of the fraction ``x``."""
        return f"(({drive.voltage})/({number(parameters['R_on'])}*{x}+{number(parameters['R_off'])}*(1-{x})))"
